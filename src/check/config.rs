//! A check as the plan writes it. The key that names what is looked at (`http`, `sql`, …) is the kind.

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use super::value::{Amount, CommandLine, Expected, OneOrMore, Size, Span, Subject};

/// What every check has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Common {
    /// What it is called, in plans, tables and records; unique in a plan
    pub name: String,
    /// False: its failure is told and changes no verdict
    pub required: bool,
    /// True: its passing shows that data came back, not only that something runs. By default so for sql, json,
    /// file with sha256, and http with json
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_proving: Option<bool>,
    /// How often it is tried again before it counts as failed
    pub retries: u32,
    /// How long to wait between tries
    pub interval: Span,
    /// How long one try may take
    pub timeout: Span,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            name: String::new(),
            required: true,
            data_proving: None,
            retries: 0,
            interval: Span::seconds(1),
            timeout: Span::seconds(10),
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// What every check has.
    pub common: Common,
    /// What is looked at.
    pub kind: Kind,
}

/// The kinds, by the key that names them.
pub const KINDS: &[&str] =
    &["http", "command", "port", "file", "log", "disk", "cpu", "memory", "process", "json", "sql"];

/// What is looked at, and what is expected of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Kind {
    /// An answer over HTTP.
    Http(Http),
    /// How a command ends and what it prints.
    Command(Command),
    /// A TCP port or a Unix socket.
    Port(Port),
    /// Files.
    File(File),
    /// Lines of a log.
    Log(Log),
    /// Room on a file system.
    Disk(Disk),
    /// Use of the processors.
    Cpu(Cpu),
    /// Use of memory.
    Memory(Memory),
    /// A process.
    Process(Process),
    /// A value in a JSON file.
    Json(Json),
    /// The answer of an SQLite database.
    Sql(Sql),
}

/// An answer over HTTP
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// The URL
    pub http: String,
    /// The method
    #[serde(default = "get")]
    pub method: String,
    /// Headers of the request
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// What is expected of the answer
    #[serde(default)]
    pub expect: HttpExpect,
}

/// What is expected of an answer over HTTP
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpExpect {
    /// The status, or a list of them; 200 to 299 if not given
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<OneOrMore<u16>>,
    /// Values in the JSON body: a path (`a.b.0`, or a JSON pointer `/a/b/0`) and what must be there
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub json: BTreeMap<String, Expected>,
    /// A regular expression that must be found in the body
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Headers of the answer and the regular expression that must be found in each
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub header: BTreeMap<String, String>,
    /// The longest that the whole answer may take
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Span>,
}

/// How a command ends and what it prints
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The command: a string for `sh -c`, or a list of program and arguments
    pub command: CommandLine,
    /// The exit status it must end with
    #[serde(default)]
    pub exit: i32,
    /// A text that must be in what it prints on stdout
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// A regular expression that must be found in what it prints on stdout
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    /// Values in the JSON it prints on stdout, as in http
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub json: BTreeMap<String, Expected>,
    /// Where it runs, from the plan's directory
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Variables of its environment
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
}

/// A TCP port or a Unix socket
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// A port of `host`, or `host:port`, or the path of a Unix socket (with a slash in it)
    pub port: PortName,
    /// The host, where `port` names none
    #[serde(default = "loopback")]
    pub host: String,
    /// True: nobody may answer there
    #[serde(default)]
    pub closed: bool,
}

/// A number, or a text with more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum PortName {
    /// A TCP port.
    Number(u16),
    /// `host:port`, or the path of a socket.
    Text(String),
}

impl<'de> Deserialize<'de> for PortName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = PortName;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port from 1 to 65535, host:port, or the path of a socket")
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<PortName, E> {
                let port = u16::try_from(number).ok().filter(|port| *port > 0);
                port.map(PortName::Number)
                    .ok_or_else(|| E::custom(format!("{number} is no port: ports go from 1 to 65535")))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<PortName, E> {
                self.visit_i64(i64::try_from(number).unwrap_or(i64::MAX))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<PortName, E> {
                Ok(PortName::Text(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Files
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// A path, or a pattern with `*`, `?`, `[…]`, and `**` for any depth
    pub file: String,
    /// False: nothing may match
    #[serde(default = "yes")]
    pub exists: bool,
    /// At least so many must match
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_count: Option<u64>,
    /// At most so many may match
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_count: Option<u64>,
    /// Each must be at least so large
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_size: Option<Size>,
    /// Each must have been changed at most so long ago
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Span>,
    /// Each must have this SHA-256, in hexadecimal
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Each must have these permissions, in octal such as "0640"
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

/// Lines of a log, across its rotation
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The file that is written to now
    pub log: String,
    /// Regular expressions that may be found in at most `max` lines
    #[serde(default, skip_serializing_if = "is_none_given")]
    pub forbid: OneOrMore<String>,
    /// Regular expressions each of which must be found in some line
    #[serde(default, skip_serializing_if = "is_none_given")]
    pub require: OneOrMore<String>,
    /// So many forbidden lines are put up with
    #[serde(default)]
    pub max: u64,
    /// Where to begin: "mark" at the end of what was read the last time, "start" at the file's start
    #[serde(default)]
    pub since: Since,
}

/// Where the reading of a log begins
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Since {
    /// Where it ended the last time; at the start if that is not known
    #[default]
    Mark,
    /// At the start of the file
    Start,
}

/// Room on a file system
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// A path on it
    pub disk: String,
    /// At least so much must be free, as a share or a size
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_free: Option<Amount>,
    /// At least so many files must still find room, as a share or a number
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_inodes: Option<Amount>,
}

/// Use of the processors
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    /// `system`, or a process: a PID, a PID file, a unit such as `aura.service`
    pub cpu: Subject,
    /// At most so much of all processors (of a process: of one processor)
    pub max: Amount,
    /// Measured over so long
    #[serde(default = "second")]
    pub over: Span,
}

/// Use of memory
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// `system`, or a process: a PID, a PID file, a unit such as `aura.service`
    pub memory: Subject,
    /// At most so much may be in use, as a share of all or a size
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Amount>,
    /// At least so much must be available, as a share of all or a size; of the system only
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_free: Option<Amount>,
}

/// A process
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// A PID, a PID file, or a unit such as `aura.service`
    pub process: Subject,
    /// A regular expression that must be found in its command line
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
    /// True: it must not run
    #[serde(default)]
    pub absent: bool,
}

/// A value in a JSON file
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Json {
    /// The file
    pub json: String,
    /// A JSON pointer such as `/server/port`, or a path `server.port`; the whole document if empty
    #[serde(default)]
    pub pointer: String,
    /// Must be this value
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<Value>,
    /// Must be a number, and at least this
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Must be a number, and at most this
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// A regular expression that must be found in the text of the value
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
}

/// The answer of an SQLite database, which is opened for reading only
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sql {
    /// The database's file
    pub sql: String,
    /// A query; the first column of its first row is judged
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Must be this value
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<Value>,
    /// Must be a number, and at least this
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Must be a number, and at most this
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// A regular expression that must be found in the text of the value
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
    /// Also run `PRAGMA integrity_check` and `PRAGMA foreign_key_check`
    #[serde(default)]
    pub integrity: bool,
}

fn get() -> String {
    "GET".to_owned()
}

fn loopback() -> String {
    "127.0.0.1".to_owned()
}

fn yes() -> bool {
    true
}

fn second() -> Span {
    Span::seconds(1)
}

fn is_none_given(list: &OneOrMore<String>) -> bool {
    list.0.is_empty()
}

/// The keys of [`Common`].
pub const COMMON_KEYS: &[&str] = &["name", "required", "data_proving", "retries", "interval", "timeout"];

impl Kind {
    /// The key that names it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Command(_) => "command",
            Self::Port(_) => "port",
            Self::File(_) => "file",
            Self::Log(_) => "log",
            Self::Disk(_) => "disk",
            Self::Cpu(_) => "cpu",
            Self::Memory(_) => "memory",
            Self::Process(_) => "process",
            Self::Json(_) => "json",
            Self::Sql(_) => "sql",
        }
    }

    /// Reads the kind of this name, from the keys that are not those of [`Common`].
    ///
    /// # Errors
    /// As the deserializer, where a key or a value is wrong.
    pub fn read<'de, D: Deserializer<'de>>(word: &str, keys: D) -> Result<Self, D::Error> {
        Ok(match word {
            "http" => Self::Http(Http::deserialize(keys)?),
            "command" => Self::Command(Command::deserialize(keys)?),
            "port" => Self::Port(Port::deserialize(keys)?),
            "file" => Self::File(File::deserialize(keys)?),
            "log" => Self::Log(Log::deserialize(keys)?),
            "disk" => Self::Disk(Disk::deserialize(keys)?),
            "cpu" => Self::Cpu(Cpu::deserialize(keys)?),
            "memory" => Self::Memory(Memory::deserialize(keys)?),
            "process" => Self::Process(Process::deserialize(keys)?),
            "json" => Self::Json(Json::deserialize(keys)?),
            "sql" => Self::Sql(Sql::deserialize(keys)?),
            _ => return Err(de::Error::custom(format!("a check's kind is one of {}", KINDS.join(", ")))),
        })
    }

    /// The kind that these keys stand for; of two possible ones (a command's `json`) the one that is
    /// first in [`KINDS`].
    pub fn of_keys<'k>(keys: impl Iterator<Item = &'k str> + Clone) -> Option<&'static str> {
        KINDS.iter().find(|kind| keys.clone().any(|key| key == **kind)).copied()
    }
}

impl Check {
    /// What it is called.
    pub fn name(&self) -> &str {
        &self.common.name
    }

    /// True if its passing shows that data came back.
    pub fn is_data_proving(&self) -> bool {
        self.common.data_proving.unwrap_or_else(|| match &self.kind {
            Kind::Sql(_) | Kind::Json(_) => true,
            Kind::File(file) => file.sha256.is_some(),
            Kind::Http(http) => !http.expect.json.is_empty(),
            _ => false,
        })
    }
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error as _;
        let object = |value: Result<Value, serde_json::Error>| match value {
            Ok(Value::Object(map)) => Ok(map),
            Ok(_) => Err(S::Error::custom("a check is a table")),
            Err(error) => Err(S::Error::custom(error)),
        };
        let mut all = object(serde_json::to_value(&self.common))?;
        all.extend(object(serde_json::to_value(&self.kind))?);
        all.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Check {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = Map::<String, Value>::deserialize(deserializer)?;
        let word = Kind::of_keys(all.keys().map(String::as_str))
            .ok_or_else(|| de::Error::custom(format!("a check has one of the keys {}", KINDS.join(", "))))?;
        let (common, own): (Map<_, _>, Map<_, _>) =
            all.into_iter().partition(|(key, _)| COMMON_KEYS.contains(&key.as_str()));
        let common = Common::deserialize(Value::Object(common)).map_err(de::Error::custom)?;
        let kind = Kind::read(word, Value::Object(own)).map_err(de::Error::custom)?;
        Ok(Self { common, kind })
    }
}

/// The schema of a kind's own keys, by its word.
pub fn kind_schemas(generator: &mut SchemaGenerator) -> Vec<(&'static str, Schema)> {
    vec![
        ("http", Http::json_schema(generator)),
        ("command", Command::json_schema(generator)),
        ("port", Port::json_schema(generator)),
        ("file", File::json_schema(generator)),
        ("log", Log::json_schema(generator)),
        ("disk", Disk::json_schema(generator)),
        ("cpu", Cpu::json_schema(generator)),
        ("memory", Memory::json_schema(generator)),
        ("process", Process::json_schema(generator)),
        ("json", Json::json_schema(generator)),
        ("sql", Sql::json_schema(generator)),
    ]
}

impl JsonSchema for Check {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Check".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let common = Common::json_schema(generator);
        let shared = common.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        let mut kinds = Vec::new();
        for (_, schema) in kind_schemas(generator) {
            let mut schema = schema.to_value();
            if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
                properties.extend(shared.clone());
            }
            if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
                required.push("name".into());
            }
            kinds.push(schema);
        }
        json_schema!({"description": "A check: the key that names what is looked at is its kind", "anyOf": kinds})
    }
}
