//! Which chunks the remaining snapshots need, and from which pack each is to be taken.

use std::collections::HashMap;

use super::seen::Seen;
use crate::base::event::Observer;
use crate::base::id::{ChunkId, PackId};
use crate::format::pack::member_len;
use crate::repo::manifest_reader::for_each_chunk;
use crate::repo::reader::ChunkReader;
use crate::repo::{ChunkIndex, Place, Repo, RepoError, Result};

/// Frames of manifests that are kept while they are read: neighbours in a manifest lie in a few packs.
const FRAMES: usize = 16;
/// No more missing chunks than this are remembered.
const MAX_LOST: usize = 1000;

/// What is needed.
pub struct Mark {
    // by the chunk's number in the index
    live: Vec<bool>,
    // chunks that are taken from another place than the index's first
    elsewhere: HashMap<ChunkId, Place>,
    /// Chunks that are needed and in no pack.
    pub lost: Vec<ChunkId>,
}

impl Mark {
    /// Reads the manifests of all remaining snapshots. `rank` says which pack to prefer where a chunk
    /// lies in several: the higher.
    ///
    /// # Errors
    /// If a manifest cannot be read. A chunk of one that is in no pack is not an error but lost.
    pub fn read(
        repo: &Repo,
        seen: &Seen,
        index: &ChunkIndex,
        rank: impl Fn(&PackId) -> u8,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let (live, elsewhere) = (vec![false; index.len()], HashMap::new());
        let mut mark = Self { live, elsewhere, lost: Vec::new() };
        let mut chunks = ChunkReader::new(repo.store(), index, FRAMES)?;
        for (_, document) in &seen.remaining {
            if observer.interrupted() {
                return Err(RepoError::Interrupted);
            }
            mark.add(document.packs_chunk.iter(), index);
            for root in &document.roots {
                mark.read_manifest(&root.manifest, &mut chunks)?;
            }
        }
        mark.elsewhere = preferred(index, &mark.live, rank);
        Ok(mark)
    }

    fn read_manifest(
        &mut self,
        list: &crate::format::manifest::List,
        chunks: &mut ChunkReader<'_>,
    ) -> Result<()> {
        let index = chunks.index();
        let mut content = Vec::new();
        // a chunk that was met before, in whichever snapshot, was read then
        let mut skip = |id: ChunkId| match index.position(&id) {
            Some(number) => std::mem::replace(&mut self.live[number], true),
            None => {
                note(&mut self.lost, id);
                true
            }
        };
        for_each_chunk(chunks, list, &mut skip, &mut |id| content.push(id))?;
        self.add(content.iter(), index);
        Ok(())
    }

    fn add<'a>(&mut self, ids: impl Iterator<Item = &'a ChunkId>, index: &ChunkIndex) {
        for id in ids {
            match index.position(id) {
                Some(number) => self.live[number] = true,
                None => note(&mut self.lost, *id),
            }
        }
    }

    /// The needed chunks, each with the place that it is to be taken from.
    pub fn live<'m>(&'m self, index: &'m ChunkIndex) -> impl Iterator<Item = (ChunkId, Place)> + 'm {
        let all = index.iter().zip(&self.live).filter(|(_, live)| **live);
        all.map(|((id, place), _)| (*id, self.elsewhere.get(id).copied().unwrap_or(*place)))
    }
}

fn note(lost: &mut Vec<ChunkId>, id: ChunkId) {
    if lost.len() < MAX_LOST {
        lost.push(id);
    }
}

// Of several places the one in the pack of the highest rank; among those, in the pack of which most
// is needed, so that the others become useless. The last word has the name: the choice is the same next time.
fn preferred(index: &ChunkIndex, live: &[bool], rank: impl Fn(&PackId) -> u8) -> HashMap<ChunkId, Place> {
    let is_live = |id: &ChunkId| index.position(id).is_some_and(|number| live[number]);
    let mut needed = vec![0u64; index.packs().len()];
    let firsts = index.iter().zip(live).filter(|(_, live)| **live).map(|((_, place), _)| *place);
    let others = index.copies().filter(|(id, _)| is_live(id)).map(|(_, place)| place);
    for place in firsts.chain(others) {
        needed[place.pack as usize] += member_len(place.size as usize) as u64;
    }
    let worth = |place: &Place| {
        let pack = index.pack(place.pack)?;
        let total: u64 = pack.frames.iter().map(|f| u64::from(f.raw)).sum();
        let share = needed[place.pack as usize].saturating_mul(1000) / total.max(1);
        pack.id.map(|id| (rank(&id), share, id))
    };
    let mut elsewhere: HashMap<ChunkId, Place> = HashMap::new();
    for (id, place) in index.copies().filter(|(id, _)| is_live(id)) {
        let best = elsewhere.get(&id).copied().or_else(|| index.get(&id));
        if best.is_none_or(|best| worth(&place) > worth(&best)) {
            elsewhere.insert(id, place);
        }
    }
    elsewhere
}
