//! What is remembered of a change that is under way, durably, and what others ask of its watcher.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::baseline::Baseline;
use super::touched::Touched;
use super::types::{Change, End};
use crate::base::id::SnapshotId;
use crate::base::time::{Clock, Timestamp};
use crate::check::Mark;
use crate::evidence::{Check, Phase, Seconds, Step};
use crate::state::{Lock, State, StateError};
use crate::sys::process_tree::Member;

/// What is armed.
const ARMED: &str = "hotfix.json";
/// Held by its watcher.
const LOCK: &str = "hotfix.lock";
/// What somebody asks of the watcher.
const REQUEST: &str = "hotfix-request.json";
/// How the last one ended.
const LAST: &str = "hotfix-last.json";

/// How far a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The way back is safe; the command has not begun.
    Armed,
    /// A person changes things.
    Open,
    /// The command runs.
    Changing,
    /// The service and the tests.
    Settling,
    /// The checks are watched.
    Watching,
    /// It goes back.
    RollingBack,
}

impl Stage {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Armed => "armed",
            Self::Open => "open",
            Self::Changing => "changing",
            Self::Settling => "settling",
            Self::Watching => "watching",
            Self::RollingBack => "rolling-back",
        }
    }
}

/// A change that is under way, and all that the way back needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Armed {
    /// Its id.
    pub run_id: String,
    /// How far it is.
    pub stage: Stage,
    /// What changes the application.
    pub change: Change,
    /// Where a command runs.
    pub directory: PathBuf,
    /// The plan's file.
    pub plan_file: PathBuf,
    /// What stood in it when the change was armed: the change may break it.
    pub plan_text: String,
    /// What tells the command from others, if it is one.
    pub digest: Option<String>,
    /// When it began.
    pub started: Timestamp,
    /// Who began it.
    pub by: String,
    /// The snapshot before the change.
    pub before: SnapshotId,
    /// How long it is watched.
    pub watch: Seconds,
    /// Somebody must confirm within this time.
    pub confirm_within: Option<Seconds>,
    /// When the watch is over, once it began.
    pub watch_until: Option<Timestamp>,
    /// When somebody must have confirmed.
    pub confirm_until: Option<Timestamp>,
    /// Stop and start the service after the change.
    pub restart: bool,
    /// What it was like before.
    pub baseline: Baseline,
    /// Where logs ended when the change began.
    pub marks: BTreeMap<String, Mark>,
    /// What marks the processes of the command.
    pub mark: Option<String>,
    /// When the change began.
    pub changed: Option<Timestamp>,
    /// Whether the service ran before.
    pub was_running: bool,
    /// The process that leads the service since the change.
    pub leader: Option<Member>,
    /// The run of the kernel in which that is so.
    pub boot: String,
    /// What the change touched.
    pub touched: Option<Touched>,
    /// Why it goes back, once that is decided.
    pub why: Option<String>,
    /// True if it goes back, or is kept, because it could not be judged.
    pub unjudged: bool,
    /// What was done so far.
    pub phases: Vec<Phase>,
    /// What was run so far.
    pub steps: Vec<Step>,
    /// What was looked at so far.
    pub checks: Vec<Check>,
}

impl Armed {
    /// How long the watch still takes; nothing before it began.
    pub fn watch_left(&self) -> Option<Duration> {
        self.watch_until.map(|until| until.since(Clock::System.now()))
    }

    /// How long somebody still may take to confirm; `None` if nobody need.
    pub fn confirm_left(&self) -> Option<Duration> {
        self.confirm_until.map(|until| until.since(Clock::System.now()))
    }

    pub(super) fn keep(&self, state: &State) -> Result<(), StateError> {
        state.write(ARMED, self)
    }
}

/// The change that is under way, if there is one.
///
/// # Errors
/// If that cannot be read.
pub fn armed(state: &State) -> Result<Option<Armed>, StateError> {
    state.read(ARMED)
}

pub(super) fn disarm(state: &State) -> Result<(), StateError> {
    state.remove(REQUEST)?;
    state.remove(ARMED)
}

pub(super) fn watch_lock(state: &State) -> Result<Option<Lock>, StateError> {
    state.lock(LOCK)
}

/// True if a watcher lives.
///
/// # Errors
/// If it cannot be found out.
pub fn is_watched(state: &State) -> Result<bool, StateError> {
    Ok(state.lock(LOCK)?.is_none())
}

/// What somebody wants of the watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Want {
    /// The change is good.
    Keep,
    /// It is not.
    RollBack,
    /// Somebody takes over: the watcher ends, and it stays armed.
    HandOver,
}

/// Somebody's word to the watcher.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Of which change.
    pub run_id: String,
    /// What is wanted.
    pub want: Want,
    /// By whom.
    pub by: String,
}

/// Asks it of the watcher, who looks for it several times a second.
///
/// # Errors
/// If it cannot be written.
pub fn ask(state: &State, request: &Request) -> Result<(), StateError> {
    state.write(REQUEST, request)
}

/// What is asked of this run. One that cannot be read is none: it is never taken for a word that nobody said.
pub(super) fn asked(state: &State, run_id: &str) -> Option<Request> {
    let request: Option<Request> = state.read(REQUEST).ok().flatten();
    request.filter(|request| request.run_id == run_id)
}

pub(super) fn forget_request(state: &State) -> Result<(), StateError> {
    state.remove(REQUEST)
}

/// How the last change ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Last {
    /// Which.
    pub run_id: String,
    /// What it came to.
    pub end: End,
    /// Why.
    pub why: String,
    /// When.
    pub at: Timestamp,
}

/// How the last change ended, if there was one.
///
/// # Errors
/// If that cannot be read.
pub fn last(state: &State) -> Result<Option<Last>, StateError> {
    state.read(LAST)
}

pub(super) fn remember_last(state: &State, last: &Last) -> Result<(), StateError> {
    state.write(LAST, last)
}
