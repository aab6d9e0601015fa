//! What a sandbox is to be made of, and what is run in it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Everything that is known about a sandbox before it starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recipe {
    /// The lifeboat program itself, which is started again as the sandbox's helper.
    pub program: PathBuf,
    /// Directories and files of the host that appear elsewhere inside: the restored tree at the
    /// application's own path.
    pub binds: Vec<Bind>,
    /// A directory on disk, for this sandbox alone: /tmp, /var/tmp and what is written lie in it. It
    /// must exist; the owner removes it.
    pub scratch: PathBuf,
    /// Directories that are empty and writable inside; what the host has there is not seen.
    pub writable: Vec<PathBuf>,
    /// Directories and files that are empty inside.
    pub hide: Vec<PathBuf>,
    /// What network there is.
    pub network: Network,
    /// The whole environment of every command, before what the command adds.
    pub environment: Vec<(OsString, OsString)>,
    /// What may be used at most.
    pub limits: Limits,
    /// Who commands run as: user, group, further groups. `None`: whoever this process runs as. Only root
    /// may name somebody else.
    pub user: Option<(u32, u32, Vec<u32>)>,
    /// The working directory of commands that name none.
    pub directory: PathBuf,
    /// Parts of the isolation that are left out on purpose, to test that this is noticed and told.
    #[serde(default)]
    pub without: Vec<String>,
}

impl Recipe {
    /// A sandbox with nothing of its own: a read-only host, no network, no environment, no limits.
    ///
    /// `program` is the lifeboat executable, `scratch` an existing directory for this sandbox alone.
    pub fn new(program: impl Into<PathBuf>, scratch: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            binds: Vec::new(),
            scratch: scratch.into(),
            writable: Vec::new(),
            hide: Vec::new(),
            network: Network::None,
            environment: Vec::new(),
            limits: Limits::default(),
            user: None,
            directory: PathBuf::from("/"),
            without: Vec::new(),
        }
    }
}

/// A directory or file of the host that appears inside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bind {
    /// Where it is.
    pub source: PathBuf,
    /// Where it appears; made if the host has nothing there (nothing is made on the host).
    pub target: PathBuf,
    /// Whether it can be written.
    pub writable: bool,
}

/// What network there is inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// A loopback interface of its own, and nothing else.
    None,
    /// The host's: production's ports can be reached. For set-up steps only.
    Host,
}

/// What may be used at most; `None` is as the host allows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of memory of all processes together.
    pub memory: Option<u64>,
    /// Processes and threads at the same time.
    pub processes: Option<u64>,
    /// Open files of each process.
    pub open_files: Option<u64>,
    /// Bytes of any one file that is written.
    pub file_size: Option<u64>,
    /// Bytes that must stay free on the file system of the scratch directory; when they are not, everything is stopped.
    pub free: Option<u64>,
    /// Seconds of processor time of each process.
    pub cpu: Option<u64>,
}

/// A command to run inside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Command {
    /// Program and arguments; no shell in between.
    pub argv: Vec<OsString>,
    /// Working directory, instead of the recipe's.
    pub directory: Option<PathBuf>,
    /// Environment, on top of the recipe's.
    pub environment: Vec<(OsString, OsString)>,
    /// What it reads from standard input. At most 1 MiB.
    #[serde(skip)]
    pub stdin: Vec<u8>,
    /// Wall time after which it is killed with all that it started. Ignored by `spawn`.
    pub limit: Option<Duration>,
}

impl Command {
    /// A program and its arguments.
    pub fn new<A: Into<OsString>>(argv: impl IntoIterator<Item = A>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            directory: None,
            environment: Vec::new(),
            stdin: Vec::new(),
            limit: None,
        }
    }

    /// A line for `sh -c`.
    pub fn shell(line: impl Into<OsString>) -> Self {
        Self::new([OsString::from("/bin/sh"), "-c".into(), line.into()])
    }

    /// The same with a limit of wall time.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// The same with something to read on standard input.
    #[must_use]
    pub fn stdin(self, stdin: impl Into<Vec<u8>>) -> Self {
        Self { stdin: stdin.into(), ..self }
    }

    /// The same in another working directory.
    #[must_use]
    pub fn directory(self, directory: impl AsRef<Path>) -> Self {
        Self { directory: Some(directory.as_ref().to_owned()), ..self }
    }

    /// The same with one more variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Its exit status, if it exited by itself.
    pub exit: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// Its time was over, and it was killed with all that it had started.
    pub timed_out: bool,
    /// The limit that was reached, because of which it was killed.
    pub limit: Option<String>,
    /// How long it ran.
    pub took: Duration,
}

/// What a limit is called that was reached because the disk is nearly full.
pub(super) const OF_DISK: &str = "disk";

impl Ended {
    /// True if it was killed because there was too little room left on the disk, whoever took it.
    pub fn is_of_disk(&self) -> bool {
        self.limit.as_ref().is_some_and(|limit| limit.starts_with(OF_DISK))
    }

    /// True if it exited by itself with status 0.
    pub fn success(&self) -> bool {
        self.exit == Some(0) && !self.timed_out
    }
}

/// Where output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}
