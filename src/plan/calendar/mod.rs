//! When a runbook is due by the calendar: a documented part of systemd's OnCalendar (systemd.time(7)).
//!
//! Pure: the time zone comes from whoever asks.

mod read;

use std::fmt;
use std::str::FromStr;

use chrono::{
    DateTime, Datelike as _, Days, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Timelike as _, Utc,
};

/// Years that are looked at.
const YEARS: std::ops::RangeInclusive<i32> = 1970..=2199;

/// Moments that come again and again. Every part holds at least one number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// Bit 0 is Monday.
    weekdays: u64,
    /// `None`: every year.
    years: Option<Vec<i32>>,
    /// Bit n is month n, from 1.
    months: u64,
    /// Bit n is day n, from 1.
    days: u64,
    hours: u64,
    minutes: u64,
    seconds: u64,
    /// True: UTC, whatever the host's time zone is.
    utc: bool,
}

impl FromStr for Calendar {
    type Err = String;

    /// # Errors
    /// A sentence that says what was expected.
    fn from_str(text: &str) -> Result<Self, String> {
        read::calendar(text)
    }
}

impl Calendar {
    /// The first moment after `after`, in the time zone of `after`; `None` if there is none before the year 2200.
    pub fn next_after<Z: TimeZone>(&self, after: &DateTime<Z>) -> Option<DateTime<Z>> {
        if self.utc {
            let found = self.next_in(&after.with_timezone(&Utc))?;
            return Some(found.with_timezone(&after.timezone()));
        }
        self.next_in(after)
    }

    fn next_in<Z: TimeZone>(&self, after: &DateTime<Z>) -> Option<DateTime<Z>> {
        // clocks that are set back show the last hours again
        let mut local = after.naive_local().checked_sub_signed(TimeDelta::hours(3))?;
        loop {
            local = self.next_local(local)?;
            if let Some(found) = moment(&after.timezone(), local).filter(|found| found > after) {
                return Some(found);
            }
        }
    }

    /// True if a local time is one of the moments.
    pub fn matches(&self, local: NaiveDateTime) -> bool {
        self.has_day(local.date())
            && has(self.hours, local.hour())
            && has(self.minutes, local.minute())
            && has(self.seconds, local.second())
            && local.nanosecond() == 0
    }

    fn has_day(&self, date: NaiveDate) -> bool {
        YEARS.contains(&date.year())
            && self.years.as_ref().is_none_or(|years| years.contains(&date.year()))
            && has(self.months, date.month())
            && has(self.days, date.day())
            && has(self.weekdays, date.weekday().num_days_from_monday())
    }

    // The first local time after this one.
    fn next_local(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        let mut date = after.date();
        if let Some(time) = self.time_after(Some((after.hour(), after.minute(), after.second())))
            && self.has_day(date)
        {
            return date.and_hms_opt(time.0, time.1, time.2);
        }
        let first = self.time_after(None)?;
        loop {
            date = self.skip(date.checked_add_days(Days::new(1))?)?;
            if self.has_day(date) {
                return date.and_hms_opt(first.0, first.1, first.2);
            }
        }
    }

    // This date, or the first of the next month or year that comes into question.
    fn skip(&self, mut date: NaiveDate) -> Option<NaiveDate> {
        let lowest = *YEARS.start();
        if date.year() < lowest {
            date = NaiveDate::from_ymd_opt(lowest, 1, 1)?;
        }
        while YEARS.contains(&date.year()) {
            if self.years.as_ref().is_some_and(|years| !years.contains(&date.year())) {
                date = NaiveDate::from_ymd_opt(date.year() + 1, 1, 1)?;
            } else if !has(self.months, date.month()) {
                let (year, month) =
                    if date.month() == 12 { (date.year() + 1, 1) } else { (date.year(), date.month() + 1) };
                date = NaiveDate::from_ymd_opt(year, month, 1)?;
            } else {
                return Some(date);
            }
        }
        None
    }

    // The first time of day after this one; the first of all if `None`.
    fn time_after(&self, after: Option<(u32, u32, u32)>) -> Option<(u32, u32, u32)> {
        let low = |mask| next_bit(mask, 0);
        let (first_minute, first_second) = (low(self.minutes)?, low(self.seconds)?);
        let Some((hour, minute, second)) = after else {
            return Some((low(self.hours)?, first_minute, first_second));
        };
        if has(self.hours, hour) {
            if has(self.minutes, minute)
                && let Some(second) = next_bit(self.seconds, second + 1)
            {
                return Some((hour, minute, second));
            }
            if let Some(minute) = next_bit(self.minutes, minute + 1) {
                return Some((hour, minute, first_second));
            }
        }
        Some((next_bit(self.hours, hour + 1)?, first_minute, first_second))
    }

    /// The five fields of cron for the same moments; `None` where cron cannot say it.
    pub fn cron(&self) -> Option<String> {
        let (all_days, all_weekdays) = (self.days == read::DAYS, self.weekdays == read::WEEKDAYS);
        // cron takes either of two days that are given, and knows no year, no second and no other time zone
        if self.years.is_some() || self.seconds != 1 || self.utc || !(all_days || all_weekdays) {
            return None;
        }
        let field =
            |mask: u64, all: u64| if mask == all { "*".to_owned() } else { list(mask, |n| n.to_string()) };
        // cron counts from Sunday
        let weekdays =
            if all_weekdays { "*".to_owned() } else { list(self.weekdays, |n| ((n + 1) % 7).to_string()) };
        Some(format!(
            "{} {} {} {} {weekdays}",
            field(self.minutes, read::MINUTES),
            field(self.hours, read::HOURS),
            field(self.days, read::DAYS),
            field(self.months, read::MONTHS),
        ))
    }
}

/// As systemd's `Normalized form`, but for ranges, which are written as lists.
impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.weekdays != read::WEEKDAYS {
            write!(f, "{} ", list(self.weekdays, |n| read::weekday_name(n).to_owned()))?;
        }
        match &self.years {
            None => f.write_str("*")?,
            Some(years) => {
                f.write_str(&years.iter().map(i32::to_string).collect::<Vec<_>>().join(","))?;
            }
        }
        let two = |n: u32| format!("{n:02}");
        for (before, mask, all) in [
            ("-", self.months, read::MONTHS),
            ("-", self.days, read::DAYS),
            (" ", self.hours, read::HOURS),
            (":", self.minutes, read::MINUTES),
            (":", self.seconds, read::MINUTES),
        ] {
            let field = if mask == all { "*".to_owned() } else { list(mask, two) };
            write!(f, "{before}{field}")?;
        }
        if self.utc { f.write_str(" UTC") } else { Ok(()) }
    }
}

fn has(mask: u64, bit: u32) -> bool {
    bit < 64 && mask >> bit & 1 == 1
}

fn next_bit(mask: u64, from: u32) -> Option<u32> {
    if from >= 64 {
        return None;
    }
    let rest = mask >> from << from;
    (rest != 0).then(|| rest.trailing_zeros())
}

fn list(mask: u64, show: impl Fn(u32) -> String) -> String {
    (0..64).filter(|bit| has(mask, *bit)).map(show).collect::<Vec<_>>().join(",")
}

// A time that comes twice counts the first time, one that is left out is an hour later.
fn moment<Z: TimeZone>(zone: &Z, local: NaiveDateTime) -> Option<DateTime<Z>> {
    let at = |local: &NaiveDateTime| zone.from_local_datetime(local).earliest();
    at(&local).or_else(|| at(&local.checked_add_signed(TimeDelta::hours(1))?))
}

#[cfg(test)]
mod tests;
