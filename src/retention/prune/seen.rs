//! What is there: the documents, and which of them are forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::proposal::Refusal;
use crate::base::id::SnapshotId;
use crate::format::snapshot::Document;
use crate::repo::{Repo, RepoError, Result};
use crate::store::{Key, Kind, StoreError};

/// What a decision was made on; if this changed, the decision is void.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BasedOn {
    /// Documents that were listed.
    pub documents: BTreeSet<SnapshotId>,
    /// Tombstones that were listed.
    pub tombstones: BTreeSet<SnapshotId>,
}

impl BasedOn {
    /// How it is now.
    ///
    /// # Errors
    /// If it cannot be listed.
    pub fn now(repo: &Repo) -> Result<Self> {
        // a snapshot whose tombstone was taken back meanwhile counts as forgotten here, which is a
        // difference too
        Ok(Self { tombstones: repo.forgotten_ids()?, documents: repo.snapshot_ids()?.into_iter().collect() })
    }
}

/// The documents, read.
#[derive(Default)]
pub struct Seen {
    /// What was listed.
    pub based_on: BasedOn,
    /// Snapshots that stay.
    pub remaining: Vec<(SnapshotId, Document)>,
    /// Forgotten ones; without their content if that cannot be read, which does not matter any more.
    pub forgotten: Vec<(SnapshotId, Option<Document>)>,
    /// Signatures without a document, and when the store got them.
    pub lone_signatures: Vec<(SnapshotId, SystemTime)>,
    /// Snapshots that stay but cannot be read, and forgotten ones that the disk does not give.
    pub unreadable: Vec<Refusal>,
}

impl Seen {
    /// Lists and reads all documents.
    ///
    /// # Errors
    /// If they cannot be listed, or the store fails.
    pub fn look(repo: &Repo) -> Result<Self> {
        let tombstones = repo.forgotten_ids()?;
        let mut documents = BTreeSet::new();
        let mut signatures = BTreeMap::new();
        for object in repo.store().list(Kind::Snapshots)? {
            let Ok(id) = SnapshotId::from_hex(object.key.stem()) else { continue };
            if object.key == Key::document(id) {
                documents.insert(id);
            } else if object.key == Key::signature(id) {
                signatures.insert(id, object.modified);
            }
        }
        let lone_signatures = signatures.into_iter().filter(|(id, _)| !documents.contains(id)).collect();
        let mut seen = Self { lone_signatures, ..Self::default() };
        for &id in &documents {
            let forgotten = tombstones.contains(&id);
            match repo.document(id) {
                Ok(document) if forgotten => seen.forgotten.push((id, Some(document))),
                Ok(document) => seen.remaining.push((id, document)),
                // what may be read the next time is not removed unread
                Err(RepoError::Store(e @ StoreError::Unreadable { .. })) => {
                    seen.unreadable.push(unreadable(&Key::document(id), &e.into()));
                }
                Err(e) if e.is_damage() && forgotten => seen.forgotten.push((id, None)),
                Err(e) if e.is_damage() => seen.unreadable.push(unreadable(&Key::document(id), &e)),
                Err(e) => return Err(e),
            }
        }
        seen.based_on = BasedOn { documents, tombstones };
        Ok(seen)
    }

    /// Every document that could be read.
    pub fn documents(&self) -> impl Iterator<Item = (SnapshotId, &Document)> {
        let forgotten = self.forgotten.iter().filter_map(|(id, d)| d.as_ref().map(|d| (*id, d)));
        self.remaining.iter().map(|(id, d)| (*id, d)).chain(forgotten)
    }
}

/// The refusal for something that is damaged.
pub fn unreadable(object: &impl ToString, error: &RepoError) -> Refusal {
    use std::error::Error as _;
    let mut why = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        why.push_str(": ");
        why.push_str(&error.to_string());
        cause = error.source();
    }
    Refusal::Unreadable { object: object.to_string(), why }
}
