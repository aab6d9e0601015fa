//! Index objects (section 6): for each pack its frames. Written and read as a stream, so that
//! memory does not grow with the repository.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use super::pack::{FrameInfo, Kind, MAX_FRAMES, MAX_TABLE, Table};
use super::{FormatError, bounded};
use crate::base::id::PackId;

const WHAT: &str = "an index object";
const LINES: &str = "the lines of an index object, for its stored size,";
const MAX_INDEX: u64 = 4 << 30;
// Ids are half their text, so honest lines take a quarter of it; where many packs hold the same, less.
const MAX_RATIO: u64 = 256;
const MAX_RATIO_FROM: u64 = 16 << 20;
const MAX_LINE: u64 = 64 << 20;

/// The line that stands before a pack's frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackLine {
    /// The pack.
    pub pack: PackId,
    /// Its stored size in bytes.
    pub bytes: u64,
    /// What its chunks are pieces of.
    pub kind: Kind,
    /// How many frame lines follow.
    pub frames: u64,
}

/// How many bytes of lines an index object of this stored size may have: what costs its reader much has cost its writer too.
pub fn max_lines(stored: u64) -> u64 {
    stored.saturating_mul(MAX_RATIO).saturating_add(MAX_RATIO_FROM).min(MAX_INDEX)
}

/// Writes the lines of one pack, one after the other.
///
/// # Errors
/// Those of `out`.
pub fn write_pack(out: &mut impl Write, pack: PackId, bytes: u64, table: &Table) -> io::Result<()> {
    let line = PackLine { pack, bytes, kind: table.kind, frames: table.frames.len() as u64 };
    let mut text = serde_json::to_vec(&line)?;
    text.push(b'\n');
    out.write_all(&text)?;
    for frame in &table.frames {
        text.clear();
        frame.write_line(&mut text);
        out.write_all(&text)?;
    }
    Ok(())
}

/// Reads an index object's uncompressed lines pack by pack, of which there are at most so many bytes.
///
/// # Errors
/// If it is malformed or beyond the limits, or `found` returns an error.
pub fn read<E: From<FormatError>>(
    lines: impl BufRead,
    most: u64,
    mut found: impl FnMut(PackLine, Table) -> Result<(), E>,
) -> Result<(), E> {
    read_some(lines, most, |_| true, |line, table| table.map_or(Ok(()), |table| found(line, table)))
}

/// Reads the frames of the packs that are `wanted`; those of others are stepped over, and `found` gets no table.
///
/// # Errors
/// As [`read`]. What is stepped over is not looked at.
pub fn read_some<E: From<FormatError>>(
    lines: impl BufRead,
    most: u64,
    wanted: impl Fn(&PackLine) -> bool,
    mut found: impl FnMut(PackLine, Option<Table>) -> Result<(), E>,
) -> Result<(), E> {
    let mut lines = Lines { lines, line: Vec::new(), most, left: most };
    while lines.next()? {
        let head: PackLine =
            serde_json::from_slice(&lines.line).map_err(|e| FormatError::malformed(WHAT, e))?;
        bounded(WHAT, head.frames, MAX_FRAMES)?;
        if !wanted(&head) {
            for _ in 0..head.frames {
                lines.skip()?;
            }
            found(head, None)?;
            continue;
        }
        let mut frames = Vec::new();
        let mut table = 0; // these lines are those of the pack's table, which is bounded
        for _ in 0..head.frames {
            if !lines.next()? {
                return Err(FormatError::malformed(WHAT, "it ends within a pack").into());
            }
            table += lines.line.len() as u64 + 1;
            bounded("the lines of a pack in an index object", table, MAX_TABLE)?;
            frames.push(FrameInfo::read_line(&lines.line)?);
        }
        let kind = head.kind;
        found(head, Some(Table { kind, frames }))?;
    }
    Ok(())
}

// Lines of which there are so many bytes at most, and of those so many left.
struct Lines<R> {
    lines: R,
    line: Vec<u8>,
    most: u64,
    left: u64,
}

impl<R: BufRead> Lines<R> {
    // False at the end.
    fn next(&mut self) -> Result<bool, FormatError> {
        self.line.clear();
        let limit = MAX_LINE.min(self.left);
        let mut limited = io::Read::take(&mut self.lines, limit + 1);
        let read =
            limited.read_until(b'\n', &mut self.line).map_err(|e| FormatError::malformed(WHAT, e))? as u64;
        self.took(read)?;
        bounded("a line of an index object", read, MAX_LINE)?;
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        } else if read > 0 {
            return Err(FormatError::malformed(WHAT, "it ends within a line"));
        }
        Ok(read > 0)
    }

    fn skip(&mut self) -> Result<(), FormatError> {
        let mut limited = io::Read::take(&mut self.lines, self.left + 1);
        let skipped = limited.skip_until(b'\n').map_err(|e| FormatError::malformed(WHAT, e))?;
        self.took(skipped as u64)?;
        if skipped == 0 { Err(FormatError::malformed(WHAT, "it ends within a pack")) } else { Ok(()) }
    }

    fn took(&mut self, bytes: u64) -> Result<(), FormatError> {
        let too_large = FormatError::TooLarge { what: LINES, have: self.most + 1, limit: self.most };
        self.left = self.left.checked_sub(bytes).ok_or(too_large)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ChunkId;

    #[test]
    fn packs_come_back_as_written() {
        let table = Table {
            kind: Kind::Manifest,
            frames: vec![FrameInfo { bytes: 9, chunks: vec![(ChunkId::of(b"x"), 1)] }],
        };
        let mut text = Vec::new();
        for name in [b"p", b"q"] {
            write_pack(&mut text, PackId::of(name), 100, &table).unwrap();
        }
        let mut packs = Vec::new();
        let most = text.len() as u64;
        read(&text[..], most, |head, found| {
            assert_eq!(found, table);
            packs.push(head.pack);
            Ok::<_, FormatError>(())
        })
        .unwrap();
        assert_eq!(packs, [PackId::of(b"p"), PackId::of(b"q")]);
        let mut tables = Vec::new();
        read_some(
            &text[..],
            most,
            |head| head.pack == PackId::of(b"q"),
            |_, found| {
                tables.push(found);
                Ok::<_, FormatError>(())
            },
        )
        .unwrap();
        assert_eq!(tables, [None, Some(table)]);
        assert!(read(&text[..text.len() - 1], most, |_, _| Ok::<_, FormatError>(())).is_err());
        // one byte more than there may be: neither a line nor one that is stepped over is taken for the end
        for kind in [Kind::Manifest, Kind::Content] {
            let more = read_some(&text[..], most - 1, |head| head.kind == kind, |_, _| Ok(()));
            assert!(matches!(more, Err(FormatError::TooLarge { .. })), "{more:?}");
        }
    }

    // Found by reading: a small zstd stream can announce one pack with 65,536 frame lines of a
    // mebibyte each, all held in memory until the pack is complete.
    #[test]
    fn a_pack_whose_lines_are_larger_than_any_table_is_refused() {
        let frame = FrameInfo { bytes: 1, chunks: vec![(ChunkId::of(b"x"), 1); 60_000] };
        let mut line = Vec::new();
        frame.write_line(&mut line);
        let head = PackLine { pack: PackId::of(b"p"), bytes: 9, kind: Kind::Content, frames: 20 };
        let head = serde_json::to_string(&head).unwrap() + "\n";
        let mut lines =
            std::io::Read::chain(head.as_bytes(), std::io::BufReader::new(Repeat { line, at: 0 }));
        let mut found = 0;
        let result = read(&mut lines, MAX_INDEX, |_, _| {
            found += 1;
            Ok::<_, FormatError>(())
        });
        assert!(matches!(result, Err(FormatError::TooLarge { .. })), "{result:?}");
        assert_eq!(found, 0);
    }

    struct Repeat {
        line: Vec<u8>,
        at: usize,
    }

    impl std::io::Read for Repeat {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let rest = &self.line[self.at..];
            let len = rest.len().min(out.len());
            out[..len].copy_from_slice(&rest[..len]);
            self.at = (self.at + len) % self.line.len();
            Ok(len)
        }
    }
}
