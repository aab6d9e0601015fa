//! The logbook as a maintenance log: a session of work for each stretch of records by the same person on the
//! same host, in the form that operations documents ask for.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use super::markdown::cell;
use crate::base::time::Timestamp;
use crate::evidence::follow_up::{ActionStatus, FollowUp};

/// Work that is no longer than this apart is one session.
pub const PAUSE: Duration = Duration::from_secs(30 * 60);

/// Something that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Who did it, and where.
    pub by: String,
    /// The record's kind, or how often a runbook is run, such as `weekly`.
    pub kind: String,
    /// What was done, in a line.
    pub what: String,
    /// What went wrong by itself; what people say of it is in the follow-ups.
    pub issues: Vec<String>,
    /// Whether it did all that it should.
    pub complete: bool,
    /// What was said of it later.
    pub follow_ups: Vec<FollowUp>,
}

/// The activities, oldest first, as sessions. Every section is there; what is empty says `None`.
pub fn maintenance(activities: &[Activity]) -> String {
    let mut sessions: Vec<Vec<&Activity>> = Vec::new();
    for activity in activities {
        let near = |session: &Vec<&Activity>| {
            let last = session.iter().map(|a| a.finished).max();
            session.first().is_some_and(|first| first.by == activity.by)
                && last.is_some_and(|last| activity.started.since(last) <= PAUSE)
        };
        match sessions.last_mut().filter(|session| near(session)) {
            Some(session) => session.push(activity),
            None => sessions.push(vec![activity]),
        }
    }
    sessions.iter().map(|session| one(session)).collect::<Vec<_>>().join("\n")
}

fn one(session: &[&Activity]) -> String {
    let mut text = String::new();
    let Some(first) = session.first() else { return text };
    let ended = session.iter().map(|activity| activity.finished).max().unwrap_or(first.finished);
    let minute = |at: Timestamp| at.0.format("%Y-%m-%d %H:%M").to_string();
    let _ = writeln!(text, "## Maintenance Session: {}\n", minute(first.started));
    let _ = writeln!(text, "**Type**: {}", kind(session));
    let _ = writeln!(text, "**Duration**: {} to {}", minute(first.started), minute(ended));
    let _ = writeln!(text, "**Performed By**: {}", cell(&first.by));
    let _ = writeln!(text, "\n### Activities Completed");
    for (number, activity) in session.iter().enumerate() {
        let _ = writeln!(text, "{}. {}", number + 1, cell(&activity.what));
    }
    let said = || session.iter().flat_map(|activity| &activity.follow_ups);
    let found = session.iter().flat_map(|activity| &activity.issues);
    list(&mut text, "Issues Encountered", found.chain(said().flat_map(|said| &said.issues)).cloned());
    let seen = said().flat_map(|said| said.observations.iter().chain(&said.lessons)).cloned();
    let signed = said().flat_map(|said| &said.signoff).map(|signoff| {
        let note = if signoff.note.is_empty() { String::new() } else { format!(": {}", signoff.note) };
        format!("Signed off by {}, {}{note}", signoff.by, minute(signoff.at))
    });
    list(&mut text, "Observations", seen.chain(signed));
    actions(&mut text, said());
    let complete = session.iter().all(|activity| activity.complete);
    let _ = writeln!(text, "\n**Status**: {}", if complete { "Completed" } else { "Partial" });
    text
}

// A change that had to be made or taken back is an emergency, whatever else was done.
fn kind(session: &[&Activity]) -> String {
    let mut words = BTreeSet::new();
    for activity in session {
        if matches!(activity.kind.as_str(), "hotfix" | "rollback") {
            return "Emergency".to_owned();
        }
        let mut letters = activity.kind.chars();
        let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
        words.insert(cell(&(first + letters.as_str())));
    }
    for often in ["Quarterly", "Monthly", "Weekly", "Daily"] {
        if words.contains(often) {
            return often.to_owned();
        }
    }
    words.into_iter().collect::<Vec<_>>().join(", ")
}

fn list(text: &mut String, title: &str, items: impl Iterator<Item = String>) {
    let _ = writeln!(text, "\n### {title}");
    let mut any = false;
    for item in items {
        any = true;
        let _ = writeln!(text, "- {}", cell(&item));
    }
    if !any {
        text.push_str("- None\n");
    }
}

fn actions<'a>(text: &mut String, said: impl Iterator<Item = &'a FollowUp> + Clone) {
    let all = said.flat_map(|said| &said.actions);
    let closed: BTreeSet<&str> =
        all.clone().filter(|a| a.status != ActionStatus::Open).map(|a| a.text.as_str()).collect();
    let mut shown = BTreeSet::new();
    text.push_str("\n### Next Actions\n");
    for action in all {
        if !shown.insert(action.text.as_str()) {
            continue;
        }
        let mark = if closed.contains(action.text.as_str()) { "x" } else { " " };
        let mut line = format!("- [{mark}] {}", cell(&action.text));
        for part in [&action.owner, &action.due].into_iter().filter(|part| !part.is_empty()) {
            let _ = write!(line, ", {}", cell(part));
        }
        let _ = writeln!(text, "{line}");
    }
    if shown.is_empty() {
        text.push_str("- None\n");
    }
}
