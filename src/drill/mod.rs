//! The rehearsal: a snapshot is restored, brought to life at its own path in a sandbox by the plan's own commands,
//! looked at, and judged. What comes out is one [`Evidence`]; whoever calls decides where it is kept.
//!
//! The order is the argument. Nothing may answer on the application's ports before its server was started; what was restored
//! is compared with the snapshot before anything runs that could change it; everything is proved gone before the
//! verdict. A fault of the harness is never counted against the backup, and never for it.

mod copy;
mod databases;
mod environment;
pub mod facts;
mod preflight;
mod production;
pub mod recorder;
mod rehearsal;
pub mod sabotage;
pub mod scratch;
pub mod self_test;
mod serve;
mod setting;
mod stage;

use std::path::PathBuf;

use crate::base::time::Timestamp;
use crate::check::value::CommandLine;
pub use crate::evidence::Evidence;
use crate::plan::Plan;
use crate::repo::Repo;
use crate::repo::documents::Snapshot;

pub use environment::{Variable, variables};
pub use facts::{host, operator, tool};
pub use rehearsal::{never_began, rehearse};

/// What is rehearsed.
pub struct Subject<'a> {
    /// Where the snapshot is.
    pub repo: &'a Repo,
    /// The snapshot.
    pub snapshot: &'a Snapshot,
    /// All snapshots that are kept, for the gaps between them.
    pub kept: &'a [Snapshot],
    /// How the application comes back.
    pub plan: &'a Plan,
    /// SHA-256 of the plan's file, in hexadecimal.
    pub plan_sha256: String,
    /// Whether the last drill was about the same snapshot.
    pub same_as_last_drill: bool,
}

/// How it is rehearsed.
#[derive(Clone, Debug)]
pub struct Options {
    /// The lifeboat program, which is started again inside the sandbox.
    pub program: PathBuf,
    /// Where the copy is made; there must be room for all of it.
    pub place: PathBuf,
    /// Leave the copy behind, to look at.
    pub keep: bool,
    /// Run although nothing keeps the copy apart from production.
    pub allow_unisolated: bool,
    /// When the disaster is assumed to have happened; now, if not given.
    pub disaster_at: Option<Timestamp>,
    /// What must not stand in any record.
    pub secrets: Vec<String>,
    /// What the copy must not see, besides what the plan hides: the repository and the writer's key.
    pub hide: Vec<PathBuf>,
    /// Run this alone after the set-up, in place of the plan's tests, server and checks.
    pub only: Option<CommandLine>,
    /// Open a shell inside before the copy goes, on this terminal.
    pub shell: bool,
}

/// Why there was no rehearsal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DrillError {
    /// The snapshot does not hold the application's tree.
    #[error("the snapshot {snapshot} does not hold {root}")]
    NotThere {
        /// Which snapshot.
        snapshot: String,
        /// The tree's path.
        root: String,
    },
    /// There is too little room.
    #[error("{place} has {free} bytes free in {inodes} inodes, and the copy needs {bytes} in {entries}")]
    NoRoom {
        /// Where the copy would be made.
        place: String,
        /// Bytes free.
        free: u64,
        /// Inodes free.
        inodes: u64,
        /// Bytes needed.
        bytes: u64,
        /// Inodes needed.
        entries: u64,
    },
    /// A command of the plan begins with a program that is not on this host.
    #[error("{tool}, with which `{line}` begins, is not on this host")]
    NoTool {
        /// The program.
        tool: String,
        /// The command.
        line: String,
    },
    /// The snapshot did not exist yet when the disaster happened.
    #[error("the snapshot {snapshot} was taken at {taken}, after the disaster at {disaster}")]
    Later {
        /// Which snapshot.
        snapshot: String,
        /// When it was taken.
        taken: String,
        /// When the disaster is assumed.
        disaster: String,
    },
    /// The plan names something that cannot be used.
    #[error("{0}")]
    Plan(String),
    /// The sound copy does not pass, so that a broken one says nothing.
    #[error(
        "the self-test needs a drill that passes first: where the sound copy is red, a broken one says nothing"
    )]
    Unsound,
    /// The host does not allow the isolation that a drill needs.
    #[error("{text}")]
    NotIsolated {
        /// What it does not allow.
        text: String,
        /// The way out.
        fix: String,
    },
    /// The place for the copy could not be made.
    #[error("could not {act} {path}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}
