//! What comes before the change: refusals, the baseline, the snapshot, and the way back written down.

use std::time::Instant;

use super::armed::{self, Armed, Stage};
use super::look::{Watched, leader};
use super::run::{Ear, Guard};
use super::types::{GuardError, Message, Operator, Options};
use super::{baseline, flap};
use crate::base::event::Observer;
use crate::base::id::SnapshotId;
use crate::base::name::{Name, shown};
use crate::base::time::Timestamp;
use crate::drill::recorder::Result as StepResult;
use crate::evidence::Seconds;
use crate::rollback::{self, Goal, Obstacle, Subject};
use crate::service::Service;
use crate::sys::host::{self, worker_count};
use crate::verify::{self, Depth, Severity};

/// The tag of the snapshots that are taken before and after a change.
pub const TAG: &str = "hotfix";

/// Arms a change, or refuses it.
pub fn arm<'a>(
    subject: &'a Subject<'a>,
    options: &Options,
    stage: Stage,
    operator: &'a dyn Operator,
    observer: &'a dyn Observer,
) -> Result<Guard<'a>, GuardError> {
    let state = subject.state;
    let lock = armed::watch_lock(state)?;
    if let Some(found) = armed::armed(state)? {
        return Err(GuardError::Armed(Box::new(found)));
    }
    let lock = lock.ok_or(GuardError::Watched)?;
    if let Some(pending) = rollback::pending(state)? {
        return Err(rollback::RollbackError::UnfinishedRun(Box::new(pending)).into());
    }
    let digest = flap::digest(&options.change, &options.directory);
    if !options.force {
        flap::check(state, digest.as_ref())?;
    }
    let started = subject.repo.clock().now();
    let service = Service::of(subject.plan).map(|service| service.remembering(state.clone()));
    let watched = Watched::of(subject.plan, service.as_ref());
    if !watched.sees() && subject.plan.hotfix.verify.is_empty() {
        return Err(GuardError::Blind);
    }
    let obstacles = rollback::obstacles_of_place(subject)?;
    if !obstacles.is_empty() {
        return Err(GuardError::NoWayBack(obstacles));
    }
    let ear = Ear::new(operator, observer);
    operator.tell(&Message::Begins { phase: "baseline", text: "how the application is now" });
    let looked = Instant::now();
    let (baseline, marks) = baseline::measure(&watched, service.as_ref(), options.baseline, operator)?;
    tell_end(operator, "baseline", &baseline.shown(), looked);
    let began = Instant::now();
    let sight = service.as_ref().map(Service::state);
    let armed = Armed {
        run_id: run_id(started),
        stage,
        change: options.change.clone(),
        directory: options.directory.clone(),
        plan_file: subject.plan.file().to_owned(),
        plan_text: plan_text(subject)?,
        digest,
        started,
        by: by(subject),
        before: snapshot_before(subject, options, &ear)?,
        watch: Seconds::new(options.watch),
        confirm_within: options.confirm_within.map(Seconds::new),
        watch_until: None,
        confirm_until: None,
        restart: options.restart,
        baseline,
        marks,
        mark: None,
        changed: None,
        was_running: sight.as_ref().is_some_and(crate::service::Sight::is_running),
        leader: sight.as_ref().and_then(leader),
        boot: host::boot_id(),
        touched: None,
        why: None,
        unjudged: false,
        phases: Vec::new(),
        steps: Vec::new(),
        checks: Vec::new(),
    };
    let mut guard = Guard::of(subject, armed, operator, observer, lock);
    prove(&mut guard, began)?;
    if stage == Stage::Open {
        let within = guard.armed.confirm_within;
        guard.armed.changed = Some(subject.repo.clock().now());
        guard.armed.confirm_until = within.map(|within| later(subject.repo.clock().now(), within));
    }
    armed::forget_request(state)?;
    guard.enter(stage)?;
    guard.tell(&Message::Armed { armed: &guard.armed });
    Ok(guard)
}

fn tell_end(operator: &dyn Operator, phase: &'static str, text: &str, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    operator.tell(&Message::Ended { phase, text, passed: true, detail: "", seconds, output: "" });
}

/// So much after a moment.
pub(super) fn later(from: Timestamp, by: Seconds) -> Timestamp {
    Timestamp(from.0 + chrono::TimeDelta::from_std(by.duration()).unwrap_or_default())
}

fn run_id(started: Timestamp) -> String {
    // random, for two runs may begin in one second; without randomness the time must do
    let random = host::random_hex().unwrap_or_default();
    format!("{}-{}", started.0.format("%Y%m%dT%H%M%SZ"), random.get(..8).unwrap_or_default())
}

fn plan_text(subject: &Subject<'_>) -> Result<String, GuardError> {
    let file = subject.plan.file();
    std::fs::read_to_string(file).map_err(|error| {
        let file = Name::from(file.as_os_str()).shown();
        GuardError::Plan(format!("the plan {file} cannot be read any more: {error}"))
    })
}

fn by(subject: &Subject<'_>) -> String {
    subject.sudo_user.clone().unwrap_or_else(|| host::user_name().shown())
}

fn snapshot_before(
    subject: &Subject<'_>,
    options: &Options,
    ear: &Ear<'_>,
) -> Result<SnapshotId, GuardError> {
    let reason = format!("before a hotfix: {}", options.change.shown());
    match rollback::save(subject, TAG, &reason, ear) {
        Ok(id) => Ok(id),
        Err(_) if ear.wish().is_some() => Err(GuardError::Interrupted),
        Err(error) => Err(GuardError::Snapshot(error)),
    }
}

// The snapshot is whole, its bytes are what they should be, and it can be gone back to.
fn prove(guard: &mut Guard<'_>, began: Instant) -> Result<(), GuardError> {
    let (subject, id) = (guard.subject, guard.armed.before);
    guard.begins("snapshot", &id.short());
    let not_whole = |why: String| GuardError::NotWhole { snapshot: id.short(), why };
    let document = subject.repo.document(id)?;
    if document.is_partial() {
        let s = &document.statistics;
        let first = document.problems.first().map(|p| format!("; {}: {}", p.path, shown(p.text.as_bytes())));
        return Err(not_whole(format!(
            "{} could not be read or are not saved as they should be, and {} may be torn{}",
            s.skipped,
            s.torn,
            first.unwrap_or_default()
        )));
    }
    let options = verify::Options {
        depth: Depth::Stored,
        snapshots: Some(vec![id]),
        workers: worker_count(),
        ..verify::Options::default()
    };
    let report = verify::verify(subject.repo, &options, &guard.ear);
    if guard.ear.wish().is_some() {
        return Err(GuardError::Interrupted);
    }
    let bad = report?
        .problems
        .into_iter()
        .find(|p| p.severity() == Severity::DataLoss && p.snapshots().contains(&id));
    if let Some(problem) = bad {
        return Err(not_whole(problem.text()));
    }
    let back = rollback::Options { goal: Goal::Snapshot(id), ..rollback::Options::default() };
    let proposal = rollback::propose(subject, &back, &guard.ear)?;
    let obstacles: Vec<Obstacle> = proposal.obstacles().to_vec();
    if !obstacles.is_empty() {
        return Err(GuardError::NoWayBack(obstacles));
    }
    let s = &document.statistics;
    let files = crate::base::size::plural(s.files, "file");
    let bytes = crate::base::size::bytes(s.bytes);
    let name = format!("{}, {files}, {bytes}, verified", id.short());
    guard.ended("snapshot", &name, began, StepResult::pass());
    Ok(())
}
