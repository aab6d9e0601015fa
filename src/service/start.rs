//! The start: the command, then readiness.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use super::memory::{last_lines, lines};
use super::ready::{self, NotReady, Wait};
use super::stop::both;
use super::{Control, Service, ServiceError, ServiceErrorKind, State, unit};
use crate::base::event::Observer;
use crate::base::size;
use crate::check::value::CommandLine;
use crate::check::{Check, Context};
use crate::sys::host;
use crate::sys::names::{login, user_with_groups};
use crate::sys::process::{Run, Running, User, end_all, new_mark, tree};

/// Between two looks whether its processes are still there.
const AGAIN: Duration = Duration::from_millis(500);
/// A daemon may be so long between its parent's end and its PID file.
const SETTLE: Duration = Duration::from_secs(2);

/// A service that was started and is ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Started {
    /// How long it took until it was ready.
    pub took: Duration,
    /// How long the start command took; `None` if it goes on running.
    pub command_took: Option<Duration>,
    /// The process that leads it, if one is known to.
    pub main: Option<i32>,
    /// The last lines that the start printed; safe for a terminal.
    pub output: String,
}

// A start command on its way.
struct Launch {
    running: Option<Running>,
    leader: i32,
    mark: OsString,
    output: File,
    began: Instant,
    returned: Option<Instant>,
}

impl Service {
    /// Starts it and waits until it is ready. A start that fails, or is interrupted, leaves nothing of it running, unless
    /// [`Self::keeping_unready`] wants it so.
    ///
    /// # Errors
    /// Why it is not ready, with the last lines of what the start printed.
    pub fn start(&self, observer: &dyn Observer) -> Result<Started, ServiceError> {
        self.can_start()?;
        let before = self.state();
        if before.is_running() {
            let pids = before.pids().iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
            let text = format!("the service runs already, as process {pids}");
            return Err(ServiceError::new(ServiceErrorKind::Running, text).next("stop it first"));
        }
        self.wait_for_the_dead();
        match &self.control {
            Control::Unit(name) => self.start_unit(name, observer),
            Control::Commands { start: Some(line), .. } => self.start_command(line, observer),
            Control::Commands { start: None, .. } => {
                self.can_start().map_err(Into::into).map(|()| Started::default())
            }
        }
    }

    /// Waits until it is ready, whoever started it. How long that took.
    ///
    /// # Errors
    /// Why it is not.
    pub fn wait_until_ready(&self, observer: &dyn Observer) -> Result<Duration, ServiceError> {
        let began = Instant::now();
        let mut gone = Gone::default();
        self.wait(observer, &mut || gone.ended(self), &mut || began.elapsed() > self.ready_timeout)
            .map_err(|why| self.not_ready(why, began.elapsed()))?;
        Ok(began.elapsed())
    }

    fn wait(
        &self,
        observer: &dyn Observer,
        ended: &mut dyn FnMut() -> Option<String>,
        late: &mut dyn FnMut() -> bool,
    ) -> Result<(), NotReady> {
        let context = Context::new(&self.directory);
        ready::wait(Wait {
            checks: &self.ready,
            count: self.ready_count,
            look: &mut |check: &Check| check.run(&context),
            ended,
            late,
            interrupted: &|| observer.interrupted(),
        })
    }

    fn not_ready(&self, why: NotReady, after: Duration) -> ServiceError {
        match why {
            NotReady::Interrupted => ServiceError::interrupted(),
            NotReady::Ended(why) => ServiceError::new(
                ServiceErrorKind::NotReady,
                format!("the service ended before it was ready: {why}"),
            ),
            NotReady::Late(last) => {
                let after = size::duration(after);
                let last = if last.is_empty() { last } else { format!("; {last}") };
                ServiceError::new(
                    ServiceErrorKind::NotReady,
                    format!("the service was not ready in {after}{last}"),
                )
            }
        }
    }

    fn start_command(&self, line: &CommandLine, observer: &dyn Observer) -> Result<Started, ServiceError> {
        let mut launch = self.launch(line)?;
        let mut gone = Gone::default();
        let launched = std::cell::RefCell::new(&mut launch);
        let result = self.wait(observer, &mut || launched.borrow_mut().ended(self, &mut gone), &mut || {
            launched.borrow().is_late(self)
        });
        match result {
            Ok(()) => Ok(self.keep(launch)),
            Err(why) => {
                let took = launch.began.elapsed();
                let stays = self.keeps_unready && why != NotReady::Interrupted;
                let output = if stays { self.keep(launch).output } else { launch.end(self.stop_timeout) };
                Err(self.not_ready(why, took).output(output))
            }
        }
    }

    fn launch(&self, line: &CommandLine) -> Result<Launch, ServiceError> {
        let mark = new_mark();
        // before it begins, so that whatever happens next it is known whose processes they are
        self.remember(&mark, &[])?;
        let output = self.output_file()?;
        let user = self.runs_as()?;
        let mut environment = Vec::new();
        if let Some((name, home)) = user.as_ref().and_then(|user| login(user.0)) {
            environment.push(("HOME".into(), home.into_os_string()));
            environment.push(("USER".into(), name.clone().into()));
            environment.push(("LOGNAME".into(), name.into()));
        }
        let copy = output.try_clone().map_err(|error| ServiceError::io("share the output's file", &error))?;
        let run = Run {
            directory: Some(self.directory.clone()),
            leave: true,
            output: Some(copy),
            mark: Some(mark.clone()),
            environment,
            user,
            ..Run::new(line.program())
        };
        let running = run.start().map_err(|error| {
            ServiceError::new(ServiceErrorKind::Command, format!("the service could not be started: {error}"))
                .next("service.start of the plan says how it is started")
        })?;
        let leader = running.pid();
        Ok(Launch { running: Some(running), leader, mark, output, began: Instant::now(), returned: None })
    }

    // Whom the application belongs to: root starts it as that user.
    fn runs_as(&self) -> Result<Option<User>, ServiceError> {
        if !host::is_root() {
            return Ok(None);
        }
        if let Some(name) = &self.user {
            let found = user_with_groups(name).ok_or_else(|| {
                let text = format!("app.user is {name:?}, and this host knows no such user");
                ServiceError::new(ServiceErrorKind::Missing, text)
            })?;
            return Ok(Some(found).filter(|user| user.0 != 0));
        }
        let data = std::fs::metadata(&self.root)
            .map_err(|error| ServiceError::io("look at the application's root", &error))?;
        if data.uid() == 0 {
            return Ok(None);
        }
        let unnamed = || (data.uid(), data.gid(), Vec::new());
        Ok(Some(user_with_groups(&data.uid().to_string()).unwrap_or_else(unnamed)))
    }

    fn keep(&self, launch: Launch) -> Started {
        let took = launch.began.elapsed();
        let output = last_lines(&launch.output);
        let members = tree(launch.leader, &launch.mark);
        // it runs and is ready: that it may not be remembered by number, its mark still is
        let _ = self.remember(&launch.mark, &members);
        let command_took = launch.returned.map(|at| at.duration_since(launch.began));
        if let Some(running) = launch.running {
            running.release();
        }
        Started { took, command_took, main: self.state().main, output }
    }

    fn start_unit(&self, name: &str, observer: &dyn Observer) -> Result<Started, ServiceError> {
        let began = Instant::now();
        let told = unit::tell("start", name, self.start_timeout, &|| observer.interrupted())?;
        if told.interrupted {
            return Err(self.stop_unit(name, ServiceError::interrupted()));
        }
        if !told.is_success() {
            let journal = unit::journal(name);
            let said = if journal.is_empty() { lines(&both(&told)) } else { journal };
            let text = format!("systemctl start {}", told.how());
            let error = ServiceError::new(ServiceErrorKind::Command, text)
                .next("systemctl status and journalctl -u say more")
                .output(said);
            return Err(self.stop_unit(name, error));
        }
        let command_took = Some(began.elapsed());
        match self.wait_until_ready(observer) {
            Ok(_) => Ok(Started {
                took: began.elapsed(),
                command_took,
                main: self.state().main,
                output: lines(&both(&told)),
            }),
            Err(error) if self.keeps_unready && error.kind == ServiceErrorKind::NotReady => {
                Err(error.output(unit::journal(name)))
            }
            Err(error) => {
                let journal = unit::journal(name);
                Err(self.stop_unit(name, error.output(journal)))
            }
        }
    }

    // What failed to start is not left half alive, where systemd would try again and again.
    fn stop_unit(&self, name: &str, error: ServiceError) -> ServiceError {
        match unit::tell("stop", name, self.stop_timeout, &|| false) {
            Ok(ended) if ended.is_success() => error,
            Ok(ended) => {
                ServiceError { text: format!("{}; and systemctl stop {}", error.text, ended.how()), ..error }
            }
            Err(other) => ServiceError { text: format!("{}; and {}", error.text, other.text), ..error },
        }
    }
}

impl Launch {
    // Why there is nothing to wait for any more.
    fn ended(&mut self, service: &Service, gone: &mut Gone) -> Option<String> {
        if self.running.as_ref().is_some_and(Running::has_ended) {
            self.returned = Some(Instant::now());
            let ended = self.running.take()?.wait(&|| false);
            match ended {
                Err(error) => return Some(error.to_string()),
                Ok(ended) if !ended.is_success() => {
                    return Some(format!("the start command {}", ended.how()));
                }
                Ok(_) => {}
            }
        }
        if self.running.is_some() { None } else { gone.ended(service) }
    }

    fn is_late(&self, service: &Service) -> bool {
        match self.returned {
            // it may be the server itself, or one that takes long to return
            None => self.began.elapsed() > service.ready_timeout.max(service.start_timeout),
            Some(at) => {
                at.elapsed() > service.ready_timeout || at.duration_since(self.began) > service.start_timeout
            }
        }
    }

    // Takes all of it down. What it printed.
    fn end(self, grace: Duration) -> String {
        end_all(&|| tree(self.leader, &self.mark), grace);
        if let Some(running) = self.running {
            // reaps it; how it ended is known
            let _ = running.stop();
        }
        last_lines(&self.output)
    }
}

// Notices that a service has gone: its processes were seen, or should have been by now, and are not there.
#[derive(Default)]
struct Gone {
    looked: Option<Instant>,
    missing: Option<Instant>,
}

impl Gone {
    fn ended(&mut self, service: &Service) -> Option<String> {
        if self.looked.is_some_and(|at| at.elapsed() < AGAIN) {
            return None;
        }
        self.looked = Some(Instant::now());
        match service.state().state {
            State::Stopped => {
                let since = *self.missing.get_or_insert_with(Instant::now);
                (since.elapsed() >= SETTLE).then(|| "none of its processes lives".to_owned())
            }
            _ => {
                self.missing = None;
                None
            }
        }
    }
}
