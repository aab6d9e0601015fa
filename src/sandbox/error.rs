//! What can go wrong with a sandbox, and the way out.

use std::io;

use serde::{Deserialize, Serialize};

/// Why there is no sandbox, or why it could not do as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The host does not allow what isolation needs.
    #[error("this host does not let {} {step}: {cause}", .who)]
    Forbidden {
        /// As whom it was tried.
        who: String,
        /// What was tried.
        step: String,
        /// What the system said.
        cause: String,
        /// What to do about it.
        fix: String,
    },
    /// A step of the making failed for another reason than permission.
    #[error("the sandbox could not {step}: {cause}")]
    Setup {
        /// What was tried.
        step: String,
        /// What the system said.
        cause: String,
    },
    /// The command could not be started.
    #[error("{program} could not be started in the sandbox: {cause}")]
    Start {
        /// The program of the command.
        program: String,
        /// What the system said.
        cause: String,
    },
    /// The sandbox ended without being told to.
    #[error("the sandbox ended while {0}")]
    Lost(&'static str),
    /// Talking to the sandbox failed.
    #[error("could not talk to the sandbox ({0})")]
    Talk(&'static str, #[source] io::Error),
    /// The recipe or the command cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl SandboxError {
    /// What to do about it; empty if there is nothing better than the message.
    pub fn fix(&self) -> &str {
        match self {
            Self::Forbidden { fix, .. } => fix,
            _ => "",
        }
    }
}

/// A step that failed inside the helper, as it travels to the parent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Broken {
    pub step: String,
    pub cause: String,
    /// The system said no, rather than that something is missing or wrong.
    pub forbidden: bool,
}

/// Gives a failed step its name.
pub(super) trait Step<T> {
    /// Turns an error into [`Broken`].
    fn step(self, what: impl Into<String>) -> Result<T, Broken>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, what: impl Into<String>) -> Result<T, Broken> {
        self.map_err(|error| {
            let error = error.into();
            let forbidden = matches!(
                error.raw_os_error(),
                Some(libc::EPERM | libc::EACCES | libc::ENOSPC | libc::ENOSYS | libc::EUSERS)
            );
            Broken { step: what.into(), cause: error.to_string(), forbidden }
        })
    }
}
