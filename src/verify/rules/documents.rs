//! Every document is what its name says, decodes, and is signed by a writer of the repository.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::id::SnapshotId;
use crate::format::snapshot::{Document, MAX_BYTES, NAMESPACE};
use crate::repo::keys::PublicKey;
use crate::repo::{Repo, Result};
use crate::store::{Key, Kind, StoreError};
use crate::verify::Problem;

/// Reads all documents; returns those that are whole.
pub fn check(
    repo: &Repo,
    writers: &[PublicKey],
    found: &mut Vec<Problem>,
) -> Result<Vec<(SnapshotId, Document)>> {
    let mut pairs: BTreeMap<SnapshotId, (bool, bool)> = BTreeMap::new();
    let mut named = BTreeSet::new();
    for object in repo.store().list(Kind::Snapshots)? {
        let id = SnapshotId::from_hex(object.key.stem());
        match id {
            Ok(id) if object.key == Key::document(id) => pairs.entry(id).or_default().0 = true,
            Ok(id) if object.key == Key::signature(id) => pairs.entry(id).or_default().1 = true,
            _ => found.push(Problem::ObjectUnknown { key: object.key.clone() }),
        }
        named.insert(object.key);
    }
    let mut documents = Vec::new();
    for (snapshot, (document, signature)) in pairs {
        if !document {
            found.push(Problem::DocumentUnfinished { snapshot });
            continue;
        }
        match read(repo, snapshot) {
            Ok(Some((bytes, document))) => {
                check_signature(repo, snapshot, &bytes, signature, writers, found)?;
                documents.push((snapshot, document));
            }
            // removed by a prune since it was listed
            Ok(None) => {}
            Err(why) => found.push(Problem::DocumentDamaged { snapshot, why }),
        }
    }
    Ok(documents)
}

fn read(repo: &Repo, id: SnapshotId) -> std::result::Result<Option<(Vec<u8>, Document)>, String> {
    let bytes = match repo.store().read_all(&Key::document(id), MAX_BYTES) {
        Err(StoreError::Missing { .. }) => return Ok(None),
        other => other.map_err(|e| super::why(&e))?,
    };
    if SnapshotId::of(&bytes) != id {
        return Err("its bytes do not have the hash that its name says".to_owned());
    }
    let document = Document::decode(&bytes, &repo.config().id).map_err(|e| e.to_string())?;
    Ok(Some((bytes, document)))
}

fn check_signature(
    repo: &Repo,
    snapshot: SnapshotId,
    document: &[u8],
    listed: bool,
    writers: &[PublicKey],
    found: &mut Vec<Problem>,
) -> Result<()> {
    if !listed {
        found.push(Problem::SignatureMissing { snapshot });
        return Ok(());
    }
    // too large or unreadable is as bad as wrong
    let signature = repo.store().read_all(&Key::signature(snapshot), 64 << 10).unwrap_or_default();
    if !writers.iter().any(|writer| writer.verifies(NAMESPACE, document, &signature)) {
        found.push(Problem::SignatureInvalid { snapshot });
    } else if !PublicKey::is_canonical(&signature) {
        found.push(Problem::SignatureTouched { snapshot });
    }
    Ok(())
}
