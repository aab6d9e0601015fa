//! The order of a rehearsal.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::copy::{self, Compared, compare, restore_into};
use super::databases::{Databases, Planned};
use super::production::{self, Sight};
use super::recorder::Recorder;
use super::sabotage::{self, Attempt, Sabotage};
use super::scratch::Scratch;
use super::stage::{self, Stage, User};
use super::{DrillError, Options, Subject, facts, preflight};
use crate::base::event::{Event, Observer, Step};
use crate::base::name::Name;
use crate::base::time::Timestamp;
use crate::check::value::CommandLine;
use crate::check::{Check, Kind as CheckKind, Outcome as CheckOutcome};
use crate::evidence::{Cleanup, Evidence, Isolation, Kind, Level, Measured, Objectives, Production, Seconds};
use crate::plan::DatabaseKind;
use crate::restore::{Placement, place};
use crate::service::ready::{self};
use crate::sys::host::random_hex;

/// No drill takes longer, whatever the plan allows.
pub(super) const FOREVER: Duration = Duration::from_secs(30 * 86_400);

/// What one run carries from phase to phase.
pub struct Run<'a> {
    pub(super) subject: &'a Subject<'a>,
    options: &'a Options,
    pub(super) observer: &'a dyn Observer,
    pub(super) recorder: Recorder,
    isolation: Isolation,
    pub(super) recovery: Option<Duration>,
    pub(super) not_tested: Vec<String>,
    pub(super) spoil: Option<&'a mut Spoil>,
    deviations: Vec<String>,
    was_in_shell: bool,
    shown: bool,
    deadline: Instant,
}

/// A sabotage in a rehearsal, and what became of it.
pub struct Spoil {
    pub(super) sabotage: Sabotage,
    // no longer than this is waited for a server that will not come
    pub(super) patience: Duration,
    // the server's command, if that is what is broken
    server: Option<CommandLine>,
    /// What was done, or why nothing was.
    pub done: Result<String, String>,
}

impl Spoil {
    /// With the patience that the sound copy's drill suggests.
    pub fn new(sabotage: Sabotage, sound: &Evidence) -> Self {
        let server = sound.measured.phases.iter().find(|phase| phase.name == "server");
        let took = server.map(|phase| phase.took_s.duration()).unwrap_or_default();
        let patience = took.saturating_mul(4).max(Duration::from_secs(5));
        Self { sabotage, patience, server: None, done: Err("the rehearsal ended before it".to_owned()) }
    }
}

/// Rehearses the recovery of a snapshot. The verdict in what comes back is settled when it is written to a logbook or
/// by [`Evidence::judged`].
///
/// # Errors
/// If it could not begin: the snapshot does not hold the tree, there is no room, or this host does not allow the
/// isolation. Whatever goes wrong later is in the record.
pub fn rehearse(
    subject: &Subject<'_>,
    options: &Options,
    sudo_user: Option<String>,
    observer: &dyn Observer,
) -> Result<Evidence, DrillError> {
    rehearse_with(subject, options, sudo_user, None, observer)
}

/// As [`rehearse`], of a copy that is broken on purpose.
///
/// # Errors
/// As [`rehearse`].
pub fn rehearse_with(
    subject: &Subject<'_>,
    options: &Options,
    sudo_user: Option<String>,
    spoil: Option<&mut Spoil>,
    observer: &dyn Observer,
) -> Result<Evidence, DrillError> {
    let started = subject.repo.clock().now();
    let mut run = Run::new(subject, options, spoil, observer);
    run.phase("preflight", true);
    let taken = subject.snapshot.document.started;
    if let Some(disaster) = options.disaster_at.filter(|disaster| *disaster < taken) {
        let snapshot = subject.snapshot.id.short();
        return Err(DrillError::Later { snapshot, taken: taken.shown(), disaster: disaster.shown() });
    }
    let placement = run.placement()?;
    preflight::room(subject, options)?;
    preflight::tools(subject.plan)?;
    let user = run.user(&placement)?;
    let before = run.production();
    let mut scratch = Scratch::make(&options.place, started)?;
    if options.keep {
        scratch.keep()?;
    }
    let mut leftovers = run.bring_back(&scratch, &placement, user)?;
    run.phase("clean up", false);
    let kept = options.keep.then(|| scratch.path().to_owned());
    leftovers.extend(scratch.remove());
    let after = run.production();
    run.end_phase();
    Ok(run.evidence(started, scratch.run.clone(), (before, after), leftovers, kept, sudo_user))
}

/// The record of a rehearsal that could not begin, and of why: that it was tried is worth knowing.
///
/// # Errors
/// If the system gives no random name for it.
pub fn never_began(
    subject: &Subject<'_>,
    options: &Options,
    sudo_user: Option<String>,
    error: &DrillError,
    observer: &dyn Observer,
) -> Result<Evidence, DrillError> {
    let started = subject.repo.clock().now();
    let run_id = random_hex().map_err(|source| DrillError::Io {
        act: "make",
        path: "a name for the drill".to_owned(),
        source,
    })?;
    let mut run = Run::new(subject, options, None, observer);
    run.recorder.fault(format!("it could not begin: {}", crate::base::error::causes(error)));
    let unseen = || Sight { healthy: None, fingerprint: None };
    let mut record = run.evidence(started, run_id, (unseen(), unseen()), Vec::new(), None, sudo_user);
    // nothing came of it, so that the next drill of this snapshot is no repetition
    record.snapshot = None;
    Ok(record)
}

impl<'a> Run<'a> {
    fn new(
        subject: &'a Subject<'a>,
        options: &'a Options,
        spoil: Option<&'a mut Spoil>,
        observer: &'a dyn Observer,
    ) -> Self {
        Self {
            subject,
            options,
            observer,
            recorder: Recorder::new(options.secrets.clone()),
            isolation: Isolation { requested: Level::Full, ..Isolation::default() },
            recovery: None,
            not_tested: Vec::new(),
            spoil,
            deviations: Vec::new(),
            was_in_shell: false,
            shown: false,
            deadline: Instant::now() + subject.plan.drill.limits.time.0.min(FOREVER),
        }
    }

    // Restoring and comparing show by themselves how far they are.
    pub(super) fn phase(&mut self, name: &'static str, counted: bool) {
        if self.recorder.is_in(name) {
            return;
        }
        self.end_phase();
        self.recorder.phase(name, counted);
        self.shown = !matches!(name, "restore" | "verify" | "shell");
        if self.shown {
            self.observer.event(Event::Started { step: Step::Drill(name), bytes: None });
        }
    }

    fn end_phase(&mut self) {
        self.recorder.end_phase();
        if std::mem::take(&mut self.shown) {
            self.observer.event(Event::Finished);
        }
    }

    // Where in the snapshot the tree is.
    fn placement(&self) -> Result<Placement, DrillError> {
        let root = self.subject.plan.root();
        let name = Name::from(root.as_os_str());
        let found = place(&self.subject.snapshot.document, Some(&name));
        found.into_iter().find(|p| p.prefix.is_empty()).ok_or_else(|| DrillError::NotThere {
            snapshot: self.subject.snapshot.id.short(),
            root: name.shown(),
        })
    }

    // Whom the application belongs to. Root in a sandbox may do no more than others to files that are not its own, so
    // an application of somebody else would not come up as root.
    fn user(&self, placement: &Placement) -> Result<User, DrillError> {
        if !crate::sys::host::is_root() {
            return Ok(None);
        }
        if let Some(name) = &self.subject.plan.app.user {
            return crate::sys::names::user_with_groups(name).map(Some).ok_or_else(|| {
                DrillError::Plan(format!("app.user is {name:?}, and this host knows no such user"))
            });
        }
        // what cannot be read now is met again, and told, when it is restored
        let owner = copy::owner(self.subject.repo, self.subject.snapshot, placement).ok().flatten();
        let owner = owner.filter(|(user, _)| *user != 0);
        Ok(owner.map(|(user, group)| {
            crate::sys::names::user_with_groups(&user.to_string()).unwrap_or((user, group, Vec::new()))
        }))
    }

    fn production(&mut self) -> Sight {
        if self.spoil.is_some() || self.options.only.is_some() {
            // a question about the copy alone
            return Sight { healthy: None, fingerprint: None };
        }
        let (plan, document) = (self.subject.plan, &self.subject.snapshot.document);
        let root = plan.root();
        let live: Vec<String> = plan.app.exclude.iter().chain(&plan.app.keep_on_rollback).cloned().collect();
        let below = |path: &Name| {
            let path = PathBuf::from(path.as_os_str().to_owned());
            Some(Name::from(path.strip_prefix(&root).ok()?.as_os_str()).0)
        };
        let databases: Vec<Vec<u8>> = document.databases.iter().filter_map(|d| below(&d.path)).collect();
        let checks = self.ready_checks();
        for check in checks.iter().filter(|check| !production::may_be_asked(check)) {
            let name = check.name();
            self.not_tested
                .push(format!("check {name:?} of production: only ports of this host are asked there"));
        }
        production::look(&root, &live, &databases, &checks)
    }

    pub(super) fn ready_checks(&self) -> Vec<&'a Check> {
        let plan = self.subject.plan;
        let names = match (&plan.drill.ready, &plan.service) {
            (ready, Some(service)) if ready.is_empty() => &service.ready,
            (ready, _) => ready,
        };
        ready::checks(plan, names)
    }

    // From the repository to a service that was looked at, and gone again. What is left over.
    fn bring_back(
        &mut self,
        scratch: &Scratch,
        placement: &Placement,
        user: User,
    ) -> Result<Vec<String>, DrillError> {
        let recipe = |setup| {
            stage::recipe(
                self.subject,
                self.options,
                (&scratch.tree(), &scratch.sandbox()),
                user.clone(),
                setup,
            )
        };
        // started before anything is restored: a host that does not allow it costs no time
        let mut stage = Stage::start(&recipe(false)?, self.options, self.observer)?;
        self.isolation = stage.isolation(Level::Full);
        if self.isolation.active == Level::None && self.options.allow_unisolated {
            // it was allowed to be so: what goes wrong is told, and nothing passes
            self.isolation.requested = Level::None;
        }
        let setup = (self.subject.plan.drill.network == crate::plan::Network::Setup)
            .then(|| recipe(true))
            .transpose()?;
        let is_there = self.restore(scratch, placement) && self.spoil(scratch) && self.silence(&mut stage);
        stage.restored();
        if is_there && self.set_up(&mut stage, setup) && self.test(&mut stage) {
            self.serve_and_look(&mut stage);
        }
        self.shell(&mut stage);
        self.phase("stop", false);
        Ok(stage.close())
    }

    fn restore(&mut self, scratch: &Scratch, placement: &Placement) -> bool {
        let (subject, observer) = (self.subject, self.observer);
        let target = scratch.tree();
        let whole = std::slice::from_ref(placement);
        self.phase("restore", true);
        let began = Instant::now();
        let result = restore_into(subject.repo, subject.snapshot, whole, &target, observer);
        let name = format!("restore {}", subject.snapshot.id.short());
        if !self.recorder.step(&name, began, result) {
            return false;
        }
        // The two go on side by side, and both belong to one phase, so that the phases add up. Opening a database in a way
        // that leaves no trace is what makes that possible.
        self.phase("verify", true);
        let root = subject.plan.root();
        let databases = Databases::new(&subject.snapshot.document.databases, &root, &target);
        let look = || databases.look(observer);
        let compared = compare(subject.repo, subject.snapshot, placement, &target, &look, observer);
        if compared.foreign > 0 {
            let entries = crate::base::size::plural(compared.foreign, "entry");
            self.deviations
                .push(format!("{entries} in the copy belong to this user, and not to their owners"));
            self.not_tested.push("owners of files, and rights that rest on them: that needs root".to_owned());
        }
        let Compared { result, took, .. } = compared;
        let is_same =
            self.recorder.own_check("the copy is the snapshot".to_owned(), "content", false, took, result);
        let is_whole = databases.note(&mut self.recorder, observer);
        self.planned(&root, &target) && is_whole && is_same
    }

    // What the plan names must come back; a question about an older copy alone does not ask today's plan for that.
    fn planned(&mut self, root: &Path, copy: &Path) -> bool {
        if self.options.only.is_some() {
            return true;
        }
        let (plan, recorded) = (self.subject.plan, &self.subject.snapshot.document.databases);
        let others = plan.database.iter().filter(|database| database.kind != DatabaseKind::Sqlite);
        let others =
            others.map(|one| format!("database {}: this version saves only SQLite", one.shown_name()));
        self.not_tested.extend(others);
        let paths = plan.sqlite_databases();
        Planned { paths: &paths, root, copy }.note(recorded, &mut self.recorder, self.observer)
    }

    // Breaks the copy, if it is to be broken. After it was compared with the snapshot: the plan's own checks are on trial.
    fn spoil(&mut self, scratch: &Scratch) -> bool {
        let server = self.server().cloned();
        let Some(spoil) = &mut self.spoil else { return true };
        if spoil.sabotage == Sabotage::StoppedServer && server.is_some() {
            return true;
        }
        let done = |attempt: std::io::Result<Attempt>| match attempt {
            Ok(Attempt::Done(what)) => Ok(what),
            Ok(Attempt::Nothing(why)) => Err(why.to_owned()),
            Err(error) => Err(format!("the copy could not be broken: {error}")),
        };
        let tree = scratch.tree();
        spoil.done = done(sabotage::apply(spoil.sabotage, self.subject, &tree));
        if spoil.done.is_err() && spoil.sabotage == Sabotage::WrongPort {
            spoil.server = server.and_then(|line| sabotage::with_wrong_port(self.subject, &line));
            spoil.done = match &spoil.server {
                Some(line) => Ok(format!("the server started as {line}")),
                None => done(sabotage::wrong_port_in_program(self.subject, &tree)),
            };
        }
        spoil.done.is_ok()
    }

    // What a step may take: its own limit, and no more than is left for the whole drill.
    pub(super) fn within(&self, limit: Duration) -> Duration {
        limit.min(self.deadline.saturating_duration_since(Instant::now()))
    }

    pub(super) fn server(&self) -> Option<&CommandLine> {
        let plan = self.subject.plan;
        if let Some(line) = self.spoil.as_ref().and_then(|spoil| spoil.server.as_ref()) {
            return Some(line);
        }
        plan.drill.server.as_ref().or(plan.service.as_ref().and_then(|s| s.start.as_ref()))
    }

    pub(super) fn shell(&mut self, stage: &mut Stage<'_>) {
        if !self.options.shell || self.was_in_shell || self.observer.interrupted() {
            return;
        }
        self.was_in_shell = true;
        self.phase("shell", false);
        if let Err(error) = stage.shell() {
            self.recorder.fault(format!("the shell inside could not be opened: {error}"));
        }
    }

    fn silence(&mut self, stage: &mut Stage<'_>) -> bool {
        self.phase("silence", true);
        self.is_silent(stage)
    }

    // Before the server is started nothing may answer: whatever does is not the copy's server, be it production, or what
    // the set-up has left running.
    pub(super) fn is_silent(&mut self, stage: &mut Stage<'_>) -> bool {
        for check in self.ready_checks() {
            let asks_who_answers = match &check.kind {
                CheckKind::Http(_) => true,
                CheckKind::Port(port) => !port.closed,
                _ => false,
            };
            if !asks_who_answers {
                continue;
            }
            let verdict = stage.look(&once(check), self.within(FOREVER));
            if verdict.outcome == CheckOutcome::Pass {
                let name = &verdict.name;
                self.recorder.fault(format!(
                    "before the server was started, {name:?} passed: something else answered"
                ));
                return false;
            }
        }
        true
    }

    fn set_up(&mut self, stage: &mut Stage<'_>, outbound: Option<crate::sandbox::Recipe>) -> bool {
        let drill = &self.subject.plan.drill;
        if !drill.setup.is_empty() {
            self.phase("set-up", true);
            let done = match outbound {
                None => self.set_up_in(stage),
                Some(recipe) => match Stage::start(&recipe, self.options, self.observer) {
                    Ok(mut open) => {
                        let done = self.set_up_in(&mut open);
                        let left = open.close();
                        left.into_iter().for_each(|text| self.recorder.fault(text));
                        self.isolation
                            .downgrades
                            .push("the network was open to the set-up commands".to_owned());
                        done
                    }
                    Err(error) => {
                        self.recorder.fault(error.to_string());
                        false
                    }
                },
            };
            return done;
        }
        true
    }

    fn set_up_in(&mut self, stage: &mut Stage<'_>) -> bool {
        let drill = &self.subject.plan.drill;
        drill.setup.iter().all(|line| {
            let limit = self.within(drill.setup_timeout.0);
            stage.step(line, limit, &mut self.recorder)
        })
    }

    fn test(&mut self, stage: &mut Stage<'_>) -> bool {
        let drill = &self.subject.plan.drill;
        if let Some(line) = &self.options.only {
            self.phase("tests", true);
            let limit = self.within(drill.test_timeout.0);
            stage.step(line, limit, &mut self.recorder);
            // what was asked has been answered
            return false;
        }
        if drill.tests.is_empty() {
            self.not_tested.push("the application's own tests: the plan names none".to_owned());
            return true;
        }
        self.phase("tests", true);
        // all of them, so that one failure does not hide the next
        drill.tests.iter().fold(true, |all, line| {
            let limit = self.within(drill.test_timeout.0);
            stage.step(line, limit, &mut self.recorder) && all
        })
    }

    fn evidence(
        self,
        started: Timestamp,
        run_id: String,
        (before, after): (Sight, Sight),
        leftovers: Vec<String>,
        kept: Option<PathBuf>,
        sudo_user: Option<String>,
    ) -> Evidence {
        let (subject, plan) = (self.subject, self.subject.plan);
        let at = self.options.disaster_at.unwrap_or(started);
        let (age, gap) = facts::loss(subject, at);
        let seconds = |span: crate::check::value::Span| Seconds::new(span.0);
        let mut faults = self.recorder.faults;
        if self.observer.interrupted() && faults.is_empty() {
            faults.push("interrupted".to_owned());
        }
        let mut deviations = self.deviations;
        deviations.extend(kept.map(|path| format!("the copy was kept at {}", path.display())));
        Evidence {
            run_id,
            app: plan.name(),
            scenario: format!(
                "the loss of {}, brought back from {}",
                plan.root().display(),
                subject.snapshot.id.short()
            ),
            finished: subject.repo.clock().now(),
            tool: facts::tool(&self.options.program),
            host: facts::host(),
            operator: facts::operator(sudo_user),
            config_sha256: subject.plan_sha256.clone(),
            snapshot: Some(facts::snapshot(subject)),
            objectives: Objectives {
                rto_s: plan.drill.objectives.rto.map(seconds),
                rpo_s: plan.drill.objectives.rpo.map(seconds),
            },
            measured: Measured {
                recovery_s: self.recovery.map(Seconds::new),
                phases: self.recorder.phases,
                snapshot_age_s: Some(age),
                worst_gap_s: Some(gap),
                newest_record_at: None,
            },
            isolation: self.isolation,
            steps: self.recorder.steps,
            checks: self.recorder.checks,
            faults,
            not_tested: self.not_tested,
            deviations,
            production: Some(Production {
                healthy_before: before.healthy,
                healthy_after: after.healthy,
                fingerprint_unchanged: before.fingerprint.zip(after.fingerprint).map(|(a, b)| a == b),
            }),
            cleanup: Cleanup { proved: leftovers.is_empty(), leftovers },
            ..Evidence::begun(Kind::Drill, started)
        }
    }
}

// Whoever asks again by himself needs no check that does.
fn once(check: &Check) -> Check {
    let mut check = check.clone();
    check.common.retries = 0;
    check
}
