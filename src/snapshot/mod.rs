//! From the living system into the repository.
//!
//! One thread walks the trees in order and merges what it finds with the parent's manifest;
//! workers take runs of files that must be read, and each fills its own packs. What they return is
//! put back in order and written to the manifest. The document is written last: see `repo::writer`.

mod assemble;
mod changes;
mod command;
mod content;
mod databases;
mod dry;
mod files;
mod links;
mod planned;
mod pool;
mod rules;
mod take;
mod tree;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod race_tests;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use crate::base::Name;
use crate::base::id::SnapshotId;
use crate::base::size;
use crate::format::snapshot::Statistics;
use crate::repo::RepoError;
use crate::tree::exclude;

pub use changes::{shows_after, trusted_before};
pub use planned::{Unsaved, unsaved};
pub use take::take;

/// What to save, and how.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Directories and files; absolute, without `.` and `..`.
    pub roots: Vec<PathBuf>,
    /// A command whose output is saved instead, and the name it is saved as.
    pub command: Option<(Name, Vec<OsString>)>,
    /// What to leave out.
    pub excludes: exclude::Options,
    /// Do not enter other file systems.
    pub one_file_system: bool,
    /// Read every file, whatever its times say.
    pub rehash: bool,
    /// Take no snapshot if nothing has changed since the parent.
    pub skip_if_unchanged: bool,
    /// Compare with this snapshot, not with the newest of this host.
    pub parent: Option<SnapshotId>,
    /// Words to find it by.
    pub tags: Vec<Name>,
    /// What for.
    pub reason: Option<Name>,
    /// The host's name.
    pub host: Name,
    /// Who takes it.
    pub user: Name,
    /// Level of compression, 1 to 19.
    pub level: i32,
    /// How many threads read and compress.
    pub workers: usize,
    /// Read databases as they lie, with their logs, instead of copying them by their own means.
    pub plain_databases: bool,
    /// SQLite databases that the snapshot is to hold, absolute: what it does not hold as a database is a problem.
    pub databases: Vec<PathBuf>,
    /// Walk and compare only; store nothing. `stored_bytes` then says how many bytes would be read.
    pub dry_run: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The snapshot, unless nothing had changed and that was to be skipped, or it was a dry run.
    pub id: Option<SnapshotId>,
    /// The snapshot it was compared with.
    pub parent: Option<SnapshotId>,
    /// Counts.
    pub statistics: Statistics,
    /// Which of [`Options::databases`] it does not hold; the counts have them too, as skipped.
    pub unsaved: Vec<Name>,
    /// Where the repository itself lies in the trees: there it was left out.
    pub own_paths: Vec<Name>,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// An exclude rule makes no sense.
    #[error(transparent)]
    Exclude(#[from] exclude::ExcludeError),
    /// A path that was named explicitly cannot be saved.
    #[error("could not save {path}")]
    Root {
        /// The path.
        path: Name,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The command failed or could not be run.
    #[error("the command `{command}` failed; no snapshot was taken")]
    Command {
        /// The command.
        command: Name,
        /// How.
        #[source]
        source: io::Error,
    },
    /// The command's output has more chunks than the line of one file can hold.
    #[error(
        "the output of `{command}` is too long for one file of a snapshot ({} were read); no snapshot was taken: \
         save it in several parts, each under a name of its own",
        size::bytes(*bytes)
    )]
    TooLong {
        /// The command.
        command: Name,
        /// How much of it was read.
        bytes: u64,
    },
    /// The system failed.
    #[error("could not {act}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The operation was told to stop; what was stored so far is used by the next run.
    #[error("interrupted; what is stored already will be used by the next snapshot")]
    Interrupted,
}

impl From<io::Error> for SnapshotError {
    fn from(source: io::Error) -> Self {
        Self::Io { act: "walk the tree", source }
    }
}
