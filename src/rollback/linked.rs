//! Files that did not change have a name in both trees instead of a copy each, so that a rollback costs what differs.
//!
//! Whoever writes to such a file writes to both. So before a tree gets the application's name, each of these files in it
//! is looked at: one that was written to since is brought back from the snapshot that both trees have it from, and is that tree's own
//! from then on; what was written stays the other tree's. docs/decisions/0011-names-in-both-trees.md says why that is enough.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::build::{failed, restored, whole};
use super::carry::{clear, io_error, set_times_of};
use super::choose::{Chosen, choose};
use super::moment::moment;
use super::types::{Goal, RollbackError, Subject};
use crate::base::Name;
use crate::base::event::Observer;
use crate::base::id::SnapshotId;
use crate::base::name::is_within;
use crate::restore::{self, LinkedFile, Options, Selection, Touched};
use crate::state::{State, StateError};

/// The files that have a name in both trees, in the order of their paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linked {
    /// What they are: both trees have them as this snapshot does.
    snapshot: SnapshotId,
    files: Vec<LinkedFile>,
    /// Inodes of which one tree gets files of its own right now.
    #[serde(default)]
    mending: BTreeSet<u64>,
}

/// Files of a tree that were written to since.
#[derive(Debug)]
pub struct Spoiled {
    /// The snapshot that has them as they were.
    pub chosen: Chosen,
    /// Their paths below the tree.
    pub paths: Vec<Name>,
}

fn file_of(run_id: &str) -> String {
    format!("rollback-linked-{run_id}.json.zst")
}

impl Linked {
    /// Those of a tree that was just built from this snapshot, but for live data.
    pub fn new(snapshot: SnapshotId, mut files: Vec<LinkedFile>, carried: &[Name]) -> Self {
        files.retain(|file| !is_carried(&file.0.0, carried));
        files.sort_by(|a, b| a.0.0.cmp(&b.0.0));
        Self { snapshot, files, mending: BTreeSet::new() }
    }

    /// Those that this run wrote down.
    ///
    /// # Errors
    /// If it cannot be read, or is not there.
    pub fn read(state: &State, run_id: &str) -> Result<Self, RollbackError> {
        let file = file_of(run_id);
        state.read_packed(&file)?.ok_or_else(|| {
            let file = Name::from(state.path(&file).as_os_str());
            RollbackError::Strange(format!("{file} is gone, which says what both trees have in common"))
        })
    }

    /// Writes them down; when it returns, a power loss does not take it back.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, state: &State, run_id: &str) -> Result<(), StateError> {
        moment("before what both trees have is noted");
        state.write_packed(&file_of(run_id), self)?;
        moment("what both trees have is noted");
        Ok(())
    }

    /// Forgets what this run wrote down.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn forget(state: &State, run_id: &str) -> Result<(), StateError> {
        state.remove(&file_of(run_id))
    }

    /// Those of a tree that are not any more what the snapshot says, but for live data; `None` if there are none. And those
    /// whose inode the `other` tree has under a name that is not noted here: what is written to them would be written there,
    /// and nobody would see it.
    ///
    /// # Errors
    /// If it cannot be found out: the snapshot may be gone.
    pub fn spoiled(
        &self,
        subject: &Subject<'_>,
        (tree, other): (&Path, &Path),
        carried: &[Name],
    ) -> Result<Option<Spoiled>, RollbackError> {
        let touched = restore::touched(tree, &self.files).map_err(failed)?;
        let ours = touched.into_iter().filter(|touched| !is_carried(&touched.file.0.0, carried));
        let ours: Vec<_> = ours.collect();
        if ours.is_empty() {
            return Ok(None);
        }
        let names = self.names_of(ours.iter().map(|touched| touched.file.1).collect());
        let (half_done, touched): (Vec<_>, Vec<_>) = ours.into_iter().partition(|touched| {
            let names = names.get(&touched.file.1).map_or(&[][..], Vec::as_slice);
            self.mending.contains(&touched.file.1) || is_elsewhere(touched, names, other)
        });
        let chosen = choose(subject, Goal::Snapshot(self.snapshot))?;
        let touched = touched.into_iter().map(|touched| touched.file.0.0.clone()).collect();
        let paths =
            restore::unlike(subject.repo, &chosen.snapshot, &chosen.placement, &whole(tree), &touched);
        let mut paths = paths.map_err(failed)?;
        paths.extend(half_done.into_iter().map(|touched| touched.file.0.clone()));
        Ok((!paths.is_empty()).then_some(Spoiled { chosen, paths }))
    }

    // The names that each of these inodes has in each tree.
    fn names_of(&self, inodes: BTreeSet<u64>) -> BTreeMap<u64, Vec<&LinkedFile>> {
        let mut names: BTreeMap<u64, Vec<&LinkedFile>> = BTreeMap::new();
        for file in self.files.iter().filter(|file| inodes.contains(&file.1)) {
            names.entry(file.1).or_default().push(file);
        }
        names
    }

    /// Brings those of a tree that were written to back to what the snapshot says, each in one step, and forgets that
    /// the other tree had them too. How many they were. Cut off, it is done again.
    ///
    /// # Errors
    /// If it cannot be done; what was not brought back is as it was found.
    pub fn settle(
        &mut self,
        subject: &Subject<'_>,
        run_id: &str,
        (tree, other): (&Path, &Path),
        carried: &[Name],
        observer: &dyn Observer,
    ) -> Result<usize, RollbackError> {
        let spoiled = self.spoiled(subject, (tree, other), carried)?;
        if spoiled.is_none() && self.mending.is_empty() {
            return Ok(0);
        }
        let count = spoiled.as_ref().map_or(0, |spoiled| spoiled.paths.len());
        if let Some(spoiled) = spoiled {
            self.mend(subject, run_id, tree, &spoiled, observer)?;
        }
        self.files.retain(|file| !self.mending.contains(&file.1));
        self.mending.clear();
        self.write(subject.state, run_id)?;
        Ok(count)
    }

    fn mend(
        &mut self,
        subject: &Subject<'_>,
        run_id: &str,
        tree: &Path,
        spoiled: &Spoiled,
        observer: &dyn Observer,
    ) -> Result<(), RollbackError> {
        let aside = fetched_beside(tree);
        clear(&aside)?;
        fetch(subject, spoiled, &aside, observer)?;
        // from here on, what was written is the other tree's, whoever cuts this off
        let paths: BTreeSet<_> = spoiled.paths.iter().map(|path| &path.0).collect();
        let inodes = self.files.iter().filter(|file| paths.contains(&file.0.0)).map(|file| file.1);
        self.mending.extend(inodes);
        self.write(subject.state, run_id)?;
        for path in &spoiled.paths {
            let to = tree.join(path.as_os_str());
            let around = to.parent().unwrap_or(tree);
            let times = fs::symlink_metadata(around).map_err(io_error("read", around))?;
            moment("before a file is brought back");
            fs::rename(aside.join(path.as_os_str()), &to).map_err(io_error("bring back", &to))?;
            moment("a file is brought back");
            set_times_of(&times, around)?;
        }
        let synced = File::open(tree).and_then(|tree| Ok(rustix::fs::syncfs(&tree)?));
        synced.map_err(io_error("sync", tree))?;
        clear(&aside)
    }
}

// True if a file that was touched has names besides those that are known: it was renamed in the other tree, or got one more.
fn is_elsewhere(touched: &Touched<'_>, names: &[&LinkedFile], other: &Path) -> bool {
    let known = names.len() as u64;
    let is_there = |file: &&LinkedFile| {
        let found = fs::symlink_metadata(other.join(file.0.as_os_str()));
        found.is_ok_and(|found| found.ino() == file.1)
    };
    // no more names than this tree has: it is this tree's own by now
    touched.links > known && (touched.links != 2 * known || !names.iter().all(is_there))
}

/// Where files are fetched to before a tree gets them.
pub fn fetched_beside(tree: &Path) -> PathBuf {
    let mut name = tree.file_name().unwrap_or_default().to_owned();
    name.push(".fetched");
    tree.with_file_name(name)
}

fn is_carried(path: &[u8], carried: &[Name]) -> bool {
    carried.iter().any(|carried| is_within(path, &carried.0))
}

fn fetch(
    subject: &Subject<'_>,
    spoiled: &Spoiled,
    target: &Path,
    observer: &dyn Observer,
) -> Result<(), RollbackError> {
    let options = Options { selection: Selection::only(&spoiled.paths), ..whole(target) };
    restored(subject, &spoiled.chosen, &options, observer).map(drop)
}
