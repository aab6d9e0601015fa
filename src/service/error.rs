//! Why a service could not be started or stopped.

use std::fmt;

/// What the plan or the host lacks, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What is missing, a sentence.
    pub what: String,
    /// What to do about it.
    pub next: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// What kind of trouble it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceErrorKind {
    /// The plan or the host lacks what is needed.
    Missing,
    /// It runs already.
    Running,
    /// The command that starts or stops it failed.
    Command,
    /// It started and did not become ready.
    NotReady,
    /// It cannot be said whether it runs, or whose the processes are.
    Unknown,
    /// Processes of it live on.
    StillRunning,
    /// Somebody wanted an end.
    Interrupted,
    /// The system failed.
    Io,
}

/// Why a service could not be started or stopped.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct ServiceError {
    /// What kind of trouble it was.
    pub kind: ServiceErrorKind,
    /// What happened, in a sentence; safe for a terminal.
    pub text: String,
    /// What to do about it; may be empty.
    pub next: String,
    /// The last lines of what the command or the service printed; safe for a terminal.
    pub output: String,
}

impl ServiceError {
    pub(super) fn new(kind: ServiceErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), next: String::new(), output: String::new() }
    }

    pub(super) fn next(self, next: impl Into<String>) -> Self {
        Self { next: next.into(), ..self }
    }

    pub(super) fn output(self, output: String) -> Self {
        Self { output, ..self }
    }

    pub(super) fn interrupted() -> Self {
        Self::new(ServiceErrorKind::Interrupted, "interrupted")
    }

    pub(super) fn io(act: &str, error: &std::io::Error) -> Self {
        Self::new(ServiceErrorKind::Io, format!("could not {act}: {error}"))
    }
}

impl From<Missing> for ServiceError {
    fn from(missing: Missing) -> Self {
        Self::new(ServiceErrorKind::Missing, missing.what).next(missing.next)
    }
}
