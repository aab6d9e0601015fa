//! Promises about calls, which cannot flake.

use std::sync::{Arc, Mutex};

use super::support::*;
use crate::base::event::Quiet;
use crate::retention::prune::{Options, propose};
use crate::store::testing::MemoryStore;
use crate::store::{Key, Kind, Lock, LockMode, ObjectInfo, Result, Staged, Store};

/// Remembers what was listed and read.
#[derive(Clone)]
struct Recorder {
    inner: MemoryStore,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    fn note(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }
}

impl Store for Recorder {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn read_at(&self, key: &Key, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.note(format!("read {key}"));
        self.inner.read_at(key, offset, buffer)
    }
    fn size(&self, key: &Key) -> Result<u64> {
        self.inner.size(key)
    }
    fn stage(&self) -> Result<Box<dyn Staged>> {
        self.note("stage".to_owned());
        self.inner.stage()
    }
    fn list(&self, kind: Kind) -> Result<Vec<ObjectInfo>> {
        self.note(format!("list {}", kind.folder()));
        self.inner.list(kind)
    }
    fn delete(&self, key: &Key) -> Result<()> {
        self.note(format!("delete {key}"));
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

#[test]
fn packs_are_listed_once_and_after_snapshots_and_a_proposal_writes_nothing() {
    let store = world(MemoryStore::default());
    let key = key();
    let first = save(&open(store.clone()), &key, "h", &files(0..40)).unwrap();
    save(&open(store.clone()), &key, "h", &files(20..60)).unwrap();
    forget(&open(store.clone()), first).unwrap();
    for options in [Options::default(), Options { together: true, ..Options::default() }] {
        let recorder = Recorder { inner: store.clone(), calls: Arc::default() };
        propose(&mut open(recorder.clone()), &options, &Quiet).unwrap();
        let calls = recorder.calls.lock().unwrap().clone();
        let at = |what: &str| {
            calls.iter().enumerate().filter(|(_, c)| *c == what).map(|(n, _)| n).collect::<Vec<_>>()
        };
        assert_eq!(at("list packs").len(), 1, "{calls:?}");
        assert_eq!(at("list snapshots").len(), 1);
        assert!(at("list snapshots") < at("list packs"));
        assert!(!calls.iter().any(|c| c == "stage" || c.starts_with("delete")), "{calls:?}");
    }
}

#[test]
fn forgetting_a_snapshot_that_another_equals_reads_documents_only() {
    let store = world(MemoryStore::default());
    let key = key();
    let first = save(&open(store.clone()), &key, "h", &files(0..40)).unwrap();
    save(&open(store.clone()), &key, "h", &files(0..40)).unwrap();
    forget(&open(store.clone()), first).unwrap();
    let recorder = Recorder { inner: store, calls: Arc::default() };
    propose(&mut open(recorder.clone()), &Options::default(), &Quiet).unwrap();
    let calls = recorder.calls.lock().unwrap().clone();
    let reads: Vec<_> = calls.iter().filter(|c| c.starts_with("read")).collect();
    let plain = |c: &str| c.starts_with("read snapshots/") || c == "read repository.json";
    assert!(reads.iter().all(|c| plain(c)), "{reads:?}");
}
