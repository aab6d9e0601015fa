//! What a check says.

use serde::{Deserialize, Serialize};

use super::run::Mark;
use crate::base::name::shown;

/// The most that is kept of what was seen, in bytes.
pub const EVIDENCE: usize = 4096;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// What was looked at is as expected.
    Pass,
    /// What was looked at is wrong.
    Fail,
    /// It could not be judged.
    Error,
}

impl Outcome {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Error => "error",
        }
    }
}

/// What a check says. Texts are bounded and safe for a terminal. Fields are added, never renamed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The check's name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// False: it changes no verdict of others.
    pub required: bool,
    /// True: its passing shows that data came back.
    pub data_proving: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, in a sentence.
    pub reason: String,
    /// What was seen.
    pub observed: String,
    /// What was expected.
    pub expected: String,
    /// How often it was tried.
    pub attempts: u32,
    /// How long it took, all tries together, in seconds.
    pub took: f64,
    /// How long the last try took, in seconds.
    pub last_took: f64,
    /// A log check: where the next reading begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
    /// A log check: how many forbidden lines it read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forbidden: Option<u64>,
}

/// What one try found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub outcome: Outcome,
    pub reason: String,
    pub observed: String,
    pub expected: String,
    // in a box, as few have one
    pub mark: Option<Box<Mark>>,
    pub forbidden: Option<u64>,
}

impl Found {
    pub fn new(outcome: Outcome, reason: impl Into<String>) -> Self {
        let (observed, expected) = (String::new(), String::new());
        Self { outcome, reason: reason.into(), observed, expected, mark: None, forbidden: None }
    }

    pub fn pass(reason: impl Into<String>) -> Self {
        Self::new(Outcome::Pass, reason)
    }

    pub fn fail(reason: impl Into<String>) -> Self {
        Self::new(Outcome::Fail, reason)
    }

    pub fn error(reason: impl Into<String>) -> Self {
        Self::new(Outcome::Error, reason)
    }

    pub fn saw(mut self, observed: impl Into<String>) -> Self {
        self.observed = observed.into();
        self
    }

    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = expected.into();
        self
    }
}

/// Made safe for a terminal and cut to [`EVIDENCE`] bytes; lines stay lines.
pub fn evidence(text: &[u8]) -> String {
    let mut out = String::new();
    for (i, line) in text.split(|&b| b == b'\n').enumerate() {
        if i > 0 {
            out.push('\n');
        }
        // a byte becomes at most eight
        out.push_str(&shown(&line[..line.len().min(EVIDENCE + 1)]).replace("\\\\", "\\"));
        if out.len() > EVIDENCE {
            break;
        }
    }
    if out.len() > EVIDENCE {
        let mut end = EVIDENCE - '…'.len_utf8();
        while !out.is_char_boundary(end) {
            end -= 1;
        }
        out.truncate(end);
        out.push('…');
    }
    out
}
