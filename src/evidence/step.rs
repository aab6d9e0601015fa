//! What was run and what was looked at.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::measure::Seconds;
use super::output::Output;

/// The phase of a step that is a question to people.
pub const QUESTION: &str = "question";
/// How the reason of a step begins that waits for somebody's answer.
pub const OPEN: &str = "open";

/// How the reason of a step begins that could not be judged where the plan allows that.
pub const EXCUSED: &str = "could not be judged, which the plan allows";

/// How a step or a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was run, and what it found is as it should be.
    Pass,
    /// It was run, and what it found is not as it should be.
    Fail,
    /// It was not run. Never counts as passed.
    Skip,
    /// It could not be judged: the harness is at fault, not what was looked at. Never counts as passed.
    Error,
}

impl Outcome {
    /// The word in records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Skip => "skip",
            Self::Error => "error",
        }
    }
}

/// A command that was run, or a thing that the harness did. Every step is required, unless the plan allows that it
/// stays unjudged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// The phase it belongs to.
    pub phase: String,
    /// The command as the plan has it, or what was done in words.
    pub name: String,
    /// How it came out. `fail` is the application's fault, `error` the harness's.
    pub result: Outcome,
    /// Why, unless it passed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When it began, in seconds after the start of the run.
    pub start_s: Seconds,
    /// How long it took, in seconds.
    pub took_s: Seconds,
    /// The exit status; absent if nothing was run, or a signal ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// What it printed, bounded and with secrets masked.
    #[serde(default, skip_serializing_if = "Output::is_empty")]
    pub output: Output,
}

impl Step {
    /// True if it waits for somebody's answer: it is then skipped.
    pub fn is_open(&self) -> bool {
        self.result == Outcome::Skip && self.reason.starts_with(OPEN)
    }

    /// True if it could not be judged and the plan allows that: it is then skipped, and neither passed nor failed.
    pub fn is_excused(&self) -> bool {
        self.result == Outcome::Skip && self.reason.starts_with(EXCUSED)
    }
}

/// A look at the application, or at its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// Its name in the plan, unique there.
    pub id: String,
    /// What kind of check: `http`, `sql`, `file`, …
    pub kind: String,
    /// Whether there is no pass without it.
    pub required: bool,
    /// Whether a pass proves that data came back, and not only that something answers.
    pub data_proving: bool,
    /// How it came out.
    pub result: Outcome,
    /// Why, unless it passed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What was seen; bounded, secrets masked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub observed: String,
    /// What should have been seen.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub expected: String,
    /// How often it was tried.
    pub attempts: u32,
    /// How long it took with all its tries, in seconds.
    pub took_s: Seconds,
    /// SHA-256 of its whole output, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_sha256: Option<String>,
}
