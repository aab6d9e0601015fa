//! The same change is not tried twice: what was rolled back is refused, until it is another one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::types::{Change, GuardError};
use crate::base::time::Timestamp;
use crate::state::{State, StateError};

const FILE: &str = "hotfix-rolled-back.json";
/// Of a file that a command names, so much counts.
const MOST: u64 = 64 << 20;
/// So many are remembered.
const KEPT: usize = 100;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Failed {
    at: Timestamp,
    why: String,
}

/// What tells a command from others: its words, and the content of the files that they name.
pub fn digest(change: &Change, directory: &Path) -> Option<String> {
    let words: Vec<OsString> = change.words();
    if words.is_empty() {
        return None;
    }
    let mut hash = Sha256::new();
    for word in &words {
        hash.update((word.len() as u64).to_le_bytes());
        hash.update(word.as_bytes());
        // words of a shell text are words too
        for part in word.as_bytes().split(u8::is_ascii_whitespace) {
            let path = directory.join(std::ffi::OsStr::from_bytes(part));
            if let Ok(content) = content(&path) {
                hash.update(Sha256::digest(content));
            }
        }
    }
    Some(hex::encode(hash.finalize()))
}

fn content(path: &Path) -> std::io::Result<Vec<u8>> {
    let data = std::fs::metadata(path)?;
    if !data.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn read(state: &State) -> Result<BTreeMap<String, Failed>, StateError> {
    Ok(state.read(FILE)?.unwrap_or_default())
}

/// Refuses what was rolled back before.
pub fn check(state: &State, digest: Option<&String>) -> Result<(), GuardError> {
    let Some(digest) = digest else { return Ok(()) };
    match read(state)?.remove(digest) {
        None => Ok(()),
        Some(failed) => Err(GuardError::Flapping { when: failed.at.shown(), why: failed.why }),
    }
}

/// Remembers that it was rolled back by itself.
pub fn remember(state: &State, digest: &str, at: Timestamp, why: &str) -> Result<(), StateError> {
    let mut all = read(state)?;
    all.insert(digest.to_owned(), Failed { at, why: why.to_owned() });
    while all.len() > KEPT {
        let Some(oldest) = all.iter().min_by_key(|(_, failed)| failed.at).map(|(key, _)| key.clone()) else {
            break;
        };
        all.remove(&oldest);
    }
    state.write(FILE, &all)
}

/// Forgets it: it was kept.
pub fn forget(state: &State, digest: &str) -> Result<(), StateError> {
    let mut all = read(state)?;
    if all.remove(digest).is_none() {
        return Ok(());
    }
    state.write(FILE, &all)
}
