//! Files whose content must be read for a comparison: read and hashed by several threads, answered in order.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, TryRecvError};
use rustix::fs::OFlags;

use super::compare::{self, Kind};
use crate::format::manifest::Entry;
use crate::repo::chunk_index::ChunkIndex;
use crate::repo::content::Streams;
use crate::sys::attributes::{Handle, flags, holes, xattrs};
use crate::tree::live::open_in;

/// Files that are handed over together.
const BATCH: usize = 32;
/// As soon as they have so many bytes, fewer are handed over.
const BATCH_BYTES: u64 = 1 << 20;
/// Changes that are known already and wait for a file before them.
const KNOWN: usize = 1024;
/// Batches for each reader that may wait or be read at a time. Each file in them holds its directory open.
const AHEAD: usize = 3;
/// After so long without a free reader, whoever waits reads for himself.
const PATIENCE: Duration = Duration::from_millis(50);

/// Why nothing comes any more from a reader: it has ended in the middle of its work.
const ENDED: &str = "a thread that read files has ended";

/// A change: which, and in what besides content.
pub type Difference = (Kind, Vec<&'static str>);

/// A file of both sides.
pub struct Pair {
    /// Of the snapshot.
    pub old: Entry,
    /// Of the living tree, as far as `lstat` says.
    pub new: Entry,
    /// The directory that holds it.
    pub dir: Arc<OwnedFd>,
    /// Its name there.
    pub name: Box<[u8]>,
}

/// What was found.
pub enum Found {
    /// How a file differs, if it does, or why it could not be read.
    File(Box<Entry>, io::Result<Option<Difference>>),
    /// What was known before.
    Known(Vec<u8>, Difference),
}

enum Item {
    Pair(Box<Pair>),
    Known(Vec<u8>, Difference),
}

// What a reader has begun with; a file by its number among those that are hashed together.
enum Begun {
    File(Box<Pair>, io::Result<Option<usize>>),
    Known(Vec<u8>, Difference),
}

/// Some work, and where its answer goes.
pub struct Batch {
    items: Vec<Item>,
    answer: Sender<Vec<Found>>,
}

/// The side of the one who asks.
pub struct Asked<'i> {
    index: &'i ChunkIndex,
    to: Sender<Batch>,
    // what no reader has taken yet
    waiting: Receiver<Batch>,
    room: usize,
    open: VecDeque<Receiver<Vec<Found>>>,
    items: Vec<Item>,
    pairs: usize,
    bytes: u64,
}

impl<'i> Asked<'i> {
    /// For so many readers, and where each of them finds its work.
    pub fn new(index: &'i ChunkIndex, readers: usize) -> (Self, Receiver<Batch>) {
        let (to, waiting) = crossbeam_channel::bounded(readers.max(1));
        let (room, readers) = (readers.max(1) * AHEAD, waiting.clone());
        let (open, items) = (VecDeque::new(), Vec::new());
        (Self { index, to, waiting, room, open, items, pairs: 0, bytes: 0 }, readers)
    }

    /// True if nothing waits for an answer: what is known now is the next.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty() && self.items.is_empty()
    }

    /// Asks for a file.
    ///
    /// # Errors
    /// If a reader has ended.
    pub fn ask(&mut self, pair: Pair) -> io::Result<()> {
        self.bytes += pair.old.stat.size;
        self.pairs += 1;
        self.items.push(Item::Pair(Box::new(pair)));
        if self.pairs >= BATCH || self.bytes >= BATCH_BYTES { self.hand_over() } else { Ok(()) }
    }

    /// Puts a change after what was asked for.
    ///
    /// # Errors
    /// If a reader has ended.
    pub fn say(&mut self, path: Vec<u8>, difference: Difference) -> io::Result<()> {
        self.items.push(Item::Known(path, difference));
        if self.items.len() >= KNOWN { self.hand_over() } else { Ok(()) }
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let (answer, answered) = crossbeam_channel::bounded(1);
        let batch = Batch { items: std::mem::take(&mut self.items), answer };
        (self.pairs, self.bytes) = (0, 0);
        self.open.push_back(answered);
        match self.to.send_timeout(batch, PATIENCE) {
            Ok(()) => Ok(()),
            Err(SendTimeoutError::Timeout(batch)) => {
                read(batch, &mut Streams::new(self.index));
                Ok(())
            }
            Err(SendTimeoutError::Disconnected(_)) => Err(io::Error::other(ENDED)),
        }
    }

    /// What was found next, if it is known or there is no room for more; at the `end`, all that was asked for.
    ///
    /// # Errors
    /// If a reader has ended.
    pub fn next(&mut self, end: bool) -> io::Result<Option<Vec<Found>>> {
        if end && !self.items.is_empty() {
            self.hand_over()?;
        }
        let Some(first) = self.open.front() else { return Ok(None) };
        let found = if end || self.open.len() >= self.room {
            self.wait_for(first)?
        } else {
            match first.try_recv() {
                Ok(found) => found,
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Disconnected) => return Err(io::Error::other(ENDED)),
            }
        };
        self.open.pop_front();
        Ok(Some(found))
    }

    fn wait_for(&self, first: &Receiver<Vec<Found>>) -> io::Result<Vec<Found>> {
        loop {
            match first.recv_timeout(PATIENCE) {
                Ok(found) => return Ok(found),
                Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other(ENDED)),
                // all readers may be at something else
                Err(RecvTimeoutError::Timeout) => {
                    if let Ok(batch) = self.waiting.try_recv() {
                        read(batch, &mut Streams::new(self.index));
                    }
                }
            }
        }
    }
}

/// Reads what is asked for until nothing will be any more.
pub fn serve(work: &Receiver<Batch>, index: &ChunkIndex) {
    let mut streams = Streams::new(index);
    for batch in work {
        read(batch, &mut streams);
    }
}

fn read(batch: Batch, streams: &mut Streams<'_>) {
    let mut begun = Vec::with_capacity(batch.items.len());
    for item in batch.items {
        begun.push(match item {
            Item::Known(path, difference) => Begun::Known(path, difference),
            Item::Pair(mut pair) => {
                let number = begin(&mut pair, streams);
                Begun::File(pair, number)
            }
        });
    }
    let same = streams.finish();
    let found = begun.into_iter().map(|begun| match begun {
        Begun::Known(path, difference) => Found::Known(path, difference),
        Begun::File(pair, number) => {
            let Pair { old, mut new, .. } = *pair;
            let differs = number.map(|number| {
                if number.and_then(|number| same.get(number)) == Some(&true) {
                    // where zeros are stored and where they are holes is no change of content
                    new.holes.clone_from(&old.holes);
                    new.chunks.clone_from(&old.chunks);
                }
                compare::entries(&old, &new)
            });
            Found::File(Box::new(old), differs)
        }
    });
    // whoever asked may have given up
    let _ = batch.answer.send(found.collect());
}

// Fills in what `lstat` does not say, and reads the content, unless it is known to be another: then it has no number.
fn begin(pair: &mut Pair, streams: &mut Streams<'_>) -> io::Result<Option<usize>> {
    let Pair { old, new, dir, name } = pair;
    let opened = open_in(dir.as_fd(), name, OFlags::RDONLY)?;
    new.xattrs = xattrs(Handle::Open(opened.as_fd()))?;
    new.flags = flags(opened.as_fd());
    if new.stat.size != old.stat.size {
        return Ok(None);
    }
    let same_holes = holes(opened.as_fd(), new.stat.size)? == old.holes;
    let file = File::from(opened);
    if !same_holes && !are_zero(&file, &old.holes)? {
        return Ok(None);
    }
    streams.add(&file, old).map(Some)
}

fn are_zero(file: &File, holes: &[(u64, u64)]) -> io::Result<bool> {
    for &hole in holes {
        if !is_zero(file, hole)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_zero(file: &File, (offset, length): (u64, u64)) -> io::Result<bool> {
    let mut buffer = [0; 64 << 10];
    let mut done = 0;
    while done < length {
        let now = (length - done).min(buffer.len() as u64) as usize;
        match file.read_exact_at(&mut buffer[..now], offset + done) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            other => other?,
        }
        if buffer[..now].iter().any(|&b| b != 0) {
            return Ok(false);
        }
        done += now as u64;
    }
    Ok(true)
}
