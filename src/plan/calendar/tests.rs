use std::process::Command;

use chrono::{FixedOffset, MappedLocalTime, NaiveDateTime, Utc};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::*;

fn at(text: &str) -> DateTime<Utc> {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap().and_utc()
}

fn next(schedule: &str, after: &str) -> String {
    let calendar: Calendar = schedule.parse().unwrap();
    calendar.next_after(&at(after)).unwrap().format("%Y-%m-%d %H:%M:%S").to_string()
}

#[test]
fn the_next_moment_is_after_the_given_one() {
    // a Wednesday
    let now = "2026-11-25 12:00:00";
    for (schedule, expected) in [
        ("minutely", "2026-11-25 12:01:00"),
        ("hourly", "2026-11-25 13:00:00"),
        ("daily", "2026-11-26 00:00:00"),
        ("weekly", "2026-11-30 00:00:00"),
        ("monthly", "2026-12-01 00:00:00"),
        ("quarterly", "2027-01-01 00:00:00"),
        ("semiannually", "2027-01-01 00:00:00"),
        ("yearly", "2027-01-01 00:00:00"),
        ("Sun 03:00", "2026-11-29 03:00:00"),
        ("12:00", "2026-11-26 12:00:00"),
        ("12:00:01", "2026-11-25 12:00:01"),
        ("Mon..Fri *-*-* 22:00", "2026-11-25 22:00:00"),
        ("Sat, Sun 04:00", "2026-11-28 04:00:00"),
        ("*:00/15", "2026-11-25 12:15:00"),
        ("8..17:30", "2026-11-25 12:30:00"),
        ("8..17/4:30", "2026-11-25 12:30:00"),
        ("12-24", "2026-12-24 00:00:00"),
        ("2027-02-28", "2027-02-28 00:00:00"),
        ("*-02-29 01:00", "2028-02-29 01:00:00"),
        ("Sat *-*-01..07 04:00 UTC", "2026-12-05 04:00:00"),
        ("*-01,07-01", "2027-01-01 00:00:00"),
    ] {
        assert_eq!(next(schedule, now), expected, "{schedule}");
    }
}

#[test]
fn what_is_not_known_is_refused_in_words() {
    for (schedule, says) in [
        ("", "empty"),
        ("fortnightly", "neither a weekday such as Mon nor a word such as daily"),
        ("*-*~03", "from the end of the month"),
        ("03:00:00.5", "fractions"),
        ("03:00 Europe/Berlin", "no other time zone"),
        ("25:00", "\"25\" is no hour from 0 to 23"),
        ("*-13-01", "\"13\" is no month from 1 to 12"),
        ("Sun..Mon 03:00", "a week begins on Monday"),
        ("17..8:00", "goes backwards"),
        ("*:0/0", "no step"),
        ("22/3:00", "leads past 23"),
        ("1:2:3:4", "not a time"),
        ("*-02-30", "never comes"),
        ("2026-11-25-01", "not a date"),
        ("03", "not a date"),
    ] {
        let wrong = schedule.parse::<Calendar>().unwrap_err();
        assert!(wrong.contains(says), "{schedule}: {wrong}");
    }
}

#[test]
fn a_schedule_is_of_the_hosts_zone_unless_it_says_utc() {
    let zone = FixedOffset::east_opt(3600).unwrap();
    let now = at("2026-11-25 12:00:00").with_timezone(&zone);
    let of = |schedule: &str| schedule.parse::<Calendar>().unwrap().next_after(&now).unwrap().to_rfc3339();
    assert_eq!(of("18:00"), "2026-11-25T18:00:00+01:00");
    assert_eq!(of("18:00 UTC"), "2026-11-25T19:00:00+01:00");
}

/// A zone an hour east of UTC, and two from the last Sunday of March to that of October 2027, each at 01:00 UTC.
#[derive(Clone)]
struct Summer;

impl Summer {
    fn is_summer(utc: NaiveDateTime) -> bool {
        utc >= at("2027-03-28 01:00:00").naive_utc() && utc < at("2027-10-31 01:00:00").naive_utc()
    }
    fn offset(utc: NaiveDateTime) -> FixedOffset {
        FixedOffset::east_opt(if Self::is_summer(utc) { 7200 } else { 3600 }).unwrap()
    }
}

impl TimeZone for Summer {
    type Offset = FixedOffset;
    fn from_offset(_: &FixedOffset) -> Self {
        Self
    }
    fn offset_from_local_date(&self, local: &NaiveDate) -> MappedLocalTime<FixedOffset> {
        self.offset_from_local_datetime(&local.and_hms_opt(0, 0, 0).unwrap())
    }
    fn offset_from_local_datetime(&self, local: &NaiveDateTime) -> MappedLocalTime<FixedOffset> {
        let mut fits = [7200, 3600].map(|s| FixedOffset::east_opt(s).unwrap()).into_iter().filter(|offset| {
            Self::offset(*local - TimeDelta::seconds(offset.local_minus_utc().into())) == *offset
        });
        match (fits.next(), fits.next()) {
            (Some(first), Some(second)) => MappedLocalTime::Ambiguous(first, second),
            (Some(only), None) => MappedLocalTime::Single(only),
            _ => MappedLocalTime::None,
        }
    }
    fn offset_from_utc_date(&self, utc: &NaiveDate) -> FixedOffset {
        Self::offset(utc.and_hms_opt(0, 0, 0).unwrap())
    }
    fn offset_from_utc_datetime(&self, utc: &NaiveDateTime) -> FixedOffset {
        Self::offset(*utc)
    }
}

#[test]
fn when_clocks_are_set_a_moment_is_moved_or_counts_once() {
    let all = |schedule: &str, from: &str, count: usize| {
        let calendar: Calendar = schedule.parse().unwrap();
        let mut last = at(from).with_timezone(&Summer);
        let mut found = Vec::new();
        for _ in 0..count {
            last = calendar.next_after(&last).unwrap();
            found.push(last.naive_local().format("%d %H:%M ").to_string() + &last.offset().to_string());
        }
        found
    };
    // there is no 02:30 on the 28th
    assert_eq!(
        all("02:30", "2027-03-26 12:00:00", 3),
        ["27 02:30 +01:00", "28 03:30 +02:00", "29 02:30 +02:00"]
    );
    // and two on the 31st
    assert_eq!(
        all("02:30", "2027-10-30 00:00:00", 3),
        ["30 02:30 +02:00", "31 02:30 +02:00", "01 02:30 +01:00"]
    );
    assert_eq!(
        all("hourly", "2027-03-28 00:00:00", 3),
        ["28 03:00 +02:00", "28 04:00 +02:00", "28 05:00 +02:00"]
    );
}

#[test]
fn cron_says_the_same_where_it_can() {
    let cron = |schedule: &str| schedule.parse::<Calendar>().unwrap().cron();
    assert_eq!(cron("Sun 03:00").unwrap(), "0 3 * * 0");
    assert_eq!(cron("Mon..Fri *-*-* 22:30").unwrap(), "30 22 * * 1,2,3,4,5");
    assert_eq!(cron("quarterly").unwrap(), "0 0 1 1,4,7,10 *");
    // cron would take either day
    assert_eq!(cron("Sat *-*-01..07 04:00"), None);
    assert_eq!(cron("2027-01-01"), None);
    assert_eq!(cron("03:00:30"), None);
    assert_eq!(cron("03:00 UTC"), None);
}

fn part(low: u32, high: u32, width: usize) -> impl Strategy<Value = String> {
    let number = move || low..=high;
    let two = move |n: u32| format!("{n:0width$}");
    prop_oneof![
        Just("*".to_owned()),
        number().prop_map(two),
        (number(), number()).prop_map(move |(a, b)| format!("{}..{}", two(a.min(b)), two(a.max(b)))),
        (number(), 1..=high).prop_map(move |(a, step)| format!("{}/{step}", two(a))),
        prop::collection::vec(number(), 2..4)
            .prop_map(move |all| { all.into_iter().map(two).collect::<Vec<_>>().join(",") }),
    ]
}

fn schedule() -> impl Strategy<Value = String> {
    let weekday = prop_oneof![
        Just(String::new()),
        prop::sample::select(vec!["Mon ", "Sun ", "Mon..Fri ", "Sat,Sun ", "Tue..Thu,Sat "])
            .prop_map(str::to_owned),
    ];
    let year = prop_oneof![Just("*".to_owned()), (2024..2032_u32).prop_map(|y| y.to_string())];
    (weekday, year, part(1, 12, 2), part(1, 28, 2), part(0, 23, 2), part(0, 59, 2), part(0, 59, 2)).prop_map(
        |(weekday, year, month, day, hour, minute, second)| {
            format!("{weekday}{year}-{month}-{day} {hour}:{minute}:{second}")
        },
    )
}

fn moments() -> impl Strategy<Value = DateTime<Utc>> {
    (1_700_000_000_i64..1_850_000_000).prop_map(|s| DateTime::from_timestamp(s, 0).unwrap())
}

proptest! {
    #[test]
    fn what_is_shown_is_read_as_the_same(text in schedule()) {
        // some never come: a past year with a weekday that it does not have
        if let Ok(calendar) = text.parse::<Calendar>() {
            prop_assert_eq!(calendar.to_string().parse::<Calendar>().unwrap(), calendar);
        }
    }

    #[test]
    fn the_next_moment_matches_and_none_is_left_out(text in schedule(), after in moments()) {
        let Ok(calendar) = text.parse::<Calendar>() else { return Ok(()) };
        let next = calendar.next_after(&after);
        if let Some(next) = next {
            prop_assert!(next > after);
            prop_assert!(calendar.matches(next.naive_utc()));
        }
        // an hour of seconds, then days of the same second
        let end = next.unwrap_or(DateTime::<Utc>::MAX_UTC);
        let between = (1..3600).map(|s| after + TimeDelta::seconds(s)).chain((1..400).map(|d| after + TimeDelta::days(d)));
        for other in between.filter(|other| *other < end) {
            prop_assert!(!calendar.matches(other.naive_utc()), "{other} was left out");
        }
    }

    #[test]
    fn nothing_that_is_written_makes_it_panic(text in "[-*~.,:/0-9a-zA-Z ]{0,24}", after in moments()) {
        if let Ok(calendar) = text.parse::<Calendar>() {
            let _ = calendar.next_after(&after);
        }
    }
}

// systemd itself is asked, where it is there.
#[test]
fn systemd_sees_the_same_moments() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = (schedule(), moments());
    let mut texts =
        vec!["daily".to_owned(), "quarterly".to_owned(), "Sun 03:00".to_owned(), "12-24".to_owned()];
    texts.extend(["*:0/15", "8..17:30", "Sat *-*-01..07 04:00"].map(str::to_owned));
    texts.extend((0..60).map(|_| strategy.new_tree(&mut runner).unwrap().current().0));
    let base = at("2026-11-25 12:00:00");
    for text in texts {
        let Ok(calendar) = text.parse::<Calendar>() else { continue };
        let asked = Command::new("systemd-analyze")
            .env("TZ", "UTC")
            .env("LC_ALL", "C")
            .args(["calendar", "--iterations=3", "--base-time=2026-11-25 12:00:00 UTC", &text])
            .output();
        let Ok(asked) = asked else { return };
        let said = String::from_utf8_lossy(&asked.stdout).into_owned();
        assert!(asked.status.success(), "{text}: {}", String::from_utf8_lossy(&asked.stderr));
        let theirs: Vec<&str> = said
            .lines()
            .filter_map(|line| line.trim().split_once(": "))
            .filter(|(key, value)| {
                (key.starts_with("Next") || key.starts_with("Iter")) && value.ends_with("UTC")
            })
            .map(|(_, value)| value.trim())
            .collect();
        let mut ours = Vec::new();
        let mut last = base;
        while let Some(next) = calendar.next_after(&last).filter(|_| ours.len() < theirs.len().max(1)) {
            ours.push(next.format("%a %Y-%m-%d %H:%M:%S UTC").to_string());
            last = next;
        }
        assert_eq!(ours, theirs, "{text}");
    }
}
