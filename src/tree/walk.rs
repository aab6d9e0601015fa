//! Walks a tree in the order of manifests. Directories are read ahead by a few threads, depth
//! first, so that a walk keeps every processor busy; what was read ahead is bounded.
//!
//! Everything goes by descriptor and never through a link: a directory that is exchanged for a
//! link while the walk is under way is reported, not followed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, RawDir};
use rustix::io::Errno;

use super::live::{LiveStat, open_dir};
use crate::format::manifest::{ROOT, Type};

/// Entries that may be read ahead before the consumer has seen them.
const READ_AHEAD: usize = 4096;
/// Bytes for one call of getdents.
const DIRENTS: usize = 64 << 10;

/// One entry of a directory.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its name.
    pub name: Box<[u8]>,
    /// What `lstat` says.
    pub live: LiveStat,
}

/// What to do with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Take it, and walk into it if it is a directory.
    Take,
    /// Take a directory without its content.
    TakeOnly,
    /// Leave it out.
    Skip,
}

/// Decides what a walk takes. Called from several threads.
pub trait Filter: Sync {
    /// About one entry; `path` is relative to the root.
    fn choose(&self, path: &[u8], item: &Item) -> Choice {
        let _ = (path, item);
        Choice::Take
    }

    /// About the content of a directory that was just opened: the names to keep, or all.
    fn only(&self, dir: BorrowedFd<'_>) -> Option<Vec<Vec<u8>>> {
        let _ = dir;
        None
    }
}

/// Takes everything.
pub struct Everything;
impl Filter for Everything {}

/// Something that could not be read.
#[derive(Debug)]
pub struct WalkProblem {
    /// Relative to the root.
    pub path: Vec<u8>,
    /// Why.
    pub error: io::Error,
}

/// One step of a walk.
pub struct Visit<'a> {
    /// Relative to the root; `.` for the root.
    pub path: &'a [u8],
    /// The entry.
    pub item: &'a Item,
    /// The directory that holds it (for the root: the root itself).
    pub dir: &'a Arc<OwnedFd>,
    /// What went wrong inside the directory (this entry) while it was read.
    pub problems: Vec<WalkProblem>,
    /// The directory itself, opened, if this entry is one that could be opened.
    pub opened: Option<&'a Arc<OwnedFd>>,
}

struct Listing {
    fd: Option<Arc<OwnedFd>>,
    // sorted by name, with the slot of each directory that is walked into
    items: Vec<(Item, Option<Arc<Slot>>)>,
    problems: Vec<WalkProblem>,
}

enum State {
    Waiting,
    Reading,
    Done(Listing),
    Taken,
}

struct Slot {
    parent: Arc<OwnedFd>,
    name: Box<[u8]>,
    path: Vec<u8>,
    expected: LiveStat,
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Arc<Slot>>,
    ahead: usize,
    closed: bool,
}

struct Shared<'f> {
    filter: &'f dyn Filter,
    queue: Mutex<Queue>,
    work: Condvar,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Joins a directory's path and a name; names directly below the root have no prefix.
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir == ROOT {
        return name.to_vec();
    }
    let mut path = Vec::with_capacity(dir.len() + 1 + name.len());
    path.extend_from_slice(dir);
    path.push(b'/');
    path.extend_from_slice(name);
    path
}

impl Shared<'_> {
    fn read_ahead(&self) {
        loop {
            let slot = {
                let mut queue = held(&self.queue);
                loop {
                    if queue.closed {
                        return;
                    }
                    if queue.ahead < READ_AHEAD
                        && let Some(slot) = queue.waiting.pop()
                    {
                        break slot;
                    }
                    queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
            };
            if !claim(&slot) {
                continue;
            }
            let listing = self.list(&slot);
            held(&self.queue).ahead += listing.items.len();
            *held(&slot.state) = State::Done(listing);
            slot.done.notify_all();
        }
    }

    // The listing of a directory: read ahead, or read here and now.
    fn take(&self, slot: &Arc<Slot>) -> Listing {
        if claim(slot) {
            *held(&slot.state) = State::Taken;
            return self.list(slot);
        }
        let mut state = held(&slot.state);
        loop {
            match std::mem::replace(&mut *state, State::Taken) {
                State::Done(listing) => {
                    drop(state);
                    let mut queue = held(&self.queue);
                    queue.ahead -= listing.items.len();
                    self.work.notify_all();
                    return listing;
                }
                other => *state = other,
            }
            state = slot.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn list(&self, slot: &Slot) -> Listing {
        let mut listing = Listing { fd: None, items: Vec::new(), problems: Vec::new() };
        let mut problem = |path: &[u8], error: io::Error| {
            listing.problems.push(WalkProblem { path: path.to_vec(), error });
        };
        let opened = match open_dir(slot.parent.as_fd(), &slot.name) {
            Ok(fd) => Arc::new(fd),
            Err(e) => {
                problem(&slot.path, e.into());
                return listing;
            }
        };
        match LiveStat::of(opened.as_fd()) {
            Ok(live) if (live.dev, live.stat.inode) == (slot.expected.dev, slot.expected.stat.inode) => {}
            Ok(_) => {
                problem(
                    &slot.path,
                    io::Error::other("it was replaced by another directory while it was read"),
                );
                return listing;
            }
            Err(e) => {
                problem(&slot.path, e);
                return listing;
            }
        }
        let only = self.filter.only(opened.as_fd());
        let mut items = Vec::new();
        if let Err(e) = read_names(opened.as_fd(), |name| {
            if only.as_ref().is_some_and(|only| !only.iter().any(|n| n == name)) {
                return;
            }
            match rustix::fs::statat(opened.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(raw) => items.push(Item { name: name.into(), live: LiveStat::new(&raw) }),
                // deleted since the directory was read: it is not part of the tree any more
                Err(Errno::NOENT) => {}
                Err(e) => problem(&join(&slot.path, name), e.into()),
            }
        }) {
            problem(&slot.path, e.into());
        }
        items.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        listing.items = self.choose(slot, &opened, items);
        listing.fd = Some(opened);
        listing
    }

    fn choose(&self, slot: &Slot, opened: &Arc<OwnedFd>, items: Vec<Item>) -> Vec<(Item, Option<Arc<Slot>>)> {
        let mut kept = Vec::with_capacity(items.len());
        for item in items {
            let path = join(&slot.path, &item.name);
            let choice = self.filter.choose(&path, &item);
            let enters = choice == Choice::Take && item.live.stat.kind == Type::Dir;
            let child = enters.then(|| Slot::new(Arc::clone(opened), item.name.clone(), path, item.live));
            if choice != Choice::Skip {
                kept.push((item, child));
            }
        }
        let mut queue = held(&self.queue);
        // the first subdirectory is wanted first, so it goes on top
        queue.waiting.extend(kept.iter().rev().filter_map(|(_, child)| child.clone()));
        drop(queue);
        self.work.notify_all();
        kept
    }

    fn close(&self) {
        held(&self.queue).closed = true;
        self.work.notify_all();
    }
}

fn claim(slot: &Slot) -> bool {
    let mut state = held(&slot.state);
    let free = matches!(*state, State::Waiting);
    if free {
        *state = State::Reading;
    }
    free
}

impl Slot {
    fn new(parent: Arc<OwnedFd>, name: Box<[u8]>, path: Vec<u8>, expected: LiveStat) -> Arc<Self> {
        let state = Mutex::new(State::Waiting);
        Arc::new(Self { parent, name, path, expected, state, done: Condvar::new() })
    }
}

fn read_names(dir: BorrowedFd<'_>, mut found: impl FnMut(&[u8])) -> Result<(), Errno> {
    let mut buffer = Vec::with_capacity(DIRENTS);
    let mut names = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = names.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            found(name);
        }
    }
    Ok(())
}

struct Level {
    fd: Option<Arc<OwnedFd>>,
    path_len: usize,
    items: std::vec::IntoIter<(Item, Option<Arc<Slot>>)>,
}

/// Walks the tree whose root is `root` (an open directory), calling `visit` for each entry in
/// order, the root first. `visit` ends the walk by returning an error.
///
/// # Errors
/// What `visit` returned. What cannot be read is handed to `visit` as a problem.
pub fn walk<E>(
    root: OwnedFd,
    filter: &dyn Filter,
    threads: usize,
    visit: &mut dyn FnMut(Visit<'_>) -> Result<(), E>,
) -> Result<(), E>
where
    E: From<io::Error>,
{
    let live = LiveStat::of(root.as_fd())?;
    let shared = Shared { filter, queue: Mutex::default(), work: Condvar::new() };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| shared.read_ahead());
        }
        let result = walk_root(Arc::new(root), live, &shared, visit);
        shared.close();
        result
    })
}

fn walk_root<E>(
    root: Arc<OwnedFd>,
    live: LiveStat,
    shared: &Shared<'_>,
    visit: &mut dyn FnMut(Visit<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let item = Item { name: ROOT.into(), live };
    let slot = Slot::new(Arc::clone(&root), ROOT.into(), ROOT.to_vec(), live);
    let listing = shared.take(&slot);
    let opened = listing.fd.clone();
    let problems = listing.problems;
    visit(Visit { path: ROOT, item: &item, dir: &root, problems, opened: opened.as_ref() })?;
    let mut path = Vec::new();
    let mut levels = vec![Level { fd: listing.fd, path_len: 0, items: listing.items.into_iter() }];
    while let Some(level) = levels.last_mut() {
        path.truncate(level.path_len);
        let Some((item, child)) = level.items.next() else {
            levels.pop();
            continue;
        };
        let Some(dir) = level.fd.clone() else { continue };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&item.name);
        let listing = child.map(|slot| shared.take(&slot));
        let (opened, items, problems) = match listing {
            Some(listing) => (listing.fd, listing.items, listing.problems),
            None => (None, Vec::new(), Vec::new()),
        };
        visit(Visit { path: &path, item: &item, dir: &dir, problems, opened: opened.as_ref() })?;
        if opened.is_some() {
            levels.push(Level { fd: opened, path_len: path.len(), items: items.into_iter() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::name::compare_paths;

    fn paths(root: &std::path::Path, filter: &dyn Filter) -> Vec<Vec<u8>> {
        let fd = rustix::fs::open(root, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
        let mut found = Vec::new();
        walk::<io::Error>(fd, filter, 2, &mut |visit| {
            assert!(visit.problems.is_empty());
            found.push(visit.path.to_vec());
            Ok(())
        })
        .unwrap();
        found
    }

    #[test]
    fn visits_everything_once_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..40 {
            let sub = dir.path().join(format!("d{}/e{}", i % 7, i));
            std::fs::create_dir_all(&sub).unwrap();
            std::fs::write(sub.join("f"), b"").unwrap();
            std::fs::write(dir.path().join(format!("d{}-x", i % 7)), b"").unwrap();
        }
        let found = paths(dir.path(), &Everything);
        assert_eq!(found.len(), 1 + 7 + 7 + 40 + 40);
        assert_eq!(found[0], ROOT);
        assert!(found[1..].is_sorted_by(|a, b| compare_paths(a, b).is_lt()));
    }

    #[test]
    fn the_filter_decides() {
        struct Some;
        impl Filter for Some {
            fn choose(&self, path: &[u8], _: &Item) -> Choice {
                match path {
                    b"skip" => Choice::Skip,
                    b"only" => Choice::TakeOnly,
                    _ => Choice::Take,
                }
            }
        }
        let dir = tempfile::tempdir().unwrap();
        for name in ["skip/x", "only/x", "take/x"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        assert_eq!(paths(dir.path(), &Some), [&b"."[..], b"only", b"take", b"take/x"]);
    }
}
