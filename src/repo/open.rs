//! Making and opening a repository.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::keys::PublicKey;
use super::{RepoError, Result};
use crate::base::id::{PackId, SnapshotId};
use crate::base::time::Clock;
use crate::format::FormatError;
use crate::format::repository::{MAX_BYTES, Repository};
use crate::store::{Key, Kind, Lock, LockMode, Published, Store, StoreError};
use crate::sys::host::random_hex;

/// What to do by hand, put into every repository.
pub const RECOVER_MD: &[u8] = include_bytes!("RECOVER.md");
/// The program that needs nothing but Python and zstd, put into every repository.
pub const RECOVER_PY: &[u8] = include_bytes!("recover.py");
/// The hashes of those that earlier versions put into repositories, which are as good where they are.
pub const EARLIER_RECOVERY: [&str; 3] = [
    "951876599cd187a5baf37e70cbe0a5b5396fda5979c5c096086c874f84658946",
    "a9db570a5518fa795358f1254bac66dfe186974456a4abf5b6402607d8bf3a94",
    "d2f878bdd3b5cb34b7250c8b8694b5494998ceef1c26401574b43aaf0c047c08",
];

/// Makes a repository in an empty store, with one writer.
///
/// # Errors
/// If the store has one already or cannot be written.
pub fn create(store: &Arc<dyn Store>, writer: &PublicKey, clock: Clock) -> Result<Repository> {
    let id = random_hex().map_err(RepoError::io("get random bytes"))?;
    let config = Repository::new(id, clock.now());
    store.create(&Key::top("RECOVER.md"), RECOVER_MD)?;
    store.create(&Key::top("recover.py"), RECOVER_PY)?;
    store.create(&Key::writer(&writer.file_hash()), writer.file_bytes())?;
    store.sync()?;
    let mut bytes = serde_json::to_vec_pretty(&config).map_err(|e| RepoError::Key(e.to_string()))?;
    bytes.push(b'\n');
    // the repository exists from here on
    if store.create(&Key::repository(), &bytes)? == Published::Existed {
        return Err(RepoError::Locked { location: store.location() });
    }
    store.sync()?;
    Ok(config)
}

pub(super) fn read_config(store: &dyn Store) -> Result<Repository> {
    let key = Key::repository();
    let bytes = match store.read_all(&key, MAX_BYTES) {
        Err(StoreError::Missing { .. }) if holds_any(store) => {
            return Err(RepoError::ConfigLost(store.location()));
        }
        Err(StoreError::Missing { .. }) => return Err(RepoError::NotFound(store.location())),
        // what it should lie in is a file
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotADirectory => {
            return Err(RepoError::NotFound(store.location()));
        }
        other => other?,
    };
    Repository::decode(&bytes).map_err(|source| match source {
        FormatError::Newer { .. } | FormatError::UnknownFeature(_) => {
            RepoError::TooNew { location: store.location(), source }
        }
        source => RepoError::Damaged { key, source },
    })
}

// True if there are objects of a repository, whatever else is missing.
fn holds_any(store: &dyn Store) -> bool {
    let any = |kind: Kind, is_one: fn(&Key) -> bool| store.names(kind).unwrap_or_default().iter().any(is_one);
    any(Kind::Snapshots, |key| SnapshotId::from_hex(key.stem()).is_ok_and(|id| *key == Key::document(id)))
        || any(Kind::Packs, |key| PackId::from_hex(key.stem()).is_ok_and(|id| *key == Key::pack(id)))
}

pub(super) fn wait_for_lock(store: &dyn Store, mode: LockMode, patience: Duration) -> Result<Lock> {
    let began = Instant::now();
    loop {
        match store.lock(mode)? {
            Lock::Busy if began.elapsed() < patience => std::thread::sleep(Duration::from_millis(50)),
            Lock::Busy => return Err(RepoError::Locked { location: store.location() }),
            lock => return Ok(lock),
        }
    }
}
