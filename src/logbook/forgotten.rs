//! Which snapshots are gone for a reason that signed records tell.

use std::collections::BTreeSet;

use super::read::Logbook;
use crate::base::id::SnapshotId;
use crate::format::record::Record;

/// The snapshots that were forgotten and not taken back, and those that prunes removed.
pub fn forgotten(logbook: &Logbook) -> BTreeSet<SnapshotId> {
    let mut acts: Vec<_> = logbook.trusted().map(|(_, record)| record).collect();
    acts.sort_by_key(|record| (record.at, record.sequence));
    let mut forgotten = BTreeSet::new();
    for record in acts {
        match record.kind.as_str() {
            "forget" => forgotten.extend(told(record, "snapshots")),
            "remember" => told(record, "snapshots").iter().for_each(|id| {
                forgotten.remove(id);
            }),
            _ => {}
        }
    }
    forgotten.extend(removed(logbook));
    forgotten
}

/// The snapshots that prunes removed.
pub fn removed(logbook: &Logbook) -> BTreeSet<SnapshotId> {
    let prunes = logbook.trusted().filter(|(_, record)| record.kind == "prune");
    prunes.flat_map(|(_, record)| told(record, "removed_snapshots")).collect()
}

fn told(record: &Record, field: &str) -> BTreeSet<SnapshotId> {
    let ids = record.body.get(field).and_then(|ids| ids.as_array()).into_iter().flatten();
    ids.filter_map(|id| SnapshotId::from_hex(id.as_str()?).ok()).collect()
}
