//! What is written down before each step, so that whoever comes later knows where it stood.
//!
//! Two facts decide after a crash: the stage, and which of the two directories has the application's name, told by its inode.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::moment::moment;
use super::place::Rules;
use super::types::{Pending, Way};
use crate::base::Name;
use crate::base::id::SnapshotId;
use crate::base::time::Timestamp;
use crate::state::{Lock, State, StateError};
use crate::sys::btrfs;

const JOURNAL: &str = "rollback.json";
const LOCK: &str = "rollback.lock";
const KEPT: &str = "rollback-kept.json";

/// How far it is. Each is written before what it names begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The new tree is built beside the live one; the service runs.
    Building,
    /// The service is stopped.
    Stopping,
    /// Live data gets its names in the new tree; then the two directories change theirs.
    Exchanging,
    /// Files are rewritten in the live tree itself.
    InPlace,
    /// The service is started and looked at.
    Starting,
    /// It goes back to how it was.
    Reverting,
}

impl Stage {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Stopping => "stopping",
            Self::Exchanging => "exchanging",
            Self::InPlace => "in-place",
            Self::Starting => "starting",
            Self::Reverting => "reverting",
        }
    }
}

/// One rollback on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// Its id.
    pub run_id: String,
    /// When it began.
    pub started: Timestamp,
    /// The live tree.
    pub root: Name,
    /// The other tree, which has the same parent.
    pub beside: Name,
    /// How the tree is brought there.
    pub way: Way,
    /// Where to.
    pub snapshot: Option<SnapshotId>,
    /// The snapshot of how it was before.
    pub safety: Option<SnapshotId>,
    /// The run that is undone.
    pub undoes: Option<String>,
    /// Whether a service that is not well and checks that fail are told and take nothing back.
    #[serde(default)]
    pub accept_unhealthy: bool,
    /// Why, for the record.
    pub reason: Option<String>,
    /// Whether the service ran.
    pub was_running: bool,
    /// Paths below the tree that are live data.
    pub carried: Vec<Name>,
    /// By which live data is told, so that what came up since is known on the way back.
    #[serde(default)]
    pub rules: Rules,
    /// The inode of the directory that was the application before.
    pub old_inode: u64,
    /// The inode of the one that it is to be; 0 until that is built.
    pub new_inode: u64,
    /// What an undo would have gone to before this one was done: needed again if it is taken back.
    pub earlier: Option<Kept>,
    /// The run that wrote down which files have a name in both trees; `None` if none has.
    #[serde(default)]
    pub linked: Option<String>,
    /// In place: whether the tree was touched.
    pub touched: bool,
    /// How far it is.
    pub stage: Stage,
    /// What failed, once it goes back.
    pub why: Option<String>,
}

/// Which directory has the application's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The one from before.
    Old,
    /// The new one.
    New,
    /// Neither.
    Strange,
}

impl Journal {
    /// Which directory has the application's name now.
    pub fn standing(&self) -> Standing {
        match inode(Path::new(self.root.as_os_str())) {
            Some(found) if found == self.old_inode => Standing::Old,
            Some(found) if self.new_inode != 0 && found == self.new_inode => Standing::New,
            _ => Standing::Strange,
        }
    }

    /// Writes the next stage down; when it returns, a power loss does not take it back.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn enter(&mut self, stage: Stage, state: &State) -> Result<(), StateError> {
        self.stage = stage;
        self.write(state)
    }

    /// Writes it down.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, state: &State) -> Result<(), StateError> {
        moment("before the journal is written");
        state.write(JOURNAL, self)?;
        moment("the journal is written");
        Ok(())
    }

    /// It is over.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn close(state: &State) -> Result<(), StateError> {
        moment("before the journal is removed");
        state.remove(JOURNAL)?;
        moment("the journal is removed");
        Ok(())
    }

    /// The one that has begun and not ended.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn open(state: &State) -> Result<Option<Self>, StateError> {
        state.read(JOURNAL)
    }

    /// As others see it.
    pub fn pending(&self, running: bool) -> Pending {
        Pending {
            run_id: self.run_id.clone(),
            root: self.root.clone(),
            stage: self.stage.word(),
            since: self.started,
            is_undo: self.undoes.is_some(),
            running,
        }
    }
}

/// What tells a directory from its neighbours, links not followed: its inode, or the id of a btrfs subvolume, as the
/// directories of all of them have the same inode.
pub fn inode(path: &Path) -> Option<u64> {
    let found = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_dir)?;
    let subvolume = btrfs::subvolume(path).ok()?;
    Some(subvolume.map_or(found.ino(), |subvolume| subvolume.id))
}

/// Held by whoever rolls back.
///
/// # Errors
/// If it cannot be made.
pub fn lock(state: &State) -> Result<Option<Lock>, StateError> {
    state.lock(LOCK)
}

/// The tree that was the application before the last rollback: what an undo goes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The run that put it aside.
    pub run_id: String,
    /// The tree that has its name now.
    #[serde(default = "nowhere")]
    pub root: Name,
    /// Where it is.
    pub path: Name,
    /// Its inode.
    pub inode: u64,
    /// The snapshot that was taken of it.
    pub snapshot: Option<SnapshotId>,
    /// When it was put aside.
    pub at: Timestamp,
    /// Whether the databases stayed: then they have a name in both trees, and stay again.
    #[serde(default)]
    pub keeps_databases: bool,
    /// The run that wrote down which files have a name in both trees; `None` if none has.
    #[serde(default)]
    pub linked: Option<String>,
    /// It is being removed: what is left of it is no tree to go to.
    #[serde(default)]
    pub going: bool,
}

fn nowhere() -> Name {
    Name(Vec::new())
}

impl Kept {
    /// The one that is there.
    ///
    /// # Errors
    /// If what is remembered cannot be read.
    pub fn read(state: &State) -> Result<Option<Self>, StateError> {
        Ok(Self::written(state)?.filter(Self::is_there))
    }

    /// True if it is still where it was put, whole.
    pub fn is_there(&self) -> bool {
        !self.going && inode(Path::new(self.path.as_os_str())) == Some(self.inode)
    }

    /// True if something of it is left, whole or not.
    pub fn remains(&self) -> bool {
        self.going || self.is_there()
    }

    /// The one that is remembered, there or not.
    ///
    /// # Errors
    /// If what is remembered cannot be read.
    pub fn written(state: &State) -> Result<Option<Self>, StateError> {
        state.read(KEPT)
    }

    /// Remembers it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, state: &State) -> Result<(), StateError> {
        moment("before the earlier tree is noted");
        state.write(KEPT, self)?;
        moment("the earlier tree is noted");
        Ok(())
    }

    /// Forgets it.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn forget(state: &State) -> Result<(), StateError> {
        state.remove(KEPT)
    }
}
