use chrono::{FixedOffset, NaiveDateTime};
use proptest::prelude::*;

use super::*;
use crate::check::value::Span;
use crate::evidence::Verdict;

fn at(text: &str) -> Timestamp {
    Timestamp(NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap().and_utc())
}

fn ran(name: &str, started: Timestamp) -> Evidence {
    Evidence {
        run_id: started.rfc3339(),
        app: "a".to_owned(),
        scenario: scenario(name),
        finished: started,
        verdict: Verdict::Pass,
        ..Evidence::begun(Kind::Runbook, started)
    }
}

fn every(text: &str) -> Runbook {
    Runbook { every: Some(Span(humantime::parse_duration(text).unwrap())), ..Runbook::default() }
}

fn by(schedule: &str) -> Runbook {
    Runbook { schedule: Some(schedule.to_owned()), ..Runbook::default() }
}

fn judged(runbook: &Runbook, last: Option<Timestamp>, now: Timestamp) -> Due {
    due(runbook, last, &now.0).unwrap()
}

#[test]
fn what_never_ran_is_due_and_what_says_nothing_never_is() {
    let now = at("2026-11-25 12:00:00");
    assert!(judged(&every("1d"), None, now).is_due);
    assert!(judged(&by("Sun 03:00"), None, now).is_due);
    assert_eq!(judged(&Runbook::default(), None, now), Due { at: None, is_due: false });
}

#[test]
fn an_interval_is_counted_from_the_beginning_of_the_last_run() {
    let last = at("2026-11-24 03:00:07");
    let found = judged(&every("1d"), Some(last), at("2026-11-25 02:54:00"));
    assert_eq!(found, Due { at: Some(at("2026-11-25 03:00:07")), is_due: false });
    // a daily timer that comes some seconds early misses no day
    assert!(judged(&every("1d"), Some(last), at("2026-11-25 03:00:00")).is_due);
    assert!(!judged(&every("1m"), Some(last), at("2026-11-24 03:01:06")).is_due);
}

#[test]
fn a_schedule_is_due_once_its_moment_has_passed_since_the_last_run() {
    // a Wednesday
    let now = at("2026-11-25 12:00:00");
    let weekly = by("Sun 03:00");
    assert!(!judged(&weekly, Some(at("2026-11-22 03:00:01")), now).is_due);
    let missed = judged(&weekly, Some(at("2026-11-20 03:00:01")), now);
    assert_eq!(missed, Due { at: Some(at("2026-11-22 03:00:00")), is_due: true });
    // missed three times is due once: a run now makes up for all
    assert!(judged(&weekly, Some(at("2026-11-01 03:00:01")), now).is_due);
    assert!(!judged(&weekly, Some(now), at("2026-11-25 12:00:01")).is_due);
    // in the zone of the host
    let zone = FixedOffset::east_opt(5 * 3600).unwrap();
    let local = due(&weekly, Some(at("2026-11-21 21:59:59")), &now.0.with_timezone(&zone)).unwrap();
    assert_eq!(local.at, Some(at("2026-11-21 22:00:00")));
}

#[test]
fn the_last_run_is_the_newest_that_can_be_believed() {
    let now = at("2026-11-25 12:00:00");
    let mut broken_off = ran("daily", at("2026-11-25 11:00:00"));
    broken_off.faults.push(INTERRUPTED.to_owned());
    let runs = [
        ran("daily", at("2026-11-24 03:00:00")),
        ran("daily", at("2026-11-23 03:00:00")),
        ran("weekly", at("2026-11-25 03:00:00")),
        ran("daily", at("2031-01-01 00:00:00")),
        broken_off,
    ];
    let found = last("daily", &runs, now);
    assert_eq!(found.run.unwrap().started, at("2026-11-24 03:00:00"));
    assert_eq!(found.in_future, 1);
    let never = last("never", &runs, now);
    assert!(never.run.is_none() && never.in_future == 0);
    // clocks of two hosts differ a little
    let near = [ran("daily", at("2026-11-25 12:03:00"))];
    assert_eq!(last("daily", &near, now).in_future, 0);
    assert!(!judged(&every("1h"), Some(at("2026-11-25 12:03:00")), now).is_due);
}

#[test]
fn a_clock_that_was_set_back_makes_it_due_once_and_not_for_ever() {
    let runbook = every("1d");
    let mut runs = vec![ran("daily", at("2031-01-01 00:00:00"))];
    let mut now = at("2026-11-25 12:00:00");
    let is_due = |runs: &[Evidence], now| {
        let last = last("daily", runs, now);
        judged(&runbook, last.run.map(|run| run.started), now).is_due
    };
    assert!(is_due(&runs, now));
    runs.push(ran("daily", now));
    now = at("2026-11-25 12:00:01");
    assert!(!is_due(&runs, now));
    assert!(is_due(&runs, at("2026-11-26 12:00:01")));
    // and forward again: the run of that time counts
    assert!(!is_due(&runs, at("2031-01-01 05:00:00")));
}

fn seconds() -> impl Strategy<Value = Timestamp> {
    (1_700_000_000_i64..1_900_000_000).prop_map(|s| Timestamp::from_seconds(s).unwrap())
}

proptest! {
    // Whatever the clock did before: once it has run, it is not due at once again, and some time later it is.
    #[test]
    fn never_for_ever_and_never_never(
        past in prop::collection::vec(seconds(), 0..6), now in seconds(), minutes in 10_u64..200_000, by_calendar: bool,
    ) {
        let runbook = if by_calendar { by("Sat *-*-* 22:30") } else {
            Runbook { every: Some(Span::seconds(minutes * 60)), ..Runbook::default() }
        };
        let is_due = |runs: &[Evidence], now: Timestamp| {
            let last = last("x", runs, now).run.map(|run| run.started);
            due(&runbook, last, &now.0).unwrap()
        };
        let mut runs: Vec<Evidence> = past.iter().map(|at| ran("x", *at)).collect();
        let before = is_due(&runs, now);
        // within its interval it becomes due, if the clock runs on from here and no other run is believed meanwhile
        let at = before.at.unwrap();
        prop_assert!(before.is_due || at > now);
        runs.push(ran("x", now));
        let after = is_due(&runs, now);
        prop_assert!(!after.is_due);
        let interval = if by_calendar { 7 * 86_400 } else { minutes * 60 };
        let wait = after.at.unwrap().since(now);
        prop_assert!(wait <= Duration::from_secs(interval + 1), "{wait:?}");
        runs.retain(|run| run.started <= now);
        let later = Timestamp(now.0 + TimeDelta::seconds(interval as i64 + 1));
        prop_assert!(is_due(&runs, later).is_due);
    }
}
