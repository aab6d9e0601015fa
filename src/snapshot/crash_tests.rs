//! The real snapshot, with the store failing at every write and every read: nothing that was finished is lost, what is
//! reported as finished is there, and the next one succeeds. So with the prune that follows.

use std::fs;

use crate::base::event::Quiet;
use crate::base::id::SnapshotId;
use crate::logbook;
use crate::repo::RepoError;
use crate::retention::prune;
use crate::store::testing::{Fault, FaultyStore, MemoryStore, ReadFault};
use crate::verify::tests::{Fixture, Restorable, deep, open_repo, restorable};

use super::{Options, SnapshotError, take};

fn options(fixture: &Fixture) -> Options {
    Options {
        roots: vec![fixture.tree().to_owned()],
        host: "h".into(),
        user: "u".into(),
        level: 1,
        workers: 1,
        ..Options::default()
    }
}

// A snapshot of a tree that has changed, through this store.
fn save(fixture: &Fixture, store: &FaultyStore<MemoryStore>) -> Result<SnapshotId, SnapshotError> {
    let repo = crate::repo::Repo::open(std::sync::Arc::new(store.clone()), crate::verify::tests::clock())?;
    let head = logbook::head(&repo)?;
    let id = take(&repo, &fixture.key, head, &options(fixture), &Quiet)?.id;
    id.ok_or(SnapshotError::Repo(RepoError::SelfCheck))
}

struct World {
    fixture: Fixture,
    before: Restorable,
}

impl World {
    fn new() -> Self {
        let fixture = Fixture::new();
        let before = restorable(&fixture.memory);
        fs::write(fixture.tree().join("dir/f1"), b"changed since the last one").unwrap();
        fs::write(fixture.tree().join("dir/new"), vec![7; 90_000]).unwrap();
        Self { fixture, before }
    }

    // What must hold whatever happened: `left` is what the crash or the loss of power left.
    fn check(&self, what: &str, left: &MemoryStore, told: &Result<SnapshotId, SnapshotError>) {
        let there = restorable(left);
        let kept = self.before.iter().all(|(path, content)| there.get(path) == Some(content));
        assert!(kept, "{what}: a finished snapshot is lost");
        let ids = open_repo(left.clone()).snapshot_ids().unwrap();
        if let Ok(id) = told {
            assert!(ids.contains(id), "{what}: it was reported as finished and is not there");
            assert!(there.contains_key(&(*id, b"dir/new".to_vec())), "{what}: it is not whole");
        }
        let report = deep(left);
        assert!(report.is_clean(), "{what}: {:?}", report.problems);
        // what is there is whole, whether it was reported or not; and the next one works
        let next = save(&self.fixture, &FaultyStore::new(left.clone(), u64::MAX, Fault::Stop));
        let next = next.unwrap_or_else(|e| panic!("{what}: the next snapshot fails: {e}"));
        assert!(restorable(left).contains_key(&(next, b"dir/new".to_vec())), "{what}");
        assert!(deep(left).is_clean(), "{what}: after the next one: {:?}", deep(left).problems);
    }
}

#[test]
fn a_fault_at_any_write_of_a_snapshot_loses_nothing() {
    let world = World::new();
    let counting = FaultyStore::new(world.fixture.memory.copy(), u64::MAX, Fault::Stop);
    save(&world.fixture, &counting).unwrap();
    assert!(counting.writes() > 15, "{}", counting.writes());
    for fault in Fault::ALL {
        for at in 0..counting.writes() {
            let memory = world.fixture.memory.copy();
            let faulty = FaultyStore::new(memory.clone(), at, fault);
            let told = save(&world.fixture, &faulty);
            let what = format!("{fault:?} at write {at}");
            world.check(&what, &memory.copy(), &told);
            world.check(&format!("{what}, and the power fails"), &memory.after_power_loss(), &told);
        }
    }
}

#[test]
fn a_fault_at_any_read_of_a_snapshot_loses_nothing() {
    let world = World::new();
    let counting = FaultyStore::new(world.fixture.memory.copy(), u64::MAX, Fault::Stop);
    save(&world.fixture, &counting).unwrap();
    assert!(counting.reads() > 15, "{}", counting.reads());
    for fault in ReadFault::ALL {
        for at in 0..counting.reads() {
            let memory = world.fixture.memory.copy();
            let told = save(&world.fixture, &FaultyStore::reading(memory.clone(), at, fault));
            if fault == ReadFault::Gone {
                assert!(told.is_err(), "the store is gone at read {at}");
            }
            // a listing that hides documents makes a snapshot that follows an older one, or none
            let hidden = matches!(fault, ReadFault::Stale | ReadFault::Empty);
            let left = memory.copy();
            if hidden && told.is_ok() {
                let there = restorable(&left);
                assert!(
                    world.before.iter().all(|(path, content)| there.get(path) == Some(content)),
                    "{fault:?} {at}"
                );
                assert!(deep(&left).lost().is_empty(), "{fault:?} at read {at}");
                continue;
            }
            world.check(&format!("{fault:?} at read {at}"), &left, &told);
        }
    }
}

// The first of the snapshots forgotten, so that a prune has something to do; and the prune through this store.
fn pruned(store: &FaultyStore<MemoryStore>) -> Result<(), prune::PruneError> {
    pruned_as(store, false)
}

fn pruned_as(store: &FaultyStore<MemoryStore>, full: bool) -> Result<(), prune::PruneError> {
    let mut repo =
        crate::repo::Repo::open(std::sync::Arc::new(store.clone()), crate::verify::tests::clock())?;
    let options = prune::Options { max_unused: 0.0, full, ..prune::Options::default() };
    prune::run(&mut repo, &options, &Quiet).map(|_| ())
}

#[test]
fn a_fault_at_any_step_of_a_prune_of_real_snapshots_loses_nothing() {
    let world = World::new();
    let fixture = &world.fixture;
    let repo = open_repo(fixture.memory.clone());
    let last = save(fixture, &FaultyStore::new(fixture.memory.clone(), u64::MAX, Fault::Stop)).unwrap();
    let gone = repo.snapshots().unwrap().0[0].id;
    let tombstone = crate::format::snapshot::Tombstone {
        lifeboat: "tombstone".to_owned(),
        version: 1,
        repository: repo.config().id.clone(),
        snapshot: gone,
        at: repo.clock().now(),
        by: "u@h".into(),
        why: None,
    };
    repo.forget(&tombstone).unwrap();
    drop(repo);
    let mut kept = restorable(&fixture.memory);
    kept.retain(|(id, _), _| *id != gone);
    assert!(kept.keys().any(|(id, _)| *id == last));
    let counting = FaultyStore::new(fixture.memory.copy(), u64::MAX, Fault::Stop);
    pruned(&counting).unwrap();
    assert!(counting.writes() > 10, "{}", counting.writes());
    let check = |what: &str, left: &MemoryStore| {
        let there = restorable(left);
        assert!(
            kept.iter().all(|(path, content)| there.get(path) == Some(content)),
            "{what}: something is lost"
        );
        assert!(deep(left).lost().is_empty(), "{what}: {:?}", deep(left).problems);
        let again = pruned(&FaultyStore::new(left.clone(), u64::MAX, Fault::Stop));
        again.unwrap_or_else(|e| panic!("{what}: the next prune fails: {e}"));
        assert_eq!(restorable(left), kept, "{what}: after the next prune");
        // a listing that hid an index object leaves one that names packs which are gone: the long way finds it
        if !deep(left).is_clean() && what.contains("at read") {
            pruned_as(&FaultyStore::new(left.clone(), u64::MAX, Fault::Stop), true).unwrap();
        }
        assert!(deep(left).is_clean(), "{what}: {:?}", deep(left).problems);
        assert_eq!(restorable(left), kept, "{what}: at the end");
    };
    for fault in Fault::ALL {
        for at in 0..counting.writes() {
            let memory = fixture.memory.copy();
            let _ = pruned(&FaultyStore::new(memory.clone(), at, fault));
            let what = format!("{fault:?} at write {at}");
            check(&what, &memory.copy());
            check(&format!("{what}, and the power fails"), &memory.after_power_loss());
        }
    }
    for fault in ReadFault::ALL {
        for at in 0..counting.reads() {
            let memory = fixture.memory.copy();
            let _ = pruned(&FaultyStore::reading(memory.clone(), at, fault));
            check(&format!("{fault:?} at read {at}"), &memory.copy());
        }
    }
}
