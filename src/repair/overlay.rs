//! A store in which parked packs seem to lie at their old places, so that readers can look at them.

use std::collections::HashMap;

use crate::store::{Key, Kind, Lock, LockMode, ObjectInfo, Result, Staged, Store};

/// Reads some objects from elsewhere.
pub struct Overlay<'s> {
    inner: &'s dyn Store,
    elsewhere: HashMap<Key, Key>,
}

impl<'s> Overlay<'s> {
    /// Redirects nothing yet.
    pub fn new(inner: &'s dyn Store) -> Self {
        Self { inner, elsewhere: HashMap::new() }
    }

    /// What is asked of `key` is read from `place`.
    pub fn redirect(&mut self, key: Key, place: Key) {
        self.elsewhere.insert(key, place);
    }

    fn place<'k>(&'k self, key: &'k Key) -> &'k Key {
        self.elsewhere.get(key).unwrap_or(key)
    }
}

impl Store for Overlay<'_> {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn read_at(&self, key: &Key, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.inner.read_at(self.place(key), offset, buffer)
    }
    fn size(&self, key: &Key) -> Result<u64> {
        self.inner.size(self.place(key))
    }
    fn stage(&self) -> Result<Box<dyn Staged>> {
        self.inner.stage()
    }
    fn list(&self, kind: Kind) -> Result<Vec<ObjectInfo>> {
        self.inner.list(kind)
    }
    fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key)
    }
    fn rename(&self, from: &Key, to: &Key) -> Result<()> {
        self.inner.rename(from, to)
    }
    fn sync(&self) -> Result<()> {
        self.inner.sync()
    }
    fn lock(&self, mode: LockMode) -> Result<Lock> {
        self.inner.lock(mode)
    }
}
