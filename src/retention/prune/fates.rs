//! What becomes of each pack: pure.

use std::collections::HashSet;

use super::mark::Mark;
use super::proposal::Rewrite;
use crate::base::id::{ChunkId, PackId};
use crate::format::pack::{Kind, member_len};
use crate::repo::ChunkIndex;

/// How much of a pack is needed, in bytes of decoded frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Needed.
    pub live: u64,
    /// In all.
    pub total: u64,
}

/// What becomes of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    Keep,
    /// What is needed of it goes into another pack.
    Rewrite,
    /// Nothing of it is needed.
    Dead,
}

impl Usage {
    /// What becomes of a pack used like this, if at most this share may be useless.
    pub fn fate(self, max_unused: f64) -> Fate {
        let unused = self.total.saturating_sub(self.live) as f64;
        match self.live {
            0 => Fate::Dead,
            _ if unused > max_unused * self.total as f64 => Fate::Rewrite,
            _ => Fate::Keep,
        }
    }

    /// About how many of `bytes` stored bytes are needed.
    pub fn live_of(self, bytes: u64) -> u64 {
        let share = u128::from(bytes) * u128::from(self.live) / u128::from(self.total.max(1));
        u64::try_from(share).unwrap_or(bytes).min(bytes)
    }
}

/// How much of each pack of the index is needed, by its number.
pub fn usages(index: &ChunkIndex, mark: &Mark) -> Vec<Usage> {
    let total =
        |frames: &[crate::repo::chunk_index::FramePlace]| frames.iter().map(|f| u64::from(f.raw)).sum();
    let packs = index.packs().iter();
    let mut usages: Vec<Usage> = packs.map(|pack| Usage { live: 0, total: total(&pack.frames) }).collect();
    for (_, place) in mark.live(index) {
        if let Some(usage) = usages.get_mut(place.pack as usize) {
            usage.live += member_len(place.size as usize) as u64;
        }
    }
    usages
}

/// Rewrites of the packs with these numbers, with the chunks that are to be taken from each.
pub fn rewrites(index: &ChunkIndex, mark: &Mark, usages: &[Usage], numbers: &HashSet<u32>) -> Vec<Rewrite> {
    let mut live: Vec<HashSet<ChunkId>> = vec![HashSet::new(); usages.len()];
    for (id, place) in mark.live(index) {
        if numbers.contains(&place.pack) {
            live[place.pack as usize].insert(id);
        }
    }
    let described = index.packs().iter().zip(usages).zip(live);
    let wanted = described.enumerate().filter(|(number, _)| numbers.contains(&(*number as u32)));
    let rewrite = |id: PackId, bytes: u64, kind: Kind, usage: &Usage, live| Rewrite {
        id,
        bytes,
        kind,
        live_bytes: usage.live_of(bytes),
        live,
    };
    wanted
        .filter_map(|(_, ((pack, usage), live))| {
            pack.id.map(|id| rewrite(id, pack.bytes, pack.kind, usage, live))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_is_rewritten_only_above_the_limit() {
        let fate = |live, max| Usage { live, total: 100 }.fate(max);
        assert_eq!(fate(0, 1.0), Fate::Dead);
        assert_eq!(fate(70, 0.3), Fate::Keep);
        assert_eq!(fate(69, 0.3), Fate::Rewrite);
        assert_eq!(fate(100, 0.0), Fate::Keep);
        assert_eq!(fate(99, 0.0), Fate::Rewrite);
        assert_eq!(Usage { live: 0, total: 0 }.fate(0.3), Fate::Dead);
        assert_eq!(Usage { live: 50, total: 100 }.live_of(33), 16);
    }
}
