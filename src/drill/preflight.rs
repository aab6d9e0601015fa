//! What must be there before anything is restored: room, and the tools that the plan's commands begin with.

use std::path::{Path, PathBuf};

use super::{DrillError, Options, Subject, variables};
use crate::check::value::CommandLine;
use crate::plan::Plan;
use crate::sys::space::space;

/// Words of a shell that are no programs.
const OF_SHELL: [&str; 34] = [
    ".", ":", "[", "[[", "{", "(", "!", "alias", "break", "case", "cd", "command", "echo", "eval", "exec",
    "exit", "export", "false", "for", "if", "printf", "pwd", "read", "set", "shift", "source", "test",
    "time", "trap", "true", "ulimit", "umask", "until", "while",
];
/// What a shell does something with, so that a word with it is not what it seems.
const SPECIAL: [char; 20] =
    ['$', '`', '"', '\'', '\\', '(', ')', '{', '}', '&', '|', ';', '<', '>', '*', '?', '~', '#', '[', '\n'];

/// Whether there is room for the copy.
///
/// # Errors
/// [`DrillError::NoRoom`] if there is not.
pub fn room(subject: &Subject<'_>, options: &Options) -> Result<(), DrillError> {
    let place = &options.place;
    let there = space(place).map_err(|source| DrillError::Io {
        act: "look at",
        path: place.display().to_string(),
        source,
    })?;
    let s = &subject.snapshot.document.statistics;
    let entries = s.files.saturating_add(s.directories).saturating_add(s.others);
    // blocks are filled in part only
    let bytes = s.bytes.saturating_add(entries.saturating_mul(4096));
    let short_of_inodes = there.total_inodes > 0 && there.free_inodes < entries;
    if there.free_bytes < bytes || short_of_inodes {
        return Err(DrillError::NoRoom {
            place: place.display().to_string(),
            free: there.free_bytes,
            inodes: there.free_inodes,
            bytes,
            entries,
        });
    }
    Ok(())
}

/// Whether the programs with which the plan's commands begin are there. What lies in the tree comes with the copy.
///
/// # Errors
/// [`DrillError::NoTool`] with the first that is not; as [`variables`].
pub fn tools(plan: &Plan) -> Result<(), DrillError> {
    let root = plan.root();
    let variables = variables(plan)?;
    let path = variables.iter().find(|variable| variable.name == "PATH").map(|v| v.value.as_str());
    let places: Vec<PathBuf> = path.unwrap_or_default().split(':').map(|place| root.join(place)).collect();
    let drill = &plan.drill;
    let server = drill.server.as_ref().or(plan.service.as_ref().and_then(|service| service.start.as_ref()));
    for line in drill.setup.iter().chain(&drill.tests).chain(server) {
        let Some(word) = program(line) else { continue };
        if !may_be_there(word, &root, &places, &drill.writable) {
            return Err(DrillError::NoTool { tool: word.to_owned(), line: line.to_string() });
        }
    }
    Ok(())
}

// The program with which a command surely begins.
fn program(line: &CommandLine) -> Option<&str> {
    match line {
        CommandLine::Argv(words) => words.first().map(String::as_str),
        CommandLine::Shell(text) => {
            let is_setting = |word: &&str| {
                word.split_once('=')
                    .is_some_and(|(name, _)| name.chars().all(|c| c.is_alphanumeric() || c == '_'))
            };
            let words: Vec<&str> = text.split_whitespace().collect();
            let settings = words.iter().take_while(|word| is_setting(word)).count();
            if words.iter().take(settings).any(|word| word.contains(SPECIAL)) {
                return None;
            }
            let word = *words.get(settings)?;
            let word = word.strip_suffix(';').unwrap_or(word);
            (!word.contains(SPECIAL) && !OF_SHELL.contains(&word)).then_some(word)
        }
    }
}

fn may_be_there(word: &str, root: &Path, places: &[PathBuf], writable: &[String]) -> bool {
    // made by the set-up, or restored
    let is_of_copy =
        |path: &Path| path.starts_with(root) || writable.iter().any(|place| path.starts_with(place));
    if word.contains('/') {
        let path = root.join(word);
        return is_of_copy(&path) || !Path::new(word).is_absolute() || path.exists();
    }
    places.iter().any(|place| is_of_copy(place) || place.join(word).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(keys: &str) -> Option<String> {
        let text = format!("[drill]\n{keys}\n");
        match tools(&Plan::parse(&text, Path::new("/srv/app/lifeboat.toml")).unwrap()) {
            Ok(()) => None,
            Err(DrillError::NoTool { tool, .. }) => Some(tool),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_tool_that_is_nowhere_is_named() {
        let none = "no-such-tool-1f2e";
        assert_eq!(missing(&format!("tests = [\"A=1 {none} --version\"]")).as_deref(), Some(none));
        assert_eq!(missing(&format!("setup = [[\"{none}\"]]")).as_deref(), Some(none));
        assert_eq!(missing("server = \"/opt/no-such/bin/serve\"").as_deref(), Some("/opt/no-such/bin/serve"));
    }

    #[test]
    fn what_may_well_be_there_is_not_asked_for() {
        for fine in [
            "sh run.sh",
            ".venv/bin/python x.py",
            "/srv/app/run.sh",
            "cd sub && no-such-tool-1f2e",
            "$TOOL x",
            "[ -f x ] && no-such-tool-1f2e",
            "A=$(no-such-tool-1f2e) no-such-tool-1f2e",
            "if true; then no-such-tool-1f2e; fi",
        ] {
            assert_eq!(missing(&format!("tests = [{}]", toml::Value::from(fine))), None, "{fine}");
        }
        let own = "environment = { PATH = \".venv/bin:/usr/bin:/bin\" }\ntests = [\"no-such-tool-1f2e\"]";
        assert_eq!(missing(own), None);
        assert_eq!(missing("writable = [\"/opt/x\"]\ntests = [\"/opt/x/bin/t\"]"), None);
    }
}
