//! Reading packs: each once, from its beginning to its end; frames are decoded and hashed on the way.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use super::{Depth, Options, Selection};
use crate::base::error::causes;
use crate::base::event::{Event, Observer};
use crate::base::id::{ChunkId, PackId};
use crate::format::FormatError;
use crate::format::frame::Decoder;
use crate::format::pack::{BLOCK, FOOTER, SeekTable, Table, header};
use crate::repo::chunk_index::Pack;
use crate::repo::load::read_table;
use crate::repo::reader::have_their_hashes;
use crate::repo::{ChunkIndex, Place, Repo, RepoError, Result};
use crate::store::{Key, Store};

/// The table's frame and the seek table together are never larger.
const MAX_TAIL: u64 = 68 << 20;
/// How much is read at once where nothing is decoded.
const PIECE: usize = 1 << 20;

/// What was found in one pack.
#[derive(Clone, Debug, Default)]
pub struct PackState {
    /// The first thing that is wrong with its bytes.
    pub why: Option<String>,
    /// Its chunks that cannot be read: where the index differs, those that it does not find.
    pub bad: Vec<ChunkId>,
    /// The numbers of its frames that are whole.
    pub good_frames: Vec<u32>,
    /// The index says something else than the pack itself.
    pub differs: bool,
    // whether all its bytes have its name's hash, once all were read
    has_its_hash: Option<bool>,
}

impl PackState {
    fn note(&mut self, why: impl ToString) {
        self.why.get_or_insert_with(|| why.to_string());
    }
}

/// What was found, pack by pack number.
pub type States = HashMap<u32, PackState>;

/// Finds a pack's chunks in the order in which they lie.
pub struct Layout {
    by_place: Vec<u32>,
    copies: HashMap<u32, Vec<(ChunkId, Place)>>,
}

impl Layout {
    /// The layout of every pack.
    pub fn of(index: &ChunkIndex) -> Self {
        let mut copies: HashMap<u32, Vec<_>> = HashMap::new();
        for (id, place) in index.copies() {
            copies.entry(place.pack).or_default().push((id, place));
        }
        Self { by_place: index.by_place(), copies }
    }

    /// The chunks of a pack.
    pub fn members(&self, index: &ChunkIndex, pack: u32) -> Vec<(ChunkId, Place)> {
        let of = |n: &u32| index.entry(*n).map_or(u32::MAX, |(_, place)| place.pack);
        let start = self.by_place.partition_point(|n| of(n) < pack);
        let here = self.by_place[start..].iter().take_while(|n| of(n) == pack);
        let mut members: Vec<_> = here.filter_map(|n| index.entry(*n)).collect();
        if let Some(copies) = self.copies.get(&pack) {
            members.extend_from_slice(copies);
            members.sort_unstable_by_key(|(_, place)| (place.frame, place.offset));
        }
        members
    }
}

/// Checks packs. One for each thread: its memory is used again.
pub struct Checker<'r> {
    store: &'r dyn Store,
    index: &'r ChunkIndex,
    decoder: Decoder,
    stored: Vec<u8>,
    raw: Vec<u8>,
}

impl<'r> Checker<'r> {
    /// A checker of these packs.
    ///
    /// # Errors
    /// If the decoder gets no memory.
    pub fn new(store: &'r dyn Store, index: &'r ChunkIndex) -> Result<Self> {
        let decoder = Decoder::new().map_err(RepoError::io("start the decoder"))?;
        Ok(Self { store, index, decoder, stored: Vec::new(), raw: Vec::new() })
    }

    /// Reads every stored byte. True if the index says of the pack what the pack says.
    ///
    /// # Errors
    /// Why the bytes are not what the pack's name says.
    fn hash(&mut self, number: u32, progress: &dyn Fn(u64)) -> std::result::Result<bool, String> {
        let pack = self.index.pack(number).ok_or("it is not known")?;
        let id = pack.id.ok_or("it has no name")?;
        let (key, mut hasher, mut at) = (Key::pack(id), Sha256::new(), 0);
        let tail = tail_of(pack);
        while at < pack.bytes {
            let len = match tail {
                // at once, to be decoded from there
                Some(tail) if at == tail => pack.bytes - at,
                tail => (tail.unwrap_or(pack.bytes) - at).min(PIECE as u64),
            } as usize;
            self.stored.resize(len, 0);
            self.store.read_at(&key, at, &mut self.stored).map_err(|e| causes(&e))?;
            hasher.update(&self.stored);
            at += len as u64;
            progress(len as u64);
        }
        let hash: [u8; 32] = hasher.finalize().into();
        if hash != id.0 {
            return Err(WRONG_HASH.to_owned());
        }
        let told = |table: Table| self.index.describes(number, pack.bytes, &table);
        Ok(tail.is_some() && self.decode_tail(pack.bytes).is_ok_and(told))
    }

    /// Decodes every frame and compares every byte with what it must be.
    pub fn decode(&mut self, number: u32, members: &[(ChunkId, Place)], progress: &dyn Fn(u64)) -> PackState {
        let state = self.decode_as_indexed(number, members, progress);
        if state.why.is_none() {
            return state;
        }
        // an index that is wrong makes a whole pack look damaged
        let is_right = state.has_its_hash.unwrap_or_else(|| self.hash(number, &|_| ()).is_ok());
        if is_right { self.told_wrongly(number, state) } else { state }
    }

    /// What is so of a pack whose bytes are right although the index does not find them so: what the pack says of itself
    /// counts. `indexed` is what was found by the index.
    fn told_wrongly(&self, number: u32, indexed: PackState) -> PackState {
        let Some((pack, id)) = self.index.pack(number).and_then(|p| p.id.map(|id| (p, id))) else {
            return indexed;
        };
        let Ok(table) = read_table(self.store, id, pack.bytes) else { return indexed };
        let mut own = ChunkIndex::default();
        let own_number = own.add_pack(id, pack.bytes, &table);
        let members = Layout::of(&own).members(&own, own_number);
        let Ok(mut checker) = Checker::new(self.store, &own) else { return indexed };
        let found = checker.decode_as_indexed(own_number, &members, &|_| ());
        if found.why.is_some() {
            let differs = !self.index.describes(number, pack.bytes, &table);
            return PackState { differs, ..found };
        }
        let unknown = own.iter().map(|(id, _)| *id).filter(|id| self.index.get(id).is_none());
        let bad = indexed.bad.into_iter().chain(unknown).collect();
        PackState { why: None, bad, differs: true, ..found }
    }

    fn decode_as_indexed(
        &mut self,
        number: u32,
        members: &[(ChunkId, Place)],
        progress: &dyn Fn(u64),
    ) -> PackState {
        let mut state = PackState::default();
        let Some((pack, id)) = self.index.pack(number).and_then(|p| p.id.map(|id| (p, id))) else {
            return state;
        };
        let (key, mut hasher, mut readable) = (Key::pack(id), Sha256::new(), true);
        let mut frames = members.chunk_by(|a, b| a.1.frame == b.1.frame).peekable();
        for (frame, place) in (0u32..).zip(&pack.frames) {
            let chunks =
                frames.next_if(|c| c.first().is_some_and(|m| m.1.frame == frame)).unwrap_or_default();
            self.stored.resize(place.bytes as usize, 0);
            let read = self.store.read_at(&key, place.offset, &mut self.stored);
            progress(u64::from(place.bytes));
            let checked = match read {
                Ok(()) => {
                    hasher.update(&self.stored);
                    self.check_frame(place.raw, chunks)
                }
                Err(e) => {
                    readable = false;
                    Err(BadFrame { why: causes(&e), chunks: all(chunks) })
                }
            };
            match checked {
                Ok(()) => state.good_frames.push(frame),
                Err(bad) => {
                    state.note(format!("frame {frame}: {}", bad.why));
                    state.bad.extend(bad.chunks);
                }
            }
        }
        let tail = self.read_tail(pack, &key);
        if tail.is_ok() && readable {
            hasher.update(&self.stored);
            state.has_its_hash = Some(<[u8; 32]>::from(hasher.finalize()) == id.0);
        }
        match tail.and_then(|()| self.is_as_told(pack, members)) {
            Ok(same) => state.differs = !same,
            Err(why) => state.note(why),
        }
        if state.has_its_hash == Some(false) {
            state.note(WRONG_HASH);
        }
        state
    }

    fn check_frame(
        &mut self,
        raw_size: u32,
        chunks: &[(ChunkId, Place)],
    ) -> std::result::Result<(), BadFrame> {
        let decoded = self.decoder.decode(&self.stored, raw_size.into(), &mut self.raw);
        // a frame that does not decode gives none of its chunks
        decoded.map_err(|e| BadFrame { why: causes(&e), chunks: all(chunks) })?;
        let (mut end, mut contents) = (0, Vec::with_capacity(chunks.len()));
        for (id, place) in chunks {
            let start = place.offset as usize;
            let size = place.size as usize;
            let next = start + size.next_multiple_of(BLOCK);
            let in_place = start == end + BLOCK
                && next <= self.raw.len()
                && self.raw[end..start] == header(id, place.size)
                && self.raw[start + size..next].iter().all(|&b| b == 0);
            contents.push(in_place.then(|| &self.raw[start..start + size]));
            end = next;
        }
        let good = have_their_hashes(chunks.iter().map(|c| c.0), &contents);
        let bad: Vec<_> = chunks.iter().zip(good).filter(|(_, good)| !good).map(|(c, _)| c.0).collect();
        let whole = bad.is_empty() && end == self.raw.len();
        if whole { Ok(()) } else { Err(BadFrame { why: BAD_CHUNK.to_owned(), chunks: bad }) }
    }

    fn read_tail(&mut self, pack: &Pack, key: &Key) -> std::result::Result<(), String> {
        let start = tail_of(pack).ok_or("its frames do not fill it")?;
        self.stored.resize((pack.bytes - start) as usize, 0);
        self.store.read_at(key, start, &mut self.stored).map_err(|e| causes(&e))
    }

    // True if the pack's own table, which was just read, says what the index says.
    fn is_as_told(&mut self, pack: &Pack, members: &[(ChunkId, Place)]) -> std::result::Result<bool, String> {
        let table = self.decode_tail(pack.bytes).map_err(|e| e.to_string())?;
        let mut chunks = members.iter();
        let mut same = table.kind == pack.kind && table.frames.len() == pack.frames.len();
        for ((info, place), frame) in table.frames.iter().zip(&pack.frames).zip(0u32..) {
            same &= info.bytes == place.bytes;
            same &= info.places().all(|(id, offset, size)| {
                chunks.next() == Some(&(id, Place { pack: chunk_pack(members), frame, offset, size }))
            });
        }
        Ok(same && chunks.next().is_none())
    }

    fn decode_tail(&mut self, pack_bytes: u64) -> std::result::Result<Table, FormatError> {
        let short = || FormatError::malformed("a pack", "it is shorter than its seek table");
        let footer = self.stored.last_chunk::<FOOTER>().ok_or_else(short)?;
        let len = SeekTable::len_from_footer(footer)?;
        let at = self.stored.len().checked_sub(len as usize).ok_or_else(short)?;
        let (last, seek) = self.stored.split_at(at);
        let seek = SeekTable::decode(seek, pack_bytes)?;
        let (_, bytes, raw) = seek.last();
        if bytes as usize != last.len() {
            return Err(FormatError::malformed("a pack", "its last frame does not follow its frames"));
        }
        self.decoder.decode(last, raw.into(), &mut self.raw)?;
        let table = Table::from_last_frame(&self.raw)?;
        let listed = table.frames.iter().map(|f| (f.bytes, f.raw_size().unwrap_or_default() as u32));
        if !listed.eq(seek.frames[..seek.frames.len() - 1].iter().copied()) {
            return Err(FormatError::malformed("a pack", "its table and its seek table differ"));
        }
        Ok(table)
    }
}

/// Where the last frame of a pack and its seek table begin, if the index can be right about that.
fn tail_of(pack: &Pack) -> Option<u64> {
    let start = pack.frames.last().map_or(0, |f| f.offset + u64::from(f.bytes));
    let len = pack.bytes.checked_sub(start)?;
    (FOOTER as u64..=MAX_TAIL).contains(&len).then_some(start)
}

struct BadFrame {
    why: String,
    chunks: Vec<ChunkId>,
}

fn all(chunks: &[(ChunkId, Place)]) -> Vec<ChunkId> {
    chunks.iter().map(|(id, _)| *id).collect()
}

const WRONG_HASH: &str = "its bytes do not have the hash that its name says";
const BAD_CHUNK: &str = "its chunks are not what they were";

fn chunk_pack(members: &[(ChunkId, Place)]) -> u32 {
    members.first().map_or(0, |(_, place)| place.pack)
}

/// Reads the packs of these numbers.
///
/// # Errors
/// If the observer interrupts. What is wrong with packs is in the result.
pub fn read_all(
    repo: &Repo,
    index: &ChunkIndex,
    order: &[u32],
    options: &Options,
    observer: &dyn Observer,
) -> Result<States> {
    if order.is_empty() {
        return Ok(States::new());
    }
    let bytes = order.iter().filter_map(|n| index.pack(*n)).map(|p| p.bytes).sum();
    observer.event(Event::Started { step: crate::base::event::Step::Verify, bytes: Some(bytes) });
    // where only bytes are hashed, it is needed for damaged packs alone
    let layout = OnceLock::new();
    let (next, states, began) = (AtomicUsize::new(0), Mutex::new(States::new()), Instant::now());
    let work = || -> Result<()> {
        let mut checker = Checker::new(repo.store(), index)?;
        let progress = |bytes| observer.event(Event::Advanced { entries: 0, bytes });
        loop {
            if observer.interrupted() {
                return Err(RepoError::Interrupted);
            }
            if let Selection::Budget(budget) = options.selection
                && began.elapsed() >= budget
            {
                return Ok(());
            }
            let Some(&number) = order.get(next.fetch_add(1, Ordering::Relaxed)) else { return Ok(()) };
            let state = check_one(&mut checker, index, &layout, number, options.depth, &progress);
            states.lock().unwrap_or_else(PoisonError::into_inner).insert(number, state);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..options.workers.max(1)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|t| t.join().unwrap_or(Err(RepoError::SelfCheck)))
    })?;
    Ok(states.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn check_one(
    checker: &mut Checker<'_>,
    index: &ChunkIndex,
    layout: &OnceLock<Layout>,
    number: u32,
    depth: Depth,
    progress: &dyn Fn(u64),
) -> PackState {
    let members = || layout.get_or_init(|| Layout::of(index)).members(index, number);
    if depth == Depth::Deep {
        return checker.decode(number, &members(), progress);
    }
    if index.pack(number).is_none() {
        return PackState::default();
    }
    // what of it is lost can only be said by decoding it
    match checker.hash(number, progress) {
        Ok(true) => PackState::default(),
        Ok(false) => {
            let indexed = checker.decode_as_indexed(number, &members(), &|_| ());
            checker.told_wrongly(number, indexed)
        }
        Err(why) => {
            let mut state = checker.decode_as_indexed(number, &members(), &|_| ());
            state.why.get_or_insert(why);
            state
        }
    }
}

/// Decodes single packs in which damage was noticed by the way.
///
/// # Errors
/// If the decoder gets no memory.
pub fn read_more(repo: &Repo, index: &ChunkIndex, numbers: &[u32], states: &mut States) -> Result<()> {
    if numbers.is_empty() {
        return Ok(());
    }
    let layout = Layout::of(index);
    let mut checker = Checker::new(repo.store(), index)?;
    for &number in numbers {
        let state = checker.decode(number, &layout.members(index, number), &|_| ());
        states.insert(number, state);
    }
    Ok(())
}

/// The packs that were read and found right, by their names.
pub fn proved(index: &ChunkIndex, states: &States) -> Vec<PackId> {
    let right = states.iter().filter(|(_, state)| state.why.is_none());
    let mut packs: Vec<_> = right.filter_map(|(n, _)| index.pack(*n).and_then(|p| p.id)).collect();
    packs.sort_unstable();
    packs
}
