//! Snapshot documents: listing, loading, checking signatures; tombstones.

use std::collections::BTreeSet;

use super::keys::PublicKey;
use super::reader::ChunkReader;
use super::{Repo, RepoError, Result};
use crate::base::Name;
use crate::base::id::{PackId, SnapshotId, name_of};
use crate::base::time::Timestamp;
use crate::format::FormatError;
use crate::format::record::MAX_SMALL;
use crate::format::snapshot::{Document, MAX_BYTES, NAMESPACE, Tombstone};
use crate::store::{Key, Kind, Published, StoreError};

/// A public key or a signature is at most this large.
const MAX_SMALL_TEXT: u64 = 64 << 10;

/// A document that was loaded.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// What it says.
    pub document: Document,
    /// True if it was forgotten.
    pub forgotten: bool,
}

/// Documents that cannot be read, and why.
pub type Unreadable = Vec<(SnapshotId, RepoError)>;

/// Who signed a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signed {
    /// This writer of the repository.
    By(String),
    /// Nobody whose key the repository has.
    Unknown,
    /// There is no signature.
    Missing,
}

impl Repo {
    /// The ids of all documents, forgotten ones included, in the order of the ids.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn snapshot_ids(&self) -> Result<Vec<SnapshotId>> {
        let listed = self.store.list(Kind::Snapshots)?;
        Ok(listed.iter().filter_map(|o| named(&o.key, ".json")).collect())
    }

    /// The ids of the forgotten ones.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn forgotten_ids(&self) -> Result<BTreeSet<SnapshotId>> {
        let listed = self.store.list(Kind::Tombstones)?;
        Ok(listed.iter().filter_map(|o| named(&o.key, ".json")).collect())
    }

    /// Loads one document.
    ///
    /// # Errors
    /// If it is missing or damaged.
    pub fn document(&self, id: SnapshotId) -> Result<Document> {
        let key = Key::document(id);
        let bytes = self.store.read_all(&key, MAX_BYTES)?;
        if SnapshotId::of(&bytes) != id {
            return Err(RepoError::WrongHash { key });
        }
        Document::decode(&bytes, &self.config.id).map_err(|source| RepoError::Damaged { key, source })
    }

    /// All documents that can be read, oldest first (by host and sequence, hosts by their oldest),
    /// and those that cannot, each with the reason.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn snapshots(&self) -> Result<(Vec<Snapshot>, Unreadable)> {
        let forgotten = self.forgotten_ids()?;
        let (mut found, mut bad) = (Vec::new(), Vec::new());
        for id in self.snapshot_ids()? {
            match self.document(id) {
                Ok(document) => found.push(Snapshot { id, document, forgotten: forgotten.contains(&id) }),
                // removed by a prune since it was listed
                Err(RepoError::Store(StoreError::Missing { .. })) => {}
                Err(e) => bad.push((id, e)),
            }
        }
        in_order(&mut found);
        Ok((found, bad))
    }

    /// Keys of the writers.
    ///
    /// # Errors
    /// If they cannot be listed. A key that cannot be read is left out.
    pub fn writers(&self) -> Result<Vec<PublicKey>> {
        let mut keys = Vec::new();
        for object in self.store.list(Kind::Writers)? {
            let bytes = match self.store.read_all(&object.key, MAX_SMALL_TEXT) {
                Err(e) if e.is_of_the_object() => continue,
                other => other?,
            };
            if let Ok(key) = PublicKey::parse(&bytes)
                && object.key == Key::writer(&key.file_hash())
            {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    /// Who signed a document.
    ///
    /// # Errors
    /// If the document cannot be read, or the store fails.
    pub fn signed(&self, id: SnapshotId, writers: &[PublicKey]) -> Result<Signed> {
        let document = self.store.read_all(&Key::document(id), MAX_BYTES)?;
        let signature = match self.store.read_all(&Key::signature(id), MAX_SMALL_TEXT) {
            Err(StoreError::Missing { .. }) => return Ok(Signed::Missing),
            // as bad as a wrong one
            Err(e) if e.is_of_the_object() => return Ok(Signed::Unknown),
            other => other?,
        };
        let signer = writers.iter().find(|w| w.verifies(NAMESPACE, &document, &signature));
        Ok(signer.map_or(Signed::Unknown, |w| Signed::By(w.fingerprint())))
    }

    /// All packs that a snapshot needs.
    ///
    /// # Errors
    /// If the chunk that lists them cannot be read.
    pub fn needed_packs(
        &self,
        document: &Document,
        chunks: &mut ChunkReader<'_>,
    ) -> Result<BTreeSet<PackId>> {
        let mut packs: BTreeSet<PackId> = document.packs.iter().copied().collect();
        if let Some(list) = document.packs_chunk {
            let lines = chunks.with_chunk(list, |bytes| bytes.to_vec())?;
            for line in lines.split(|&b| b == b'\n').filter(|l| !l.is_empty()) {
                let id = crate::base::id::from_hex(line).map(PackId);
                packs.insert(
                    id.ok_or_else(|| FormatError::malformed("a list of packs", "a line is no hash"))?,
                );
            }
        }
        Ok(packs)
    }

    /// The hash of the tombstone that says that a snapshot is forgotten, if it can be read.
    pub fn tombstone_hash(&self, id: SnapshotId) -> Option<String> {
        self.store.read_all(&Key::tombstone(id), MAX_SMALL).ok().map(|bytes| name_of(&bytes))
    }

    /// Forgets a snapshot, which can be taken back until a prune removes it. Returns the hash of its tombstone, for the
    /// record to tell: of the one that was there already, if it was forgotten before.
    ///
    /// # Errors
    /// If the tombstone cannot be written.
    pub fn forget(&self, tombstone: &Tombstone) -> Result<String> {
        let mut bytes =
            serde_json::to_vec(tombstone).map_err(|e| FormatError::malformed("a tombstone", e))?;
        let key = Key::tombstone(tombstone.snapshot);
        if self.store.create(&key, &bytes)? == Published::Existed {
            bytes = self.store.read_all(&key, MAX_SMALL)?;
        }
        self.store.sync()?;
        Ok(name_of(&bytes))
    }

    /// Takes back that a snapshot was forgotten.
    ///
    /// # Errors
    /// If the tombstone cannot be deleted.
    pub fn remember(&self, id: SnapshotId) -> Result<()> {
        self.store.delete(&Key::tombstone(id))?;
        Ok(self.store.sync()?)
    }
}

fn named(key: &Key, ending: &str) -> Option<SnapshotId> {
    key.as_str().ends_with(ending).then(|| SnapshotId::from_hex(key.stem()).ok()).flatten()
}

// Within a host by sequence, never by clock; hosts are merged by time, so that a table reads well:
// a snapshot counts as no earlier than those of its host with lower numbers.
fn in_order(snapshots: &mut Vec<Snapshot>) {
    snapshots.sort_by(|a, b| {
        let key = |s: &Snapshot| (s.document.sequence, s.id);
        a.document.host.0.cmp(&b.document.host.0).then_with(|| key(a).cmp(&key(b)))
    });
    let mut latest: Option<(Timestamp, Name)> = None;
    let mut placed: Vec<(Timestamp, Snapshot)> = Vec::with_capacity(snapshots.len());
    for snapshot in snapshots.drain(..) {
        let (started, host) = (snapshot.document.started, snapshot.document.host.clone());
        let at = match &latest {
            Some((time, same)) if *same == host => started.max(*time),
            _ => started,
        };
        latest = Some((at, host));
        placed.push((at, snapshot));
    }
    placed.sort_by_key(|(at, _)| *at); // stable: the order within a host stays
    snapshots.extend(placed.into_iter().map(|(_, snapshot)| snapshot));
}
