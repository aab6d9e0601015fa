//! Walks a tree in the order of manifests. Directories are read ahead by a few threads, depth
//! first, so that a walk keeps every processor busy; what was read ahead is bounded. Of a very large
//! directory only the names are held, and `lstat` is asked as the walk comes to them.
//!
//! Everything goes by descriptor and never through a link: a directory that is exchanged for a
//! link while the walk is under way is reported, not followed.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, RawDir};
use rustix::io::Errno;

use super::live::{LiveStat, open_dir};
use crate::format::manifest::{ROOT, Type};
use crate::sys::host;

/// Entries that may be read ahead before the consumer has seen them; an empty directory counts as one.
const READ_AHEAD: usize = 4096;
/// Of the files that this process may have open, those may be directories that were read ahead: one in so many.
const SHARE: u64 = 4;
/// Entries of one directory that `lstat` is asked about at a time.
const BATCH: usize = 8192;
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

    /// About the content of a directory that was just opened: the names to keep, or all. `path` is relative to the root.
    fn only(&self, path: &[u8], dir: BorrowedFd<'_>) -> Option<Vec<Vec<u8>>> {
        let _ = (path, dir);
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

impl WalkProblem {
    /// True if a directory was deleted after the one that holds it was read: it is not part of the tree any more.
    pub fn has_vanished(&self) -> bool {
        self.error.kind() == io::ErrorKind::NotFound && self.path != ROOT
    }
}

/// One step of a walk.
pub struct Visit<'a> {
    /// Relative to the root; `.` for the root.
    pub path: &'a [u8],
    /// The entry.
    pub item: &'a Item,
    /// The directory that holds it (for the root: the root itself).
    pub dir: &'a Arc<OwnedFd>,
    /// What went wrong inside the directory (this entry) while it was read, and what could not be looked at in a very large
    /// directory since the entry before.
    pub problems: Vec<WalkProblem>,
    /// The directory itself, opened, if this entry is one that could be opened.
    pub opened: Option<&'a Arc<OwnedFd>>,
}

struct Listing {
    fd: Option<Arc<OwnedFd>>,
    content: Content,
    problems: Vec<WalkProblem>,
}

// An entry, and the slot of a directory that is walked into.
type Taken = (Item, Option<Arc<Slot>>);

// What a directory holds, sorted by name: the first entries, and the names of those after them.
#[derive(Default)]
struct Content {
    ready: VecDeque<Taken>,
    rest: Names,
}

impl Content {
    // What it counts as.
    fn weight(&self) -> usize {
        (self.ready.len() + self.rest.places.len()).max(1)
    }
}

// Names in one piece of memory, each ended by a zero byte: an entry that waits costs its name and nine bytes.
#[derive(Default)]
struct Names {
    bytes: Vec<u8>,
    // where each begins, the next one last
    places: Vec<usize>,
}

impl Names {
    fn add(&mut self, name: &[u8]) {
        self.places.push(self.bytes.len());
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        // the zero byte sorts before all others, so what comes after a name decides nothing
        self.places.sort_unstable_by(|&a, &b| bytes[b..].cmp(&bytes[a..]));
    }

    fn next(&mut self) -> Option<&[u8]> {
        let name = &self.bytes[self.places.pop()?..];
        memchr::memchr(0, name).map(|end| &name[..end])
    }
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
    // directories among them: each holds a descriptor
    directories: usize,
    closed: bool,
}

struct Shared<'f> {
    filter: &'f dyn Filter,
    queue: Mutex<Queue>,
    work: Condvar,
    // directories that may be read ahead
    most: usize,
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
                        && queue.directories < self.most
                        && let Some(slot) = queue.waiting.pop()
                    {
                        queue.directories += 1;
                        break slot;
                    }
                    queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
            };
            if !claim(&slot) {
                held(&self.queue).directories -= 1;
                continue;
            }
            let listing = self.list(&slot);
            held(&self.queue).ahead += listing.content.weight();
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
                    queue.ahead -= listing.content.weight();
                    queue.directories -= 1;
                    self.work.notify_all();
                    return listing;
                }
                other => *state = other,
            }
            state = slot.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn list(&self, slot: &Slot) -> Listing {
        let mut listing = Listing { fd: None, content: Content::default(), problems: Vec::new() };
        let mut problem = |error| listing.problems.push(WalkProblem { path: slot.path.clone(), error });
        let opened = match open_dir(slot.parent.as_fd(), &slot.name) {
            Ok(fd) => Arc::new(fd),
            Err(e) => {
                problem(e.into());
                return listing;
            }
        };
        match LiveStat::of(opened.as_fd()) {
            Ok(live) if (live.dev, live.stat.inode) == (slot.expected.dev, slot.expected.stat.inode) => {}
            Ok(_) => {
                problem(io::Error::other("it was replaced by another directory while it was read"));
                return listing;
            }
            Err(e) => {
                problem(e);
                return listing;
            }
        }
        let only = self.filter.only(&slot.path, opened.as_fd());
        let names = &mut listing.content.rest;
        if let Err(e) = read_names(opened.as_fd(), |name| {
            if only.as_ref().is_none_or(|only| only.iter().any(|n| n == name)) {
                names.add(name);
            }
        }) {
            problem(e.into());
        }
        if names.places.len() > BATCH {
            names.sort();
        }
        listing.problems.extend(self.refill(&slot.path, &opened, &mut listing.content));
        listing.fd = Some(opened);
        listing
    }

    // Asks about the next names, unless there is an entry and one more: so what cannot be asked about is known before the
    // last entry in front of it was visited, and can be told with that.
    fn refill(&self, path: &[u8], dir: &Arc<OwnedFd>, content: &mut Content) -> Vec<WalkProblem> {
        let mut problems = Vec::new();
        while content.ready.len() < 2 && !content.rest.places.is_empty() {
            let mut items = Vec::with_capacity(content.rest.places.len().min(BATCH));
            for _ in 0..BATCH {
                let Some(name) = content.rest.next() else { break };
                match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(raw) => items.push(Item { name: name.into(), live: LiveStat::new(&raw) }),
                    // deleted since the directory was read: it is not part of the tree any more
                    Err(Errno::NOENT) => {}
                    Err(e) => problems.push(WalkProblem { path: join(path, name), error: e.into() }),
                }
            }
            items.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            self.choose(path, dir, items, &mut content.ready);
        }
        problems
    }

    fn choose(&self, dir: &[u8], opened: &Arc<OwnedFd>, items: Vec<Item>, kept: &mut VecDeque<Taken>) {
        let before = kept.len();
        for item in items {
            let path = join(dir, &item.name);
            let choice = self.filter.choose(&path, &item);
            let enters = choice == Choice::Take && item.live.stat.kind == Type::Dir;
            let child = enters.then(|| Slot::new(Arc::clone(opened), item.name.clone(), path, item.live));
            if choice != Choice::Skip {
                kept.push_back((item, child));
            }
        }
        let mut queue = held(&self.queue);
        // the first subdirectory is wanted first, so it goes on top
        queue.waiting.extend(kept.range(before..).rev().filter_map(|(_, child)| child.clone()));
        drop(queue);
        self.work.notify_all();
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
    content: Content,
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
    let most =
        host::open_files().map_or(READ_AHEAD, |files| usize::try_from(files / SHARE).unwrap_or(READ_AHEAD));
    let shared =
        Shared { filter, queue: Mutex::default(), work: Condvar::new(), most: most.clamp(1, READ_AHEAD) };
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
    let mut levels = vec![Level { fd: listing.fd, path_len: 0, content: listing.content }];
    while let Some(level) = levels.last_mut() {
        path.truncate(level.path_len);
        let Some(dir) = level.fd.clone() else {
            levels.pop();
            continue;
        };
        let mut problems =
            shared.refill(if path.is_empty() { ROOT } else { &path }, &dir, &mut level.content);
        let Some((item, child)) = level.content.ready.pop_front() else {
            levels.pop();
            continue;
        };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&item.name);
        let listing = child.map(|slot| shared.take(&slot));
        let (opened, content) = match listing {
            Some(listing) => {
                problems.extend(listing.problems);
                (listing.fd, listing.content)
            }
            None => (None, Content::default()),
        };
        visit(Visit { path: &path, item: &item, dir: &dir, problems, opened: opened.as_ref() })?;
        if opened.is_some() {
            levels.push(Level { fd: opened, path_len: path.len(), content });
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
    fn a_directory_of_more_than_one_batch_comes_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("sub");
        std::fs::create_dir(&sub).unwrap();
        let count = 2 * BATCH + 3;
        for i in 0..count {
            // names that are the beginning of others, and directories among them
            let name = sub.join(format!("{:x}", i * 7919 % count));
            if i % 1000 == 0 {
                std::fs::create_dir_all(name.join("inside")).unwrap();
            } else {
                std::fs::File::create(name).unwrap();
            }
        }
        let found = paths(dir.path(), &Everything);
        assert_eq!(found.len(), 2 + count + count.div_ceil(1000));
        assert!(found[1..].is_sorted_by(|a, b| compare_paths(a, b).is_lt()));
    }

    // What is deleted while the walk is under way is not part of the tree, and ends nothing.
    #[test]
    fn a_large_directory_that_loses_its_entries_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..2 * BATCH {
            std::fs::File::create(dir.path().join(format!("{i:06}"))).unwrap();
        }
        let fd = rustix::fs::open(dir.path(), rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
        let mut found = 0;
        walk::<io::Error>(fd, &Everything, 2, &mut |visit| {
            assert!(visit.problems.is_empty());
            if found == 10 {
                for i in BATCH..2 * BATCH {
                    std::fs::remove_file(dir.path().join(format!("{i:06}")))?;
                }
            }
            found += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(found, 1 + BATCH);
    }

    #[test]
    fn directories_that_are_deleted_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..100 {
            std::fs::create_dir_all(dir.path().join(format!("{i:03}/inside"))).unwrap();
        }
        let fd = rustix::fs::open(dir.path(), rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
        let mut vanished = 0;
        walk::<io::Error>(fd, &Everything, 0, &mut |visit| {
            assert!(visit.problems.iter().all(WalkProblem::has_vanished), "{:?}", visit.problems);
            assert_eq!(visit.opened.is_none(), visit.problems.len() == 1);
            vanished += visit.problems.len();
            if visit.path == b"000" {
                for i in 1..100 {
                    std::fs::remove_dir_all(dir.path().join(format!("{i:03}")))?;
                }
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(vanished, 99);
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
