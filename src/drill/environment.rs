//! The environment of what runs in a drill: what the plan names, and nothing of whoever started it.

use super::DrillError;
use crate::plan::{Plan, USUAL_PATH};

/// What every drill has, unless the plan says otherwise.
const USUAL: [(&str, &str); 4] =
    [("PATH", USUAL_PATH), ("HOME", "/tmp"), ("LANG", "C.UTF-8"), ("LIFEBOAT_DRILL", "1")];
/// Shorter values are no secrets, and masking them would make the record unreadable.
const LEAST_SECRET: usize = 4;

/// A variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// True if it must not stand in any record: it comes from the plan's `drill.env_file`.
    pub is_secret: bool,
}

/// All variables of a drill by this plan. `drill.environment` goes before `drill.env_file`.
///
/// # Errors
/// If that file cannot be read or understood.
pub fn variables(plan: &Plan) -> Result<Vec<Variable>, DrillError> {
    let plain =
        |(name, value): (&str, &str)| Variable { name: name.into(), value: value.into(), is_secret: false };
    let mut all: Vec<Variable> = USUAL.into_iter().map(plain).collect();
    if let Some(file) = &plan.drill.env_file {
        let path = plan.path(file);
        let shown = path.display();
        let text = std::fs::read_to_string(&path)
            .map_err(|error| DrillError::Plan(format!("drill.env_file, {shown}, cannot be read: {error}")))?;
        for (number, line) in text.lines().enumerate() {
            let wrong = || DrillError::Plan(format!("{shown}, line {}, is not NAME=value", number + 1));
            let Some((name, value)) = parsed(line).map_err(|()| wrong())? else { continue };
            let is_secret = value.len() >= LEAST_SECRET;
            set(&mut all, Variable { name, value, is_secret });
        }
    }
    for (name, value) in &plan.drill.environment {
        set(&mut all, plain((name, value)));
    }
    Ok(all)
}

fn set(all: &mut Vec<Variable>, variable: Variable) {
    all.retain(|have| have.name != variable.name);
    all.push(variable);
}

// `NAME=value`, as shells and systemd read it in the simple cases: comments, `export`, one pair of quotes.
fn parsed(line: &str) -> Result<Option<(String, String)>, ()> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=').ok_or(())?;
    let name = name.trim();
    let is_name = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        return Err(());
    }
    let value = value.trim();
    let quoted = ['"', '\''].into_iter().find_map(|q| value.strip_prefix(q)?.strip_suffix(q));
    Ok(Some((name.to_owned(), quoted.unwrap_or(value).to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_an_environment_file() {
        let good = |line: &str| parsed(line).unwrap().unwrap();
        assert_eq!(good("A=b"), ("A".into(), "b".into()));
        assert_eq!(good(" export TOKEN = \"a b=c\" "), ("TOKEN".into(), "a b=c".into()));
        assert_eq!(good("EMPTY="), ("EMPTY".into(), String::new()));
        assert_eq!(parsed("# A=b"), Ok(None));
        assert_eq!(parsed(""), Ok(None));
        for wrong in ["A", "1A=b", "A B=c", "=x"] {
            assert_eq!(parsed(wrong), Err(()), "{wrong}");
        }
    }

    #[test]
    fn a_file_of_variables_is_secret_and_the_plan_goes_before_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("env"), "TOKEN=hunter22\nPORT=1\n").unwrap();
        let text = "[drill]\nenv_file = \"env\"\nenvironment = { PORT = \"8000\" }\n";
        let plan = Plan::parse(text, &dir.path().join("lifeboat.toml")).unwrap();
        let all = variables(&plan).unwrap();
        let find = |name: &str| all.iter().find(|v| v.name == name).unwrap();
        assert!(find("TOKEN").is_secret && !find("PORT").is_secret);
        assert_eq!(
            (find("PORT").value.as_str(), all.iter().filter(|v| v.name == "PORT").count()),
            ("8000", 1)
        );
        std::fs::write(dir.path().join("env"), "TOKEN\n").unwrap();
        assert!(variables(&plan).unwrap_err().to_string().contains("line 1"));
    }
}
