//! The listing of packs against the index.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::id::{ChunkId, PackId};
use crate::repo::load::Loaded;
use crate::repo::{Repo, Result};
use crate::store::{Key, Kind};
use crate::verify::Problem;
use crate::verify::problem::BadChunks;

/// Compares them; returns the chunks of packs that are not there, with the number of the problem.
pub fn check(repo: &Repo, loaded: &Loaded, found: &mut Vec<Problem>) -> Result<BadChunks> {
    let listed: BTreeMap<Key, u64> =
        repo.store().list(Kind::Packs)?.into_iter().map(|o| (o.key, o.bytes)).collect();
    let trash: BTreeSet<Key> = repo.store().list(Kind::Trash)?.into_iter().map(|o| o.key).collect();
    let mut numbers: BTreeMap<PackId, usize> = BTreeMap::new();
    for &pack in &loaded.missing {
        numbers.insert(pack, found.len());
        found.push(match listed.get(&Key::pack(pack)) {
            Some(bytes) => {
                let why = format!("it has {bytes} bytes, which is not what the index says");
                Problem::PackUnreadable { pack, why, hits: Vec::new() }
            }
            None => {
                let in_trash = trash.contains(&Key::pack(pack).below(Kind::Trash));
                Problem::PackMissing { pack, in_trash, hits: Vec::new() }
            }
        });
    }
    for (pack, error) in &loaded.unreadable {
        if !numbers.contains_key(pack) {
            numbers.insert(*pack, found.len());
            found.push(Problem::PackUnreadable { pack: *pack, why: super::why(error), hits: Vec::new() });
        }
    }
    for (pack, ..) in &loaded.unindexed {
        if !numbers.contains_key(pack) {
            found.push(Problem::PackUnindexed { pack: *pack, needed: false });
        }
    }
    let mut absent = BadChunks::new();
    for (pack, table) in &loaded.absent {
        let Some(&number) = numbers.get(pack) else { continue };
        let chunks = table.frames.iter().flat_map(|f| &f.chunks).map(|(id, _)| *id);
        absent.extend(chunks.filter(|id: &ChunkId| loaded.index.get(id).is_none()).map(|id| (id, number)));
    }
    Ok(absent)
}
