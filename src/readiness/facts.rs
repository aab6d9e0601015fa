//! What is known when readiness is judged: values only.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::memory::Memory;
use crate::base::Name;
use crate::base::id::{PackId, SnapshotId};
use crate::base::time::Timestamp;
use crate::capacity::Growth;
use crate::check::Outcome;
use crate::evidence::actions::Action;
use crate::plan::Plan;
use crate::sys::space::Space;

/// What is known.
#[derive(Clone, Debug)]
pub struct Facts {
    /// When it was looked at.
    pub now: Timestamp,
    /// The repository; or why it cannot be read.
    pub repository: Result<Repository, Unopened>,
    /// The application; `None` without a plan.
    pub application: Option<Application>,
    /// What this host remembers and that could not be read: the file, and why.
    pub unread: Vec<(Name, String)>,
    /// How far the clock went otherwise than the time that passed since an earlier look, in seconds.
    pub clock_jump: Option<i64>,
}

/// A repository that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unopened {
    /// Why.
    pub why: String,
    /// True if there is none.
    pub is_missing: bool,
}

/// A repository.
#[derive(Clone, Debug)]
pub struct Repository {
    /// Where it is.
    pub location: Name,
    /// Its snapshots that are not forgotten, oldest first.
    pub snapshots: Vec<(SnapshotId, SnapshotFact)>,
    /// Documents that cannot be read.
    pub unreadable: Vec<SnapshotId>,
    /// What the logbook says.
    pub memory: Memory,
    /// Packs that are missing, or have another size than was recorded, and indexes that cannot be read, in words.
    pub lost: Option<String>,
    /// Snapshots that this host has seen in it and that are gone, in words.
    pub older: Option<String>,
    /// What is wrong with the logbook, each in a sentence.
    pub faults: Vec<String>,
    /// Bytes in packs, and those of them whose every byte was read within the window.
    pub coverage: (u64, u64),
    /// Packs that are there and were found damaged, and not right since.
    pub damaged_packs: Vec<PackId>,
    /// The room where it lies.
    pub space: Option<Space>,
    /// How it grows.
    pub growth: Growth,
    /// Its replicas as the plan names them.
    pub replicas: Vec<(String, Result<Replica, String>)>,
    /// Things to be done that are open, those due first come first.
    pub actions: Vec<Action>,
}

/// What is to be known of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFact {
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// What was saved: absolute paths on the source host.
    pub roots: Vec<Name>,
    /// Its size, in bytes.
    pub bytes: u64,
    /// What it added to the repository, in bytes.
    pub stored_bytes: u64,
    /// Its regular files.
    pub files: u64,
    /// Entries that could not be read, and files that may be torn.
    pub incomplete: u64,
}

/// A copy of the repository elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Snapshots that it has not.
    pub missing: u64,
    /// When the oldest of those ended.
    pub since: Option<Timestamp>,
    /// Packs that it has not.
    pub missing_packs: u64,
}

/// The application, by its plan and by what this host remembers of it.
#[derive(Clone, Debug)]
pub struct Application {
    /// Its name.
    pub name: String,
    /// Its plan.
    pub plan: Plan,
    /// The hash of the plan's file.
    pub config_sha256: String,
    /// Each check of the plan: what it said last.
    pub checks: BTreeMap<String, (Timestamp, Outcome)>,
    /// When the checks were looked at last.
    pub looked: Option<Timestamp>,
    /// A rollback that has begun and not ended.
    pub rollback: Option<Under>,
    /// A guarded change that has begun and not ended.
    pub hotfix: Option<Under>,
    /// Ways that could not be told the last time, and why.
    pub silent: Vec<(String, String)>,
    /// When measures were looked at last, and what was to be warned of.
    pub capacity: Option<(Timestamp, Vec<String>)>,
    /// The room where the tree lies.
    pub place: Option<Place>,
    /// A maintenance that has begun and not ended: when it began.
    pub maintenance: Option<Timestamp>,
}

/// Something that has begun and not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Under {
    /// At what it stands.
    pub stage: String,
    /// When it began.
    pub since: Timestamp,
    /// True if a process is at it.
    pub is_attended: bool,
    /// True if a person changes things, and nobody is waited for before they say that they are done.
    pub is_by_hand: bool,
}

/// The room of the application's tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The room.
    pub space: Space,
    /// True if the repository lies on the same file system.
    pub is_shared: bool,
}

impl Application {
    /// How old the newest snapshot may be.
    pub fn rpo(&self) -> Option<Duration> {
        self.plan.drill.objectives.rpo.map(|span| span.0)
    }

    /// How long a recovery may take.
    pub fn rto(&self) -> Option<Duration> {
        self.plan.drill.objectives.rto.map(|span| span.0)
    }
}
