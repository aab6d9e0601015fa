//! What files need, gathered by the frame that has it. Frames that were not asked for lately are
//! handed to a worker; so each frame is decoded about once, in little memory.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use super::directory::Directory;
use crate::base::id::ChunkId;
use crate::format::manifest::Entry;
use crate::repo::Place;
use crate::sys::host::open_files;

/// Parts that may wait for their frame.
const MAX_PARTS: usize = 12_288;
/// Directories that may be held open, where the process may open that many files.
const MAX_OPEN: usize = 600;
/// The same here: most of what may be opened is left to files and to the directories around what is being made.
static MOST_OPEN: LazyLock<usize> = LazyLock::new(|| {
    let quarter = open_files().map_or(u64::MAX, |most| most / 4);
    usize::try_from(quarter).unwrap_or(usize::MAX).min(MAX_OPEN)
});
/// Entries without content that are handed over together.
const SMALL_BATCH: usize = 128;
/// Files that may be taken over and are handed over together.
const TAKE_BATCH: usize = 32;

/// An open file, and the temporary name it has if it replaces another.
pub type Opened = (OwnedFd, Option<Vec<u8>>);

/// Where a file's content goes.
pub struct FileTarget<'o> {
    /// The directory.
    pub dir: Arc<Directory<'o>>,
    /// Its name there.
    pub name: Vec<u8>,
    /// Its path in the target, for messages.
    pub path: Vec<u8>,
    /// What it is to be.
    pub entry: Entry,
    /// Something is at that name already: write beside it, then exchange.
    pub replace: bool,
    /// What SQLite has beside that goes when this comes in its place.
    pub clears: bool,
    /// Parts that are not written yet.
    pub left: AtomicU64,
    /// Some part could not be written.
    pub failed: AtomicBool,
    /// The open file, and the temporary name it has if it replaces another.
    pub open: OnceLock<Result<Opened, String>>,
    /// Held while the file is opened.
    pub opening: Mutex<()>,
}

/// A chunk that goes to a place in a file's stream.
pub struct Part<'o> {
    /// The file.
    pub file: Arc<FileTarget<'o>>,
    /// The chunk.
    pub chunk: ChunkId,
    /// Where it is.
    pub place: Place,
    /// Where it goes in the stream.
    pub at: u64,
}

/// What a worker does at a time.
pub enum Job<'o> {
    /// Decode a frame and write its parts.
    Frame { pack: u32, frame: u32, parts: Vec<Part<'o>> },
    /// Take over what the living tree has.
    Take(Vec<Arc<FileTarget<'o>>>),
    /// Make entries that have no content.
    Small(Vec<Arc<FileTarget<'o>>>),
}

struct Waiting<'o> {
    parts: Vec<Part<'o>>,
    touched: u64,
}

/// Gathers.
#[derive(Default)]
pub struct Batch<'o> {
    frames: HashMap<(u32, u32), Waiting<'o>>,
    parts: usize,
    clock: u64,
    small: Vec<Arc<FileTarget<'o>>>,
    taken: Vec<Arc<FileTarget<'o>>>,
}

impl<'o> Batch<'o> {
    /// Adds a part.
    pub fn add(&mut self, part: Part<'o>) {
        self.clock += 1;
        let key = (part.place.pack, part.place.frame);
        let waiting = self.frames.entry(key).or_insert_with(|| Waiting { parts: Vec::new(), touched: 0 });
        waiting.touched = self.clock;
        waiting.parts.push(part);
        self.parts += 1;
    }

    /// Adds an entry without content.
    pub fn add_small(&mut self, file: Arc<FileTarget<'o>>) -> Option<Job<'o>> {
        self.small.push(file);
        (self.small.len() >= SMALL_BATCH).then(|| Job::Small(std::mem::take(&mut self.small)))
    }

    /// Adds a file that the living tree may have.
    pub fn add_taken(&mut self, file: Arc<FileTarget<'o>>) -> Option<Job<'o>> {
        self.taken.push(file);
        (self.taken.len() >= TAKE_BATCH).then(|| Job::Take(std::mem::take(&mut self.taken)))
    }

    /// What should be handed over now, so that not too much waits.
    pub fn due(&mut self, open: usize) -> Vec<Job<'o>> {
        if open > *MOST_OPEN {
            return self.all();
        }
        if self.parts <= MAX_PARTS {
            return Vec::new();
        }
        // frames not asked for during the last half of what waits are probably complete
        let horizon = self.clock.saturating_sub(MAX_PARTS as u64 / 2);
        let jobs = self.take(|waiting| waiting.touched < horizon);
        if self.parts > MAX_PARTS { self.all() } else { jobs }
    }

    /// Everything.
    pub fn all(&mut self) -> Vec<Job<'o>> {
        let mut jobs = self.take(|_| true);
        if !self.small.is_empty() {
            jobs.push(Job::Small(std::mem::take(&mut self.small)));
        }
        if !self.taken.is_empty() {
            jobs.push(Job::Take(std::mem::take(&mut self.taken)));
        }
        jobs
    }

    fn take(&mut self, wanted: impl Fn(&Waiting<'o>) -> bool) -> Vec<Job<'o>> {
        let mut keys: Vec<_> = self.frames.iter().filter(|(_, w)| wanted(w)).map(|(key, _)| *key).collect();
        keys.sort_unstable();
        let mut jobs = Vec::with_capacity(keys.len());
        for (pack, frame) in keys {
            if let Some(waiting) = self.frames.remove(&(pack, frame)) {
                self.parts -= waiting.parts.len();
                jobs.push(Job::Frame { pack, frame, parts: waiting.parts });
            }
        }
        jobs
    }
}

impl<'o> FileTarget<'o> {
    /// A target whose content consists of this many parts.
    pub fn new(dir: Arc<Directory<'o>>, name: Vec<u8>, path: Vec<u8>, entry: Entry, replace: bool) -> Self {
        let left = AtomicU64::new(entry.chunks.len() as u64);
        let (failed, open, opening) = (AtomicBool::new(false), OnceLock::new(), Mutex::new(()));
        Self { dir, name, path, entry, replace, clears: false, left, failed, open, opening }
    }

    /// The same, and what SQLite has beside it goes: not before it is whole, so it is never written in place.
    pub fn clearing(self, clears: bool) -> Self {
        Self { replace: self.replace || clears, clears, ..self }
    }

    /// Notes that a part is done; true for the last one.
    pub fn part_done(&self) -> bool {
        self.left.fetch_sub(1, Ordering::AcqRel) == 1
    }
}
