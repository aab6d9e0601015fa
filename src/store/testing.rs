//! Stores for tests: one in memory that models what a loss of power leaves, and a decorator that
//! fails at a chosen write. Used by this crate's tests and by fuzz targets; never by the program.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Key, Kind, Lock, LockMode, ObjectInfo, Published, Result, Staged, Store, StoreError};

type Objects = BTreeMap<Key, Arc<Vec<u8>>>;

#[derive(Clone)]
struct Disk {
    visible: Objects,
    durable: Objects,
    times: BTreeMap<Key, SystemTime>,
    // objects whose bytes do not come
    spoiled: BTreeSet<Key>,
    now: SystemTime,
}

impl Default for Disk {
    fn default() -> Self {
        let (visible, durable) = (Objects::new(), Objects::new());
        Self { visible, durable, times: BTreeMap::new(), spoiled: BTreeSet::new(), now: UNIX_EPOCH }
    }
}

#[derive(Default)]
struct Locks {
    shared: usize,
    exclusive: bool,
}

/// Objects in memory, with a clock that stands still unless it is set, and with locks.
#[derive(Default, Clone)]
pub struct MemoryStore {
    disk: Arc<Mutex<Disk>>,
    locks: Arc<Mutex<Locks>>,
    lockless: bool,
    apart: bool,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryStore {
    /// A store that knows no locks, as those of most providers.
    pub fn without_locks() -> Self {
        Self { lockless: true, ..Self::default() }
    }

    /// The same objects seen through a store that knows no locks.
    pub fn lockless(&self) -> Self {
        Self { lockless: true, ..self.clone() }
    }

    /// The same objects seen through another mount: its locks are its own, and it knows that.
    pub fn through_another_mount(&self) -> Self {
        Self { locks: Arc::default(), apart: true, ..self.clone() }
    }

    /// What time it is for the store, which dates new objects by it.
    pub fn now(&self) -> SystemTime {
        held(&self.disk).now
    }

    /// Sets the store's clock, forwards or backwards.
    pub fn set_now(&self, now: SystemTime) {
        held(&self.disk).now = now;
    }

    /// What a loss of power now would leave at the least: what was synced.
    pub fn after_power_loss(&self) -> Self {
        let mut disk = held(&self.disk).clone();
        disk.visible = disk.durable.clone();
        self.on(disk)
    }

    /// A copy that shares nothing with this one: what a crash of the process leaves.
    pub fn copy(&self) -> Self {
        let disk = held(&self.disk).clone();
        self.on(disk)
    }

    fn on(&self, disk: Disk) -> Self {
        Self { disk: Arc::new(Mutex::new(disk)), locks: Arc::default(), ..self.clone() }
    }

    /// Every object.
    pub fn objects(&self) -> BTreeMap<Key, Arc<Vec<u8>>> {
        held(&self.disk).visible.clone()
    }

    /// Replaces or removes an object behind everybody's back.
    pub fn tamper(&self, key: &Key, bytes: Option<Vec<u8>>) {
        let mut disk = held(&self.disk);
        match bytes {
            Some(bytes) => disk.put(key, bytes),
            None => {
                disk.visible.remove(key);
            }
        }
        disk.durable = disk.visible.clone();
    }

    /// Makes an object unreadable, as bad sectors do: it is listed with its size, and its bytes do not come.
    pub fn spoil(&self, key: &Key) {
        held(&self.disk).spoiled.insert(key.clone());
    }
}

impl Disk {
    fn put(&mut self, key: &Key, bytes: Vec<u8>) {
        self.times.insert(key.clone(), self.now);
        self.visible.insert(key.clone(), Arc::new(bytes));
    }

    fn info(&self, key: &Key, object: &[u8]) -> ObjectInfo {
        let modified = self.times.get(key).copied().unwrap_or(UNIX_EPOCH);
        ObjectInfo { key: key.clone(), bytes: object.len() as u64, modified }
    }
}

struct MemoryLock {
    locks: Arc<Mutex<Locks>>,
    mode: LockMode,
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut locks = held(&self.locks);
        match self.mode {
            LockMode::Shared => locks.shared -= 1,
            LockMode::Exclusive => locks.exclusive = false,
        }
    }
}

impl Store for MemoryStore {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn read_at(&self, key: &Key, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let disk = held(&self.disk);
        if disk.spoiled.contains(key) {
            let source = io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error());
            return Err(StoreError::Unreadable { key: key.clone(), source });
        }
        let object = disk.visible.get(key).cloned();
        let object = object.ok_or_else(|| StoreError::Missing { key: key.clone() })?;
        let end = offset.saturating_add(buffer.len() as u64);
        let (have, range) = (object.len() as u64, offset as usize..end as usize);
        let short = || StoreError::Short { key: key.clone(), end, have };
        buffer.copy_from_slice(object.get(range).ok_or_else(short)?);
        Ok(())
    }

    fn size(&self, key: &Key) -> Result<u64> {
        let disk = held(&self.disk);
        disk.visible.get(key).map(|o| o.len() as u64).ok_or_else(|| StoreError::Missing { key: key.clone() })
    }

    fn stage(&self) -> Result<Box<dyn Staged>> {
        Ok(Box::new(MemoryStaged { disk: Arc::clone(&self.disk), bytes: Vec::new() }))
    }

    fn list(&self, kind: Kind) -> Result<Vec<ObjectInfo>> {
        let prefix = format!("{}/", kind.folder());
        let disk = held(&self.disk);
        let found = disk.visible.iter().filter(|(key, _)| key.as_str().starts_with(&prefix));
        Ok(found.map(|(key, object)| disk.info(key, object)).collect())
    }

    fn delete(&self, key: &Key) -> Result<()> {
        held(&self.disk).visible.remove(key);
        Ok(())
    }

    fn rename(&self, from: &Key, to: &Key) -> Result<()> {
        let mut disk = held(&self.disk);
        let object = disk.visible.remove(from).ok_or_else(|| StoreError::Missing { key: from.clone() })?;
        disk.visible.insert(to.clone(), object);
        if disk.spoiled.remove(from) {
            disk.spoiled.insert(to.clone());
        }
        // as file systems do: the time is that of the content
        let time = disk.times.get(from).copied().unwrap_or(UNIX_EPOCH);
        disk.times.insert(to.clone(), time);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let mut disk = held(&self.disk);
        disk.durable = disk.visible.clone();
        Ok(())
    }

    fn lock(&self, mode: LockMode) -> Result<Lock> {
        if self.lockless {
            return Ok(Lock::Unsupported);
        }
        let mut locks = held(&self.locks);
        match mode {
            _ if locks.exclusive => return Ok(Lock::Busy),
            LockMode::Exclusive if locks.shared > 0 => return Ok(Lock::Busy),
            LockMode::Shared => locks.shared += 1,
            LockMode::Exclusive => locks.exclusive = true,
        }
        Ok(Lock::Held(Box::new(MemoryLock { locks: Arc::clone(&self.locks), mode })))
    }

    fn locks_reach_everybody(&self) -> bool {
        !self.apart
    }
}

struct MemoryStaged {
    disk: Arc<Mutex<Disk>>,
    bytes: Vec<u8>,
}

impl Staged for MemoryStaged {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn publish(self: Box<Self>, key: &Key) -> Result<Published> {
        let mut disk = held(&self.disk);
        if disk.visible.contains_key(key) {
            return Ok(Published::Existed);
        }
        disk.put(key, self.bytes);
        Ok(Published::Created)
    }

    fn publish_hashed(self: Box<Self>, key: &Key) -> Result<Published> {
        let mut disk = held(&self.disk);
        let published = match disk.visible.get(key) {
            Some(there) if **there == self.bytes => return Ok(Published::Existed),
            Some(_) => Published::Mended,
            None => Published::Created,
        };
        disk.put(key, self.bytes);
        Ok(published)
    }
}

/// How a write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It and everything after it fails, as when the process dies.
    Stop,
    /// It fails for lack of space; reads and deletions go on, writes fail.
    NoSpace,
    /// It fails once; what comes after works.
    Once,
    /// It is done, but reported as failed, once.
    DoneButFailed,
    /// Half of the bytes are written, then everything fails. Same as [`Fault::Stop`] for what has no bytes.
    Torn,
    /// The permission to write is taken away, for it and all that follows; reads go on.
    Denied,
}

impl Fault {
    /// Every kind. One that fails once fails as a write, a sync or a rename, by the number it is asked for.
    pub const ALL: [Self; 6] =
        [Self::Stop, Self::NoSpace, Self::Once, Self::DoneButFailed, Self::Torn, Self::Denied];
}

/// How a read or listing fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFault {
    /// It fails once, as at a bad sector.
    Once,
    /// It and everything after it fails, writes too: the store is gone, and each read blames its object.
    Gone,
    /// It ends before all bytes are there, once.
    Short,
    /// A listing shows what was there when the store was opened, once.
    Stale,
    /// A listing shows nothing, once.
    Empty,
}

impl ReadFault {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Once, Self::Gone, Self::Short, Self::Stale, Self::Empty];
}

#[derive(Default)]
struct FaultState {
    writes: u64,
    reads: u64,
    broken: Option<Fault>,
    is_gone: bool,
    was_read_wrong: bool,
}

/// Fails at the n-th write (stage, write, publish, delete, rename or sync), or at the n-th read (`read_at`, `size` or
/// `list`), counted from 0.
#[derive(Clone)]
pub struct FaultyStore<S> {
    inner: S,
    at: u64,
    fault: Fault,
    reading: Option<(u64, ReadFault)>,
    // listings as they were
    before: Arc<Vec<(Kind, Vec<ObjectInfo>)>>,
    state: Arc<Mutex<FaultState>>,
}

enum Decision {
    Go,
    Fail(io::Error),
    FailAfter(io::Error),
    Half(io::Error),
}

impl<S: Store> FaultyStore<S> {
    /// Fails at write number `at`.
    pub fn new(inner: S, at: u64, fault: Fault) -> Self {
        Self { inner, at, fault, reading: None, before: Arc::default(), state: Arc::default() }
    }

    /// Fails at read number `at`.
    pub fn reading(inner: S, at: u64, fault: ReadFault) -> Self {
        let listed = Kind::ALL.into_iter().filter_map(|kind| Some((kind, inner.list(kind).ok()?)));
        let before = Arc::new(listed.collect());
        Self { reading: Some((at, fault)), before, ..Self::new(inner, u64::MAX, Fault::Stop) }
    }

    /// Reads so far.
    pub fn reads(&self) -> u64 {
        held(&self.state).reads
    }

    // The fault of this read, if it is its turn. Not every fault is one of every read.
    fn read_fault(&self, key: Option<&Key>, fits: impl Fn(ReadFault) -> bool) -> Result<Option<ReadFault>> {
        let mut state = held(&self.state);
        let number = state.reads;
        state.reads += 1;
        let fault = self.reading.filter(|(at, fault)| *at == number && fits(*fault)).map(|(_, fault)| fault);
        state.was_read_wrong |= fault.is_some();
        state.is_gone |= fault == Some(ReadFault::Gone);
        if state.is_gone || fault == Some(ReadFault::Once) {
            let source = io::Error::other("injected fault");
            return Err(match key {
                Some(key) => StoreError::Unreadable { key: key.clone(), source },
                None => StoreError::io("list", "objects")(source),
            });
        }
        Ok(fault)
    }

    /// Writes so far: run once with `at` = `u64::MAX` to learn how many there are.
    pub fn writes(&self) -> u64 {
        held(&self.state).writes
    }

    /// True once the fault was met.
    pub fn was_hit(&self) -> bool {
        let state = held(&self.state);
        state.broken.is_some() || state.was_read_wrong
    }

    fn decide(state: &Mutex<FaultState>, at: u64, fault: Fault, deletes: bool) -> Decision {
        let mut state = held(state);
        let hit = state.writes == at;
        state.writes += 1;
        if state.is_gone {
            return Decision::Fail(io::Error::other("injected fault"));
        }
        let error = || match fault {
            Fault::NoSpace => io::Error::from(io::ErrorKind::StorageFull),
            Fault::Denied => io::Error::from(io::ErrorKind::PermissionDenied),
            _ => io::Error::other("injected fault"),
        };
        if hit {
            state.broken = Some(fault);
            return match fault {
                Fault::DoneButFailed => Decision::FailAfter(error()),
                Fault::Torn => Decision::Half(error()),
                Fault::NoSpace if deletes => Decision::Go,
                _ => Decision::Fail(error()),
            };
        }
        match state.broken {
            Some(Fault::Stop | Fault::Torn | Fault::Denied) => Decision::Fail(error()),
            Some(Fault::NoSpace) if !deletes => Decision::Fail(error()),
            _ => Decision::Go,
        }
    }

    fn run<T>(&self, deletes: bool, what: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        match Self::decide(&self.state, self.at, self.fault, deletes) {
            Decision::Go => act(),
            Decision::Fail(e) | Decision::Half(e) => Err(StoreError::io("write", what)(e)),
            Decision::FailAfter(e) => act().and_then(|_| Err(StoreError::io("write", what)(e))),
        }
    }
}

impl<S: Store + Clone + 'static> Store for FaultyStore<S> {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn read_at(&self, key: &Key, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let fault =
            self.read_fault(Some(key), |fault| !matches!(fault, ReadFault::Stale | ReadFault::Empty))?;
        self.inner.read_at(key, offset, buffer)?;
        if fault == Some(ReadFault::Short) {
            let (end, have) = (offset + buffer.len() as u64, offset + buffer.len() as u64 / 2);
            return Err(StoreError::Short { key: key.clone(), end, have });
        }
        Ok(())
    }
    fn size(&self, key: &Key) -> Result<u64> {
        self.read_fault(Some(key), |fault| matches!(fault, ReadFault::Once | ReadFault::Gone))?;
        self.inner.size(key)
    }
    fn stage(&self) -> Result<Box<dyn Staged>> {
        let staged = self.run(false, "a new object", || self.inner.stage())?;
        Ok(Box::new(FaultyStaged { staged, store: self.clone() }))
    }
    fn list(&self, kind: Kind) -> Result<Vec<ObjectInfo>> {
        match self.read_fault(None, |fault| fault != ReadFault::Short)? {
            Some(ReadFault::Empty) => Ok(Vec::new()),
            Some(ReadFault::Stale) => {
                let before = self.before.iter().find(|(listed, _)| *listed == kind);
                Ok(before.map(|(_, objects)| objects.clone()).unwrap_or_default())
            }
            _ => self.inner.list(kind),
        }
    }
    fn delete(&self, key: &Key) -> Result<()> {
        self.run(true, key.as_str(), || self.inner.delete(key))
    }
    fn rename(&self, from: &Key, to: &Key) -> Result<()> {
        self.run(true, from.as_str(), || self.inner.rename(from, to))
    }
    fn sync(&self) -> Result<()> {
        self.run(true, "directories", || self.inner.sync())
    }
    fn lock(&self, mode: LockMode) -> Result<Lock> {
        self.inner.lock(mode)
    }
    fn locks_reach_everybody(&self) -> bool {
        self.inner.locks_reach_everybody()
    }
}

struct FaultyStaged<S> {
    staged: Box<dyn Staged>,
    store: FaultyStore<S>,
}

impl<S: Store + Clone + 'static> Staged for FaultyStaged<S> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let FaultyStore { at, fault, state, .. } = &self.store;
        match FaultyStore::<S>::decide(state, *at, *fault, false) {
            Decision::Go => self.staged.write(bytes),
            Decision::Fail(e) => Err(StoreError::io("write", "an object")(e)),
            Decision::FailAfter(e) => {
                self.staged.write(bytes)?;
                Err(StoreError::io("write", "an object")(e))
            }
            Decision::Half(e) => {
                self.staged.write(&bytes[..bytes.len() / 2])?;
                Err(StoreError::io("write", "an object")(e))
            }
        }
    }

    fn publish(self: Box<Self>, key: &Key) -> Result<Published> {
        let Self { staged, store } = *self;
        store.run(false, key.as_str(), || staged.publish(key))
    }

    fn publish_hashed(self: Box<Self>, key: &Key) -> Result<Published> {
        let Self { staged, store } = *self;
        store.run(false, key.as_str(), || staged.publish_hashed(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_keeps_the_contract() {
        super::super::conformance::check(&MemoryStore::default()).unwrap();
    }

    #[test]
    fn faults_come_when_they_are_asked_for() {
        let memory = MemoryStore::default();
        let key = Key::repository();
        for (at, fault, left) in
            [(2, Fault::Stop, false), (2, Fault::DoneButFailed, true), (9, Fault::Stop, true)]
        {
            let faulty = FaultyStore::new(memory.copy(), at, fault);
            let result = faulty.create(&key, b"x");
            assert_eq!(result.is_err(), faulty.was_hit());
            assert_eq!(faulty.size(&key).is_ok(), left, "{at} {fault:?}");
        }
        memory.create(&key, b"x").unwrap();
        assert!(memory.after_power_loss().objects().is_empty());
        memory.sync().unwrap();
        assert_eq!(memory.after_power_loss().objects().len(), 1);
    }
}
