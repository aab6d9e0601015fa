//! One step as a process.

use std::ffi::OsString;
use std::time::Duration;

use regex::Regex;

use super::setting::Setting;
use crate::base::Exit;
use crate::check::value::CommandLine;
use crate::evidence::{Collector, OUTPUT_LIMIT, Outcome, Output};
use crate::plan::Step;
use crate::sys::process::{Ended, Output as Printed, Program, Run};

/// What is read of each end of an output; the record keeps less.
const KEEP: usize = 1 << 20;
/// How long an operation has to clean up after TERM. A drill has a copy to remove.
const GRACE: Duration = Duration::from_secs(30);
/// What a shell exits with if a command is not there, or is not executable.
const NO_COMMAND: [i32; 2] = [127, 126];
/// The variable that tells a process that it is a step, and of what.
pub const WITHIN: &str = "LIFEBOAT_WITHIN";
/// The variable with the file in which an operation leaves how it ended, in words.
pub const OUTCOME: &str = "LIFEBOAT_OUTCOME";
/// So much of that is the reason of a step, in characters; all of it is in what the operation printed.
const REASON: usize = 400;

/// How a step came out.
pub struct Came {
    /// The verdict on it.
    pub outcome: Outcome,
    /// Why, unless it passed.
    pub reason: String,
    /// Its exit status.
    pub exit: Option<i32>,
    /// What it printed, bounded and masked.
    pub output: Output,
    /// The whole of what was kept of it, for whoever looks for something in it.
    pub text: Vec<u8>,
    /// True if somebody wanted an end.
    pub interrupted: bool,
}

impl Came {
    /// One without a process.
    pub fn of(outcome: Outcome, reason: impl Into<String>) -> Self {
        let (reason, output, text) = (reason.into(), Output::default(), Vec::new());
        Self { outcome, reason, exit: None, output, text, interrupted: false }
    }

    /// The same with this as what it printed.
    #[must_use]
    pub fn saying(mut self, text: &str, secrets: &[String]) -> Self {
        let mut collector = Collector::new(OUTPUT_LIMIT);
        collector.push(text.as_bytes());
        self.output = collector.finish(secrets);
        self
    }
}

/// The arguments that one of Lifeboat's own operations is run with.
pub fn arguments(words: &[String]) -> Vec<OsString> {
    match words {
        // `check` alone would be another word for verify
        [first, name] if first == "check" => ["health", "--", name.as_str()].map(OsString::from).into(),
        words => words.iter().map(OsString::from).collect(),
    }
}

/// Runs one of Lifeboat's own operations.
pub fn operation(words: &[String], within: &str, limit: Duration, setting: &Setting<'_>) -> Came {
    let mut line = vec![OsString::from(setting.program.as_os_str())];
    line.extend(setting.globals.iter().cloned());
    line.extend(arguments(words));
    let mut environment = vec![(WITHIN.into(), within.into())];
    // without it the exit status has to do
    let outcome = tempfile::NamedTempFile::with_prefix("lifeboat-outcome-").ok();
    environment.extend(outcome.as_ref().map(|file| (OUTCOME.into(), file.path().into())));
    let run = Run {
        directory: Some(setting.plan.directory().to_owned()),
        environment,
        limit: Some(limit),
        grace: GRACE,
        keep: KEEP,
        merge: true,
        ..Run::new(Program::Argv(line))
    };
    match run.run(&|| setting.console.interrupted()) {
        Err(error) => Came::of(Outcome::Error, format!("it could not be started: {error}")),
        Ok(ended) => {
            let said = outcome.and_then(|file| std::fs::read(file.path()).ok());
            judge_operation(&ended, said.and_then(|text| in_words(&text)), setting)
        }
    }
}

// What an operation left of how it ended.
fn in_words(text: &[u8]) -> Option<String> {
    let said: serde_json::Value = serde_json::from_slice(text).ok()?;
    let details = said.get("details")?.as_array()?.iter().filter_map(|detail| detail.as_str());
    let text = details.collect::<Vec<_>>().join("; ");
    let cut = text.char_indices().nth(REASON).map_or(text.len(), |(at, _)| at);
    let more = if cut < text.len() { " …" } else { "" };
    Some(format!("{}{more}", &text[..cut])).filter(|text| !text.is_empty())
}

fn judge_operation(ended: &Ended, left: Option<String>, setting: &Setting<'_>) -> Came {
    let text = ended.stdout.text();
    let said = || {
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().rev().find_map(|line| line.strip_prefix("error: ").map(str::to_owned));
        left.or(line).map(|line| format!(": {line}")).unwrap_or_default()
    };
    let (outcome, reason) = match ended.exit {
        _ if ended.interrupted || ended.timed_out => broken(ended),
        Some(0) => (Outcome::Pass, String::new()),
        Some(status) => {
            let exit = Exit::ALL.iter().find(|exit| i32::from(exit.number()) == status);
            let word = exit.map(|exit| format!(" ({})", exit.id())).unwrap_or_default();
            let outcome = match exit {
                Some(
                    Exit::Usage
                    | Exit::NoRepository
                    | Exit::Locked
                    | Exit::Key
                    | Exit::Inconclusive
                    | Exit::Interrupted,
                ) => Outcome::Error,
                _ => Outcome::Fail,
            };
            (outcome, format!("exited with {status}{word}{}", said()))
        }
        None => (Outcome::Error, ended.how()),
    };
    came(ended, outcome, reason, text.clone(), setting)
}

/// Runs a command of the host.
pub fn command(
    line: &CommandLine,
    step: &Step,
    within: &str,
    limit: Duration,
    setting: &Setting<'_>,
) -> Came {
    let run = Run {
        directory: Some(setting.plan.directory().to_owned()),
        environment: vec![(WITHIN.into(), within.into())],
        limit: Some(limit),
        keep: KEEP,
        merge: step.stdout.is_none(),
        // a step may start a service
        leave: true,
        ..Run::new(line.program())
    };
    match run.run(&|| setting.console.interrupted()) {
        Err(error) => Came::of(Outcome::Error, format!("it could not be started: {error}")),
        Ok(ended) => judge_command(&ended, step, setting),
    }
}

fn judge_command(ended: &Ended, step: &Step, setting: &Setting<'_>) -> Came {
    let (outcome, reason) = match ended.exit {
        _ if ended.interrupted || ended.timed_out => broken(ended),
        Some(status) if status == step.exit => expected(&ended.stdout, step),
        Some(status) if NO_COMMAND.contains(&status) => {
            (Outcome::Error, format!("exited with {status}: a command in it is not there, or cannot be run"))
        }
        _ if step.exit == 0 => (Outcome::Fail, ended.how()),
        _ => (Outcome::Fail, format!("{}, not with {}", ended.how(), step.exit)),
    };
    let mut text = ended.stdout.text();
    text.extend(ended.stderr.text());
    came(ended, outcome, reason, text, setting)
}

// What must be found in stdout.
fn expected(stdout: &Printed, step: &Step) -> (Outcome, String) {
    let Some(pattern) = &step.stdout else { return (Outcome::Pass, String::new()) };
    let text = stdout.text();
    match Regex::new(pattern) {
        Err(error) => (Outcome::Error, format!("stdout is not a regular expression: {error}")),
        Ok(regex) if regex.is_match(&String::from_utf8_lossy(&text)) => (Outcome::Pass, String::new()),
        Ok(_) if stdout.is_cut() => {
            (Outcome::Error, format!("nothing in what was kept of {} bytes matches {pattern}", stdout.bytes))
        }
        Ok(_) => (Outcome::Fail, format!("nothing that it printed on stdout matches {pattern}")),
    }
}

fn broken(ended: &Ended) -> (Outcome, String) {
    (if ended.interrupted { Outcome::Error } else { Outcome::Fail }, ended.how())
}

fn came(ended: &Ended, outcome: Outcome, reason: String, text: Vec<u8>, setting: &Setting<'_>) -> Came {
    let mut collector = Collector::new(OUTPUT_LIMIT);
    collector.push(&text);
    let mut output = collector.finish(&setting.secrets);
    let (bytes, cut) =
        (ended.stdout.bytes + ended.stderr.bytes, ended.stdout.is_cut() || ended.stderr.is_cut());
    if cut {
        // it would be the hash of a part
        output.sha256 = None;
        output.omitted += bytes.saturating_sub(output.bytes);
        output.bytes = bytes;
    }
    Came { outcome, reason, exit: ended.exit, output, text, interrupted: ended.interrupted }
}
