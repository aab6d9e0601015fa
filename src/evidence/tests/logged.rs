//! Evidence in a logbook in memory.

use std::sync::Arc;

use super::samples::{bad, good};
use crate::base::Name;
use crate::base::id::SnapshotId;
use crate::base::time::{Clock, Timestamp};
use crate::evidence::logged::{follow_ups, passed, runs};
use crate::evidence::*;
use crate::logbook;
use crate::repo::keys::WriterKey;
use crate::repo::{Repo, open};
use crate::store::Store;
use crate::store::testing::MemoryStore;

fn fixture() -> (Repo, WriterKey) {
    let key = WriterKey::generate("test").unwrap();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let clock = Clock::Fixed(Timestamp::from_seconds(1_800_000_000).unwrap().0);
    open::create(&store, key.public(), clock).unwrap();
    (Repo::open(store, clock).unwrap(), key)
}

fn who() -> (Name, Name) {
    (Name::from("h"), Name::from("u"))
}

#[test]
fn a_run_comes_back_from_the_logbook_judged_and_sealed() {
    let (repo, key) = fixture();
    let mut first = good();
    // what the harness claims counts for nothing
    first.checks[1].result = Outcome::Fail;
    first.verdict = Verdict::Pass;
    first.seal = bad().seal;
    let seal = append(&repo, &key, &mut first).unwrap();
    assert_eq!((first.verdict, seal.sequence, seal.previous.as_ref()), (Verdict::Fail, 1, None));
    let mut second = good();
    second.run_id = "second".to_owned();
    let next = append(&repo, &key, &mut second).unwrap();
    assert_eq!((next.sequence, next.previous.as_deref()), (2, Some(seal.record.as_str())));
    assert_eq!(drills(&repo).unwrap(), [first, second]);
    assert_eq!(logbook::verify_chain(&logbook::read(&repo).unwrap()), []);
}

#[test]
fn what_people_say_later_is_with_the_run_and_not_in_its_record() {
    let (repo, key) = fixture();
    let mut run = bad();
    assert!(!run.follow_ups.is_empty());
    let seal = append(&repo, &key, &mut run).unwrap();
    assert!(drills(&repo).unwrap()[0].follow_ups.is_empty(), "nobody has said anything in the logbook");
    let mut said = run.follow_ups[0].clone();
    follow_up(&repo, &key, who(), &said).unwrap();
    said.run_id = seal.record;
    follow_up(&repo, &key, who(), &said).unwrap();
    said.run_id = "another".to_owned();
    follow_up(&repo, &key, who(), &said).unwrap();
    assert_eq!(drills(&repo).unwrap()[0].follow_ups.len(), 2, "by its run id and by its record's hash");
    assert_eq!(follow_ups(&logbook::read(&repo).unwrap()).len(), 3);
}

#[test]
fn other_records_are_no_runs() {
    let (repo, key) = fixture();
    for body in [serde_json::json!({"schema": SCHEMA}), serde_json::json!({"verdict": "pass"}), 3.into()] {
        let act = logbook::Act { kind: "drill".to_owned(), host: who().0, user: who().1, body };
        logbook::append(&repo, &key, act).unwrap();
    }
    // a drill that calls itself one, in a record of another kind
    let body = serde_json::to_value(good().judged()).unwrap();
    let act = logbook::Act { kind: "snapshot".to_owned(), host: who().0, user: who().1, body };
    logbook::append(&repo, &key, act).unwrap();
    assert_eq!(runs(&logbook::read(&repo).unwrap()), []);
    assert!(last_passed(&repo).unwrap().is_empty());
}

#[test]
fn a_snapshot_is_marked_until_it_fails() {
    let (repo, key) = fixture();
    let id = SnapshotId::from_hex(&"d4".repeat(32)).unwrap();
    let mut run = good();
    append(&repo, &key, &mut run).unwrap();
    let mark = Passed { at: run.finished, run_id: run.run_id.clone() };
    assert_eq!(last_passed(&repo).unwrap().get(&id), Some(&mark));
    // says nothing about the snapshot
    let mut unsure = good();
    unsure.faults.push("interrupted".to_owned());
    append(&repo, &key, &mut unsure).unwrap();
    assert_eq!((unsure.verdict, last_passed(&repo).unwrap().len()), (Verdict::Inconclusive, 1));
    // a rollback is no drill
    let mut other = good().judged();
    other.kind = Kind::Rollback;
    assert!(passed(&[other]).is_empty());
    append(&repo, &key, &mut bad()).unwrap();
    assert!(last_passed(&repo).unwrap().is_empty());
    append(&repo, &key, &mut good()).unwrap();
    assert_eq!(last_passed(&repo).unwrap().len(), 1);
}
