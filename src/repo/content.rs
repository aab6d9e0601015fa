//! Whether a file holds what chunks hold.

use std::io;
use std::os::fd::AsFd;

use super::ChunkIndex;
use crate::base::id::ChunkId;
use crate::format::manifest::Entry;

/// True if the file's stream, without the entry's holes, has the hashes that the entry says.
///
/// # Errors
/// If it cannot be read.
pub fn same_stream(file: impl AsFd, entry: &Entry, index: &ChunkIndex) -> io::Result<bool> {
    let mut segments = entry.segments();
    let (mut at, mut left) = segments.next().unwrap_or_default();
    let mut buffer = Vec::new();
    for id in &entry.chunks {
        let Some(place) = index.get(id) else { return Ok(false) };
        buffer.resize(place.size as usize, 0);
        let mut have = 0;
        while have < buffer.len() {
            if left == 0 {
                let Some(next) = segments.next() else { return Ok(false) };
                (at, left) = next;
            }
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len() - have);
            let part = &mut buffer[have..have + want];
            let read = rustix::io::retry_on_intr(|| rustix::io::pread(&file, &mut *part, at))?;
            if read == 0 {
                return Ok(false);
            }
            (at, left, have) = (at + read as u64, left - read as u64, have + read);
        }
        if ChunkId::of(&buffer) != *id {
            return Ok(false);
        }
    }
    Ok(true)
}
