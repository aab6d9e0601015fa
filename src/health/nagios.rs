//! A plug-in's answer as Nagios, Icinga and Checkmk read it: a line, performance data, a state.

use super::Report;
use crate::check::{Outcome, Verdict};

/// Longer lines are cut by old readers.
const MAX_TEXT: usize = 1024;

/// A state of a plug-in; its number is the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// All is well.
    Ok = 0,
    /// Something that is not required is wrong.
    Warning = 1,
    /// Something that is required is wrong.
    Critical = 2,
    /// It could not be judged.
    Unknown = 3,
}

/// The state of a report.
pub fn state(report: &Report) -> State {
    match report.verdict {
        Outcome::Fail => State::Critical,
        Outcome::Error => State::Unknown,
        Outcome::Pass if report.wrong().is_empty() => State::Ok,
        Outcome::Pass => State::Warning,
    }
}

/// The line, with a newline at its end.
pub fn line(report: &Report) -> String {
    let word = match state(report) {
        State::Ok => "OK",
        State::Warning => "WARNING",
        State::Critical => "CRITICAL",
        State::Unknown => "UNKNOWN",
    };
    let wrong = report.wrong();
    let mut text = if wrong.is_empty() {
        format!("{} passed", crate::base::size::plural(report.checks.len() as u64, "check"))
    } else {
        let told: Vec<String> =
            wrong.iter().map(|check| format!("{}: {}", check.name, check.reason)).collect();
        told.join("; ")
    };
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|&at| text.is_char_boundary(at)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    let mut data = vec![
        format!("failed={};;0;0", count(report, Outcome::Fail)),
        format!("unjudged={};;0;0", count(report, Outcome::Error)),
        format!("time={:.3}s;;;0", report.took),
    ];
    data.extend(report.checks.iter().map(|check| format!("'{}'={:.3}s;;;0", name(&check.name), check.took)));
    format!("LIFEBOAT {word} - {} {} | {}\n", plain(&report.application), plain(&text), data.join(" "))
}

/// The line where nothing could be looked at.
pub fn unknown(why: &str) -> String {
    format!("LIFEBOAT UNKNOWN - {}\n", plain(why))
}

fn count(report: &Report, outcome: Outcome) -> usize {
    let is_it = |check: &&Verdict| check.required && check.outcome == outcome;
    report.checks.iter().filter(is_it).count()
}

// A bar would begin the performance data, a line break the long text.
fn plain(text: &str) -> String {
    text.replace(['\n', '\r'], " ").replace('|', "¦")
}

// Between single quotes; an equals sign would end the name.
fn name(text: &str) -> String {
    plain(text).replace('\'', "''").replace('=', "_")
}
