//! A sandbox as its owner sees it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{self, Child, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, pipe_with};

use super::active::Active;
use super::error::{Broken, SandboxError};
use super::pipes::{discard, forward, readable, stdin};
use super::probe;
use super::recipe::{Command, Ended, Recipe, Stream};
use super::wire::{self, Ask, Hello, Tell};

/// How often an interruption is looked for.
pub(super) const LOOK: Duration = Duration::from_millis(50);
/// How long a command whose time is over may take to end by itself.
const GRACE: Duration = Duration::from_millis(500);
/// How long a sandbox may take to start: it waits for nothing but the kernel.
const START: Duration = Duration::from_secs(30);
/// How long everything may take to die.
const CLOSE: Duration = Duration::from_secs(15);

/// A command that runs in the background, with everything it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Job(u64);

/// What closing a sandbox showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Processes that could not be killed; 0 is proved by the process that adopts all orphans having no child left.
    pub left: u64,
}

/// A place in which commands run apart from the host, or with the same rules but not apart.
///
/// Dropping it kills everything inside, and so does the end of this process, however it ends.
#[derive(Debug)]
pub struct Sandbox {
    helper: Child,
    control: Option<OwnedFd>,
    active: Active,
    next: u64,
    jobs: BTreeMap<u64, State>,
    took: Duration,
}

#[derive(Debug)]
struct State {
    program: String,
    since: Instant,
    ended: Option<Ended>,
    failed: Option<String>,
    gone: bool,
}

impl Sandbox {
    /// Starts a sandbox.
    ///
    /// # Errors
    /// [`SandboxError::Forbidden`] with the fix where the host does not allow it; others as named.
    pub fn start(recipe: &Recipe) -> Result<Self, SandboxError> {
        Self::begin(recipe, false)
    }

    /// Starts the same with no isolation at all: the host's files, network and processes. Commands are
    /// still ended as whole trees, at the latest when this process ends.
    ///
    /// # Errors
    /// As [`Sandbox::start`], but nothing is forbidden.
    pub fn unisolated(recipe: &Recipe) -> Result<Self, SandboxError> {
        Self::begin(recipe, true)
    }

    fn begin(recipe: &Recipe, unisolated: bool) -> Result<Self, SandboxError> {
        let begun = Instant::now();
        let talk = |error: rustix::io::Errno| SandboxError::Talk("making a socket", error.into());
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(talk)?;
        let mut command = process::Command::new(&recipe.program);
        command.arg("__sandbox").env_clear().current_dir("/").process_group(0);
        command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        let helper = command.spawn().map_err(|error| SandboxError::Start {
            program: recipe.program.display().to_string(),
            cause: error.to_string(),
        })?;
        drop(command);
        let active = Active {
            level: super::Level::None,
            mechanisms: Vec::new(),
            downgrades: Vec::new(),
            masked_sockets: Vec::new(),
            measured: Vec::new(),
        };
        let (next, jobs) = (0, BTreeMap::new());
        let mut sandbox = Self { helper, control: Some(ours), active, next, jobs, took: Duration::ZERO };
        let hello = Hello { recipe: recipe.clone(), unisolated };
        sandbox.send(&hello, &[])?;
        if !readable(sandbox.control()?, START).map_err(|e| SandboxError::Talk("waiting for it", e))? {
            return Err(SandboxError::Lost("starting"));
        }
        match sandbox.receive()? {
            Some(Tell::Ready { active }) => sandbox.active = active,
            Some(Tell::Broken { broken }) => return Err(refused(broken)),
            _ => return Err(SandboxError::Lost("starting")),
        }
        sandbox.took = begun.elapsed();
        Ok(sandbox)
    }

    /// What is really active, as measured from inside.
    pub fn active(&self) -> &Active {
        &self.active
    }

    /// How long the start took, measurements included.
    pub fn start_took(&self) -> Duration {
        self.took
    }

    /// Runs a command to its end, or to its limit of time. What it leaves in the background lives on until the sandbox is closed.
    ///
    /// `output` gets what it writes as it comes, and decides how much to keep. `interrupted` is asked
    /// about 20 times a second.
    ///
    /// # Errors
    /// If it cannot be started, if the sandbox is lost, or [`SandboxError::Interrupted`].
    pub fn run(
        &mut self,
        command: &Command,
        output: &mut dyn FnMut(Stream, &[u8]),
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Ended, SandboxError> {
        let (job, pipes) = self.ask_start(command)?;
        let mut pipes = pipes.map(Some);
        let since = Instant::now();
        let mut late = false;
        let ended = loop {
            self.wait(&pipes)?;
            forward(&mut pipes, output);
            if let Some(failed) = self.jobs.get_mut(&job.0).and_then(|state| state.failed.take()) {
                let program = self.jobs.remove(&job.0).map(|state| state.program).unwrap_or_default();
                return Err(SandboxError::Start { program, cause: failed });
            }
            if let Some(ended) = self.jobs.get(&job.0).and_then(|state| state.ended.clone()) {
                break ended;
            }
            if interrupted() {
                self.send(&Ask::Stop { job: job.0, grace_ms: 0 }, &[])?;
                return Err(SandboxError::Interrupted);
            }
            if !late && command.limit.is_some_and(|limit| since.elapsed() >= limit) {
                late = true;
                let grace_ms = u64::try_from(GRACE.as_millis()).unwrap_or_default();
                self.send(&Ask::Stop { job: job.0, grace_ms }, &[])?;
            }
        };
        if late {
            self.wait_gone(job, GRACE + CLOSE)?;
        }
        forward(&mut pipes, output);
        // something in the background may hold the pipes: it must not be stopped by their end
        discard(pipes.into_iter().flatten().collect());
        Ok(Ended { timed_out: late, ..ended })
    }

    /// Starts a command in the background; `output` gets what it writes, from a thread of its own.
    ///
    /// # Errors
    /// If the sandbox is lost. That the program cannot be started shows when it [`ended`](Self::ended).
    pub fn spawn(
        &mut self,
        command: &Command,
        mut output: impl FnMut(Stream, &[u8]) + Send + 'static,
    ) -> Result<Job, SandboxError> {
        let (job, pipes) = self.ask_start(command)?;
        std::thread::spawn(move || {
            let mut pipes = pipes.map(Some);
            while pipes.iter().any(Option::is_some) {
                let mut fds: Vec<PollFd<'_>> =
                    pipes.iter().flatten().map(|pipe| PollFd::new(pipe, PollFlags::IN)).collect();
                let _ = poll(&mut fds, None);
                forward(&mut pipes, &mut output);
            }
        });
        Ok(job)
    }

    /// How a background command ended; `None` while it runs.
    ///
    /// # Errors
    /// If it could not be started, or if the sandbox is lost.
    pub fn ended(&mut self, job: Job) -> Result<Option<Ended>, SandboxError> {
        while readable(self.control()?, Duration::ZERO).map_err(|e| SandboxError::Talk("waiting", e))? {
            self.hear("a command ran")?;
        }
        let Some(state) = self.jobs.get(&job.0) else { return Ok(None) };
        if let Some(cause) = &state.failed {
            return Err(SandboxError::Start { program: state.program.clone(), cause: cause.clone() });
        }
        Ok(state.ended.clone())
    }

    /// Asks everything of a job to end, kills what is left after the grace, and waits until nothing is left.
    ///
    /// # Errors
    /// If the sandbox is lost, or if something does not die.
    pub fn stop_job(&mut self, job: Job, grace: Duration) -> Result<Option<Ended>, SandboxError> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4);
        self.send(&Ask::Stop { job: job.0, grace_ms }, &[])?;
        self.wait_gone(job, grace.saturating_add(CLOSE))?;
        Ok(self.jobs.get(&job.0).and_then(|state| state.ended.clone()))
    }

    /// Ends the sandbox: kills everything inside, and says what is left.
    ///
    /// # Errors
    /// If the sandbox was lost before; everything in it is killed all the same.
    pub fn close(mut self) -> Result<Closed, SandboxError> {
        self.send(&Ask::Close, &[])?;
        let begun = Instant::now();
        let left = loop {
            let rest = CLOSE.saturating_sub(begun.elapsed());
            if !readable(self.control()?, rest).map_err(|e| SandboxError::Talk("closing it", e))? {
                return Err(SandboxError::Lost("closing"));
            }
            match self.receive()? {
                Some(Tell::Closed { left }) => break left,
                Some(_) => {}
                None => return Err(SandboxError::Lost("closing")),
            }
        };
        self.end();
        Ok(Closed { left })
    }

    fn ask_start(&mut self, command: &Command) -> Result<(Job, [File; 2]), SandboxError> {
        let talk = |error: rustix::io::Errno| SandboxError::Talk("making pipes", error.into());
        let stdin = stdin(&command.stdin)?;
        let (out, their_out) = pipe_with(PipeFlags::CLOEXEC).map_err(talk)?;
        let (err, their_err) = pipe_with(PipeFlags::CLOEXEC).map_err(talk)?;
        for ours in [&out, &err] {
            rustix::io::ioctl_fionbio(ours, true).map_err(talk)?;
        }
        let job = self.submit(command, [stdin.as_fd(), their_out.as_fd(), their_err.as_fd()])?;
        Ok((job, [out.into(), err.into()]))
    }

    pub(super) fn submit(
        &mut self,
        command: &Command,
        stdio: [BorrowedFd<'_>; 3],
    ) -> Result<Job, SandboxError> {
        let Some(program) = command.argv.first() else {
            return Err(SandboxError::Invalid("the command has no program".into()));
        };
        let program = program.to_string_lossy().into_owned();
        let job = self.next;
        self.next += 1;
        self.send(&Ask::Start { job, command: command.clone() }, &stdio)?;
        let state = State { program, since: Instant::now(), ended: None, failed: None, gone: false };
        self.jobs.insert(job, state);
        Ok(Job(job))
    }

    fn wait_gone(&mut self, job: Job, patience: Duration) -> Result<(), SandboxError> {
        let begun = Instant::now();
        while self.jobs.get(&job.0).is_some_and(|state| !state.gone) {
            let rest = patience.saturating_sub(begun.elapsed());
            if !readable(self.control()?, rest).map_err(|e| SandboxError::Talk("stopping", e))? {
                return Err(SandboxError::Invalid(
                    "a process in the sandbox does not end, even killed".into(),
                ));
            }
            self.hear("a job was stopped")?;
        }
        Ok(())
    }

    // Waits for output or news.
    fn wait(&mut self, pipes: &[Option<File>]) -> Result<(), SandboxError> {
        let control = self.control()?;
        let mut fds = vec![PollFd::new(control, PollFlags::IN)];
        fds.extend(pipes.iter().flatten().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let pause = Timespec::try_from(LOOK).ok();
        match poll(&mut fds, pause.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(SandboxError::Talk("waiting", error.into())),
        }
        if fds[0].revents().is_empty() { Ok(()) } else { self.hear("a command ran") }
    }

    fn hear(&mut self, doing: &'static str) -> Result<(), SandboxError> {
        let Some(tell) = self.receive()? else { return Err(SandboxError::Lost(doing)) };
        match tell {
            Tell::Ended { job, exit, signal, limit } => {
                if let Some(state) = self.jobs.get_mut(&job) {
                    let took = state.since.elapsed();
                    state.ended = Some(Ended { exit, signal, timed_out: false, limit, took });
                }
            }
            Tell::NotStarted { job, cause } => {
                if let Some(state) = self.jobs.get_mut(&job) {
                    state.failed = Some(cause);
                    state.gone = true;
                }
            }
            Tell::Gone { job } => {
                if let Some(state) = self.jobs.get_mut(&job) {
                    state.gone = true;
                }
            }
            Tell::Broken { broken } => return Err(refused(broken)),
            Tell::Ready { .. } | Tell::Closed { .. } => {}
        }
        Ok(())
    }

    pub(super) fn control(&self) -> Result<&OwnedFd, SandboxError> {
        self.control.as_ref().ok_or(SandboxError::Lost("it was used after its end"))
    }

    fn send<T: serde::Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> Result<(), SandboxError> {
        wire::send(self.control()?.as_fd(), message, fds).map_err(|e| SandboxError::Talk("sending", e))
    }

    fn receive(&self) -> Result<Option<Tell>, SandboxError> {
        let message = wire::receive(self.control()?).map_err(|e| SandboxError::Talk("receiving", e))?;
        Ok(message.map(|(tell, _)| tell))
    }

    // Hangs up, which kills everything, and waits for the helper to be gone.
    fn end(&mut self) {
        self.control = None;
        let begun = Instant::now();
        while matches!(self.helper.try_wait(), Ok(None)) {
            if begun.elapsed() > CLOSE {
                // its child dies with it
                let _ = self.helper.kill();
                let _ = self.helper.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.end();
    }
}

fn refused(broken: Broken) -> SandboxError {
    let Broken { step, cause, forbidden } = broken;
    if !forbidden {
        return SandboxError::Setup { step, cause };
    }
    let (who, fix) = probe::advice(&step);
    SandboxError::Forbidden { who, step, cause, fix }
}
