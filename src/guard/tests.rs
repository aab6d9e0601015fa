use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::baseline::Baseline;
use super::judge::{Decision, Judge, Round, Rules, Seen, weigh};
use super::types::{Change, GuardError};
use super::{armed, flap};
use crate::base::Name;
use crate::base::time::Clock;
use crate::check::{Outcome, Verdict};
use crate::state::State;

fn verdict(name: &str, kind: &str, outcome: Outcome) -> Verdict {
    Verdict {
        name: name.to_owned(),
        kind: kind.to_owned(),
        required: true,
        data_proving: false,
        outcome,
        reason: "so it is".to_owned(),
        observed: String::new(),
        expected: String::new(),
        attempts: 1,
        took: 0.01,
        last_took: 0.01,
        mark: None,
        forbidden: None,
    }
}

fn round(verdicts: &[Verdict], baseline: &Baseline) -> Round {
    look(verdicts, baseline, (None, None))
}

fn look(verdicts: &[Verdict], baseline: &Baseline, (memory, processor): (Option<u64>, Option<f64>)) -> Round {
    let seen = Seen { verdicts, since_change: Duration::from_secs(60), memory, processor };
    let rules = Rules { baseline, latency: Some(Duration::from_secs(2)), errors: Some(3) };
    weigh(&seen, &rules)
}

#[test]
fn failures_count_in_a_row_and_what_cannot_be_judged_by_itself() {
    let none = Baseline::default();
    let good = round(&[verdict("a", "http", Outcome::Pass)], &none);
    let bad = round(&[verdict("a", "http", Outcome::Fail)], &none);
    let odd = round(&[verdict("a", "sql", Outcome::Error)], &none);
    let mut judge = Judge::default();
    assert_eq!(judge.add(&bad, 2), Decision::Doubt);
    assert_eq!(judge.add(&good, 2), Decision::Well);
    assert_eq!(judge.add(&bad, 2), Decision::Doubt);
    assert_eq!(judge.add(&bad, 2), Decision::Bad("a: so it is (2 rounds in a row)".to_owned()));
    // an error of the probe is no failure, and needs more
    let mut judge = Judge::default();
    for _ in 0..4 {
        assert_eq!(judge.add(&odd, 2), Decision::Doubt);
    }
    assert!(matches!(judge.add(&odd, 2), Decision::Unjudged(why) if why.starts_with("a: ")));
    let mut judge = Judge::default();
    assert!(matches!(judge.add(&bad, 1), Decision::Bad(_)));
}

#[test]
fn what_is_not_required_decides_nothing() {
    let mut optional = verdict("a", "http", Outcome::Fail);
    optional.required = false;
    assert!(round(&[optional], &Baseline::default()).is_clean());
}

#[test]
fn limits_of_the_plan_are_failures() {
    let mut slow = verdict("a", "http", Outcome::Pass);
    slow.last_took = 2.5;
    let found = round(&[slow], &Baseline::default());
    assert_eq!(found.wrong, ["a: the answer took 2.500 s, and thresholds.latency is 2.000 s"]);
    let (mut one, mut two) = (verdict("x", "log", Outcome::Pass), verdict("y", "log", Outcome::Pass));
    (one.forbidden, two.forbidden) = (Some(2), Some(1));
    assert!(round(&[one.clone(), two.clone()], &Baseline::default()).is_clean());
    two.forbidden = Some(2);
    let found = round(&[one, two], &Baseline::default());
    assert_eq!(found.wrong, ["4 forbidden lines in the logs since the change, and thresholds.errors is 3"]);
}

#[test]
fn what_is_worse_than_before_takes_longer_to_decide() {
    let latency = BTreeMap::from([("a".to_owned(), 0.1)]);
    let before = Baseline { latency, memory: Some(100 << 20), processor: Some(0.1), ..Baseline::default() };
    let at = |took: f64| {
        let mut verdict = verdict("a", "http", Outcome::Pass);
        verdict.last_took = took;
        verdict
    };
    // twice as long, but by little; and much longer
    assert!(round(&[at(0.5)], &before).is_clean());
    let slow = round(&[at(0.7)], &before);
    assert_eq!(slow.worse, ["a: the answer took 0.700 s, and 0.100 s before the change"]);
    let mut judge = Judge::default();
    assert_eq!((judge.add(&slow, 1), judge.add(&slow, 1)), (Decision::Doubt, Decision::Doubt));
    assert!(matches!(judge.add(&slow, 1), Decision::Bad(_)));
    assert!(look(&[], &before, (Some(160 << 20), Some(0.55))).is_clean());
    assert_eq!(look(&[], &before, (Some(165 << 20), Some(0.65))).worse.len(), 2);
}

#[test]
fn a_log_may_go_on_at_its_pace() {
    let forbidden = BTreeMap::from([("log".to_owned(), 1)]);
    let noisy = Baseline { forbidden, seconds: 10.0, ..Baseline::default() };
    let now = |lines| {
        let mut verdict = verdict("log", "log", Outcome::Fail);
        verdict.forbidden = Some(lines);
        // thresholds.errors is another matter
        let seen = Seen {
            verdicts: &[verdict],
            since_change: Duration::from_secs(60),
            memory: None,
            processor: None,
        };
        weigh(&seen, &Rules { baseline: &noisy, latency: None, errors: None })
    };
    // 0.1 a second before: 6 in a minute, and up to 18
    assert!(now(4).is_clean() && now(18).is_clean());
    assert_eq!(now(19).wrong.len(), 1);
}

#[test]
fn the_same_change_is_known_by_its_words_and_the_files_they_name() {
    let dir = tempfile::tempdir().unwrap();
    let change = |words: &[&str]| Change::Command(words.iter().map(|word| Name::from(*word)).collect());
    let digest = |words: &[&str]| flap::digest(&change(words), dir.path()).unwrap();
    std::fs::write(dir.path().join("fix.sh"), "exit 1").unwrap();
    let first = digest(&["sh", "fix.sh"]);
    assert_eq!(digest(&["sh", "fix.sh"]), first);
    assert_ne!(digest(&["sh fix.sh"]), first);
    let in_shell = digest(&["sh", "-c", "./fix.sh --now"]);
    std::fs::write(dir.path().join("fix.sh"), "exit 0").unwrap();
    assert_ne!(digest(&["sh", "fix.sh"]), first);
    assert_ne!(digest(&["sh", "-c", "./fix.sh --now"]), in_shell);
    assert_eq!(flap::digest(&Change::ByHand, dir.path()), None);

    let state = State::of(dir.path(), Path::new("/srv/app"));
    flap::check(&state, Some(&first)).unwrap();
    flap::remember(&state, &first, Clock::System.now(), "its tests fail").unwrap();
    let refused = flap::check(&state, Some(&first)).unwrap_err();
    assert!(matches!(refused, GuardError::Flapping { why, .. } if why == "its tests fail"));
    flap::forget(&state, &first).unwrap();
    flap::check(&state, Some(&first)).unwrap();
}

#[test]
fn a_word_to_another_watcher_is_not_heard() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::of(dir.path(), Path::new("/srv/app"));
    assert!(!armed::is_watched(&state).unwrap());
    let lock = armed::watch_lock(&state).unwrap();
    assert!(lock.is_some() && armed::is_watched(&state).unwrap());
    let request =
        armed::Request { run_id: "one".to_owned(), want: armed::Want::Keep, by: "somebody".to_owned() };
    armed::ask(&state, &request).unwrap();
    assert!(armed::asked(&state, "two").is_none());
    assert_eq!(armed::asked(&state, "one").unwrap().want, armed::Want::Keep);
    armed::disarm(&state).unwrap();
    assert!(armed::asked(&state, "one").is_none());
}
