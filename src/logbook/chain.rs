//! Whether anything was taken out of the logbook, put in, or changed.

use std::collections::BTreeMap;

use super::read::{Logbook, Logged};
use crate::base::id::RecordId;
use crate::store::Key;

/// What is wrong with a record or a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FaultKind {
    /// A number has no record.
    Missing,
    /// The bytes do not have the hash of the name, or cannot be read.
    Altered,
    /// It is not where it says that it belongs, or does not follow the record before it.
    Reordered,
    /// It has no signature.
    Unsigned,
    /// It is not signed by the writer in whose folder it lies, or is of another repository.
    Foreign,
    /// Its signature is good, but its bytes are not those that were written.
    Touched,
    /// Two signed records have one number: two commands wrote at the same moment.
    Forked,
    /// A signature without a record: an append that crashed, or the newest record was removed.
    Unfinished,
}

impl FaultKind {
    /// True for what a crash or two commands at once leave behind: worth knowing, and no damage.
    pub fn is_notice(self) -> bool {
        matches!(self, Self::Forked | Self::Unfinished | Self::Touched)
    }

    /// In words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Missing => "it is missing",
            Self::Altered => "its bytes do not have the hash that its name says, or cannot be read",
            Self::Reordered => "it does not follow the record before it",
            Self::Unsigned => "it is not signed",
            Self::Foreign => "it is not signed by the writer in whose folder it lies",
            Self::Touched => "the bytes of its signature were changed",
            Self::Forked => "another record has the same number",
            Self::Unfinished => {
                "a signature has no record: the writing was interrupted, or the record was removed"
            }
        }
    }
}

/// One thing wrong with the logbook.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// Whose chain.
    pub writer: String,
    /// Which number.
    pub sequence: u64,
    /// The object, where there is one.
    pub key: Option<Key>,
}

/// The end of a chain that was looked at before: its number, and the records that have it.
pub(super) type End = (u64, Vec<RecordId>);

/// Everything wrong with the logbook, by writer and number.
pub fn verify_chain(logbook: &Logbook) -> Vec<Fault> {
    verify_after(logbook, &BTreeMap::new())
}

/// The same of records that come after those ends.
pub(super) fn verify_after(logbook: &Logbook, ends: &BTreeMap<&str, End>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut writers: BTreeMap<&str, Vec<&Logged>> = BTreeMap::new();
    for logged in &logbook.records {
        writers.entry(&logged.writer).or_default().push(logged);
        faults.extend(logged.fault.map(|kind| fault(kind, logged)));
    }
    for (writer, records) in &writers {
        check_order(records, ends.get(writer), &mut faults);
    }
    for key in &logbook.lone_signatures {
        if let Some(names) = super::read::names_of(key) {
            let (writer, sequence) = (names.writer, names.sequence);
            let gap =
                |f: &Fault| f.kind == FaultKind::Missing && f.writer == writer && f.sequence == sequence;
            if faults.iter().any(gap) {
                continue;
            }
            faults.push(Fault { kind: FaultKind::Unfinished, writer, sequence, key: Some(key.clone()) });
        }
    }
    faults.sort_by(|a, b| (&a.writer, a.sequence, a.kind).cmp(&(&b.writer, b.sequence, b.kind)));
    faults
}

fn fault(kind: FaultKind, logged: &Logged) -> Fault {
    Fault { kind, writer: logged.writer.clone(), sequence: logged.sequence, key: Some(logged.key.clone()) }
}

// A gap of 2^63 numbers is one fault, not 2^63 of them.
const MAX_GAP: u64 = 100;

// Records come sorted by number and hash.
fn check_order(records: &[&Logged], end: Option<&End>, faults: &mut Vec<Fault>) {
    let (reached, mut before) = end.cloned().unwrap_or_default();
    let mut expected = reached.saturating_add(1);
    for same in records.chunk_by(|a, b| a.sequence == b.sequence) {
        let Some(first) = same.first() else { continue };
        for sequence in (expected..first.sequence).take(MAX_GAP as usize) {
            let writer = first.writer.clone();
            faults.push(Fault { kind: FaultKind::Missing, writer, sequence, key: None });
        }
        let gap = first.sequence != expected;
        for logged in same {
            let Some(record) = &logged.record else { continue };
            let follows = match record.previous {
                None => logged.sequence == 1,
                // what the missing one was cannot be known
                Some(_) if gap => true,
                Some(previous) => before.contains(&previous),
            };
            if !follows && logged.fault.is_none() {
                faults.push(fault(FaultKind::Reordered, logged));
            }
        }
        if same.iter().filter(|l| l.fault.is_none()).count() > 1 {
            faults.push(fault(FaultKind::Forked, first));
        }
        expected = first.sequence.saturating_add(1);
        before = same.iter().map(|logged| logged.id).collect();
    }
}
