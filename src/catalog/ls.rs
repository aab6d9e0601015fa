//! What a snapshot holds, entry by entry in order.

use super::paths::{Part, PathError};
use crate::base::name::{Name, compare_paths, is_within};
use crate::format::manifest::ROOT;
use crate::repo::manifest_reader::ManifestReader;
use crate::repo::reader::ChunkReader;
use crate::repo::{RepoError, Result};

/// Calls `found` with each manifest line of the part: its path relative to the root, and the line.
/// Nothing but the path has been read. Returns how many there were.
///
/// # Errors
/// If the manifest cannot be read, or `found` fails.
pub fn for_each_line(
    chunks: &mut ChunkReader<'_>,
    part: &Part<'_>,
    mut found: impl FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<u64> {
    let mut reader = ManifestReader::starting_at(chunks, &part.root.manifest, &part.top)?;
    let mut count = 0;
    while let Some((line, path)) = reader.next_line()? {
        if is_within(&path, &part.top) {
            found(&path, line)?;
            count += 1;
        } else if part.top != ROOT && *path != *ROOT && compare_paths(&path, &part.top).is_gt() {
            break;
        }
    }
    Ok(count)
}

/// The error for a part that has no entry.
pub fn missing(part: &Part<'_>) -> PathError {
    PathError::Missing { path: Name(super::paths::absolute(&part.root.path.0, &part.top)) }
}

/// An error of the output, in the words of the repository's errors.
pub fn output(source: std::io::Error) -> RepoError {
    RepoError::Io { act: "write the output", source }
}
