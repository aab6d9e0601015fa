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

/// The memory of a frame that a [`ChunkReader`] counts with: the usual size of one. Frames of manifests
/// are much smaller, and the chunks of one manifest lie in many of them, of as many snapshots.
const USUAL_FRAME: usize = 2 << 20;

/// Reads single chunks, keeping the frames used last.
pub struct ChunkReader<'r> {
    frames: FrameReader<'r>,
    kept: VecDeque<((u32, u32), Arc<Frame>)>,
    held: usize,
    capacity: usize,
}

impl<'r> ChunkReader<'r> {
    /// A reader that keeps decoded frames in as much memory as this many of the usual size need.
    ///
    /// # Errors
    /// If the decoder gets no memory.
    pub fn new(store: &'r dyn Store, index: &'r ChunkIndex, capacity: usize) -> Result<Self> {
        Ok(Self {
            frames: FrameReader::new(store, index)?,
            kept: VecDeque::new(),
            held: 0,
            capacity: capacity * USUAL_FRAME,
        })
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
            let memory = self.make_room(pack, frame);
            let read = self.frames.read_into(pack, frame, memory)?;
            self.held += read.raw.capacity();
            self.kept.push_back(((pack, frame), Arc::new(read)));
        }
        self.kept.back().map(|(_, f)| Arc::clone(f)).ok_or(RepoError::SelfCheck)
    }

    // Lets go of what was used longest ago; returns the memory of one of those frames.
    fn make_room(&mut self, pack: u32, frame: u32) -> Vec<u8> {
        let size = self.index().pack(pack).and_then(|p| p.frames.get(frame as usize)).map_or(0, |f| f.raw);
        let size = size as usize;
        let mut memory = Vec::new();
        while self.held + size > self.capacity {
            let Some((_, oldest)) = self.kept.pop_front() else { break };
            self.held -= oldest.raw.capacity();
            memory = Arc::into_inner(oldest).map(Frame::into_memory).unwrap_or_default();
        }
        // that of a large frame would count for much while it holds a small one
        if memory.capacity() > 2 * size { Vec::new() } else { memory }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::pack::Kind;
    use crate::repo::load::Condemned;
    use crate::repo::pack_writer::PackWriter;
    use crate::repo::writer::Writer;
    use crate::store::testing::{FaultyStore, MemoryStore, ReadFault};

    // Chunks as those of a manifest are after some snapshots: each pack has some of them, by turns.
    #[test]
    fn frames_of_many_snapshots_are_decoded_once() {
        let memory = MemoryStore::default();
        let id = "0123456789abcdef0123456789abcdef".to_owned();
        let now = crate::base::time::Timestamp::from_seconds(0).unwrap();
        let config = crate::format::repository::Repository::new(id, now);
        memory.create(&Key::repository(), &serde_json::to_vec(&config).unwrap()).unwrap();
        let repo = crate::verify::tests::open_repo(memory.clone());
        let (packs, turns) = (8usize, 30usize);
        let mut chunks = vec![ChunkId::of(b""); packs * turns];
        for pack in 0..packs {
            let writer = Writer::with_index(&repo, 1, ChunkIndex::default());
            let mut filled = PackWriter::new(&writer, Kind::Manifest);
            for turn in 0..turns {
                let line = format!("{turn} of {pack}\n");
                chunks[turn * packs + pack] = filled.add(&line.as_bytes().repeat(1000)).unwrap();
            }
            filled.finish().unwrap();
            writer.finish_index().unwrap();
        }
        let index = repo.load(Condemned::Use).unwrap().index;
        let counting = FaultyStore::reading(memory, u64::MAX, ReadFault::Once);
        let mut reader = ChunkReader::new(&counting, &index, 4).unwrap();
        for chunk in &chunks {
            reader.with_chunk(*chunk, |_| ()).unwrap();
        }
        let frames: usize = index.packs().iter().map(|pack| pack.frames.len()).sum();
        assert_eq!(counting.reads(), frames as u64);
    }
}
