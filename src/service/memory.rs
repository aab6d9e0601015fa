//! What is remembered of a start: which processes are the service's.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Service, ServiceError, ServiceErrorKind};
use crate::base::name::shown;
use crate::state::State;
use crate::sys::host;
use crate::sys::process_facts::belongs;
use crate::sys::process_tree::{Member, Stat, all, is_alive, marked, wait_until_reaped};

/// The file with the mark of the last start.
const FILE: &str = "service.json";
/// The file with what the last start printed.
const OUTPUT: &str = "service.out";
/// How long who must reap a dead process may take.
pub(super) const REAPED: Duration = Duration::from_secs(2);
/// So many lines of an output are told.
const LINES: usize = 20;
/// They are looked for in so many bytes.
const TAIL: u64 = 16 << 10;

/// Which processes a start made.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Memory {
    boot: String,
    marks: Vec<String>,
    members: Vec<Member>,
}

impl Service {
    /// Remembers what carries this mark, and these.
    pub(super) fn remember(&self, mark: &OsString, members: &[Member]) -> Result<(), ServiceError> {
        let Some(state) = &self.memory else { return Ok(()) };
        let marks = vec![mark.to_string_lossy().into_owned()];
        self.write(state, Memory { boot: host::boot_id(), marks, members: members.to_vec() })
    }

    fn write(&self, state: &State, memory: Memory) -> Result<(), ServiceError> {
        state.write(FILE, &memory).map_err(|error| {
            ServiceError::new(ServiceErrorKind::Io, error.to_string())
                .next("LIFEBOAT_STATE_DIR names the directory")
        })
    }

    /// The living processes of the last start, as far as they are known.
    pub(super) fn remembered(&self, all: &[Stat]) -> Vec<Member> {
        let memory = self.memory.as_ref().and_then(|state| state.read::<Memory>(FILE).ok().flatten());
        let Some(memory) = memory.filter(|memory| memory.boot == host::boot_id()) else { return Vec::new() };
        let known = memory.members.iter().copied().filter(|member| is_alive(*member));
        let mut found: Vec<Member> = known.collect();
        for mark in memory.marks {
            found.extend(marked(all, &OsString::from(mark)));
        }
        found
    }

    /// Takes what carries this mark for the service's too: a command that was not its start may have started it anew. Only
    /// if some of it works in the application's tree.
    ///
    /// # Errors
    /// If it cannot be remembered.
    pub fn adopt(&self, mark: &OsStr) -> Result<(), ServiceError> {
        let Some(state) = &self.memory else { return Ok(()) };
        let all = all();
        let root = std::fs::canonicalize(&self.root).unwrap_or_else(|_| self.root.clone());
        let ours: Vec<Member> =
            marked(&all, mark).filter(|member| belongs(member.pid, &root, false) == Some(true)).collect();
        if ours.is_empty() {
            return Ok(());
        }
        let boot = host::boot_id();
        let old = state.read::<Memory>(FILE).ok().flatten().filter(|memory| memory.boot == boot);
        let mut memory = old.unwrap_or(Memory { boot, marks: Vec::new(), members: Vec::new() });
        memory.marks.push(mark.to_string_lossy().into_owned());
        memory.members.extend(ours);
        self.write(state, memory)
    }

    /// Waits until what is remembered and dead is reaped: a start command that asks by number would think that it runs.
    pub(super) fn wait_for_the_dead(&self) {
        let memory = self.memory.as_ref().and_then(|state| state.read::<Memory>(FILE).ok().flatten());
        let known = memory.filter(|memory| memory.boot == host::boot_id()).map(|memory| memory.members);
        wait_until_reaped(&known.unwrap_or_default(), REAPED);
    }

    /// True if this service was started here since the last boot.
    pub(super) fn was_started(&self) -> bool {
        let memory = self.memory.as_ref().and_then(|state| state.read::<Memory>(FILE).ok().flatten());
        memory.is_some_and(|memory| memory.boot == host::boot_id())
    }

    /// An empty file for what a start prints.
    pub(super) fn output_file(&self) -> Result<File, ServiceError> {
        let made = match &self.memory {
            None => tempfile::tempfile(),
            Some(state) => OpenOptions::new()
                .create(true)
                .truncate(true)
                .read(true)
                .write(true)
                .mode(0o600)
                .open(state.path(OUTPUT)),
        };
        made.map_err(|error| ServiceError::io("make the file for what the service prints", &error))
    }
}

/// The last lines of a file, safe for a terminal; empty if it cannot be read.
pub(super) fn last_lines(file: &File) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = file.try_clone()?;
        let end = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(end.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    lines(&read().unwrap_or_default())
}

/// The last lines of an output, safe for a terminal.
pub(super) fn lines(bytes: &[u8]) -> String {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let all: Vec<&[u8]> = body.split(|&b| b == b'\n').collect();
    let last = &all[all.len().saturating_sub(LINES)..];
    last.iter().map(|line| shown(line)).collect::<Vec<_>>().join("\n")
}
