//! The server of the copy: its start, when it counts as up, the checks of it, its stop.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use super::recorder::Result as StepResult;
use super::rehearsal::{FOREVER, Run};
use super::sabotage::Sabotage;
use super::stage::Stage;
use crate::check::{Check, Kind as CheckKind, Outcome as CheckOutcome};
use crate::evidence::Outcome;
use crate::evidence::verdict::SERVER;
use crate::plan::Plan;
use crate::service::ready::{self, NotReady, Wait};

impl Run<'_> {
    /// From the server's start to its stop, and what the plan's checks say meanwhile.
    pub(super) fn serve_and_look(&mut self, stage: &mut Stage<'_>) {
        let drill = &self.subject.plan.drill;
        let grace = drill.stop_timeout.0;
        let ready = match self.server().cloned() {
            None => {
                self.not_tested.push("the server's start: the plan names none".to_owned());
                self.recovery = Some(self.recorder.recovery());
                true
            }
            Some(_) if !self.can_be_ready() => false,
            Some(line) => {
                self.phase(SERVER, true);
                self.is_silent(stage)
                    && match stage.serve(&line) {
                        Ok(()) => self.wait_until_ready(stage),
                        Err(error) => {
                            self.recorder.fault(error.to_string());
                            false
                        }
                    }
            }
        };
        if !ready {
            return;
        }
        let was_stopped = self.stop_too_early(stage, grace);
        self.phase("checks", false);
        for check in chosen_checks(self.subject.plan) {
            let verdict = stage.look(check, self.within(FOREVER));
            self.recorder.check(&verdict);
        }
        self.shell(stage);
        if was_stopped {
            return;
        }
        let trouble = match stage.server_ended() {
            Ok(None) => self.has_gone(stage),
            Ok(Some((outcome, how))) => Some((outcome, format!("it did not live through the checks: {how}"))),
            Err(error) => Some((Outcome::Error, error.to_string())),
        };
        self.phase("stop", false);
        if let Some(line) = drill.stop.as_ref().filter(|_| stage.has_server()) {
            // what it asks for may take its time
            if stage.step(line, self.within(grace), &mut self.recorder) {
                stage.wait_for_server(self.within(grace));
            }
        }
        stage.stop_server(grace, trouble, &mut self.recorder);
    }

    // Where no check says when a server is ready, it would be so at once, even if it never starts.
    fn can_be_ready(&mut self) -> bool {
        let says = |check: &&Check| !matches!(&check.kind, CheckKind::Port(port) if port.closed);
        if self.ready_checks().iter().any(says) {
            return true;
        }
        let why = "it was not started, for no check of the plan says when it is ready: name one in drill.ready, \
                   such as a check of its port";
        let result = StepResult::of(Outcome::Skip, why);
        self.recorder.own_check("the server is ready".to_owned(), "ready", false, Duration::ZERO, result);
        false
    }

    // A command that returned with 0 has left its server behind, and whether that lives only its checks can say.
    fn has_gone(&mut self, stage: &mut Stage<'_>) -> Option<(Outcome, String)> {
        if !stage.server_returned() {
            return None;
        }
        let limit = self.within(FOREVER);
        let looked = self.ready_checks().into_iter().map(|check| stage.look(check, limit));
        let gone = looked.into_iter().find(|verdict| verdict.outcome != CheckOutcome::Pass)?;
        let why = format!("it did not live through the checks: {}: {}", gone.name, gone.reason);
        Some((Outcome::Fail, why))
    }

    // The sabotage that is not done to files.
    fn stop_too_early(&mut self, stage: &mut Stage<'_>, grace: Duration) -> bool {
        let Some(spoil) = self.spoil.as_mut().filter(|spoil| spoil.sabotage == Sabotage::StoppedServer)
        else {
            return false;
        };
        stage.stop_server(grace, None, &mut self.recorder);
        spoil.done = Ok("the server stopped after it was ready".to_owned());
        true
    }

    // Ready is what was seen so often in a row: a server that dies after its first answer is not.
    fn wait_until_ready(&mut self, stage: &mut Stage<'_>) -> bool {
        let drill = &self.subject.plan.drill;
        let checks: Vec<Check> = self.ready_checks().into_iter().cloned().collect();
        let patience = self.within(drill.ready_timeout.0);
        let patience = self.spoil.as_ref().map_or(patience, |spoil| patience.min(spoil.patience));
        let began = Instant::now();
        let inside = RefCell::new(&mut *stage);
        let blamed = Cell::new(Outcome::Fail);
        let waited = ready::wait(Wait {
            checks: &checks,
            count: drill.ready_count,
            look: &mut |check: &Check| inside.borrow_mut().look(check, self.within(FOREVER)),
            ended: &mut || match inside.borrow_mut().server_ended() {
                Ok(ended) => ended.map(|(outcome, how)| {
                    blamed.set(outcome);
                    format!("the server ended before it was ready: {how}")
                }),
                Err(error) => Some(format!("the server could not be started: {error}")),
            },
            late: &mut || began.elapsed() > patience,
            interrupted: &|| self.observer.interrupted(),
        });
        let trouble = match waited {
            Ok(()) => {
                self.recovery = Some(self.recorder.recovery());
                return true;
            }
            Err(NotReady::Interrupted) => {
                self.recorder.fault("interrupted");
                "interrupted".to_owned()
            }
            Err(NotReady::Ended(why)) => why,
            Err(NotReady::Late(last)) => format!("it was not ready in {} s; {last}", patience.as_secs()),
        };
        let trouble = Some((blamed.get(), trouble));
        stage.stop_server(drill.stop_timeout.0, trouble, &mut self.recorder);
        false
    }
}

fn chosen_checks(plan: &Plan) -> Vec<&Check> {
    match &plan.drill.checks {
        None => plan.check.iter().collect(),
        Some(names) => names.iter().filter_map(|name| plan.check_named(name)).collect(),
    }
}
