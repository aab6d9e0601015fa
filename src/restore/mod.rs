//! From the repository into a place.
//!
//! One thread reads the manifest in order (in place: merges it with the living tree) and makes
//! directories; what files need is gathered by frame, so that workers decode each frame once and
//! write all its files. Everything goes by directory descriptors that this run opened without
//! following links: nothing is ever written outside the target, whatever a manifest says.
//!
//! A chunk's hash is compared before a byte of it is written. What cannot be restored is left out
//! and named; everything else is restored.

mod attributes;
mod batch;
mod beside;
mod directory;
mod follow;
mod gap;
mod imagine;
mod links;
mod live;
mod living;
mod merge;
mod nested;
mod own;
mod patterns;
mod report;
mod room;
mod seal;
mod select;
mod settled;
mod single;
mod spare;
mod stack;
mod target;
#[cfg(test)]
mod tests;
mod tree;
mod unlike;
mod worker;

use std::io;
use std::path::{Path, PathBuf};

use crate::base::Name;
use crate::base::event::{Event, Observer, Silent, Step};
use crate::format::manifest::Time;
use crate::repo::documents::Snapshot;
use crate::repo::load::Condemned;
use crate::repo::reader::ChunkReader;
use crate::repo::{Repo, RepoError};
use crate::sys::host::worker_count;

pub use living::{LinkedFile, TakeFrom, Taken, Touched, touched};
pub use report::{Loss, Problem, Report};
pub use select::{Placement, Selection, place};
pub use settled::{Twin, settled};
pub use unlike::unlike;

/// What happens to files that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// Replaced if size or time of change differ.
    #[default]
    IfChanged,
    /// Replaced if their content differs; all of it is read.
    Always,
    /// Replaced if anything that `lstat` tells differs and their content does too. What changed later than this time is
    /// read in any case. For a tree that still has the inodes that the snapshot read.
    IfTouched(Time),
    /// Replaced if the snapshot's is newer.
    IfNewer,
    /// Left as they are.
    Never,
}

/// Where to and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Into a directory that is empty or not there.
    Fresh,
    /// Over what is there, rewriting only what differs.
    InPlace {
        /// What happens to files that are there.
        overwrite: Overwrite,
        /// Remove what the snapshot does not have.
        delete: bool,
    },
}

/// How owners are restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Owner {
    /// By number.
    #[default]
    Number,
    /// By name where this host knows it, else by number.
    Name,
    /// Not at all; setuid, setgid and capabilities are left out too.
    Mine,
}

/// What to restore, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory it goes to.
    pub target: PathBuf,
    /// Into nothing, or over something.
    pub mode: Mode,
    /// A living tree, of which files are taken over that have what the snapshot has.
    pub living: Option<TakeFrom>,
    /// In place: the target is a copy of this tree, of a moment, inodes and times included.
    pub twin: Option<Twin>,
    /// Which entries.
    pub selection: Selection,
    /// Owners.
    pub owner: Owner,
    /// Make devices too.
    pub devices: bool,
    /// Set inode flags too (immutable and so on).
    pub flags: bool,
    /// Remove more than half of what is there, if that is what it takes, and directories where the snapshot has something else.
    pub delete_most: bool,
    /// Change nothing; count.
    pub dry_run: bool,
    /// Of a dry run: only what would be removed is of interest, files are not compared.
    pub count_only: bool,
    /// Make everything durable before the end.
    pub sync: bool,
    /// How many threads decode and write.
    pub workers: usize,
}

impl Options {
    /// Everything, with all that it has, into a directory that is empty or not there, and nothing made durable: for a copy
    /// that is thrown away.
    pub fn fresh(target: &Path) -> Self {
        Self {
            target: target.to_owned(),
            mode: Mode::Fresh,
            living: None,
            twin: None,
            selection: Selection::default(),
            owner: Owner::Number,
            devices: true,
            flags: false,
            delete_most: false,
            dry_run: false,
            count_only: false,
            sync: false,
            workers: worker_count(),
        }
    }
}

/// Why nothing, or not all that could be, was restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The target is not as it must be.
    #[error("{target}: {why}")]
    Target {
        /// The directory.
        target: Name,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The target failed.
    #[error("could not {act} {path}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: Name,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Too much would be removed.
    #[error("{doomed} of {there} entries in the target would be removed; {}", if *.written { "nothing was removed, what differs was restored" } else { "nothing was changed" })]
    TooMuchRemoved {
        /// How many.
        doomed: u64,
        /// Of how many.
        there: u64,
        /// What differs was restored before that was seen.
        written: bool,
    },
    /// The operation was told to stop.
    #[error("interrupted; the target is incomplete")]
    Interrupted,
}

/// Restores a snapshot, or part of it.
///
/// # Errors
/// If nothing can be restored, or it was interrupted. What was left out is in the report.
pub fn restore(
    repo: &Repo,
    snapshot: &Snapshot,
    placements: &[Placement],
    options: &Options,
    observer: &dyn Observer,
) -> Result<Report, RestoreError> {
    let loaded = repo.load(Condemned::Use)?;
    observer.event(Event::Started { step: Step::Restore, bytes: None });
    let mut chunks = ChunkReader::new(repo.store(), &loaded.index, 4)?;
    let mut run = |options: &Options, observer: &dyn Observer| {
        tree::run(repo, &loaded.index, &mut chunks, snapshot, placements, options, observer)
    };
    // what would remove too much is refused before anything is changed
    let counted = match counting(options).map(|options| run(&options, &Silent(observer))) {
        Some(Err(
            error @ (RestoreError::TooMuchRemoved { .. }
            | RestoreError::Target { .. }
            | RestoreError::Interrupted),
        )) => Err(error),
        _ => Ok(()),
    };
    let result = counted.and_then(|()| run(options, observer));
    observer.event(Event::Finished);
    result
}

// The same, only to count what would go; `None` where nothing can go that must not.
fn counting(options: &Options) -> Option<Options> {
    let Mode::InPlace { delete: true, .. } = options.mode else { return None };
    if options.delete_most || options.dry_run {
        return None;
    }
    Some(Options { dry_run: true, count_only: true, ..options.clone() })
}
