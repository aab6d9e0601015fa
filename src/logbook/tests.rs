use std::sync::Arc;

use super::*;
use crate::base::Name;
use crate::base::time::{Clock, Timestamp};
use crate::repo::keys::WriterKey;
use crate::repo::{Repo, open};
use crate::store::testing::{Fault as StoreFault, FaultyStore, MemoryStore};
use crate::store::{Key, Store};

fn act(kind: &str) -> Act {
    let body = serde_json::json!({"n": kind});
    Act { kind: kind.to_owned(), host: Name::from("h"), user: Name::from("u"), body }
}

fn clock() -> Clock {
    Clock::Fixed(Timestamp::from_seconds(1_800_000_000).unwrap().0)
}

fn fixture() -> (MemoryStore, WriterKey) {
    let memory = MemoryStore::default();
    let key = WriterKey::generate("test").unwrap();
    let store: Arc<dyn Store> = Arc::new(memory.clone());
    open::create(&store, key.public(), clock()).unwrap();
    (memory, key)
}

fn open_repo(store: impl Store + 'static) -> Repo {
    Repo::open(Arc::new(store), clock()).unwrap()
}

fn faults(store: &MemoryStore) -> Vec<(FaultKind, u64)> {
    let logbook = read(&open_repo(store.clone())).unwrap();
    verify_chain(&logbook).into_iter().map(|f| (f.kind, f.sequence)).collect()
}

fn keys(memory: &MemoryStore, ending: &str) -> Vec<Key> {
    let all = memory.objects().into_keys();
    all.filter(|k| k.as_str().starts_with("records/") && k.as_str().ends_with(ending)).collect()
}

#[test]
fn acts_are_chained_and_the_last_of_a_kind_is_found() {
    let (memory, key) = fixture();
    let repo = open_repo(memory.clone());
    for kind in ["snapshot", "verify", "snapshot"] {
        append(&repo, &key, act(kind)).unwrap();
    }
    let newest = append(&repo, &key, act("prune")).unwrap();
    assert_eq!(faults(&memory), []);
    assert_eq!(last(&repo, "snapshot").unwrap().unwrap().sequence, 3);
    assert_eq!(last(&repo, "drill").unwrap(), None);
    assert_eq!(head(&repo).unwrap(), Some(newest));
}

#[test]
fn what_was_done_to_a_chain_is_named() {
    let (memory, key) = fixture();
    let repo = open_repo(memory.clone());
    for _ in 0..4 {
        append(&repo, &key, act("verify")).unwrap();
    }
    let (records, signatures) = (keys(&memory, ".json"), keys(&memory, ".sig"));
    let bytes = |key: &Key| memory.objects()[key].to_vec();
    let after = |change: &dyn Fn(&MemoryStore)| {
        let copy = memory.copy();
        change(&copy);
        faults(&copy)
    };
    assert_eq!(after(&|m| m.tamper(&records[1], None)), [(FaultKind::Missing, 2)]);
    assert_eq!(after(&|m| m.tamper(&records[3], None)), [(FaultKind::Unfinished, 4)]);
    assert_eq!(after(&|m| m.tamper(&signatures[1], None)), [(FaultKind::Unsigned, 2)]);
    assert_eq!(after(&|m| m.tamper(&records[1], Some(b"{}".to_vec()))), [(FaultKind::Altered, 2)]);
    assert_eq!(after(&|m| m.tamper(&signatures[1], Some(bytes(&signatures[2])))), [(FaultKind::Foreign, 2)]);
    let swapped = after(&|m| {
        m.tamper(&records[1], Some(bytes(&records[2])));
        m.tamper(&records[2], Some(bytes(&records[1])));
    });
    assert_eq!(swapped, [(FaultKind::Altered, 2), (FaultKind::Altered, 3)]);
    let other = WriterKey::generate("other").unwrap();
    let forged = after(&|m| {
        append(&open_repo(m.clone()), &other, act("verify")).unwrap();
    });
    assert_eq!(forged, [(FaultKind::Foreign, 1)]);
}

#[test]
fn a_crash_at_any_write_leaves_a_chain_that_verifies() {
    let (memory, key) = fixture();
    append(&open_repo(memory.clone()), &key, act("init")).unwrap();
    let counting = FaultyStore::new(memory.copy(), u64::MAX, StoreFault::Stop);
    append(&open_repo(counting.clone()), &key, act("verify")).unwrap();
    let kinds = [
        StoreFault::Stop,
        StoreFault::NoSpace,
        StoreFault::Once,
        StoreFault::DoneButFailed,
        StoreFault::Torn,
    ];
    for at in 0..counting.writes() {
        for kind in kinds {
            for power in [false, true] {
                let disk = memory.copy();
                let faulty = FaultyStore::new(disk.clone(), at, kind);
                let done = append(&open_repo(faulty), &key, act("verify"));
                let disk = if power { disk.after_power_loss() } else { disk };
                let logbook = read(&open_repo(disk.clone())).unwrap();
                let kept = |id| logbook.records.iter().any(|logged| logged.id == id);
                assert!(done.is_err() || done.is_ok_and(kept), "{at} {kind:?}");
                let left = faults(&disk);
                assert!(left.iter().all(|f| f.0 == FaultKind::Unfinished), "{at} {kind:?} {left:?}");
                append(&open_repo(disk.clone()), &key, act("verify")).unwrap();
                let left = faults(&disk);
                assert_eq!(left, [], "{at} {kind:?}");
            }
        }
    }
}

#[test]
fn a_reader_that_comes_again_reads_only_what_is_new() {
    let (memory, key) = fixture();
    let repo = open_repo(memory.clone());
    for _ in 0..3 {
        append(&repo, &key, act("verify")).unwrap();
    }
    let first = follow(&repo, None).unwrap();
    assert!(first.is_whole && first.faults.is_empty());
    let seen = first.progress.unwrap();
    let newest = append(&repo, &key, act("prune")).unwrap();
    let second = follow(&repo, Some(&seen)).unwrap();
    assert!(!second.is_whole && second.faults.is_empty() && second.cuts.is_empty());
    assert_eq!(second.count, 4);
    assert_eq!(second.logbook.records.iter().map(|r| r.id).collect::<Vec<_>>(), [newest]);
    let nothing = follow(&repo, second.progress.as_ref()).unwrap();
    assert_eq!((nothing.logbook.records.len(), nothing.is_whole), (0, false));
    assert_eq!(nothing.progress, second.progress);
}

#[test]
fn a_reader_that_comes_again_notices_what_was_done_meanwhile() {
    let (memory, key) = fixture();
    let repo = open_repo(memory.clone());
    for _ in 0..4 {
        append(&repo, &key, act("verify")).unwrap();
    }
    let seen = follow(&repo, None).unwrap().progress.unwrap();
    let (records, signatures) = (keys(&memory, ".json"), keys(&memory, ".sig"));
    let after = |change: &dyn Fn(&MemoryStore)| {
        let copy = memory.copy();
        change(&copy);
        let found = follow(&open_repo(copy), Some(&seen)).unwrap();
        assert!(found.is_whole && found.progress.is_none());
        let faults: Vec<_> = found.faults.iter().map(|fault| (fault.kind, fault.sequence)).collect();
        (faults, found.cuts.iter().map(|cut| cut.sequence).collect::<Vec<_>>())
    };
    let gone = |m: &MemoryStore, n: usize| {
        m.tamper(&records[n], None);
        m.tamper(&signatures[n], None);
    };
    assert_eq!(after(&|m| gone(m, 1)), (vec![(FaultKind::Missing, 2)], vec![]));
    // the end of a chain is cut off: the chain itself is whole
    assert_eq!(after(&|m| gone(m, 3)), (vec![], vec![4]));
    assert_eq!(
        after(&|m| m.tamper(&records[1], Some(b"{}".to_vec()))),
        (vec![(FaultKind::Altered, 2)], vec![])
    );
}

#[test]
fn the_head_is_the_newest_that_can_be_trusted() {
    let (memory, key) = fixture();
    let repo = open_repo(memory.clone());
    assert_eq!(head(&repo).unwrap(), None);
    let good = append(&repo, &key, act("init")).unwrap();
    append(&repo, &key, act("verify")).unwrap();
    let last = keys(&memory, ".json").pop().unwrap();
    memory.tamper(&last, Some(b"{}".to_vec()));
    assert_eq!(head(&repo).unwrap(), Some(good));
}

/// What somebody does to a logbook of six records.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Remove,
    Alter(usize),
    /// It is put at the place of another.
    Move(u64),
    SignatureOf(usize),
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_done_to_a_record_is_named(
        at in 0_usize..6,
        harm in proptest::prop_oneof![
            proptest::prelude::Just(Harm::Remove),
            proptest::prelude::Strategy::prop_map(0_usize..200, Harm::Alter),
            proptest::prelude::Strategy::prop_map(1_u64..12, Harm::Move),
            proptest::prelude::Strategy::prop_map(0_usize..6, Harm::SignatureOf),
        ],
    ) {
        let (memory, key) = fixture();
        let repo = open_repo(memory.clone());
        for _ in 0..6 {
            append(&repo, &key, act("verify")).unwrap();
        }
        let (records, signatures) = (keys(&memory, ".json"), keys(&memory, ".sig"));
        let seen = follow(&repo, None).unwrap().progress.unwrap();
        let bytes = |key: &Key| memory.objects()[key].to_vec();
        let sequence = at as u64 + 1;
        let id = super::read::names_of(&records[at]).unwrap().id;
        let writer = key.public().writer_name();
        match harm {
            Harm::Remove => memory.tamper(&records[at], None),
            Harm::Alter(place) => {
                let mut changed = bytes(&records[at]);
                let place = place % changed.len();
                changed[place] ^= 1;
                memory.tamper(&records[at], Some(changed));
            }
            Harm::Move(to) if to != sequence => {
                let (record, signature) = (bytes(&records[at]), bytes(&signatures[at]));
                memory.tamper(&records[at], None);
                memory.tamper(&signatures[at], None);
                memory.tamper(&Key::record(&writer, to, id), Some(record));
                memory.tamper(&Key::record_signature(&writer, to, id), Some(signature));
            }
            Harm::SignatureOf(other) if other != at => {
                memory.tamper(&signatures[at], Some(bytes(&signatures[other])));
            }
            Harm::Move(_) | Harm::SignatureOf(_) => return Ok(()),
        }
        let found = faults(&memory);
        let named = |kinds: &[FaultKind], number: u64| {
            found.iter().any(|(kind, sequence)| kinds.contains(kind) && *sequence == number)
        };
        let well = match harm {
            // of the last one its signature is left, and whoever comes again knows that it was there
            Harm::Remove if at == 5 => {
                named(&[FaultKind::Unfinished], 6)
                    && !follow(&open_repo(memory.clone()), Some(&seen)).unwrap().cuts.is_empty()
            }
            Harm::Remove => named(&[FaultKind::Missing], sequence),
            Harm::Alter(_) => named(&[FaultKind::Altered], sequence),
            Harm::Move(to) => named(&[FaultKind::Reordered], to),
            Harm::SignatureOf(_) => named(&[FaultKind::Foreign], sequence),
        };
        proptest::prop_assert!(well, "{harm:?} of {sequence}: {found:?}");
        // and nothing else is called damaged than what was touched, and the gap it left
        let touched = |number: u64| number == sequence || matches!(harm, Harm::Move(to) if number >= sequence.min(to));
        proptest::prop_assert!(found.iter().all(|(_, number)| touched(*number)), "{harm:?} of {sequence}: {found:?}");
    }
}
