//! What checks said over time, for plots: `checks.jsonl` in the application's state, a line for each change of a
//! check's outcome, and one every ten minutes where nothing changes. It is cut to its newer half when it reaches
//! [`MAX_BYTES`]; damaged lines are passed over.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::time::Timestamp;
use crate::check::{Outcome, Verdict};
use crate::state::{State, StateError};

/// The file's name.
pub const FILE: &str = "checks.jsonl";
/// It is cut when it is larger.
pub const MAX_BYTES: u64 = 4 << 20;
/// Where nothing changes, a line is written so often.
const EVERY: Duration = Duration::from_secs(600);

/// What a check said at a time. Fields are added, never renamed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// When.
    pub at: Timestamp,
    /// The check's name.
    pub check: String,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took, in seconds.
    pub took: f64,
}

/// What checks said, oldest first; empty where nothing was kept.
pub fn read(state: &State) -> Vec<Said> {
    let mut text = Vec::new();
    let Ok(file) = File::open(state.path(FILE)) else { return Vec::new() };
    // twice the bound: somebody may be writing
    if file.take(2 * MAX_BYTES).read_to_end(&mut text).is_err() {
        return Vec::new();
    }
    text.split(|&b| b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// Adds what these checks said.
///
/// # Errors
/// If it cannot be written.
pub fn add(state: &State, at: Timestamp, found: &[Verdict]) -> Result<(), StateError> {
    let _held = super::marks::lock(state)?;
    let known = read(state);
    let last: HashMap<&str, &Said> = known.iter().map(|said| (said.check.as_str(), said)).collect();
    let is_news = |verdict: &&Verdict| {
        last.get(verdict.name.as_str()).is_none_or(|said| {
            // a clock that went back makes it new as well
            said.outcome != verdict.outcome || at < said.at || at.since(said.at) >= EVERY
        })
    };
    let mut lines = Vec::new();
    for verdict in found.iter().filter(is_news) {
        let took = (verdict.took * 1000.0).round() / 1000.0;
        let said = Said { at, check: verdict.name.clone(), outcome: verdict.outcome, took };
        lines.extend(serde_json::to_vec(&said).unwrap_or_default());
        lines.push(b'\n');
    }
    if lines.is_empty() {
        return Ok(());
    }
    let path = state.path(FILE);
    let failed =
        |source| StateError::Io { act: "write", path: crate::base::Name::from(path.as_os_str()), source };
    append(&path, &lines).map_err(failed)?;
    if path.metadata().is_ok_and(|m| m.len() > MAX_BYTES) {
        cut(&path).map_err(failed)?;
    }
    Ok(())
}

fn append(path: &Path, lines: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.create(true).append(true).read(true).mode(0o600).open(path)?;
    // after a line that a crash left half written
    let size = file.metadata()?.len();
    let mut last = [b'\n'];
    if size > 0 {
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut last, size - 1)?;
    }
    let start: &[u8] = if last == [b'\n'] { b"" } else { b"\n" };
    file.write_all(&[start, lines].concat())
}

// Keeps the newer half: written aside and renamed, so that it is the old one or the new one.
fn cut(path: &Path) -> io::Result<()> {
    let text = std::fs::read(path)?;
    let from = text.len().saturating_sub((MAX_BYTES / 2) as usize);
    let from = memchr::memchr(b'\n', &text[from..]).map_or(text.len(), |at| from + at + 1);
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut staged = tempfile::Builder::new().prefix(".new-").tempfile_in(directory)?;
    staged.write_all(&text[from..])?;
    staged.persist(path).map(drop).map_err(|error| error.error)
}
