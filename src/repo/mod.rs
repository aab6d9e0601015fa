//! A repository as a whole. Store and format meet here: what is read is decoded and compared with
//! its hash here and nowhere else, and what is written follows the order of format.md, section 9.

use std::sync::Arc;
use std::time::Duration;

use crate::base::id::{ChunkId, PackId, SnapshotId};
use crate::base::time::Clock;
use crate::format::FormatError;
use crate::format::repository::Repository;
use crate::store::{Key, Lock, LockMode, Store, StoreError};

pub mod chunk_index;
pub mod content;
mod density;
pub mod documents;
mod elsewhere;
pub mod keys;
mod kit;
pub mod load;
pub mod manifest_reader;
pub mod manifest_writer;
pub mod open;
pub mod pack_writer;
pub mod plans;
pub mod reader;
pub mod session;
pub mod writer;

pub use chunk_index::{ChunkIndex, Place};

/// Why a repository did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepoError {
    /// There is none.
    #[error("there is no repository at {0}")]
    NotFound(String),
    /// There is one, but for the file that says what it is.
    #[error("the repository at {0} has lost its repository.json")]
    ConfigLost(String),
    /// It is of a version, or uses something, that this program does not know.
    #[error("the repository at {location} needs a newer lifeboat")]
    TooNew {
        /// Where.
        location: String,
        /// What is not known.
        #[source]
        source: FormatError,
    },
    /// Somebody else uses it.
    #[error("{location} is in use by another command")]
    Locked {
        /// Where.
        location: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object is not what the format says.
    #[error("{key} is damaged")]
    Damaged {
        /// The object.
        key: Key,
        /// What is wrong.
        #[source]
        source: FormatError,
    },
    /// An object's bytes do not have the hash that its name says.
    #[error("{key} is damaged: its bytes do not have the hash that its name says")]
    WrongHash {
        /// The object.
        key: Key,
    },
    /// No pack has this chunk.
    #[error("chunk {0} is in no pack")]
    ChunkMissing(ChunkId),
    /// A chunk's bytes are not what they were.
    #[error("chunk {chunk} in pack {pack} is damaged: {why}")]
    ChunkDamaged {
        /// The chunk.
        chunk: ChunkId,
        /// Where it lies.
        pack: PackId,
        /// What is wrong.
        why: String,
    },
    /// A snapshot's manifest is not what the format says.
    #[error("the manifest of snapshot {snapshot} is damaged")]
    Manifest {
        /// The snapshot.
        snapshot: SnapshotId,
        /// What is wrong.
        #[source]
        source: FormatError,
    },
    /// A pack that this run relies on was condemned by a prune meanwhile.
    #[error("a prune condemned pack {0} while it was being used")]
    Condemned(PackId),
    /// The writer's key is missing or wrong.
    #[error("{0}")]
    Key(String),
    /// What was just compressed does not decompress to the same bytes.
    #[error("a frame that was just compressed does not come back: memory or processor is unreliable")]
    SelfCheck,
    /// A limit of the format or the system.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The system failed.
    #[error("could not {act}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The operation was told to stop.
    #[error("interrupted")]
    Interrupted,
}

impl RepoError {
    pub(crate) fn io(act: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { act, source }
    }

    /// True if stored data is damaged, missing or cannot be read, as against a failure of the system.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. }
            | Self::ConfigLost(_)
            | Self::WrongHash { .. }
            | Self::ChunkMissing(_)
            | Self::ChunkDamaged { .. }
            | Self::Manifest { .. } => true,
            Self::Store(error) => error.is_of_the_object(),
            _ => false,
        }
    }

    /// True if `repository.json` is lost, damaged or cannot be read: nothing can be done with the repository before it is
    /// put back.
    pub fn is_of_the_config(&self) -> bool {
        match self {
            Self::ConfigLost(_) => true,
            Self::Damaged { key, .. } => *key == Key::repository(),
            Self::Store(StoreError::Unreadable { key, .. } | StoreError::TooLarge { key, .. }) => {
                *key == Key::repository()
            }
            _ => false,
        }
    }

    /// True if what was to be read is damaged, missing or malformed: it costs what it holds, and what else is stored may be read.
    pub fn is_unreadable(&self) -> bool {
        self.is_damage() || matches!(self, Self::Format(_))
    }
}

/// The result of a repository's work.
pub type Result<T> = std::result::Result<T, RepoError>;

/// An open repository.
pub struct Repo {
    store: Arc<dyn Store>,
    config: Repository,
    clock: Clock,
    lock: Lock,
}

/// How long a command waits for one that uses the repository alone (a prune).
const LOCK_WAIT: Duration = Duration::from_secs(30);

impl Repo {
    /// Opens the repository and shares it with others until it is dropped.
    ///
    /// # Errors
    /// If there is none, it is newer than this program, or somebody uses it alone for long.
    pub fn open(store: Arc<dyn Store>, clock: Clock) -> Result<Self> {
        let config = open::read_config(&*store)?;
        let lock = open::wait_for_lock(&*store, LockMode::Shared, LOCK_WAIT)?;
        Ok(Self { store, config, clock, lock })
    }

    /// Its objects.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Its identity and parameters.
    pub fn config(&self) -> &Repository {
        &self.config
    }

    /// The clock that its records go by.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Tries to be the only user. True if nobody else is at work; then nobody else can begin until
    /// [`Self::share`] or the end.
    ///
    /// # Errors
    /// If the store cannot lock for another reason than another user.
    pub fn try_exclusive(&mut self) -> Result<bool> {
        // flock is upgraded by asking again through a new descriptor after giving up the old one
        self.lock = Lock::Unsupported;
        match self.store.lock(LockMode::Exclusive)? {
            held @ Lock::Held(_) => {
                self.lock = held;
                Ok(true)
            }
            Lock::Busy | Lock::Unsupported => {
                self.share()?;
                Ok(false)
            }
        }
    }

    /// Goes back to sharing.
    ///
    /// # Errors
    /// If somebody took it alone meanwhile and keeps it.
    pub fn share(&mut self) -> Result<()> {
        self.lock = Lock::Unsupported;
        self.lock = open::wait_for_lock(&*self.store, LockMode::Shared, LOCK_WAIT)?;
        Ok(())
    }
}
