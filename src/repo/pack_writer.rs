//! Filling packs: one writer a thread. Content is read straight into the frame; a full frame is
//! compressed, decoded again and compared, and appended to the pack.

use sha2::{Digest as _, Sha256};

use super::chunk_index::Place;
use super::density::is_dense;
use super::writer::{FinishedPack, Writer};
use super::{RepoError, Result};
use crate::base::id::{ChunkId, PackId};
use crate::format::pack::{FrameBuilder, FrameInfo, Kind, Table, member_len};
use crate::store::Staged;
use crate::sys::sha256;

/// Levels at which a table is compressed when its pack must have another name.
const OTHER_LEVELS: [i32; 6] = [19, 9, 1, -10, -100, -100_000];

/// A frame has room for this much more than its target: one chunk of the largest size still fits without growing.
const FRAME_ROOM: usize = 64 << 10;
/// Frames of manifests are by so much smaller. After some snapshots a manifest's chunks lie in frames of all of them, few in each,
/// and whoever reads it decodes those whole. The repository does not grow by it (docs/performance.md).
const MANIFEST_PART: usize = 16;
/// So many chunks are hashed together at most.
const HELD: usize = 128;

/// A pack ends before its table has more bytes than this: it is one member, and no member has more than 16 MiB (the
/// last frame may bring up to 5 MiB more), and a table of the size of a frame needs no more memory than a frame.
const TABLE_TARGET: u64 = 2 << 20;
/// A chunk has at most so many bytes in the table: its hash, its size, and what stands between.
const TABLE_CHUNK: u64 = 80;

struct OpenPack {
    staged: Box<dyn Staged>,
    hasher: Sha256,
    bytes: u64,
    // at most so many bytes the table will have
    table: u64,
    frames: Vec<FrameInfo>,
    number: u32,
}

/// Stores a chunk somewhere else.
pub type Dense<'w> = &'w (dyn Fn(ChunkId, &[u8]) -> Result<()> + Sync);

/// Fills packs of one kind.
pub struct PackWriter<'w> {
    writer: &'w Writer,
    kind: Kind,
    frame_target: usize,
    frame: FrameBuilder,
    pack: Option<OpenPack>,
    settled: Vec<ChunkId>,
    dense: Option<Dense<'w>>,
}

impl<'w> PackWriter<'w> {
    /// A writer of packs of this kind.
    pub fn new(writer: &'w Writer, kind: Kind) -> Self {
        let target = writer.config().frame_target as usize;
        let frame_target = if kind == Kind::Manifest { target / MANIFEST_PART } else { target };
        Self {
            writer,
            kind,
            frame_target,
            frame: FrameBuilder::with_capacity(frame_target + FRAME_ROOM),
            pack: None,
            settled: Vec::new(),
            dense: None,
        }
    }

    /// With smaller frames, for content that cannot be compressed: a larger frame gains nothing.
    pub fn for_dense(mut self) -> Self {
        self.frame_target /= 4;
        self.frame = FrameBuilder::with_capacity(self.frame_target + FRAME_ROOM);
        self
    }

    /// Small chunks that cannot be compressed go there: among others they would spoil the statistics by
    /// which the headers of all of them are compressed.
    pub fn with_dense(mut self, dense: Dense<'w>) -> Self {
        self.dense = Some(dense);
        self
    }

    /// Stores a chunk unless it is stored already.
    ///
    /// # Errors
    /// If the store fails.
    pub fn add(&mut self, content: &[u8]) -> Result<ChunkId> {
        let id = ChunkId::of(content);
        self.add_hashed(id, content)?;
        Ok(id)
    }

    /// Stores a chunk, whose id is known to be this, unless it is stored already.
    ///
    /// # Errors
    /// If the store fails.
    pub fn add_hashed(&mut self, id: ChunkId, content: &[u8]) -> Result<()> {
        if self.writer.knows(&id) {
            return Ok(());
        }
        self.make_room(content.len())?;
        let (start, raw) = self.frame.begin();
        raw.extend_from_slice(content);
        self.finish_member(start, id)
    }

    /// Begins a chunk of about this size, whose content the caller appends to the buffer returned, and then
    /// calls [`Self::hold`] or [`Self::abandon`] with the position returned.
    ///
    /// # Errors
    /// If the store fails.
    pub fn begin(&mut self, size: usize) -> Result<(usize, &mut Vec<u8>)> {
        if self.frame.held().len() >= HELD || self.is_full(size) {
            self.settle()?;
        }
        if self.is_full(size) {
            self.end_frame()?;
        }
        Ok(self.frame.begin())
    }

    /// The content appended since [`Self::begin`] returned `start`.
    pub fn content(&self, start: usize) -> &[u8] {
        self.frame.content(start)
    }

    /// Takes back what was begun.
    pub fn abandon(&mut self, start: usize) {
        self.frame.abandon(start);
    }

    /// Finishes the chunk that was begun. Its id comes, in order, from [`Self::settled`]: hashing several
    /// at once takes less time.
    pub fn hold(&mut self, start: usize) {
        self.frame.hold(start);
    }

    /// Takes back what was held last.
    pub fn drop_held(&mut self) {
        self.frame.drop_held();
    }

    /// The ids of all chunks held since this was last asked, in order.
    ///
    /// # Errors
    /// If the store fails.
    pub fn settled(&mut self) -> Result<Vec<ChunkId>> {
        self.settle()?;
        Ok(std::mem::take(&mut self.settled))
    }

    // Hashes what is held, and keeps what is new.
    fn settle(&mut self) -> Result<()> {
        let before = self.settled.len();
        let count = self.frame.held().len();
        if count == 0 {
            return Ok(());
        }
        self.settled.resize(before + count, ChunkId([0; 32]));
        sha256::each(self.frame.held(), |number, hash| self.settled[before + number] = ChunkId(hash));
        let ids = &self.settled[before..];
        let mut elsewhere = [false; HELD];
        if let Some(dense) = self.dense {
            for (number, content) in self.frame.held().enumerate() {
                if is_dense(content) {
                    elsewhere[number] = true;
                    dense(ids[number], content)?;
                }
            }
        }
        let (pack, frame) = self.next_frame()?;
        let ids = &self.settled[before..];
        let mut index = self.writer.index_mut();
        self.frame.settle(|number, offset, size| {
            // another thread may have stored the same content meanwhile
            let place = Place { pack, frame, offset, size };
            (!elsewhere[number] && index.insert(ids[number], place)).then_some(ids[number])
        });
        Ok(())
    }

    fn is_full(&self, size: usize) -> bool {
        !self.frame.is_empty() && self.frame.len() + member_len(size) > self.frame_target
    }

    // Ends the frame if a member of this size does not fit into it any more.
    fn make_room(&mut self, size: usize) -> Result<()> {
        self.settle()?;
        if self.is_full(size) { self.end_frame() } else { Ok(()) }
    }

    fn finish_member(&mut self, start: usize, id: ChunkId) -> Result<()> {
        let size = self.frame.content(start).len() as u32; // at most 16 MiB
        let (pack, frame) = self.next_frame()?;
        let place = Place { pack, frame, offset: start as u32, size };
        // another thread may have stored the same content meanwhile
        if self.writer.claim(id, place) {
            self.frame.commit(start, id);
        } else {
            self.frame.abandon(start);
        }
        Ok(())
    }

    fn next_frame(&mut self) -> Result<(u32, u32)> {
        let pack = match &mut self.pack {
            Some(pack) => pack,
            none => none.insert(OpenPack {
                staged: self.writer.store().stage()?,
                hasher: Sha256::new(),
                bytes: 0,
                table: 0,
                frames: Vec::new(),
                number: self.writer.begin_pack(self.kind),
            }),
        };
        Ok((pack.number, pack.frames.len() as u32))
    }

    fn end_frame(&mut self) -> Result<()> {
        self.settle()?;
        if self.frame.is_empty() {
            return Ok(());
        }
        self.next_frame()?;
        let writer = self.writer;
        let frame = std::mem::take(&mut self.frame);
        let full = writer.kits().compress(frame.raw(), |stored| {
            let info = FrameInfo { bytes: stored.len() as u32, chunks: frame.members().to_vec() };
            self.append(info, stored)
        })?;
        self.frame = frame;
        self.frame.clear();
        if full { self.end_pack() } else { Ok(()) }
    }

    fn append(&mut self, frame: FrameInfo, stored: &[u8]) -> Result<bool> {
        let Some(pack) = &mut self.pack else { return Ok(false) };
        pack.staged.write(stored)?;
        pack.hasher.update(stored);
        pack.bytes += stored.len() as u64;
        pack.table += TABLE_CHUNK * (frame.chunks.len() as u64 + 1);
        pack.frames.push(frame);
        // very many very small files: the table grows faster than the content
        Ok(pack.bytes >= u64::from(self.writer.config().pack_target) || pack.table >= TABLE_TARGET)
    }

    /// Takes over a frame of another pack as it is stored. Its chunks must be claimed by nobody else.
    ///
    /// # Errors
    /// If the store fails.
    pub fn add_frame(&mut self, chunks: Vec<(ChunkId, u32)>, stored: &[u8]) -> Result<()> {
        self.end_frame()?;
        self.next_frame()?;
        let frame = FrameInfo { bytes: stored.len() as u32, chunks };
        if self.append(frame, stored)? { self.end_pack() } else { Ok(()) }
    }

    fn end_pack(&mut self) -> Result<()> {
        let Some(mut pack) = self.pack.take() else { return Ok(()) };
        let table = Table { kind: self.kind, frames: std::mem::take(&mut pack.frames) };
        // The same chunks in the same frames make the same pack. If a prune is about to remove the pack of
        // that name, another compression of the table gives this one another name.
        let mut levels = std::iter::once(None).chain(OTHER_LEVELS.map(Some)).peekable();
        let mut id = None;
        while let (None, Some(level)) = (id, levels.next()) {
            id = self.writer.kits().tail(&table, level, |tail| {
                let id = PackId(pack.hasher.clone().chain_update(tail).finalize().into());
                if self.writer.is_condemned(id) && levels.peek().is_some() {
                    return Ok(None);
                }
                pack.staged.write(tail)?;
                pack.bytes += tail.len() as u64;
                Ok(Some(id))
            })?;
        }
        let OpenPack { number, bytes, staged, .. } = pack;
        let id = id.ok_or(RepoError::SelfCheck)?; // the last level is always taken
        self.writer.pack_finished(FinishedPack { number, id, bytes, table, staged })
    }

    /// True if the chunk is stored, or being stored by this run.
    pub fn knows(&self, id: &ChunkId) -> bool {
        self.writer.knows(id)
    }

    /// Ends the frame and the pack being filled.
    ///
    /// # Errors
    /// If the store fails.
    pub fn finish(mut self) -> Result<()> {
        self.end_frame()?;
        if self.pack.as_ref().is_some_and(|p| !p.frames.is_empty()) { self.end_pack() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use crate::format::pack::Kind;
    use crate::repo::load::Condemned;
    use crate::repo::writer::Writer;
    use crate::repo::{ChunkIndex, pack_writer::PackWriter};
    use crate::store::testing::MemoryStore;
    use crate::store::{Key, Store as _};

    #[test]
    fn very_many_very_small_chunks_fill_several_packs() {
        let memory = MemoryStore::default();
        let id = "0123456789abcdef0123456789abcdef".to_owned();
        let now = crate::base::time::Timestamp::from_seconds(0).unwrap();
        let config = crate::format::repository::Repository::new(id, now);
        memory.create(&Key::repository(), &serde_json::to_vec(&config).unwrap()).unwrap();
        let repo = crate::verify::tests::open_repo(memory);
        let writer = Writer::with_index(&repo, 1, ChunkIndex::default());
        let mut packs = PackWriter::new(&writer, Kind::Content);
        let count = 240_000u32;
        for number in 0..count {
            packs.add(&number.to_le_bytes()).unwrap();
        }
        packs.finish().unwrap();
        writer.finish_index().unwrap();
        let loaded = repo.load(Condemned::Use).unwrap();
        assert_eq!(loaded.index.len(), count as usize);
        assert!(loaded.index.packs().len() >= 2 && loaded.unreadable.is_empty());
    }
}
