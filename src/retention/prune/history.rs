//! Is everything there that was there before? A listing that shrank without a tombstone is never
//! taken for the truth (rule R1).

use std::collections::{BTreeMap, BTreeSet};

use super::memory::Memory;
use super::proposal::{Refusal, Warning};
use super::seen::{Seen, unreadable};
use crate::base::id::{RecordId, SnapshotId};
use crate::format::record::{MAX_BYTES, Record};
use crate::logbook;
use crate::repo::{Repo, RepoError, Result};
use crate::store::{Key, Kind, StoreError};

/// What records say that no prune has looked at yet.
#[derive(Default)]
pub struct Recorded {
    snapshots: BTreeMap<SnapshotId, String>,
    /// The newest record of each writer.
    pub newest: BTreeMap<String, u64>,
    refusals: Vec<Refusal>,
}

/// Reads the records that are newer than those the last prune looked at.
///
/// # Errors
/// If they cannot be listed or the store fails.
pub fn recorded(repo: &Repo, memory: &Memory) -> Result<Recorded> {
    let mut found = Recorded { newest: memory.records.clone(), ..Recorded::default() };
    let mut there: BTreeMap<String, u64> = BTreeMap::new();
    for object in repo.store().list(Kind::Records)? {
        let Some((writer, sequence, id)) = record_name(&object.key) else { continue };
        let newest = there.entry(writer.clone()).or_default();
        *newest = sequence.max(*newest);
        if sequence <= memory.records.get(&writer).copied().unwrap_or_default() {
            continue;
        }
        match read_record(repo, &object.key, id) {
            Ok(record) => found.take_up(&object.key, &record),
            Err(e) if e.is_damage() => found.refusals.push(unreadable(&object.key, &e)),
            Err(e) => return Err(e),
        }
        let newest = found.newest.entry(writer).or_default();
        *newest = sequence.max(*newest);
    }
    for (writer, &sequence) in &memory.records {
        if there.get(writer).is_none_or(|&newest| newest < sequence) {
            found.refusals.push(Refusal::RecordGone { writer: writer.clone(), sequence });
        }
    }
    Ok(found)
}

impl Recorded {
    fn take_up(&mut self, key: &Key, record: &Record) {
        let told = record.body.get("snapshot").and_then(|s| s.as_str());
        if record.kind == "snapshot"
            && let Some(id) = told.and_then(|s| SnapshotId::from_hex(s).ok())
        {
            self.snapshots.insert(id, key.to_string());
        }
    }
}

fn record_name(key: &Key) -> Option<(String, u64, RecordId)> {
    let (writer, _) = key.as_str().strip_prefix("records/")?.split_once('/')?;
    let (number, hash) = key.stem().split_once('-')?;
    let (sequence, id) = (number.parse().ok()?, RecordId::from_hex(hash).ok()?);
    (*key == Key::record(writer, sequence, id)).then(|| (writer.to_owned(), sequence, id))
}

fn read_record(repo: &Repo, key: &Key, id: RecordId) -> Result<Record> {
    let bytes = repo.store().read_all(key, MAX_BYTES)?;
    if RecordId::of(&bytes) != id {
        return Err(RepoError::WrongHash { key: key.clone() });
    }
    Record::decode(&bytes, &repo.config().id)
        .map_err(|source| RepoError::Damaged { key: key.clone(), source })
}

/// Why the listing of snapshots cannot be believed, if it cannot.
///
/// # Errors
/// If the store fails.
pub fn refusals(repo: &Repo, seen: &Seen, memory: &Memory, recorded: &Recorded) -> Result<Vec<Refusal>> {
    let mut refusals = recorded.refusals.clone();
    refusals.extend(seen.unreadable.iter().cloned());
    let mut expected: BTreeMap<SnapshotId, String> = BTreeMap::new();
    for &id in &memory.snapshots {
        expected.insert(id, "the last prune".to_owned());
    }
    expected.extend(recorded.snapshots.iter().map(|(id, key)| (*id, key.clone())));
    for (id, document) in seen.documents() {
        for named in document.previous.iter().chain(&document.parent) {
            expected.insert(*named, format!("snapshot {id}"));
        }
    }
    let explained = |id: &SnapshotId| {
        let based_on = &seen.based_on;
        based_on.documents.contains(id) || based_on.tombstones.contains(id) || memory.removed.contains(id)
    };
    expected.retain(|id, _| !explained(id));
    if !expected.is_empty() {
        // the plan that would tell may be gone, the signed record of the prune is not
        let removed = logbook::removed(&logbook::read(repo)?);
        expected.retain(|id, _| !removed.contains(id));
    }
    let lone = seen.lone_signatures.iter().map(|(id, _)| id);
    let unsure: BTreeSet<SnapshotId> = expected
        .keys()
        .chain(lone)
        .chain(&memory.removed)
        .chain(&seen.based_on.tombstones)
        .copied()
        .collect();
    for id in unsure.difference(&seen.based_on.documents) {
        if is_there(repo, &Key::document(*id))? {
            refusals.push(Refusal::ListingIncomplete { object: Key::document(*id).to_string() });
            expected.remove(id);
        }
    }
    let gone = expected.into_iter().map(|(snapshot, named_by)| Refusal::SnapshotGone { snapshot, named_by });
    refusals.extend(gone);
    Ok(refusals)
}

/// True if the object can be found by its name, whatever a listing says.
///
/// # Errors
/// If the store fails.
pub fn is_there(repo: &Repo, key: &Key) -> Result<bool> {
    match repo.store().size(key) {
        Ok(_) => Ok(true),
        Err(StoreError::Missing { .. }) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// What is odd about the chains of snapshots.
pub fn warnings(seen: &Seen) -> Vec<Warning> {
    let mut numbers: BTreeMap<_, Vec<SnapshotId>> = BTreeMap::new();
    let by_id: BTreeMap<SnapshotId, _> = seen.documents().collect();
    let mut warnings = Vec::new();
    for (&id, document) in &by_id {
        numbers.entry((&document.host.0, document.sequence)).or_default().push(id);
        let before = document.previous.and_then(|previous| by_id.get(&previous));
        let fits = |before: &&crate::format::snapshot::Document| {
            before.host == document.host && before.sequence < document.sequence
        };
        let first_is_alone = document.previous.is_some() || document.sequence == 1;
        if !first_is_alone || before.is_some_and(|before| !fits(before)) {
            warnings.push(Warning::ChainBroken { snapshot: id });
        }
    }
    for ((host, sequence), snapshots) in numbers.into_iter().filter(|(_, ids)| ids.len() > 1) {
        let host = crate::base::Name(host.clone());
        warnings.push(Warning::SequenceTwice { host, sequence, snapshots });
    }
    warnings
}
