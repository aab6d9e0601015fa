//! Runs a check: tries, times, and a verdict.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::config::{Check, Kind};
use super::kinds;
use super::verdict::{EVIDENCE, Found, Outcome, Verdict, evidence};
use crate::base::Name;
use crate::base::time::{Clock, Timestamp};

/// How far a log was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The file's inode.
    pub inode: u64,
    /// The bytes that were read.
    pub offset: u64,
    /// SHA-256 of the last bytes before that, at most 256 of them, in hexadecimal: what tells the file from
    /// another one with its inode, and a copy of it.
    pub before: String,
}

/// What a check is run with. It can be sent to another process as JSON.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Context {
    /// Where relative paths begin and commands run.
    pub directory: Name,
    /// The whole environment of commands; that of this process if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<BTreeMap<String, String>>,
    /// How far logs were read the last time, by the check's name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub marks: BTreeMap<String, Mark>,
    /// Logs are read again from this time on, whatever the marks say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The time now, where it is not that of the system's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<Timestamp>,
    /// False: commands that are texts for a shell are refused.
    pub refuse_shell: bool,
    /// Set by somebody who wants an end.
    #[serde(skip)]
    pub stop: Option<Arc<AtomicBool>>,
}

impl fmt::Debug for Context {
    // the environment may hold secrets
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Context {
    /// For checks whose paths begin in this directory.
    pub fn new(directory: &Path) -> Self {
        Self { directory: Name::from(directory.as_os_str()), ..Self::default() }
    }

    /// A path of a check.
    pub(super) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        Path::new(self.directory.as_os_str()).join(path)
    }

    /// The time now.
    pub(super) fn now(&self) -> Timestamp {
        self.now.unwrap_or_else(|| Clock::System.now())
    }

    /// True if somebody wants an end.
    pub(super) fn interrupted(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed))
    }
}

impl Check {
    /// Runs it: at most `1 + retries` tries, until one passes. Never panics, changes nothing.
    pub fn run(&self, context: &Context) -> Verdict {
        let began = Instant::now();
        let mut attempts = 0;
        let (found, last_took) = loop {
            attempts += 1;
            let tried = Instant::now();
            let found = match super::judge::problems(self).into_iter().next() {
                Some((_, wrong)) => Found::error(wrong),
                None => self.look(context),
            };
            let last = tried.elapsed();
            let is_last = attempts > self.common.retries || context.interrupted();
            if found.outcome == Outcome::Pass || is_last {
                break (found, last);
            }
            pause(self.common.interval.0, context);
        };
        Verdict {
            name: evidence(self.name().as_bytes()),
            kind: self.kind.word().to_owned(),
            required: self.common.required,
            data_proving: self.is_data_proving(),
            outcome: found.outcome,
            reason: bounded(found.reason),
            observed: bounded(found.observed),
            expected: bounded(found.expected),
            attempts,
            took: began.elapsed().as_secs_f64(),
            last_took: last_took.as_secs_f64(),
            mark: found.mark.map(|mark| *mark),
            forbidden: found.forbidden,
        }
    }

    fn look(&self, context: &Context) -> Found {
        let limit = self.common.timeout.0;
        match &self.kind {
            Kind::Http(http) => kinds::http::look(http, limit),
            Kind::Command(command) => kinds::command::look(command, limit, context),
            Kind::Port(port) => kinds::port::look(port, limit, context),
            Kind::File(file) => kinds::file::look(file, context),
            Kind::Log(log) => kinds::log::look(log, context.marks.get(self.name()), context),
            Kind::Disk(disk) => kinds::disk::look(disk, context),
            Kind::Cpu(cpu) => kinds::cpu::look(cpu, limit, context),
            Kind::Memory(memory) => kinds::memory::look(memory, limit, context),
            Kind::Process(process) => kinds::process::look(process, limit, context),
            Kind::Json(json) => kinds::json::look(json, context),
            Kind::Sql(sql) => kinds::sql::look(sql, limit, context),
        }
    }
}

fn bounded(text: String) -> String {
    if text.len() <= EVIDENCE { text } else { evidence(text.as_bytes()) }
}

// In short pieces, so that an interrupt is noticed.
fn pause(mut left: Duration, context: &Context) {
    while !left.is_zero() && !context.interrupted() {
        let piece = left.min(Duration::from_millis(50));
        std::thread::sleep(piece);
        left -= piece;
    }
}
