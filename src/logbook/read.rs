//! Reading what was done, each record with what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use super::chain::FaultKind;
use crate::base::id::RecordId;
use crate::base::time::Timestamp;
use crate::format::record::{MAX_BYTES, NAMESPACE, Record};
use crate::repo::keys::PublicKey;
use crate::repo::{Repo, Result};
use crate::store::{Key, Kind, StoreError};

const MAX_SIGNATURE: u64 = 64 << 10;

/// A record that was found.
#[derive(Clone, Debug)]
pub struct Logged {
    /// Its object.
    pub key: Key,
    /// The folder it lies in: its writer's short name.
    pub writer: String,
    /// The number its name says.
    pub sequence: u64,
    /// The hash its name says.
    pub id: RecordId,
    /// What it says; `None` if it cannot be read.
    pub record: Option<Record>,
    /// What is wrong with it by itself; `None` if it is whole and signed by its writer.
    pub fault: Option<FaultKind>,
}

/// The whole logbook.
#[derive(Clone, Debug, Default)]
pub struct Logbook {
    /// All records, by writer, sequence and hash.
    pub records: Vec<Logged>,
    /// Signatures without a record.
    pub lone_signatures: Vec<Key>,
    /// Objects among the records whose names no record has.
    pub strange: Vec<Key>,
}

impl Logbook {
    /// The records that are whole and signed by a writer of the repository.
    pub fn trusted(&self) -> impl Iterator<Item = (&Logged, &Record)> {
        let whole = self.records.iter().filter(|logged| logged.fault.is_none());
        whole.filter_map(|logged| logged.record.as_ref().map(|record| (logged, record)))
    }

    /// The newest trusted record of this kind: of each writer that with the highest number, and of those the latest by its time.
    pub fn newest(&self, kind: &str) -> Option<&Record> {
        let mut last: BTreeMap<&str, (u64, &Record)> = BTreeMap::new();
        for (logged, record) in self.trusted().filter(|(_, record)| record.kind == kind) {
            let of_writer = last.entry(&logged.writer).or_insert((logged.sequence, record));
            if of_writer.0 < logged.sequence {
                *of_writer = (logged.sequence, record);
            }
        }
        last.into_values().max_by_key(|(sequence, record)| (record.at, *sequence)).map(|(_, record)| record)
    }
}

/// What a record's object name says.
pub(super) struct Names {
    pub writer: String,
    pub sequence: u64,
    pub id: RecordId,
    pub is_record: bool,
}

/// Takes the name of a record or its signature apart; `None` for any other.
pub(super) fn names_of(key: &Key) -> Option<Names> {
    let rest = key.as_str().strip_prefix("records/")?;
    let (writer, name) = rest.split_once('/')?;
    let is_record = name.ends_with(".json");
    let (number, hash) = key.stem().split_once('-')?;
    let (sequence, id) = (number.parse().ok()?, RecordId::from_hex(hash).ok()?);
    // only the one name that the format gives
    let same = if is_record {
        *key == Key::record(writer, sequence, id)
    } else {
        *key == Key::record_signature(writer, sequence, id)
    };
    same.then(|| Names { writer: writer.to_owned(), sequence, id, is_record })
}

/// A writer, a number and a hash.
pub type Place = (String, u64, RecordId);
/// The record and its signature, where there are.
pub(super) type Objects = (Option<Key>, Option<Key>);

/// Objects of the logbook by writer, number and hash.
#[derive(Default)]
pub(super) struct Listing {
    pub found: BTreeMap<Place, Objects>,
    pub strange: Vec<Key>,
}

impl Listing {
    /// Takes the names of objects apart.
    pub fn of(keys: impl IntoIterator<Item = Key>) -> Self {
        let mut listing = Self::default();
        for key in keys {
            let Some(names) = names_of(&key) else {
                listing.strange.push(key);
                continue;
            };
            let pair = listing.found.entry((names.writer, names.sequence, names.id)).or_default();
            *(if names.is_record { &mut pair.0 } else { &mut pair.1 }) = Some(key);
        }
        listing
    }

    /// Reads what they hold.
    pub fn load(self, repo: &Repo) -> Result<Logbook> {
        let keys = writers_by_name(repo)?;
        let mut logbook = Logbook { strange: self.strange, ..Logbook::default() };
        let with_record = self.found.iter().filter(|(_, pair)| pair.0.is_some());
        let numbers: BTreeSet<(String, u64)> = with_record.map(|((w, n, _), _)| (w.clone(), *n)).collect();
        for ((writer, sequence, id), (record, signature)) in self.found {
            match (record, signature) {
                (Some(key), signature) => {
                    let signer = keys.get(&writer);
                    logbook.records.push(load(repo, key, signature, signer, (writer, sequence, id))?);
                }
                // left by an append that crashed, whose number was taken by the next one
                (None, Some(_)) if numbers.contains(&(writer, sequence)) => {}
                (None, key) => logbook.lone_signatures.extend(key),
            }
        }
        Ok(logbook)
    }
}

/// Reads every writer's records.
///
/// # Errors
/// If they cannot be listed, or the store fails. Damaged records are in the result.
pub fn read(repo: &Repo) -> Result<Logbook> {
    Listing::of(repo.store().names(Kind::Records)?).load(repo)
}

/// Reads these records only; those that are not there are left out.
///
/// # Errors
/// If the store fails. Damaged records are in the result.
pub fn read_some<'p>(repo: &Repo, places: impl IntoIterator<Item = &'p Place>) -> Result<Logbook> {
    let keys = places.into_iter().flat_map(|(writer, sequence, id)| {
        [Key::record(writer, *sequence, *id), Key::record_signature(writer, *sequence, *id)]
    });
    let there = keys.filter(|key| !matches!(repo.store().size(key), Err(StoreError::Missing { .. })));
    Listing::of(there).load(repo)
}

pub(super) fn writers_by_name(repo: &Repo) -> Result<BTreeMap<String, PublicKey>> {
    Ok(repo.writers()?.into_iter().map(|key| (key.writer_name(), key)).collect())
}

fn load(
    repo: &Repo,
    key: Key,
    signature: Option<Key>,
    signer: Option<&PublicKey>,
    (writer, sequence, id): Place,
) -> Result<Logged> {
    let mut logged = Logged { key, writer, sequence, id, record: None, fault: None };
    logged.fault = judge(repo, &mut logged, signature, signer)?;
    Ok(logged)
}

fn judge(
    repo: &Repo,
    logged: &mut Logged,
    signature: Option<Key>,
    signer: Option<&PublicKey>,
) -> Result<Option<FaultKind>> {
    let Some(bytes) = read_bounded(repo, &logged.key, MAX_BYTES)? else {
        return Ok(Some(FaultKind::Altered));
    };
    if RecordId::of(&bytes) != logged.id {
        return Ok(Some(FaultKind::Altered));
    }
    let Ok(record) = Record::decode(&bytes, &repo.config().id) else { return Ok(Some(FaultKind::Foreign)) };
    let in_place = record.writer == logged.writer && record.sequence == logged.sequence;
    logged.record = Some(record);
    if !in_place {
        return Ok(Some(FaultKind::Reordered));
    }
    let Some(signature) = signature else { return Ok(Some(FaultKind::Unsigned)) };
    let signature = read_bounded(repo, &signature, MAX_SIGNATURE)?.unwrap_or_default();
    let signed = signer.is_some_and(|key| key.verifies(NAMESPACE, &bytes, &signature));
    if !signed {
        return Ok(Some(FaultKind::Foreign));
    }
    Ok((!PublicKey::is_canonical(&signature)).then_some(FaultKind::Touched))
}

/// The bytes; `None` if the object is gone, too large or cannot be read.
fn read_bounded(repo: &Repo, key: &Key, limit: u64) -> Result<Option<Vec<u8>>> {
    match repo.store().read_all(key, limit) {
        Err(e) if e.is_of_the_object() => Ok(None),
        other => Ok(Some(other?)),
    }
}

/// The newest trusted record of this kind, over all writers.
///
/// # Errors
/// If the logbook cannot be read.
pub fn last(repo: &Repo, kind: &str) -> Result<Option<Record>> {
    Ok(read(repo)?.newest(kind).cloned())
}

/// The newest record of any writer, by its time, for a snapshot's document to name. Only the names are listed,
/// and only the end of each chain is read.
///
/// # Errors
/// If the logbook cannot be read.
pub fn head(repo: &Repo) -> Result<Option<RecordId>> {
    let keys = writers_by_name(repo)?;
    let mut newest: Option<(Timestamp, u64, RecordId)> = None;
    let mut looked_at: Option<String> = None;
    // by writer, each from its end: the first that is whole and signed is that writer's newest
    for ((writer, sequence, id), (record, signature)) in
        Listing::of(repo.store().names(Kind::Records)?).found.into_iter().rev()
    {
        let (Some(key), false) = (record, looked_at.as_ref() == Some(&writer)) else { continue };
        let signer = keys.get(&writer);
        let logged = load(repo, key, signature, signer, (writer, sequence, id))?;
        if let (None, Some(record)) = (logged.fault, logged.record) {
            newest = newest.max(Some((record.at, sequence, id)));
            looked_at = Some(logged.writer);
        }
    }
    Ok(newest.map(|(_, _, id)| id))
}
