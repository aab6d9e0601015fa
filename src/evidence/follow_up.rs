//! What people add to a record afterwards, each time as a record of its own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::time::Timestamp;

/// A later word on a run. The body of a logbook record of kind `follow-up`; the signed record that it
/// speaks of is never changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FollowUp {
    /// The run it speaks of; for a record that is no run, that record's hash in hexadecimal; empty if it stands
    /// alone: work that left no other record.
    pub run_id: String,
    /// How often such work is done: daily, weekly, monthly, quarterly; or emergency.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub occasion: String,
    /// What people did by hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub activities: Vec<String>,
    /// What went wrong, and what was done about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issues: Vec<String>,
    /// What was noticed besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observations: Vec<String>,
    /// Who has looked at it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signoff: Vec<SignOff>,
    /// What was learned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lessons: Vec<String>,
    /// What is to be done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<Action>,
    /// Actions, of this run or another, that are closed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed: Vec<Closed>,
}

/// That an action is closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Closed {
    /// The action's id.
    pub action: String,
    /// How: done or dropped.
    pub status: ActionStatus,
    /// What is said of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Somebody has looked at the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignOff {
    /// Who.
    pub by: String,
    /// When.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    /// What they say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Something to be done because of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Action {
    /// What.
    pub text: String,
    /// Who does it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// Until when: a date such as 2026-12-01; records of before may say it otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub due: String,
    /// Whether it is done.
    pub status: ActionStatus,
    /// What was said when it was closed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Whether an action is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ActionStatus {
    /// Not yet.
    #[default]
    Open,
    /// Done.
    Done,
    /// It will not be done, and that was decided.
    Dropped,
}

impl ActionStatus {
    /// The word in records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Done => "done",
            Self::Dropped => "dropped",
        }
    }
}
