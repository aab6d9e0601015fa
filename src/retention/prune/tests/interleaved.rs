//! A writer is stopped between any two of its writes while days pass and prunes run; then it goes
//! on. What it says is saved, is.

use super::support::*;
use crate::base::id::SnapshotId;
use crate::repo::RepoError;
use crate::retention::prune::Options;
use crate::store::testing::MemoryStore;
use crate::store::{Lock, LockMode, Store};

fn together() -> Options {
    Options { together: true, ..Options::default() }
}

struct Scene {
    store: MemoryStore,
    forgotten: SnapshotId,
    kept: (SnapshotId, Files),
}

// The writer will want what the forgotten snapshot has.
fn scene(store: MemoryStore) -> Scene {
    let store = world(store);
    let key = key();
    let kept = files(40..50);
    let forgotten = save(&open(store.clone()), &key, "h", &files(0..24)).unwrap();
    let id = save(&open(store.clone()), &key, "h", &kept).unwrap();
    store.set_now(start() + DAY * 3);
    Scene { store, forgotten, kept: (id, kept) }
}

/// What happens while the writer is stopped: forget or not, then so many prunes, so far apart.
fn meanwhile(store: &MemoryStore, forgotten: Option<SnapshotId>, prunes: u32, options: &Options) {
    if let Some(id) = forgotten {
        forget(&open(store.clone()), id).unwrap();
    }
    for _ in 0..prunes {
        prune(store.clone(), options).unwrap();
        store.set_now(store.now() + DAY * 8);
    }
}

fn stop_at_every_write(make: fn() -> MemoryStore, condemned_before: bool, in_hook: bool, prunes: u32) {
    let wanted = files(4..30);
    for at in 0.. {
        let Scene { store, forgotten, kept } = scene(make());
        if !in_hook {
            forget(&open(store.clone()), forgotten).unwrap();
        }
        if condemned_before {
            prune(store.clone(), &together()).unwrap();
            store.set_now(store.now() + HOUR * 30);
        }
        let other = store.clone();
        let hooked = Hooked::new(&store, move |number, _| {
            if number == at {
                meanwhile(&other, in_hook.then_some(forgotten), prunes, &together());
            }
            false
        });
        let when = format!(
            "stopped at {at}, condemned {condemned_before}, forgotten within {in_hook}, {prunes} prunes"
        );
        let result = save_once(&open(hooked.clone()), &key(), "h", &wanted);
        if hooked.writes() <= at {
            break;
        }
        check_restores(&store, [(&kept.0, &kept.1)], &when);
        match result {
            Ok(id) => check_restores(&store, [(&id, &wanted)], &when),
            // parents and packs may be gone by now; the next attempt looks anew
            Err(RepoError::Condemned(_)) => {}
            Err(e) => assert!(e.is_damage(), "{when}: {e}"),
        }
        let id = save(&open(store.clone()), &key(), "h", &wanted).unwrap_or_else(|e| panic!("{when}: {e}"));
        check_restores(&store, [(&kept.0, &kept.1), (&id, &wanted)], &when);
        prune_for_weeks(&store);
        check_restores(&store, [(&kept.0, &kept.1), (&id, &wanted)], &when);
    }
}

#[test]
fn a_writer_stopped_anywhere_while_prunes_go_on() {
    for condemned_before in [false, true] {
        for in_hook in [false, true] {
            if condemned_before && in_hook {
                continue;
            }
            for prunes in [1, 2, 4] {
                stop_at_every_write(MemoryStore::without_locks, condemned_before, in_hook, prunes);
            }
        }
    }
}

#[test]
fn a_writer_with_a_lock_is_waited_for_or_worked_around() {
    stop_at_every_write(MemoryStore::default, false, true, 4);
}

#[test]
fn a_prune_stopped_anywhere_while_a_writer_comes_and_goes() {
    for step in 0..3u32 {
        for at in 0.. {
            let Scene { store, forgotten, kept } = scene(MemoryStore::without_locks());
            forget(&open(store.clone()), forgotten).unwrap();
            for _ in 0..step {
                prune(store.clone(), &together()).unwrap();
                store.set_now(store.now() + DAY * 8);
            }
            let (other, wanted) = (store.clone(), files(4..30));
            let saved = std::sync::Arc::new(std::sync::Mutex::new(None));
            let told = std::sync::Arc::clone(&saved);
            let hooked = Hooked::new(&store, move |number, _| {
                if number == at {
                    *told.lock().unwrap() = save(&open(other.clone()), &key(), "h", &files(4..30)).ok();
                }
                false
            });
            let _ = prune(hooked.clone(), &together());
            if hooked.writes() <= at {
                break;
            }
            let when = format!("prune step {step} stopped at {at}");
            let id = saved.lock().unwrap().expect(&when);
            check_restores(&store, [(&kept.0, &kept.1), (&id, &wanted)], &when);
            prune_for_weeks(&store);
            check_restores(&store, [(&kept.0, &kept.1), (&id, &wanted)], &when);
        }
    }
}

#[test]
fn a_prune_that_is_alone_locks_others_out_at_every_write() {
    let Scene { store, forgotten, kept } = scene(MemoryStore::default());
    forget(&open(store.clone()), forgotten).unwrap();
    let other = store.clone();
    let hooked = Hooked::new(&store, move |_, _| !matches!(other.lock(LockMode::Shared), Ok(Lock::Busy)));
    prune(hooked, &Options::default()).unwrap();
    check_restores(&store, [(&kept.0, &kept.1)], "alone");
    check_tidy(&store, "alone");
}

#[test]
fn an_expired_or_renewed_session_is_told_apart() {
    let Scene { store, forgotten, .. } = scene(MemoryStore::without_locks());
    let session = crate::repo::session::OpenSession::begin(&open(store.clone()), &"w".into()).unwrap();
    forget(&open(store.clone()), forgotten).unwrap();
    assert!(prune(store.clone(), &together()).unwrap().condemned.packs > 0);
    // seen again within a day each time: the writer is at work
    for hours in [20, 40, 60] {
        let now = start() + DAY * 3 + HOUR * hours;
        store.set_now(now);
        let renewed = crate::format::record::Session {
            nonce: String::new(),
            boot: String::new(),
            lifeboat: "session".to_owned(),
            version: 1,
            repository: "0123456789abcdef0123456789abcdef".to_owned(),
            host: "w".into(),
            process: 1,
            started: clock().now(),
            renews: Some(session.name().to_owned()),
        };
        let name = format!("{hours:032}");
        let bytes = serde_json::to_vec(&renewed).unwrap();
        store.create(&crate::store::Key::session(&name), &bytes).unwrap();
        assert_eq!(prune(store.clone(), &together()).unwrap().trashed.packs, 0, "{hours}");
    }
    // silent for a day
    store.set_now(start() + DAY * 3 + HOUR * 85);
    assert!(prune(store.clone(), &together()).unwrap().trashed.packs > 0);
}
