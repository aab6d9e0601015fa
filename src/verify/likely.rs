//! What was probably in a stretch of a manifest that cannot be read: what another snapshot of the same root has there.

use std::collections::HashMap;
use std::sync::Arc;

use super::problem::{Hit, MAX_PATHS, NameKey};
use crate::base::id::SnapshotId;
use crate::format::manifest::{List, compare_entries};
use crate::format::snapshot::Document;
use crate::repo::manifest_reader::ManifestReader;
use crate::repo::reader::ChunkReader;
use crate::repo::{ChunkIndex, Repo, Result};

/// Frames of manifests that are kept while they are read.
const FRAMES: usize = 4;
/// So many snapshots are asked about a stretch.
const ASKED: usize = 20;

/// Names what is probably in the stretches that were lost.
///
/// # Errors
/// If there is no memory for it. A snapshot that cannot be read there has no say.
pub fn add<'h>(
    repo: &Repo,
    index: &ChunkIndex,
    documents: &[(SnapshotId, Document)],
    hits: impl Iterator<Item = &'h mut Hit>,
) -> Result<()> {
    let mut chunks = ChunkReader::new(repo.store(), index, FRAMES)?;
    let mut newest_first: Vec<&Document> = documents.iter().map(|(_, document)| document).collect();
    newest_first.sort_by_key(|document| std::cmp::Reverse(document.started));
    // snapshots share what they lost
    let mut known: HashMap<(NameKey, NameKey, Option<NameKey>), Arc<[NameKey]>> = HashMap::new();
    for lost in hits.flat_map(|hit| &mut hit.paths) {
        let Some(stretch) = &mut lost.stretch else { continue };
        let key = (lost.root.clone(), lost.path.clone(), stretch.until.clone());
        let likely = known.entry(key).or_insert_with_key(|(root, from, until)| {
            let roots = newest_first.iter().flat_map(|document| &document.roots);
            let mut others = roots.filter(|other| other.path.0 == *root).take(ASKED);
            let found = others.find_map(|other| {
                names(&mut chunks, &other.manifest, from, until.as_deref()).ok().filter(|n| !n.is_empty())
            });
            found.unwrap_or_default().into()
        });
        stretch.likely = Arc::clone(likely);
    }
    Ok(())
}

// The paths of a manifest from `from` on and before `until`.
fn names(
    chunks: &mut ChunkReader<'_>,
    list: &List,
    from: &[u8],
    until: Option<&[u8]>,
) -> Result<Vec<NameKey>> {
    let mut reader = ManifestReader::starting_at(chunks, list, from);
    let mut names = Vec::new();
    while let Some((_, path)) = reader.next_line()? {
        if until.is_some_and(|until| compare_entries(&path, until).is_ge()) {
            break;
        }
        if compare_entries(&path, from).is_ge() && names.len() < MAX_PATHS {
            names.push(path.into_owned());
        }
    }
    Ok(names)
}
