//! Index objects decode and agree with each other.

use std::collections::BTreeSet;

use crate::base::PackId;
use crate::repo::chunk_index::ChunkIndex;
use crate::repo::load::Loaded;
use crate::verify::Problem;

/// Adds what the load met.
pub fn check(loaded: &Loaded, found: &mut Vec<Problem>) {
    for (key, error) in &loaded.damaged_indexes {
        found.push(Problem::IndexDamaged { key: key.clone(), why: super::why(error) });
    }
    for &pack in &loaded.conflicts {
        found.push(Problem::IndexDiffers { pack, hits: Vec::new() });
    }
}

/// Tells packs whose index object is gone from those that an interrupted run left: the former are needed by snapshots, and
/// whoever finished a snapshot had written its index before. `packs` are those that snapshots need or read first; what an
/// interrupted run left is read last, so a copy in it of what lies elsewhere does not make it needed.
pub fn mark_needed(index: &ChunkIndex, packs: &BTreeSet<u32>, found: &mut [Problem]) {
    let ids: BTreeSet<PackId> = packs.iter().filter_map(|number| index.pack(*number)?.id).collect();
    for problem in found {
        if let Problem::PackUnindexed { pack, needed } = problem {
            *needed = ids.contains(pack);
        }
    }
}
