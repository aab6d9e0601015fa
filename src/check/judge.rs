//! What a value must be, and whether a check makes sense before it is run.

use regex::bytes::{Regex, RegexBuilder};
use serde_json::Value;

use super::config::{Check, Kind, PortName};
use super::value::{Condition, Expected, Subject};
use super::verdict::{Found, evidence};

/// A regular expression, of bounded size.
///
/// # Errors
/// A sentence that names it and says why not.
pub fn regex(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).size_limit(4 << 20).multi_line(true).build().map_err(|error| {
        let text = error.to_string();
        let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("{} is not a regular expression: {}", evidence(pattern.as_bytes()), evidence(why.as_bytes()))
    })
}

/// Finds a value by a JSON pointer (`/a/b/0`) or a path (`a.b.0`); the whole where it is empty.
pub fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    if path.is_empty() || path.starts_with('/') {
        return value.pointer(path);
    }
    // a key that holds a dot is meant as it stands where there is one
    if let Some(found) = value.get(path) {
        return Some(found);
    }
    path.split('.').try_fold(value, |value, part| match value {
        Value::Array(list) => list.get(part.parse::<usize>().ok()?),
        other => other.get(part),
    })
}

/// A value as people read it: text without quotes.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}

fn is_equal(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i128(), b.as_i128()) {
            (Some(a), Some(b)) => a == b,
            _ => a.as_f64() == b.as_f64(),
        },
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_equal(a, b))
        }
        (a, b) => a == b,
    }
}

impl Condition {
    /// True if nothing is asked.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What it asks, in words.
    pub fn words(&self) -> String {
        let mut parts = Vec::new();
        if let Some(value) = &self.equals {
            parts.push(format!("= {}", evidence(value.to_string().as_bytes())));
        }
        parts.extend(self.min.map(|min| format!("≥ {min}")));
        parts.extend(self.max.map(|max| format!("≤ {max}")));
        parts.extend(self.matches.as_ref().map(|p| format!("matches {}", evidence(p.as_bytes()))));
        if parts.is_empty() { "is there".to_owned() } else { parts.join(", ") }
    }

    /// Judges a value.
    ///
    /// # Errors
    /// If it cannot be judged.
    pub fn holds(&self, value: &Value) -> Result<bool, String> {
        if self.equals.as_ref().is_some_and(|wanted| !is_equal(value, wanted)) {
            return Ok(false);
        }
        if self.min.is_some() || self.max.is_some() {
            let Some(number) = number(value) else { return Ok(false) };
            if self.min.is_some_and(|min| number < min) || self.max.is_some_and(|max| number > max) {
                return Ok(false);
            }
        }
        match &self.matches {
            Some(pattern) => Ok(regex(pattern)?.is_match(text(value).as_bytes())),
            None => Ok(true),
        }
    }
}

// A text without a slash is `host:port`.
fn port_problem(port: &PortName) -> Option<String> {
    let PortName::Text(text) = port else { return None };
    let number = text.rsplit_once(':').map(|(_, number)| number);
    let is_port = number.is_some_and(|number| number.parse::<u16>().is_ok_and(|port| port > 0));
    let words = "is no host:port with a port from 1 to 65535, and no path of a socket";
    (!text.contains('/') && !is_port).then(|| format!("{} {words}", evidence(text.as_bytes())))
}

/// Judges the value at a path.
pub(super) fn judge(document: &Value, path: &str, condition: &Condition) -> Found {
    let name = if path.is_empty() { "the value".to_owned() } else { evidence(path.as_bytes()) };
    let expected = format!("{name} {}", condition.words());
    let Some(value) = at(document, path) else {
        let seen = evidence(document.to_string().as_bytes());
        return Found::fail(format!("there is no {name}")).saw(seen).expected(expected);
    };
    let seen = evidence(value.to_string().as_bytes());
    match condition.holds(value) {
        Ok(true) => Found::pass(format!("{name} is {}", short(&seen))),
        Ok(false) => Found::fail(format!("{name} is {}, not {}", short(&seen), condition.words())),
        Err(why) => Found::error(why),
    }
    .saw(seen)
    .expected(expected)
}

/// Judges the values of a document, the first one that is wrong decides. `None` if all hold.
pub(super) fn judge_all<'e>(
    document: &Value,
    conditions: impl IntoIterator<Item = (&'e String, &'e Expected)>,
) -> Option<Found> {
    let found = conditions.into_iter().map(|(path, expected)| judge(document, path, &expected.0));
    found.into_iter().find(|found| found.outcome != super::Outcome::Pass)
}

/// Cut to what fits into a sentence.
pub(super) fn short(text: &str) -> String {
    const MOST: usize = 120;
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= MOST && line.len() == text.trim_end_matches('\n').len() {
        return line.to_owned();
    }
    line.chars().take(MOST).collect::<String>() + "…"
}

/// What is wrong with a check before it is run: the key, and a sentence.
pub fn problems(check: &Check) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let mut pattern = |key: &'static str, text: Option<&String>| {
        found.extend(text.and_then(|text| regex(text).err()).map(|message| (key, message)));
    };
    match &check.kind {
        Kind::Http(http) => {
            pattern("expect", http.expect.body.as_ref());
            http.expect.header.values().for_each(|text| pattern("expect", Some(text)));
            http.expect.json.values().for_each(|one| pattern("expect", one.0.matches.as_ref()));
            found.extend(url_problem(&http.http).map(|message| ("http", message)));
        }
        Kind::Command(command) => {
            pattern("stdout", command.stdout.as_ref());
            command.json.values().for_each(|one| pattern("json", one.0.matches.as_ref()));
        }
        Kind::Log(log) => {
            log.forbid.0.iter().for_each(|text| pattern("forbid", Some(text)));
            log.require.0.iter().for_each(|text| pattern("require", Some(text)));
            if log.forbid.0.is_empty() && log.require.0.is_empty() {
                found.push(("log", "a check of log needs forbid or require".to_owned()));
            }
        }
        Kind::Process(process) => {
            pattern("matches", process.matches.as_ref());
            if process.process == Subject::System {
                found.push(("process", "system is no process".to_owned()));
            }
        }
        Kind::Port(port) => found.extend(port_problem(&port.port).map(|message| ("port", message))),
        Kind::Json(json) => pattern("matches", json.matches.as_ref()),
        Kind::Sql(sql) => {
            pattern("matches", sql.matches.as_ref());
            if sql.query.is_none() && !sql.integrity {
                found.push(("sql", "a check of sql needs a query, or integrity = true".to_owned()));
            }
            let asks = [sql.equals.is_some(), sql.min.is_some(), sql.max.is_some(), sql.matches.is_some()];
            if sql.query.is_some() != (asks != [false; 4]) {
                let message = "a query and one of equals, min, max and matches go together";
                found.push(("query", message.to_owned()));
            }
        }
        Kind::Disk(disk) if disk.min_free.is_none() && disk.min_inodes.is_none() => {
            found.push(("disk", "a check of disk needs min_free or min_inodes".to_owned()));
        }
        Kind::Memory(memory) => {
            if memory.max.is_none() && memory.min_free.is_none() {
                found.push(("memory", "a check of memory needs max or min_free".to_owned()));
            }
            if memory.min_free.is_some() && memory.memory != Subject::System {
                found.push(("min_free", "min_free is of the system, a process has max".to_owned()));
            }
        }
        Kind::Cpu(cpu) if !matches!(cpu.max, super::value::Amount::Percent(_)) => {
            found.push(("max", "use of the processors is a share such as \"90%\"".to_owned()));
        }
        Kind::File(file) => found.extend(file_problems(file)),
        _ => {}
    }
    if check.common.timeout.0.is_zero() {
        found.push(("timeout", "must be longer than nothing".to_owned()));
    }
    found
}

fn url_problem(url: &str) -> Option<String> {
    let known = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
    if known && reqwest::Url::parse(url).is_ok_and(|url| url.has_host()) {
        return None;
    }
    Some(format!("{} is not a URL such as http://127.0.0.1:8000/health", evidence(url.as_bytes())))
}

fn file_problems(file: &super::config::File) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    if file
        .sha256
        .as_ref()
        .is_some_and(|hash| hash.len() != 64 || hash.bytes().any(|b| !b.is_ascii_hexdigit()))
    {
        found.push(("sha256", "a SHA-256 has 64 hexadecimal digits".to_owned()));
    }
    if file.mode.as_ref().is_some_and(|mode| u32::from_str_radix(mode, 8).map_or(true, |mode| mode > 0o7777))
    {
        found.push(("mode", "permissions are octal, such as \"0640\"".to_owned()));
    }
    if let Err(error) = super::kinds::file::matcher(&file.file) {
        found.push(("file", error));
    }
    found
}
