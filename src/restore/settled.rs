//! Directories of a living tree in which nothing changed since a snapshot read them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::tree::split;
use super::{Placement, RestoreError};
use crate::base::name::is_within;
use crate::format::manifest::{
    List, ROOT, Time, Type, compare_entries, is_within_subtree, line_is_merged, line_is_torn, line_says,
    write_stat,
};
use crate::repo::manifest_reader::ManifestReader;
use crate::repo::reader::ChunkReader;
use crate::sys::host::worker_count;
use crate::tree::walk::{Choice, Everything, Filter, Item, Visit, walk};

/// A living tree of which the target is a copy.
#[derive(Clone, Debug)]
pub struct Twin {
    /// The tree. It may have changed since, but not before.
    pub tree: PathBuf,
    /// What changed later than this may have changed again since the snapshot read it, without a trace.
    pub trusted_before: Time,
}

/// The topmost directories below a tree, relative to it, of which everything is there that the snapshot has, nothing else, and all of it
/// untouched by what `lstat` says, and changed for the last time long enough ago. Never the tree itself.
///
/// A change shows in the inode's time for good. So what is settled now was so at each moment since the snapshot.
///
/// # Errors
/// If the manifest or the tree cannot be read.
pub fn settled(
    chunks: &mut ChunkReader<'_>,
    manifest: &List,
    placement: &Placement,
    twin: &Twin,
) -> Result<BTreeSet<Vec<u8>>, RestoreError> {
    let Twin { tree, trusted_before } = twin;
    let reader = ManifestReader::starting_at(chunks, manifest, &placement.subtree);
    let (top, trusted_before) = (&placement.subtree[..], *trusted_before);
    let mut look = Look { reader, top, next: None, stack: Vec::new(), expected: Vec::new(), trusted_before };
    look.pass()?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let living = rustix::fs::open(tree, flags, Mode::empty()).map_err(std::io::Error::from)?;
    walk(living, &Everything, worker_count(), &mut |visit| look.visit(&visit))?;
    look.finish()
}

/// Where among these directories somebody is who goes through a manifest.
#[derive(Default)]
pub struct Passed {
    /// Which they are.
    pub directories: Arc<BTreeSet<Vec<u8>>>,
    last: RefCell<Vec<u8>>,
}

impl Passed {
    /// Before the first.
    pub fn new(directories: BTreeSet<Vec<u8>>) -> Self {
        Self { directories: Arc::new(directories), last: RefCell::default() }
    }

    /// True for one of them and for what lies in it, asked in the order of the manifest. `path` is that of the manifest, in
    /// which `subtree` is what the directories are relative to.
    pub fn has(&self, path: &[u8], subtree: &[u8]) -> bool {
        if self.directories.is_empty() {
            return false;
        }
        let below = match subtree {
            ROOT => Some(path),
            top => path.strip_prefix(top).and_then(|path| path.strip_prefix(b"/")),
        };
        let Some(path) = below else { return false };
        let mut last = self.last.borrow_mut();
        if !last.is_empty() && is_within(path, &last) {
            return true;
        }
        let is_one = self.directories.contains(path);
        if is_one {
            last.clear();
            last.extend_from_slice(path);
        }
        is_one
    }
}

/// Leaves these directories out of a walk.
pub struct Unsettled(pub Arc<BTreeSet<Vec<u8>>>);

impl Filter for Unsettled {
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
    // what of the manifest the tree is
    top: &'l [u8],
    // path in the manifest and line
    next: Option<(Vec<u8>, Vec<u8>)>,
    // the directories around the place where the walk is
    stack: Vec<Directory>,
    expected: Vec<u8>,
    trusted_before: Time,
}

impl Look<'_, '_, '_> {
    fn pass(&mut self) -> Result<(), RestoreError> {
        let next = self.reader.next_line()?.filter(|(_, path)| is_within_subtree(path, self.top));
        match (next, &mut self.next) {
            (Some((line, path)), Some(last)) => {
                last.0.clear();
                last.0.extend_from_slice(&path);
                last.1.clear();
                last.1.extend_from_slice(line);
            }
            (next, last) => *last = next.map(|(line, path)| (path.into_owned(), line.to_vec())),
        }
        Ok(())
    }

    fn visit(&mut self, visit: &Visit<'_>) -> Result<(), RestoreError> {
        let path = match (self.top, visit.path) {
            (ROOT, path) => path.to_vec(),
            (top, ROOT) => top.to_vec(),
            (top, path) => [top, b"/", path].concat(),
        };
        // what comes before is not there
        while self.next.as_ref().is_some_and(|next| compare_entries(&next.0, &path).is_lt()) {
            self.unsettle();
            self.pass()?;
        }
        let parent = if visit.path == ROOT { None } else { Some(split(visit.path).0.unwrap_or(ROOT)) };
        while self.stack.last().is_some_and(|last| Some(&last.path[..]) != parent) {
            self.close();
        }
        let live = &visit.item.live.stat;
        if live.kind == Type::Dir {
            let path = visit.path.to_vec();
            self.stack.push(Directory { path, is_settled: true, settled: Vec::new() });
        }
        let is_known = self.next.as_ref().is_some_and(|next| next.0 == path);
        self.expected.clear();
        write_stat(&mut self.expected, &path, live);
        let line = self.next.as_ref().filter(|_| is_known).map(|next| &next.1[..]);
        let is_untouched = live.ctime < self.trusted_before
            && line.is_some_and(|line| {
                line_says(line, &self.expected) && !line_is_torn(line) && !line_is_merged(line)
            });
        if !is_untouched || !visit.problems.is_empty() {
            self.unsettle();
        }
        if is_known { self.pass() } else { Ok(()) }
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
