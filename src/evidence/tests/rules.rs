//! The verdict's rules, for records of any shape.

use proptest::prelude::*;

use super::samples::{bad, check, good, step};
use crate::base::Exit;
use crate::evidence::verdict::{judge, not_tested};
use crate::evidence::*;

fn verdict_of(change: impl FnOnce(&mut Evidence)) -> Verdict {
    let mut run = good();
    change(&mut run);
    judge(&run).verdict
}

#[test]
fn a_good_run_passes_and_says_what_that_rests_on() {
    let run = good().judged();
    assert_eq!((run.verdict, run.headline(), run.objectives_met), (Verdict::Pass, "PASSED", Some(true)));
    assert_eq!(
        run.reasons,
        [
            "3 steps and 4 required checks ran and passed",
            "2 checks proved that data came back",
            "the application was healthy after 1.61 s",
        ]
    );
    assert_eq!(run.clone().judged(), run, "judging again changes nothing");
}

#[test]
fn each_missing_condition_takes_the_pass_away() {
    use Verdict::{Fail, Inconclusive, ObjectiveMissed};
    type Spoil = fn(&mut Evidence);
    let cases: Vec<(&str, Verdict, Spoil)> = vec![
        ("a step failed", Fail, |r| r.steps[1].result = Outcome::Fail),
        ("a step was skipped", Inconclusive, |r| r.steps[1].result = Outcome::Skip),
        ("a step could not be judged", Inconclusive, |r| r.steps[1].result = Outcome::Error),
        ("a required check failed", Fail, |r| r.checks[0].result = Outcome::Fail),
        ("a required check was skipped", Inconclusive, |r| r.checks[0].result = Outcome::Skip),
        ("a required check could not be judged", Inconclusive, |r| r.checks[0].result = Outcome::Error),
        ("no check at all", Inconclusive, |r| r.checks.clear()),
        ("nothing proves the data", Inconclusive, |r| r.checks.retain(|c| !c.data_proving)),
        ("nothing of the plan", Inconclusive, |r| {
            r.steps.retain(|s| s.phase == "restore");
            r.checks = vec![check("database a.db is whole", "sqlite", true), check("copy", "content", true)];
        }),
        ("no snapshot", Inconclusive, |r| r.snapshot = None),
        ("never healthy", Inconclusive, |r| r.measured.recovery_s = None),
        ("too slow", ObjectiveMissed, |r| r.objectives.rto_s = Some(Seconds::from_secs(1))),
        ("too old", ObjectiveMissed, |r| r.measured.snapshot_age_s = Some(Seconds::from_secs(90_000))),
        ("a gap too long", ObjectiveMissed, |r| r.measured.worst_gap_s = Some(Seconds::from_secs(90_000))),
        ("loss not measured", Inconclusive, |r| {
            (r.measured.snapshot_age_s, r.measured.worst_gap_s) = (None, None);
        }),
        ("less isolation than asked", Inconclusive, |r| r.isolation.active = Level::Outbound),
        ("no isolation", Inconclusive, |r| {
            (r.isolation.requested, r.isolation.active) = (Level::None, Level::None);
        }),
        ("cleaning up not proved", Inconclusive, |r| r.cleanup.proved = false),
        ("something left over", Inconclusive, |r| r.cleanup.leftovers = vec!["/tmp/x".to_owned()]),
        ("production hurt", Inconclusive, |r| r.production.as_mut().unwrap().healthy_after = Some(false)),
        ("production changed", Inconclusive, |r| {
            r.production.as_mut().unwrap().fingerprint_unchanged = Some(false);
        }),
        ("the harness broke", Inconclusive, |r| r.faults = vec!["production answered".to_owned()]),
    ];
    for (what, verdict, change) in cases {
        assert_eq!(verdict_of(change), verdict, "{what}");
    }
}

#[test]
fn without_a_server_nothing_is_called_healthy() {
    let mut run = good();
    run.measured.phases.retain(|phase| phase.name != "server");
    let run = run.judged();
    assert_eq!(run.verdict, Verdict::Pass);
    assert_eq!(run.reasons[2], "the copy was ready after 1.61 s; no server was started");
}

#[test]
fn what_is_not_required_decides_nothing() {
    for result in [Outcome::Fail, Outcome::Skip, Outcome::Error] {
        let verdict = verdict_of(|run| {
            (run.checks[3].required, run.checks[3].result) = (false, result);
        });
        assert_eq!(verdict, Verdict::Pass);
    }
}

#[test]
fn a_spoiled_run_is_no_evidence_against_the_backup_either() {
    let mut run = bad();
    assert_eq!(judge(&run).verdict, Verdict::Fail);
    run.faults = vec!["the ready address answered before anything was started".to_owned()];
    let judgement = judge(&run);
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    assert_eq!(judgement.reasons, run.faults);
}

#[test]
fn an_unisolated_run_says_so_and_cannot_pass() {
    let mut run = good();
    (run.isolation.requested, run.isolation.active) = (Level::None, Level::None);
    let run = run.judged();
    assert_eq!(run.headline(), "INCONCLUSIVE (UNISOLATED)");
    assert!(run.not_tested.iter().any(|item| item.contains("copy or at production")));
    let mut run = run;
    run.steps[0].result = Outcome::Fail;
    assert_eq!(run.judged().headline(), "FAILED (UNISOLATED)");
}

#[test]
fn other_kinds_need_no_isolation_and_no_data_but_everything_to_pass() {
    for kind in [Kind::Rollback, Kind::Hotfix, Kind::Runbook] {
        let mut run = good();
        (run.kind, run.snapshot, run.isolation) = (kind, None, Isolation::default());
        run.checks.retain(|check| !check.data_proving);
        assert_eq!(run.clone().judged().headline(), "PASSED");
        run.checks[0].result = Outcome::Skip;
        assert_eq!(judge(&run).verdict, Verdict::Inconclusive);
        run.checks[0].result = Outcome::Fail;
        assert_eq!(judge(&run).verdict, Verdict::Fail);
    }
}

#[test]
fn each_verdict_has_its_exit_status() {
    let exits: Vec<Exit> = Verdict::ALL.iter().map(|verdict| verdict.exit()).collect();
    assert_eq!(exits, [Exit::Done, Exit::DrillFailed, Exit::ObjectiveMissed, Exit::Inconclusive]);
}

#[test]
fn what_was_not_tested_is_always_said() {
    for kind in [Kind::Drill, Kind::Rollback, Kind::Hotfix, Kind::Runbook] {
        let mut run = good();
        run.kind = kind;
        run.not_tested.clear();
        assert!(!run.judged().not_tested.is_empty());
    }
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        5 => Just(Outcome::Pass),
        1 => Just(Outcome::Fail),
        1 => Just(Outcome::Skip),
        1 => Just(Outcome::Error),
    ]
}

fn level() -> impl Strategy<Value = Level> {
    prop_oneof![
        1 => Just(Level::None),
        1 => Just(Level::Files),
        1 => Just(Level::Outbound),
        4 => Just(Level::Full),
    ]
}

fn seconds() -> impl Strategy<Value = Option<Seconds>> {
    proptest::option::weighted(0.8, (0u64..100).prop_map(Seconds::from_secs))
}

prop_compose! {
    fn any_run()(
        kind in prop_oneof![3 => Just(Kind::Drill), 1 => Just(Kind::Rollback), 1 => Just(Kind::Runbook)],
        steps in proptest::collection::vec(outcome(), 0..4),
        checks in proptest::collection::vec((outcome(), any::<bool>(), any::<bool>()), 0..5),
        (requested, active) in (level(), level()),
        (rto_s, rpo_s, recovery_s, snapshot_age_s, worst_gap_s)
            in (seconds(), seconds(), seconds(), seconds(), seconds()),
        (proved, fault, snapshot) in (proptest::bool::weighted(0.9), proptest::bool::weighted(0.1), proptest::bool::weighted(0.9)),
        production in proptest::option::of((any::<Option<bool>>(), any::<Option<bool>>(), any::<Option<bool>>())),
    ) -> Evidence {
        let mut run = good();
        run.kind = kind;
        run.steps = steps.into_iter().map(|result| Step { result, ..step("tests", "t", "") }).collect();
        run.checks = checks
            .into_iter()
            .enumerate()
            .map(|(n, (result, required, proving))| {
                Check { result, required, ..check(&n.to_string(), "sql", proving) }
            })
            .collect();
        (run.isolation.requested, run.isolation.active) = (requested, active);
        run.objectives = Objectives { rto_s, rpo_s };
        (run.measured.recovery_s, run.measured.snapshot_age_s) = (recovery_s, snapshot_age_s);
        run.measured.worst_gap_s = worst_gap_s;
        run.cleanup.proved = proved;
        run.faults = if fault { vec!["f".to_owned()] } else { vec![] };
        if !snapshot { run.snapshot = None }
        run.production = production.map(|(healthy_before, healthy_after, fingerprint_unchanged)| {
            Production { healthy_before, healthy_after, fingerprint_unchanged }
        });
        run
    }
}

fn required_all_passed(run: &Evidence) -> bool {
    run.steps.iter().all(|s| s.result == Outcome::Pass)
        && run.checks.iter().filter(|c| c.required).all(|c| c.result == Outcome::Pass)
}

fn something_is_wrong(run: &Evidence) -> bool {
    run.steps.iter().any(|s| s.result == Outcome::Fail)
        || run.checks.iter().any(|c| c.required && c.result == Outcome::Fail)
}

fn late(run: &Evidence) -> bool {
    run.objectives.rto_s.zip(run.measured.recovery_s).is_some_and(|(o, m)| m > o)
        || run.objectives.rpo_s.zip(run.measured.loss()).is_some_and(|(o, m)| m > o)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_pass_is_never_accidental(run in any_run()) {
        if judge(&run).verdict == Verdict::Pass {
            prop_assert!(required_all_passed(&run) && run.cleanup.proved && run.faults.is_empty() && !late(&run));
            if run.kind == Kind::Drill {
                prop_assert!(run.checks.iter().any(|c| c.data_proving && c.result == Outcome::Pass));
                prop_assert!(!run.steps.is_empty() || run.checks.iter().any(|c| c.result == Outcome::Pass));
                prop_assert!(run.isolation.active >= run.isolation.requested);
                prop_assert!(run.isolation.active > Level::None);
                prop_assert!(run.snapshot.is_some() && run.measured.recovery_s.is_some());
            }
        }
    }

    #[test]
    fn the_verdicts_are_not_mixed_up(run in any_run()) {
        let judgement = judge(&run);
        match judgement.verdict {
            // the backup's fault only if something was seen to be wrong with it
            Verdict::Fail => prop_assert!(something_is_wrong(&run) && run.faults.is_empty()),
            Verdict::ObjectiveMissed => prop_assert!(late(&run) && required_all_passed(&run)),
            Verdict::Inconclusive => {
                let spoiled = !run.faults.is_empty()
                    || run.kind == Kind::Drill && run.isolation.active < run.isolation.requested;
                prop_assert!(spoiled || !something_is_wrong(&run));
            }
            Verdict::Pass => prop_assert!(!something_is_wrong(&run)),
        }
        prop_assert!(!judgement.reasons.is_empty());
        let unisolated = run.kind == Kind::Drill && run.isolation.active == Level::None;
        prop_assert_eq!(judgement.cap.is_some(), unisolated);
        prop_assert!(!(unisolated && judgement.verdict == Verdict::Pass));
    }

    #[test]
    fn bad_news_never_makes_a_verdict_better(run in any_run(), pick in any::<proptest::sample::Index>(), result in outcome()) {
        if !run.checks.is_empty() && result != Outcome::Pass {
            let mut worse = run.clone();
            worse.checks[pick.index(run.checks.len())].result = result;
            if judge(&worse).verdict == Verdict::Pass {
                prop_assert_eq!(judge(&run).verdict, Verdict::Pass);
            }
        }
    }

    #[test]
    fn what_was_not_run_is_listed(run in any_run()) {
        let list = not_tested(&run);
        for check in run.checks.iter().filter(|c| matches!(c.result, Outcome::Skip | Outcome::Error)) {
            let name = format!("{:?}", check.id);
            prop_assert!(list.iter().any(|item| item.contains(&name)));
        }
        prop_assert!(!list.is_empty());
        let judged = run.judged();
        prop_assert_eq!(judged.clone().judged(), judged);
    }

    #[test]
    fn lengths_of_time_go_both_ways(millis in 0u64..=1 << 43) {
        let length = Seconds::new(std::time::Duration::from_millis(millis));
        let text = serde_json::to_string(&length).unwrap();
        prop_assert_eq!(serde_json::from_str::<Seconds>(&text).unwrap(), length);
    }
}

#[test]
fn a_negative_or_endless_length_of_time_is_refused() {
    for text in ["-1", "1e300", "\"x\"", "null"] {
        assert!(serde_json::from_str::<Seconds>(text).is_err(), "{text}");
    }
}
