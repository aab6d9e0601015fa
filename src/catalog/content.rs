//! The content of one file.

use std::io::{self, Write};

use super::ls::output;
use crate::format::FormatError;
use crate::format::manifest::Entry;
use crate::repo::Result;
use crate::repo::reader::ChunkReader;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Writes the stream: the content without its holes.
///
/// # Errors
/// If a chunk is missing or damaged, the chunks are not as long as the entry says, or `out` fails.
pub fn write_stream(chunks: &mut ChunkReader<'_>, entry: &Entry, out: &mut dyn Write) -> Result<()> {
    let mut left = entry.stream_len();
    for &id in &entry.chunks {
        chunks.with_chunk(id, |bytes| {
            left = left.checked_sub(bytes.len() as u64).ok_or_else(wrong_size)?;
            out.write_all(bytes).map_err(output)
        })??;
    }
    if left > 0 { Err(wrong_size().into()) } else { Ok(()) }
}

fn wrong_size() -> FormatError {
    FormatError::malformed("a manifest", "a file's chunks do not have the file's size")
}

/// Writes the whole content, holes as zeros.
///
/// # Errors
/// As [`write_stream`].
pub fn write_content(chunks: &mut ChunkReader<'_>, entry: &Entry, out: &mut dyn Write) -> Result<()> {
    if entry.holes.is_empty() {
        return write_stream(chunks, entry, out);
    }
    let mut filled = Filled { out, holes: &entry.holes, at: 0 };
    write_stream(chunks, entry, &mut filled)?;
    filled.fill_holes().map_err(output)
}

// Puts the holes back between the pieces of a stream.
struct Filled<'o, 'h> {
    out: &'o mut dyn Write,
    holes: &'h [(u64, u64)],
    at: u64,
}

impl Filled<'_, '_> {
    fn fill_holes(&mut self) -> io::Result<()> {
        while let Some(&(offset, length)) = self.holes.first()
            && offset == self.at
        {
            let mut left = length;
            while left > 0 {
                let now = left.min(ZEROS.len() as u64);
                self.out.write_all(&ZEROS[..now as usize])?;
                left -= now;
            }
            self.at += length;
            self.holes = &self.holes[1..];
        }
        Ok(())
    }
}

impl Write for Filled<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.fill_holes()?;
        let until = self.holes.first().map_or(u64::MAX, |hole| hole.0 - self.at);
        let now = (bytes.len() as u64).min(until) as usize;
        self.out.write_all(&bytes[..now])?;
        self.at += now as u64;
        Ok(now)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_put_back() {
        let mut out = Vec::new();
        let mut filled = Filled { out: &mut out, holes: &[(0, 2), (4, 3), (9, 1)], at: 0 };
        filled.write_all(b"abcd").unwrap();
        filled.fill_holes().unwrap();
        assert_eq!(out, b"\0\0ab\0\0\0cd\0");
    }
}
