//! Next actions as they stand: who recorded them, until when they are due, and whether they are closed.
//!
//! An action is part of a signed follow-up and never changes. That it is closed is a record of its own, which names
//! it by its id; what counts is what all records together say, in whatever order they were written.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::follow_up::{ActionStatus, FollowUp};
use super::logged::{Said, said};
use crate::base::id::RecordId;
use crate::base::time::Timestamp;
use crate::logbook::Logbook;

/// The least digits of an action's id that name it.
pub const LEAST_DIGITS: usize = 4;

/// Something that is to be done, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Action {
    /// Its id: 64 hexadecimal digits, from the record it is in and its place there.
    pub id: String,
    /// What.
    pub text: String,
    /// Who does it; empty if nobody said.
    pub owner: String,
    /// Until when, as it was written; empty if nobody said.
    pub due: String,
    /// The record that it speaks of: a run's id, or a record's hash; empty if it stands alone.
    pub about: String,
    /// When it was recorded.
    pub recorded: Timestamp,
    /// By whom, as `user@host`.
    pub by: String,
    /// The record that holds it.
    pub record: RecordId,
    /// Whether it is done.
    pub status: ActionStatus,
    /// How it was closed, if it was.
    pub closed: Option<Closing>,
}

/// That an action was closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Closing {
    /// When.
    pub at: Timestamp,
    /// By whom, as `user@host`.
    pub by: String,
    /// What they said.
    pub note: String,
    /// The record that says so.
    pub record: RecordId,
}

impl Action {
    /// The day it is due; `None` if nobody said, or not as a date.
    pub fn due_on(&self) -> Option<NaiveDate> {
        parse_due(&self.due)
    }

    /// True if it is open and the day it was due is over.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.is_open() && self.due_on().is_some_and(|due| due < now.0.date_naive())
    }

    /// True if nobody has closed it.
    pub fn is_open(&self) -> bool {
        self.status == ActionStatus::Open
    }
}

/// A day as records write it, `2026-12-01`.
pub fn parse_due(text: &str) -> Option<NaiveDate> {
    NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().filter(|day| day.to_string() == text)
}

/// The open actions of the logbook: those due first come first, those without a day last.
pub fn open(logbook: &Logbook) -> Vec<Action> {
    let mut found = all(logbook);
    found.retain(Action::is_open);
    found
}

/// Every action of the logbook, in the order of [`open`].
pub fn all(logbook: &Logbook) -> Vec<Action> {
    let mut found = of(&said(logbook));
    found.sort_by_key(|action| (action.due_on().is_none(), action.due_on(), action.recorded));
    found
}

/// The id of the action at this place of a record.
pub fn id_of(record: RecordId, place: usize) -> String {
    hex::encode(Sha256::digest(format!("lifeboat action {place} of {}", record.to_hex())))
}

/// The actions in what was said, as all of it together has them. What was said comes oldest first.
pub(super) fn of(said: &[Said]) -> Vec<Action> {
    let mut found: Vec<Action> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let is_new = |one: &Said, place: usize| {
        let action = one.words.actions.get(place);
        action.is_some_and(|action| action.status == ActionStatus::Open)
    };
    for one in said {
        for (place, action) in one.words.actions.iter().enumerate().filter(|(place, _)| is_new(one, *place)) {
            let id = id_of(one.record, place);
            places.insert(id.clone(), found.len());
            found.push(Action {
                id,
                text: action.text.clone(),
                owner: action.owner.clone(),
                due: action.due.clone(),
                about: one.words.run_id.clone(),
                recorded: one.at,
                by: one.by.clone(),
                record: one.record,
                status: ActionStatus::Open,
                closed: None,
            });
        }
    }
    for one in said {
        for closed in &one.words.closed {
            // of an id that no record has nobody knows what it closes; of two closings the first counts
            let action = places.get(&closed.action).and_then(|place| found.get_mut(*place));
            if let Some(action) = action {
                close(action, one, closed.status, &closed.note);
            }
        }
        // by its text: those of the same run that were there before
        for named in one.words.actions.iter().filter(|action| action.status != ActionStatus::Open) {
            let meant = found.iter_mut().filter(|action| {
                action.text == named.text && action.about == one.words.run_id && action.recorded <= one.at
            });
            meant.for_each(|action| close(action, one, named.status, &named.note));
        }
    }
    found
}

fn close(action: &mut Action, one: &Said, status: ActionStatus, note: &str) {
    if action.is_open() && status != ActionStatus::Open {
        action.status = status;
        let (by, note) = (one.by.clone(), note.to_owned());
        action.closed = Some(Closing { at: one.at, by, note, record: one.record });
    }
}

/// What was said, each action with the status that it has by now; a word that only closed one by its text is gone.
pub(super) fn settled(mut said: Vec<Said>) -> Vec<Said> {
    let now: BTreeMap<String, Action> =
        of(&said).into_iter().map(|action| (action.id.clone(), action)).collect();
    let closed_by_text = |words: &FollowUp, text: &str| {
        now.values()
            .any(|action| action.about == words.run_id && action.text == text && action.closed.is_some())
    };
    for one in &mut said {
        let words = one.words.clone();
        let mut place = 0;
        one.words.actions.retain_mut(|action| {
            let at = now.get(&id_of(one.record, place));
            place += 1;
            if let Some(at) = at {
                action.status = at.status;
                action.note = at.closed.as_ref().map(|closing| closing.note.clone()).unwrap_or_default();
            }
            at.is_some() || !closed_by_text(&words, &action.text)
        });
    }
    said
}
