//! The lines, each a pure function of what is known.

mod application;
mod procedures;
mod proofs;
mod room;
mod stored;

use std::time::Duration;

use super::{Facts, Line, Verdict};
use crate::base::name::shown;
use crate::base::time::Timestamp;
use crate::evidence::Seconds;

/// A time that is no further in the future than this is of a clock that differs a little.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// All lines, in the order in which they are read: what there is, what was proved, what is to be done, how it is.
pub fn all(facts: &Facts) -> Vec<Line> {
    let mut lines = vec![stored::repository(facts)];
    if let Ok(repository) = &facts.repository {
        let application = facts.application.as_ref();
        lines.push(stored::snapshot(repository, application, facts.now));
        lines.push(proofs::verification(repository, facts.now));
        lines.push(proofs::coverage(repository));
        lines.push(proofs::drill(repository, application, facts.now));
        lines.push(stored::replicas(repository, application, facts.now));
        lines.push(stored::logbook(repository));
        if let Some(application) = application {
            lines.push(procedures::runbooks(repository, application, facts.now));
        }
        lines.push(procedures::actions(repository, facts.now));
    }
    if let Some(application) = &facts.application {
        lines.push(application::health(application, facts.now));
        lines.push(application::change(application, facts.now));
        lines.push(application::notifications(application));
    }
    lines.push(room::room(facts));
    lines.push(remembered(facts));
    lines.push(clock(facts));
    settle(lines)
}

// What is wrong only because something else is, is not said twice.
fn settle(lines: Vec<Line>) -> Vec<Line> {
    /// Lines that rest on what the logbook says.
    const BY_RECORDS: [&str; 4] = ["verification", "coverage", "drill", "runbooks"];
    let is_wrong = |name: &str| lines.iter().any(|line| line.name == name && line.verdict.is_wrong());
    let (clock, logbook) = (is_wrong("clock"), is_wrong("logbook"));
    let settled = |line: Line| {
        if clock && line.by_age && line.verdict.is_wrong() {
            line.not_judged("the clock cannot be trusted")
        } else if logbook && line.verdict == Verdict::Stale && BY_RECORDS.contains(&line.name) {
            line.not_judged("the logbook is damaged")
        } else {
            line
        }
    };
    lines.into_iter().map(settled).collect()
}

// What this host remembers. Moved aside, nothing is lost that a person could not look at.
fn remembered(facts: &Facts) -> Line {
    const NAME: &str = "memory";
    let Some((path, why)) = facts.unread.first() else {
        return Line::new(NAME, Verdict::Pass, "what this host remembers can be read");
    };
    let more = facts.unread.len() - 1;
    let rest = if more > 0 { format!(", and {more} more") } else { String::new() };
    let path = path.shown();
    Line::new(NAME, Verdict::Error, shown(format!("{why}{rest}").as_bytes()))
        .mend(format!("mv {path} {path}.damaged"))
}

fn clock(facts: &Facts) -> Line {
    const NAME: &str = "clock";
    let future = |at: Timestamp, what: &str| {
        (at.0 > facts.now.0 + TOLERANCE).then(|| {
            format!("{what} is of {}, {} ahead of this host's clock", at.shown(), words(at.since(facts.now)))
        })
    };
    let repository = facts.repository.as_ref().ok();
    let record = repository.and_then(|repository| future(repository.memory.newest()?, "the last record"));
    let looked = || future(facts.application.as_ref()?.looked?, "the last look at the checks");
    let jump = || {
        let seconds = facts.clock_jump?;
        let length = words(Duration::from_secs(seconds.unsigned_abs()));
        let way = if seconds > 0 { "forward" } else { "back" };
        Some(format!("the clock was set {way} by {length} between two looks"))
    };
    match record.or_else(looked).or_else(jump) {
        None => Line::new(NAME, Verdict::Pass, "nothing is recorded as of the future"),
        Some(reason) => {
            Line::new(NAME, Verdict::Error, format!("{reason}: no age can be trusted")).mend("timedatectl")
        }
    }
}

// So long ago, as people say it; the future is now.
fn age(at: Timestamp, now: Timestamp) -> String {
    words(now.since(at))
}

// A length of time, to the second.
fn words(length: Duration) -> String {
    Seconds::from_secs(length.as_secs()).to_string().replace(".00 s", " s").replace(".0 s", " s")
}

// Names with commas between them, of the first few, safe for a terminal.
fn list<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    const SHOWN: usize = 5;
    let names: Vec<String> = names.into_iter().map(|name| shown(name.as_bytes())).collect();
    let mut text = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}
