//! Named, write-once objects somewhere. Knows keys and bytes, not what is in them.
//!
//! The contract of [`Store`], which `conformance.rs` checks for every kind of store:
//! an object appears whole or not at all, is never replaced (but by what its name says it must be), and a read that cannot give all the
//! bytes asked for is an error. After [`Store::sync`] everything given its name before survives a
//! loss of power.

use std::fmt;
use std::io;
use std::time::SystemTime;

use crate::base::id::{IndexId, PackId, RecordId, SnapshotId};

pub mod conformance;
mod folders;
pub mod local;
pub mod testing;

/// The kinds of objects, each a folder (format.md, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Content.
    Packs,
    /// Where chunks are.
    Index,
    /// Documents and their signatures.
    Snapshots,
    /// The logbook.
    Records,
    /// Forgotten snapshots.
    Tombstones,
    /// Writers at work.
    Sessions,
    /// Plans of prunes.
    Prune,
    /// Waiting to be deleted.
    Trash,
    /// Taken out of use by a repair.
    Quarantine,
    /// Public keys of writers.
    Writers,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Packs,
        Self::Index,
        Self::Snapshots,
        Self::Records,
        Self::Tombstones,
        Self::Sessions,
        Self::Prune,
        Self::Trash,
        Self::Quarantine,
        Self::Writers,
    ];

    /// The folder's name.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Packs => "packs",
            Self::Index => "index",
            Self::Snapshots => "snapshots",
            Self::Records => "records",
            Self::Tombstones => "tombstones",
            Self::Sessions => "sessions",
            Self::Prune => "prune",
            Self::Trash => "trash",
            Self::Quarantine => "quarantine",
            Self::Writers => "writers",
        }
    }
}

/// The name of an object: a relative path of ordinary ASCII components.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// `repository.json`.
    pub fn repository() -> Self {
        Self("repository.json".to_owned())
    }

    /// A file at the top: `RECOVER.md`, `recover.py`.
    pub fn top(name: &'static str) -> Self {
        Self(name.to_owned())
    }

    /// A pack.
    pub fn pack(id: PackId) -> Self {
        let hex = id.to_hex();
        Self(format!("packs/{}/{hex}.tar.zst", &hex[..2]))
    }

    /// An index object.
    pub fn index(id: IndexId) -> Self {
        Self(format!("index/{id}.jsonl.zst"))
    }

    /// A snapshot's document.
    pub fn document(id: SnapshotId) -> Self {
        Self(format!("snapshots/{id}.json"))
    }

    /// The signature of a document.
    pub fn signature(id: SnapshotId) -> Self {
        Self(format!("snapshots/{id}.sig"))
    }

    /// A tombstone.
    pub fn tombstone(id: SnapshotId) -> Self {
        Self(format!("tombstones/{id}.json"))
    }

    /// A writer's public key.
    pub fn writer(hash: &str) -> Self {
        Self(format!("writers/{hash}.pub"))
    }

    /// A record of the logbook.
    pub fn record(writer: &str, sequence: u64, id: RecordId) -> Self {
        Self(format!("records/{writer}/{sequence:010}-{id}.json"))
    }

    /// The signature of a record.
    pub fn record_signature(writer: &str, sequence: u64, id: RecordId) -> Self {
        Self(format!("records/{writer}/{sequence:010}-{id}.sig"))
    }

    /// An open session.
    pub fn session(random: &str) -> Self {
        Self(format!("sessions/{random}.json"))
    }

    /// The plan of a prune.
    pub fn prune(random: &str) -> Self {
        Self(format!("prune/{random}.json"))
    }

    /// The same object under `folder/`.
    pub fn below(&self, kind: Kind) -> Self {
        Self(format!("{}/{}", kind.folder(), self.0))
    }

    /// A key as found in a listing; `None` unless every component is plain.
    pub fn from_listing(path: &str) -> Option<Self> {
        let plain = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        path.split('/').all(plain).then(|| Self(path.to_owned()))
    }

    /// The relative path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component without its endings: the hash, for objects named by one.
    pub fn stem(&self) -> &str {
        let name = self.0.rsplit('/').next().unwrap_or_default();
        name.split('.').next().unwrap_or_default()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub key: Key,
    /// Its size.
    pub bytes: u64,
    /// When the store got it, by the store's clock.
    pub modified: SystemTime,
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such object.
    #[error("{key} is missing")]
    Missing {
        /// The object.
        key: Key,
    },
    /// It is shorter than asked for.
    #[error("{key} is too short: byte {end} was asked for, it has {have}")]
    Short {
        /// The object.
        key: Key,
        /// The end of the range asked for.
        end: u64,
        /// Its size.
        have: u64,
    },
    /// It is there, and its bytes do not come: a bad sector, a damaged file system, no regular file.
    #[error("{key} cannot be read")]
    Unreadable {
        /// The object.
        key: Key,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// It is larger than objects of its kind are.
    #[error("{key} has {bytes} bytes, more than the {limit} allowed")]
    TooLarge {
        /// The object.
        key: Key,
        /// Its size.
        bytes: u64,
        /// What was allowed.
        limit: u64,
    },
    /// The system refused.
    #[error("could not {act} {what}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    pub(crate) fn io(act: &'static str, what: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        let what = what.to_string();
        move |source| Self::Io { act, what, source }
    }

    /// True if it tells of one object, as against a failure of the store: it costs that object alone.
    pub fn is_of_the_object(&self) -> bool {
        !matches!(self, Self::Io { .. })
    }
}

/// The result of a store's work.
pub type Result<T> = std::result::Result<T, StoreError>;

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Together with others.
    Shared,
    /// Alone.
    Exclusive,
}

/// What came of asking for a lock.
pub enum Lock {
    /// Held until it is dropped.
    Held(Box<dyn Send + Sync>),
    /// Somebody else holds it.
    Busy,
    /// This store has no locks: nothing can be known of others.
    Unsupported,
}

/// Named, write-once objects.
pub trait Store: Send + Sync {
    /// Where it is, for people.
    fn location(&self) -> String;

    /// The directory of this host that it is, if it is one.
    fn directory(&self) -> Option<&std::path::Path> {
        None
    }

    /// Fills `buffer` with the object's bytes from `offset` on, or fails.
    ///
    /// # Errors
    /// If the object is missing, too short or unreadable. A store that is out of reach says so
    /// ([`StoreError::Io`]), and blames no object.
    fn read_at(&self, key: &Key, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// The object's size.
    ///
    /// # Errors
    /// If it is missing or cannot be asked.
    fn size(&self, key: &Key) -> Result<u64>;

    /// Begins an object whose name is not known yet.
    ///
    /// # Errors
    /// If there is no place for it.
    fn stage(&self) -> Result<Box<dyn Staged>>;

    /// All objects of a kind. An incomplete listing is an error, never a shorter list.
    ///
    /// # Errors
    /// If any part cannot be listed.
    fn list(&self, kind: Kind) -> Result<Vec<ObjectInfo>>;

    /// The names of all objects of a kind, in order: a listing without sizes and times, which is cheaper where
    /// there are many.
    ///
    /// # Errors
    /// As [`Self::list`].
    fn names(&self, kind: Kind) -> Result<Vec<Key>> {
        Ok(self.list(kind)?.into_iter().map(|object| object.key).collect())
    }

    /// Deletes an object; one that is gone already is deleted.
    ///
    /// # Errors
    /// If it is still there.
    fn delete(&self, key: &Key) -> Result<()>;

    /// Gives an object another name, which nothing has yet.
    ///
    /// # Errors
    /// If it is missing, or the new name is taken.
    fn rename(&self, from: &Key, to: &Key) -> Result<()>;

    /// Makes everything that got its name or was deleted before durable.
    ///
    /// # Errors
    /// If that cannot be promised.
    fn sync(&self) -> Result<()>;

    /// Asks for the lock that tells whether others are at work. Does not wait.
    ///
    /// # Errors
    /// If the system refuses.
    fn lock(&self, mode: LockMode) -> Result<Lock>;

    /// True if whoever uses the objects sees this store's locks, so that who holds the exclusive one is alone. Not so where
    /// another host, or another mount, may have locks of its own.
    fn locks_reach_everybody(&self) -> bool {
        true
    }

    /// Removes what crashed writers left half written. Only called under the exclusive lock.
    ///
    /// # Errors
    /// If something cannot be removed.
    fn clear_staged(&self) -> Result<u64> {
        Ok(0)
    }

    /// A whole object of at most `limit` bytes.
    ///
    /// # Errors
    /// If it is missing, larger or unreadable.
    fn read_all(&self, key: &Key, limit: u64) -> Result<Vec<u8>> {
        let size = self.size(key)?;
        if size > limit {
            return Err(StoreError::TooLarge { key: key.clone(), bytes: size, limit });
        }
        let mut bytes = vec![0; size as usize];
        self.read_at(key, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// Creates a whole object. One of the same name is left as it is.
    ///
    /// # Errors
    /// If it could not be written whole.
    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Published> {
        let mut staged = self.stage()?;
        staged.write(bytes)?;
        staged.publish(key)
    }
}

/// What [`Staged::publish`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The name was free.
    Created,
    /// An object of that name was there and was left as it is.
    Existed,
    /// An object of that name was there with other bytes, and these took their place.
    Mended,
}

/// An object being written. Dropped without [`Staged::publish`], it leaves nothing.
pub trait Staged: Send {
    /// Appends bytes.
    ///
    /// # Errors
    /// If they could not be written; the object cannot be published then.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes the bytes durable and gives the object its name. The name is durable after [`Store::sync`].
    ///
    /// # Errors
    /// If any byte may be missing. Nothing has the name then, unless the error came after it was given.
    fn publish(self: Box<Self>, key: &Key) -> Result<Published>;

    /// The same for an object whose name is the hash of its bytes: one of that name that has other bytes, or cannot be
    /// read, is damaged, and these take its place in one step.
    ///
    /// # Errors
    /// As [`Self::publish`].
    fn publish_hashed(self: Box<Self>, key: &Key) -> Result<Published>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_from_listings_are_plain() {
        assert!(Key::from_listing("packs/ab/abcd.tar.zst").is_some());
        for bad in ["../x", "a//b", "/a", ".hidden", "a/./b", "a b", "a/\u{202e}"] {
            assert!(Key::from_listing(bad).is_none(), "{bad}");
        }
        assert_eq!(Key::from_listing("index/abc.jsonl.zst").unwrap().stem(), "abc");
    }
}
