//! The order of a guarded change, and what its parts share.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::armed::{self, Armed, Stage};
use super::look::Watched;
use super::types::{Change, GuardError, Message, Operator, Options, Outcome, Wish};
use crate::base::event::{Event, Observer};
use crate::drill::recorder::{Recorder, Result as StepResult};
use crate::evidence::{Outcome as StepOutcome, Seconds};
use crate::rollback::Subject;
use crate::service::Service;
use crate::state::{Lock, StateError};

/// Where a run goes from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// On.
    GoOn,
    /// The change is kept.
    Keep {
        /// Why.
        why: String,
        /// It could not be judged.
        unjudged: bool,
    },
    /// It is taken back.
    Back {
        /// Why.
        why: String,
        /// Nobody asked for it.
        by_itself: bool,
    },
    /// It stays armed, and somebody else goes on.
    Leave {
        /// Why.
        why: String,
    },
}

impl Next {
    pub(super) fn bad(why: impl Into<String>) -> Self {
        Self::Back { why: why.into(), by_itself: true }
    }
}

/// A run with its change armed.
pub struct Guard<'a> {
    pub(super) subject: &'a Subject<'a>,
    pub(super) operator: &'a dyn Operator,
    pub(super) ear: Ear<'a>,
    pub(super) service: Option<Service>,
    pub(super) watched: Watched,
    pub(super) recorder: Recorder,
    pub(super) armed: Armed,
    // how long after the start of the change this process took it up
    pub(super) offset: Duration,
    pub(super) _lock: Lock,
}

/// Listens for what people want while something is under way.
pub struct Ear<'a> {
    operator: &'a dyn Operator,
    observer: &'a dyn Observer,
    wish: Mutex<Option<Wish>>,
}

impl<'a> Ear<'a> {
    pub(super) fn new(operator: &'a dyn Operator, observer: &'a dyn Observer) -> Self {
        Self { operator, observer, wish: Mutex::new(None) }
    }

    /// What somebody wants; once said it stays.
    pub(super) fn wish(&self) -> Option<Wish> {
        let mut wish = self.wish.lock().unwrap_or_else(PoisonError::into_inner);
        if wish.is_none() {
            *wish = self.operator.wish();
        }
        *wish
    }

    /// What comes of it.
    pub(super) fn next(&self) -> Option<Next> {
        Some(match self.wish()? {
            Wish::RollBack => Next::Back { why: "interrupted by hand".to_owned(), by_itself: false },
            Wish::Keep => Next::Keep { why: "kept by hand".to_owned(), unjudged: false },
            Wish::Leave => Next::Leave { why: "the watcher was told to end".to_owned() },
        })
    }
}

impl Observer for Ear<'_> {
    fn event(&self, event: Event<'_>) {
        self.observer.event(event);
    }

    fn interrupted(&self) -> bool {
        self.wish().is_some()
    }
}

/// Passes on what happens and hears nobody: what has begun must come to an end.
pub struct Deaf<'a>(pub &'a dyn Observer);

impl Observer for Deaf<'_> {
    fn event(&self, event: Event<'_>) {
        self.0.event(event);
    }
}

impl<'a> Guard<'a> {
    pub(super) fn of(
        subject: &'a Subject<'a>,
        armed: Armed,
        operator: &'a dyn Operator,
        observer: &'a dyn Observer,
        lock: Lock,
    ) -> Self {
        let service = Service::of(subject.plan).map(|service| service.remembering(subject.state.clone()));
        let offset = subject.repo.clock().now().since(armed.started);
        Self {
            subject,
            operator,
            ear: Ear::new(operator, observer),
            watched: Watched::of(subject.plan, service.as_ref()),
            service,
            recorder: Recorder::new(Vec::new()),
            armed,
            offset,
            _lock: lock,
        }
    }

    pub(super) fn tell(&self, message: &Message<'_>) {
        self.operator.tell(message);
    }

    pub(super) fn note(&self, text: &str) {
        self.tell(&Message::Note { text });
    }

    pub(super) fn begins(&mut self, phase: &'static str, text: &str) -> Instant {
        self.recorder.phase(phase, false);
        self.tell(&Message::Begins { phase, text });
        Instant::now()
    }

    /// Notes how a step ended, and tells it. True if it passed.
    pub(super) fn ended(
        &mut self,
        phase: &'static str,
        name: &str,
        began: Instant,
        result: StepResult,
    ) -> bool {
        let passed = result.outcome == StepOutcome::Pass;
        let detail = result.reason.clone();
        self.recorder.step(name, began, result);
        let step = self.recorder.steps.last();
        let output = step.map(|step| step.output.last_lines(12)).unwrap_or_default();
        let message = Message::Ended {
            phase,
            text: name,
            passed,
            detail: &detail,
            seconds: began.elapsed().as_secs_f64(),
            output: if passed { "" } else { &output },
        };
        self.operator.tell(&message);
        passed
    }

    /// Writes how far it is, durably, with all that was done so far.
    pub(super) fn enter(&mut self, stage: Stage) -> Result<(), StateError> {
        self.armed.stage = stage;
        self.take_notes();
        self.armed.keep(self.subject.state)
    }

    /// Moves what this process did so far to what is remembered.
    pub(super) fn take_notes(&mut self) {
        let offset = self.offset;
        let later = |seconds: Seconds| Seconds::new(seconds.duration() + offset);
        for mut phase in self.recorder.phases.drain(..) {
            phase.start_s = later(phase.start_s);
            self.armed.phases.push(phase);
        }
        for mut step in self.recorder.steps.drain(..) {
            step.start_s = later(step.start_s);
            self.armed.steps.push(step);
        }
        self.armed.checks.append(&mut self.recorder.checks);
    }

    // From the armed change to its end.
    pub(super) fn through(mut self, from: Stage) -> Outcome {
        let mut next = Next::GoOn;
        if from == Stage::Armed {
            next = self.change();
        }
        if next == Next::GoOn && from != Stage::Watching {
            next = self.settle();
        }
        if next == Next::GoOn {
            next = self.watch();
        }
        self.end(next)
    }
}

/// Does it: from the checks beforehand to the change that is kept or taken back.
///
/// # Errors
/// If it was refused: nothing was changed.
pub fn hotfix(
    subject: &Subject<'_>,
    options: &Options,
    operator: &dyn Operator,
    observer: &dyn Observer,
) -> Result<Outcome, GuardError> {
    let guard = super::begin::arm(subject, options, Stage::Armed, operator, observer)?;
    Ok(guard.through(Stage::Armed))
}

/// Arms a change by hand. It is nobody's to watch then, unless a deadline was set: see [`super::resume`].
///
/// # Errors
/// If it was refused.
pub fn begin(
    subject: &Subject<'_>,
    options: &Options,
    operator: &dyn Operator,
    observer: &dyn Observer,
) -> Result<Armed, GuardError> {
    let options = Options { change: Change::ByHand, ..options.clone() };
    Ok(super::begin::arm(subject, &options, Stage::Open, operator, observer)?.armed)
}

/// A change by hand is done: the service, the tests, the watch, the end. A watcher in the background must have been asked to
/// hand over before.
///
/// # Errors
/// If no change by hand is open, or somebody watches it.
pub fn settle(
    subject: &Subject<'_>,
    (watch, restart): (Option<Duration>, bool),
    operator: &dyn Operator,
    observer: &dyn Observer,
) -> Result<Outcome, GuardError> {
    let lock = armed::watch_lock(subject.state)?.ok_or(GuardError::Watched)?;
    let mut found = armed::armed(subject.state)?.ok_or(GuardError::NotArmed)?;
    if found.stage != Stage::Open {
        return Err(GuardError::NotByHand(Box::new(found)));
    }
    armed::forget_request(subject.state)?;
    // somebody is here and says that it is done: that is the confirmation that the deadline was for
    found.confirm_until = None;
    found.confirm_within = None;
    found.watch = watch.map_or(found.watch, Seconds::new);
    found.restart |= restart;
    let guard = Guard::of(subject, found, operator, observer, lock);
    Ok(guard.through(Stage::Open))
}
