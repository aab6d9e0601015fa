use super::*;
use crate::base::event::Quiet;
use crate::repo::Repo;
use crate::repo::load::Condemned;
use crate::store::testing::{Fault, FaultyStore, MemoryStore};
use crate::store::{Kind, Store};
use crate::verify::tests::{Fixture, Restorable, campaign, deep, open_repo, restorable};
use crate::verify::{Problem, Severity};

fn repair(store: impl Store + 'static) -> Result<Outcome> {
    let mut repo = open_repo(store);
    let proposal = propose(&repo, &Options { workers: 1, ..Options::default() }, &Quiet)?;
    apply(&proposal, &mut repo, &Quiet)
}

fn is_superset(after: &Restorable, before: &Restorable) -> bool {
    before.iter().all(|(path, content)| after.get(path) == Some(content))
}

fn packs(memory: &MemoryStore) -> Vec<(PackId, u64)> {
    let repo = open_repo(memory.clone());
    let loaded = repo.load(Condemned::Use).unwrap();
    loaded.index.packs().iter().map(|p| (p.id.unwrap(), p.bytes)).collect()
}

fn entries(repo: &Repo) -> Vec<(crate::base::ChunkId, PackId, u32, u32)> {
    let loaded = repo.load(Condemned::Use).unwrap();
    let pack = |n: u32| loaded.index.packs()[n as usize].id.unwrap();
    let mut all: Vec<_> = loaded.index.iter().map(|(id, p)| (*id, pack(p.pack), p.frame, p.offset)).collect();
    all.sort_unstable();
    all
}

#[test]
fn nothing_is_done_to_what_is_whole() {
    let fixture = Fixture::new();
    let before = fixture.memory.objects();
    assert_eq!(repair(fixture.memory.clone()).unwrap(), Outcome::default());
    assert_eq!(fixture.memory.objects(), before);
}

#[test]
fn a_repair_of_any_damage_restores_at_least_as_much_and_is_done_once() {
    let fixture = Fixture::new();
    campaign(&fixture.memory, |what, damaged| {
        let before = restorable(damaged);
        let objects = damaged.objects();
        repair(damaged.clone()).unwrap_or_else(|e| panic!("{what}: {e:?}"));
        let after = restorable(damaged);
        assert!(is_superset(&after, &before), "{what}");
        // nothing is deleted: every byte is where it was or in the quarantine
        let now = damaged.objects();
        for (key, bytes) in &objects {
            let kept = now.values().any(|b| b == bytes);
            assert!(kept, "{what}: {key} is gone");
        }
        let report = deep(damaged);
        let mendable = |p: &&Problem| {
            ["pack-damaged", "pack-unreadable", "pack-unindexed", "index-damaged", "recovery-missing"]
                .contains(&p.code())
        };
        assert_eq!(report.problems.iter().find(mendable), None, "{what}");
        assert_eq!(repair(damaged.clone()).unwrap(), Outcome::default(), "{what}");
        assert_eq!(damaged.objects(), now, "{what}");
    });
}

#[test]
fn the_index_is_made_again_from_the_packs_alone() {
    let fixture = Fixture::new();
    let before = entries(&open_repo(fixture.memory.clone()));
    for object in fixture.memory.list(Kind::Index).unwrap() {
        fixture.memory.tamper(&object.key, None);
    }
    let outcome = repair(fixture.memory.clone()).unwrap();
    assert_eq!(outcome.indexes.len(), 1);
    let loaded = open_repo(fixture.memory.clone()).load(Condemned::Use).unwrap();
    assert!(loaded.unindexed.is_empty());
    assert_eq!(entries(&open_repo(fixture.memory.clone())), before);
    assert_eq!(deep(&fixture.memory).problems, []);
}

#[test]
fn a_pack_in_the_trash_that_is_needed_comes_back() {
    let fixture = Fixture::new();
    let before = restorable(&fixture.memory);
    for (pack, _) in packs(&fixture.memory) {
        let memory = fixture.memory.copy();
        let key = Key::pack(pack);
        memory.rename(&key, &key.below(Kind::Trash)).unwrap();
        let found = deep(&memory);
        assert!(found.problems.iter().any(|p| p.code() == "pack-missing"), "{:?}", found.problems);
        let outcome = repair(memory.clone()).unwrap();
        assert_eq!(outcome.brought_back, [pack]);
        assert_eq!(restorable(&memory), before);
        assert_eq!(deep(&memory).problems, []);
    }
}

#[test]
fn all_packs_in_the_trash_come_back_although_the_manifests_are_among_them() {
    let fixture = Fixture::new();
    let before = restorable(&fixture.memory);
    for (pack, _) in packs(&fixture.memory) {
        let key = Key::pack(pack);
        fixture.memory.rename(&key, &key.below(Kind::Trash)).unwrap();
    }
    repair(fixture.memory.clone()).unwrap();
    assert_eq!(restorable(&fixture.memory), before);
    assert_eq!(deep(&fixture.memory).problems, []);
}

#[test]
fn frames_are_found_without_table_and_index() {
    let fixture = Fixture::new();
    let before = restorable(&fixture.memory);
    for object in fixture.memory.list(Kind::Index).unwrap() {
        fixture.memory.tamper(&object.key, None);
    }
    for object in fixture.memory.list(Kind::Packs).unwrap() {
        let mut bytes = fixture.memory.objects()[&object.key].to_vec();
        bytes.pop();
        fixture.memory.tamper(&object.key, Some(bytes));
    }
    assert_eq!(deep(&fixture.memory).severity(), Some(Severity::DataLoss));
    repair(fixture.memory.clone()).unwrap();
    assert_eq!(restorable(&fixture.memory), before);
}

// Found by review: only chunks that were found could be lost, so that a pack of which nothing was found had none.
#[test]
fn what_is_not_found_at_all_is_lost_too() {
    let fixture = Fixture::new();
    for object in fixture.memory.list(Kind::Index).unwrap() {
        fixture.memory.tamper(&object.key, None);
    }
    let (largest, _) = fixture
        .memory
        .list(Kind::Packs)
        .unwrap()
        .into_iter()
        .map(|o| (o.key, o.bytes))
        .max_by_key(|o| o.1)
        .unwrap();
    let mut bytes = fixture.memory.objects()[&largest].to_vec();
    bytes.pop();
    bytes[4] ^= 0xff;
    fixture.memory.tamper(&largest, Some(bytes));
    let outcome = repair(fixture.memory.clone()).unwrap();
    assert!(outcome.missing_chunks > 0, "{outcome:?}");
    let proposal = propose(&open_repo(fixture.memory.clone()), &Options::default(), &Quiet).unwrap();
    assert!(proposal.is_empty() && proposal.has_loss());
}

// Found by review: each of these looks like the beginning of a frame, and all that follows was read again.
#[test]
fn a_pack_of_beginnings_is_looked_through_once() {
    let fixture = Fixture::new();
    let bytes = [0x28, 0xb5, 0x2f, 0xfd].repeat(2 << 20);
    let key = Key::pack(PackId::of(&bytes));
    fixture.memory.tamper(&key, Some(bytes));
    let counting =
        FaultyStore::reading(fixture.memory.clone(), u64::MAX, crate::store::testing::ReadFault::Once);
    let outcome = repair(counting).unwrap();
    assert_eq!((outcome.salvaged.len(), outcome.missing_chunks), (1, 0));
    assert_eq!(deep(&fixture.memory).problems, []);
}

#[test]
fn documents_are_moved_only_when_asked() {
    let fixture = Fixture::new();
    let id = deep(&fixture.memory).snapshots[0];
    fixture.memory.tamper(&Key::document(id), Some(b"{}".to_vec()));
    assert_eq!(repair(fixture.memory.clone()).unwrap(), Outcome::default());
    let mut repo = open_repo(fixture.memory.clone());
    let options = Options { unreadable_documents: true, ..Options::default() };
    let proposal = propose(&repo, &options, &Quiet).unwrap();
    let outcome = apply(&proposal, &mut repo, &Quiet).unwrap();
    assert_eq!(outcome.quarantined.len(), 2);
    assert!(propose(&repo, &options, &Quiet).unwrap().is_empty());
}

#[test]
fn a_proposal_that_is_out_of_date_is_refused() {
    let fixture = Fixture::new();
    fixture.memory.tamper(&Key::top("RECOVER.md"), None);
    let mut repo = open_repo(fixture.memory.clone());
    let proposal = propose(&repo, &Options::default(), &Quiet).unwrap();
    let (pack, _) = packs(&fixture.memory)[0];
    fixture.memory.tamper(&Key::pack(pack), None);
    assert!(matches!(apply(&proposal, &mut repo, &Quiet), Err(RepairError::Changed)));
}

fn damaged_in_many_ways() -> (Fixture, MemoryStore) {
    let fixture = Fixture::new();
    let memory = fixture.memory.copy();
    let mut largest = packs(&memory);
    largest.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    // in a frame; in the table; deleted index; changed and missing files
    let change = |key: &Key, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = memory.objects()[key].to_vec();
        change(&mut bytes);
        memory.tamper(key, Some(bytes));
    };
    change(&Key::pack(largest[0].0), &|b| b[2000] ^= 4);
    change(&Key::pack(largest[1].0), &|b| {
        let end = b.len() - 30;
        b[end] ^= 4;
    });
    change(&Key::pack(largest[2].0), &|b| b.truncate(b.len() - 1));
    memory.tamper(&Key::top("RECOVER.md"), None);
    memory.tamper(&Key::top("recover.py"), Some(b"rubbish".to_vec()));
    let index = memory.list(Kind::Index).unwrap()[0].key.clone();
    change(&index, &|b| b[10] ^= 1);
    (fixture, memory)
}

#[test]
fn a_fault_at_any_write_of_a_repair_loses_nothing() {
    let (_fixture, damaged) = damaged_in_many_ways();
    let before = restorable(&damaged);
    let counting = FaultyStore::new(damaged.copy(), u64::MAX, Fault::Stop);
    repair(counting.clone()).unwrap();
    assert!(counting.writes() > 20, "{} writes are too few to prove anything", counting.writes());
    for at in 0..counting.writes() {
        for fault in [Fault::Stop, Fault::NoSpace, Fault::Once, Fault::DoneButFailed, Fault::Torn] {
            let disk = damaged.copy();
            let done = repair(FaultyStore::new(disk.clone(), at, fault));
            for disk in [disk.copy(), disk.after_power_loss()] {
                assert!(is_superset(&restorable(&disk), &before), "{at} {fault:?} {done:?}");
                repair(disk.clone()).unwrap();
                assert!(is_superset(&restorable(&disk), &before), "{at} {fault:?}");
                assert_eq!(repair(disk.clone()).unwrap(), Outcome::default(), "{at} {fault:?}");
            }
        }
    }
}
