//! What a rollback is asked for, and what it answers.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::choose::Chosen;
use crate::base::id::SnapshotId;
use crate::base::time::Timestamp;
use crate::base::{Exit, Name};
use crate::catalog::diff::Counts;
use crate::evidence::Evidence;
use crate::plan::Plan;
use crate::repo::keys::WriterKey;
use crate::repo::{Repo, RepoError};
use crate::restore::RestoreError;
use crate::snapshot::SnapshotError;
use crate::state::{State, StateError};

/// Which application, and what is known of it.
pub struct Subject<'a> {
    /// Where the snapshots are.
    pub repo: &'a Repo,
    /// Signs the safety snapshot and the record.
    pub key: &'a WriterKey,
    /// How the application is put together.
    pub plan: &'a Plan,
    /// What this host remembers of it.
    pub state: &'a State,
    /// SHA-256 of the plan's file, in hexadecimal.
    pub plan_sha256: String,
    /// The lifeboat program, for the record.
    pub program: PathBuf,
    /// The user behind sudo, for the record.
    pub sudo_user: Option<String>,
    /// What must not lie in the tree, as it would go away with it: the repository, the writer's key.
    pub outside: Vec<PathBuf>,
}

impl Subject<'_> {
    /// The directory that is the application, whatever links the plan names it by: it is exchanged, and the links stay.
    pub fn tree(&self) -> PathBuf {
        let root = self.plan.root();
        root.canonicalize().unwrap_or(root)
    }
}

/// Where to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Goal {
    /// The one before, by the logbook; one that passed a drill goes before one that did not.
    #[default]
    Previous,
    /// The one before, by the logbook, drilled or not.
    Newest,
    /// This snapshot.
    Snapshot(SnapshotId),
    /// The state before the last rollback.
    Undo,
}

/// How the tree is brought there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Built beside the live tree, and exchanged with it in one step.
    #[default]
    Exchange,
    /// Entry by entry in the live tree. Not atomic: only the journal says how far it came.
    InPlace,
}

impl Way {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::InPlace => "in-place",
        }
    }
}

/// How.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where to.
    pub goal: Goal,
    /// How the tree is brought there.
    pub way: Way,
    /// Take a snapshot of the live tree first.
    pub safety: bool,
    /// Leave the plan's databases as they are; only files go back.
    pub keep_databases: bool,
    /// A service that does not start or does not become ready, and checks that fail, are told and take nothing back.
    pub accept_unhealthy: bool,
    /// Why, for the record.
    pub reason: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            goal: Goal::Previous,
            way: Way::Exchange,
            safety: true,
            keep_databases: false,
            accept_unhealthy: false,
            reason: None,
        }
    }
}

/// Something that would stop it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// What, in a sentence.
    pub what: String,
    /// The way out.
    pub next: String,
    /// True if `--in-place` gets round it.
    pub in_place_helps: bool,
}

/// A database, and what a rollback does to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DatabaseFate {
    /// Its path below the tree.
    pub path: Name,
    /// True: it stays as it is.
    pub kept: bool,
    /// How it differs now from what the snapshot holds, each in a sentence.
    pub differences: Vec<String>,
}

/// What would happen. Made by [`super::propose`].
#[derive(Clone, Debug, Serialize)]
pub struct Proposal {
    /// The live tree.
    pub root: Name,
    /// True: the way forward after a rollback.
    pub is_undo: bool,
    /// The snapshot it goes to; for an undo the one that was taken before the rollback, if one was.
    pub snapshot: Option<SnapshotId>,
    /// When that was taken.
    pub taken: Option<Timestamp>,
    /// When it passed a drill.
    pub drilled: Option<Timestamp>,
    /// Why this one was chosen.
    pub chosen: String,
    /// How the tree is brought there.
    pub way: Way,
    /// Entries that would change, counted from the snapshot to what is there now.
    pub changes: Counts,
    /// The first of them, as people read them.
    pub listed: Vec<String>,
    /// Live data that is carried over as it is.
    pub carried: Vec<Name>,
    /// Live data that the other tree has, and the living one has not any more: it stays gone.
    pub gone: Vec<Name>,
    /// What is dropped because programs make it again.
    pub dropped: Vec<Name>,
    /// Databases stay as they are.
    pub keep_databases: bool,
    /// Databases.
    pub databases: Vec<DatabaseFate>,
    /// Entries of the new tree.
    pub entries: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes that come from the repository, at most.
    pub fetched: u64,
    /// Bytes of room that it takes beside the live tree until the old one is removed.
    pub room: u64,
    /// Whether unchanged files share their blocks with the live ones.
    pub reflink: bool,
    /// How long the last one took in all, and how long the service was gone.
    pub last_took: Option<(Duration, Duration)>,
    /// What should be known, each in a sentence.
    pub notes: Vec<String>,
    /// What would stop it. Empty: it can succeed.
    pub(super) obstacles: Vec<Obstacle>,
    /// For an undo: the run that is undone.
    #[serde(skip)]
    pub(super) undoes: Option<String>,
    /// The snapshot, and what of it is the tree; `None` for an undo.
    #[serde(skip)]
    pub(super) goes_to: Option<Chosen>,
}

impl Proposal {
    /// What would stop it; empty if it can succeed.
    pub fn obstacles(&self) -> &[Obstacle] {
        &self.obstacles
    }
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Ended {
    /// The application is where it should be, and its checks pass.
    Done,
    /// It failed, and the application is as it was before.
    Reverted {
        /// What failed.
        why: String,
    },
    /// It failed, and so did the way back. Both trees are kept.
    Broken {
        /// What failed.
        why: String,
        /// What a person should enter now.
        commands: Vec<String>,
    },
}

impl Ended {
    /// The exit status for it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Done => Exit::Done,
            Self::Reverted { .. } => Exit::RolledBack,
            Self::Broken { .. } => Exit::RollbackFailed,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub ended: Ended,
    /// The record, which is in the logbook unless `recorded` says why not.
    pub evidence: Evidence,
    /// Why the record is not in the logbook.
    pub not_recorded: Option<String>,
    /// The safety snapshot.
    pub before: Option<SnapshotId>,
    /// The snapshot that the tree now is.
    pub after: Option<SnapshotId>,
    /// How long the service was gone; `None` if it was never stopped.
    pub downtime: Option<Duration>,
    /// Where the other tree is kept.
    pub kept: Option<PathBuf>,
}

/// A rollback that has begun and not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pending {
    /// Its id.
    pub run_id: String,
    /// The live tree.
    pub root: Name,
    /// The step it is in.
    pub stage: &'static str,
    /// When it began.
    pub since: Timestamp,
    /// True: an undo.
    pub is_undo: bool,
    /// True: the process that does it is alive; there is nothing to resume.
    pub running: bool,
}

/// Which end a rollback that was cut off is brought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Forward where the trees were exchanged already; back where they were not.
    Finish,
    /// The same, with [`Options::accept_unhealthy`] though it was not begun so.
    FinishUnhealthy,
    /// Back, whatever it takes.
    Revert,
}

/// Why nothing was done, or why it was left as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RollbackError {
    /// It could not succeed; nothing was touched.
    #[error("a rollback could not succeed, and was not begun: {}", .0.iter().map(|o| o.what.as_str()).collect::<Vec<_>>().join("; "))]
    Refused(Vec<Obstacle>),
    /// No snapshot to go to.
    #[error("{0}")]
    NoSnapshot(String),
    /// There is nothing to undo.
    #[error("{0}")]
    NothingToUndo(String),
    /// There is no unfinished rollback.
    #[error("no rollback of this application is unfinished")]
    NothingPending,
    /// Another rollback is under way, or was cut off.
    #[error("a rollback of {} is unfinished: it was begun {} and stands at \"{}\"", .0.root.shown(), .0.since.shown(), .0.stage)]
    UnfinishedRun(Box<Pending>),
    /// Somebody else does one right now.
    #[error("another process rolls this application back")]
    Locked,
    /// The tree is neither the old one nor the new one.
    #[error("{0}")]
    Strange(String),
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// No safety snapshot could be taken.
    #[error("the safety snapshot could not be taken; nothing was touched")]
    Safety(#[source] SnapshotError),
    /// The new tree could not be built.
    #[error("the new tree could not be built; nothing was touched")]
    Build(#[source] RestoreError),
    /// The new tree would not be exactly what the snapshot holds.
    #[error("the new tree could not be built exactly: {0}")]
    Inexact(String),
    /// The journal could not be written or read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The system failed.
    #[error("could not {act} {}", path.shown())]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: Name,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// Somebody wanted an end; nothing was touched.
    #[error("interrupted; nothing was touched")]
    Interrupted,
}
