//! A prune in steps: what is done when, and what is taken back.

use super::support::*;
use crate::retention::prune::Options;
use crate::store::testing::MemoryStore;
use crate::store::{Kind, Store};

const TOGETHER: fn() -> Options = || Options { together: true, ..Options::default() };

fn count(store: &MemoryStore, kind: Kind) -> usize {
    store.list(kind).unwrap().len()
}

#[test]
fn condemn_wait_trash_wait_delete() {
    let store = world(MemoryStore::without_locks());
    let key = key();
    let kept = files(100..130);
    let gone = save(&open(store.clone()), &key, "h", &files(0..60)).unwrap();
    let stays = save(&open(store.clone()), &key, "h", &kept).unwrap();
    forget(&open(store.clone()), gone).unwrap();
    let packs = count(&store, Kind::Packs);

    // what is young may belong to a writer at work
    let young = prune(store.clone(), &TOGETHER()).unwrap();
    assert_eq!((young.condemned.packs, open(store.clone()).snapshot_ids().unwrap().len()), (0, 2));
    store.set_now(start() + DAY * 2);
    let condemned = prune(store.clone(), &TOGETHER()).unwrap().condemned.packs;
    assert!(condemned > 2);
    store.set_now(start() + DAY * 2 + HOUR * 47);
    assert_eq!(prune(store.clone(), &TOGETHER()).unwrap().waiting.packs, condemned);
    // two clocks that ran backwards and a grace of nothing change nothing
    store.set_now(start());
    let hasty = Options { grace: HOUR, keep_trash: HOUR, ..TOGETHER() };
    assert_eq!(prune(store.clone(), &hasty).unwrap().waiting.packs, condemned);
    assert_eq!(count(&store, Kind::Packs), packs);

    store.set_now(start() + DAY * 4 + HOUR);
    let swept = prune(store.clone(), &TOGETHER()).unwrap();
    assert_eq!((swept.trashed.packs, open(store.clone()).snapshot_ids().unwrap()), (condemned, vec![stays]));
    assert_eq!(count(&store, Kind::Packs) + condemned as usize, packs);
    check_restores(&store, [(&stays, &kept)], "swept");
    store.set_now(start() + DAY * 10);
    assert_eq!(prune(store.clone(), &TOGETHER()).unwrap().deleted.packs, 0);
    store.set_now(start() + DAY * 12);
    assert!(prune(store.clone(), &TOGETHER()).unwrap().purged_objects >= condemned);
    assert_eq!((count(&store, Kind::Trash), count(&store, Kind::Tombstones)), (0, 0));
    check_restores(&store, [(&stays, &kept)], "purged");
    prune(store.clone(), &TOGETHER()).unwrap();
    assert_eq!(count(&store, Kind::Prune), 1);
}

#[test]
fn what_is_taken_back_is_pardoned() {
    let store = world(MemoryStore::without_locks());
    let key = key();
    let (kept, all) = (files(100..110), files(0..20));
    let gone = save(&open(store.clone()), &key, "h", &all).unwrap();
    save(&open(store.clone()), &key, "h", &kept).unwrap();
    forget(&open(store.clone()), gone).unwrap();
    store.set_now(start() + DAY * 2);
    assert!(prune(store.clone(), &TOGETHER()).unwrap().condemned.packs > 0);
    assert!(!open(store.clone()).condemned_packs().unwrap().is_empty());
    open(store.clone()).remember(gone).unwrap();
    store.set_now(start() + DAY * 5);
    let outcome = prune(store.clone(), &TOGETHER()).unwrap();
    assert!(!outcome.spared.is_empty());
    assert!(open(store.clone()).condemned_packs().unwrap().is_empty());
    prune_for_weeks(&store);
    check_restores(&store, [(&gone, &all)], "pardoned");
}

#[test]
fn the_same_content_is_stored_again_under_another_name() {
    for files in [files(0..20), files(3..4)] {
        let store = world(MemoryStore::without_locks());
        let key = key();
        let gone = save(&open(store.clone()), &key, "h", &files).unwrap();
        save(&open(store.clone()), &key, "h", &super::support::files(100..110)).unwrap();
        forget(&open(store.clone()), gone).unwrap();
        store.set_now(start() + DAY * 2);
        assert!(prune(store.clone(), &TOGETHER()).unwrap().condemned.packs > 0);
        // its chunks would fall into the same packs, which are condemned
        let again = save_once(&open(store.clone()), &key, "h", &files).unwrap();
        let condemned = open(store.clone()).condemned_packs().unwrap();
        let document = open(store.clone()).document(again).unwrap();
        assert!(document.packs.iter().all(|pack| !condemned.contains(pack)));
        store.set_now(start() + DAY * 5);
        prune_for_weeks(&store);
        check_restores(&store, [(&again, &files)], "stored again");
    }
}

#[test]
fn packs_that_are_needed_come_back_from_the_trash() {
    let store = world(MemoryStore::default());
    let (key, all) = (key(), files(0..40));
    let id = save(&open(store.clone()), &key, "h", &all).unwrap();
    for object in store.list(Kind::Packs).unwrap() {
        store.rename(&object.key, &object.key.below(Kind::Trash)).unwrap();
    }
    for options in [Options::default(), TOGETHER()] {
        let store = store.copy();
        let outcome = prune(store.clone(), &options).unwrap();
        assert!(!outcome.spared.is_empty() && count(&store, Kind::Trash) == 0);
        check_restores(&store, [(&id, &all)], "untrashed");
    }
}

#[test]
fn a_rewrite_in_steps_keeps_both_until_the_end() {
    let store = world(MemoryStore::without_locks());
    let key = key();
    let (all, some) = (files(0..60), files((0..60).step_by(4)));
    let gone = save(&open(store.clone()), &key, "h", &all).unwrap();
    let stays = save(&open(store.clone()), &key, "h", &some).unwrap();
    forget(&open(store.clone()), gone).unwrap();
    store.set_now(start() + DAY * 2);
    let size = |store: &MemoryStore| store.list(Kind::Packs).unwrap().iter().map(|o| o.bytes).sum::<u64>();
    let before = size(&store);
    assert!(prune(store.clone(), &TOGETHER()).unwrap().written_bytes > 0);
    assert!(size(&store) > before);
    prune_for_weeks(&store);
    assert!(size(&store) * 2 < before);
    check_restores(&store, [(&stays, &some)], "rewritten");
    check_tidy(&MemoryStore::copy(&store), "rewritten");
}

#[test]
fn two_prunes_at_once_are_harmless() {
    let scene = || {
        let store = world(MemoryStore::without_locks());
        let key = key();
        let (all, some) = (files(0..40), files((0..40).step_by(4)));
        let gone = save(&open(store.clone()), &key, "h", &all).unwrap();
        let stays = save(&open(store.clone()), &key, "h", &some).unwrap();
        forget(&open(store.clone()), gone).unwrap();
        store.set_now(start() + DAY * 2);
        (store, stays, some)
    };
    for step in 0..3u32 {
        for at in 0.. {
            let (store, stays, some) = scene();
            for _ in 0..step {
                prune(store.clone(), &TOGETHER()).unwrap();
                store.set_now(store.now() + DAY * 8);
            }
            let other = store.clone();
            let hooked = Hooked::new(&store, move |number, _| {
                if number == at {
                    let _ = prune(other.clone(), &TOGETHER());
                }
                false
            });
            let _ = prune(hooked.clone(), &TOGETHER());
            check_restores(&store, [(&stays, &some)], "two prunes");
            if hooked.writes() <= at {
                break;
            }
            prune_for_weeks(&store);
            check_restores(&store, [(&stays, &some)], "two prunes, weeks later");
            assert_eq!(count(&store, Kind::Trash), 0, "step {step}, write {at}");
        }
    }
}
