//! The short way: what is forgotten had nothing of its own.
//!
//! A manifest chunk that a remaining snapshot has too brings the same entries, so the same content.
//! If every chunk that a forgotten snapshot's lists begin with is shared, nothing has become
//! useless, and no manifest has to be read.

use std::collections::{BTreeSet, HashSet};

use super::proposal::Ground;
use super::seen::Seen;
use crate::base::id::{ChunkId, PackId};
use crate::format::snapshot::Document;
use crate::repo::reader::ChunkReader;
use crate::repo::{ChunkIndex, Repo, Result};

fn references(document: &Document) -> impl Iterator<Item = (u32, ChunkId)> {
    let lists = document.roots.iter().map(|root| &root.manifest);
    let chunks = lists.flat_map(|list| list.chunks.iter().map(|of| (list.level, of.chunk)));
    // no list of packs is a manifest
    chunks.chain(document.packs_chunk.map(|id| (u32::MAX, id)))
}

/// True if the forgotten snapshots refer to nothing that the remaining ones do not refer to.
pub fn nothing_of_its_own(seen: &Seen) -> bool {
    let kept: HashSet<_> = seen.remaining.iter().flat_map(|(_, document)| references(document)).collect();
    let shared = |document: &Option<Document>| {
        document.as_ref().is_some_and(|d| references(d).all(|reference| kept.contains(&reference)))
    };
    seen.forgotten.iter().all(|(_, document)| shared(document))
}

/// The packs that the remaining documents name. `index` must know the chunks that list packs.
///
/// # Errors
/// If such a chunk cannot be read.
pub fn named_packs(repo: &Repo, seen: &Seen, index: &ChunkIndex) -> Result<BTreeSet<PackId>> {
    let mut chunks = ChunkReader::new(repo.store(), index, 1)?;
    let mut named = BTreeSet::new();
    for (_, document) in &seen.remaining {
        named.append(&mut repo.needed_packs(document, &mut chunks)?);
    }
    Ok(named)
}

/// True if some document lists its packs in a chunk.
pub fn lists_are_chunks(seen: &Seen) -> bool {
    seen.remaining.iter().any(|(_, document)| document.packs_chunk.is_some())
}

/// True if the packs that are listed are those that documents name, but for what the last prune
/// that read the manifests explained.
pub fn packs_are_as_named(ground: &Ground) -> bool {
    let Ground { listed, named, memory, .. } = ground;
    named.iter().all(|pack| listed.contains_key(pack) || memory.gone.contains(pack))
        && listed.keys().all(|pack| named.contains(pack) || memory.instead.contains(pack))
}
