//! Reading only what is new: for readers that come again and remember what they saw.
//!
//! A chain only grows. Whoever has read it up to a number and remembers its end need read no record before that
//! again, as long as the listing shows the same objects there: names, sizes and times. Where the listing differs, or anything is wrong,
//! everything is read.
//! What is remembered is a witness too: that the end of a chain was cut off cannot be seen in the chain itself.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::chain::{self, End, Fault};
use super::read::{Listing, Logbook, names_of, writers_by_name};
use crate::base::id::RecordId;
use crate::repo::keys::PublicKey;
use crate::repo::{Repo, Result};
use crate::store::{Kind, ObjectInfo};

/// How far a reader has come, by the writers' short names. Trust it as far as the place it is kept in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress(pub BTreeMap<String, Reached>);

/// How far in one chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// Hash of the writer's key file, by which the signatures were judged; empty if the repository has none.
    pub key: String,
    /// The last number.
    pub sequence: u64,
    /// The records that have it: one, but where two commands wrote at the same moment.
    pub ids: Vec<RecordId>,
    /// SHA-256 over name, size and time of every object up to that number, in hexadecimal.
    pub objects: String,
}

/// The end of a chain that was there and is not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Whose chain.
    pub writer: String,
    /// The number of its end as it was.
    pub sequence: u64,
    /// The record that was its end.
    pub id: RecordId,
}

/// What a reader finds that comes again.
#[derive(Debug)]
pub struct Followed {
    /// The records after those seen before; all of them if `is_whole`.
    pub logbook: Logbook,
    /// True if everything was read.
    pub is_whole: bool,
    /// How many records there are in all.
    pub count: u64,
    /// Everything wrong with what was read.
    pub faults: Vec<Fault>,
    /// Ends that are gone since the last time.
    pub cuts: Vec<Cut>,
    /// What to remember; `None` where something is wrong: then nothing new is remembered, and everything is
    /// read again the next time.
    pub progress: Option<Progress>,
}

/// Reads what came after `before`.
///
/// # Errors
/// If the logbook cannot be listed, or the store fails. Damaged records are in the result.
pub fn follow(repo: &Repo, before: Option<&Progress>) -> Result<Followed> {
    let listed = repo.store().list(Kind::Records)?;
    let keys = writers_by_name(repo)?;
    let known = before.filter(|before| is_as_it_was(before, &listed, &keys));
    let reached = |writer: &str| known.and_then(|known| known.0.get(writer)).map_or(0, |r| r.sequence);
    let is_new = |object: &&ObjectInfo| {
        names_of(&object.key).is_none_or(|names| names.sequence > reached(&names.writer))
    };
    let logbook = Listing::of(listed.iter().filter(is_new).map(|object| object.key.clone())).load(repo)?;
    let ends: BTreeMap<&str, End> = known
        .iter()
        .flat_map(|known| &known.0)
        .map(|(writer, reached)| (writer.as_str(), (reached.sequence, reached.ids.clone())))
        .collect();
    let faults = chain::verify_after(&logbook, &ends);
    let cuts = cuts(before, &listed);
    let is_sound = cuts.is_empty() && faults.iter().all(|fault| fault.kind.is_notice());
    let progress = is_sound.then(|| progress(known, &logbook, &listed, &keys));
    let count = listed.iter().filter(|o| names_of(&o.key).is_some_and(|names| names.is_record)).count();
    Ok(Followed { logbook, is_whole: known.is_none(), count: count as u64, faults, cuts, progress })
}

/// True if nothing was added since `before`, and the ends of its chains are there. Reads names only.
///
/// # Errors
/// If the logbook cannot be listed.
pub fn is_at_end(repo: &Repo, before: &Progress) -> Result<bool> {
    let mut ends: BTreeMap<String, (u64, Vec<RecordId>)> = BTreeMap::new();
    let names = repo.store().names(Kind::Records)?;
    for names in names.iter().filter_map(names_of).filter(|names| names.is_record) {
        let end = ends.entry(names.writer).or_default();
        if names.sequence > end.0 {
            *end = (names.sequence, Vec::new());
        }
        if names.sequence == end.0 {
            end.1.push(names.id);
        }
    }
    let reached = before.0.iter().map(|(writer, reached)| (writer, reached.sequence, &reached.ids));
    Ok(ends.iter().map(|(writer, (sequence, ids))| (writer, *sequence, ids)).eq(reached))
}

// True if every object up to where each chain was read is there, and no other, each with its size and time.
fn is_as_it_was(before: &Progress, listed: &[ObjectInfo], keys: &BTreeMap<String, PublicKey>) -> bool {
    let found = fingerprints(listed, |writer| before.0.get(writer).map(|reached| reached.sequence));
    before.0.iter().all(|(writer, reached)| {
        found.get(writer).is_some_and(|hash| *hash == reached.objects) && reached.key == key_of(writer, keys)
    })
}

fn key_of(writer: &str, keys: &BTreeMap<String, PublicKey>) -> String {
    keys.get(writer).map(PublicKey::file_hash).unwrap_or_default()
}

// The objects of each writer up to a number, as one hash. Listings come in the order of the names.
fn fingerprints(listed: &[ObjectInfo], until: impl Fn(&str) -> Option<u64>) -> BTreeMap<String, String> {
    let mut hashes: BTreeMap<String, Sha256> = BTreeMap::new();
    for object in listed {
        let Some(names) = names_of(&object.key) else { continue };
        if until(&names.writer).is_none_or(|until| names.sequence > until) {
            continue;
        }
        let hash = hashes.entry(names.writer).or_default();
        let time = object.modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        hash.update(object.key.as_str().as_bytes());
        hash.update(object.bytes.to_le_bytes());
        hash.update(time.to_le_bytes());
    }
    hashes.into_iter().map(|(writer, hash)| (writer, hex::encode(hash.finalize()))).collect()
}

fn cuts(before: Option<&Progress>, listed: &[ObjectInfo]) -> Vec<Cut> {
    let mut gone = Vec::new();
    for (writer, reached) in before.into_iter().flat_map(|before| &before.0) {
        for id in &reached.ids {
            let key = crate::store::Key::record(writer, reached.sequence, *id);
            if listed.binary_search_by(|object| object.key.cmp(&key)).is_err() {
                gone.push(Cut { writer: writer.clone(), sequence: reached.sequence, id: *id });
            }
        }
    }
    gone
}

fn progress(
    known: Option<&Progress>,
    logbook: &Logbook,
    listed: &[ObjectInfo],
    keys: &BTreeMap<String, PublicKey>,
) -> Progress {
    let mut progress = known.cloned().unwrap_or_default();
    for logged in &logbook.records {
        let new = Reached {
            key: key_of(&logged.writer, keys),
            sequence: logged.sequence,
            ids: Vec::new(),
            objects: String::new(),
        };
        let reached = progress.0.entry(logged.writer.clone()).or_insert_with(|| new.clone());
        if logged.sequence > reached.sequence {
            *reached = new;
        }
        reached.ids.push(logged.id);
    }
    let hashes = fingerprints(listed, |writer| progress.0.get(writer).map(|reached| reached.sequence));
    for (writer, reached) in &mut progress.0 {
        reached.objects = hashes.get(writer).cloned().unwrap_or_default();
    }
    progress
}
