//! Tombstones, sessions and plans must decode and have the bytes that their names say, as far as these say it; what has a
//! name that the format does not know was not written by Lifeboat.

use crate::base::id::{IndexId, PackId, SnapshotId};
use crate::format::record::{MAX_BYTES, MAX_SMALL, PrunePlan, Session, has_its_name};
use crate::format::snapshot::Tombstone;
use crate::repo::{Repo, Result};
use crate::store::{Key, Kind, StoreError};
use crate::verify::Problem;

/// Reads tombstones, sessions and plans, and looks at the names of packs and indexes.
pub fn check(repo: &Repo, found: &mut Vec<Problem>) -> Result<()> {
    names(repo, found)?;
    let id = &repo.config().id;
    each(repo, Kind::Tombstones, MAX_SMALL, found, |key, bytes| {
        let tombstone: Tombstone = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        let right = tombstone.lifeboat == "tombstone"
            && tombstone.repository == *id
            && *key == Key::tombstone(tombstone.snapshot);
        if right { Ok(()) } else { Err("it is no tombstone of that name".to_owned()) }
    })?;
    each(repo, Kind::Sessions, MAX_SMALL, found, |key, bytes| {
        named_by_hash(key, bytes)?;
        let session: Session = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        let right = session.lifeboat == "session" && session.repository == *id;
        if right { Ok(()) } else { Err("it is no session of this repository".to_owned()) }
    })?;
    each(repo, Kind::Prune, MAX_BYTES, found, |key, bytes| {
        named_by_hash(key, bytes)?;
        PrunePlan::decode(bytes, id).map(|_| ()).map_err(|e| e.to_string())
    })
}

fn named_by_hash(key: &Key, bytes: &[u8]) -> std::result::Result<(), String> {
    let right = has_its_name(key.stem(), bytes);
    if right { Ok(()) } else { Err("its bytes do not have the hash that its name says".to_owned()) }
}

fn each(
    repo: &Repo,
    kind: Kind,
    limit: u64,
    found: &mut Vec<Problem>,
    judge: impl Fn(&Key, &[u8]) -> std::result::Result<(), String>,
) -> Result<()> {
    for object in repo.store().list(kind)? {
        let key = object.key;
        let named = match kind {
            Kind::Tombstones => SnapshotId::from_hex(key.stem()).is_ok_and(|id| key == Key::tombstone(id)),
            Kind::Sessions => key == Key::session(key.stem()),
            _ => key == Key::prune(key.stem()),
        };
        if !named {
            found.push(Problem::ObjectUnknown { key });
            continue;
        }
        let why = match repo.store().read_all(&key, limit) {
            // these come and go
            Err(StoreError::Missing { .. }) => continue,
            Err(e) => super::why(&e),
            Ok(bytes) => match judge(&key, &bytes) {
                Ok(()) => continue,
                Err(why) => why,
            },
        };
        found.push(Problem::ObjectMalformed { key, why });
    }
    Ok(())
}

fn names(repo: &Repo, found: &mut Vec<Problem>) -> Result<()> {
    for object in repo.store().list(Kind::Index)? {
        if !IndexId::from_hex(object.key.stem()).is_ok_and(|id| object.key == Key::index(id)) {
            found.push(Problem::ObjectUnknown { key: object.key });
        }
    }
    for object in repo.store().list(Kind::Packs)? {
        if !PackId::from_hex(object.key.stem()).is_ok_and(|id| object.key == Key::pack(id)) {
            found.push(Problem::ObjectUnknown { key: object.key });
        }
    }
    Ok(())
}
