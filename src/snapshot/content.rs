//! Reading a file's content into chunks. Small files go straight into a frame; large ones are cut,
//! and their pieces shared with other workers, so that one large file keeps every processor busy.

use std::io::{self, Read as _};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};
use rustix::io::Errno;

use crate::base::id::ChunkId;
use crate::chunker::Cutter;
use crate::format::manifest::MAX_CHUNKS;
use crate::repo::RepoError;
use crate::repo::pack_writer::PackWriter;
use crate::sys::sha256;

/// A worker cuts this much of a large file at a time, beyond one chunk of average size.
const PIECE: usize = 512 << 10;

/// A stretch of a large file, cut.
pub struct Piece {
    number: usize,
    bytes: Vec<u8>,
    cuts: Vec<Range<usize>>,
    done: Sender<(usize, Vec<ChunkId>)>,
}

/// A stream that is being cut.
struct Cutting {
    // the chunks of each piece, in order
    chunks: Vec<Vec<ChunkId>>,
    // pieces that another worker has
    outside: usize,
    done: Sender<(usize, Vec<ChunkId>)>,
    finished: Receiver<(usize, Vec<ChunkId>)>,
}

impl Cutting {
    fn new() -> Self {
        let (done, finished) = crossbeam_channel::unbounded();
        Self { chunks: Vec::new(), outside: 0, done, finished }
    }

    fn take(&mut self, (number, ids): (usize, Vec<ChunkId>)) {
        self.chunks[number] = ids;
        self.outside -= 1;
    }
}

/// Memory of pieces, for the next ones: all workers together need less than each by itself.
#[derive(Default)]
pub struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    /// So many are kept.
    const MOST: usize = 2;

    // Memory, empty.
    fn take(&self) -> Vec<u8> {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        bytes.clear();
        bytes
    }

    // Keeps what is no larger than most.
    fn keep(&self, bytes: Vec<u8>, usual: usize) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < Self::MOST && bytes.capacity() <= usual {
            spare.push(bytes);
        }
    }
}

/// Why content could not be stored: the source's fault or the repository's.
pub enum ContentError {
    /// The file cannot be read.
    Source(io::Error),
    /// The stream has more chunks than a manifest's line can hold.
    TooLong,
    /// The repository cannot be written.
    Repo(RepoError),
}

/// What [`ContentError::TooLong`] means, in words.
pub const TOO_LONG: &str = "the list of its chunks is longer than the format allows";

impl From<RepoError> for ContentError {
    fn from(error: RepoError) -> Self {
        Self::Repo(error)
    }
}

impl From<Errno> for ContentError {
    fn from(error: Errno) -> Self {
        Self::Source(error.into())
    }
}

/// How workers share pieces.
pub struct Share<'w> {
    /// Pieces that wait for somebody.
    pub pieces: (Sender<Piece>, Receiver<Piece>),
    /// A worker gave up.
    pub stopped: &'w AtomicBool,
    /// Memory for pieces.
    pub spare: Arc<Spare>,
}

/// Stores content: one for each worker.
pub struct ContentWriter<'w> {
    /// Where it goes.
    pub packs: PackWriter<'w>,
    cutter: Cutter,
    share: Option<Share<'w>>,
    spare: Arc<Spare>,
}

/// The chunks of a file.
pub enum Chunks {
    /// These.
    Known(Vec<ChunkId>),
    /// One, whose id comes from [`PackWriter::settled`].
    Held,
}

/// Gives the bytes of a stream in order.
pub trait Source {
    /// Appends some bytes, up to `limit` in all; returns how many, 0 at the end.
    fn append(&mut self, bytes: &mut Vec<u8>, limit: usize) -> Result<usize, ContentError>;
}

impl<'w> ContentWriter<'w> {
    /// A writer that shares pieces of large files through these channels, if there are any.
    pub fn new(packs: PackWriter<'w>, cutter: Cutter, share: Option<Share<'w>>) -> Self {
        let spare = share.as_ref().map_or_else(Arc::default, |share| Arc::clone(&share.spare));
        Self { packs, cutter, share, spare }
    }

    /// Up to this many bytes a stream is one chunk.
    pub fn small(&self) -> usize {
        self.cutter.minimum()
    }

    /// Stores a file of at most [`Self::small`] bytes, reading no more than `size` bytes; returns how many
    /// there were.
    pub fn store_small(&mut self, fd: BorrowedFd<'_>, size: usize) -> Result<(u64, Chunks), ContentError> {
        let (start, raw) = self.packs.begin(size)?;
        raw.reserve(size + 1);
        let read = read_up_to(fd, raw, size);
        let have = self.packs.content(start).len();
        if have == 0 || read.is_err() {
            self.packs.abandon(start);
            read?;
            return Ok((0, Chunks::Known(Vec::new())));
        }
        self.packs.hold(start);
        Ok((have as u64, Chunks::Held))
    }

    /// Takes back what was read last, if it is held.
    pub fn forget(&mut self, chunks: Chunks) {
        if matches!(chunks, Chunks::Held) {
            self.packs.drop_held();
        }
    }

    /// Stores a stream; returns its length and chunks. `size` is its length if that is known before.
    pub fn store_stream(
        &mut self,
        source: &mut dyn Source,
        size: Option<u64>,
    ) -> Result<(u64, Vec<ChunkId>), ContentError> {
        let mut cutting = Cutting::new();
        let (mut total, mut listed) = (0, 0);
        let mut bytes = self.spare.take();
        loop {
            let (cutter, end) = match size {
                Some(size) => (self.cutter.for_stream(size), u64::MAX),
                None => self.cutter.for_stream_at(total),
            };
            let piece = PIECE + cutter.average();
            let mut last = fill(source, &mut bytes, piece)?;
            let mut cuts = cutter.cut(&bytes, last);
            if cuts.is_empty() && !last {
                // a chunk that is longer than most
                last = fill(source, &mut bytes, piece.max(cutter.maximum()))?;
                cuts = cutter.cut(&bytes, last);
            }
            // what begins behind the end is cut again, into larger chunks
            if let Some(few) = cuts.iter().position(|cut| total + cut.start as u64 >= end) {
                cuts.truncate(few);
                last = false;
            }
            let used = cuts.last().map_or(0, |c| c.end);
            total += used as u64;
            listed += cuts.len();
            if listed > MAX_CHUNKS {
                return Err(ContentError::TooLong);
            }
            if !(last && cutting.chunks.is_empty()) && self.wants_pieces() {
                bytes = self.share_piece(&mut cutting, bytes, cuts)?;
            } else {
                cutting.chunks.push(self.store_cuts(&bytes, &cuts)?);
                bytes.drain(..used);
            }
            if last {
                break;
            }
        }
        self.keep(bytes);
        while cutting.outside > 0 {
            if let Ok(piece) = cutting.finished.try_recv() {
                cutting.take(piece);
            } else if !self.help()?
                && let Ok(piece) = cutting.finished.recv_timeout(std::time::Duration::from_millis(2))
            {
                cutting.take(piece);
            }
        }
        Ok((total, cutting.chunks.into_iter().flatten().collect()))
    }

    fn wants_pieces(&self) -> bool {
        self.share.as_ref().is_some_and(|share| !share.pieces.0.is_full())
    }

    // Offers a piece to the other workers, or stores it if another one was faster; returns what comes
    // after its cuts.
    fn share_piece(
        &mut self,
        cutting: &mut Cutting,
        bytes: Vec<u8>,
        cuts: Vec<Range<usize>>,
    ) -> Result<Vec<u8>, ContentError> {
        let mut next = self.spare.take();
        next.extend_from_slice(&bytes[cuts.last().map_or(0, |c| c.end)..]);
        let piece = Piece { number: cutting.chunks.len(), bytes, cuts, done: cutting.done.clone() };
        cutting.chunks.push(Vec::new());
        match self.offer(piece) {
            Ok(()) => cutting.outside += 1,
            Err(piece) => {
                cutting.chunks[piece.number] = self.store_cuts(&piece.bytes, &piece.cuts)?;
                self.keep(piece.bytes);
            }
        }
        Ok(next)
    }

    fn offer(&mut self, piece: Piece) -> Result<(), Piece> {
        let Some(share) = &self.share else { return Err(piece) };
        share.pieces.0.try_send(piece).map_err(|e| match e {
            TrySendError::Full(piece) | TrySendError::Disconnected(piece) => piece,
        })
    }

    // Takes a piece that waits for somebody, perhaps one of our own.
    fn help(&mut self) -> Result<bool, ContentError> {
        let Some(share) = &self.share else { return Ok(false) };
        // the worker that took a piece may be the one that gave up
        if share.stopped.load(Ordering::Relaxed) {
            return Err(RepoError::Interrupted.into());
        }
        match share.pieces.1.try_recv() {
            Ok(piece) => {
                self.store_piece(piece)?;
                Ok(true)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => Ok(false),
        }
    }

    /// Stores a piece that another worker cut.
    pub fn store_piece(&mut self, piece: Piece) -> Result<(), RepoError> {
        let ids = self.store_cuts(&piece.bytes, &piece.cuts)?;
        // the worker that cut it may have given up
        let _ = piece.done.send((piece.number, ids));
        self.keep(piece.bytes);
        Ok(())
    }

    fn store_cuts(&mut self, bytes: &[u8], cuts: &[Range<usize>]) -> Result<Vec<ChunkId>, RepoError> {
        let contents = || cuts.iter().map(|cut| &bytes[cut.clone()]);
        let mut ids = vec![ChunkId([0; 32]); cuts.len()];
        sha256::each(contents(), |number, hash| ids[number] = ChunkId(hash));
        for (id, content) in ids.iter().zip(contents()) {
            self.packs.add_hashed(*id, content)?;
        }
        Ok(ids)
    }

    fn keep(&self, bytes: Vec<u8>) {
        self.spare.keep(bytes, PIECE + self.cutter.average());
    }
}

fn read_up_to(fd: BorrowedFd<'_>, raw: &mut Vec<u8>, size: usize) -> Result<(), Errno> {
    let end = raw.len() + size;
    // a regular file gives everything at once; only when it does not is it asked again
    while raw.len() < end {
        match rustix::io::read(fd, rustix::buffer::spare_capacity(raw)) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    raw.truncate(end);
    Ok(())
}

fn fill(source: &mut dyn Source, bytes: &mut Vec<u8>, piece: usize) -> Result<bool, ContentError> {
    bytes.reserve_exact(piece.saturating_sub(bytes.len()));
    while bytes.len() < piece {
        if source.append(bytes, piece)? == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The data of an open file, holes left out, up to the size it had when it was opened.
pub struct FileSource<'f> {
    fd: BorrowedFd<'f>,
    segments: std::vec::IntoIter<(u64, u64)>,
    at: u64,
    left: u64,
    /// How far the file was read: less than its size if it was cut short meanwhile.
    pub ended_early: Option<u64>,
}

impl<'f> FileSource<'f> {
    /// Reads these stretches (offset, length).
    pub fn new(fd: BorrowedFd<'f>, segments: Vec<(u64, u64)>) -> Self {
        Self { fd, segments: segments.into_iter(), at: 0, left: 0, ended_early: None }
    }
}

impl Source for FileSource<'_> {
    fn append(&mut self, bytes: &mut Vec<u8>, limit: usize) -> Result<usize, ContentError> {
        if self.left == 0 {
            match self.segments.next() {
                Some((offset, length)) => (self.at, self.left) = (offset, length),
                None => return Ok(0),
            }
        }
        let have = bytes.len();
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(limit - have);
        let read = loop {
            match rustix::io::pread(self.fd, rustix::buffer::spare_capacity(bytes), self.at) {
                Err(Errno::INTR) => {}
                other => break other?.min(want),
            }
        };
        // more may have come than this stretch holds: what follows it is a hole, or was appended since
        bytes.truncate(have + read);
        if read == 0 {
            self.ended_early = Some(self.at);
            self.segments = Vec::new().into_iter();
            self.left = 0;
            return Ok(0);
        }
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

/// The output of a command.
pub struct StreamSource<R>(pub R);

impl<R: io::Read> Source for StreamSource<R> {
    fn append(&mut self, bytes: &mut Vec<u8>, limit: usize) -> Result<usize, ContentError> {
        let want = (limit - bytes.len()) as u64;
        self.0.by_ref().take(want.min(64 << 10)).read_to_end(bytes).map_err(ContentError::Source)
    }
}
