use std::collections::BTreeMap;

use chrono::TimeDelta;

use super::memory::Memory;
use super::*;
use crate::base::Name;
use crate::base::id::{PackId, SnapshotId};
use crate::capacity::repository::of_points;
use crate::check::Outcome;
use crate::evidence::{Kind, Seconds, Verdict as Ended};
use crate::plan::Plan;
use crate::sys::space::Space;

const PLAN: &str = r#"
[app]
name = "aura"
root = "/srv/aura"

[[check]]
name = "disk"
disk = "."
min_free = "1M"

[drill]
objectives = { rto = "15m", rpo = "24h" }

[runbook.daily]
steps = ["health"]
schedule = "06:00"
"#;

fn now() -> Timestamp {
    Timestamp::from_seconds(1_800_000_000).unwrap()
}

fn ago(hours: i64) -> Timestamp {
    Timestamp(now().0 - TimeDelta::hours(hours))
}

fn run(kind: Kind, scenario: &str, at: Timestamp) -> Run {
    Run {
        run_id: "r".to_owned(),
        kind,
        app: "aura".to_owned(),
        scenario: scenario.to_owned(),
        started: at,
        finished: at,
        verdict: Ended::Pass,
        headline: "passed".to_owned(),
        reason: String::new(),
        recovery: Some(Seconds::from_secs(7)),
        rto: None,
        snapshot: None,
        config_sha256: "c".to_owned(),
        interrupted: false,
    }
}

fn space() -> Space {
    Space { free_bytes: 50 << 30, total_bytes: 100 << 30, free_inodes: 50, total_inodes: 100 }
}

fn pack() -> PackId {
    PackId([7; 32])
}

// An application with which all is well.
fn well() -> Facts {
    let mut memory = Memory {
        records: 9,
        oldest: Some(ago(100)),
        ends: BTreeMap::from([("w".to_owned(), (9, ago(1)))]),
        ..Memory::default()
    };
    memory.runs = vec![run(Kind::Drill, "drill", ago(30)), run(Kind::Runbook, "runbook daily", ago(2))];
    memory.verification.clean = Some((ago(5), "stored".to_owned()));
    let fact = SnapshotFact {
        started: ago(1),
        finished: ago(1),
        roots: vec![Name::from("/srv/aura")],
        bytes: 1000,
        stored_bytes: 500,
        files: 3,
        incomplete: 0,
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("lifeboat.toml");
    std::fs::write(&file, PLAN).unwrap();
    let plan = Plan::load(&file).unwrap();
    Facts {
        now: now(),
        repository: Ok(Repository {
            location: Name::from("/srv/repo"),
            snapshots: vec![(SnapshotId([1; 32]), fact)],
            unreadable: Vec::new(),
            memory,
            lost: None,
            older: None,
            faults: Vec::new(),
            coverage: (100, 87),
            damaged_packs: Vec::new(),
            space: Some(space()),
            growth: of_points(Vec::new(), Some(50 << 30), now()),
            replicas: Vec::new(),
            actions: Vec::new(),
        }),
        application: Some(Application {
            name: "aura".to_owned(),
            plan,
            config_sha256: "c".to_owned(),
            checks: BTreeMap::from([("disk".to_owned(), (ago(1), Outcome::Pass))]),
            looked: Some(ago(1)),
            rollback: None,
            hotfix: None,
            silent: Vec::new(),
            capacity: None,
            place: Some(Place { space: space(), is_shared: false }),
            maintenance: None,
        }),
        unread: Vec::new(),
        clock_jump: None,
    }
}

// What is wrong after this was changed: the verdict, and each line with its own.
fn after(
    change: impl Fn(&mut Facts, &mut Repository, &mut Application),
) -> (Overall, Vec<(&'static str, Verdict)>) {
    let mut facts = well();
    let mut repository = facts.repository.clone().unwrap();
    let mut application = facts.application.clone().unwrap();
    change(&mut facts, &mut repository, &mut application);
    facts.repository = facts.repository.and(Ok(repository));
    facts.application = facts.application.and(Some(application));
    let found = judge(&facts);
    assert!(found.wrong().all(|line| line.mend.is_some()), "{found:?}");
    (found.verdict, found.wrong().map(|line| (line.name, line.verdict)).collect())
}

#[test]
fn where_all_is_well_nothing_is_named() {
    let found = judge(&well());
    assert_eq!((found.verdict, found.wrong().next()), (Overall::Ready, None), "{found:?}");
    let coverage = found.lines.iter().find(|line| line.name == "coverage").unwrap();
    assert_eq!(coverage.reason, "every byte read within 30 days: 87 %");
}

#[test]
fn each_fault_is_named_and_nothing_else() {
    use Overall::{Degraded, NotReady};
    use Verdict::{Error, Fail, Stale};
    type Change = Box<dyn Fn(&mut Facts, &mut Repository, &mut Application)>;
    let spot = |line: &'static str, verdict, overall, change: Change| (line, verdict, overall, change);
    let under = |is_attended, is_by_hand, hours| Under {
        stage: "starting".to_owned(),
        since: ago(hours),
        is_attended,
        is_by_hand,
    };
    let cases = [
        spot("snapshot", Fail, NotReady, Box::new(|_, r, _| r.snapshots.clear())),
        spot("snapshot", Fail, Degraded, Box::new(|_, r, _| r.snapshots[0].1.started = ago(25))),
        spot("snapshot", Fail, Degraded, Box::new(|_, r, _| r.snapshots[0].1.incomplete = 1)),
        spot(
            "snapshot",
            Fail,
            NotReady,
            Box::new(|_, r, _| r.snapshots[0].1.roots = vec![Name::from("/srv/other")]),
        ),
        spot("repository", Fail, NotReady, Box::new(|_, r, _| r.lost = Some("a pack is missing".to_owned()))),
        spot(
            "memory",
            Error,
            Degraded,
            Box::new(|f, _, _| f.unread.push((Name::from("/x"), "bad".to_owned()))),
        ),
        spot("change", Stale, Degraded, Box::new(|_, _, a| a.maintenance = Some(ago(25)))),
        spot("repository", Fail, NotReady, Box::new(|_, r, _| r.unreadable.push(SnapshotId([2; 32])))),
        spot("verification", Stale, Degraded, Box::new(|_, r, _| r.memory.verification.clean = None)),
        spot(
            "repository",
            Fail,
            NotReady,
            Box::new(|_, r, _| r.older = Some("2 snapshots are gone".to_owned())),
        ),
        spot(
            "verification",
            Stale,
            Degraded,
            Box::new(|_, r, _| r.memory.verification.clean = Some((ago(24 * 31), String::new()))),
        ),
        spot(
            "verification",
            Fail,
            NotReady,
            Box::new(|_, r, _| r.memory.verification.unclean = Some((ago(1), 2))),
        ),
        spot("verification", Fail, NotReady, Box::new(|_, r, _| r.damaged_packs.push(pack()))),
        spot("coverage", Stale, Degraded, Box::new(|_, r, _| r.coverage = (100, 79))),
        spot(
            "drill",
            Stale,
            Degraded,
            Box::new(|_, r, _| {
                r.memory.runs.remove(0);
            }),
        ),
        spot("drill", Stale, Degraded, Box::new(|_, r, _| r.memory.runs[0].finished = ago(24 * 93))),
        spot("drill", Fail, NotReady, Box::new(|_, r, _| r.memory.runs[0].verdict = Ended::Fail)),
        spot(
            "drill",
            Fail,
            Degraded,
            Box::new(|_, r, _| r.memory.runs[0].recovery = Some(Seconds::from_secs(901))),
        ),
        spot("drill", Fail, Degraded, Box::new(|_, r, _| r.memory.runs[0].verdict = Ended::ObjectiveMissed)),
        spot("drill", Error, Degraded, Box::new(|_, r, _| r.memory.runs[0].verdict = Ended::Inconclusive)),
        spot(
            "drill",
            Error,
            Degraded,
            Box::new(|_, r, _| {
                r.memory.runs.insert(
                    1,
                    Run {
                        verdict: Ended::Inconclusive,
                        run_id: "s".to_owned(),
                        ..run(Kind::Drill, "drill", ago(3))
                    },
                );
            }),
        ),
        spot(
            "replicas",
            Fail,
            Degraded,
            Box::new(|_, r, _| r.replicas = vec![("/mnt".to_owned(), Err("gone".to_owned()))]),
        ),
        spot(
            "replicas",
            Fail,
            Degraded,
            Box::new(|_, r, _| {
                let replica = Replica { missing: 2, since: Some(ago(30)), missing_packs: 0 };
                r.replicas = vec![("/mnt".to_owned(), Ok(replica))];
            }),
        ),
        spot(
            "replicas",
            Fail,
            Degraded,
            Box::new(|_, r, _| {
                r.replicas =
                    vec![("/mnt".to_owned(), Ok(Replica { missing: 0, since: None, missing_packs: 1 }))];
            }),
        ),
        spot(
            "logbook",
            Fail,
            Degraded,
            Box::new(|_, r, _| r.faults.push("record 3: it is missing".to_owned())),
        ),
        spot("runbooks", Fail, Degraded, Box::new(|_, r, _| r.memory.runs[1].verdict = Ended::Fail)),
        spot("runbooks", Error, Degraded, Box::new(|_, r, _| r.memory.runs[1].verdict = Ended::Inconclusive)),
        spot("runbooks", Stale, Degraded, Box::new(|_, r, _| r.memory.runs[1].started = ago(50))),
        spot(
            "runbooks",
            Stale,
            Degraded,
            Box::new(|_, r, _| {
                r.memory.runs.remove(1);
            }),
        ),
        spot(
            "health",
            Fail,
            Degraded,
            Box::new(|_, _, a| a.checks.values_mut().for_each(|said| said.1 = Outcome::Fail)),
        ),
        spot(
            "health",
            Error,
            Degraded,
            Box::new(|_, _, a| a.checks.values_mut().for_each(|said| said.1 = Outcome::Error)),
        ),
        spot("health", Stale, Degraded, Box::new(|_, _, a| a.looked = Some(ago(27)))),
        spot("health", Stale, Degraded, Box::new(|_, _, a| a.looked = None)),
        spot("change", Fail, NotReady, Box::new(move |_, _, a| a.rollback = Some(under(false, false, 1)))),
        spot("change", Fail, Degraded, Box::new(move |_, _, a| a.hotfix = Some(under(false, false, 1)))),
        spot("change", Stale, Degraded, Box::new(move |_, _, a| a.hotfix = Some(under(false, true, 25)))),
        spot(
            "disk",
            Fail,
            Degraded,
            Box::new(|_, _, a| {
                a.place = Some(Place { space: Space { free_bytes: 1, ..space() }, is_shared: true })
            }),
        ),
        spot("disk", Fail, Degraded, Box::new(|_, r, _| r.space = Some(Space { free_inodes: 1, ..space() }))),
        spot(
            "disk",
            Fail,
            Degraded,
            Box::new(|_, _, a| a.capacity = Some((ago(1), vec!["disk runs out".to_owned()]))),
        ),
        spot(
            "clock",
            Error,
            Degraded,
            Box::new(|_, r, _| {
                r.memory.ends.insert("w".to_owned(), (9, ago(-24)));
            }),
        ),
        spot("clock", Error, Degraded, Box::new(|f, _, _| f.clock_jump = Some(-86_400))),
    ];
    for (number, (line, verdict, overall, change)) in cases.iter().enumerate() {
        assert_eq!(after(change), (*overall, vec![(*line, *verdict)]), "case {number}, {line}");
    }
}

#[test]
fn what_is_wrong_only_because_something_else_is_is_not_said_twice() {
    use Verdict::{Error, Fail};
    // ages by a clock that is wrong
    let by_clock = after(|f, r, a| {
        f.clock_jump = Some(40 * 86_400);
        r.snapshots[0].1.started = ago(24 * 40);
        r.memory.runs.iter_mut().for_each(|run| run.started = ago(24 * 40));
        a.looked = Some(ago(24 * 40));
    });
    assert_eq!(by_clock, (Overall::Degraded, vec![("clock", Error)]));
    // proofs that a damaged logbook held
    let by_record = after(|_, r, _| {
        r.faults.push("record 3 of writer w: it is not signed".to_owned());
        r.memory.runs.clear();
        r.memory.verification.clean = None;
        r.coverage = (100, 0);
    });
    assert_eq!(by_record, (Overall::Degraded, vec![("logbook", Fail)]));
    // a failure is none of these
    let failed = after(|f, r, _| {
        f.clock_jump = Some(86_400);
        r.memory.runs[0].verdict = Ended::Fail;
    });
    assert_eq!(failed, (Overall::NotReady, vec![("drill", Fail), ("clock", Error)]));
}

#[test]
fn a_clock_that_was_right_again_is_believed() {
    let ends = |r: &mut Repository, at| {
        r.memory.ends.insert("w".to_owned(), (9, at));
    };
    assert_eq!(after(|_, r, _| ends(r, ago(-48))).0, Overall::Degraded);
    // a later record of the same chain with the right time
    assert_eq!(
        after(|_, r, _| {
            ends(r, ago(-48));
            ends(r, ago(0));
        })
        .0,
        Overall::Ready
    );
}

#[test]
fn what_is_under_way_and_watched_is_well() {
    let under = |is_attended, is_by_hand| Under {
        stage: "watching".to_owned(),
        since: ago(1),
        is_attended,
        is_by_hand,
    };
    assert_eq!(after(|_, _, a| a.hotfix = Some(under(true, false))).0, Overall::Ready);
    assert_eq!(after(|_, _, a| a.hotfix = Some(under(false, true))).0, Overall::Ready);
    assert_eq!(after(|_, _, a| a.rollback = Some(under(true, false))).0, Overall::Ready);
}

#[test]
fn without_a_repository_there_is_no_recovery_and_the_rest_is_judged() {
    let mut facts = well();
    facts.repository = Err(Unopened { why: "there is none".to_owned(), is_missing: true });
    let found = judge(&facts);
    assert_eq!(found.verdict, Overall::NotReady);
    assert_eq!(found.wrong().map(|line| line.name).collect::<Vec<_>>(), ["repository"]);
    assert!(found.lines.iter().any(|line| line.name == "health"));
    assert_eq!(found.lines[0].mend.as_deref(), Some("lifeboat init"));
}

#[test]
fn what_never_ran_is_overdue_only_once_its_time_has_come() {
    // Lifeboat came an hour ago: the first 06:00 is still ahead, or not long past
    let (overall, wrong) = after(|_, r, _| {
        r.memory.runs.remove(1);
        r.memory.oldest = Some(Timestamp(now().0 - TimeDelta::minutes(5)));
    });
    assert_eq!((overall, wrong), (Overall::Ready, vec![]));
}

#[test]
fn a_snapshot_of_a_tree_around_the_application_is_one_of_it() {
    assert_eq!(after(|_, r, _| r.snapshots[0].1.roots = vec![Name::from("/srv")]).0, Overall::Ready);
    assert_eq!(after(|_, r, _| r.snapshots[0].1.roots = vec![Name::from("/srv/aur")]).0, Overall::NotReady);
}

#[test]
fn hostile_words_do_not_reach_the_terminal() {
    let mut facts = well();
    let repository = facts.repository.as_mut().unwrap();
    repository.memory.runs[0].verdict = Ended::Fail;
    repository.memory.runs[0].reason = "\x1b[2Jall is well".to_owned();
    repository.faults.push("\x1b]0;x\x07".to_owned());
    repository.replicas = vec![("/\x1b[m".to_owned(), Err("\x1b".to_owned()))];
    for line in judge(&facts).lines {
        assert!(!line.reason.contains('\x1b'), "{line:?}");
    }
}
