//! `repository.json` is the one object that neither its name nor a signature covers; records of the
//! logbook tell its hash.

use crate::base::id::{hex_of, sha256};
use crate::format::repository::MAX_BYTES;
use crate::logbook::Logbook;
use crate::repo::{Repo, Result};
use crate::store::Key;
use crate::verify::Problem;

/// The key of a record's body under which the hash of `repository.json` is told.
pub const CONFIG_FIELD: &str = "repository_json";

/// The hash of `repository.json`, for a record to tell: `init` writes it into the first one.
///
/// # Errors
/// If it cannot be read.
pub fn digest(repo: &Repo) -> Result<String> {
    let bytes = repo.store().read_all(&Key::repository(), MAX_BYTES)?;
    Ok(String::from_utf8_lossy(&hex_of(&sha256(&bytes))).into_owned())
}

/// Compares it with what the logbook tells.
pub fn check(repo: &Repo, logbook: &Logbook, found: &mut Vec<Problem>) -> Result<()> {
    let digest = digest(repo)?;
    let mut told = logbook.trusted().filter_map(|(_, record)| record.body.get(CONFIG_FIELD)?.as_str());
    if told.any(|told| told != digest) {
        found.push(Problem::ConfigChanged);
    }
    Ok(())
}
