//! Which records of the logbook come into question.

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use regex::Regex;
use serde_json::Value;

use super::run_id;
use super::show::summary;
use crate::base::Exit;
use crate::base::name::shown;
use crate::base::time::Timestamp;
use crate::catalog::select::parse_since;
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::evidence::logged::FOLLOW_UP;
use crate::format::record::Record;
use crate::logbook::{Logbook, Logged};

/// Which records come into question. Repeated: any of them.
#[derive(clap::Args)]
pub struct Which {
    /// Only records of this kind, such as snapshot or drill; repeated: any of them
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// Only records of this application of a plan, and what was said of them
    #[arg(long = "app", value_name = "NAME")]
    apps: Vec<String>,
    /// Only runs with this verdict: pass, fail, objective_missed or inconclusive
    #[arg(long = "verdict", value_name = "VERDICT", value_parser = VERDICTS)]
    verdicts: Vec<String>,
    /// Only records made on this host
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// Only records made by this user
    #[arg(long = "user", value_name = "USER")]
    users: Vec<String>,
    /// Only records that name this snapshot: its id, or the first digits
    #[arg(long = "snapshot", value_name = "ID")]
    snapshots: Vec<String>,
    /// Only records since a date, a time or an age such as 3d
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only records until a date (that day is included), a time or an age such as 3d
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only records in whose text this regular expression is found
    #[arg(long, value_name = "REGEX")]
    grep: Option<String>,
    /// Only the newest N of those
    #[arg(long, visible_alias = "last", value_name = "N")]
    limit: Option<usize>,
}

const VERDICTS: [&str; 4] = ["pass", "fail", "objective_missed", "inconclusive"];
/// The least digits of a snapshot's id that name it.
const LEAST_DIGITS: usize = 4;

/// The questions as they are asked of each record.
struct Filter<'w> {
    which: &'w Which,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    grep: Option<Regex>,
}

impl Which {
    /// The records, oldest first. Those that cannot be read come first, since nobody knows when they were made; they
    /// are left out where anything is asked of the records.
    pub fn of<'l>(&self, logbook: &'l Logbook, context: &Context) -> Result<Vec<&'l Logged>, CommandError> {
        let filter = self.filter(context.clock().now())?;
        let admitted = |logged: &&Logged| match &logged.record {
            Some(record) => filter.admits(record, logbook),
            None => self.asks_nothing(),
        };
        let mut found: Vec<&Logged> = logbook.records.iter().filter(admitted).collect();
        found.sort_by_key(|logged| (logged.record.as_ref().map(|record| record.at), logged.sequence));
        let surplus = self.limit.map_or(0, |limit| found.len().saturating_sub(limit));
        Ok(found.split_off(surplus))
    }

    fn filter(&self, now: Timestamp) -> Result<Filter<'_>, CommandError> {
        if let Some(short) = self.snapshots.iter().find(|id| id.len() < LEAST_DIGITS || !is_hex(id)) {
            let text = format!("{} is no snapshot id", shown(short.as_bytes()));
            return Err(CommandError::usage(text).next("give at least 4 of its hexadecimal digits"));
        }
        let grep = self.grep.as_deref().map(|pattern| {
            Regex::new(pattern).map_err(|error| {
                CommandError::usage(format!("--grep is no regular expression: {error}"))
                    .next("put a backslash before . * + ? ( ) [ ] { } | that mean themselves")
            })
        });
        Ok(Filter {
            which: self,
            since: self.since.as_deref().map(|text| parse_since(text, now)).transpose()?,
            until: self.until.as_deref().map(|text| parse_until(text, now)).transpose()?,
            grep: grep.transpose()?,
        })
    }

    fn asks_nothing(&self) -> bool {
        let lists = [&self.kinds, &self.apps, &self.verdicts, &self.hosts, &self.users, &self.snapshots];
        lists.iter().all(|list| list.is_empty())
            && self.since.is_none()
            && self.until.is_none()
            && self.grep.is_none()
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

// As `parse_since`, but a day is meant to its end.
fn parse_until(text: &str, now: Timestamp) -> Result<Timestamp, CommandError> {
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    let end =
        day.and_then(|day| (day.and_time(NaiveTime::MIN).and_utc()).checked_add_signed(TimeDelta::days(1)));
    match (day, end) {
        (None, _) => parse_since(text, now).map_err(|_| {
            CommandError::new(Exit::Usage, format!("{} is no time for --until", shown(text.as_bytes()))).next(
                "write a date such as 2026-11-30, a time such as 2026-11-30T08:00:00Z, or an age such as 3d",
            )
        }),
        (_, end) => {
            let end = end.map(|end| end - TimeDelta::nanoseconds(1));
            Ok(Timestamp(end.unwrap_or(DateTime::<Utc>::MAX_UTC)))
        }
    }
}

impl Filter<'_> {
    fn admits(&self, record: &Record, logbook: &Logbook) -> bool {
        let which = self.which;
        let any = |wanted: &[String], has: &dyn Fn(&str) -> bool| {
            wanted.is_empty() || wanted.iter().any(|one| has(one))
        };
        any(&which.kinds, &|kind| record.kind == kind)
            && any(&which.hosts, &|host| record.host.0 == host.as_bytes())
            && any(&which.users, &|user| record.user.0 == user.as_bytes())
            && any(&which.verdicts, &|verdict| text(&record.body, "verdict") == Some(verdict))
            && any(&which.apps, &|app| app_of(record, logbook) == Some(app))
            && any(&which.snapshots, &|id| {
                names(&record.body, &|text| text.len() == 64 && text.starts_with(id))
            })
            && self.since.is_none_or(|since| record.at >= since)
            && self.until.is_none_or(|until| record.at <= until)
            && self.grep.as_ref().is_none_or(|grep| {
                grep.is_match(&summary(record)) || names(&record.body, &|text| grep.is_match(text))
            })
    }
}

fn text<'b>(body: &'b Value, key: &str) -> Option<&'b str> {
    body.get(key)?.as_str()
}

// The application of a run, or of the run that was spoken of.
fn app_of<'l>(record: &'l Record, logbook: &'l Logbook) -> Option<&'l str> {
    if record.kind != FOLLOW_UP {
        return text(&record.body, "app");
    }
    let about = run_id(record)?;
    let mut others = logbook.trusted().filter(|(_, other)| other.kind != FOLLOW_UP);
    let spoken_of =
        others.find(|(logged, other)| run_id(other) == Some(about) || logged.id.to_hex() == about);
    text(&spoken_of?.1.body, "app")
}

// True if any text in the body is such; names of fields are not text.
fn names(body: &Value, is_such: &dyn Fn(&str) -> bool) -> bool {
    match body {
        Value::String(text) => is_such(text),
        Value::Array(items) => items.iter().any(|item| names(item, is_such)),
        Value::Object(fields) => fields.values().any(|value| names(value, is_such)),
        _ => false,
    }
}
