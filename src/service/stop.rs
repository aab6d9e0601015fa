//! The stop: told first, then waited for, then killed, and only those that are known to be meant.

use std::collections::HashSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::memory::{REAPED, lines};
use super::sight::words;
use super::{Control, Service, ServiceError, ServiceErrorKind, Sight, State, unit};
use crate::base::event::{Event, Notice, Observer};
use crate::base::size;
use crate::check::value::CommandLine;
use crate::sys::process::{Ended, Run};
use crate::sys::process_tree::{Member, is_alive, signal_all, wait_until_reaped};

/// Between two looks whether the known processes are gone.
const PAUSE: Duration = Duration::from_millis(10);
/// Between two looks whether there are others.
const AGAIN: Duration = Duration::from_millis(200);
/// How long what was killed may take to be gone.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// A service that was stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// How long it took.
    pub took: Duration,
    /// How many of its processes ended; 0 if none was known.
    pub ended: usize,
    /// How many had to be killed.
    pub killed: usize,
    /// The last lines that the stop command printed; safe for a terminal.
    pub output: String,
}

impl Service {
    /// Stops it and waits until every process of it is gone. One that does not run is stopped already.
    ///
    /// # Errors
    /// If it cannot be stopped, or not be said to be.
    pub fn stop(&self, observer: &dyn Observer) -> Result<Stopped, ServiceError> {
        let began = Instant::now();
        let before = self.state();
        if before.state == State::Stopped {
            return Ok(Stopped { took: began.elapsed(), ..Stopped::default() });
        }
        self.refuse_doubt(&before)?;
        let mut watched = Watched::new(&before);
        let told = self.tell_to_stop(&before, observer)?;
        let output = told.as_ref().map(|ended| lines(&both(ended))).unwrap_or_default();
        if observer.interrupted() {
            return Err(ServiceError::interrupted().output(output));
        }
        let failed = told.as_ref().filter(|ended| !ended.is_success());
        watched.add(&self.state());
        if let Some(ended) = failed {
            let how = format!("the command that stops the service {}", ended.how());
            if watched.known.is_empty() {
                return Err(ServiceError::new(ServiceErrorKind::Command, how).output(output));
            }
            if !watched.living().is_empty() {
                notice(observer, "service-told", format!("{how}; its processes are sent TERM"));
                signal_all(&watched.living(), Signal::TERM);
            }
        }
        let killed = self.wait_until_gone(&mut watched, began, observer)?;
        wait_until_reaped(&watched.known.iter().copied().collect::<Vec<_>>(), REAPED);
        Ok(Stopped { took: began.elapsed(), ended: watched.known.len(), killed, output })
    }

    // A PID file that names somebody else: a stop command that trusts it would hit the wrong one.
    fn refuse_doubt(&self, sight: &Sight) -> Result<(), ServiceError> {
        let State::Unknown { why } = &sight.state else { return Ok(()) };
        let by_command = matches!(&self.control, Control::Commands { stop: Some(_), pidfile: None, .. });
        if by_command {
            return Ok(());
        }
        Err(ServiceError::new(
            ServiceErrorKind::Unknown,
            format!("it is not known whether the service runs: {why}; nothing was signalled"),
        )
        .next("stop it by hand, and remove the PID file if it is stale"))
    }

    fn tell_to_stop(&self, before: &Sight, observer: &dyn Observer) -> Result<Option<Ended>, ServiceError> {
        let interrupted = || observer.interrupted();
        match &self.control {
            // systemd has a limit of its own, after which it kills
            Control::Unit(name) => unit::tell("stop", name, self.stop_timeout, &interrupted).map(Some),
            Control::Commands { stop: Some(line), .. } => self.run_stop(line, &interrupted).map(Some),
            Control::Commands { stop: None, .. } => {
                let main = before.members.iter().filter(|member| Some(member.pid) == before.main);
                let main: Vec<Member> = main.copied().collect();
                // who leads ends the others in its own order
                signal_all(if main.is_empty() { &before.members } else { &main }, Signal::TERM);
                Ok(None)
            }
        }
    }

    fn run_stop(&self, line: &CommandLine, interrupted: &dyn Fn() -> bool) -> Result<Ended, ServiceError> {
        let run = Run {
            directory: Some(self.directory.clone()),
            limit: Some(self.stop_timeout),
            ..Run::new(line.program())
        };
        run.run(interrupted)
            .map_err(|error| ServiceError::io("run the command that stops the service", &error))
    }

    // Until nothing of it lives. How many had to be killed.
    fn wait_until_gone(
        &self,
        watched: &mut Watched,
        began: Instant,
        observer: &dyn Observer,
    ) -> Result<usize, ServiceError> {
        let mut looked = Instant::now();
        let mut killed = 0;
        let mut deadline = began + self.stop_timeout;
        loop {
            let living = watched.living();
            let is_time = looked.elapsed() >= AGAIN;
            if living.is_empty() || is_time {
                looked = Instant::now();
                let sight = self.state();
                watched.add(&sight);
                if living.is_empty() && watched.living().is_empty() {
                    return self.is_gone(&sight).map(|()| killed);
                }
            }
            if observer.interrupted() {
                return Err(ServiceError::interrupted());
            }
            if Instant::now() >= deadline {
                let living = watched.living();
                if killed > 0 {
                    return Err(still_running(&living, "and KILL did not end them"));
                }
                killed = living.len();
                notice(observer, "service-killed", killing(&living, self.stop_timeout));
                signal_all(&living, Signal::KILL);
                deadline = Instant::now() + AFTER_KILL;
            }
            sleep(PAUSE);
        }
    }

    // No process is left that is known; whether the manager thinks so too.
    fn is_gone(&self, sight: &Sight) -> Result<(), ServiceError> {
        match (&self.control, &sight.state) {
            (Control::Unit(_), State::Running) => Err(ServiceError::new(
                ServiceErrorKind::StillRunning,
                "systemd still calls the unit active after it was stopped",
            )),
            (Control::Commands { pidfile: Some(_), .. }, State::Unknown { why }) => {
                Err(ServiceError::new(ServiceErrorKind::Unknown, format!("after the stop, {why}")))
            }
            _ => Ok(()),
        }
    }
}

// The processes that were ever seen to be the service's.
struct Watched {
    known: HashSet<Member>,
}

impl Watched {
    fn new(sight: &Sight) -> Self {
        Self { known: sight.members.iter().copied().collect() }
    }

    fn add(&mut self, sight: &Sight) {
        self.known.extend(&sight.members);
    }

    fn living(&self) -> Vec<Member> {
        self.known.iter().copied().filter(|member| is_alive(*member)).collect()
    }
}

pub(super) fn both(ended: &Ended) -> Vec<u8> {
    let mut text = ended.stdout.text();
    text.extend(ended.stderr.text());
    text
}

fn named(members: &[Member]) -> String {
    let mut pids: Vec<i32> = members.iter().map(|member| member.pid).collect();
    pids.sort_unstable();
    let shown: Vec<String> = pids.iter().take(5).map(|pid| words(*pid)).collect();
    let more = pids.len().saturating_sub(shown.len());
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join(", "))
}

fn killing(members: &[Member], after: Duration) -> String {
    format!("the service did not stop in {}; killed now: {}", size::duration(after), named(members))
}

fn still_running(members: &[Member], how: &str) -> ServiceError {
    let text = format!("the service does not stop: {} live on, {how}", named(members));
    ServiceError::new(ServiceErrorKind::StillRunning, text)
}

pub(super) fn notice(observer: &dyn Observer, code: &'static str, text: String) {
    observer.event(Event::Notice(&Notice { code, subject: None, text }));
}
