//! One step at a time, until the end or until one says stop.

use std::time::{Duration, Instant};

use super::answer::Said;
use super::due::{INTERRUPTED, scenario};
use super::setting::{End, Outcome, Setting, record};
use super::step::{self, Came};
use crate::base::Exit;
use crate::base::time::Timestamp;
use crate::check::value::Span;
use crate::evidence::{
    EXCUSED, OPEN, Outcome as Result, Phase, QUESTION, Seconds, Step as Done, Verdict, mask_text,
};
use crate::plan::{OnFailure, Operation, Step};

/// How long a step may take if nobody says it.
const LIMIT: Duration = Duration::from_secs(3600);
/// What a failed runbook that rolls back does.
const ROLLBACK: &str = "rollback";

/// Runs a runbook of the plan and keeps its record.
pub fn run(name: &str, setting: &Setting<'_>) -> Outcome {
    within(name, setting, None)
}

fn within(name: &str, setting: &Setting<'_>, deadline: Option<Instant>) -> Outcome {
    let mut runner = Runner::new(scenario(name), setting);
    runner.deadline = deadline;
    let Some(runbook) = setting.plan.runbook.get(name) else {
        runner.note("steps", name, Came::of(Result::Error, "the plan has no such runbook"));
        return runner.finish();
    };
    runner.on_failure = runbook.on_failure;
    runner.limit = runbook.timeout;
    let steps: Vec<&Step> = runbook.steps.iter().collect();
    if runner.may_roll_back(&steps) {
        runner.protect("runbook");
    }
    runner.steps(&steps);
    runner.finish()
}

/// A run in progress.
pub struct Runner<'a> {
    setting: &'a Setting<'a>,
    scenario: String,
    began: Instant,
    started: Timestamp,
    deadline: Option<Instant>,
    /// What a failed step does, unless it says so itself.
    pub on_failure: OnFailure,
    /// How long a step may take, unless it says so itself.
    pub limit: Option<Span>,
    /// The snapshot that a rollback goes to.
    pub snapshot: Option<String>,
    done: Vec<Done>,
    phases: Vec<Phase>,
    deviations: Vec<String>,
    faults: Vec<String>,
    // set: the steps that follow are not done, for this reason
    stopped: Option<String>,
    rolled_back: Option<bool>,
}

impl<'a> Runner<'a> {
    /// Begins now.
    pub fn new(scenario: String, setting: &'a Setting<'a>) -> Self {
        Self {
            setting,
            scenario,
            began: Instant::now(),
            started: setting.clock.now(),
            deadline: None,
            on_failure: OnFailure::Stop,
            limit: None,
            snapshot: None,
            done: Vec::new(),
            phases: Vec::new(),
            deviations: Vec::new(),
            faults: Vec::new(),
            stopped: None,
            rolled_back: None,
        }
    }

    /// True if any of these steps may roll back.
    pub fn may_roll_back(&self, steps: &[&Step]) -> bool {
        steps.iter().any(|step| step.on_failure.unwrap_or(self.on_failure) == OnFailure::Rollback)
    }

    /// True if steps that follow would be done.
    pub fn goes_on(&self) -> bool {
        self.stopped.is_none()
    }

    /// Takes the snapshot that a rollback would go to. Without it nothing else is done.
    pub fn protect(&mut self, tag: &str) {
        let reason = self.scenario.clone();
        let words = ["snapshot", "--tag", tag, "--reason", &reason].map(str::to_owned);
        // there is nothing yet to go back from
        let on_failure = std::mem::replace(&mut self.on_failure, OnFailure::Stop);
        let came = self.own("snapshot", &words);
        self.on_failure = on_failure;
        let id = came.and_then(|text| id_in(&text));
        if id.is_none() && self.goes_on() {
            self.stopped = Some("there is no snapshot to go back to".to_owned());
            self.faults.push("the snapshot before the steps has no id".to_owned());
        }
        self.snapshot = id;
    }

    /// Runs an operation that is not a step of the plan; what it printed, if it passed. If it does not, nothing follows.
    pub fn own(&mut self, phase: &str, words: &[String]) -> Option<Vec<u8>> {
        let name = title(words);
        let limit = self.left(None);
        let came = self
            .timed(phase, &name, |runner| step::operation(words, &runner.scenario, limit, runner.setting))?;
        (came.0 == Result::Pass).then_some(came.1)
    }

    /// Does something that is not a step of the plan. If it does not pass, nothing follows.
    pub fn act(&mut self, phase: &str, name: &str, act: impl FnOnce(&Self) -> Came) -> Result {
        self.timed(phase, name, act).map_or(Result::Skip, |came| came.0)
    }

    fn timed(
        &mut self,
        phase: &str,
        name: &str,
        act: impl FnOnce(&Self) -> Came,
    ) -> Option<(Result, Vec<u8>)> {
        if let Some(why) = self.stopped.clone() {
            self.note(phase, name, Came::of(Result::Skip, why));
            return None;
        }
        self.setting.console.begins(name);
        let began = Instant::now();
        let mut came = act(self);
        let (outcome, text) = (came.outcome, std::mem::take(&mut came.text));
        self.noted(phase, name, began, came);
        if outcome != Result::Pass && self.goes_on() {
            self.after(outcome, name, self.on_failure);
        }
        Some((outcome, text))
    }

    /// Does the steps of a plan. Those that are not done any more are noted as such.
    pub fn steps(&mut self, steps: &[&Step]) {
        for step in steps {
            let name = step.name.clone().unwrap_or_else(|| step.operation.to_string());
            let question = matches!(step.operation, Operation::Manual(_));
            let (phase, name) = match &step.operation {
                Operation::Manual(text) => (QUESTION, text.clone()),
                _ => ("steps", name),
            };
            if self.setting.console.interrupted() && self.goes_on() {
                self.interrupt();
            }
            if let Some(why) = self.stopped.clone() {
                self.note(phase, &name, Came::of(Result::Skip, why));
                continue;
            }
            if !question {
                self.setting.console.begins(&name);
            }
            let began = Instant::now();
            let mut came = self.one(step);
            if step.may_be_unjudged && is_unjudged(&came) {
                came.outcome = Result::Skip;
                came.reason = format!("{EXCUSED}: {}", came.reason);
            }
            let outcome = came.outcome;
            self.noted(phase, &name, began, came);
            if outcome == Result::Fail || outcome == Result::Error {
                self.after(outcome, &name, step.on_failure.unwrap_or(self.on_failure));
            }
        }
    }

    fn one(&self, step: &Step) -> Came {
        let limit = self.left(step.timeout);
        match &step.operation {
            Operation::Manual(question) => self.question(question, limit),
            Operation::Command(line) => step::command(line, step, &self.scenario, limit, self.setting),
            Operation::Lifeboat(words) => match &words[..] {
                [first, name] if first == "run" => self.nested(name, limit),
                words => step::operation(words, &self.scenario, limit, self.setting),
            },
        }
    }

    // A runbook within a runbook, with a record of its own.
    fn nested(&self, name: &str, limit: Duration) -> Came {
        let outcome = within(name, self.setting, Some(Instant::now() + limit));
        let about = format!("runbook {name}: {}", outcome.run.headline());
        let why = outcome.run.reasons.join("; ");
        let mut came = match outcome.end {
            End::Pass => Came::of(Result::Pass, ""),
            End::Open => Came::of(Result::Skip, format!("{OPEN}: {why}")),
            End::Error | End::Interrupted => Came::of(Result::Error, why),
            End::Fail | End::RolledBack | End::RollbackFailed => Came::of(Result::Fail, why),
        };
        came.interrupted = outcome.end == End::Interrupted;
        let record = outcome.run.seal.map(|seal| format!(", record {}", &seal.record[..8]));
        came.saying(&format!("{about}{}\n", record.unwrap_or_default()), &self.setting.secrets)
    }

    fn question(&self, question: &str, limit: Duration) -> Came {
        let (given, how) = match self.setting.answers.get(question) {
            Some(answer) => (Some(answer.clone()), "given beforehand"),
            None => (self.setting.console.ask(question, limit), "asked"),
        };
        let Some(answer) = given else {
            return Came::of(Result::Skip, format!("{OPEN}: nobody has answered"));
        };
        let by = &self.setting.by;
        let at = self.setting.clock.now();
        let why = format!("{answer}, says {by}");
        let came = match answer.said {
            Said::Yes | Said::NotApplicable => Came::of(Result::Pass, ""),
            Said::No => Came::of(Result::Fail, why),
            Said::Open => Came::of(Result::Skip, format!("{OPEN}: {why}")),
        };
        came.saying(&format!("{answer}\nby {by} at {at}, {how}\n"), &self.setting.secrets)
    }

    // How long a step may take.
    fn left(&self, own: Option<Span>) -> Duration {
        let limit = own.or(self.limit).map_or(LIMIT, |span| span.0);
        self.deadline.map_or(limit, |end| limit.min(end.saturating_duration_since(Instant::now())))
    }

    /// Notes a step that took no time.
    pub fn note(&mut self, phase: &str, name: &str, came: Came) {
        self.noted(phase, name, Instant::now(), came);
    }

    fn noted(&mut self, phase: &str, name: &str, began: Instant, came: Came) {
        let secrets = &self.setting.secrets;
        let done = Done {
            phase: phase.to_owned(),
            name: mask_text(name, secrets),
            result: came.outcome,
            reason: mask_text(&came.reason, secrets),
            start_s: Seconds::new(began.duration_since(self.began)),
            took_s: Seconds::new(began.elapsed()),
            exit: came.exit,
            output: came.output,
        };
        self.setting.console.ended(&done);
        match self.phases.last_mut().filter(|last| last.name == phase) {
            Some(last) => {
                let end = done.start_s.duration() + done.took_s.duration();
                last.took_s = Seconds::new(end.saturating_sub(last.start_s.duration()));
            }
            None => self.phases.push(Phase {
                name: phase.to_owned(),
                start_s: done.start_s,
                took_s: done.took_s,
                counted: false,
            }),
        }
        self.done.push(done);
        if came.interrupted {
            self.interrupt();
        }
    }

    fn interrupt(&mut self) {
        self.stopped = Some("not done: interrupted".to_owned());
        if !self.faults.iter().any(|fault| fault == INTERRUPTED) {
            self.faults.push(INTERRUPTED.to_owned());
        }
    }

    // What follows a step that did not pass.
    fn after(&mut self, outcome: Result, name: &str, on_failure: OnFailure) {
        if !self.goes_on() {
            return;
        }
        match on_failure {
            OnFailure::Continue => {}
            OnFailure::Rollback if outcome == Result::Fail => {
                self.stopped = Some(format!("not done: {name} failed, and the application was rolled back"));
                self.roll_back();
            }
            OnFailure::Stop | OnFailure::Rollback => {
                let how = if outcome == Result::Fail { "failed" } else { "could not be judged" };
                self.stopped = Some(format!("not done: {name} {how}"));
            }
        }
    }

    /// Brings the application back to the snapshot of the beginning.
    pub fn roll_back(&mut self) {
        let Some(id) = self.snapshot.clone() else {
            self.rolled_back = Some(false);
            let why = "there is no snapshot of the beginning to go back to";
            self.note(ROLLBACK, ROLLBACK, Came::of(Result::Fail, why));
            return;
        };
        let words = [ROLLBACK.to_owned(), id.clone()];
        let name = title(&words);
        self.setting.console.begins(&name);
        let began = Instant::now();
        let came = step::operation(&words, &self.scenario, LIMIT, self.setting);
        let well = came.outcome == Result::Pass;
        self.rolled_back = Some(well);
        self.noted(ROLLBACK, &name, began, came);
        let how = if well { "the application was rolled back" } else { "a rollback was tried and failed" };
        self.deviations.push(format!("{how}: snapshot {}", &id[..id.len().min(8)]));
    }

    /// Something that was done otherwise than planned.
    pub fn deviation(&mut self, text: impl Into<String>) {
        self.deviations.push(text.into());
    }

    /// The run is over: its record, judged and kept.
    pub fn finish(self) -> Outcome {
        let setting = self.setting;
        let mut run = record(setting, self.scenario, self.started);
        run.measured.phases = self.phases;
        run.steps = self.done;
        run.faults = self.faults;
        run.deviations = self.deviations;
        if setting.by != run.operator.user {
            run.participants.push(setting.by.clone());
        }
        run = run.judged();
        let end = match (self.rolled_back, run.verdict) {
            (Some(true), _) => End::RolledBack,
            (Some(false), _) => End::RollbackFailed,
            _ if run.faults.iter().any(|fault| fault == INTERRUPTED) => End::Interrupted,
            (None, Verdict::Pass) => End::Pass,
            (None, Verdict::Fail | Verdict::ObjectiveMissed) => End::Fail,
            (None, Verdict::Inconclusive) if run.is_open() => End::Open,
            (None, Verdict::Inconclusive) => End::Error,
        };
        setting.console.keep(&mut run);
        Outcome { run, end }
    }
}

// The operation itself says that it cannot judge; one that broke down, or was ended, says nothing.
fn is_unjudged(came: &Came) -> bool {
    came.outcome == Result::Error && came.exit == Some(Exit::Inconclusive as i32) && !came.interrupted
}

// Ids are long, and a few digits tell them apart.
fn title(words: &[String]) -> String {
    let short = |word: &String| if is_id(word) { word[..8].to_owned() } else { word.clone() };
    words.iter().map(short).collect::<Vec<_>>().join(" ")
}

fn is_id(word: &str) -> bool {
    word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The last line that is the id of a snapshot.
pub(super) fn id_in(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    text.lines().rev().map(str::trim).find(|line| is_id(line)).map(str::to_owned)
}
