//! Could we recover now? One line for each thing that a recovery rests on, each with a reason and the command that mends it.
//!
//! [`gather`] is the only part that looks: it reads what is known, and runs, restores and hashes nothing, so that the
//! answer comes at once. `memory` keeps what the logbook and the documents said, so that the next answer reads only what
//! is new. What is made of it is pure: [`judge`] over [`Facts`], one file of `lines/` for each kind of line.
//! docs/status.md has the lines and their rules.

mod clock;
mod facts;
mod gather;
mod lines;
mod memory;

use serde::Serialize;

use crate::base::time::Timestamp;

pub use facts::{Application, Facts, Place, Replica, Repository, SnapshotFact, Under, Unopened};
pub use gather::{Sources, gather};
pub use memory::{Memory, Proof, Run, Verification};

#[cfg(test)]
mod tests;

/// What is to be said of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// Nothing asks for it, so it is not judged.
    NotJudged,
    /// It was proved too long ago, or never.
    Stale,
    /// It could not be judged.
    Error,
    /// It is not as it should be.
    Fail,
}

impl Verdict {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::NotJudged => "-",
            Self::Stale => "stale",
            Self::Error => "error",
            Self::Fail => "FAIL",
        }
    }

    /// True if somebody has to do something.
    pub fn is_wrong(self) -> bool {
        matches!(self, Self::Stale | Self::Error | Self::Fail)
    }
}

/// One thing that a recovery rests on. Fields are added, never renamed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What: a word that scripts may hold on to.
    pub name: &'static str,
    /// What is to be said of it.
    pub verdict: Verdict,
    /// True if there is no recovery while this is wrong.
    pub blocks: bool,
    /// Why, in a sentence.
    pub reason: String,
    /// What mends it; `None` where nothing needs mending.
    pub mend: Option<String>,
    // true if it is wrong by an age alone, which a clock that is wrong makes worth nothing
    #[serde(skip)]
    by_age: bool,
}

impl Line {
    /// With nothing to mend.
    pub fn new(name: &'static str, verdict: Verdict, reason: impl Into<String>) -> Self {
        Self { name, verdict, blocks: false, reason: reason.into(), mend: None, by_age: false }
    }

    /// What mends it.
    #[must_use]
    pub fn mend(mut self, command: impl Into<String>) -> Self {
        self.mend = Some(command.into());
        self
    }

    pub(super) fn by_age(mut self) -> Self {
        self.by_age = true;
        self
    }

    // The same, where something else that is named makes this worth nothing.
    pub(super) fn not_judged(self, why: &str) -> Self {
        let reason = format!("{}; {why}", self.reason);
        Self { verdict: Verdict::NotJudged, reason, mend: None, blocks: false, ..self }
    }

    pub(super) fn blocking(mut self) -> Self {
        self.blocks = true;
        self
    }
}

/// What the lines come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overall {
    /// Everything that a recovery rests on was proved lately.
    Ready,
    /// A recovery is possible, and something about it is wrong or unknown.
    Degraded,
    /// A recovery would fail, or nothing says that it would not.
    NotReady,
}

impl Overall {
    /// The words for it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::NotReady => "not ready",
        }
    }
}

/// Whether a recovery would go well now. Fields are added, never renamed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// The application's name; `None` without a plan.
    pub application: Option<String>,
    /// When it was looked at.
    pub at: Timestamp,
    /// What it comes to.
    pub verdict: Overall,
    /// What it rests on.
    pub lines: Vec<Line>,
}

impl Readiness {
    /// The lines with which something is wrong.
    pub fn wrong(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| line.verdict.is_wrong())
    }
}

/// Judges what is known. Pure.
pub fn judge(facts: &Facts) -> Readiness {
    let lines = lines::all(facts);
    let worst = |line: &Line| match line.verdict {
        Verdict::Pass | Verdict::NotJudged => Overall::Ready,
        _ if line.blocks => Overall::NotReady,
        _ => Overall::Degraded,
    };
    let verdict = lines.iter().map(worst).max_by_key(|overall| *overall as u8).unwrap_or(Overall::NotReady);
    Readiness {
        application: facts.application.as_ref().map(|application| application.name.clone()),
        at: facts.now,
        verdict,
        lines,
    }
}
