//! Where manifests are cut, and the lists of their chunks.

use serde::{Deserialize, Serialize};

use super::write::write_number;
use super::{WHAT, compare_entries};
use crate::base::id::{ChunkId, hex_of};
use crate::base::name::{Name, write_json};
use crate::format::FormatError;

/// The hash that decides where a manifest is cut: FNV-1a, then mixed so that its upper bits are good.
pub fn cut_hash(path: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for &byte in path {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// True if a chunk of this level begins at a path with this [`cut_hash`].
pub fn cuts_at(hash: u64, level: u32) -> bool {
    level < 10 && (hash >> (58 - 6 * level)) & 63 == 0
}

/// One chunk of a manifest in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRef {
    /// The path of its first entry.
    pub first: Name,
    /// The chunk.
    pub chunk: ChunkId,
    /// How many entries it has, at all levels below.
    pub entries: u64,
}

/// The list that a document holds.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct List {
    /// How many levels of lists lie between this one and the entries.
    pub level: u32,
    /// Entries in all.
    pub entries: u64,
    /// The chunks in order.
    pub chunks: Vec<ChunkRef>,
}

impl ChunkRef {
    /// True if this is the list that the reference is for: it begins there and has as many entries.
    pub fn lists(&self, list: &[Self]) -> bool {
        let entries = list.iter().map(|of| of.entries).fold(0, u64::saturating_add);
        list.first().is_some_and(|of| of.first == self.first) && entries == self.entries
    }

    /// Writes the line of a list, newline included.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"first\":");
        write_json(out, &self.first.0);
        out.extend_from_slice(b",\"chunk\":\"");
        out.extend_from_slice(&hex_of(&self.chunk.0));
        write_number(out, "\",\"entries\":", self.entries);
        out.extend_from_slice(b"}\n");
    }
}

/// True if a reference stands before the one that comes next in its list, and before `end`, where the list above goes on.
pub fn is_in_order(of: &ChunkRef, next: Option<&ChunkRef>, end: Option<&Name>) -> bool {
    let is_before = |after: &Name| compare_entries(&of.first.0, &after.0).is_lt();
    next.is_none_or(|next| is_before(&next.first)) && end.is_none_or(is_before)
}

/// Reads the lines of a list.
///
/// # Errors
/// If one is malformed.
pub fn read_list(bytes: &[u8]) -> Result<Vec<ChunkRef>, FormatError> {
    lines(bytes)?
        .map(|line| serde_json::from_slice(line).map_err(|e| FormatError::malformed("a manifest's list", e)))
        .collect()
}

/// The lines of a manifest's chunk, without their newlines.
///
/// # Errors
/// If the last one is not ended.
pub fn lines(bytes: &[u8]) -> Result<impl Iterator<Item = &[u8]>, FormatError> {
    let body = bytes
        .strip_suffix(b"\n")
        .ok_or_else(|| FormatError::malformed(WHAT, "it does not end with a line"))?;
    Ok(body.split(|&b| b == b'\n'))
}
