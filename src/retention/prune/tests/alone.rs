//! What a prune that is alone removes, rewrites and remembers.

use std::collections::BTreeMap;

use super::support::*;
use crate::base::event::Quiet;
use crate::retention::prune::{Counted, Mode, Options, PruneError, apply, propose};
use crate::store::testing::MemoryStore;
use crate::store::{Kind, Store};

fn amount(store: &MemoryStore, kind: Kind) -> usize {
    store.list(kind).unwrap().len()
}

#[test]
fn what_is_forgotten_and_shared_goes_without_reading_manifests() {
    let store = world(MemoryStore::default());
    let (key, all) = (key(), files(0..100));
    let first = save(&open(store.clone()), &key, "h", &all).unwrap();
    let second = save(&open(store.clone()), &key, "h", &all).unwrap();
    forget(&open(store.clone()), first).unwrap();
    let packs = amount(&store, Kind::Packs);

    let mut repo = open(store.clone());
    let proposal = propose(&mut repo, &Options::default(), &Quiet).unwrap();
    assert_eq!((proposal.mode, proposal.counted), (Mode::Alone, Counted::Documents));
    assert_eq!(proposal.forgotten, [first]);
    let outcome = apply(proposal, &mut repo, &Options::default(), &Quiet).unwrap();
    assert_eq!(outcome.removed, [first]);
    drop(repo);

    assert_eq!(amount(&store, Kind::Packs), packs);
    assert_eq!(amount(&store, Kind::Prune), 1);
    check_restores(&store, [(&second, &all)], "after");
    check_tidy(&store, "after");
    // the second one finds nothing to do, and writes nothing
    let before = store.objects();
    prune(store.clone(), &Options::default()).unwrap();
    assert_eq!(store.objects().keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
}

#[test]
fn dead_packs_go_and_mostly_dead_ones_are_rewritten() {
    let store = world(MemoryStore::default());
    let key = key();
    let all = files(0..120);
    let some: Files = all.iter().step_by(3).map(|(k, v)| (k.clone(), v.clone())).collect();
    let first = save(&open(store.clone()), &key, "h", &all).unwrap();
    let second = save(&open(store.clone()), &key, "h", &some).unwrap();
    forget(&open(store.clone()), first).unwrap();
    let size = |store: &MemoryStore| store.list(Kind::Packs).unwrap().iter().map(|o| o.bytes).sum::<u64>();
    let before = size(&store);

    let outcome = prune(store.clone(), &Options::default()).unwrap();
    assert!(outcome.rewritten.packs >= 4, "{outcome:?}");
    assert!(size(&store) * 2 < before, "{} of {before}", size(&store));
    check_restores(&store, [(&second, &some)], "after");
    check_tidy(&store, "after");

    // the document names packs that are gone, and the next prune knows why without reading manifests
    let third = save(&open(store.clone()), &key, "h", &some).unwrap();
    forget(&open(store.clone()), third).unwrap();
    let mut repo = open(store.clone());
    let proposal = propose(&mut repo, &Options::default(), &Quiet).unwrap();
    assert_eq!(proposal.counted, Counted::Documents, "{proposal:?}");
    apply(proposal, &mut repo, &Options::default(), &Quiet).unwrap();
    drop(repo);
    check_restores(&store, [(&second, &some)], "later");
    let mut repo = open(store);
    assert_eq!(propose(&mut repo, &Options::default(), &Quiet).unwrap().counted, Counted::Documents);
}

#[test]
fn everything_may_be_forgotten() {
    let store = world(MemoryStore::default());
    let key = key();
    let first = save(&open(store.clone()), &key, "h", &files(0..30)).unwrap();
    forget(&open(store.clone()), first).unwrap();
    prune(store.clone(), &Options::default()).unwrap();
    for kind in [Kind::Packs, Kind::Index, Kind::Snapshots, Kind::Tombstones] {
        assert_eq!(amount(&store, kind), 0, "{kind:?}");
    }
    let all = files(0..30);
    let second = save(&open(store.clone()), &key, "h", &all).unwrap();
    prune(store.clone(), &Options::default()).unwrap();
    check_restores(&store, [(&second, &all)], "after");
}

#[test]
fn many_index_objects_become_one() {
    let store = world(MemoryStore::default());
    let key = key();
    let mut saved = BTreeMap::new();
    for n in 0..9 {
        let all = files(n * 5..n * 5 + 10);
        saved.insert(save(&open(store.clone()), &key, "h", &all).unwrap(), all);
    }
    assert_eq!(amount(&store, Kind::Index), 9);
    let options = Options { max_indexes: 4, ..Options::default() };
    let outcome = prune(store.clone(), &options).unwrap();
    assert_eq!((outcome.replaced_indexes, amount(&store, Kind::Index)), (9, 1));
    check_restores(&store, &saved, "after");
    let repo = open(store);
    let loaded = repo.load(crate::repo::load::Condemned::Use).unwrap();
    assert!(loaded.unindexed.is_empty() && loaded.missing.is_empty());
}

#[test]
fn garbage_of_a_crashed_writer_goes() {
    let store = world(MemoryStore::default());
    let key = key();
    let all = files(0..20);
    let first = save(&open(store.clone()), &key, "h", &all).unwrap();
    let before: Vec<_> = store.list(Kind::Packs).unwrap().into_iter().map(|o| o.key).collect();
    let second = save(&open(store.clone()), &key, "h", &files(100..120)).unwrap();
    store.tamper(&crate::store::Key::document(second), None);
    let outcome = prune(store.clone(), &Options::default()).unwrap();
    assert!(outcome.deleted.packs >= 2);
    assert_eq!(store.list(Kind::Packs).unwrap().into_iter().map(|o| o.key).collect::<Vec<_>>(), before);
    assert_eq!((amount(&store, Kind::Index), amount(&store, Kind::Snapshots)), (1, 2));
    check_restores(&store, [(&first, &all)], "after");
}

#[test]
fn a_damaged_pack_is_not_rewritten_but_stays() {
    let store = world(MemoryStore::default());
    let key = key();
    let all = files(0..60);
    let some: Files = all.iter().step_by(4).map(|(k, v)| (k.clone(), v.clone())).collect();
    let first = save(&open(store.clone()), &key, "h", &all).unwrap();
    save(&open(store.clone()), &key, "h", &some).unwrap();
    forget(&open(store.clone()), first).unwrap();
    let pack = store.list(Kind::Packs).unwrap();
    let mut hurt = Vec::new();
    for object in pack {
        let mut bytes = store.objects()[&object.key].to_vec();
        let table = crate::repo::load::read_table(
            &store,
            crate::base::PackId::from_hex(object.key.stem()).unwrap(),
            object.bytes,
        );
        if table.unwrap().kind == crate::format::pack::Kind::Content {
            bytes[..2000].iter_mut().for_each(|b| *b ^= 1);
            store.tamper(&object.key, Some(bytes));
            hurt.push(object.key);
        }
    }
    let outcome = prune(store.clone(), &Options::default()).unwrap();
    assert!(!outcome.damaged.is_empty());
    for id in &outcome.damaged {
        assert!(
            hurt.contains(&crate::store::Key::pack(*id)) && store.size(&crate::store::Key::pack(*id)).is_ok()
        );
    }
}

#[test]
fn a_prune_stops_when_the_machine_slept() {
    let store = world(MemoryStore::default());
    let key = key();
    let first = save(&open(store.clone()), &key, "h", &files(0..60)).unwrap();
    let kept = files(100..120);
    let second = save(&open(store.clone()), &key, "h", &kept).unwrap();
    forget(&open(store.clone()), first).unwrap();
    let mut repo = open(store.clone());
    let options = Options::default();
    let proposal = propose(&mut repo, &options, &Quiet).unwrap();
    let asked = std::cell::Cell::new(0u64);
    // the lid is closed after the first batch of deletions
    let slept = || {
        asked.set(asked.get() + 1);
        std::time::Duration::from_secs(if asked.get() > 3 { 3600 } else { 0 })
    };
    let packs = amount(&store, Kind::Packs);
    let result = crate::retention::prune::apply::apply_watching(proposal, &repo, &options, &Quiet, &slept);
    assert!(matches!(result, Err(PruneError::Slept(_))), "{result:?}");
    drop(repo);
    assert_eq!(amount(&store, Kind::Packs), packs);
    check_restores(&store, [(&second, &kept)], "slept");
    prune(store.clone(), &options).unwrap();
    check_restores(&store, [(&second, &kept)], "after");
    check_tidy(&store, "after");
}

#[test]
fn a_proposal_is_refused_when_it_is_out_of_date() {
    let store = world(MemoryStore::default());
    let key = key();
    let first = save(&open(store.clone()), &key, "h", &files(0..10)).unwrap();
    save(&open(store.clone()), &key, "h", &files(5..20)).unwrap();
    forget(&open(store.clone()), first).unwrap();
    let mut repo = open(store.clone());
    let proposal = propose(&mut repo, &Options::default(), &Quiet).unwrap();
    repo.share().unwrap();
    open(store.clone()).remember(first).unwrap();
    let before = store.objects();
    let result = apply(proposal, &mut repo, &Options::default(), &Quiet);
    assert!(matches!(result, Err(PruneError::Outdated)));
    assert_eq!(store.objects(), before);
}

#[test]
fn a_writer_at_work_keeps_others_from_being_alone() {
    let store = world(MemoryStore::default());
    let writer = open(store.clone());
    let mut repo = open(store);
    assert_eq!(propose(&mut repo, &Options::default(), &Quiet).unwrap().mode, Mode::Together);
    drop(writer);
    assert_eq!(propose(&mut repo, &Options::default(), &Quiet).unwrap().mode, Mode::Alone);
}

// A session of a writer on another host, which the store got now.
fn session_of_another_host(store: &MemoryStore) -> crate::store::Key {
    let session = crate::format::record::Session {
        lifeboat: "session".to_owned(),
        version: 1,
        repository: "0123456789abcdef0123456789abcdef".to_owned(),
        host: "another".into(),
        process: std::process::id(),
        started: clock().now(),
        renews: None,
        boot: "another".to_owned(),
        nonce: String::new(),
    };
    let bytes = serde_json::to_vec(&session).unwrap();
    let key = crate::store::Key::session(&crate::base::id::name_of(&bytes));
    store.create(&key, &bytes).unwrap();
    key
}

#[test]
fn a_session_of_another_host_keeps_from_being_alone_for_a_day() {
    let store = world(MemoryStore::default());
    let mode = || propose(&mut open(store.clone()), &Options::default(), &Quiet).unwrap().mode;
    for (before, expected) in [(HOUR, Mode::Together), (DAY * 2, Mode::Alone)] {
        store.set_now(start() - before);
        let session = session_of_another_host(&store);
        assert_eq!(mode(), expected);
        store.delete(&session).unwrap();
    }
    // what was left by this process, or one of this host that is gone, does not count
    let left =
        crate::repo::session::OpenSession::begin(&open(store.clone()), &"another name".into()).unwrap();
    assert_eq!(mode(), Mode::Alone);
    left.close();
}

#[test]
fn where_locks_are_those_of_a_mount_nobody_is_alone() {
    let store = world(MemoryStore::default()).through_another_mount();
    assert_eq!(propose(&mut open(store), &Options::default(), &Quiet).unwrap().mode, Mode::Together);
}

#[test]
fn a_snapshot_through_another_mount_at_any_moment_loses_nothing() {
    let (all, kept, wanted) = (files(0..30), files(40..50), files(4..30));
    let mut finished = 0;
    for at in 0.. {
        let store = world(MemoryStore::default());
        let key = key();
        let first = save(&open(store.clone()), &key, "h", &all).unwrap();
        let second = save(&open(store.clone()), &key, "h", &kept).unwrap();
        forget(&open(store.clone()), first).unwrap();
        let other = store.through_another_mount();
        let saved = std::sync::Arc::new(std::sync::Mutex::new(None));
        let (told, content) = (std::sync::Arc::clone(&saved), wanted.clone());
        let hooked = Hooked::new(&store, move |number, _| {
            if number == at {
                *told.lock().unwrap() = save(&open(other.clone()), &self::key(), "elsewhere", &content).ok();
            }
            false
        });
        let result = prune(hooked.clone(), &Options::default());
        assert!(result.is_ok() || matches!(result, Err(PruneError::Outdated)), "write {at}: {result:?}");
        if hooked.writes() <= at {
            assert!(finished > 10, "{finished}");
            return;
        }
        let id = *saved.lock().unwrap();
        finished += usize::from(id.is_some());
        let snapshots: BTreeMap<_, _> =
            [(second, kept.clone())].into_iter().chain(id.map(|id| (id, wanted.clone()))).collect();
        check_restores(&store, &snapshots, &format!("write {at}"));
        prune(store.clone(), &Options::default()).unwrap();
        check_restores(&store, &snapshots, &format!("write {at}, and the next prune"));
    }
}

#[test]
fn a_writer_that_begins_elsewhere_keeps_its_session() {
    let store = world(MemoryStore::default());
    let key = key();
    let first = save(&open(store.clone()), &key, "h", &files(0..30)).unwrap();
    save(&open(store.clone()), &key, "h", &files(40..50)).unwrap();
    forget(&open(store.clone()), first).unwrap();
    let (packs, other) = (amount(&store, Kind::Packs), store.clone());
    let mut session = None;
    let hooked = Hooked::new(&store, move |_, what| {
        if what.starts_with("prune/") {
            session.get_or_insert_with(|| session_of_another_host(&other));
        }
        false
    });
    prune(hooked, &Options::default()).unwrap();
    assert_eq!((amount(&store, Kind::Sessions), amount(&store, Kind::Packs)), (1, packs));
}
