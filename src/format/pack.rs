//! Packs (section 5): tar members in independent zstd frames, a table, a seek table.

use std::fmt;

use serde::{Deserialize, Serialize, de};

use super::brief::Scan;
use super::frame::{Encoder, MAX_FRAME};
use super::{FormatError, bounded};
use crate::base::id::{ChunkId, from_hex, hex_of};

/// The size of a tar header, and what members are padded to.
pub const BLOCK: usize = 512;
/// A chunk has at most this many bytes.
pub const MAX_CHUNK: u64 = 16 << 20;
/// A table has at most this many bytes.
pub const MAX_TABLE: u64 = 64 << 20;
/// A pack has at most this many frames.
pub const MAX_FRAMES: u64 = 65_536;
/// The number of bytes at the end of a pack that hold the seek table's footer.
pub const FOOTER: usize = 9;

const SKIPPABLE_MAGIC: u32 = 0x184D_2A5E;
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;

/// What the chunks of a pack are pieces of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Pieces of files.
    Content,
    /// Pieces of manifests.
    Manifest,
}

/// The bytes that a member of this size takes in a frame: header, content, padding.
pub fn member_len(size: usize) -> usize {
    BLOCK + size.next_multiple_of(BLOCK)
}

/// The one header that a chunk of this id and size has.
pub fn header(id: &ChunkId, size: u32) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..64].copy_from_slice(&hex_of(&id.0));
    block[100..108].copy_from_slice(b"0000400\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    write_octal(&mut block[124..135], size);
    block[136..148].copy_from_slice(b"00000000000\0");
    block[148..156].fill(b' ');
    block[156] = b'0';
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum = block.iter().map(|&b| u32::from(b)).sum();
    write_octal(&mut block[148..154], sum);
    block[154] = 0;
    block
}

fn write_octal(out: &mut [u8], mut number: u32) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number & 7) as u8;
        number >>= 3;
    }
}

/// Gathers members until they make a frame. Content is read straight into its place.
///
/// A member can be held: its content lies in the frame, but whether it becomes a member, and under which
/// id, is said later by [`Self::settle`], for all that are held at once.
#[derive(Default)]
pub struct FrameBuilder {
    raw: Vec<u8>,
    members: Vec<(ChunkId, u32)>,
    // where the content of held members starts, and its size
    held: Vec<(usize, usize)>,
}

impl FrameBuilder {
    /// An empty frame with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { raw: Vec::with_capacity(capacity), members: Vec::new(), held: Vec::new() }
    }

    /// Starts a member: the caller appends its content to the buffer returned, from the position
    /// returned on, and then calls [`Self::commit`], [`Self::hold`] or [`Self::abandon`] with that position.
    pub fn begin(&mut self) -> (usize, &mut Vec<u8>) {
        self.raw.extend_from_slice(&[0; BLOCK]);
        (self.raw.len(), &mut self.raw)
    }

    /// The content appended since [`Self::begin`] returned `start`.
    pub fn content(&self, start: usize) -> &[u8] {
        self.raw.get(start..).unwrap_or_default()
    }

    /// Finishes the member that began at `start`; returns the offset of its content in the frame.
    /// Nothing may be held.
    pub fn commit(&mut self, start: usize, id: ChunkId) -> u32 {
        let size = (self.raw.len() - start) as u32; // a chunk is at most 16 MiB
        self.raw[start - BLOCK..start].copy_from_slice(&header(&id, size));
        self.raw.resize(self.raw.len().next_multiple_of(BLOCK), 0);
        self.members.push((id, size));
        start as u32
    }

    /// Takes back the member that began at `start`.
    pub fn abandon(&mut self, start: usize) {
        self.raw.truncate(start - BLOCK);
    }

    /// Holds the member that began at `start`.
    pub fn hold(&mut self, start: usize) {
        self.held.push((start, self.raw.len() - start));
        self.raw.resize(self.raw.len().next_multiple_of(BLOCK), 0);
    }

    /// Takes back the member that was held last.
    pub fn drop_held(&mut self) {
        if let Some((start, _)) = self.held.pop() {
            self.abandon(start);
        }
    }

    /// The contents that are held, in order.
    pub fn held(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.held.iter().map(|&(start, size)| &self.raw[start..start + size])
    }

    /// Makes members of what is held: `keep` is told the number of each, the offset that its content would
    /// have and its size, and returns its id, or `None` to leave it out.
    pub fn settle(&mut self, mut keep: impl FnMut(usize, u32, u32) -> Option<ChunkId>) {
        let Some(&(first, _)) = self.held.first() else { return };
        let mut end = first - BLOCK;
        for (number, (start, size)) in std::mem::take(&mut self.held).into_iter().enumerate() {
            let content = end + BLOCK;
            let Some(id) = keep(number, content as u32, size as u32) else { continue };
            if content != start {
                // those before it were left out
                self.raw.copy_within(start..start + size, content);
                let padded = content + size.next_multiple_of(BLOCK);
                self.raw[content + size..padded].fill(0);
            }
            self.raw[end..content].copy_from_slice(&header(&id, size as u32));
            self.members.push((id, size as u32));
            end += member_len(size);
        }
        self.raw.truncate(end);
    }

    /// Adds a whole member; returns the offset of its content in the frame.
    pub fn push(&mut self, id: ChunkId, content: &[u8]) -> u32 {
        let (start, raw) = self.begin();
        raw.extend_from_slice(content);
        self.commit(start, id)
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// True if nothing was added or held.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.held.is_empty()
    }

    /// The frame's bytes, uncompressed.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Its chunks and their sizes, in order.
    pub fn members(&self) -> &[(ChunkId, u32)] {
        &self.members
    }

    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.raw.clear();
        self.held.clear();
        self.members.clear();
    }
}

/// One content frame: its stored size and its chunks in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameInfo {
    /// Stored (compressed) size in bytes.
    pub bytes: u32,
    /// Chunks and their sizes, in order.
    pub chunks: Vec<(ChunkId, u32)>,
}

impl FrameInfo {
    /// The frame's uncompressed size, `None` if a chunk or the sum is beyond the limits.
    pub fn raw_size(&self) -> Option<u64> {
        let mut sum = 0u64;
        for &(_, size) in &self.chunks {
            if u64::from(size) > MAX_CHUNK || size == 0 {
                return None;
            }
            sum += member_len(size as usize) as u64;
        }
        (sum <= MAX_FRAME).then_some(sum)
    }

    /// The chunks with the offset of their content in the frame.
    pub fn places(&self) -> impl Iterator<Item = (ChunkId, u32, u32)> + '_ {
        let mut offset = BLOCK;
        self.chunks.iter().map(move |&(id, size)| {
            let here = offset as u32;
            offset += member_len(size as usize);
            (id, here, size)
        })
    }

    /// Writes the line of tables and index objects, newline included.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"bytes\":");
        out.extend_from_slice(self.bytes.to_string().as_bytes());
        out.extend_from_slice(b",\"chunks\":[");
        for (i, (id, size)) in self.chunks.iter().enumerate() {
            out.extend_from_slice(if i == 0 { b"[\"" } else { b",[\"" });
            out.extend_from_slice(&hex_of(&id.0));
            out.extend_from_slice(b"\",");
            out.extend_from_slice(size.to_string().as_bytes());
            out.push(b']');
        }
        out.extend_from_slice(b"]}\n");
    }

    /// Reads one line.
    ///
    /// # Errors
    /// If it is malformed or beyond the limits.
    pub fn read_line(line: &[u8]) -> Result<Self, FormatError> {
        let frame = match Self::read_canonical(line) {
            Some(frame) => frame,
            None => {
                let line: FrameLine =
                    serde_json::from_slice(line).map_err(|e| FormatError::malformed("a frame's line", e))?;
                Self { bytes: line.bytes, chunks: line.chunks.0 }
            }
        };
        if frame.raw_size().is_none() {
            return Err(FormatError::malformed(
                "a frame's line",
                "a chunk or the frame is empty or too large",
            ));
        }
        Ok(frame)
    }

    // As `write_line` writes it; `None` for any other form.
    fn read_canonical(line: &[u8]) -> Option<Self> {
        let mut scan = Scan(line);
        scan.word(b"{\"bytes\":")?;
        let bytes = u32::try_from(scan.number()?).ok()?;
        scan.word(b",\"chunks\":[")?;
        let mut chunks = Vec::with_capacity(line.len() / 72 + 1);
        loop {
            scan.word(b"[\"")?;
            let id = from_hex(scan.0.get(..64)?).map(ChunkId)?;
            scan.0 = &scan.0[64..];
            scan.word(b"\",")?;
            chunks.push((id, u32::try_from(scan.number()?).ok()?));
            scan.word(b"]")?;
            if scan.0 == b"]}" {
                return Some(Self { bytes, chunks });
            }
            scan.word(b",")?;
        }
    }
}

#[derive(Deserialize)]
struct FrameLine {
    bytes: u32,
    chunks: ChunkList,
}

// `[["<hash>",1234],…]` without a String per hash
struct ChunkList(Vec<(ChunkId, u32)>);

struct Hash(ChunkId);

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Hash;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 lower-case hexadecimal digits")
            }
            fn visit_bytes<E: de::Error>(self, text: &[u8]) -> Result<Hash, E> {
                from_hex(text).map(|id| Hash(ChunkId(id))).ok_or_else(|| E::custom("not a hash"))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Hash, E> {
                self.visit_bytes(text.as_bytes())
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

impl<'de> Deserialize<'de> for ChunkList {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = ChunkList;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of chunks with their sizes")
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<ChunkList, A::Error> {
                let mut chunks = Vec::new();
                while let Some((Hash(id), size)) = seq.next_element::<(Hash, u32)>()? {
                    chunks.push((id, size));
                }
                Ok(ChunkList(chunks))
            }
        }
        deserializer.deserialize_seq(Visitor)
    }
}

/// What a pack says of itself: its kind and its content frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// What its chunks are pieces of.
    pub kind: Kind,
    /// Its content frames in order.
    pub frames: Vec<FrameInfo>,
}

#[derive(Serialize, Deserialize)]
struct TableHead {
    lifeboat: String,
    version: u32,
    kind: Kind,
    frames: u64,
}

impl Table {
    /// The table's bytes, as they stand in the last frame's member.
    ///
    /// # Errors
    /// Never in practice; the type is that of the JSON writer.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        let mut out = Vec::new();
        self.append_to(&mut out)?;
        Ok(out)
    }

    fn append_to(&self, out: &mut Vec<u8>) -> Result<(), FormatError> {
        let head = TableHead {
            lifeboat: "pack".to_owned(),
            version: 1,
            kind: self.kind,
            frames: self.frames.len() as u64,
        };
        serde_json::to_writer(&mut *out, &head).map_err(|e| FormatError::malformed("a pack's table", e))?;
        out.push(b'\n');
        for frame in &self.frames {
            frame.write_line(out);
        }
        Ok(())
    }

    /// Reads a table's bytes.
    ///
    /// # Errors
    /// If they are malformed or beyond the limits.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        const WHAT: &str = "a pack's table";
        bounded(WHAT, bytes.len() as u64, MAX_TABLE)?;
        let mut lines = bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|&b| b == b'\n');
        let head = lines.next().unwrap_or_default();
        let head: TableHead = serde_json::from_slice(head).map_err(|e| FormatError::malformed(WHAT, e))?;
        if head.lifeboat != "pack" || head.version != 1 {
            return Err(FormatError::malformed(WHAT, "its first line is not that of a pack of version 1"));
        }
        let frames = lines.map(FrameInfo::read_line).collect::<Result<Vec<_>, _>>()?;
        if frames.len() as u64 != head.frames {
            return Err(FormatError::malformed(WHAT, "the number of its lines is not the announced one"));
        }
        bounded(WHAT, head.frames, MAX_FRAMES)?;
        Ok(Self { kind: head.kind, frames })
    }

    /// Makes `tail` what follows the content frames: the last frame and the seek table. `plain` is memory
    /// for the last frame, whatever it holds.
    ///
    /// # Errors
    /// If zstd fails or a limit is passed.
    pub fn encode_tail(
        &self,
        encoder: &mut Encoder,
        plain: &mut Vec<u8>,
        tail: &mut Vec<u8>,
    ) -> Result<(), FormatError> {
        plain.clear();
        plain.resize(BLOCK, 0);
        self.append_to(plain)?;
        let (head, text) = plain.split_at_mut(BLOCK);
        bounded("a pack's table", text.len() as u64, MAX_CHUNK)?;
        head.copy_from_slice(&header(&ChunkId::of(text), text.len() as u32));
        plain.resize(member_len(plain.len() - BLOCK) + 2 * BLOCK, 0);
        encoder.encode(plain, tail).map_err(|e| FormatError::malformed("a frame", e))?;
        let mut entries = Vec::with_capacity(self.frames.len() + 1);
        for frame in &self.frames {
            let raw = frame.raw_size().ok_or_else(|| FormatError::malformed("a frame", "too large"))?;
            entries.push((frame.bytes, raw as u32)); // at most 64 MiB
        }
        entries.push((tail.len() as u32, plain.len() as u32));
        write_seek_table(tail, &entries);
        Ok(())
    }

    /// Reads the table out of the decoded last frame.
    ///
    /// # Errors
    /// If the frame is not one table and the end of an archive.
    pub fn from_last_frame(raw: &[u8]) -> Result<Self, FormatError> {
        const WHAT: &str = "a pack's last frame";
        let digits = raw.get(124..135).ok_or_else(|| FormatError::malformed(WHAT, "too short"))?;
        let size = digits
            .iter()
            .try_fold(0u64, |n, &d| (b'0'..=b'7').contains(&d).then(|| n * 8 + u64::from(d - b'0')))
            .filter(|&size| size <= MAX_TABLE)
            .ok_or_else(|| FormatError::malformed(WHAT, "its table's size"))? as usize;
        let table = raw.get(BLOCK..BLOCK + size).ok_or_else(|| FormatError::malformed(WHAT, "too short"))?;
        let expected = header(&ChunkId::of(table), size as u32);
        let rest = raw.get(BLOCK + size..).unwrap_or_default();
        if raw[..BLOCK] != expected
            || raw.len() != member_len(size) + 2 * BLOCK
            || rest.iter().any(|&b| b != 0)
        {
            return Err(FormatError::malformed(WHAT, "header, hash or padding"));
        }
        Self::decode(table)
    }
}

fn write_seek_table(out: &mut Vec<u8>, entries: &[(u32, u32)]) {
    out.extend_from_slice(&SKIPPABLE_MAGIC.to_le_bytes());
    out.extend_from_slice(&((entries.len() * 8 + FOOTER) as u32).to_le_bytes());
    for (stored, raw) in entries {
        out.extend_from_slice(&stored.to_le_bytes());
        out.extend_from_slice(&raw.to_le_bytes());
    }
    out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    out.push(0);
    out.extend_from_slice(&SEEKABLE_MAGIC.to_le_bytes());
}

/// Where the frames of a pack lie, as its seek table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeekTable {
    /// Stored and uncompressed size of each frame, the last frame included.
    pub frames: Vec<(u32, u32)>,
}

impl SeekTable {
    /// How many bytes at the end of the pack hold the seek table, from its last [`FOOTER`] bytes.
    ///
    /// # Errors
    /// If that is no footer, or it announces more frames than allowed.
    pub fn len_from_footer(footer: &[u8; FOOTER]) -> Result<u64, FormatError> {
        const WHAT: &str = "a pack's seek table";
        let [n0, n1, n2, n3, descriptor, magic @ ..] = *footer;
        if u32::from_le_bytes(magic) != SEEKABLE_MAGIC || descriptor != 0 {
            return Err(FormatError::malformed(WHAT, "its footer"));
        }
        let frames = u64::from(u32::from_le_bytes([n0, n1, n2, n3]));
        bounded(WHAT, frames, MAX_FRAMES + 1)?;
        Ok(8 + frames * 8 + FOOTER as u64)
    }

    /// Reads the whole seek table of a pack of `pack_bytes` bytes.
    ///
    /// # Errors
    /// If it is malformed or the frames do not fill the pack exactly.
    pub fn decode(bytes: &[u8], pack_bytes: u64) -> Result<Self, FormatError> {
        let bad = |why| FormatError::malformed("a pack's seek table", why);
        let (body, footer) = bytes.split_last_chunk::<FOOTER>().ok_or_else(|| bad("too short"))?;
        if Self::len_from_footer(footer)? != bytes.len() as u64 {
            return Err(bad("its length"));
        }
        let (head, entries) = body.split_first_chunk::<8>().ok_or_else(|| bad("too short"))?;
        let mut expected = SKIPPABLE_MAGIC.to_le_bytes().to_vec();
        expected.extend_from_slice(&((bytes.len() - 8) as u32).to_le_bytes());
        if head[..] != expected[..] {
            return Err(bad("its header"));
        }
        let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        let frames: Vec<_> = entries.chunks_exact(8).map(|e| (word(&e[..4]), word(&e[4..]))).collect();
        let stored: u64 = frames.iter().map(|f| u64::from(f.0)).sum();
        if frames.is_empty() || stored + bytes.len() as u64 != pack_bytes {
            return Err(bad("its frames do not fill the pack"));
        }
        if frames.iter().any(|f| u64::from(f.1) > MAX_FRAME + 2 * BLOCK as u64) {
            return Err(bad("a frame is too large"));
        }
        Ok(Self { frames })
    }

    /// Offset in the pack, stored size and uncompressed size of the last frame.
    pub fn last(&self) -> (u64, u32, u32) {
        let offset = self.frames.iter().rev().skip(1).map(|f| u64::from(f.0)).sum();
        let (stored, raw) = self.frames.last().copied().unwrap_or_default();
        (offset, stored, raw)
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::Decoder;
    use super::*;

    #[test]
    fn a_header_is_what_tar_writes() {
        let id = ChunkId::of(b"content");
        let mut tar = tar::Header::new_ustar();
        tar.set_path(id.to_hex()).unwrap();
        tar.set_size(7);
        tar.set_mode(0o400);
        tar.set_uid(0);
        tar.set_gid(0);
        tar.set_mtime(0);
        tar.set_entry_type(tar::EntryType::Regular);
        tar.set_cksum();
        let ours = tar::Header::from_byte_slice(&header(&id, 7)).clone();
        assert_eq!(ours.path_bytes(), tar.path_bytes());
        assert_eq!(ours.size().unwrap(), 7);
        assert_eq!(ours.mode().unwrap(), 0o400);
        assert_eq!(ours.cksum().unwrap(), tar.cksum().unwrap());
        assert!(ours.as_ustar().is_some());
    }

    #[test]
    fn a_pack_tells_its_own_content() {
        let mut encoder = Encoder::new(1).unwrap();
        let mut builder = FrameBuilder::default();
        let ids = [ChunkId::of(b"one"), ChunkId::of(&[7; 600])];
        assert_eq!(builder.push(ids[0], b"one"), 512);
        assert_eq!(builder.push(ids[1], &[7; 600]), 1536);
        let mut pack = Vec::new();
        encoder.encode(builder.raw(), &mut pack).unwrap();
        let frame = FrameInfo { bytes: pack.len() as u32, chunks: builder.members().to_vec() };
        assert_eq!(frame.places().map(|p| p.1).collect::<Vec<_>>(), [512, 1536]);
        let table = Table { kind: Kind::Content, frames: vec![frame] };
        let (mut plain, mut tail) = (b"used before".to_vec(), Vec::new());
        table.encode_tail(&mut encoder, &mut plain, &mut tail).unwrap();
        pack.extend(tail);

        let footer = pack.last_chunk::<FOOTER>().unwrap();
        let len = SeekTable::len_from_footer(footer).unwrap() as usize;
        let seek = SeekTable::decode(&pack[pack.len() - len..], pack.len() as u64).unwrap();
        let (offset, stored, raw) = seek.last();
        let mut last = Vec::new();
        let bytes = &pack[offset as usize..][..stored as usize];
        Decoder::new().unwrap().decode(bytes, raw.into(), &mut last).unwrap();
        assert_eq!(Table::from_last_frame(&last).unwrap(), table);
    }
}
