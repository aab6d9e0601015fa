//! Which packs are read, the one proved longest ago first.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::{Coverage, Depth, Options, Selection};
use crate::base::id::PackId;
use crate::base::time::Timestamp;
use crate::format::record::Record;
use crate::logbook::Logbook;
use crate::repo::{ChunkIndex, Repo};

/// A proof is recent for so long.
pub const RECENT: Duration = Duration::from_secs(30 * 24 * 3600);

/// What other hosts date later than this by their clocks is no proof from the future.
const SKEW: Duration = Duration::from_secs(5 * 60);

/// When packs were last found right.
#[derive(Default)]
pub struct Proofs {
    stored: HashMap<PackId, Timestamp>,
    deep: HashMap<PackId, Timestamp>,
}

impl Proofs {
    /// What the logbook's trusted records tell. A record that is dated later than `now` proves nothing: nobody knows
    /// how long ago it was written.
    pub fn read(logbook: &Logbook, now: Timestamp) -> Self {
        let mut proofs = Self::default();
        let counts = |record: &Record| record.kind == "verify" && record.at.since(now) <= SKEW;
        for (_, record) in logbook.trusted().filter(|(_, record)| counts(record)) {
            let depth = record.body.get("depth").and_then(|d| d.as_str()).unwrap_or_default();
            let packs = record.body.get("packs").and_then(|p| p.as_array()).into_iter().flatten();
            for pack in packs.filter_map(|p| PackId::from_hex(p.as_str()?).ok()) {
                let newer = |map: &mut HashMap<PackId, Timestamp>| {
                    let at = map.entry(pack).or_insert(record.at);
                    *at = record.at.max(*at);
                };
                if depth == Depth::Deep.word() {
                    newer(&mut proofs.deep);
                }
                newer(&mut proofs.stored);
            }
        }
        proofs
    }

    fn of(&self, pack: PackId, depth: Depth) -> Option<Timestamp> {
        let map = if depth == Depth::Deep { &self.deep } else { &self.stored };
        map.get(&pack).copied()
    }
}

/// The numbers of the packs to read, in the order in which to read them.
pub fn choose(
    index: &ChunkIndex,
    proofs: &Proofs,
    options: &Options,
    only: Option<&BTreeSet<u32>>,
) -> Vec<u32> {
    if options.depth == Depth::Structure {
        return Vec::new();
    }
    let named = (0u32..).zip(index.packs()).filter_map(|(n, pack)| Some((n, pack.id?, pack.bytes)));
    let mut packs: Vec<_> = named
        .filter(|(n, ..)| only.is_none_or(|only| only.contains(n)))
        .map(|(n, id, bytes)| (proofs.of(id, options.depth), id, n, bytes))
        .collect();
    if options.selection == Selection::All {
        // where they are on the disk cannot be known; large ones first keeps all threads busy to the end
        packs.sort_by_key(|(_, id, _, bytes)| (std::cmp::Reverse(*bytes), *id));
    } else {
        packs.sort();
    }
    if let Selection::Sample(share) = options.selection {
        let total: u64 = packs.iter().map(|p| p.3).sum();
        let enough = (total as f64 * share.clamp(0.0, 1.0)).ceil() as u64;
        let mut sum = 0;
        packs.retain(|(.., bytes)| {
            let wanted = sum < enough;
            sum += if wanted { *bytes } else { 0 };
            wanted
        });
    }
    packs.into_iter().map(|(_, _, number, _)| number).collect()
}

/// How much is proved, this run's proofs included.
pub fn coverage(repo: &Repo, index: &ChunkIndex, proofs: &Proofs, proved: &[PackId]) -> Coverage {
    let now = repo.clock().now();
    let proved: BTreeSet<_> = proved.iter().collect();
    let mut coverage = Coverage::default();
    for pack in index.packs() {
        let Some(id) = pack.id else { continue };
        coverage.stored_bytes += pack.bytes;
        let recent = |at: &Timestamp| now.since(*at) <= RECENT;
        if proved.contains(&id) || proofs.stored.get(&id).is_some_and(recent) {
            coverage.proved_bytes += pack.bytes;
        }
    }
    coverage
}
