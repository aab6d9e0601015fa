//! What a snapshot holds, entry by entry in order.

use super::paths::{Part, PathError};
use crate::base::name::{Name, is_within};
use crate::format::manifest::compare_entries;
use crate::repo::manifest_reader::{ManifestReader, Stretch};
use crate::repo::reader::ChunkReader;
use crate::repo::{RepoError, Result};

/// Calls `found` with each manifest line of the part: its path relative to the root, and the line.
/// Nothing but the path has been read. Calls `lost` with each stretch that cannot be read; some of it may lie outside of the
/// part. Returns how many lines and stretches there were.
///
/// # Errors
/// If the store fails, or `found` does for another reason than that a line is malformed.
pub fn for_each_line(
    chunks: &mut ChunkReader<'_>,
    part: &Part<'_>,
    mut found: impl FnMut(&[u8], &[u8]) -> Result<()>,
    mut lost: impl FnMut(&Stretch),
) -> Result<(u64, u64)> {
    let mut reader = ManifestReader::starting_at(chunks, &part.root.manifest, &part.top);
    let (mut lines, mut stretches, mut gap) = (0, 0, None);
    loop {
        let (told, is_end) = match reader.next_line() {
            Ok(Some((line, path))) if is_within(&path, &part.top) => {
                lines += 1;
                (found(&path, line), false)
            }
            Ok(Some((_, path))) => (Ok(()), compare_entries(&path, &part.top).is_gt()),
            Ok(None) => (Ok(()), true),
            Err(error) => (Err(error), reader.lost_behind(&part.top)),
        };
        match told {
            Err(error) if !error.is_unreadable() => return Err(error),
            Err(error) if !is_end => {
                gap = Some(reader.lost(gap, error));
                continue;
            }
            _ => {}
        }
        if let Some(gap) = gap.take() {
            lost(&gap);
            stretches += 1;
        }
        if is_end {
            return Ok((lines, stretches));
        }
    }
}

/// The error for a part that has no entry.
pub fn missing(part: &Part<'_>) -> PathError {
    PathError::Missing { path: Name(super::paths::absolute(&part.root.path.0, &part.top)) }
}

/// An error of the output, in the words of the repository's errors.
pub fn output(source: std::io::Error) -> RepoError {
    RepoError::Io { act: "write the output", source }
}
