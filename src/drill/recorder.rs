//! Collects what happens, as it happens, into the form of the record.

use std::time::{Duration, Instant};

use crate::check::{Outcome as CheckOutcome, Verdict};
use crate::evidence::{Check, Collector, OUTPUT_LIMIT, Outcome, Output, Phase, Seconds, Step, mask_text};

/// What happened so far.
pub struct Recorder {
    began: Instant,
    secrets: Vec<String>,
    phase: Option<(&'static str, Instant, bool)>,
    /// The phases that have ended.
    pub phases: Vec<Phase>,
    /// What was run.
    pub steps: Vec<Step>,
    /// What was looked at.
    pub checks: Vec<Check>,
    /// How the harness failed.
    pub faults: Vec<String>,
}

/// How a step came out.
pub struct Result {
    /// The verdict on it.
    pub outcome: Outcome,
    /// Why, unless it passed.
    pub reason: String,
    /// Its exit status, if it was a command.
    pub exit: Option<i32>,
    /// What it printed.
    pub output: Option<Collector>,
}

impl Result {
    /// One that passed.
    pub fn pass() -> Self {
        Self { outcome: Outcome::Pass, reason: String::new(), exit: None, output: None }
    }

    /// One that did not.
    pub fn of(outcome: Outcome, reason: impl Into<String>) -> Self {
        Self { outcome, reason: reason.into(), exit: None, output: None }
    }
}

impl Recorder {
    /// Begins now.
    pub fn new(secrets: Vec<String>) -> Self {
        Self {
            began: Instant::now(),
            secrets,
            phase: None,
            phases: Vec::new(),
            steps: Vec::new(),
            checks: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Ends the phase and begins the next. `counted`: it is part of the recovery time.
    pub fn phase(&mut self, name: &'static str, counted: bool) {
        self.end_phase();
        self.phase = Some((name, Instant::now(), counted));
    }

    /// True if this is the present phase.
    pub fn is_in(&self, name: &str) -> bool {
        self.phase.is_some_and(|phase| phase.0 == name)
    }

    /// Ends the phase.
    pub fn end_phase(&mut self) {
        if let Some((name, began, counted)) = self.phase.take() {
            let start_s = Seconds::new(began.duration_since(self.began));
            let took_s = Seconds::new(began.elapsed());
            self.phases.push(Phase { name: name.to_owned(), start_s, took_s, counted });
        }
    }

    /// How long the counted phases took, the present one included.
    pub fn recovery(&self) -> Duration {
        let now = self.phase.filter(|p| p.2).map(|p| p.1.elapsed()).unwrap_or_default();
        self.phases.iter().filter(|p| p.counted).map(|p| p.took_s.duration()).sum::<Duration>() + now
    }

    /// Notes a step of the present phase that began at `began`; true if it passed.
    pub fn step(&mut self, name: &str, began: Instant, result: Result) -> bool {
        self.step_of(self.phase.map_or("", |p| p.0), name, began, result)
    }

    /// Notes a step that belongs to another phase, though it ends in this one.
    pub fn step_of(&mut self, phase: &str, name: &str, began: Instant, result: Result) -> bool {
        let passed = result.outcome == Outcome::Pass;
        self.steps.push(Step {
            phase: phase.to_owned(),
            name: mask_text(name, &self.secrets),
            result: result.outcome,
            reason: mask_text(&result.reason, &self.secrets),
            start_s: Seconds::new(began.duration_since(self.began)),
            took_s: Seconds::new(began.elapsed()),
            exit: result.exit,
            output: result.output.map_or_else(Output::default, |output| output.finish(&self.secrets)),
        });
        passed
    }

    /// Notes what a check found; true if it does not stand in the way of a pass.
    pub fn check(&mut self, verdict: &Verdict) -> bool {
        let result = match verdict.outcome {
            CheckOutcome::Pass => Outcome::Pass,
            CheckOutcome::Fail => Outcome::Fail,
            CheckOutcome::Error => Outcome::Error,
        };
        let mask = |text: &str| mask_text(text, &self.secrets);
        let check = Check {
            id: verdict.name.clone(),
            kind: verdict.kind.clone(),
            required: verdict.required,
            data_proving: verdict.data_proving,
            result,
            reason: if result == Outcome::Pass { String::new() } else { mask(&verdict.reason) },
            observed: mask(&verdict.observed),
            expected: mask(&verdict.expected),
            attempts: verdict.attempts,
            took_s: Seconds::new(Duration::try_from_secs_f64(verdict.took).unwrap_or_default()),
            log_sha256: None,
        };
        self.checks.push(check);
        result == Outcome::Pass || !verdict.required
    }

    /// Notes a check that the harness itself made, and how long it took.
    pub fn own_check(
        &mut self,
        id: String,
        kind: &str,
        data_proving: bool,
        took: Duration,
        result: Result,
    ) -> bool {
        let passed = result.outcome == Outcome::Pass;
        self.checks.push(Check {
            id,
            kind: kind.to_owned(),
            required: true,
            data_proving,
            result: result.outcome,
            reason: if passed { String::new() } else { mask_text(&result.reason, &self.secrets) },
            observed: if passed { mask_text(&result.reason, &self.secrets) } else { String::new() },
            expected: String::new(),
            attempts: 1,
            took_s: Seconds::new(took),
            log_sha256: None,
        });
        passed
    }

    /// Notes that the harness failed.
    pub fn fault(&mut self, text: impl Into<String>) {
        self.faults.push(text.into());
    }

    /// Room for a command's output.
    pub fn collector() -> Collector {
        Collector::new(OUTPUT_LIMIT)
    }
}
