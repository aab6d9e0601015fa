//! Saving what is good of damaged packs. Frames that are whole are copied as they are stored; of the
//! others, every chunk that still has its hash.

use std::collections::HashSet;
use std::io::Read as _;

use crate::base::event::Observer;
use crate::base::id::{ChunkId, PackId, from_hex};
use crate::format::frame::{Decoder, Encoder, MAX_FRAME, stream_decoder};
use crate::format::pack::{BLOCK, FrameBuilder, FrameInfo, Kind, Table, header, member_len};
use crate::repo::load::{Loaded, read_table};
use crate::repo::pack_writer::PackWriter;
use crate::repo::writer::{DEFAULT_LEVEL, Writer};
use crate::repo::{RepoError, Result};
use crate::store::{Key, Store};

/// Where the frames of a damaged pack are thought to be.
struct Frame {
    offset: u64,
    info: FrameInfo,
}

/// Saves chunks into new packs.
pub struct Salvage<'w> {
    store: &'w dyn Store,
    observer: &'w dyn Observer,
    writer: &'w Writer,
    content: PackWriter<'w>,
    manifest: PackWriter<'w>,
    decoder: Decoder,
    stored: Vec<u8>,
    raw: Vec<u8>,
    /// Chunks that were saved.
    pub saved: HashSet<ChunkId>,
    /// Chunks that could not be read, and are nowhere else.
    pub lost: HashSet<ChunkId>,
}

impl<'w> Salvage<'w> {
    /// Begins; `writer` knows the chunks that lie in packs that are whole.
    ///
    /// # Errors
    /// If the compressor gets no memory.
    pub fn new(writer: &'w Writer, observer: &'w dyn Observer) -> Result<Self> {
        Ok(Self {
            store: writer.store(),
            observer,
            writer,
            content: PackWriter::new(writer, Kind::Content),
            manifest: PackWriter::new(writer, Kind::Manifest),
            decoder: Decoder::new().map_err(RepoError::io("start the decoder"))?,
            stored: Vec::new(),
            raw: Vec::new(),
            saved: HashSet::new(),
            lost: HashSet::new(),
        })
    }

    /// Saves what is good of a pack.
    ///
    /// # Errors
    /// If the new packs cannot be written, or somebody wants an end. What cannot be read is counted.
    pub fn pack(&mut self, id: PackId, bytes: u64, loaded: &Loaded) -> Result<()> {
        let (kind, mut frames) = self.layout(id, bytes, loaded)?;
        // In another order than before: the same frames in the same order would make the same pack,
        // whose name the damaged one still has.
        frames.reverse();
        let alone = frames.len() == 1;
        for frame in frames {
            self.frame(id, kind, &frame, alone)?;
        }
        Ok(())
    }

    /// Ends the packs being filled; then everything saved has its place.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn finish(self) -> Result<(HashSet<ChunkId>, HashSet<ChunkId>)> {
        self.content.finish()?;
        self.manifest.finish()?;
        let lost = self.lost.difference(&self.saved).copied().collect();
        Ok((self.saved, lost))
    }

    // The pack's own table, else what an index says of it, else what its bytes look like.
    fn layout(&mut self, id: PackId, bytes: u64, loaded: &Loaded) -> Result<(Kind, Vec<Frame>)> {
        if let Ok(table) = read_table(self.store, id, bytes) {
            return Ok(placed(table));
        }
        if let Some(table) = loaded.absent.get(&id) {
            return Ok(placed(table.clone()));
        }
        let known = (0u32..).zip(loaded.index.packs()).find(|(_, pack)| pack.id == Some(id));
        if let Some((number, pack)) = known {
            let members = crate::verify::Layout::of(&loaded.index).members(&loaded.index, number);
            let mut groups = members.chunk_by(|a, b| a.1.frame == b.1.frame).peekable();
            let frames = pack.frames.iter().zip(0u32..).map(|(place, frame)| {
                let group = groups.next_if(|g| g.first().is_some_and(|(_, p)| p.frame == frame));
                let chunks = group.unwrap_or_default().iter().map(|(id, p)| (*id, p.size)).collect();
                FrameInfo { bytes: place.bytes, chunks }
            });
            return Ok(placed(Table { kind: pack.kind, frames: frames.collect() }));
        }
        self.scan(&Key::pack(id), bytes)
    }

    fn frame(&mut self, pack: PackId, kind: Kind, frame: &Frame, alone: bool) -> Result<()> {
        let good = self.read(pack, frame);
        let chunks = &frame.info.chunks;
        let wanted: Vec<_> = chunks.iter().map(|(id, _)| *id).filter(|id| self.is_new(id)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let as_stored = good.len() == chunks.len() && wanted.len() == good.len() && self.decodes_whole(frame);
        let packs = if kind == Kind::Content { &mut self.content } else { &mut self.manifest };
        if let Some((id, range)) = good.first().filter(|_| alone) {
            // see `pack`: a frame more than before
            let (size, stored) = encoded(*id, &self.raw[range.clone()])?;
            packs.add_frame(vec![(*id, size)], &stored)?;
        }
        if as_stored {
            packs.add_frame(chunks.clone(), &self.stored)?;
            self.saved.extend(wanted);
            return Ok(());
        }
        for (id, range) in good {
            if wanted.contains(&id) && self.saved.insert(id) {
                packs.add(&self.raw[range])?;
            }
        }
        self.lost.extend(wanted.into_iter().filter(|id| !self.saved.contains(id)));
        Ok(())
    }

    fn is_new(&self, id: &ChunkId) -> bool {
        !self.saved.contains(id) && !self.writer.knows(id)
    }

    /// Decodes as much of a frame as there is; returns its good chunks and where they lie in `raw`.
    fn read(&mut self, pack: PackId, frame: &Frame) -> Vec<(ChunkId, std::ops::Range<usize>)> {
        self.raw.clear();
        self.stored.clear();
        let key = Key::pack(pack);
        let have = self.store.size(&key).unwrap_or_default().saturating_sub(frame.offset);
        self.stored.resize(have.min(frame.info.bytes.into()) as usize, 0);
        if self.store.read_at(&key, frame.offset, &mut self.stored).is_err() {
            self.read_sectors(&key, frame.offset);
        }
        let Some(size) = frame.info.raw_size() else { return Vec::new() };
        decode_prefix(&self.stored, size, &mut self.raw);
        let raw = &self.raw;
        let whole = |(id, offset, size): (ChunkId, u32, u32)| {
            let range = offset as usize..offset as usize + size as usize;
            let head = raw.get(offset as usize - BLOCK..offset as usize)?;
            let content = raw.get(range.clone())?;
            (head == header(&id, size) && ChunkId::of(content) == id).then_some((id, range))
        };
        frame.info.places().filter_map(whole).collect()
    }

    // a disk that refuses one sector still gives the others
    fn read_sectors(&mut self, key: &Key, offset: u64) {
        for (number, piece) in self.stored.chunks_mut(4096).enumerate() {
            if self.store.read_at(key, offset + number as u64 * 4096, piece).is_err() {
                piece.fill(0);
            }
        }
    }

    fn decodes_whole(&mut self, frame: &Frame) -> bool {
        let Some(size) = frame.info.raw_size() else { return false };
        let mut again = Vec::new();
        self.stored.len() == frame.info.bytes as usize
            && self.decoder.decode(&self.stored, size, &mut again).is_ok()
            && again == self.raw
            && padding_is_zero(&frame.info, &again)
    }

    // No table, no index: frames and members are found by what they look like; hashes decide.
    fn scan(&mut self, key: &Key, bytes: u64) -> Result<(Kind, Vec<Frame>)> {
        let (mut at, mut frames, mut manifests) = (0, Vec::new(), true);
        // what `stored` holds begins there
        let mut begin = 0;
        self.stored.clear();
        for step in 0u64.. {
            if step.is_multiple_of(1024) && self.observer.interrupted() {
                return Err(RepoError::Interrupted);
            }
            let end = begin + self.stored.len() as u64;
            if at >= end || (end < bytes && end - at < MAX_FRAME) {
                if at >= bytes {
                    break;
                }
                begin = at;
                self.stored.resize((bytes - at).min(MAX_FRAME + STRETCH) as usize, 0);
                if self.store.read_at(key, at, &mut self.stored).is_err() {
                    self.read_sectors(key, at);
                }
            }
            let stored = &self.stored[(at - begin) as usize..];
            match memchr::memmem::find(stored, &MAGIC) {
                Some(0) => {}
                Some(start) => {
                    at += start as u64;
                    continue;
                }
                None => {
                    at += (stored.len() as u64).saturating_sub(MAGIC.len() as u64 - 1).max(1);
                    continue;
                }
            }
            // most of what only looks like one ends here, and costs little
            let begins = self.decoder.decode_beginning(stored, BLOCK as u64, &mut self.raw).is_ok();
            if !begins || head_of(&self.raw).is_none() {
                at += MAGIC.len() as u64;
                continue;
            }
            let len = zstd::zstd_safe::find_frame_compressed_size(stored);
            let len = len.ok().filter(|len| *len > 0).unwrap_or(stored.len());
            decode_prefix(&stored[..len], MAX_FRAME, &mut self.raw);
            let chunks = members_of(&self.raw, &mut manifests);
            let is_one = !chunks.is_empty();
            if is_one {
                let info = FrameInfo { bytes: len as u32, chunks };
                frames.push(Frame { offset: at, info });
            }
            at += if is_one { len } else { MAGIC.len() } as u64;
        }
        Ok((if manifests { Kind::Manifest } else { Kind::Content }, frames))
    }
}

/// So much more than the largest frame is held of a pack that is looked through.
const STRETCH: u64 = 32 << 20;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A frame of one chunk.
fn encoded(id: ChunkId, content: &[u8]) -> Result<(u32, Vec<u8>)> {
    let mut frame = FrameBuilder::with_capacity(member_len(content.len()));
    frame.push(id, content);
    let mut stored = Vec::new();
    let mut encoder = Encoder::new(DEFAULT_LEVEL).map_err(RepoError::io("start the compressor"))?;
    encoder.encode(frame.raw(), &mut stored).map_err(RepoError::io("compress a frame"))?;
    Ok((content.len() as u32, stored)) // a chunk is at most 16 MiB
}

fn placed(table: Table) -> (Kind, Vec<Frame>) {
    let mut offset = 0;
    let frames = table.frames.into_iter().map(|info| {
        let frame = Frame { offset, info };
        offset += u64::from(frame.info.bytes);
        frame
    });
    (table.kind, frames.collect())
}

/// Decodes from the beginning as far as it goes, at most `limit` bytes.
fn decode_prefix(stored: &[u8], limit: u64, raw: &mut Vec<u8>) {
    raw.clear();
    // the bytes before an error are in `raw` all the same
    if let Ok(decoder) = stream_decoder(stored) {
        let _ = decoder.take(limit).read_to_end(raw);
    }
}

fn padding_is_zero(info: &FrameInfo, raw: &[u8]) -> bool {
    info.places().all(|(_, offset, size)| {
        let end = offset as usize + size as usize;
        raw.get(end..end.next_multiple_of(BLOCK)).is_some_and(|p| p.iter().all(|&b| b == 0))
    })
}

/// The chunk that a block is the header of.
fn head_of(head: &[u8]) -> Option<(ChunkId, u32)> {
    let digits = head.get(124..135)?.iter().try_fold(0u32, |n, d| {
        n.checked_mul(8)?.checked_add(u32::from(d.wrapping_sub(b'0')).checked_rem(8)?)
    });
    let (id, size) = (from_hex(&head[..64]).map(ChunkId)?, digits?);
    (head == header(&id, size)).then_some((id, size))
}

/// The members at the beginning of a decoded frame, the table left out.
fn members_of(raw: &[u8], manifests: &mut bool) -> Vec<(ChunkId, u32)> {
    let (mut at, mut found) = (0, Vec::new());
    while let Some((id, size)) = raw.get(at..at + BLOCK).and_then(head_of) {
        let start = at + BLOCK;
        at += member_len(size as usize);
        let Some(content) = raw.get(start..start + size as usize) else { break };
        if content.starts_with(b"{\"lifeboat\":\"pack\"") {
            break;
        }
        *manifests &= content.starts_with(b"{\"path\":") || content.starts_with(b"{\"first\":");
        found.push((id, size));
    }
    found
}
