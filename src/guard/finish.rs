//! The end: kept, or taken back; the record either way.

use std::time::Instant;

use super::armed::{Last, Stage, disarm, remember_last};
use super::begin::TAG;
use super::flap;
use super::run::{Deaf, Guard, Next};
use super::types::{Change, End, Outcome};
use crate::base::event::Observer;
use crate::base::id::SnapshotId;
use crate::drill::facts;
use crate::drill::recorder::Result as StepResult;
use crate::evidence::{self, Cleanup, Evidence, Kind, Measured, Outcome as StepOutcome, SnapshotFacts};
use crate::rollback::{self, Ended, Goal};

impl Guard<'_> {
    /// Brings it to its end.
    pub(super) fn end(self, next: Next) -> Outcome {
        match next {
            Next::GoOn => self.kept("nothing was found wrong".to_owned(), false),
            Next::Keep { why, unjudged } => self.kept(why, unjudged),
            Next::Back { why, by_itself } => self.back(why, by_itself),
            Next::Leave { why } => self.left(why),
        }
    }

    fn kept(mut self, why: String, unjudged: bool) -> Outcome {
        let began = self.begins("end", "snapshot of what is kept");
        let reason = format!("after a hotfix: {}", self.armed.change.shown());
        let after = match rollback::save(self.subject, TAG, &reason, &Deaf(&self.ear)) {
            Ok(id) => {
                self.ended(
                    "end",
                    &format!("snapshot {} of what is kept", id.short()),
                    began,
                    StepResult::pass(),
                );
                Some(id)
            }
            Err(error) => {
                self.note(&format!("the change is kept, and no snapshot of it could be taken: {error}"));
                None
            }
        };
        if let Some(digest) = &self.armed.digest {
            // no more than a memory of an earlier failure
            let _ = flap::forget(self.subject.state, digest);
        }
        let end = if unjudged { End::KeptUnjudged } else { End::Kept };
        let faults = if unjudged { vec![why.clone()] } else { Vec::new() };
        self.over(end, why, after, None, Vec::new(), faults)
    }

    /// Takes it back.
    pub(super) fn back(mut self, why: String, by_itself: bool) -> Outcome {
        if !self.armed.steps.iter().chain(&self.recorder.steps).any(|s| s.result == StepOutcome::Fail) {
            // somebody wanted it, or nobody said a word
            let began = self.begins("decision", &why);
            self.ended(
                "decision",
                "the change is good",
                began,
                StepResult::of(StepOutcome::Fail, why.clone()),
            );
        }
        self.armed.why = Some(why.clone());
        if let Err(error) = self.enter(Stage::RollingBack) {
            self.note(&format!("it could not be remembered that it goes back: {error}"));
        }
        if let (true, Some(digest)) = (by_itself, &self.armed.digest) {
            let now = self.subject.repo.clock().now();
            if let Err(error) = flap::remember(self.subject.state, digest, now, &why) {
                self.note(&format!("it could not be remembered that this command was rolled back: {error}"));
            }
        }
        let short = self.armed.before.short();
        let began = self.begins("rollback", &format!("back to {short}: {why}"));
        let result = self.roll_back(&why);
        self.rolled_back(why, began, result)
    }

    fn roll_back(&self, why: &str) -> Result<rollback::Outcome, (String, Vec<String>)> {
        let observer: &dyn Observer = &Deaf(&self.ear);
        let failed = |error: rollback::RollbackError| (error.to_string(), Vec::new());
        let reason = format!("hotfix {}: {why}", self.armed.run_id);
        let options = rollback::Options {
            goal: Goal::Snapshot(self.armed.before),
            reason: Some(reason),
            ..rollback::Options::default()
        };
        let proposal = rollback::propose(self.subject, &options, observer).map_err(failed)?;
        if let Some(obstacle) = proposal.obstacles().first() {
            return Err((obstacle.what.clone(), vec![obstacle.next.clone()]));
        }
        rollback::perform(self.subject, &proposal, &options, observer).map_err(failed)
    }

    /// Notes how a rollback ended.
    pub(super) fn rolled_back(
        mut self,
        why: String,
        began: Instant,
        result: Result<rollback::Outcome, (String, Vec<String>)>,
    ) -> Outcome {
        let before = self.armed.before;
        let by_hand = format!("lifeboat rollback {}", before.short());
        let (trouble, commands, outcome) = match result {
            Err((text, mut commands)) => {
                commands.push(by_hand);
                (Some(text), commands, None)
            }
            Ok(outcome) => match outcome.ended.clone() {
                Ended::Done => (None, Vec::new(), Some(outcome)),
                Ended::Reverted { why } => {
                    let text = format!("{why}; the application is as the change left it");
                    (Some(text), vec![by_hand], Some(outcome))
                }
                Ended::Broken { why, commands } => (Some(why), commands, Some(outcome)),
            },
        };
        let run =
            outcome.as_ref().map(|outcome| format!(" (run {})", outcome.evidence.run_id)).unwrap_or_default();
        let name = format!("roll back to {}{run}", before.short());
        let (end, step) = match &trouble {
            None => (End::RolledBack, StepResult::pass()),
            Some(text) => (End::RollbackFailed, StepResult::of(StepOutcome::Fail, text.clone())),
        };
        self.ended("rollback", &name, began, step);
        let safety = outcome.as_ref().and_then(|outcome| outcome.before);
        let after = if end == End::RolledBack { Some(before) } else { None };
        let why = match trouble {
            None => why,
            Some(text) => format!("{why}; and the rollback failed: {text}"),
        };
        self.over(end, why, after, safety, commands, Vec::new())
    }

    // It stays armed.
    fn left(mut self, why: String) -> Outcome {
        let end = if self.armed.stage == Stage::Armed { End::Disarmed } else { End::Left };
        let stage = self.armed.stage;
        if end == End::Disarmed {
            return self.over(end, why, None, None, Vec::new(), Vec::new());
        }
        if let Err(error) = self.enter(stage) {
            self.note(&format!("what was done so far could not be remembered: {error}"));
        }
        let commands = vec!["lifeboat hotfix --resume".to_owned()];
        self.outcome(End::Left, why, None, None, commands)
    }

    fn outcome(
        &self,
        end: End,
        why: String,
        after: Option<SnapshotId>,
        safety: Option<SnapshotId>,
        commands: Vec<String>,
    ) -> Outcome {
        let (run_id, before) = (self.armed.run_id.clone(), self.armed.before);
        let (evidence, not_recorded) = (None, None);
        Outcome { end, run_id, why, before, after, safety, commands, evidence, not_recorded }
    }

    /// The record, the memory of how it ended, and nothing armed any more.
    pub(super) fn over(
        mut self,
        end: End,
        why: String,
        after: Option<SnapshotId>,
        safety: Option<SnapshotId>,
        commands: Vec<String>,
        faults: Vec<String>,
    ) -> Outcome {
        self.recorder.end_phase();
        self.take_notes();
        let subject = self.subject;
        let mut evidence = self.evidence(end, &why, after, faults);
        let recorded = evidence::append(subject.repo, subject.key, &mut evidence);
        let at = subject.repo.clock().now();
        let last = Last { run_id: self.armed.run_id.clone(), end, why: why.clone(), at };
        if let Err(error) = remember_last(subject.state, &last) {
            self.note(&format!("how it ended could not be remembered: {error}"));
        }
        // one that could not be taken back stays armed, so that it can be tried again
        if end != End::RollbackFailed
            && let Err(error) = disarm(subject.state)
        {
            self.note(&format!("it is over, and could not be disarmed: {error}"));
        }
        let not_recorded = recorded.err().map(|error| error.to_string());
        let outcome = self.outcome(end, why, after, safety, commands);
        Outcome { evidence: Some(evidence), not_recorded, ..outcome }
    }

    fn evidence(&self, end: End, why: &str, after: Option<SnapshotId>, faults: Vec<String>) -> Evidence {
        let (subject, armed) = (self.subject, &self.armed);
        let verb = match armed.change {
            Change::Command(_) => "the change",
            Change::ByHand => "",
        };
        let touched = armed.touched.as_ref().map(|t| format!("; files: {}", t.shown())).unwrap_or_default();
        let scenario =
            format!("{verb} {}: {}, {why}{touched}", armed.change.shown(), end.title().to_lowercase());
        let faults = if armed.unjudged && faults.is_empty() { vec![why.to_owned()] } else { faults };
        Evidence {
            run_id: armed.run_id.clone(),
            app: subject.plan.name(),
            scenario: scenario.trim().to_owned(),
            finished: subject.repo.clock().now(),
            tool: facts::tool(&subject.program),
            host: facts::host(),
            operator: facts::operator(subject.sudo_user.clone()),
            config_sha256: subject.plan_sha256.clone(),
            snapshot: self.snapshot_facts(),
            after: after.map(|id| id.to_hex()),
            measured: Measured { phases: armed.phases.clone(), ..Measured::default() },
            steps: armed.steps.clone(),
            checks: armed.checks.clone(),
            faults,
            // a guard makes nothing that it would have to clear away
            cleanup: Cleanup { proved: true, leftovers: Vec::new() },
            ..Evidence::begun(Kind::Hotfix, armed.started)
        }
    }

    fn snapshot_facts(&self) -> Option<SnapshotFacts> {
        let document = self.subject.repo.document(self.armed.before).ok()?;
        Some(facts::of_snapshot(self.armed.before, &document))
    }
}
