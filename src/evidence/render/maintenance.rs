//! The logbook as a maintenance log: a session of work for each stretch of records by the same person on the
//! same host, in the form that operations documents ask for. A maintenance from its begin to its end is one session,
//! however long it took and whoever worked in it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use askama::Template;

use super::markdown::cell;
use super::{RenderError, line};
use crate::base::name::shown_text;
use crate::base::time::Timestamp;
use crate::evidence::follow_up::{Action, ActionStatus, FollowUp};

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
    /// Whether a maintenance begins or ends with it.
    pub bound: Option<Bound>,
}

/// A maintenance begins or ends; the name is the application's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// It has begun.
    Begin(String),
    /// It was ended or given up.
    End(String),
}

/// A session of work, as the form has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Such as `Weekly`, `Emergency`, or the kinds of its records.
    pub kind: String,
    /// Who did it.
    pub by: String,
    /// What was done, in order.
    pub activities: Vec<String>,
    /// What went wrong.
    pub issues: Vec<String>,
    /// What was noticed, learned, signed.
    pub observations: Vec<String>,
    /// What is to be done.
    pub actions: Vec<Action>,
    /// Whether all of it did what it should.
    pub complete: bool,
}

impl Session {
    /// The word of the form.
    pub fn status(&self) -> &'static str {
        if self.complete { "Completed" } else { "Partial" }
    }
}

/// The activities, oldest first, as sessions.
pub fn sessions(activities: &[Activity]) -> Vec<Session> {
    let mut sessions: Vec<Vec<&Activity>> = Vec::new();
    // the maintenance that is going on: which session, whose application, and where in the list it ends
    let mut inside: Option<usize> = None;
    for (at, activity) in activities.iter().enumerate() {
        let near = |session: &Vec<&Activity>| {
            let last = session.iter().map(|a| a.finished).max();
            session.first().is_some_and(|first| first.by == activity.by)
                && last.is_some_and(|last| activity.started.since(last) <= PAUSE)
        };
        let is_inside = inside.is_some_and(|end| at <= end);
        let begins = match &activity.bound {
            Some(Bound::Begin(app)) if !is_inside => end_of(app, at, activities),
            _ => None,
        };
        match sessions.last_mut().filter(|session| is_inside || begins.is_none() && near(session)) {
            // the snapshot before a begin belongs to what came before
            Some(session) => session.push(activity),
            None => sessions.push(vec![activity]),
        }
        if !is_inside {
            inside = begins;
        }
    }
    sessions.iter().filter_map(|session| one(session)).collect()
}

// Where the maintenance that begins here ends; one that is not over has no end, nor has one that begins again.
fn end_of(app: &str, begin: usize, activities: &[Activity]) -> Option<usize> {
    let later = activities.iter().enumerate().skip(begin + 1);
    let mut bounds = later.filter(|(_, activity)| match &activity.bound {
        Some(Bound::Begin(other) | Bound::End(other)) => other == app,
        None => false,
    });
    bounds.next().filter(|(_, activity)| matches!(activity.bound, Some(Bound::End(_)))).map(|(at, _)| at)
}

fn one(session: &[&Activity]) -> Option<Session> {
    let first = session.first()?;
    let said = || session.iter().flat_map(|activity| &activity.follow_ups);
    let minute = |at: Timestamp| at.0.format("%Y-%m-%d %H:%M").to_string();
    let signed = said().flat_map(|said| &said.signoff).map(|signoff| {
        let note = if signoff.note.is_empty() { String::new() } else { format!(": {}", signoff.note) };
        format!("Signed off by {}, {}{note}", signoff.by, minute(signoff.at))
    });
    let mut people: Vec<&str> = Vec::new();
    for activity in session {
        if !people.contains(&activity.by.as_str()) {
            people.push(&activity.by);
        }
    }
    let found = session.iter().flat_map(|activity| &activity.issues);
    let noticed = said().flat_map(|said| said.observations.iter().chain(&said.lessons)).cloned();
    let done = session.iter().flat_map(|activity| {
        let more = activity.follow_ups.iter().flat_map(|said| &said.activities);
        std::iter::once(&activity.what).filter(|what| !what.is_empty()).chain(more)
    });
    Some(Session {
        started: first.started,
        ended: session.iter().map(|activity| activity.finished).max().unwrap_or(first.finished),
        kind: kind(session),
        by: people.join(", "),
        activities: done.cloned().collect(),
        issues: found.chain(said().flat_map(|said| &said.issues)).cloned().collect(),
        observations: noticed.chain(signed).collect(),
        actions: said().flat_map(|said| &said.actions).cloned().collect(),
        complete: session.iter().all(|activity| activity.complete),
    })
}

/// The sessions in Markdown. Every section is there; what is empty says `None`.
pub fn maintenance(sessions: &[Session]) -> String {
    sessions.iter().map(markdown).collect::<Vec<_>>().join("\n")
}

fn markdown(session: &Session) -> String {
    let mut text = String::new();
    let minute = |at: Timestamp| at.0.format("%Y-%m-%d %H:%M").to_string();
    let _ = writeln!(text, "## Maintenance Session: {}\n", minute(session.started));
    let _ = writeln!(text, "**Type**: {}", cell(&session.kind));
    let _ = writeln!(text, "**Duration**: {} to {}", minute(session.started), minute(session.ended));
    let _ = writeln!(text, "**Performed By**: {}", cell(&session.by));
    let _ = writeln!(text, "\n### Activities Completed");
    for (number, what) in session.activities.iter().enumerate() {
        let _ = writeln!(text, "{}. {}", number + 1, cell(what));
    }
    list(&mut text, "Issues Encountered", &session.issues);
    list(&mut text, "Observations", &session.observations);
    text.push_str("\n### Next Actions\n");
    for action in &session.actions {
        let mark = if action.status == ActionStatus::Open { " " } else { "x" };
        let _ = writeln!(text, "- [{mark}] {}", cell(&in_a_line(action)));
    }
    if session.actions.is_empty() {
        text.push_str("- None\n");
    }
    let _ = writeln!(text, "\n**Status**: {}", session.status());
    text
}

/// An action with all that is known of it.
fn in_a_line(action: &Action) -> String {
    let mut text = action.text.clone();
    for part in [&action.owner, &action.due].into_iter().filter(|part| !part.is_empty()) {
        text.push_str(", ");
        text.push_str(part);
    }
    let how = match action.status {
        ActionStatus::Open => return text,
        ActionStatus::Done if action.note.is_empty() => return text,
        status => status.word(),
    };
    text.push_str(&format!(" ({how}"));
    if !action.note.is_empty() {
        text.push_str(&format!(": {}", action.note));
    }
    text + ")"
}

#[derive(Template)]
#[template(path = "logbook.html")]
struct Page {
    sessions: Vec<Section>,
}

/// A session with everything as text.
struct Section {
    title: String,
    kind: String,
    until: String,
    by: String,
    activities: Vec<String>,
    lists: [(&'static str, Vec<String>); 2],
    actions: Vec<(bool, String)>,
    complete: bool,
    status: &'static str,
}

/// The sessions as a page that needs nothing else, the newest first.
///
/// # Errors
/// If the template cannot be filled.
pub fn maintenance_html(sessions: &[Session]) -> Result<String, RenderError> {
    let lines = |texts: &[String]| texts.iter().map(|text| line(text)).collect::<Vec<_>>();
    let section = |session: &Session| Section {
        title: session.started.0.format("%Y-%m-%d %H:%M").to_string(),
        kind: line(&session.kind),
        until: session.ended.0.format("%Y-%m-%d %H:%M").to_string(),
        by: line(&session.by),
        activities: lines(&session.activities),
        lists: [
            ("Issues encountered", lines(&session.issues)),
            ("Observations", lines(&session.observations)),
        ],
        actions: session
            .actions
            .iter()
            .map(|action| (action.status == ActionStatus::Open, line(&in_a_line(action))))
            .collect(),
        complete: session.complete,
        status: session.status(),
    };
    let page = Page { sessions: sessions.iter().rev().map(section).collect() };
    let text = page.render().map_err(|error| RenderError::of("the maintenance log", "HTML", error))?;
    Ok(shown_text(&text))
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
        words.insert(first + letters.as_str());
    }
    for often in ["Quarterly", "Monthly", "Weekly", "Daily"] {
        if words.contains(often) {
            return often.to_owned();
        }
    }
    words.into_iter().collect::<Vec<_>>().join(", ")
}

fn list(text: &mut String, title: &str, items: &[String]) {
    let _ = writeln!(text, "\n### {title}");
    for item in items {
        let _ = writeln!(text, "- {}", cell(item));
    }
    if items.is_empty() {
        text.push_str("- None\n");
    }
}
