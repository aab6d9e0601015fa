//! Directories of a living tree in which nothing changed since a snapshot read them.

use std::collections::BTreeSet;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::tree::{relocate, split};
use super::{Placement, RestoreError};
use crate::format::manifest::{Entry, ROOT, Stat, Time, Type, compare_entries, is_within_subtree};
use crate::repo::Repo;
use crate::repo::documents::Snapshot;
use crate::repo::load::Condemned;
use crate::repo::manifest_reader::ManifestReader;
use crate::repo::reader::ChunkReader;
use crate::sys::host::worker_count;
use crate::tree::walk::{Choice, Everything, Filter, Item, Visit, walk};

/// The topmost directories below `tree`, relative to it, of which everything is there that the snapshot has, nothing else, and all of it
/// untouched by what `lstat` says; and changed for the last time before `trusted_before`. Never the tree itself.
///
/// A change shows in the inode's time for good. So what is settled now was so at each moment since the snapshot.
///
/// # Errors
/// If the manifest or the tree cannot be read.
pub fn settled(
    repo: &Repo,
    snapshot: &Snapshot,
    placement: &Placement,
    tree: &Path,
    trusted_before: Time,
) -> Result<BTreeSet<Vec<u8>>, RestoreError> {
    let loaded = repo.load(Condemned::Use)?;
    let mut chunks = ChunkReader::new(repo.store(), &loaded.index, 4)?;
    let root = &snapshot.document.roots[placement.root];
    let reader = ManifestReader::starting_at(&mut chunks, &root.manifest, &placement.subtree)?;
    let mut look = Look { reader, placement, next: None, stack: Vec::new(), trusted_before };
    look.pass()?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(tree, flags, Mode::empty()).map_err(std::io::Error::from)?;
    walk(top, &Everything, worker_count(), &mut |visit| look.visit(&visit))?;
    look.finish()
}

/// Leaves these directories out of a walk.
pub struct Unsettled<'s>(pub &'s BTreeSet<Vec<u8>>);

impl Filter for Unsettled<'_> {
    fn choose(&self, path: &[u8], item: &Item) -> Choice {
        let is_settled = item.live.stat.kind == Type::Dir && self.0.contains(path);
        if is_settled { Choice::Skip } else { Choice::Take }
    }
}

struct Directory {
    path: Vec<u8>,
    is_settled: bool,
    // those in it that are, if it is not
    settled: Vec<Vec<u8>>,
}

struct Look<'l, 'a, 'r> {
    reader: ManifestReader<'a, 'r>,
    placement: &'l Placement,
    next: Option<Entry>,
    // the directories around the place where the walk is
    stack: Vec<Directory>,
    trusted_before: Time,
}

impl Look<'_, '_, '_> {
    fn pass(&mut self) -> Result<(), RestoreError> {
        let top = &self.placement.subtree;
        let next = self.reader.next_entry()?.filter(|entry| is_within_subtree(&entry.path, top));
        self.next = next.map(|entry| Entry { path: relocate(entry.path.clone(), top), ..entry });
        Ok(())
    }

    fn visit(&mut self, visit: &Visit<'_>) -> Result<(), RestoreError> {
        // what comes before is not there
        while self.next.as_ref().is_some_and(|next| compare_entries(&next.path, visit.path).is_lt()) {
            self.unsettle();
            self.pass()?;
        }
        let parent = if visit.path == ROOT { None } else { Some(split(visit.path).0.unwrap_or(ROOT)) };
        while self.stack.last().is_some_and(|last| Some(&last.path[..]) != parent) {
            self.close();
        }
        let known = self.next.take_if(|next| next.path == visit.path);
        let live = &visit.item.live.stat;
        let same = known.as_ref().is_some_and(|entry| self.is_untouched(entry, live));
        if live.kind == Type::Dir {
            let path = visit.path.to_vec();
            self.stack.push(Directory { path, is_settled: true, settled: Vec::new() });
        }
        if !same || !visit.problems.is_empty() {
            self.unsettle();
        }
        if known.is_some() { self.pass() } else { Ok(()) }
    }

    fn is_untouched(&self, entry: &Entry, live: &Stat) -> bool {
        let kept = &entry.stat;
        let state = |of: &Stat| (of.kind, of.mode, of.uid, of.gid, of.mtime, of.ctime, of.inode);
        let size_fits = kept.kind != Type::File || kept.size == live.size;
        let holds = !entry.torn && (!entry.database || entry.exact);
        state(kept) == state(live) && size_fits && holds && kept.ctime < self.trusted_before
    }

    fn unsettle(&mut self) {
        if let Some(last) = self.stack.last_mut() {
            last.is_settled = false;
        }
    }

    // The last directory is done: what holds it knows by now.
    fn close(&mut self) {
        let Some(done) = self.stack.pop() else { return };
        let Some(around) = self.stack.last_mut() else { return };
        if done.is_settled {
            around.settled.push(done.path);
        } else {
            around.is_settled = false;
            around.settled.extend(done.settled);
        }
    }

    fn finish(mut self) -> Result<BTreeSet<Vec<u8>>, RestoreError> {
        if self.next.is_some() {
            self.unsettle();
        }
        while self.stack.len() > 1 {
            self.close();
        }
        Ok(self.stack.pop().map(|root| root.settled.into_iter().collect()).unwrap_or_default())
    }
}
