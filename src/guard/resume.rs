//! A change whose watcher is gone: killed, rebooted, or never there.

use std::ffi::OsStr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::armed::{self, Armed, Stage, Want};
use super::run::{Deaf, Guard, Next};
use super::types::{End, GuardError, Operator, Outcome};
use crate::base::event::Observer;
use crate::evidence::{self, Kind};
use crate::logbook;
use crate::rollback::{self, Direction, Ended, Subject};
use crate::service::State;
use crate::sys::host::boot_id;
use crate::sys::process::{GRACE, end_marked};

/// Between two looks whether a deadline is over, where nothing else is watched.
const SLICE: Duration = Duration::from_millis(200);

/// What came of it.
#[derive(Debug)]
pub enum Resumed {
    /// Nothing is armed.
    Nothing,
    /// A watcher lives.
    Watched(Box<Armed>),
    /// A change by hand without a deadline: it waits for a person.
    Waits(Box<Armed>),
    /// It came to an end.
    Ended(Box<Outcome>),
}

/// Takes up a change that is armed and has no watcher: judges health and deadline, and keeps it or takes it back.
///
/// # Errors
/// If it cannot be found out what is armed, or a rollback is under way in another process.
pub fn resume(
    subject: &Subject<'_>,
    operator: &dyn Operator,
    observer: &dyn Observer,
) -> Result<Resumed, GuardError> {
    let Some(found) = armed::armed(subject.state)? else { return Ok(Resumed::Nothing) };
    let Some(lock) = armed::watch_lock(subject.state)? else { return Ok(Resumed::Watched(Box::new(found))) };
    // it may have come to its end between the two looks
    let Some(found) = armed::armed(subject.state)? else { return Ok(Resumed::Nothing) };
    if found.stage == Stage::Open && found.confirm_until.is_none() {
        return Ok(Resumed::Waits(Box::new(found)));
    }
    if let Some(outcome) = already_recorded(subject, &found)? {
        return Ok(Resumed::Ended(Box::new(outcome)));
    }
    let guard = Guard::of(subject, found, operator, observer, lock);
    let outcome = guard.take_up()?;
    Ok(Resumed::Ended(Box::new(outcome)))
}

/// Keeps a change that has no watcher, or takes it back, because a person says so.
///
/// # Errors
/// If nothing is armed, or somebody watches it.
pub fn decide(
    subject: &Subject<'_>,
    (want, by): (Want, &str),
    operator: &dyn Operator,
    observer: &dyn Observer,
) -> Result<Outcome, GuardError> {
    let lock = armed::watch_lock(subject.state)?.ok_or(GuardError::Watched)?;
    let found = armed::armed(subject.state)?.ok_or(GuardError::NotArmed)?;
    let guard = Guard::of(subject, found, operator, observer, lock);
    if want == Want::Keep {
        return Ok(guard.end(Next::Keep { why: format!("confirmed by {by}"), unjudged: false }));
    }
    if guard.armed.stage == Stage::Changing {
        guard.end_command();
    }
    if guard.armed.stage == Stage::Armed {
        return Ok(guard.end(Next::Leave { why: "the command had not begun".to_owned() }));
    }
    guard.go_back(format!("aborted by {by}"), false)
}

// Killed between the record and the end: the record counts.
fn already_recorded(subject: &Subject<'_>, found: &Armed) -> Result<Option<Outcome>, GuardError> {
    let Some(last) = armed::last(subject.state)?.filter(|last| last.run_id == found.run_id) else {
        return Ok(None);
    };
    if last.end == End::RollbackFailed {
        return Ok(None);
    }
    armed::disarm(subject.state)?;
    let (evidence, not_recorded, after, safety) = (None, None, None, None);
    Ok(Some(Outcome {
        end: last.end,
        run_id: last.run_id,
        why: last.why,
        before: found.before,
        after,
        safety,
        commands: Vec::new(),
        evidence,
        not_recorded,
    }))
}

impl Guard<'_> {
    fn take_up(mut self) -> Result<Outcome, GuardError> {
        let stage = self.armed.stage;
        self.note(&format!(
            "taking up the hotfix of {}, whose watcher is gone; it was {}",
            self.armed.started.shown(),
            stage.word()
        ));
        Ok(match stage {
            Stage::Armed => self.end(Next::Leave { why: "the command had not begun".to_owned() }),
            Stage::Open => {
                let next = self.wait_for_hand();
                self.end(next)
            }
            Stage::Changing => {
                self.end_command();
                self.go_back("the command was cut off, and half a change is none".to_owned(), true)?
            }
            Stage::Settling => self.through(Stage::Open),
            Stage::Watching => {
                let next = self.after_boot();
                if next == Next::GoOn { self.through(Stage::Watching) } else { self.end(next) }
            }
            Stage::RollingBack => {
                let why = self.armed.why.clone().unwrap_or_else(|| "it was going back".to_owned());
                self.go_back(why, false)?
            }
        })
    }

    // It lives on when its watcher is killed, and what it still does would be done to the tree that comes back.
    fn end_command(&self) {
        let Some(mark) = self.armed.mark.as_deref().filter(|_| self.armed.boot == boot_id()) else { return };
        if end_marked(OsStr::new(mark), GRACE) > 0 {
            self.note("the command still ran, and was ended");
        }
    }

    // Nobody watches a person at work; only the deadline counts.
    fn wait_for_hand(&mut self) -> Next {
        loop {
            if let Some(next) = self.heard() {
                return next;
            }
            if self.armed.confirm_left().is_some_and(|left| left.is_zero()) {
                let within = self.armed.confirm_within.unwrap_or_default();
                return Next::bad(format!("nobody confirmed within {within}"));
            }
            sleep(SLICE);
        }
    }

    // After a boot other processes are no failure, and what ran before is started; in the same boot they are.
    fn after_boot(&mut self) -> Next {
        let Some(service) = self.service.as_ref() else { return Next::GoOn };
        if self.armed.boot == boot_id() {
            let sight = service.state();
            let now = super::look::leader(&sight);
            if let Some(old) = self.armed.leader.filter(|_| now != self.armed.leader) {
                return Next::bad(format!("the service's process {} ended while nobody watched", old.pid));
            }
            return Next::GoOn;
        }
        self.armed.leader = None;
        self.note("the host was started anew since");
        if service.state().state == State::Stopped && !self.armed.was_running {
            return Next::GoOn;
        }
        self.bring_up()
    }

    /// Goes back; a rollback that was cut off is brought to its end, one that was done is not done again.
    pub(super) fn go_back(mut self, why: String, by_itself: bool) -> Result<Outcome, GuardError> {
        let subject = self.subject;
        if self.armed.stage == Stage::RollingBack {
            let began = Instant::now();
            if let Some(pending) = rollback::pending(subject.state)? {
                if pending.running {
                    return Err(rollback::RollbackError::Locked.into());
                }
                self.begins("rollback", "a rollback that was cut off is brought to its end");
                let result = rollback::resume(subject, Direction::Finish, &Deaf(&self.ear));
                // cut off before the trees changed places, it ends where it began, and is done anew
                if !matches!(&result, Ok(outcome) if matches!(outcome.ended, Ended::Reverted { .. })) {
                    let result = result.map_err(|error| (error.to_string(), Vec::new()));
                    return Ok(self.rolled_back(why, began, result));
                }
            } else if self.was_rolled_back()? {
                let before = self.armed.before;
                return Ok(self.over(End::RolledBack, why, Some(before), None, Vec::new(), Vec::new()));
            }
        }
        Ok(self.back(why, by_itself))
    }

    // Whether the logbook has a rollback for this run that ended well.
    fn was_rolled_back(&self) -> Result<bool, GuardError> {
        let all = evidence::logged::runs(&logbook::read(self.subject.repo)?);
        Ok(all.iter().filter(|run| run.kind == Kind::Rollback).any(|run| {
            let text = serde_json::to_string(run).unwrap_or_default();
            run.verdict == evidence::Verdict::Pass && text.contains(&self.armed.run_id)
        }))
    }
}

/// Waits until a watcher has ended, at most so long; true if it has.
///
/// # Errors
/// If it cannot be found out.
pub fn wait_for_watcher(state: &crate::state::State, limit: Duration) -> Result<bool, GuardError> {
    let began = Instant::now();
    loop {
        if !armed::is_watched(state)? {
            return Ok(true);
        }
        if began.elapsed() >= limit {
            return Ok(false);
        }
        sleep(SLICE);
    }
}
