//! Settings in configuration files of the usual forms, found by their lines: what is changed need only be wrong.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

/// Larger files are no configuration.
const MOST: u64 = 256 << 10;

const FORMS: [&str; 9] = ["json", "toml", "yaml", "yml", "ini", "cfg", "conf", "env", "properties"];
/// What tools read, and not the running application.
const OF_TOOLS: [&str; 12] = [
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "composer.json",
    "composer.lock",
    "Cargo.toml",
    "pyproject.toml",
    "setup.cfg",
    "tox.ini",
    "pytest.ini",
    "lifeboat.toml",
    "docker-compose.yml",
];

/// `key: value` or `key = value` with a simple value, alone on its line but for a comma.
static LINE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let text = r#"(?m)^[ \t]*(?:export +)?["']?([A-Za-z_][\w.-]*)["']?[ \t]*[:=][ \t]*("[^"\n]*"|'[^'\n]*'|-?\d+(?:\.\d+)?|true|false|[A-Za-z][\w./-]*)[ \t]*,?[ \t]*$"#;
    Regex::new(text).ok()
});

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub key: String,
    /// Its value, with quotes if it has any.
    pub value: String,
    /// Where the value stands, in bytes.
    pub range: Range<usize>,
}

/// True if the file's name is that of an application's configuration.
pub fn is_configuration(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let form =
        path.extension().and_then(|form| form.to_str()).unwrap_or_else(|| name.trim_start_matches('.'));
    FORMS.contains(&form) && !OF_TOOLS.contains(&name)
}

/// The text of a file; `None` if it is too long or no text.
///
/// # Errors
/// If it cannot be read.
pub fn text_of(path: &Path) -> io::Result<Option<String>> {
    if std::fs::symlink_metadata(path)?.len() > MOST {
        return Ok(None);
    }
    Ok(String::from_utf8(std::fs::read(path)?).ok().filter(|text| !text.contains('\0')))
}

/// All settings with simple values.
pub fn find(text: &str) -> Vec<Setting> {
    let Some(line) = &*LINE else { return Vec::new() };
    line.captures_iter(text)
        .filter_map(|found| {
            let (key, value) = (found.get(1)?, found.get(2)?);
            Some(Setting {
                key: key.as_str().to_owned(),
                value: value.as_str().to_owned(),
                range: value.range(),
            })
        })
        .collect()
}

/// A value of the same kind that is another.
pub fn another(value: &str) -> String {
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
    match value {
        "true" => "false".to_owned(),
        "false" => "true".to_owned(),
        _ if quote.is_some() => {
            let quote = quote.unwrap_or('"');
            format!("{quote}sabotaged{quote}")
        }
        number if number.contains('.') && number.parse::<f64>().is_ok() => {
            format!("{}.5", number.len() + 1000)
        }
        number => number
            .parse::<i64>()
            .map_or_else(|_| "sabotaged".to_owned(), |n| n.wrapping_add(1001).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_every_form_are_found_and_get_another_value() {
        let text = "{\n  \"port\": 8000,\n  \"name\": \"aura\"\n}\n[a]\nx = 1.5\nDEBUG=true\nexport KEY='v'\nlevel: info\nlist = [1, 2]\n# a = 1 b\n";
        let found = find(text);
        let all: Vec<_> = found.iter().map(|s| (s.key.as_str(), s.value.as_str())).collect();
        let expected = [
            ("port", "8000"),
            ("name", "\"aura\""),
            ("x", "1.5"),
            ("DEBUG", "true"),
            ("KEY", "'v'"),
            ("level", "info"),
        ];
        assert_eq!(all, expected);
        for setting in found {
            assert_eq!(&text[setting.range.clone()], setting.value);
            assert_ne!(another(&setting.value), setting.value);
        }
    }

    #[test]
    fn configuration_is_told_by_the_name() {
        for name in ["config/aura.json", ".env", "a/settings.yaml", "nginx.conf"] {
            assert!(is_configuration(Path::new(name)), "{name}");
        }
        for name in ["package.json", "main.py", "README.md", "Makefile", "lifeboat.toml"] {
            assert!(!is_configuration(Path::new(name)), "{name}");
        }
    }
}
