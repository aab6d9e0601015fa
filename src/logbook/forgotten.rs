//! Which snapshots are gone for a reason that signed records tell.

use std::collections::{BTreeMap, BTreeSet};

use super::read::{Logbook, Logged};
use crate::base::id::SnapshotId;
use crate::format::record::Record;

/// The snapshots that were forgotten and not taken back, each with the hashes of the tombstones that stand for that, as far as
/// records tell them. No clock decides: of one writer a later number undoes an earlier one, and a record of another writer undoes
/// the forgetting whose tombstone it names. Only of old records that name none the later one by its time is right.
pub fn standing(logbook: &Logbook) -> BTreeMap<SnapshotId, Vec<Option<String>>> {
    let of_kind = |kind: &'static str| logbook.trusted().filter(move |(_, record)| record.kind == kind);
    let mut undone: BTreeMap<SnapshotId, Vec<(&Logged, &Record)>> = BTreeMap::new();
    for act in of_kind("remember") {
        told(act.1, "snapshots").into_iter().for_each(|id| undone.entry(id).or_default().push(act));
    }
    let mut standing: BTreeMap<SnapshotId, Vec<Option<String>>> = BTreeMap::new();
    for act in of_kind("forget") {
        for id in told(act.1, "snapshots") {
            let later = undone.get(&id).is_some_and(|acts| acts.iter().any(|undo| undoes(*undo, act, id)));
            if !later {
                standing.entry(id).or_default().push(tombstone(act.1, id).map(str::to_owned));
            }
        }
    }
    standing
}

fn undoes(undo: (&Logged, &Record), forget: (&Logged, &Record), id: SnapshotId) -> bool {
    if undo.0.writer == forget.0.writer {
        return undo.0.sequence > forget.0.sequence;
    }
    match (tombstone(undo.1, id), tombstone(forget.1, id)) {
        (Some(undone), Some(hash)) => undone == hash,
        _ => undo.1.at >= forget.1.at,
    }
}

// The hash of the tombstone that a record tells of.
fn tombstone(record: &Record, id: SnapshotId) -> Option<&str> {
    record.body.get(super::TOMBSTONES_FIELD)?.get(id.to_hex())?.as_str()
}

/// The snapshots that were forgotten and not taken back, and those that prunes removed.
pub fn forgotten(logbook: &Logbook) -> BTreeSet<SnapshotId> {
    let mut forgotten: BTreeSet<_> = standing(logbook).into_keys().collect();
    forgotten.extend(removed(logbook));
    forgotten
}

/// The snapshots that prunes removed.
pub fn removed(logbook: &Logbook) -> BTreeSet<SnapshotId> {
    let prunes = logbook.trusted().filter(|(_, record)| record.kind == "prune");
    prunes.flat_map(|(_, record)| told(record, "removed_snapshots")).collect()
}

/// The snapshots that were gone when they were forgotten, which somebody accepted.
pub fn accepted(logbook: &Logbook) -> BTreeSet<SnapshotId> {
    let is_accepted = |record: &Record| record.body.get(super::ACCEPTED_FIELD).is_some_and(|it| it == true);
    let acts = logbook.trusted().filter(|(_, record)| record.kind == "forget" && is_accepted(record));
    acts.flat_map(|(_, record)| told(record, "snapshots")).collect()
}

fn told(record: &Record, field: &str) -> BTreeSet<SnapshotId> {
    let ids = record.body.get(field).and_then(|ids| ids.as_array()).into_iter().flatten();
    ids.filter_map(|id| SnapshotId::from_hex(id.as_str()?).ok()).collect()
}
