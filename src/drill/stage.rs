//! The sandbox as a drill uses it: commands become steps, checks are run by this program inside.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::environment::variables;
use super::recorder::{Recorder, Result as StepResult};
use super::{DrillError, Options, Subject};
use crate::base::event::Observer;
use crate::base::name::Name;
use crate::base::size;
use crate::check::value::CommandLine;
use crate::check::{Check, Context, Verdict};
use crate::evidence::verdict::SERVER;
use crate::evidence::{Collector, Isolation, Level, Outcome};
use crate::plan::Network as PlanNetwork;
use crate::sandbox::{self, Bind, Command, Ended, Job, Limits, Network, Recipe, Sandbox, SandboxError};
use crate::sys::space::space;

/// A shell with the terminal's signals, where the system can give it them.
const SHELL: &str = "if command -v bash >/dev/null; then s=bash; else s=sh; fi; \
                     if command -v setsid >/dev/null; then exec setsid --ctty --wait $s -i; else exec $s -i; fi";

/// The signal that comes with a file that grows beyond its limit.
const XFSZ: i32 = 25;

/// What a check inside is told, as JSON on its stdin.
#[derive(Serialize, Deserialize)]
pub struct CheckRequest {
    /// The check.
    pub check: Check,
    /// What it is run with.
    pub context: Context,
}

/// The place where the copy runs.
pub struct Stage<'a> {
    sandbox: Sandbox,
    program: PathBuf,
    root: PathBuf,
    environment: Vec<(OsString, OsString)>,
    observer: &'a dyn Observer,
    server: Option<Server>,
    disk: Option<Disk>,
}

// How much the plan lets the copy write, and where that would be found.
struct Disk {
    most: u64,
    places: [PathBuf; 2],
    // what lies there and was not written by the copy
    before: u64,
}

struct Server {
    job: Job,
    output: Arc<Mutex<Option<Collector>>>,
    name: String,
    began: Instant,
}

/// Who the application runs as: user, group, further groups.
pub type User = Option<(u32, u32, Vec<u32>)>;

/// The recipe for this plan. `setup`: with the network that the plan allows its set-up commands.
pub fn recipe(
    subject: &Subject<'_>,
    options: &Options,
    (tree, scratch): (&Path, &Path),
    user: User,
    setup: bool,
) -> Result<Recipe, DrillError> {
    let (plan, drill) = (subject.plan, &subject.plan.drill);
    let root = plan.root();
    let limits = &drill.limits;
    let variables = variables(plan)?.into_iter().map(|v| (v.name.into(), v.value.into()));
    // what the copy itself takes is not what it writes
    let free = space(scratch).ok().map(|space| space.free_bytes);
    let kept_free = limits.disk.zip(free).map(|(disk, free)| {
        free.saturating_sub(subject.snapshot.document.statistics.bytes).saturating_sub(disk.0)
    });
    Ok(Recipe {
        binds: vec![Bind { source: tree.to_owned(), target: root.clone(), writable: true }],
        writable: drill.writable.iter().map(PathBuf::from).collect(),
        hide: drill.hide.iter().map(PathBuf::from).chain(options.hide.iter().cloned()).collect(),
        network: if setup && drill.network == PlanNetwork::Setup { Network::Host } else { Network::None },
        environment: variables.collect(),
        limits: Limits {
            memory: limits.memory.map(|size| size.0),
            processes: Some(u64::from(limits.processes)),
            file_size: limits.disk.map(|size| size.0),
            free: kept_free,
            ..Limits::default()
        },
        user,
        directory: root,
        ..Recipe::new(&options.program, scratch)
    })
}

impl Disk {
    // The blocks of all that lies there.
    fn held(&self) -> u64 {
        let below = |place: &PathBuf| -> u64 {
            let entries = walkdir::WalkDir::new(place).same_file_system(true).into_iter().flatten();
            entries.filter_map(|entry| entry.metadata().ok()).map(|about| about.blocks() * 512).sum()
        };
        self.places.iter().map(below).sum()
    }
}

impl<'a> Stage<'a> {
    /// Starts the sandbox, or says what this host must allow.
    ///
    /// # Errors
    /// If it cannot be started and nobody allowed to go without.
    pub fn start(recipe: &Recipe, options: &Options, observer: &'a dyn Observer) -> Result<Self, DrillError> {
        let disk = recipe.limits.file_size.map(|most| Disk {
            most,
            places: [recipe.scratch.clone(), recipe.binds[0].source.clone()],
            before: 0,
        });
        let mut root = recipe.directory.clone();
        let started = match Sandbox::start(recipe) {
            Err(SandboxError::Forbidden { .. }) if options.allow_unisolated => {
                // production lies at the application's path: at least what is relative means the copy
                root = recipe
                    .binds
                    .iter()
                    .find(|bind| bind.target == root)
                    .map_or(root, |bind| bind.source.clone());
                Sandbox::unisolated(&Recipe { directory: root.clone(), ..recipe.clone() })
            }
            other => other,
        };
        let sandbox = started.map_err(|error| DrillError::NotIsolated {
            text: error.to_string(),
            fix: error.fix().to_owned(),
        })?;
        let inside = sandbox.active().level != sandbox::Level::None;
        Ok(Self {
            program: if inside { PathBuf::from(sandbox::PROGRAM) } else { options.program.clone() },
            root,
            environment: recipe.environment.clone(),
            sandbox,
            observer,
            server: None,
            disk,
        })
    }

    /// What is really active.
    pub fn isolation(&self, requested: Level) -> Isolation {
        let active = self.sandbox.active();
        Isolation {
            requested,
            active: level(active.level),
            mechanisms: active.mechanisms.clone(),
            downgrades: active.downgrades.clone(),
            masked_sockets: u32::try_from(active.masked_sockets.len()).unwrap_or(u32::MAX),
        }
    }

    /// From now on the copy counts as restored: what is more later was written by what runs in it.
    pub fn restored(&mut self) {
        if let Some(disk) = &mut self.disk {
            disk.before = disk.held();
        }
    }

    // The limit of the disk is watched by the room that is left, which others use too: it is the copy's own doing only if
    // the copy holds as much.
    fn blame(&self, ended: &Ended) -> (Outcome, String) {
        let Some(disk) = self.disk.as_ref().filter(|_| ended.is_of_disk()) else {
            return (Outcome::Fail, how(ended));
        };
        let (written, most) = (disk.held().saturating_sub(disk.before), size::bytes(disk.most));
        let shown = size::bytes(written);
        // what was written and deleted, or was being written when it was killed, is not there any more
        if written.saturating_mul(2) >= disk.most {
            return (Outcome::Fail, format!("it was killed, for it wrote {shown}: limits.disk is {most}"));
        }
        let text = format!(
            "it was killed, for the disk ran out of the room that limits.disk ({most}) needs; the copy itself wrote \
             only {shown}, so that something else fills the disk"
        );
        (Outcome::Error, text)
    }

    /// Runs one of the plan's commands to its end.
    pub fn step(&mut self, line: &CommandLine, limit: Duration, recorder: &mut Recorder) -> bool {
        let began = Instant::now();
        let mut output = Recorder::collector();
        let command = command(line).within(limit);
        let observer = self.observer;
        let ended =
            self.sandbox.run(&command, &mut |_, bytes| output.push(bytes), &|| observer.interrupted());
        let result = StepResult { output: Some(output), ..self.judged(ended) };
        recorder.step(&line.to_string(), began, result)
    }

    /// Starts the server in the background.
    ///
    /// # Errors
    /// If the sandbox is lost.
    pub fn serve(&mut self, line: &CommandLine) -> Result<(), SandboxError> {
        let output = Arc::new(Mutex::new(Some(Recorder::collector())));
        let sink = Arc::clone(&output);
        let job = self.sandbox.spawn(&command(line), move |_, bytes| {
            if let Some(collector) = &mut *sink.lock().unwrap_or_else(PoisonError::into_inner) {
                collector.push(bytes);
            }
        })?;
        self.server = Some(Server { job, output, name: line.to_string(), began: Instant::now() });
        Ok(())
    }

    /// How the server ended and whose fault that is, if it has. A start command that returns with 0 has left its server behind: it counts as running.
    ///
    /// # Errors
    /// Why it could not be started.
    pub fn server_ended(&mut self) -> Result<Option<(Outcome, String)>, SandboxError> {
        let Some(server) = &self.server else { return Ok(None) };
        let ended = self.sandbox.ended(server.job)?.filter(|ended| !ended.success());
        Ok(ended.map(|ended| self.blame(&ended)))
    }

    /// True if a server was started and not stopped yet.
    pub fn has_server(&self) -> bool {
        self.server.is_some()
    }

    /// True if the server's command has ended, in whatever way.
    pub fn server_returned(&mut self) -> bool {
        let job = self.server.as_ref().map(|server| server.job);
        job.is_some_and(|job| self.sandbox.ended(job).is_ok_and(|ended| ended.is_some()))
    }

    /// Waits until the server's command has ended, no longer than this.
    pub fn wait_for_server(&mut self, most: Duration) {
        let began = Instant::now();
        while self.server.is_some()
            && !self.server_returned()
            && began.elapsed() < most
            && !self.observer.interrupted()
        {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops the server and notes it as a step of its own phase. `trouble`: why it is at fault.
    pub fn stop_server(
        &mut self,
        grace: Duration,
        trouble: Option<(Outcome, String)>,
        recorder: &mut Recorder,
    ) {
        let Some(server) = self.server.take() else { return };
        let stopped = self.sandbox.stop_job(server.job, grace);
        let output = server.output.lock().unwrap_or_else(PoisonError::into_inner).take();
        let result = match (trouble, stopped) {
            (Some((outcome, why)), _) => StepResult::of(outcome, why),
            (None, Err(error)) => StepResult::of(Outcome::Error, error.to_string()),
            (None, Ok(_)) => StepResult::pass(),
        };
        recorder.step_of(SERVER, &server.name, server.began, StepResult { output, ..result });
    }

    /// Runs a check inside, no longer than `limit`. A failure of the harness is a verdict of `error`.
    pub fn look(&mut self, check: &Check, limit: Duration) -> Verdict {
        match self.try_look(check, limit) {
            Ok(verdict) => verdict,
            Err(why) => could_not(check, why),
        }
    }

    fn try_look(&mut self, check: &Check, limit: Duration) -> Result<Verdict, String> {
        let environment = self
            .environment
            .iter()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
        let context = Context {
            directory: Name::from(self.root.as_os_str()),
            environment: Some(environment.collect()),
            ..Context::default()
        };
        let request = CheckRequest { check: check.clone(), context };
        let stdin = serde_json::to_vec(&request).map_err(|e| e.to_string())?;
        let command = Command::new([self.program.clone().into_os_string(), "__check".into()]);
        let command = command.stdin(stdin).within(limit);
        let mut said = Vec::new();
        let mut complaint = Vec::new();
        let observer = self.observer;
        let mut keep = |stream, bytes: &[u8]| {
            let to = if stream == sandbox::Stream::Out { &mut said } else { &mut complaint };
            if to.len() < 1 << 20 {
                to.extend_from_slice(bytes);
            }
        };
        let ended = self.sandbox.run(&command, &mut keep, &|| observer.interrupted());
        let ended = ended.map_err(|e| e.to_string())?;
        if ended.timed_out {
            let why = "the time of the whole drill, limits.time, was over".to_owned();
            return Ok(Verdict { outcome: crate::check::Outcome::Fail, ..could_not(check, why) });
        }
        serde_json::from_slice(&said).map_err(|_| {
            let complaint = crate::base::name::shown(&complaint);
            format!("the check did not answer (exit {:?}): {complaint}", ended.exit)
        })
    }

    /// Opens a shell inside, on this process's terminal, until it is left.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn shell(&mut self) -> Result<(), SandboxError> {
        self.sandbox.interact(&Command::shell(SHELL))
    }

    fn judged(&self, ended: Result<Ended, SandboxError>) -> StepResult {
        let ended = match ended {
            Ok(ended) => ended,
            // the program of the plan is not in the copy, or cannot be run
            Err(error @ SandboxError::Start { .. }) => {
                return StepResult::of(Outcome::Fail, error.to_string());
            }
            Err(error) => return StepResult::of(Outcome::Error, error.to_string()),
        };
        let mut result = match () {
            () if ended.success() => StepResult::pass(),
            () if ended.timed_out => StepResult::of(Outcome::Fail, "its time was over"),
            () => {
                let (outcome, why) = self.blame(&ended);
                StepResult::of(outcome, why)
            }
        };
        result.exit = ended.exit;
        result
    }

    /// Ends everything inside; what is left is named.
    pub fn close(self) -> Vec<String> {
        match self.sandbox.close() {
            Ok(closed) if closed.left == 0 => Vec::new(),
            Ok(closed) => vec![format!("{} processes in the sandbox", closed.left)],
            Err(error) => vec![format!("it is not known whether the sandbox is gone: {error}")],
        }
    }
}

fn command(line: &CommandLine) -> Command {
    match line {
        CommandLine::Shell(text) => Command::shell(text),
        CommandLine::Argv(words) => Command::new(words),
    }
}

/// How a command ended, in words.
fn how(ended: &Ended) -> String {
    match (&ended.limit, ended.exit, ended.signal) {
        (Some(limit), ..) => format!("it was killed, for it reached the limit of {limit}"),
        (_, Some(status), _) => format!("it ended with {status}"),
        (_, _, Some(XFSZ)) => "it was killed, for it wrote a file larger than limits.disk".to_owned(),
        (_, _, Some(signal)) => format!("signal {signal} ended it"),
        _ => "it ended, nobody knows how".to_owned(),
    }
}

fn level(level: sandbox::Level) -> Level {
    match level {
        sandbox::Level::None => Level::None,
        sandbox::Level::Files => Level::Files,
        sandbox::Level::Outbound => Level::Outbound,
        sandbox::Level::Full => Level::Full,
    }
}

/// The verdict on a check that the harness could not run.
pub fn could_not(check: &Check, why: String) -> Verdict {
    Verdict {
        name: check.name().to_owned(),
        kind: check.kind.word().to_owned(),
        required: check.common.required,
        data_proving: check.is_data_proving(),
        outcome: crate::check::Outcome::Error,
        reason: why,
        observed: String::new(),
        expected: String::new(),
        attempts: 1,
        took: 0.0,
        last_took: 0.0,
        mark: None,
        forbidden: None,
    }
}
