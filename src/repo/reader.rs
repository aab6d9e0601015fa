//! Reading chunks: find the frame, read its range, decode, compare header and hash.

use std::collections::VecDeque;
use std::sync::Arc;

use super::chunk_index::{ChunkIndex, Place};
use super::{RepoError, Result};
use crate::base::id::{ChunkId, PackId};
use crate::format::frame::Decoder;
use crate::format::pack::{BLOCK, header};
use crate::store::{Key, Store};
use crate::sys::sha256;

/// A decoded frame.
pub struct Frame {
    pack: PackId,
    raw: Vec<u8>,
}

/// Decodes frames. Keep one per thread.
pub struct FrameReader<'r> {
    store: &'r dyn Store,
    index: &'r ChunkIndex,
    decoder: Decoder,
    stored: Vec<u8>,
}

impl<'r> FrameReader<'r> {
    /// A reader of these packs.
    ///
    /// # Errors
    /// If the decoder gets no memory.
    pub fn new(store: &'r dyn Store, index: &'r ChunkIndex) -> Result<Self> {
        let decoder = Decoder::new().map_err(RepoError::io("start the decoder"))?;
        Ok(Self { store, index, decoder, stored: Vec::new() })
    }

    /// Where chunks are.
    pub fn index(&self) -> &'r ChunkIndex {
        self.index
    }

    /// Decodes a frame into memory that is used again (`into` may hold anything).
    ///
    /// # Errors
    /// If the pack cannot be read or the frame is damaged.
    pub fn read_into(&mut self, pack: u32, frame: u32, into: Vec<u8>) -> Result<Frame> {
        self.read_until(pack, frame, u32::MAX, into)
    }

    /// Decodes a frame as far as `end`, or all of it where that costs little more.
    ///
    /// # Errors
    /// If the pack cannot be read or the frame is damaged.
    pub fn read_until(&mut self, pack: u32, frame: u32, end: u32, into: Vec<u8>) -> Result<Frame> {
        let wrong = || RepoError::Key(format!("no frame {frame} in pack number {pack}"));
        let found = self.index.pack(pack).ok_or_else(wrong)?;
        let id = found.id.ok_or_else(wrong)?;
        let place = *found.frames.get(frame as usize).ok_or_else(wrong)?;
        let key = Key::pack(id);
        self.stored.resize(place.bytes as usize, 0);
        self.store.read_at(&key, place.offset, &mut self.stored)?;
        let mut raw = into;
        let decoded = if end < place.raw / 4 * 3 {
            self.decoder.decode_beginning(&self.stored, end.into(), &mut raw)
        } else {
            self.decoder.decode(&self.stored, place.raw.into(), &mut raw)
        };
        decoded.map_err(|source| RepoError::Damaged { key, source })?;
        Ok(Frame { pack: id, raw })
    }

    /// The frame read last, as it is stored.
    pub fn stored(&self) -> &[u8] {
        &self.stored
    }

    /// Decodes a frame.
    ///
    /// # Errors
    /// If the pack cannot be read or the frame is damaged.
    pub fn read(&mut self, pack: u32, frame: u32) -> Result<Frame> {
        self.read_into(pack, frame, Vec::new())
    }
}

impl Frame {
    /// The pack it lies in.
    pub fn pack(&self) -> PackId {
        self.pack
    }

    /// A chunk of this frame, after its header and hash have been compared.
    ///
    /// # Errors
    /// If they are not what they must be.
    pub fn chunk(&self, id: ChunkId, place: Place) -> Result<&[u8]> {
        let content = self.find(id, place)?;
        if ChunkId::of(content) == id { Ok(content) } else { Err(self.wrong_hash(id)) }
    }

    /// As [`Self::chunk`], of many at once, which takes less time for each.
    pub fn chunks(&self, wanted: &[(ChunkId, Place)]) -> Vec<Result<&[u8]>> {
        let mut found: Vec<_> = wanted.iter().map(|&(id, place)| self.find(id, place)).collect();
        let contents: Vec<_> = found.iter().map(|f| f.as_ref().ok().copied()).collect();
        let good = have_their_hashes(wanted.iter().map(|w| w.0), &contents);
        for ((found, (id, _)), good) in found.iter_mut().zip(wanted).zip(good) {
            if found.is_ok() && !good {
                *found = Err(self.wrong_hash(*id));
            }
        }
        found
    }

    fn damaged(&self, chunk: ChunkId, why: &str) -> RepoError {
        RepoError::ChunkDamaged { chunk, pack: self.pack, why: why.to_owned() }
    }

    fn wrong_hash(&self, id: ChunkId) -> RepoError {
        self.damaged(id, "its content does not have its hash")
    }

    // The content, its header compared but not its hash.
    fn find(&self, id: ChunkId, place: Place) -> Result<&[u8]> {
        let damaged = |why: &str| self.damaged(id, why);
        let (start, size) = (place.offset as usize, place.size as usize);
        let content =
            self.raw.get(start..start + size).ok_or_else(|| damaged("it lies outside its frame"))?;
        let head = start.checked_sub(BLOCK).and_then(|at| self.raw.get(at..start));
        if head != Some(&header(&id, place.size)[..]) {
            return Err(damaged("its header is not the one of this chunk"));
        }
        Ok(content)
    }

    /// Its decoded bytes.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Gives its memory back for the next frame.
    pub fn into_memory(self) -> Vec<u8> {
        self.raw
    }
}

/// For each content, where there is one, whether it has the hash of this id.
pub fn have_their_hashes(ids: impl IntoIterator<Item = ChunkId>, contents: &[Option<&[u8]>]) -> Vec<bool> {
    let mut good = vec![false; contents.len()];
    let ids: Vec<_> = ids.into_iter().collect();
    let there: Vec<_> = (0..contents.len()).filter(|&n| contents[n].is_some()).collect();
    let hashed = there.iter().filter_map(|&n| contents[n]);
    sha256::each(hashed, |number, hash| good[there[number]] = ids[there[number]] == ChunkId(hash));
    good
}

/// Reads single chunks, keeping the frames used last.
pub struct ChunkReader<'r> {
    frames: FrameReader<'r>,
    kept: VecDeque<((u32, u32), Arc<Frame>)>,
    capacity: usize,
}

impl<'r> ChunkReader<'r> {
    /// A reader that keeps this many decoded frames.
    ///
    /// # Errors
    /// If the decoder gets no memory.
    pub fn new(store: &'r dyn Store, index: &'r ChunkIndex, capacity: usize) -> Result<Self> {
        Ok(Self { frames: FrameReader::new(store, index)?, kept: VecDeque::new(), capacity })
    }

    /// Where chunks are.
    pub fn index(&self) -> &'r ChunkIndex {
        self.frames.index
    }

    fn frame(&mut self, pack: u32, frame: u32) -> Result<Arc<Frame>> {
        if let Some(at) = self.kept.iter().position(|(key, _)| *key == (pack, frame)) {
            let found = self.kept.remove(at);
            self.kept.extend(found);
        } else {
            let memory = if self.kept.len() >= self.capacity { self.kept.pop_front() } else { None };
            let memory = memory.and_then(|(_, f)| Arc::into_inner(f)).map(Frame::into_memory);
            let read = self.frames.read_into(pack, frame, memory.unwrap_or_default())?;
            self.kept.push_back(((pack, frame), Arc::new(read)));
        }
        self.kept.back().map(|(_, f)| Arc::clone(f)).ok_or(RepoError::SelfCheck)
    }

    /// Hands over a chunk's content. A damaged copy is passed over if there is a good one.
    ///
    /// # Errors
    /// If no pack has it, or every copy is damaged or unreadable.
    pub fn with_chunk<T>(&mut self, id: ChunkId, mut use_it: impl FnMut(&[u8]) -> T) -> Result<T> {
        let first = self.index().get(&id).ok_or(RepoError::ChunkMissing(id))?;
        let error = match self.try_place(id, first, &mut use_it) {
            Err(e) if e.is_damage() => e,
            other => return other,
        };
        let others: Vec<Place> = self.index().places(&id).skip(1).collect();
        for place in others {
            if let Ok(done) = self.try_place(id, place, &mut use_it) {
                return Ok(done);
            }
        }
        Err(error)
    }

    fn try_place<T>(&mut self, id: ChunkId, place: Place, use_it: &mut impl FnMut(&[u8]) -> T) -> Result<T> {
        let frame = self.frame(place.pack, place.frame)?;
        frame.chunk(id, place).map(use_it)
    }
}
