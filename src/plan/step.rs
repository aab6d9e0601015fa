//! A step of a runbook: one of Lifeboat's own operations, a command, or a question to people.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::types::OnFailure;
use crate::check::value::{CommandLine, Span};

/// Operations that a step may name, with the words that may follow them.
pub const OPERATIONS: &[&str] = &[
    "snapshot", "verify", "drill", "health", "check", "rotate", "capacity", "security", "forget", "prune",
    "status", "report", "doctor", "run", "metrics", "log", "notify", "diff", "bisect",
];

/// A step as it is written: a string (`"verify --budget 10m"`, `"manual: is the tape in the safe?"`), or a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What is done.
    pub operation: Operation,
    /// What it is called in tables and records; the operation itself if `None`.
    pub name: Option<String>,
    /// How long it may take; the runbook says it if `None`.
    pub timeout: Option<Span>,
    /// What its failure does; the runbook says it if `None`.
    pub on_failure: Option<OnFailure>,
    /// One of Lifeboat's operations: where it cannot be judged (status 22), that is reported and blocks nothing.
    pub may_be_unjudged: bool,
    /// A command: the exit status it must end with.
    pub exit: i32,
    /// A command: a regular expression that must be found in what it prints.
    pub stdout: Option<String>,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// One of Lifeboat's commands and its arguments, as `lifeboat` takes them; the first is in [`OPERATIONS`].
    Lifeboat(Vec<String>),
    /// A command of the host.
    Command(CommandLine),
    /// A question to people.
    Manual(String),
}

/// A step as a table.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Table {
    /// One of Lifeboat's operations with its arguments, as in a step that is a string
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    own: Option<String>,
    /// A command: a string for `sh -c`, or a list of program and arguments
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<CommandLine>,
    /// A question to people
    #[serde(skip_serializing_if = "Option::is_none")]
    manual: Option<String>,
    /// What it is called in tables and records
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// How long it may take
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<Span>,
    /// What its failure does: stop, continue or rollback
    #[serde(skip_serializing_if = "Option::is_none")]
    on_failure: Option<OnFailure>,
    /// One of Lifeboat's operations: where it cannot be judged (status 22), that is reported and blocks nothing
    #[serde(skip_serializing_if = "is_false")]
    may_be_unjudged: bool,
    /// A command: the exit status it must end with
    #[serde(skip_serializing_if = "is_zero")]
    exit: i32,
    /// A command: a regular expression that must be found in what it prints on stdout
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout: Option<String>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

impl Operation {
    /// Reads a step that is a string.
    ///
    /// # Errors
    /// A sentence that says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(question) = text.strip_prefix("manual:") {
            return match question.trim() {
                "" => Err("a manual step needs a question after the colon".to_owned()),
                question => Ok(Self::Manual(question.to_owned())),
            };
        }
        if let Some(command) = text.strip_prefix('$') {
            return match command.trim() {
                "" => Err("there is no command after the $".to_owned()),
                command => Ok(Self::Command(CommandLine::Shell(command.to_owned()))),
            };
        }
        // a check's name may hold blanks and quotes
        if let Some(name) = text.strip_prefix("check").filter(|rest| rest.starts_with(char::is_whitespace)) {
            let name = name.trim();
            let bare = |quote| name.strip_prefix(quote).and_then(|name| name.strip_suffix(quote));
            let name = bare('"').or_else(|| bare('\'')).unwrap_or(name);
            return Ok(Self::Lifeboat(vec!["check".to_owned(), name.to_owned()]));
        }
        let words = words_of(text)?;
        let Some(first) = words.first() else { return Err("a step is empty".to_owned()) };
        if !OPERATIONS.contains(&first.as_str()) {
            let near = super::load::nearest(first, OPERATIONS.iter().copied());
            let hint = near.map(|word| format!("; is {word} meant?")).unwrap_or_default();
            return Err(format!(
                "{first:?} is none of Lifeboat's operations{hint} (a command is written \"$ COMMAND\" or \
                 {{ command = \"…\" }}, a question \"manual: …\")"
            ));
        }
        Ok(Self::Lifeboat(words))
    }
}

/// The words of a line; quotes of either kind keep blanks together.
fn words_of(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match quote {
            Some(end) if c == end => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(format!("a quote is not closed in {line:?}"));
    }
    words.extend(word);
    Ok(words)
}

// So that it is read again as these words.
fn line_of(words: &[String]) -> String {
    if let [first, name] = words
        && first == "check"
    {
        return format!("check {name}");
    }
    let quoted = |word: &String| match (word.contains('"'), word.contains('\'')) {
        _ if !word.is_empty() && !word.contains([' ', '\t', '"', '\'']) => word.clone(),
        (false, _) => format!("\"{word}\""),
        (true, false) => format!("'{word}'"),
        // each in the quotes of the other kind
        (true, true) => format!("\"{}\"", word.replace('"', "\"'\"'\"")),
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lifeboat(words) => f.write_str(&line_of(words)),
            Self::Command(command) => write!(f, "$ {command}"),
            Self::Manual(question) => write!(f, "manual: {question}"),
        }
    }
}

impl From<Operation> for Step {
    fn from(operation: Operation) -> Self {
        Self {
            operation,
            name: None,
            timeout: None,
            on_failure: None,
            may_be_unjudged: false,
            exit: 0,
            stdout: None,
        }
    }
}

impl TryFrom<Table> for Step {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        let operation = match (table.own, table.command, table.manual) {
            (Some(text), None, None) => Operation::parse(&text)?,
            (None, Some(command), None) => Operation::Command(command),
            (None, None, Some(question)) => Operation::Manual(question),
            _ => return Err("a step has exactly one of the keys do, command and manual".to_owned()),
        };
        let is_command = matches!(operation, Operation::Command(_));
        if !is_command && (table.exit != 0 || table.stdout.is_some()) {
            return Err("exit and stdout are keys of a step with a command".to_owned());
        }
        if table.may_be_unjudged && !matches!(operation, Operation::Lifeboat(_)) {
            return Err("may_be_unjudged is a key of a step with one of Lifeboat's operations".to_owned());
        }
        Ok(Self {
            operation,
            name: table.name,
            timeout: table.timeout,
            on_failure: table.on_failure,
            may_be_unjudged: table.may_be_unjudged,
            exit: table.exit,
            stdout: table.stdout,
        })
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut table = Table {
            name: self.name.clone(),
            timeout: self.timeout,
            on_failure: self.on_failure,
            may_be_unjudged: self.may_be_unjudged,
            exit: self.exit,
            stdout: self.stdout.clone(),
            ..Table::default()
        };
        match &self.operation {
            Operation::Lifeboat(words) => table.own = Some(line_of(words)),
            Operation::Command(command) => table.command = Some(command.clone()),
            Operation::Manual(question) => table.manual = Some(question.clone()),
        }
        table.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Step;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a step: a string such as \"verify --budget 10m\", or a table")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Step, E> {
                Operation::parse(text).map(Step::from).map_err(E::custom)
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Step, A::Error> {
                let table = Table::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Step::try_from(table).map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Step {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Step".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = Table::json_schema(generator);
        json_schema!({"anyOf": [{"type": "string", "minLength": 1}, table]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        match Operation::parse(text).unwrap() {
            Operation::Lifeboat(words) => words,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn quotes_keep_words_together() {
        assert_eq!(words("verify  --budget 10m"), ["verify", "--budget", "10m"]);
        assert_eq!(
            words("log add --issue 'it is \"so\"' --note=\"a b\""),
            ["log", "add", "--issue", "it is \"so\"", "--note=a b"]
        );
        assert_eq!(words("log add ''"), ["log", "add", ""]);
        assert_eq!(words("check errors in the log"), ["check", "errors in the log"]);
        assert_eq!(words("check \"errors in the log\""), ["check", "errors in the log"]);
        assert!(Operation::parse("notify 'never closed").unwrap_err().contains("quote"));
    }

    #[test]
    fn what_is_shown_is_read_as_the_same() {
        for text in [
            "log add --issue 'a \"b\" c' ''",
            "notify a\"it's\"'\"so\"'",
            "notify \"it's done\"",
            "check it's well",
            "verify",
        ] {
            let operation = Operation::parse(text).unwrap();
            assert_eq!(Operation::parse(&operation.to_string()).unwrap(), operation, "{operation}");
        }
    }
}
