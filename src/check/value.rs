//! What people write in a plan: lengths of time, sizes, shares, command lines, conditions on a value.
//!
//! Each is read from TOML and from JSON alike and written back in the form it is read from, so that a
//! check can be handed to another process.

use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, SeqAccess};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::size::parse_bytes;
use crate::sys::process::Program;

/// A length of time, written `15m`, `1h 30m`, `250ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

/// A number of bytes, written `512`, `10M`, `1.5GiB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A share of a whole, or an absolute number: `20%`, `2GiB`, `1000`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// Of a hundred.
    Percent(f64),
    /// Bytes, or pieces.
    Number(u64),
}

/// A command: a list is run as it stands, a string by `sh -c`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum CommandLine {
    /// Run by `sh -c`.
    Shell(String),
    /// A program and its arguments.
    Argv(Vec<String>),
}

impl CommandLine {
    /// As the process runner takes it.
    pub fn program(&self) -> Program {
        match self {
            Self::Shell(text) => Program::Shell(OsString::from(text)),
            Self::Argv(words) => Program::Argv(words.iter().map(OsString::from).collect()),
        }
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shell(text) => f.write_str(text),
            Self::Argv(words) => f.write_str(&words.join(" ")),
        }
    }
}

/// What a process is known by: a PID, a PID file, a systemd unit, or the whole system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Not one process but the machine: `system`.
    System,
    /// A number.
    Pid(i32),
    /// `aura.service`: the unit's main process.
    Unit(String),
    /// Anything else: a file that holds the PID.
    PidFile(String),
}

/// What a number, text or JSON value must be. All that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Condition {
    /// Must be this value; numbers are compared as numbers
    #[serde(skip_serializing_if = "Option::is_none")]
    pub equals: Option<serde_json::Value>,
    /// Must be a number, and at least this
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Must be a number, and at most this
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// A regular expression that must be found in the text of the value
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
}

/// A condition as it is written: the bare value that is expected, or a table of [`Condition`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Expected(pub Condition);

// Reads a text by a function that says what was expected.
macro_rules! text_value {
    ($name:ident, $parse:expr, $show:expr, $pattern:expr, $about:expr) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let show: fn(&$name) -> String = $show;
                f.write_str(&show(self))
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($about)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        let parse: fn(&str) -> Result<$name, String> = $parse;
                        parse(text).map_err(E::custom)
                    }
                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<$name, E> {
                        self.visit_str(&number.to_string())
                    }
                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$name, E> {
                        self.visit_str(&number.to_string())
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $pattern
            }
        }
    };
}

text_value!(
    Span,
    |text: &str| humantime::parse_duration(text)
        .map(Span)
        .map_err(|_| format!("{text:?} is not a length of time such as 30s, 15m or 1h 30m")),
    |span: &Span| humantime::format_duration(span.0).to_string(),
    json_schema!({"type": "string", "format": "duration as in 30s, 15m, 1h 30m"}),
    "a length of time such as \"15m\""
);

text_value!(
    Size,
    |text: &str| parse_bytes(text).map(Size),
    |size: &Size| size.0.to_string(),
    json_schema!({"type": ["string", "integer"], "format": "size as in 512, 10M, 1.5GiB"}),
    "a size such as \"10M\" or \"1.5GiB\""
);

text_value!(
    Amount,
    parse_amount,
    |amount: &Amount| match amount {
        Amount::Percent(share) => format!("{share}%"),
        Amount::Number(number) => number.to_string(),
    },
    json_schema!({"type": ["string", "integer"], "format": "share or size as in 20%, 2GiB"}),
    "a share such as \"20%\" or a size such as \"2GiB\""
);

text_value!(
    Subject,
    parse_subject,
    |subject: &Subject| match subject {
        Subject::System => "system".to_owned(),
        Subject::Pid(pid) => pid.to_string(),
        Subject::Unit(name) | Subject::PidFile(name) => name.clone(),
    },
    json_schema!({"type": ["string", "integer"], "format": "system, a PID, a unit such as aura.service, or a PID file"}),
    "\"system\", a PID, a unit such as \"aura.service\" or the path of a PID file"
);

fn parse_amount(text: &str) -> Result<Amount, String> {
    let Some(share) = text.trim().strip_suffix('%') else {
        return parse_bytes(text).map(Amount::Number);
    };
    match share.trim().parse::<f64>() {
        Ok(share) if (0.0..=100.0).contains(&share) => Ok(Amount::Percent(share)),
        _ => Err(format!("{text:?} is not a share from 0% to 100%")),
    }
}

fn parse_subject(text: &str) -> Result<Subject, String> {
    if text.is_empty() {
        return Err("an empty text names no process".to_owned());
    }
    if text == "system" {
        return Ok(Subject::System);
    }
    if let Ok(pid) = text.parse::<i32>() {
        return if pid > 0 { Ok(Subject::Pid(pid)) } else { Err(format!("{pid} is not a PID")) };
    }
    let unit = [".service", ".scope"].iter().any(|end| text.ends_with(end)) && !text.contains('/');
    Ok(if unit { Subject::Unit(text.to_owned()) } else { Subject::PidFile(text.to_owned()) })
}

impl<'de> Deserialize<'de> for CommandLine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = CommandLine;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command: a string for sh -c, or a list of program and arguments")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<CommandLine, E> {
                if text.trim().is_empty() {
                    return Err(E::custom("the command is empty"));
                }
                Ok(CommandLine::Shell(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<CommandLine, A::Error> {
                let mut words: Vec<String> = Vec::new();
                while let Some(word) = list.next_element()? {
                    words.push(word);
                }
                if words.first().is_none_or(String::is_empty) {
                    return Err(de::Error::custom("the command is empty"));
                }
                Ok(CommandLine::Argv(words))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for CommandLine {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CommandLine".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "string", "minLength": 1},
            {"type": "array", "items": {"type": "string"}, "minItems": 1}
        ]})
    }
}

impl<'de> Deserialize<'de> for Expected {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Expected;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the value that is expected, or a table of equals, min, max and matches")
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Expected, E> {
                Ok(equals(value.into()))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Expected, E> {
                Ok(equals(value.into()))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Expected, E> {
                Ok(equals(value.into()))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Expected, E> {
                Ok(equals(value.into()))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Expected, E> {
                Ok(equals(value.into()))
            }
            fn visit_unit<E: de::Error>(self) -> Result<Expected, E> {
                Ok(equals(serde_json::Value::Null))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Expected, A::Error> {
                let list = de::value::SeqAccessDeserializer::new(list);
                serde_json::Value::deserialize(list).map(equals)
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Expected, A::Error> {
                Condition::deserialize(de::value::MapAccessDeserializer::new(map)).map(Expected)
            }
        }
        fn equals(value: serde_json::Value) -> Expected {
            Expected(Condition { equals: Some(value), ..Condition::default() })
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Expected {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Expected".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<Condition>();
        json_schema!({"anyOf": [{"type": ["string", "number", "boolean", "array", "null"]}, table]})
    }
}

/// A single value where a list of them may stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct OneOrMore<T>(pub Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
            type Value = OneOrMore<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or a list of values")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                one(de::value::I64Deserializer::new(value))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
                one(de::value::U64Deserializer::new(value))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                one(de::value::StrDeserializer::new(value))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(list)).map(OneOrMore)
            }
        }
        fn one<'de, T: Deserialize<'de>, D: Deserializer<'de>>(value: D) -> Result<OneOrMore<T>, D::Error> {
            Ok(OneOrMore(vec![T::deserialize(value)?]))
        }
        deserializer.deserialize_any(Visitor(std::marker::PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMore<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("OneOrMore{}", T::schema_name()).into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({"anyOf": [one, {"type": "array", "items": one}]})
    }
}
