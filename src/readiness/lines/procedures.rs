//! What people have to do: procedures that are due, actions that are open.

use std::time::Duration;

use super::{Line, Verdict, age, list, words};
use crate::base::name::shown;
use crate::base::size;
use crate::base::time::Timestamp;
use crate::evidence;
use crate::plan::Runbook;
use crate::readiness::facts::{Application, Repository};
use crate::runbook::due::{due, last};

/// A runbook that is due may wait so long before that is wrong; never longer than a quarter of its interval.
const GRACE: Duration = Duration::from_secs(12 * 3600);
/// And may always wait so long: timers do not fire to the second.
const LEAST: Duration = Duration::from_secs(15 * 60);

/// Whether the plan's runbooks were run when they were due, and how they ended.
pub fn runbooks(repository: &Repository, application: &Application, now: Timestamp) -> Line {
    const NAME: &str = "runbooks";
    let timed =
        application.plan.runbook.iter().filter(|(_, book)| book.schedule.is_some() || book.every.is_some());
    // one that never ran is due since the first moment after Lifeboat came
    let came = repository.memory.oldest.unwrap_or(now).min(now);
    let (mut failed, mut unjudged, mut late, mut never) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut next: Option<(Timestamp, &str)> = None;
    for (name, book) in timed {
        let run = last(name, &repository.memory.runs, now).run;
        match run.map(|run| run.verdict) {
            Some(evidence::Verdict::Fail | evidence::Verdict::ObjectiveMissed) => failed.push(name.as_str()),
            // questions that nobody answered are no failure
            Some(evidence::Verdict::Inconclusive) if run.is_some_and(|run| run.headline != "open") => {
                unjudged.push(name.as_str());
            }
            _ => {}
        }
        let Ok(found) =
            due(book, Some(run.map_or(came, |run| run.started)), &now.0.with_timezone(&chrono::Local))
        else {
            continue;
        };
        let Some(at) = found.at else { continue };
        if run.is_none() {
            never.push(name.as_str());
        }
        if found.is_due && now.since(at) > grace(book, at) {
            late.push(name.as_str());
        } else if next.is_none_or(|(before, _)| at < before) {
            next = Some((at, name));
        }
    }
    let mut parts = Vec::new();
    let mut say = |names: &[&str], what: &str| {
        if !names.is_empty() {
            parts.push(format!("{what}: {}", list(names.iter().copied())));
        }
    };
    say(&failed, "failed the last time");
    say(&unjudged, "could not be judged the last time");
    say(&late, "overdue");
    never.retain(|name| !late.contains(name));
    say(&never, "never run so far");
    if let Some((at, name)) = next {
        let when = if at <= now { "due now".to_owned() } else { format!("in {}", words(at.since(now))) };
        parts.push(format!("next: {} {when}", shown(name.as_bytes())));
    }
    let reason = parts.join("; ");
    let first = |names: &[&str]| names.first().map(|name| format!("lifeboat run {}", shown(name.as_bytes())));
    if let Some(mend) = first(&failed) {
        Line::new(NAME, Verdict::Fail, reason).mend(mend)
    } else if !late.is_empty() {
        Line::new(NAME, Verdict::Stale, reason).mend("lifeboat run --due").by_age()
    } else if let Some(mend) = first(&unjudged) {
        Line::new(NAME, Verdict::Error, reason).mend(mend)
    } else if next.is_none() {
        Line::new(NAME, Verdict::NotJudged, "the plan has none with a time")
    } else {
        Line::new(NAME, Verdict::Pass, reason)
    }
}

fn grace(book: &Runbook, at: Timestamp) -> Duration {
    // what follows this moment tells the interval
    let local = at.0.with_timezone(&chrono::Local);
    let following = due(book, Some(at), &local).ok().and_then(|found| found.at);
    let interval = following.map(|following| following.since(at)).unwrap_or_default();
    GRACE.min(interval / 4).max(LEAST)
}

/// What people said to be done and nobody has closed.
pub fn actions(repository: &Repository, now: Timestamp) -> Line {
    const NAME: &str = "actions";
    let open = &repository.actions;
    let late: Vec<_> = open.iter().filter(|action| action.is_overdue(now)).collect();
    if let Some(first) = late.first() {
        let count = size::plural(late.len() as u64, "open action");
        let reason =
            format!("{count} overdue, such as \"{}\", due {}", shown(first.text.as_bytes()), first.due);
        return Line::new(NAME, Verdict::Fail, reason).mend("lifeboat log actions").by_age();
    }
    let Some(first) = open.first() else { return Line::new(NAME, Verdict::Pass, "none is open") };
    let mut reason = format!("{} open", size::count(open.len() as u64));
    match first.due_on() {
        Some(day) => reason.push_str(&format!(", the next is due {day}")),
        None => reason.push_str(&format!(", the oldest for {}", age(first.recorded, now))),
    }
    Line::new(NAME, Verdict::Pass, reason)
}
