//! What a guarded change is asked for, what it tells, and what it comes to.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::armed::Armed;
use super::touched::Touched;
use crate::base::Exit;
use crate::base::id::SnapshotId;
use crate::base::name::Name;
use crate::evidence::Evidence;
use crate::repo::RepoError;
use crate::rollback::{Obstacle, RollbackError};
use crate::snapshot::SnapshotError;
use crate::state::StateError;

/// What changes the application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// A command and its arguments.
    Command(Vec<Name>),
    /// A person.
    ByHand,
}

impl Change {
    /// In words, safe for a terminal.
    pub fn shown(&self) -> String {
        match self {
            Self::ByHand => "a change by hand".to_owned(),
            Self::Command(words) => words.iter().map(Name::shown).collect::<Vec<_>>().join(" "),
        }
    }

    pub(super) fn words(&self) -> Vec<OsString> {
        match self {
            Self::ByHand => Vec::new(),
            Self::Command(words) => words.iter().map(|word| word.as_os_str().to_owned()).collect(),
        }
    }
}

/// How it is guarded.
#[derive(Clone, Debug)]
pub struct Options {
    /// What changes the application.
    pub change: Change,
    /// Where a command runs.
    pub directory: PathBuf,
    /// How long the checks are watched afterwards.
    pub watch: Duration,
    /// Somebody must confirm within this time.
    pub confirm_within: Option<Duration>,
    /// How long the application is looked at beforehand.
    pub baseline: Duration,
    /// Stop and start the service after the change.
    pub restart: bool,
    /// Do it although the same command was rolled back.
    pub force: bool,
}

/// What a person wants who interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Back to the snapshot.
    RollBack,
    /// Leave the change as it is.
    Keep,
    /// End, and stay armed: the host shuts down.
    Leave,
}

/// Whoever runs it.
pub trait Operator: Sync {
    /// Shows what happens; must be quick.
    fn tell(&self, message: &Message<'_>);

    /// What somebody wants who interrupted since the last call; may ask, if there is somebody to ask.
    fn wish(&self) -> Option<Wish>;
}

/// Something that happened.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Message<'a> {
    /// Something begins that takes a while.
    Begins {
        /// Which phase.
        phase: &'static str,
        /// What, in words.
        text: &'a str,
    },
    /// It ended.
    Ended {
        /// Which phase.
        phase: &'static str,
        /// What, in words.
        text: &'a str,
        /// True if it went well.
        passed: bool,
        /// Why not, or more about it.
        detail: &'a str,
        /// How long it took, in seconds.
        seconds: f64,
        /// The last lines that it printed, where it did not go well.
        output: &'a str,
    },
    /// The way back is safe.
    Armed {
        /// What is armed.
        armed: &'a Armed,
    },
    /// What the change touched.
    Touched {
        /// Which files.
        touched: &'a Touched,
    },
    /// The watch begins.
    Watching {
        /// What is watched.
        armed: &'a Armed,
        /// How many checks.
        checks: usize,
    },
    /// The checks were looked at.
    Round {
        /// Its number, from 1.
        number: u32,
        /// Seconds until the watch is over.
        left: f64,
        /// Seconds until somebody must have confirmed.
        confirm_left: Option<f64>,
        /// What is wrong.
        wrong: &'a [String],
        /// What could not be judged.
        unjudged: &'a [String],
        /// The slowest answer over HTTP, in seconds.
        slowest: Option<f64>,
        /// Memory of the service, in bytes.
        memory: Option<u64>,
    },
    /// A sentence.
    Note {
        /// The sentence.
        text: &'a str,
    },
}

/// What it came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The change is kept.
    Kept,
    /// The change is kept, and could not be judged.
    KeptUnjudged,
    /// The application is back at the snapshot.
    RolledBack,
    /// It should be, and is not.
    RollbackFailed,
    /// The command had not begun; nothing was changed.
    Disarmed,
    /// It is armed still: somebody else must go on.
    Left,
}

impl End {
    /// The exit status for it.
    pub fn exit(self) -> Exit {
        match self {
            Self::Kept => Exit::Done,
            Self::KeptUnjudged => Exit::Inconclusive,
            Self::RolledBack => Exit::RolledBack,
            Self::RollbackFailed => Exit::RollbackFailed,
            Self::Disarmed => Exit::Failed,
            Self::Left => Exit::Interrupted,
        }
    }

    /// In words.
    pub fn title(self) -> &'static str {
        match self {
            Self::Kept => "KEPT",
            Self::KeptUnjudged => "KEPT, NOT JUDGED",
            Self::RolledBack => "ROLLED BACK",
            Self::RollbackFailed => "ROLLBACK FAILED",
            Self::Disarmed => "DISARMED",
            Self::Left => "ARMED STILL",
        }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What it came to.
    pub end: End,
    /// Its id.
    pub run_id: String,
    /// Why, in a sentence.
    pub why: String,
    /// The snapshot before the change.
    pub before: SnapshotId,
    /// The snapshot that the application is now; `None` if none could be taken.
    pub after: Option<SnapshotId>,
    /// The snapshot with the change that was taken back.
    pub safety: Option<SnapshotId>,
    /// What a person should enter now.
    pub commands: Vec<String>,
    /// The record; `None` where it goes on.
    pub evidence: Option<Evidence>,
    /// Why the record is not in the logbook.
    pub not_recorded: Option<String>,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// Another change is armed.
    #[error("a hotfix of this application is armed already: {}, since {}", .0.change.shown(), .0.started.shown())]
    Armed(Box<Armed>),
    /// Nothing is armed.
    #[error("no hotfix of this application is armed")]
    NotArmed,
    /// What is armed is no change by hand, and a watcher should be with it.
    #[error("what is armed is not a change by hand: {}", .0.change.shown())]
    NotByHand(Box<Armed>),
    /// Somebody else watches it.
    #[error("a watcher is with this hotfix already")]
    Watched,
    /// The plan has nothing that could tell a good change from a bad one.
    #[error(
        "the plan has nothing that tells a good change from a bad one: no required check, and no hotfix.verify"
    )]
    Blind,
    /// A check is not green before the change.
    #[error("before the change not all is well, so that a bad change could not be told from it: {}", .0.join("; "))]
    Unwell(Vec<String>),
    /// A check could not be judged before the change.
    #[error("before the change it cannot be judged whether all is well: {}", .0.join("; "))]
    Unjudged(Vec<String>),
    /// There would be no way back.
    #[error("there would be no way back: {}", .0.iter().map(|o| o.what.as_str()).collect::<Vec<_>>().join("; "))]
    NoWayBack(Vec<Obstacle>),
    /// The snapshot is not whole.
    #[error("the snapshot {snapshot} is not whole: {why}")]
    NotWhole {
        /// Which one.
        snapshot: String,
        /// What is wrong with it.
        why: String,
    },
    /// The same command was rolled back.
    #[error("the same command was rolled back {when}: {why}")]
    Flapping {
        /// When.
        when: String,
        /// Why.
        why: String,
    },
    /// The plan names a user or check that is not there.
    #[error("{0}")]
    Plan(String),
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// No snapshot could be taken.
    #[error("no snapshot could be taken, so nothing was changed")]
    Snapshot(#[source] SnapshotError),
    /// The rollback could not be looked at, or be resumed.
    #[error(transparent)]
    Rollback(#[from] RollbackError),
    /// It could not be remembered.
    #[error(transparent)]
    State(#[from] StateError),
    /// Somebody wanted an end.
    #[error("interrupted; nothing was changed")]
    Interrupted,
}
