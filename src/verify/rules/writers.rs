//! The writers' public keys are named by their hashes.

use crate::repo::keys::PublicKey;
use crate::repo::{Repo, Result};
use crate::store::{Key, Kind};
use crate::verify::Problem;

/// Reads the keys.
pub fn check(repo: &Repo, found: &mut Vec<Problem>) -> Result<Vec<PublicKey>> {
    let mut keys = Vec::new();
    for object in repo.store().list(Kind::Writers)? {
        let read = repo.store().read_all(&object.key, 64 << 10).map_err(Into::into);
        match read.and_then(|bytes| PublicKey::parse(&bytes)) {
            Ok(key) if object.key == Key::writer(&key.file_hash()) => keys.push(key),
            _ => found.push(Problem::WriterDamaged { key: object.key }),
        }
    }
    Ok(keys)
}
