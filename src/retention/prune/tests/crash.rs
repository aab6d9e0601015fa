//! Fails at every write of every operation, in every way; then the process is gone, or the power.

use std::collections::BTreeMap;

use super::support::*;
use crate::base::id::SnapshotId;
use crate::repo::keys::WriterKey;
use crate::retention::prune::Options;
use crate::store::testing::{Fault, FaultyStore, MemoryStore};

const FAULTS: [Fault; 5] = [Fault::Stop, Fault::NoSpace, Fault::Once, Fault::DoneButFailed, Fault::Torn];

type Saved = BTreeMap<SnapshotId, Files>;
type Faulty = FaultyStore<MemoryStore>;

/// Two snapshots that stay and one that is forgotten; parts of its packs are still needed.
fn scene() -> (MemoryStore, Saved, SnapshotId) {
    let store = world(MemoryStore::default());
    let key = key();
    let (old, some, other) = (files(0..30), files((0..30).step_by(5)), files(40..44));
    let gone = save(&open(store.clone()), &key, "h", &old).unwrap();
    let mut saved = Saved::new();
    saved.insert(save(&open(store.clone()), &key, "h", &some).unwrap(), some);
    saved.insert(save(&open(store.clone()), &key, "h", &other).unwrap(), other);
    (store, saved, gone)
}

/// Runs `act` with a fault at each write in turn. `act` returns the snapshot it was told is saved.
fn at_every_write(
    name: &str,
    store: &MemoryStore,
    saved: &Saved,
    after: &dyn Fn(&MemoryStore, &str),
    act: &dyn Fn(Faulty) -> Option<(SnapshotId, Files)>,
) {
    for fault in FAULTS {
        for at in 0.. {
            let disk = store.copy();
            let faulty = FaultyStore::new(disk.clone(), at, fault);
            let told = act(faulty.clone());
            if !faulty.was_hit() {
                assert!(at > 0);
                break;
            }
            let mut saved = saved.clone();
            saved.extend(told);
            for (power, left) in [("crash", disk.copy()), ("power loss", disk.after_power_loss())] {
                let when = format!("{name}, {fault:?} at {at}, {power}");
                check_restores(&left, &saved, &when);
                go_on(&left, &mut saved.clone(), after, &when);
            }
        }
    }
}

// The next snapshot and the next prune succeed, and nothing useless is left.
fn go_on(left: &MemoryStore, saved: &mut Saved, after: &dyn Fn(&MemoryStore, &str), when: &str) {
    let next = files(60..66);
    let id = save(&open(left.clone()), &key(), "h", &next).unwrap_or_else(|e| panic!("{when}: {e}"));
    saved.insert(id, next);
    after(left, when);
    check_restores(left, &*saved, when);
    check_tidy(left, when);
}

fn alone(left: &MemoryStore, when: &str) {
    prune(left.clone(), &Options::default()).unwrap_or_else(|e| panic!("{when}: {e}"));
}

fn saving(key: &WriterKey, all: &Files) -> impl Fn(Faulty) -> Option<(SnapshotId, Files)> {
    move |store| save(&open(store), key, "h", all).ok().map(|id| (id, all.clone()))
}

#[test]
fn a_first_snapshot() {
    let store = world(MemoryStore::default());
    at_every_write("first", &store, &Saved::new(), &alone, &saving(&key(), &files(0..12)));
}

#[test]
fn a_changed_snapshot() {
    let (store, mut saved, gone) = scene();
    saved.insert(gone, files(0..30));
    at_every_write("changed", &store, &saved, &alone, &saving(&key(), &files(10..50)));
}

#[test]
fn a_forget() {
    let (store, saved, gone) = scene();
    at_every_write("forget", &store, &saved, &alone, &|store| {
        let _ = forget(&open(store), gone);
        None
    });
}

#[test]
fn a_prune_of_shared_documents() {
    let store = world(MemoryStore::default());
    let (key, all) = (key(), files(0..12));
    let gone = save(&open(store.clone()), &key, "h", &all).unwrap();
    let kept = save(&open(store.clone()), &key, "h", &all).unwrap();
    forget(&open(store.clone()), gone).unwrap();
    at_every_write("shared", &store, &Saved::from([(kept, all)]), &alone, &|store| {
        let _ = prune(store, &Options::default());
        None
    });
}

#[test]
fn a_prune_that_deletes_and_rewrites() {
    let (store, saved, gone) = scene();
    forget(&open(store.clone()), gone).unwrap();
    for max_unused in [0.3, 1.0] {
        at_every_write("prune", &store, &saved, &alone, &|store| {
            let _ = prune(store, &Options { max_unused, ..Options::default() });
            None
        });
    }
}

#[test]
fn a_prune_in_steps() {
    let (store, saved, gone) = scene();
    forget(&open(store.clone()), gone).unwrap();
    let together = Options { together: true, ..Options::default() };
    let weeks = |left: &MemoryStore, _: &str| {
        left.set_now(left.now() + DAY * 2);
        prune_for_weeks(left);
    };
    store.set_now(store.now() + DAY * 3);
    for step in ["condemn", "sweep", "purge"] {
        at_every_write(step, &store, &saved, &weeks, &|store| {
            let _ = prune(store, &together);
            None
        });
        // whatever is half done, one that is alone may finish it
        at_every_write(step, &store, &saved, &alone, &|store| {
            let _ = prune(store, &together);
            None
        });
        let done = prune(store.clone(), &together).unwrap();
        let was_due = match step {
            "condemn" => done.condemned.packs,
            "sweep" => done.trashed.packs,
            _ => done.deleted.packs,
        };
        assert!(was_due > 0, "{step}: {done:?}");
        store.set_now(store.now() + DAY * 8);
    }
}

#[test]
fn a_sync_that_fails_fails_the_run_and_loses_nothing() {
    let (store, saved, gone) = scene();
    forget(&open(store.clone()), gone).unwrap();
    let (key, all) = (key(), files(20..50));
    for saving in [true, false] {
        for at in 0.. {
            let disk = store.copy();
            let mut syncs = 0;
            let hit = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
            let seen = std::sync::Arc::clone(&hit);
            let hooked = Hooked::new(&disk, move |_, what| {
                let fails = what == "sync" && syncs == at;
                syncs += u64::from(what == "sync");
                seen.fetch_or(fails, std::sync::atomic::Ordering::SeqCst);
                fails
            });
            let failed = if saving {
                save(&open(hooked), &key, "h", &all).is_err()
            } else {
                prune(hooked, &Options::default()).is_err()
            };
            if !hit.load(std::sync::atomic::Ordering::SeqCst) {
                assert!(at > 1);
                break;
            }
            assert!(failed, "sync {at}");
            for left in [disk.copy(), disk.after_power_loss()] {
                check_restores(&left, &saved, "sync");
                go_on(&left, &mut saved.clone(), &alone, "sync");
            }
        }
    }
}
