//! The change itself, and what follows it at once: the service and the tests.

use std::time::{Duration, Instant};

use super::armed::Stage;
use super::run::{Guard, Next};
use super::touched::touched;
use super::types::{Change, Message};
use crate::check::value::CommandLine;
use crate::drill::recorder::{Recorder, Result as StepResult};
use crate::evidence::Outcome;
use crate::repo::documents::Snapshot;
use crate::rollback;
use crate::service::{ServiceError, State};
use crate::sys::process::{Ended, Program, Run, new_mark};
use crate::sys::process_facts::age;

impl Guard<'_> {
    /// Runs the command.
    pub(super) fn change(&mut self) -> Next {
        let Change::Command(_) = self.armed.change else { return Next::GoOn };
        self.armed.marks = self.watched.marks(&self.armed.marks);
        self.armed.changed = Some(self.subject.repo.clock().now());
        let mark = new_mark();
        self.armed.mark = Some(mark.to_string_lossy().into_owned());
        if let Err(error) = self.enter(Stage::Changing) {
            // it has not begun: there is nothing to take back
            self.armed.stage = Stage::Armed;
            return Next::Leave {
                why: format!("it could not be remembered that the command begins: {error}"),
            };
        }
        let name = self.armed.change.shown();
        let began = self.begins("change", &name);
        let run = Run {
            mark: Some(mark.clone()),
            directory: Some(self.armed.directory.clone()),
            limit: Some(self.subject.plan.hotfix.command_timeout.0),
            // it may start the service anew
            leave: true,
            merge: true,
            ..Run::new(Program::Argv(self.armed.change.words()))
        };
        let running = match run.start() {
            Ok(running) => running,
            Err(error) => return self.not_begun(&name, began, error),
        };
        let result = running.wait(&|| self.ear.wish().is_some());
        let why = self.note_command("change", &name, began, result);
        if let Some(Err(error)) = self.service.as_ref().map(|service| service.adopt(&mark)) {
            self.note(&format!("what the change left running could not be remembered: {error}"));
        }
        self.look_what_was_touched();
        match (self.ear.next(), why) {
            (Some(next @ (Next::Back { .. } | Next::Leave { .. })), _) => next,
            (_, Some(why)) => Next::bad(format!("the change failed: {why}")),
            (_, None) => Next::GoOn,
        }
    }

    // A command that did not begin has changed nothing: there is nothing to take back.
    fn not_begun(&mut self, name: &str, began: Instant, error: std::io::Error) -> Next {
        let why = self.note_command("change", name, began, Err(error)).unwrap_or_default();
        self.armed.stage = Stage::Armed;
        Next::Leave { why: format!("{name}: {why}; nothing was changed, and nothing is rolled back") }
    }

    // Why a command did not go well.
    fn note_command(
        &mut self,
        phase: &'static str,
        name: &str,
        began: Instant,
        result: std::io::Result<Ended>,
    ) -> Option<String> {
        let (result, why) = match result {
            Err(error) => {
                let why = format!("it cannot be started: {error}");
                (StepResult::of(Outcome::Fail, why.clone()), Some(why))
            }
            Ok(ended) => {
                let mut output = Recorder::collector();
                output.push(&ended.stdout.text());
                output.push(&ended.stderr.text());
                let (outcome, why) = match ended.is_success() {
                    true => (Outcome::Pass, None),
                    false if ended.interrupted => (Outcome::Skip, Some(ended.how())),
                    false => (Outcome::Fail, Some(ended.how())),
                };
                let reason = why.clone().unwrap_or_default();
                (
                    StepResult { exit: ended.exit, output: Some(output), ..StepResult::of(outcome, reason) },
                    why,
                )
            }
        };
        self.ended(phase, name, began, result);
        why
    }

    /// The service, the tests, and what was touched.
    pub(super) fn settle(&mut self) -> Next {
        if let Err(error) = self.enter(Stage::Settling) {
            return Next::bad(format!("it could not be remembered how far the change is: {error}"));
        }
        if self.armed.touched.is_none() {
            // a change by hand
            self.look_what_was_touched();
        }
        let next = self.bring_up();
        if next != Next::GoOn {
            return next;
        }
        self.say_if_not_restarted();
        self.test()
    }

    // The service runs, and is ready.
    pub(super) fn bring_up(&mut self) -> Next {
        let Some(service) = self.service.clone() else { return Next::GoOn };
        let state = service.state().state;
        let (what, restart) = match (&state, self.armed.restart) {
            (_, true) => ("restart the service", true),
            (State::Stopped, false) if !self.armed.was_running => return Next::GoOn,
            (State::Stopped, false) => ("start the service, which the change left stopped", false),
            _ => ("the service is ready", false),
        };
        let began = self.begins("service", what);
        let result = match (restart, &state) {
            (true, _) => service.stop(&self.ear).and_then(|_| service.start(&self.ear).map(drop)),
            (false, State::Stopped) => service.start(&self.ear).map(drop),
            (false, _) => service.wait_until_ready(&self.ear).map(drop),
        };
        if let Err(ServiceError { text, output, .. }) = result {
            let mut collector = Recorder::collector();
            collector.push(output.as_bytes());
            let failed =
                StepResult { output: Some(collector), ..StepResult::of(Outcome::Fail, text.clone()) };
            let next = self.ear.next();
            self.ended("service", what, began, failed);
            return next.unwrap_or_else(|| Next::bad(text));
        }
        self.ended("service", what, began, StepResult::pass());
        Next::GoOn
    }

    fn test(&mut self) -> Next {
        let lines: Vec<CommandLine> = self.subject.plan.hotfix.verify.clone();
        for line in lines {
            let name = line.to_string();
            let began = self.begins("verify", &name);
            let run = Run {
                directory: Some(self.subject.plan.directory().to_owned()),
                limit: Some(self.subject.plan.hotfix.command_timeout.0),
                merge: true,
                ..Run::new(line.program())
            };
            let result = run.run(&|| self.ear.wish().is_some());
            let why = self.note_command("verify", &name, began, result);
            if let Some(next) = self.ear.next() {
                return next;
            }
            if let Some(why) = why {
                return Next::bad(format!("{name} {why}"));
            }
        }
        Next::GoOn
    }

    // For people: nothing is decided by it, so that it cannot be found out is told and no more.
    fn look_what_was_touched(&mut self) {
        let subject = self.subject;
        let found = subject.repo.document(self.armed.before).map_err(Into::into).and_then(|document| {
            let snapshot = Snapshot { id: self.armed.before, document, forgotten: false };
            touched(subject.repo, subject.plan, &snapshot)
        });
        match found {
            Ok(touched) => {
                self.tell(&Message::Touched { touched: &touched });
                self.armed.touched = Some(touched);
                self.say_if_schemas_changed();
            }
            Err(error) => self.note(&format!("what the change touched could not be found out: {error}")),
        }
    }

    fn say_if_schemas_changed(&self) {
        // a snapshot that cannot be read was told already
        let Ok(document) = self.subject.repo.document(self.armed.before) else { return };
        for path in rollback::other_schemas(self.subject, &document) {
            self.note(&format!(
                "the database {path} has another schema since the change; a rollback brings back schema and rows together"
            ));
        }
    }

    fn say_if_not_restarted(&self) {
        let Some(changed) = self.armed.changed else { return };
        let sight = self.service.as_ref().map(crate::service::Service::state);
        let since = self.subject.repo.clock().now().since(changed);
        let leader = sight.as_ref().and_then(super::look::leader);
        let is_older = leader.is_some_and(|leader| age(leader) > since + Duration::from_secs(1));
        if is_older && self.armed.touched.as_ref().is_some_and(|touched| touched.total() > touched.metadata) {
            self.note(
                "the service was not restarted: what it loaded before the change may still run (--restart)",
            );
        }
    }
}
