//! `security`: what can be seen from the outside of an application's tree: packages with known holes, refused and failed
//! requests, wide permissions, secrets that lie in files. Each part has a verdict; what could not be looked at is an
//! error, never a pass.

pub mod access;
mod answers;
pub mod packages;
pub mod permissions;
pub mod secrets;

use serde::Serialize;

use crate::base::Name;
use crate::check::Outcome;

/// At most so many findings of a part are listed; all are counted.
pub const MAX_FINDINGS: usize = 500;

/// What a part found.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// Which part, or which tool of it.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, in a sentence.
    pub reason: String,
    /// What it found; also what is told and no failure.
    pub findings: Vec<Finding>,
}

/// Something found. Texts are safe for a terminal and hold no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// On what: a path, a package, a log.
    pub subject: Name,
    /// The line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// What it is.
    pub what: String,
}

impl Part {
    /// Without findings.
    pub fn new(name: &str, outcome: Outcome, reason: impl Into<String>) -> Self {
        Self { name: name.to_owned(), outcome, reason: reason.into(), findings: Vec::new() }
    }

    /// Fails if there is a finding; `unread` things could not be looked at, so that it cannot pass.
    fn of_findings(name: &str, mut findings: Vec<Finding>, noun: &str, looked: u64, unread: u64) -> Self {
        let count = findings.len();
        let files = crate::base::size::plural(looked, "entry").replace("entrys", "entries");
        let (outcome, mut reason) = match (count, unread) {
            (0, 0) => (Outcome::Pass, format!("nothing in {files}")),
            (0, _) => (Outcome::Error, format!("nothing in {files}")),
            _ => (Outcome::Fail, format!("{} in {files}", crate::base::size::plural(count as u64, noun))),
        };
        if unread > 0 {
            reason.push_str(&format!("; {unread} could not be read"));
        }
        findings.truncate(MAX_FINDINGS);
        Self { name: name.to_owned(), outcome, reason, findings }
    }
}

#[cfg(test)]
mod tests;
