//! What a runbook is run with, and what comes of it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::answer::{Answer, Answers};
use crate::base::Exit;
use crate::base::time::{Clock, Timestamp};
use crate::evidence::{Cleanup, Evidence, Host, Kind, Operator, Step as Done, Tool};
use crate::plan::Plan;

/// The terminal, the logbook and the people, as a runbook sees them.
pub trait Console {
    /// A step begins.
    fn begins(&self, step: &str);
    /// A step has ended.
    fn ended(&self, step: &Done);
    /// Asks people, for so long at most; `None` if nobody says anything.
    fn ask(&self, question: &str, limit: Duration) -> Option<Answer>;
    /// Judges a run that is over and puts it into the logbook.
    fn keep(&self, run: &mut Evidence);
    /// True once somebody wants an end.
    fn interrupted(&self) -> bool;
}

/// What a record says of where it was made, by whom, with what.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The program.
    pub tool: Tool,
    /// The machine.
    pub host: Host,
    /// The user.
    pub operator: Operator,
    /// SHA-256 of the plan, in hexadecimal.
    pub config_sha256: String,
}

/// What a runbook is run with.
pub struct Setting<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// This program, which runs its own operations.
    pub program: PathBuf,
    /// What every operation is given: the plan and the repository.
    pub globals: Vec<OsString>,
    /// What is masked in records.
    pub secrets: Vec<String>,
    /// Answers that were given beforehand.
    pub answers: Answers,
    /// Who answers.
    pub by: String,
    /// What the record says of this place.
    pub facts: Facts,
    /// What time it is.
    pub clock: Clock,
    /// The terminal, the logbook and the people.
    pub console: &'a dyn Console,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every step passed.
    Pass,
    /// A step failed.
    Fail,
    /// Nothing failed, but something could not be judged.
    Error,
    /// Nothing but questions is left.
    Open,
    /// A step failed, and the application went back.
    RolledBack,
    /// A step failed, and going back failed too.
    RollbackFailed,
    /// Somebody ended it.
    Interrupted,
}

impl End {
    /// The exit status of a run that ended so.
    pub fn exit(self) -> Exit {
        match self {
            Self::Pass => Exit::Done,
            Self::Fail => Exit::Failed,
            Self::Error => Exit::Inconclusive,
            Self::Open => Exit::Partial,
            Self::RolledBack => Exit::RolledBack,
            Self::RollbackFailed => Exit::RollbackFailed,
            Self::Interrupted => Exit::Interrupted,
        }
    }
}

/// A run that is over.
pub struct Outcome {
    /// Its record.
    pub run: Evidence,
    /// How it ended.
    pub end: End,
}

/// A record of a run that began at `started`, with nothing done yet.
pub(super) fn record(setting: &Setting<'_>, scenario: String, started: Timestamp) -> Evidence {
    Evidence {
        run_id: run_id(),
        app: setting.plan.name(),
        scenario,
        finished: setting.clock.now(),
        tool: setting.facts.tool.clone(),
        host: setting.facts.host.clone(),
        operator: setting.facts.operator.clone(),
        config_sha256: setting.facts.config_sha256.clone(),
        // whatever a step started and did not end well was ended with it
        cleanup: Cleanup { proved: true, leftovers: Vec::new() },
        ..Evidence::begun(Kind::Runbook, started)
    }
}

// Without a source of randomness the time and the process tell runs apart.
fn run_id() -> String {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        let boot = crate::sys::clock::since_boot().as_nanos() as u64;
        bytes[..8].copy_from_slice(&boot.to_le_bytes());
        bytes[8..12].copy_from_slice(&std::process::id().to_le_bytes());
    }
    hex::encode(bytes)
}
