//! What a runbook has of the terminal, the logbook and the people.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use super::report::mark;
use crate::base::Exit;
use crate::base::name::shown;
use crate::base::size;
use crate::cli::command::drill::{hash_of, secrets};
use crate::cli::context::{Context, whoami};
use crate::cli::env;
use crate::cli::error::CommandError;
use crate::drill::{host, operator, tool};
use crate::evidence::{self, Evidence, Step};
use crate::notify;
use crate::plan::Plan;
use crate::repo::Repo;
use crate::repo::keys::WriterKey;
use crate::runbook::answer::{Answer, Answers};
use crate::runbook::{Console, Facts, Setting};

/// Who answers questions.
pub struct People {
    /// What was answered beforehand.
    pub answers: Answers,
    /// Who answers, if somebody said.
    pub by: Option<String>,
    /// False: nobody is asked.
    pub may_ask: bool,
}

/// The terminal and the logbook.
pub struct Desk<'c> {
    context: &'c Context,
    kept: Option<(Repo, WriterKey)>,
    stop: Arc<AtomicBool>,
}

impl<'c> Desk<'c> {
    /// Opens the repository, unless nothing is to be recorded.
    ///
    /// # Errors
    /// If it cannot be opened or written: without a record a run need not begin.
    pub fn open(no_record: bool, context: &'c Context) -> Result<Self, CommandError> {
        let kept = match no_record {
            true => None,
            false => {
                let repo = context.open_repo()?;
                let key = context.writer_key(&repo)?;
                Some((repo, key))
            }
        };
        Ok(Self { context, kept, stop: context.stop() })
    }

    /// The repository, if runs are recorded.
    pub fn repo(&self) -> Option<&Repo> {
        self.kept.as_ref().map(|(repo, _)| repo)
    }

    /// Does something with what a runbook is run with.
    ///
    /// # Errors
    /// If the plan's secrets or this program cannot be read.
    pub fn with<T>(
        &self,
        plan: &Plan,
        people: &People,
        context: &Context,
        act: impl FnOnce(&Setting<'_>) -> T,
    ) -> Result<T, CommandError> {
        let program = env::program().map_err(|e| CommandError::of(Exit::Inconclusive, &e))?;
        let user = whoami().1.shown();
        let human = people.by.clone().or_else(env::sudo_user);
        let mut hidden = secrets(plan)?;
        hidden.extend(notify::secrets(plan));
        let facts = Facts {
            tool: tool(&program),
            host: host(),
            operator: operator(env::sudo_user()),
            config_sha256: hash_of(plan.file())?,
        };
        let console = Terminal { desk: self, asks: people.may_ask && is_attended(context) };
        Ok(act(&Setting {
            plan,
            program,
            globals: globals(plan, context),
            secrets: hidden,
            answers: people.answers.clone(),
            by: human.unwrap_or(user),
            facts,
            clock: context.clock(),
            console: &console,
        }))
    }
}

/// What every operation is given: the plan, and the repository where the plan does not name it.
pub fn globals(plan: &Plan, context: &Context) -> Vec<OsString> {
    let mut globals: Vec<OsString> = vec!["--config".into(), plan.file().into()];
    if context.location_source().is_some()
        && let Ok(location) = context.location()
    {
        globals.extend(["--repo".into(), location.into_os_string()]);
    }
    globals
}

// Somebody is there who sees a question and can answer.
fn is_attended(context: &Context) -> bool {
    !context.json() && !context.quiet() && io::stdin().is_terminal() && io::stderr().is_terminal()
}

struct Terminal<'d> {
    desk: &'d Desk<'d>,
    asks: bool,
}

impl Console for Terminal<'_> {
    fn begins(&self, step: &str) {
        if self.desk.context.json() {
            let _ = self.desk.context.document(&json!({"message_type": "status", "step": step}));
        } else {
            self.desk.context.say(format!("… {}", shown(step.as_bytes())));
        }
    }

    fn ended(&self, step: &Step) {
        if self.desk.context.json() {
            let line = json!({"message_type": "step", "phase": step.phase, "name": step.name, "result": step.result, "reason": step.reason, "seconds": step.took_s});
            // a closed pipe must not end a procedure
            let _ = self.desk.context.document(&line);
            return;
        }
        let why = if step.reason.is_empty() { String::new() } else { format!(": {}", step.reason) };
        let time = size::duration(step.took_s.duration());
        let text = format!("{:<5} {}{why}", mark(step), step.name);
        self.desk.context.say(format!("{} ({time})", shown(text.as_bytes()).replace("\\\\", "\\")));
    }

    fn ask(&self, question: &str, limit: Duration) -> Option<Answer> {
        if !self.asks {
            return None;
        }
        let end = Instant::now() + limit;
        let mut prompt = format!(
            "\n{}\n  yes, no, n/a or open; a note may follow after a colon: ",
            shown(question.as_bytes())
        );
        loop {
            let _ = io::stderr().write_all(prompt.as_bytes());
            let line = self.line(end)?;
            match Answer::parse(&line) {
                Ok(answer) => return Some(answer),
                Err(why) => prompt = format!("  {why}: "),
            }
        }
    }

    fn keep(&self, run: &mut Evidence) {
        let Some((repo, key)) = &self.desk.kept else { return };
        if let Err(error) = evidence::append(repo, key, run) {
            self.desk.context.warn("not-recorded", &format!("the logbook could not be written: {error}"));
        }
        self.desk.context.remember(repo);
    }

    fn interrupted(&self) -> bool {
        self.desk.stop.load(Ordering::Relaxed)
    }
}

impl Terminal<'_> {
    // A line that somebody types; `None` at the end of the time, of the input, or if somebody wants an end.
    fn line(&self, end: Instant) -> Option<String> {
        let stdin = io::stdin();
        let piece = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        while Instant::now() < end && !self.interrupted() {
            match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&piece)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(_) => return None,
            }
            // a terminal gives a line at a time
            let mut buffer = [0; 4096];
            return match rustix::io::read(&stdin, &mut buffer) {
                Ok(0) | Err(_) => None,
                Ok(count) => Some(String::from_utf8_lossy(&buffer[..count]).trim().to_owned()),
            };
        }
        let _ = io::stderr().write_all(b"\n");
        None
    }
}
