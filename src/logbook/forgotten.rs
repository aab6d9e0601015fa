//! Which snapshots are gone for a reason that signed records tell.

use std::collections::BTreeSet;

use super::read::Logbook;
use crate::base::id::SnapshotId;

/// The snapshots that were forgotten and not taken back, and those that prunes removed.
pub fn forgotten(logbook: &Logbook) -> BTreeSet<SnapshotId> {
    let mut acts: Vec<_> = logbook.trusted().map(|(_, record)| record).collect();
    acts.sort_by_key(|record| (record.at, record.sequence));
    let mut forgotten = BTreeSet::new();
    let mut removed = BTreeSet::new();
    for record in acts {
        let told = |field| record.body.get(field).map(ids).unwrap_or_default();
        match record.kind.as_str() {
            "forget" => forgotten.extend(told("snapshots")),
            "remember" => told("snapshots").iter().for_each(|id| {
                forgotten.remove(id);
            }),
            "prune" => removed.extend(told("removed_snapshots")),
            _ => {}
        }
    }
    &forgotten | &removed
}

fn ids(value: &serde_json::Value) -> BTreeSet<SnapshotId> {
    let texts = value.as_array().into_iter().flatten().filter_map(|item| item.as_str());
    texts.filter_map(|text| SnapshotId::from_hex(text).ok()).collect()
}
