//! The steps: forward, and back again by itself when one of them fails.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::build;
use super::carry::{carry, clear, io_error};
use super::choose::{Chosen, SAFETY_TAG};
use super::exchange::{exchange, settle_names};
use super::journal::{Journal, Kept, Stage, Standing, inode};
use super::linked::{Linked, fetched_beside};
use super::place::Classes;
use super::resolute::Resolute;
use super::save::save;
use super::types::{Ended, Options, Outcome, RollbackError, Subject, Way};
use crate::base::Name;
use crate::base::error::causes;
use crate::base::event::{Event, Observer, Silent, Step};
use crate::base::id::SnapshotId;
use crate::check::{self, Check};
use crate::drill::facts;
use crate::drill::recorder::{Recorder, Result as StepResult};
use crate::evidence::{Outcome as StepOutcome, Tool};
use crate::restore::{LinkedFile, Selection};
use crate::service::Service;
use crate::snapshot::SnapshotError;
use crate::state::Lock;
use crate::sys::btrfs;

fn service_of(subject: &Subject<'_>) -> Option<Service> {
    Service::of(subject.plan).map(|service| service.remembering(subject.state.clone()))
}

// The safety snapshot.
fn saved(subject: &Subject<'_>, run_id: &str, observer: &dyn Observer) -> Result<SnapshotId, RollbackError> {
    save(subject, SAFETY_TAG, &format!("before the rollback {run_id}"), observer).map_err(|error| match error
    {
        SnapshotError::Interrupted => RollbackError::Interrupted,
        other => RollbackError::Safety(other),
    })
}

/// A rollback under way.
pub struct Run<'a> {
    pub(super) subject: &'a Subject<'a>,
    observer: &'a dyn Observer,
    resolute: Resolute<'a>,
    service: Option<Service>,
    pub(super) journal: Journal,
    pub(super) recorder: Recorder,
    pub(super) notes: Vec<String>,
    // what both trees have, once it was looked at
    linked: Option<Linked>,
    stopped: Option<Instant>,
    pub(super) downtime: Option<Duration>,
    // it was cut off before, and somebody else goes on
    pub(super) resumed: bool,
    // this program, which is hashed meanwhile
    tool: Option<JoinHandle<Tool>>,
    _lock: Lock,
}

impl<'a> Run<'a> {
    /// One whose journal this is.
    pub fn new(subject: &'a Subject<'a>, journal: Journal, lock: Lock, observer: &'a dyn Observer) -> Self {
        let program = subject.program.clone();
        let service =
            service_of(subject).map(|s| if journal.accept_unhealthy { s.keeping_unready() } else { s });
        Self {
            subject,
            observer,
            resolute: Resolute::new(observer),
            service,
            journal,
            recorder: Recorder::new(Vec::new()),
            notes: Vec::new(),
            linked: None,
            stopped: None,
            downtime: None,
            resumed: false,
            tool: std::thread::Builder::new().spawn(move || facts::tool(&program)).ok(),
            _lock: lock,
        }
    }

    fn root(&self) -> PathBuf {
        self.journal.root.as_os_str().into()
    }

    fn beside(&self) -> PathBuf {
        self.journal.beside.as_os_str().into()
    }

    fn phase(&mut self, name: &'static str, counted: bool) {
        self.recorder.phase(name, counted);
        // shown until the next begins, with the time that it takes
        self.observer.event(Event::Started { step: Step::Drill(name), bytes: None });
    }

    fn note_step(&mut self, name: &str, began: Instant, failed: Option<String>) {
        let result = failed.map_or_else(StepResult::pass, |why| StepResult::of(StepOutcome::Fail, why));
        self.recorder.step(name, began, result);
    }

    /// The whole way. What fails before the service is stopped is an error, and nothing was touched.
    ///
    /// # Errors
    /// As said.
    pub fn forward(mut self, options: &Options, chosen: Option<&Chosen>) -> Result<Outcome, RollbackError> {
        self.journal.enter(Stage::Building, self.subject.state)?;
        if let Err(error) = self.prepare(options, chosen) {
            self.observer.event(Event::Finished);
            self.clear_away();
            Journal::close(self.subject.state)?;
            return Err(error);
        }
        match self.cross(chosen) {
            Ok(()) => {}
            Err(why) => return Ok(self.back(why)),
        }
        Ok(self.arrive())
    }

    // Everything that can be done while the service runs.
    fn prepare(&mut self, options: &Options, chosen: Option<&Chosen>) -> Result<(), RollbackError> {
        let is_exchange = self.journal.way == Way::Exchange;
        // what is built in a copy of a subvolume touches nothing of the live tree: both at once
        let both = options.safety && is_exchange && btrfs::is_subvolume(&self.root());
        if options.safety && !both {
            self.phase("safety snapshot", false);
            let began = Instant::now();
            let saved = saved(self.subject, &self.journal.run_id, self.observer);
            self.note_saved(saved, began)?;
        }
        if both {
            let (began, subject, run_id) = (Instant::now(), self.subject, self.journal.run_id.clone());
            let quiet = Silent(self.observer);
            let (saved, ready) = std::thread::scope(|scope| {
                let saving = scope.spawn(|| saved(subject, &run_id, &quiet));
                let ready = self.make_ready(chosen);
                (saving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), ready)
            });
            self.note_saved(saved, began)?;
            // not beside the snapshot: closing a database that it copies would take the lock from it
            self.carry_early(&ready?)?;
        } else if is_exchange {
            // writes down what it made, and the snapshot
            let live = self.make_ready(chosen)?;
            self.carry_early(&live)?;
        }
        if both || !is_exchange {
            self.journal.write(self.subject.state)?;
        }
        if self.observer.interrupted() {
            return Err(RollbackError::Interrupted);
        }
        Ok(())
    }

    fn note_saved(
        &mut self,
        saved: Result<SnapshotId, RollbackError>,
        began: Instant,
    ) -> Result<(), RollbackError> {
        let id = saved?;
        self.journal.safety = Some(id);
        self.note_step(&format!("snapshot {} of how it was", id.short()), began, None);
        Ok(())
    }

    // The tree that is to be the application, for an exchange. What in it is live data.
    fn make_ready(&mut self, chosen: Option<&Chosen>) -> Result<Vec<Name>, RollbackError> {
        let beside = self.beside();
        self.phase("build", false);
        let live = Classes::of(&self.root(), &self.journal.rules)?.carried;
        // what goes until the service is stopped (its PID file) goes from the new tree too
        self.note_live_data(live.clone());
        let linked = chosen.map(|chosen| self.build(chosen, &live, &beside)).transpose()?;
        if let (Some(chosen), Some(linked)) = (chosen, linked) {
            // live data is in both trees to stay
            self.note_linked(Linked::new(chosen.snapshot.id, linked, &live))?;
        }
        self.journal.new_inode = inode(&beside)
            .ok_or_else(|| RollbackError::Strange(format!("{} is gone", Name::from(beside.as_os_str()))))?;
        self.journal.write(self.subject.state)?;
        if self.journal.undoes.is_some() {
            // most of it, so that little is left to do while the service is stopped
            self.settle(&live, self.observer)?;
        }
        Ok(live)
    }

    // Gives live data most of its names, so that little is left to do while the service is stopped.
    fn carry_early(&self, live: &[Name]) -> Result<(), RollbackError> {
        match carry(&self.root(), &self.beside(), live) {
            // what its writer removes at this moment is seen again when the service is stopped
            Err(RollbackError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn build(
        &mut self,
        chosen: &Chosen,
        live: &[Name],
        beside: &Path,
    ) -> Result<Vec<LinkedFile>, RollbackError> {
        let (began, root) = (Instant::now(), self.root());
        let subvolume = btrfs::subvolume(&root).map_err(io_error("look at the subvolume", &root))?;
        if subvolume.is_some() {
            let report = build::from_subvolume(self.subject, chosen, live, beside, self.observer)?;
            let done = format!(
                "build the new tree: a copy of the subvolume, in which {} files were brought back and {} entries removed",
                report.files, report.deleted
            );
            self.note_step(&done, began, None);
            return Ok(Vec::new());
        }
        let (taken, linked) = build::build(self.subject, chosen, beside, self.observer)?;
        self.note_step(&build::told(&taken, chosen), began, None);
        Ok(linked)
    }

    fn note_linked(&mut self, linked: Linked) -> Result<(), RollbackError> {
        // named first: whoever is cut off here leaves nothing behind that nobody knows
        self.journal.linked = Some(self.journal.run_id.clone());
        self.journal.write(self.subject.state)?;
        linked.write(self.subject.state, &self.journal.run_id)?;
        self.linked = Some(linked);
        Ok(())
    }

    // Gives the tree that is to be the application files of its own, where those that both trees have were written to.
    fn settle(&mut self, carried: &[Name], observer: &dyn Observer) -> Result<(), RollbackError> {
        let Some(run_id) = self.journal.linked.clone() else { return Ok(()) };
        let began = Instant::now();
        let mut linked = match self.linked.take() {
            Some(linked) => linked,
            None => Linked::read(self.subject.state, &run_id)?,
        };
        let (root, beside) = (self.root(), self.beside());
        let count = linked.settle(self.subject, &run_id, (&beside, &root), carried, observer)?;
        self.linked = Some(linked);
        if count > 0 {
            let name = format!("fetch {count} files that were written to in both trees");
            self.note_step(&name, began, None);
        }
        Ok(())
    }

    // From the stop of the service to the exchange. An error is why it must go back.
    fn cross(&mut self, chosen: Option<&Chosen>) -> Result<(), String> {
        let state = self.subject.state;
        self.phase("stop", true);
        self.journal.was_running = self.service.as_ref().is_some_and(|s| s.state().is_running());
        self.journal.enter(Stage::Stopping, state).map_err(|e| e.to_string())?;
        self.stopped = self.service.as_ref().map(|_| Instant::now());
        self.stop()?;
        self.phase("exchange", true);
        let began = Instant::now();
        // what came up since the proposal is carried too
        self.look_for_live_data()?;
        if self.journal.way == Way::InPlace {
            self.journal.touched = true;
            self.journal.enter(Stage::InPlace, state).map_err(|e| e.to_string())?;
            let Some(chosen) = chosen else { return Err("there is no snapshot to go to".to_owned()) };
            let done = self.rewrite(chosen);
            self.note_step("rewrite the tree in place", began, done.as_ref().err().cloned());
            return done;
        }
        let carried = self.journal.carried.clone();
        self.settle(&carried, &self.resolute.clone()).map_err(|e| causes(&e))?;
        self.journal.enter(Stage::Exchanging, state).map_err(|e| e.to_string())?;
        let (root, beside) = (self.root(), self.beside());
        let done = carry(&root, &beside, &self.journal.carried)
            .and_then(|()| self.settle_names())
            .and_then(|()| exchange(&root, &beside));
        let done = done.map_err(|error| causes(&error));
        self.note_step("carry live data over and exchange the trees", began, done.as_ref().err().cloned());
        done
    }

    // Without live data nothing got a name since the new tree was made durable.
    fn settle_names(&self) -> Result<(), RollbackError> {
        if self.journal.carried.is_empty() { Ok(()) } else { settle_names(&self.beside()) }
    }

    // Notes what of the live tree stays as it is, besides what was noted before.
    fn look_for_live_data(&mut self) -> Result<(), String> {
        let found = Classes::of(&self.root(), &self.journal.rules).map_err(|e| causes(&e))?;
        self.note_live_data(found.staying(&self.journal.rules));
        Ok(())
    }

    fn note_live_data(&mut self, more: Vec<Name>) {
        let known: BTreeSet<_> = self.journal.carried.iter().map(|path| path.0.clone()).collect();
        self.journal.carried.extend(more.into_iter().filter(|path| !known.contains(&path.0)));
    }

    fn rewrite(&self, chosen: &Chosen) -> Result<(), String> {
        let selection = Selection::sparing(&self.journal.carried);
        let observer = self.resolute.clone();
        build::in_place(self.subject, chosen, selection, &self.journal.rules, &observer)
            .map_err(|e| causes(&e))
    }

    fn stop(&mut self) -> Result<(), String> {
        let Some(service) = &self.service else { return Ok(()) };
        let began = Instant::now();
        let stopped = service.stop(&self.resolute.clone());
        let failed = stopped.as_ref().err().map(|error| format!("{error}\n{}", error.output));
        self.note_step("stop the service", began, failed.clone());
        failed.map_or(Ok(()), Err)
    }

    // Back to how it was means that what did not run before does not run.
    fn start_again(&mut self) -> Result<(), String> {
        if self.journal.was_running { self.start() } else { Ok(()) }
    }

    fn start(&mut self) -> Result<(), String> {
        let Some(service) = self.service.clone() else { return Ok(()) };
        let began = Instant::now();
        let started = match service.state().is_running() {
            // it was started before this run was cut off
            true => service.wait_until_ready(&self.resolute.clone()).map(|_| ()).or_else(|error| {
                let ended = !service.state().is_running();
                if ended { service.start(&self.resolute.clone()).map(|_| ()) } else { Err(error) }
            }),
            false => service.start(&self.resolute.clone()).map(|_| ()),
        };
        let failed = started.as_ref().err().map(|error| format!("{error}\n{}", error.output));
        if let (Some(why), true) = (&failed, self.journal.accept_unhealthy) {
            self.note_step("start the service, which is accepted as it is", began, None);
            let is_up = service.state().is_running();
            let stands = if is_up { "runs and is not ready" } else { "does not run" };
            self.notes.push(format!("the service {stands}, which was accepted: {}", why.trim_end()));
            self.downtime = self.stopped.filter(|_| is_up).map(|stopped| stopped.elapsed());
            return Ok(());
        }
        self.note_step("start the service", began, failed.clone());
        match failed {
            Some(why) => Err(why),
            None => {
                self.downtime = self.stopped.map(|stopped| stopped.elapsed());
                Ok(())
            }
        }
    }

    /// From the exchange on: start, look, and done, or back.
    pub fn arrive(mut self) -> Outcome {
        self.phase("start", true);
        if let Err(error) = self.journal.enter(Stage::Starting, self.subject.state) {
            return self.back(error.to_string());
        }
        if let Err(why) = self.start() {
            return self.back(why);
        }
        self.phase("checks", false);
        if let Err(why) = self.look() {
            return self.back(why);
        }
        self.keep();
        self.over(Ended::Done)
    }

    // The checks that decide are those that a hotfix watches; what others say is told.
    fn look(&mut self) -> Result<(), String> {
        if self.service.is_none() {
            return Ok(());
        }
        let plan = self.subject.plan;
        let decides = |check: &Check| match &plan.hotfix.checks {
            Some(names) => names.iter().any(|name| name == check.name()),
            None => false,
        };
        let all: Vec<&Check> = plan.check.iter().collect();
        let context = check::Context::new(plan.directory());
        for (check, verdict) in all.iter().zip(check::run_all(&all, &context)) {
            if verdict.outcome == check::Outcome::Pass {
                self.recorder.check(&verdict);
            } else if decides(check) && verdict.required && !self.journal.accept_unhealthy {
                self.recorder.check(&verdict);
                return Err(format!("check {:?}: {}", verdict.name, verdict.reason));
            } else {
                self.notes.push(format!("check {:?} does not pass: {}", verdict.name, verdict.reason));
            }
        }
        Ok(())
    }

    // The earlier tree stays beside the new one for an undo; one from before that is not needed any more.
    fn keep(&mut self) {
        if self.journal.way == Way::InPlace {
            return;
        }
        // an undo has given it another tree by now, so that it is not asked whether it is there
        let earlier = Kept::written(self.subject.state).ok().flatten();
        // that of a run that was cut off here is ours
        if let Some(earlier) = earlier.filter(|earlier| earlier.run_id != self.journal.run_id) {
            // written down first: whoever is cut off here leaves it to the one that goes on
            self.journal.earlier = Some(earlier);
            let _ = self.journal.write(self.subject.state);
        }
        let kept = Kept {
            run_id: self.journal.run_id.clone(),
            root: self.journal.root.clone(),
            path: self.journal.beside.clone(),
            inode: self.journal.old_inode,
            snapshot: self.journal.safety,
            at: self.subject.repo.clock().now(),
            keeps_databases: self.journal.rules.keep_databases(),
            linked: self.journal.linked.clone(),
            going: false,
        };
        if let Err(error) = kept.write(self.subject.state) {
            self.notes
                .push(format!("the earlier tree is at {} and undo does not know it: {error}", kept.path));
            return;
        }
        // one from before that is not needed any more
        let Some(old) = self.journal.earlier.as_ref().filter(|old| old.path != self.journal.beside) else {
            return;
        };
        if let Err(error) = self.drop_old(old) {
            self.notes.push(causes(&error));
        }
    }

    fn drop_old(&self, old: &Kept) -> Result<(), RollbackError> {
        // one whose removal was cut off is not there for an undo, and there all the same
        if old.remains() {
            clear(Path::new(old.path.as_os_str()))?;
        }
        match &old.linked {
            Some(run_id) if old.linked != self.journal.linked => {
                Ok(Linked::forget(self.subject.state, run_id)?)
            }
            _ => Ok(()),
        }
    }

    // What an undo goes to is again what it was.
    fn forget_kept(&mut self) {
        let state = self.subject.state;
        let ours = Kept::written(state).ok().flatten().is_some_and(|kept| kept.run_id == self.journal.run_id);
        let done = match &self.journal.earlier {
            Some(earlier) => earlier.write(state),
            None if ours => Kept::forget(state),
            None => Ok(()),
        };
        if let Err(error) = done {
            self.notes.push(format!("what an undo goes to could not be remembered: {error}"));
        }
    }

    /// Back to how it was before.
    pub fn back(mut self, why: String) -> Outcome {
        self.phase("back", true);
        self.journal.why = Some(why.clone());
        // on the way back an application that is down is a failure, whatever was accepted on the way there
        self.journal.accept_unhealthy = false;
        self.service = service_of(self.subject);
        // what is not written down is found out by the inodes
        let _ = self.journal.enter(Stage::Reverting, self.subject.state);
        match self.undo_steps() {
            Ok(()) => {
                self.forget_kept();
                self.clear_away();
                self.over(Ended::Reverted { why })
            }
            Err(trouble) => {
                let (root, beside) = (&self.journal.root, &self.journal.beside);
                let commands = match self.journal.standing() {
                    Standing::New => vec![
                        format!("ls -ld {root} {beside}   # the new tree, and the one from before"),
                        "lifeboat rollback --abort".to_owned(),
                    ],
                    _ => vec![
                        format!("ls -ld {root} {beside}"),
                        "start the service by hand, then: lifeboat rollback --abort".to_owned(),
                    ],
                };
                self.over(Ended::Broken {
                    why: format!("{why}; and the way back failed: {trouble}"),
                    commands,
                })
            }
        }
    }

    fn undo_steps(&mut self) -> Result<(), String> {
        if self.journal.way == Way::InPlace {
            if self.journal.touched {
                self.stop()?;
                self.rewrite_back()?;
            }
            return self.start_again();
        }
        match self.journal.standing() {
            Standing::Strange => {
                return Err(format!("{} is neither the earlier tree nor the new one", self.journal.root));
            }
            // a service that was told to stop may still answer for a moment, and then end
            Standing::Old if self.resumed && self.journal.was_running => drop(self.stop()),
            Standing::Old => {}
            Standing::New => {
                self.stop()?;
                let began = Instant::now();
                let (root, beside) = (self.root(), self.beside());
                // with what was written since
                self.look_for_live_data()?;
                let carried = self.journal.carried.clone();
                if let Err(error) = self.settle(&carried, &self.resolute.clone()) {
                    // better a service that runs with a few files as they are than none
                    let why = causes(&error);
                    self.notes.push(format!(
                        "files that both trees have may be as the new service left them: {why}"
                    ));
                }
                let done = carry(&root, &beside, &self.journal.carried)
                    .and_then(|()| self.settle_names())
                    .and_then(|()| exchange(&root, &beside))
                    .map_err(|error| causes(&error));
                self.note_step("exchange the trees back", began, done.as_ref().err().cloned());
                done?;
            }
        }
        self.start_again()
    }

    fn rewrite_back(&mut self) -> Result<(), String> {
        let safety = self.journal.safety.ok_or("there is no safety snapshot to go back to")?;
        let goal = super::types::Goal::Snapshot(safety);
        let chosen = super::choose::choose(self.subject, goal).map_err(|e| causes(&e))?;
        self.look_for_live_data()?;
        let began = Instant::now();
        let done = self.rewrite(&chosen);
        self.note_step("rewrite the tree as it was before", began, done.as_ref().err().cloned());
        done
    }

    /// Removes the tree that was built, if it is not the application, and not one that an undo needs.
    pub fn clear_away(&mut self) {
        let is_ours = self.journal.undoes.is_none() && self.journal.way == Way::Exchange;
        self.clear_fetched();
        if !is_ours || self.journal.standing() != Standing::Old {
            return;
        }
        let cleared = clear(&self.beside()).map_err(|error| causes(&error));
        let forgotten =
            self.journal.linked.take().map_or(Ok(()), |run_id| Linked::forget(self.subject.state, &run_id));
        for why in [cleared, forgotten.map_err(|error| causes(&error))].into_iter().filter_map(Result::err) {
            self.notes.push(why);
        }
    }

    fn clear_fetched(&mut self) {
        if let Err(error) = clear(&fetched_beside(&self.beside())) {
            self.notes.push(causes(&error));
        }
    }

    fn over(mut self, ended: Ended) -> Outcome {
        self.observer.event(Event::Finished);
        self.recorder.end_phase();
        self.clear_fetched();
        let is_broken = matches!(ended, Ended::Broken { .. });
        // cut off between the two, it is recorded once more: better than not at all
        let tool = self.tool.take().and_then(|tool| tool.join().ok());
        let tool = tool.unwrap_or_else(|| facts::tool(&self.subject.program));
        let mut outcome = super::record::outcome(&self, ended, tool);
        if !is_broken && let Err(error) = Journal::close(self.subject.state) {
            let note = format!("it is over, and the journal could not be removed: {error}");
            outcome.evidence.deviations.push(note);
        }
        outcome
    }
}
