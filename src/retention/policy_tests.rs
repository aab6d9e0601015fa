//! Of the policy: examples, and what must hold for any policy and any snapshots.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::policy::*;
use crate::base::id::SnapshotId;
use crate::base::name::Name;
use crate::base::time::Timestamp;
use crate::format::source::Source;

const DAY: i64 = 86400;
// 2026-11-23 12:00:00, a Monday
const NOON: i64 = 1_795_435_200;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds).unwrap()
}

fn group(host: &str, root: &str) -> Source {
    Source::of_files(&Name::from(host), [&Name::from(root)])
}

fn candidate(sequence: u64, taken: i64) -> Candidate {
    Candidate {
        id: SnapshotId::of(&sequence.to_le_bytes()),
        group: group("host", "/srv/app"),
        sequence,
        taken: at(taken),
        tags: Vec::new(),
        drilled: false,
        partial: false,
    }
}

// One a day, the newest (sequence 9) on 2026-11-23 at noon.
fn ten_days() -> Vec<Candidate> {
    (0..10).map(|n| candidate(n, NOON - (9 - n as i64) * DAY)).collect()
}

fn reasons(policy: &Policy, candidates: &[Candidate]) -> Vec<(u64, String)> {
    let judged = judge(policy, candidates, at(NOON)).unwrap();
    let mut kept: Vec<(u64, String)> = candidates
        .iter()
        .zip(judged)
        .filter(|(_, judgement)| judgement.keep)
        .map(|(candidate, judgement)| (candidate.sequence, judgement.reasons.join(", ")))
        .collect();
    kept.sort_by_key(|(sequence, _)| std::cmp::Reverse(*sequence));
    kept
}

fn check(policy: &Policy, candidates: &[Candidate], expected: &[(u64, &str)]) {
    let kept = reasons(policy, candidates);
    let kept: Vec<(u64, &str)> = kept.iter().map(|(n, text)| (*n, text.as_str())).collect();
    assert_eq!(kept, expected);
}

#[test]
fn each_rule_says_what_it_keeps() {
    let policy = Policy { keep_last: 2, keep_daily: 3, keep_weekly: 2, ..Policy::default() };
    check(
        &policy,
        &ten_days(),
        &[
            (9, "last 1 of 2, daily 2026-11-23, weekly 2026-W48, newest that is complete"),
            (8, "last 2 of 2, daily 2026-11-22, weekly 2026-W47"),
            (7, "daily 2026-11-21"),
        ],
    );
    let policy = Policy { keep_monthly: 5, keep_yearly: 1, keep_hourly: 1, ..Policy::default() };
    check(
        &policy,
        &[candidate(1, NOON - 40 * DAY), candidate(2, NOON - 60), candidate(3, NOON)],
        &[
            (3, "hourly 2026-11-23 12:00, monthly 2026-11, yearly 2026, newest that is complete"),
            (1, "monthly 2026-10"),
        ],
    );
}

#[test]
fn weeks_are_those_of_iso_8601() {
    // 2027-01-01 is a Friday of the last week of 2026
    let policy = Policy { keep_weekly: 1, ..Policy::default() };
    let judged = judge(&policy, &[candidate(1, 1_798_761_600)], at(1_798_761_600)).unwrap();
    assert_eq!(judged[0].reasons[0], "weekly 2026-W53");
}

#[test]
fn within_counts_back_from_the_newest_snapshot() {
    let policy = Policy { keep_within: Some(Duration::from_secs(2 * DAY as u64)), ..Policy::default() };
    let judged = judge(&policy, &ten_days(), at(NOON + 300 * DAY)).unwrap();
    let kept: Vec<bool> = judged.iter().map(|judgement| judgement.keep).collect();
    assert_eq!(kept, [false, false, false, false, false, false, false, true, true, true]);
    assert_eq!(judged[7].reasons, ["within 2 d 0 h"]);
}

#[test]
fn the_last_drilled_and_the_newest_complete_stay() {
    let mut snapshots = ten_days();
    snapshots[2].drilled = true;
    snapshots[4].drilled = true;
    snapshots[9].partial = true;
    let policy = Policy { keep_last: 1, ..Policy::default() };
    check(
        &policy,
        &snapshots,
        &[(9, "last 1 of 1"), (8, "newest that is complete"), (4, "last that passed a drill")],
    );
}

#[test]
fn a_day_is_held_by_its_newest_complete_snapshot() {
    let mut snapshots = vec![candidate(1, NOON - 7200), candidate(2, NOON - 3600), candidate(3, NOON)];
    snapshots[2].partial = true;
    let policy = Policy { keep_daily: 7, ..Policy::default() };
    check(&policy, &snapshots, &[(2, "daily 2026-11-23, newest that is complete")]);
}

#[test]
fn the_sequence_decides_and_not_the_clock() {
    // the clock was set back two days between the second and the third
    let snapshots = [candidate(1, NOON - DAY), candidate(2, NOON), candidate(3, NOON - 2 * DAY)];
    let policy = Policy { keep_last: 1, ..Policy::default() };
    check(&policy, &snapshots, &[(3, "last 1 of 1, newest that is complete")]);
}

#[test]
fn a_snapshot_from_the_future_pushes_nothing_out() {
    let mut snapshots = ten_days();
    snapshots.push(candidate(10, NOON + 301));
    snapshots.push(candidate(11, NOON + 300));
    let policy = Policy { keep_last: 1, keep_daily: 1, ..Policy::default() };
    check(
        &policy,
        &snapshots,
        &[(11, "last 1 of 1, daily 2026-11-23, newest that is complete"), (10, "dated in the future")],
    );
}

#[test]
fn a_misspelt_tag_is_refused() {
    let mut snapshots = ten_days();
    snapshots[3].tags.push(Name::from("release"));
    let policy = |tag: &str| Policy { keep_tags: vec![tag.to_owned()], ..Policy::default() };
    check(&policy("release"), &snapshots, &[(9, "newest that is complete"), (3, "tag release")]);
    let error = judge(&policy("relaese"), &snapshots, at(NOON)).unwrap_err();
    assert_eq!(error.to_string(), "no rule keeps any of the 10 snapshots of host /srv/app");
    // one group suffices, whatever is kept of the others
    snapshots.push(Candidate { group: group("other", "/"), ..candidate(1, NOON) });
    assert!(judge(&policy("release"), &snapshots, at(NOON)).is_err());
}

#[test]
fn a_policy_without_rules_is_refused() {
    assert_eq!(judge(&Policy::default(), &ten_days(), at(NOON)), Err(PolicyError::Empty));
    let zero = Policy { keep_within: Some(Duration::ZERO), ..Policy::default() };
    assert_eq!(judge(&zero, &[], at(NOON)), Err(PolicyError::Empty));
    assert_eq!(judge(&Policy { keep_last: 1, ..Policy::default() }, &[], at(NOON)), Ok(vec![]));
}

#[test]
fn times_at_the_ends_of_the_calendar_do_no_harm() {
    let ends = [chrono::DateTime::<chrono::Utc>::MIN_UTC, chrono::DateTime::<chrono::Utc>::MAX_UTC];
    let policy = Policy {
        keep_last: 1,
        keep_hourly: 1,
        keep_weekly: 1,
        keep_within: Some(Duration::MAX),
        ..Policy::default()
    };
    let snapshots: Vec<Candidate> =
        (0..2).map(|i| Candidate { taken: Timestamp(ends[i]), ..candidate(i as u64, 0) }).collect();
    for now in ends {
        assert!(judge(&policy, &snapshots, Timestamp(now)).unwrap().iter().all(|j| j.keep));
    }
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let count = || prop_oneof![Just(0u32), 1..5u32];
    let within = proptest::option::of((1..20 * DAY as u64).prop_map(Duration::from_secs));
    let tags = vec("[ab]", 0..2);
    (count(), count(), count(), count(), count(), count(), within, tags).prop_map(
        |(
            keep_last,
            keep_hourly,
            keep_daily,
            keep_weekly,
            keep_monthly,
            keep_yearly,
            keep_within,
            keep_tags,
        )| {
            Policy {
                keep_last,
                keep_hourly,
                keep_daily,
                keep_weekly,
                keep_monthly,
                keep_yearly,
                keep_within,
                keep_tags,
            }
        },
    )
}

// Up to three groups; clocks go as they like, up to ten days into the future.
fn any_candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let taken =
        prop_oneof![3 => NOON - 3 * DAY..NOON, 2 => NOON - 400 * DAY..NOON, 1 => NOON..NOON + 10 * DAY];
    let one = ("[xyz]", taken, vec("[abc]", 0..2), any::<bool>(), any::<bool>());
    vec(one, 0..30).prop_map(|all| {
        all.into_iter()
            .zip(0..)
            .map(|((host, taken, tags, drilled, partial), n)| Candidate {
                group: group(&host, "/"),
                tags: tags.iter().map(|tag| Name::from(tag.as_str())).collect(),
                drilled,
                partial,
                ..candidate(n, taken)
            })
            .collect()
    })
}

fn is_ahead(candidate: &Candidate) -> bool {
    candidate.taken.since(at(NOON)) > CLOCK_SLACK
}

proptest! {
    #[test]
    fn what_must_never_go_is_kept(policy in any_policy(), snapshots in any_candidates()) {
        let Ok(judged) = judge(&policy, &snapshots, at(NOON)) else { return Ok(()) };
        for (candidate, judgement) in snapshots.iter().zip(&judged) {
            prop_assert_eq!(candidate.id, judgement.id);
            prop_assert_eq!(judgement.keep, !judgement.reasons.is_empty());
            prop_assert!(judgement.keep || !is_ahead(candidate));
            let newer = || snapshots.iter().filter(|other| {
                other.group == candidate.group && other.sequence > candidate.sequence && !is_ahead(other)
            });
            let last_complete = !candidate.partial && newer().all(|other| other.partial);
            let last_drilled = candidate.drilled && newer().all(|other| !other.drilled);
            let tagged = candidate.tags.iter().any(|tag| policy.keep_tags.iter().any(|kept| *kept.as_bytes() == tag.0));
            let recent = newer().count() < policy.keep_last as usize;
            if last_complete || last_drilled || tagged || recent {
                prop_assert!(judgement.keep, "{:?}", candidate);
            }
        }
        for candidate in &snapshots {
            let mut group = snapshots.iter().zip(&judged).filter(|(other, _)| other.group == candidate.group);
            prop_assert!(group.any(|(_, judgement)| judgement.keep));
        }
    }

    #[test]
    fn a_wrong_clock_changes_nothing_for_the_others(
        policy in any_policy(), mut snapshots in any_candidates(), ahead in 301..400 * DAY, sequence in 0..40u64,
        drilled: bool,
    ) {
        let before = judge(&policy, &snapshots, at(NOON));
        snapshots.push(Candidate { group: group("x", "/"), drilled, ..candidate(sequence, NOON + ahead) });
        match (before, judge(&policy, &snapshots, at(NOON))) {
            (Ok(before), Ok(after)) => prop_assert_eq!(&before[..], &after[..before.len()]),
            (before, after) => prop_assert_eq!(before.err(), after.err()),
        }
    }

    #[test]
    fn neither_order_nor_other_groups_matter(policy in any_policy(), snapshots in any_candidates()) {
        let Ok(judged) = judge(&policy, &snapshots, at(NOON)) else { return Ok(()) };
        let mut backwards: Vec<Candidate> = snapshots.clone();
        backwards.reverse();
        let mut again = judge(&policy, &backwards, at(NOON)).unwrap();
        again.reverse();
        prop_assert_eq!(&again, &judged);
        for host in ["x", "y", "z"] {
            let (alone, expected): (Vec<Candidate>, Vec<Judgement>) = snapshots
                .iter().cloned().zip(judged.iter().cloned()).filter(|(one, _)| one.group == group(host, "/")).unzip();
            prop_assert_eq!(judge(&policy, &alone, at(NOON)).unwrap(), expected);
        }
    }

    #[test]
    fn forgetting_twice_forgets_no_more(policy in any_policy(), mut snapshots in any_candidates()) {
        // only where clocks agree with the sequence: otherwise a kept snapshot may hold another day
        snapshots.retain(|one| !is_ahead(one));
        let mut times: Vec<Timestamp> = snapshots.iter().map(|one| one.taken).collect();
        times.sort();
        for (candidate, taken) in snapshots.iter_mut().zip(times) {
            candidate.taken = taken;
        }
        let Ok(judged) = judge(&policy, &snapshots, at(NOON)) else { return Ok(()) };
        let kept: Vec<Candidate> =
            snapshots.into_iter().zip(judged).filter(|(_, judgement)| judgement.keep).map(|(one, _)| one).collect();
        let again = judge(&policy, &kept, at(NOON)).unwrap();
        prop_assert!(again.iter().all(|judgement| judgement.keep));
    }

    #[test]
    fn no_more_is_kept_than_the_rules_allow(counts in vec(0..5u32, 6), snapshots in any_candidates()) {
        let [keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly] = counts[..] else {
            return Ok(());
        };
        let policy = Policy {
            keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly, ..Policy::default()
        };
        let Ok(judged) = judge(&policy, &snapshots, at(NOON)) else { return Ok(()) };
        for host in ["x", "y", "z"] {
            let kept = snapshots.iter().zip(&judged)
                .filter(|(one, judgement)| one.group == group(host, "/") && judgement.keep && !is_ahead(one)).count();
            prop_assert!(kept <= counts.iter().sum::<u32>() as usize + 2);
        }
    }
}
