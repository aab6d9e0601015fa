//! When a runbook is due. Pure: the last runs come from the logbook, the time and its zone from whoever asks.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, TimeZone};
use serde::Serialize;

use crate::base::time::Timestamp;
use crate::evidence::{Evidence, Kind};
use crate::plan::Runbook;
use crate::plan::calendar::Calendar;

/// A record that is no further in the future than this is of a clock that differs a little.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);
/// A runbook may come a hundredth of its interval early, and this at most.
const SLACK: Duration = Duration::from_secs(5 * 60);
/// What an interrupted run has as a fault.
pub const INTERRUPTED: &str = "interrupted before the end";

/// A run, or what is kept of one.
pub trait Ran {
    /// The runbook's name; `None` if it is no run of one.
    fn runbook(&self) -> Option<&str>;
    /// When it began.
    fn started(&self) -> Timestamp;
    /// True if it was broken off.
    fn is_interrupted(&self) -> bool;
}

impl Ran for Evidence {
    fn runbook(&self) -> Option<&str> {
        name_of(self.kind, &self.scenario)
    }

    fn started(&self) -> Timestamp {
        self.started
    }

    fn is_interrupted(&self) -> bool {
        self.faults.iter().any(|fault| fault == INTERRUPTED)
    }
}

/// The last run of a runbook that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last<'e, R = Evidence> {
    /// It; `None` if there is none.
    pub run: Option<&'e R>,
    /// Runs that are recorded as of the future: the clock was moved.
    pub in_future: usize,
}

/// When a runbook is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Due {
    /// When it is due next, or since when it is; `None` if nothing says when.
    pub at: Option<Timestamp>,
    /// True: now.
    pub is_due: bool,
}

/// What a record of a runbook has as its scenario.
pub fn scenario(name: &str) -> String {
    format!("runbook {name}")
}

/// The runbook that a record of this kind and scenario is of; `None` if it is of none.
pub fn name_of(kind: Kind, scenario: &str) -> Option<&str> {
    scenario.strip_prefix("runbook ").filter(|_| kind == Kind::Runbook)
}

/// The last run that can be believed and that was not interrupted, of these runs in any order.
pub fn last<'e, R: Ran>(name: &str, runs: &'e [R], now: Timestamp) -> Last<'e, R> {
    let mut found = Last { run: None, in_future: 0 };
    for run in runs.iter().filter(|run| run.runbook() == Some(name)) {
        if run.started().0 > now.0 + TOLERANCE {
            found.in_future += 1;
        } else if !run.is_interrupted() && found.run.is_none_or(|other: &R| run.started() >= other.started())
        {
            found.run = Some(run);
        }
    }
    found
}

/// When a runbook is due that began last at `last`. The zone of `now` is that of the schedule.
///
/// # Errors
/// If its schedule cannot be read, which a plan that was read has not.
pub fn due<Z: TimeZone>(
    runbook: &Runbook,
    last: Option<Timestamp>,
    now: &DateTime<Z>,
) -> Result<Due, String> {
    let schedule = runbook.schedule.as_deref().map(str::parse::<Calendar>).transpose()?;
    if schedule.is_none() && runbook.every.is_none() {
        return Ok(Due { at: None, is_due: false });
    }
    let Some(last) = last else {
        return Ok(Due { at: Some(stamp(now)), is_due: true });
    };
    // one that is a little in the future is one of now
    let last = last.min(stamp(now));
    if let Some(every) = runbook.every {
        let length = TimeDelta::from_std(every.0).unwrap_or(TimeDelta::MAX);
        let at = last.0.checked_add_signed(length).map(Timestamp);
        let slack = (every.0 / 100).min(SLACK);
        let is_due = at.is_some_and(|at| at.0 <= stamp(now).0 + slack);
        return Ok(Due { at, is_due });
    }
    let after = last.0.with_timezone(&now.timezone());
    let at = schedule.and_then(|schedule| schedule.next_after(&after)).map(|at| stamp(&at));
    Ok(Due { at, is_due: at.is_some_and(|at| at <= stamp(now)) })
}

fn stamp<Z: TimeZone>(at: &DateTime<Z>) -> Timestamp {
    Timestamp(at.to_utc())
}

#[cfg(test)]
mod tests;
