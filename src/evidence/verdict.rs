//! What a run comes to. Pure, and total: every record gets exactly one verdict.
//!
//! A pass cannot be accidental. It needs, all together: at least one data-proving check that passed; at least
//! one step or check of the plan, beside Lifeboat's own; every required check and every step *run* and passed (skipped or not judged is not passed); isolation that
//! was there, and at least as much of it as asked; a recovery time; objectives met; production left alone;
//! cleaning up proved. Where one of these is missing:
//!
//! 1. `inconclusive`, if the harness spoiled what was observed: a fault, or less isolation than asked. What a spoiled
//!    run saw is no evidence, neither for the backup nor against it.
//! 2. `fail`, if a step or a required check found the application or its data wrong.
//! 3. `inconclusive`, if something that is needed for a pass was not observed.
//! 4. `objective_missed`, if it all works, but too late or with too much lost.
//! 5. `inconclusive` with a [`Cap`], if it all works, but could not have gone wrong in a way that would show.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::measure::{Level, Seconds};
use super::record::{Evidence, Kind};
use super::step::Outcome;
use crate::base::Exit;
use crate::base::size::plural;

/// The phase whose steps are Lifeboat's own.
pub const RESTORE: &str = "restore";
/// The phase in which the application's server is started.
pub const SERVER: &str = "server";
/// The kinds of checks that Lifeboat makes by itself in every drill, whatever the plan says.
pub const OWN_CHECKS: [&str; 3] = ["content", "sqlite", "ready"];

/// What a run comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The snapshot comes back as a working application, in time.
    Pass,
    /// It does not come back as a working application.
    Fail,
    /// It comes back, but too late or with too much lost.
    ObjectiveMissed,
    /// Could not be judged: the harness's fault, not the backup's. What nobody has judged is this.
    #[default]
    Inconclusive,
}

impl Verdict {
    /// Every verdict, in the order in which reports list them.
    pub const ALL: &[Self] = &[Self::Pass, Self::Fail, Self::ObjectiveMissed, Self::Inconclusive];

    /// The word in records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::ObjectiveMissed => "objective_missed",
            Self::Inconclusive => "inconclusive",
        }
    }

    /// In large letters.
    pub fn title(self) -> &'static str {
        match self {
            Self::Pass => "PASSED",
            Self::Fail => "FAILED",
            Self::ObjectiveMissed => "OBJECTIVE MISSED",
            Self::Inconclusive => "INCONCLUSIVE",
        }
    }

    /// The exit status of a drill that comes to this.
    pub fn exit(self) -> Exit {
        match self {
            Self::Pass => Exit::Done,
            Self::Fail => Exit::DrillFailed,
            Self::ObjectiveMissed => Exit::ObjectiveMissed,
            Self::Inconclusive => Exit::Inconclusive,
        }
    }
}

/// Why a pass was out of reach from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cap {
    /// It ran without isolation, so its tests may have tested production.
    Unisolated,
}

/// A verdict and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What it comes to.
    pub verdict: Verdict,
    /// Why, each in a sentence; for a pass, what it rests on.
    pub reasons: Vec<String>,
    /// Why no better verdict was possible.
    pub cap: Option<Cap>,
    /// Whether the objectives were met, if any was set and each could be measured.
    pub objectives_met: Option<bool>,
}

/// Judges a run by its facts. The verdict that the record may already have is not looked at.
pub fn judge(run: &Evidence) -> Judgement {
    let cap = (run.kind == Kind::Drill && run.isolation.active == Level::None).then_some(Cap::Unisolated);
    let (late, unmeasured) = objectives(run);
    let any_set = run.objectives.rto_s.is_some() || run.objectives.rpo_s.is_some();
    let objectives_met = match (any_set, late.is_empty(), unmeasured.is_empty()) {
        (false, ..) => None,
        (_, false, _) => Some(false),
        (_, true, true) => Some(true),
        (_, true, false) => None,
    };
    let (verdict, reasons) = weigh(run, cap, late, unmeasured);
    Judgement { verdict, reasons, cap, objectives_met }
}

fn weigh(
    run: &Evidence,
    cap: Option<Cap>,
    late: Vec<String>,
    unmeasured: Vec<String>,
) -> (Verdict, Vec<String>) {
    let spoiled = spoiled(run);
    if !spoiled.is_empty() {
        return (Verdict::Inconclusive, spoiled);
    }
    let mut wrong = wrong(run);
    if !wrong.is_empty() {
        if run.kind == Kind::Runbook {
            // whoever goes through it wants to know all that is left to do
            wrong.extend(unseen(run));
        }
        return (Verdict::Fail, wrong);
    }
    let mut missing = missing(run);
    missing.extend(unmeasured);
    if !missing.is_empty() {
        return (Verdict::Inconclusive, missing);
    }
    if cap == Some(Cap::Unisolated) {
        let mut reasons = vec![
            "nothing went wrong, but the run was not isolated: its tests and checks may have reached production \
             instead of the copy"
                .to_owned(),
        ];
        reasons.extend(late);
        return (Verdict::Inconclusive, reasons);
    }
    if !late.is_empty() {
        return (Verdict::ObjectiveMissed, late);
    }
    (Verdict::Pass, grounds(run))
}

// What makes every observation worthless.
fn spoiled(run: &Evidence) -> Vec<String> {
    let mut found: Vec<String> = run.faults.clone();
    let isolation = &run.isolation;
    if run.kind == Kind::Drill && isolation.active < isolation.requested {
        let (active, requested) = (isolation.active.word(), isolation.requested.word());
        found.push(format!("isolation was {active:?}, but {requested:?} was asked for"));
    }
    found
}

// What was found wrong with the application or its data.
fn wrong(run: &Evidence) -> Vec<String> {
    let steps = run.steps.iter().filter(|step| step.result == Outcome::Fail);
    let steps = steps.map(|step| because(&format!("{} failed: {}", step.phase, step.name), &step.reason));
    let checks = run.checks.iter().filter(|check| check.required && check.result == Outcome::Fail);
    steps.chain(checks.map(|check| because(&format!("check {:?} failed", check.id), &check.reason))).collect()
}

// What was not run, could not be judged or was not answered; questions last.
fn unseen(run: &Evidence) -> Vec<String> {
    let is_unseen = |result: Outcome| matches!(result, Outcome::Skip | Outcome::Error);
    let mut found = Vec::new();
    let is_excused = |step: &super::Step| step.is_excused() && run.kind == Kind::Runbook;
    for step in run.steps.iter().filter(|s| is_unseen(s.result) && !s.is_open() && !is_excused(s)) {
        let how = unobserved(step.result);
        found.push(because(&format!("{} {how}: {}", step.phase, step.name), &step.reason));
    }
    for check in run.checks.iter().filter(|check| check.required && is_unseen(check.result)) {
        let how = unobserved(check.result);
        found.push(because(&format!("required check {:?} {how}", check.id), &check.reason));
    }
    let open = run.steps.iter().filter(|step| step.is_open());
    found.extend(open.map(|step| format!("not answered: {}", step.name)));
    found
}

// What a pass needs and was not observed, where nothing failed.
fn missing(run: &Evidence) -> Vec<String> {
    let mut found = unseen(run);
    if run.steps.iter().any(super::Step::is_excused) && run.steps.iter().all(|s| s.result != Outcome::Pass) {
        found.push("no step could be judged".to_owned());
    }
    if run.kind == Kind::Drill {
        if run.snapshot.is_none() {
            found.push("no snapshot was restored".to_owned());
        }
        if !run.checks.iter().any(proves_data) {
            found.push("no check that proves the data has passed".to_owned());
        }
        if !run.steps.iter().any(is_of_plan) && !run.checks.iter().any(asks_by_plan) {
            found.push(
                "nothing of the plan has passed: no set-up, no test, no server and no check".to_owned(),
            );
        }
        if run.measured.recovery_s.is_none() {
            found.push("the application was never seen healthy for long enough".to_owned());
        }
    }
    found.extend(aftermath(run));
    found
}

// What went wrong beside the application.
fn aftermath(run: &Evidence) -> Vec<String> {
    let mut found = Vec::new();
    if !run.cleanup.proved || !run.cleanup.leftovers.is_empty() {
        found.push(because(
            "it is not proved that everything was cleaned up",
            &run.cleanup.leftovers.join(", "),
        ));
    }
    if let Some(production) = run.production.as_ref().filter(|_| run.kind == Kind::Drill) {
        if production.healthy_before == Some(true) && production.healthy_after == Some(false) {
            found.push("production was healthy before and is not now".to_owned());
        }
        if production.fingerprint_unchanged == Some(false) {
            found.push("files of production that should have stayed as they were have changed".to_owned());
        }
    }
    found
}

fn unobserved(result: Outcome) -> &'static str {
    if result == Outcome::Skip { "did not run" } else { "could not be judged" }
}

// What Lifeboat does and looks at in every drill says nothing of the application.
fn is_of_plan(step: &super::Step) -> bool {
    step.phase != RESTORE && step.result == Outcome::Pass
}

fn asks_by_plan(check: &super::Check) -> bool {
    !OWN_CHECKS.contains(&check.kind.as_str()) && check.result == Outcome::Pass
}

fn proves_data(check: &super::Check) -> bool {
    check.data_proving && check.result == Outcome::Pass
}

fn because(what: &str, reason: &str) -> String {
    if reason.is_empty() { what.to_owned() } else { format!("{what}: {reason}") }
}

// The objectives that were missed, and those that could not be measured.
fn objectives(run: &Evidence) -> (Vec<String>, Vec<String>) {
    let (mut late, mut unmeasured) = (Vec::new(), Vec::new());
    let mut compare =
        |what: &str, objective: Option<Seconds>, measured: Option<Seconds>| match (objective, measured) {
            (Some(objective), Some(measured)) if measured > objective => {
                late.push(format!("{what} was {measured}, the objective is {objective}"));
            }
            (Some(_), None) => unmeasured.push(format!("{what} has an objective and could not be measured")),
            _ => {}
        };
    compare("the recovery time", run.objectives.rto_s, run.measured.recovery_s);
    compare("the possible loss of data", run.objectives.rpo_s, run.measured.loss());
    (late, unmeasured)
}

// What a pass rests on.
fn grounds(run: &Evidence) -> Vec<String> {
    let required = run.checks.iter().filter(|check| check.required).count();
    let proving = run.checks.iter().filter(|check| proves_data(check)).count();
    let excused: Vec<_> = run.steps.iter().filter(|step| step.is_excused()).collect();
    let steps = run.steps.len() - excused.len();
    let mut grounds = vec![match run.kind {
        Kind::Runbook if required == 0 => format!("{} ran and passed", plural(steps as u64, "step")),
        _ => format!("{steps} steps and {required} required checks ran and passed"),
    }];
    grounds.extend(excused.iter().map(|step| because(&step.name, &step.reason)));
    if run.kind == Kind::Drill {
        grounds.push(format!("{proving} checks proved that data came back"));
    }
    if let Some(recovery) = run.measured.recovery_s {
        grounds.push(if run.kind == Kind::Drill && !run.has_server() {
            format!("the copy was ready after {recovery}; no server was started")
        } else {
            format!("the application was healthy after {recovery}")
        });
    }
    grounds
}

/// What the run says nothing about: what the harness named, what follows from the facts, and what no run shows.
/// Without duplicates.
pub fn not_tested(run: &Evidence) -> Vec<String> {
    let mut list = run.not_tested.clone();
    for check in run.checks.iter().filter(|check| matches!(check.result, Outcome::Skip | Outcome::Error)) {
        list.push(format!("check {:?}: {}", check.id, unobserved(check.result)));
    }
    for step in run.steps.iter().filter(|step| step.is_excused()) {
        list.push(format!("step {:?}: could not be judged", step.name));
    }
    if run.kind == Kind::Drill {
        if run.isolation.active >= Level::Outbound {
            list.push("what needs this host's network or other services on it".to_owned());
        }
        if run.isolation.active == Level::Full {
            list.push("what needs other machines: mail, payment, remote databases".to_owned());
        }
        if run.isolation.active == Level::None {
            list.push("whether the tests looked at the copy or at production".to_owned());
        }
        if run.production.is_none() {
            list.push("whether production was left alone".to_owned());
        }
        if run.self_test.is_empty() {
            list.push("whether the checks can go red (a self-test shows it)".to_owned());
        }
        list.push("the time to notice a disaster, to decide, and to replace hardware".to_owned());
        list.push("the load of real users".to_owned());
    }
    if list.is_empty() {
        list.push("whatever no check of the plan looks at".to_owned());
    }
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|item| seen.insert(item.clone()));
    list
}
