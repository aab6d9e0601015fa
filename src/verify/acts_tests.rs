//! Tombstones, plans and sessions: what only the logbook, or their own names, can vouch for.

use super::tests::{Fixture, deep, open_repo};
use super::*;
use crate::base::Name;
use crate::base::id::name_of;
use crate::format::record::{PlanState, PrunePlan, Session};
use crate::format::snapshot::Tombstone;
use crate::logbook::{Act, PLANS_FIELD, TOMBSTONES_FIELD, append};
use crate::store::testing::MemoryStore;
use crate::store::{Key, Store as _};

fn told(fixture: &Fixture, kind: &str, body: serde_json::Value) {
    let act = Act { kind: kind.to_owned(), host: Name::from("h"), user: Name::from("u"), body };
    append(&open_repo(fixture.memory.clone()), &fixture.key, act).unwrap();
}

// The first of three snapshots forgotten, a finished plan, and a session that a crash left.
fn world() -> (Fixture, Vec<Key>) {
    let fixture = Fixture::new();
    let repo = open_repo(fixture.memory.clone());
    let (id, now) = (repo.config().id.clone(), repo.clock().now());
    let snapshot = repo.snapshots().unwrap().0[0].id;
    let hash = repo
        .forget(&Tombstone {
            lifeboat: "tombstone".to_owned(),
            version: 1,
            repository: id.clone(),
            snapshot,
            at: now,
            by: Name::from("u@h"),
            why: None,
        })
        .unwrap();
    told(
        &fixture,
        "forget",
        serde_json::json!({"snapshots": [snapshot], TOMBSTONES_FIELD: {snapshot.to_hex(): hash}}),
    );
    let plan = PrunePlan::new(&id, PlanState::Done, now).with_nonce("1".to_owned()).encode().unwrap();
    fixture.memory.create(&Key::prune(&name_of(&plan)), &plan).unwrap();
    told(&fixture, "prune", serde_json::json!({PLANS_FIELD: [name_of(&plan)]}));
    let session = Session {
        lifeboat: "session".to_owned(),
        version: 1,
        repository: id,
        host: Name::from("h"),
        process: 1,
        started: now,
        renews: None,
        boot: String::new(),
        nonce: "1".to_owned(),
    };
    let session = serde_json::to_vec(&session).unwrap();
    fixture.memory.create(&Key::session(&name_of(&session)), &session).unwrap();
    let keys = vec![Key::tombstone(snapshot), Key::prune(&name_of(&plan)), Key::session(&name_of(&session))];
    (fixture, keys)
}

fn codes(store: &MemoryStore) -> Vec<&'static str> {
    deep(store).problems.iter().map(Problem::code).collect()
}

#[test]
fn each_byte_of_them_counts_and_a_lost_one_is_missed() {
    let (fixture, keys) = world();
    assert_eq!(codes(&fixture.memory), [""; 0]);
    for (key, lost) in keys.iter().zip(["tombstone-missing", "plan-missing", ""]) {
        let bytes = fixture.memory.objects()[key].to_vec();
        for at in 0..bytes.len() {
            let copy = fixture.memory.copy();
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            copy.tamper(key, Some(flipped));
            assert_eq!(codes(&copy), ["object-malformed"], "byte {at} of {key}");
        }
        for short in [0, bytes.len() / 2, bytes.len() - 1] {
            let copy = fixture.memory.copy();
            copy.tamper(key, Some(bytes[..short].to_vec()));
            assert_eq!(codes(&copy), ["object-malformed"], "{short} bytes of {key}");
        }
        let copy = fixture.memory.copy();
        copy.tamper(key, None);
        // a session that is gone is one that was closed
        let expected: Vec<_> = Some(lost).filter(|lost| !lost.is_empty()).into_iter().collect();
        assert_eq!(codes(&copy), expected, "{key}");
    }
}

#[test]
fn what_was_taken_back_or_done_anew_is_not_missed() {
    let (fixture, keys) = world();
    let snapshot = open_repo(fixture.memory.clone()).forgotten_ids().unwrap().into_iter().next().unwrap();
    told(&fixture, "remember", serde_json::json!({"snapshots": [snapshot]}));
    // cut off between the record and the tombstone
    assert_eq!(codes(&fixture.memory), ["tombstone-unrecorded"]);
    assert!(deep(&fixture.memory).is_clean());
    fixture.memory.delete(&keys[0]).unwrap();
    // a prune that was cut off before its record
    let repository = open_repo(fixture.memory.clone()).config().id.clone();
    let now = super::tests::clock().now();
    let plan = PrunePlan::new(&repository, PlanState::Done, now).with_nonce("2".to_owned()).encode().unwrap();
    fixture.memory.create(&Key::prune(&name_of(&plan)), &plan).unwrap();
    fixture.memory.delete(&keys[1]).unwrap();
    assert_eq!(codes(&fixture.memory), [""; 0]);
}

// Found by review: the record with the later time was taken for the later one.
#[test]
fn a_clock_that_was_wrong_decides_nothing() {
    use crate::base::time::{Clock, Timestamp};
    let at = |seconds: i64| Clock::Fixed(Timestamp::from_seconds(1_800_000_000 + seconds).unwrap().0);
    for wrong in [-10, 10] {
        let (fixture, _) = world();
        let memory = fixture.memory.clone();
        let snapshot = open_repo(memory.clone()).snapshots().unwrap().0[1].id;
        let open =
            |seconds: i64| crate::repo::Repo::open(std::sync::Arc::new(memory.clone()), at(seconds)).unwrap();
        let act = |kind: &str, hash: &str, seconds: i64| {
            let body =
                serde_json::json!({"snapshots": [snapshot], TOMBSTONES_FIELD: {snapshot.to_hex(): hash}});
            let act = Act { kind: kind.to_owned(), host: Name::from("h"), user: Name::from("u"), body };
            append(&open(seconds), &fixture.key, act).unwrap();
        };
        let forget = |seconds: i64| {
            let repo = open(seconds);
            let hash = repo
                .forget(&Tombstone {
                    lifeboat: "tombstone".to_owned(),
                    version: 1,
                    repository: repo.config().id.clone(),
                    snapshot,
                    at: repo.clock().now(),
                    by: Name::from("u@h"),
                    why: None,
                })
                .unwrap();
            act("forget", &hash, seconds);
            hash
        };
        let hash = forget(wrong);
        act("remember", &hash, 0);
        open(0).remember(snapshot).unwrap();
        assert_eq!(codes(&memory), [""; 0], "{wrong}");
        let copy = memory.copy();
        copy.tamper(&Key::document(snapshot), None);
        assert!(codes(&copy).contains(&"document-missing"), "{wrong}: {:?}", codes(&copy));
        forget(-wrong);
        assert_eq!(codes(&memory), [""; 0], "{wrong}");
        memory.tamper(&Key::tombstone(snapshot), None);
        assert_eq!(codes(&memory), ["tombstone-missing"], "{wrong}");
    }
}

#[test]
fn plans_and_sessions_of_the_first_repositories_have_random_names() {
    let (fixture, _) = world();
    let repo = open_repo(fixture.memory.clone());
    let plan = PrunePlan::new(&repo.config().id, PlanState::Done, repo.clock().now()).encode().unwrap();
    fixture.memory.create(&Key::prune("0123456789abcdef0123456789abcdef"), &plan).unwrap();
    assert_eq!(codes(&fixture.memory), [""; 0]);
    assert_eq!(repo.prune_plans().unwrap().len(), 2);
}

#[test]
fn a_forgotten_snapshot_is_missed_until_a_prune_removed_it() {
    let (fixture, _) = world();
    let snapshot = open_repo(fixture.memory.clone()).forgotten_ids().unwrap().into_iter().next().unwrap();
    fixture.memory.tamper(&Key::document(snapshot), None);
    assert!(codes(&fixture.memory).contains(&"document-missing"), "{:?}", codes(&fixture.memory));
    told(&fixture, "prune", serde_json::json!({"removed_snapshots": [snapshot]}));
    assert!(!codes(&fixture.memory).contains(&"document-missing"), "{:?}", codes(&fixture.memory));
}
