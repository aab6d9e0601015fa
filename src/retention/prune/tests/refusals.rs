//! Listings that lie, histories that were cut, objects that cannot be read: nothing is deleted.

use super::support::*;
use crate::base::Name;
use crate::base::event::Quiet;
use crate::base::id::SnapshotId;
use crate::format::record::Record;
use crate::format::snapshot::Document;
use crate::retention::prune::{Options, PruneError, Refusal, Warning, propose};
use crate::store::testing::MemoryStore;
use crate::store::{Key, Kind, Lock, LockMode, ObjectInfo, Result, Staged, Store, StoreError};

#[derive(Clone, Copy, Debug)]
enum Lie {
    Nothing,
    FirstHalf,
    LastHalf,
    Error,
}

/// Lists one kind of objects wrongly.
#[derive(Clone)]
struct Liar {
    inner: MemoryStore,
    kind: Kind,
    lie: Lie,
}

impl Store for Liar {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn read_at(&self, key: &Key, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.inner.read_at(key, offset, buffer)
    }
    fn size(&self, key: &Key) -> Result<u64> {
        self.inner.size(key)
    }
    fn stage(&self) -> Result<Box<dyn Staged>> {
        self.inner.stage()
    }
    fn list(&self, kind: Kind) -> Result<Vec<ObjectInfo>> {
        let mut all = self.inner.list(kind)?;
        if kind == self.kind {
            match self.lie {
                Lie::Nothing => all.clear(),
                Lie::FirstHalf => all.truncate(all.len() / 2),
                Lie::LastHalf => all = all.split_off(all.len().div_ceil(2)),
                Lie::Error => return Err(StoreError::io("list", "objects")(std::io::Error::other("404"))),
            }
        }
        Ok(all)
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

/// Six snapshots of which one was pruned and two are forgotten since.
fn scene(store: MemoryStore) -> (MemoryStore, Vec<SnapshotId>) {
    let store = world(store);
    let key = key();
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(save(&open(store.clone()), &key, "h", &files(n * 8..n * 8 + 12)).unwrap());
        if n == 3 {
            forget(&open(store.clone()), ids[1]).unwrap();
            prune(store.clone(), &Options::default()).unwrap();
        }
    }
    prune(store.clone(), &Options::default()).unwrap();
    forget(&open(store.clone()), ids[0]).unwrap();
    forget(&open(store.clone()), ids[4]).unwrap();
    (store, ids)
}

/// Everything that was there is still there, under its name.
#[track_caller]
fn check_nothing_is_gone(before: &MemoryStore, after: &MemoryStore, when: &str) {
    let objects = after.objects();
    // plans replace each other
    let own = |key: &&Key| !["sessions/", "prune/"].iter().any(|own| key.as_str().starts_with(own));
    let gone: Vec<_> = before.objects().into_keys().filter(|key| !objects.contains_key(key)).collect();
    assert_eq!(gone.iter().filter(own).count(), 0, "{when}: {gone:?}");
}

#[test]
fn a_listing_that_lies_deletes_nothing() {
    for kind in [Kind::Snapshots, Kind::Prune, Kind::Sessions] {
        for lie in [Lie::Nothing, Lie::FirstHalf, Lie::LastHalf, Lie::Error] {
            for together in [false, true] {
                if kind == Kind::Sessions && !together && !matches!(lie, Lie::Error) {
                    continue; // the lock says more than the sessions
                }
                for days in [0, 8, 20] {
                    let (store, _) = scene(MemoryStore::default());
                    let options = Options { together, ..Options::default() };
                    store.set_now(store.now() + DAY * 2);
                    let writer =
                        crate::repo::session::OpenSession::begin(&open(store.clone()), &Name::from("w"));
                    if together && days > 0 {
                        prune(store.clone(), &options).unwrap();
                        if kind != Kind::Sessions {
                            store.set_now(store.now() + DAY * days);
                        } else {
                            store.set_now(store.now() + HOUR * 20);
                        }
                    }
                    let before = store.copy();
                    let liar = Liar { inner: store.clone(), kind, lie };
                    let when = format!("{kind:?} {lie:?} together {together} after {days} days");
                    let result = prune(liar, &options);
                    check_nothing_is_gone(&before, &store, &when);
                    if kind == Kind::Snapshots || matches!(lie, Lie::Nothing | Lie::Error) {
                        assert!(result.is_err(), "{when}");
                    }
                    drop(writer);
                }
            }
        }
    }
}

#[test]
fn other_listings_that_lie_lose_nothing() {
    for kind in [Kind::Packs, Kind::Index, Kind::Tombstones, Kind::Trash, Kind::Records] {
        for lie in [Lie::Nothing, Lie::FirstHalf, Lie::LastHalf, Lie::Error] {
            for together in [false, true] {
                let (store, ids) = scene(MemoryStore::default());
                let liar = Liar { inner: store.clone(), kind, lie };
                for _ in 0..3 {
                    let _ = prune(liar.clone(), &Options { together, ..Options::default() });
                    store.set_now(store.now() + DAY * 9);
                }
                for n in [2, 3, 5] {
                    let all = files(n * 8..n * 8 + 12);
                    check_restores(&store, [(&ids[n as usize], &all)], &format!("{kind:?} {lie:?}"));
                }
                // an index that was hidden may name packs that are gone, which only a full look sees
                prune(store.clone(), &Options { full: true, ..Options::default() }).unwrap();
                check_tidy(&store, "after the lie");
            }
        }
    }
}

fn refused(store: &MemoryStore) -> Vec<&'static str> {
    let before = store.objects();
    match prune(store.clone(), &Options::default()) {
        Err(PruneError::Refused(refusals)) => {
            assert_eq!(before, store.objects());
            refusals.iter().map(Refusal::code).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_older_state_is_refused() {
    // snapshots that the last prune saw
    for last in [1, 3, 4] {
        let (store, ids) = scene(MemoryStore::default());
        let there: Vec<_> = [0, 2, 3, 5].iter().map(|&n: &usize| ids[n]).collect();
        for id in there.iter().rev().take(last) {
            store.tamper(&Key::document(*id), None);
            store.tamper(&Key::signature(*id), None);
        }
        assert!(refused(&store).contains(&"snapshot-gone"), "{last}");
    }
}

fn record(store: &MemoryStore, sequence: u64, snapshot: SnapshotId) -> Key {
    let record = Record {
        lifeboat: "record".to_owned(),
        version: 1,
        repository: "0123456789abcdef0123456789abcdef".to_owned(),
        writer: "0".repeat(16),
        sequence,
        previous: None,
        at: clock().now(),
        host: Name::from("h"),
        user: Name::from("u"),
        kind: "snapshot".to_owned(),
        body: serde_json::json!({ "snapshot": snapshot.to_hex() }),
    };
    let (id, bytes) = record.encode().unwrap();
    let key = Key::record(&record.writer, sequence, id);
    store.create(&key, &bytes).unwrap();
    store.sync().unwrap();
    key
}

#[test]
fn snapshots_that_only_records_know_are_missed() {
    let store = world(MemoryStore::default());
    let key = key();
    for n in 0..3 {
        let id = save(&open(store.clone()), &key, "h", &files(n * 8..n * 8 + 12)).unwrap();
        record(&store, n + 1, id);
    }
    let newest = open(store.clone()).snapshots().unwrap().0.pop().unwrap().id;
    let whole = store.copy();
    store.tamper(&Key::document(newest), None);
    assert_eq!(refused(&store), ["snapshot-gone"]);
    // the logbook itself may not shrink
    let store = whole;
    prune(store.clone(), &Options::default()).unwrap();
    let last = store.list(Kind::Records).unwrap().pop().unwrap().key;
    store.tamper(&last, None);
    assert_eq!(refused(&store), ["record-gone"]);
}

#[test]
fn an_empty_listing_beside_packs_is_refused() {
    let store = world(MemoryStore::default());
    let id = save(&open(store.clone()), &key(), "h", &files(0..8)).unwrap();
    store.tamper(&Key::document(id), None);
    store.tamper(&Key::signature(id), None);
    assert_eq!(refused(&store), ["no-snapshots"]);
}

#[test]
fn what_is_needed_and_cannot_be_read_is_refused() {
    let (store, ids) = scene(MemoryStore::default());
    let flip = |store: &MemoryStore, key: &Key| {
        let mut bytes = store.objects()[key].to_vec();
        let at = bytes.len() / 3;
        bytes[at] ^= 0x20;
        store.tamper(key, Some(bytes));
    };
    let hurt = store.copy();
    flip(&hurt, &Key::document(ids[3]));
    assert_eq!(refused(&hurt), ["unreadable"]);
    // what is forgotten need not be read
    let hurt = store.copy();
    flip(&hurt, &Key::document(ids[4]));
    prune(hurt, &Options::default()).unwrap();
    for object in store.list(Kind::Index).unwrap().into_iter().chain(store.list(Kind::Prune).unwrap()) {
        let hurt = store.copy();
        flip(&hurt, &object.key);
        assert!(!refused(&hurt).is_empty(), "{}", object.key);
    }
    for object in store.list(Kind::Packs).unwrap() {
        let hurt = store.copy();
        hurt.tamper(&object.key, None);
        let result = prune(hurt.clone(), &Options::default());
        // a pack that only forgotten snapshots need is not missed
        match result {
            Err(PruneError::Refused(r)) => assert_eq!(r[0].code(), "chunks-missing"),
            other => {
                other.unwrap();
                let all = files(5 * 8..5 * 8 + 12);
                check_restores(&hurt, [(&ids[5], &all)], "a pack less");
            }
        }
    }
}

fn put(store: &MemoryStore, document: &Document) -> SnapshotId {
    let (id, bytes) = document.encode().unwrap();
    store.create(&Key::document(id), &bytes).unwrap();
    store.sync().unwrap();
    id
}

#[test]
fn numbers_given_twice_and_broken_chains_are_seen() {
    let (store, ids) = scene(MemoryStore::default());
    let repo = open(store.clone());
    let mut twin = repo.document(ids[5]).unwrap();
    twin.user = Name::from("somebody else");
    put(&store, &twin);
    drop(repo);
    let warnings = |store: &MemoryStore| {
        let proposal = propose(&mut open(store.clone()), &Options::default(), &Quiet).unwrap();
        proposal.warnings.iter().map(Warning::code).collect::<Vec<_>>()
    };
    assert_eq!(warnings(&store), ["sequence-twice"]);
    let (store, ids) = scene(MemoryStore::default());
    let mut last = open(store.clone()).document(ids[5]).unwrap();
    (last.sequence, last.previous) = (2, Some(ids[5]));
    put(&store, &last);
    assert_eq!(warnings(&store)[..1], ["chain-broken"]);
    let (store, ids) = scene(MemoryStore::default());
    let mut last = open(store.clone()).document(ids[5]).unwrap();
    (last.sequence, last.previous) = (7, Some(SnapshotId::of(b"never seen")));
    put(&store, &last);
    assert_eq!(refused(&store), ["snapshot-gone"]);
}

/// A store in which a snapshot is finished just before the records are listed.
#[derive(Clone)]
struct Busy {
    inner: MemoryStore,
    saves: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Store for Busy {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn read_at(&self, key: &Key, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.inner.read_at(key, offset, buffer)
    }
    fn size(&self, key: &Key) -> Result<u64> {
        self.inner.size(key)
    }
    fn stage(&self) -> Result<Box<dyn Staged>> {
        self.inner.stage()
    }
    fn list(&self, kind: Kind) -> Result<Vec<ObjectInfo>> {
        use std::sync::atomic::Ordering::SeqCst;
        if kind == Kind::Records && self.saves.load(SeqCst) > 0 {
            let number = self.saves.fetch_sub(1, SeqCst);
            let id = save(&open(self.inner.lockless()), &key(), "h", &files(0..number as u64)).unwrap();
            record(&self.inner, 3 - number as u64, id);
        }
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

#[test]
fn a_snapshot_that_ends_between_two_looks_is_no_listing_that_lies() {
    let store = world(MemoryStore::default());
    save(&open(store.clone()), &key(), "h", &files(0..10)).unwrap();
    let busy = Busy { inner: store.clone(), saves: std::sync::Arc::new(2.into()) };
    let options = Options { together: true, ..Options::default() };
    let proposal = propose(&mut open(busy.clone()), &options, &Quiet).unwrap();
    assert_eq!((proposal.refusals, proposal.snapshots.len()), (Vec::new(), 3));
    assert_eq!(busy.saves.load(std::sync::atomic::Ordering::SeqCst), 0);
}
