//! What this host has seen of a repository, so that an older state of it is noticed: one that was put back from an old
//! copy, or from which somebody removed snapshots or records.
//!
//! A repository cannot show by itself that its newest part is gone: what would tell of it is gone too. A host that
//! comes again can. It remembers the snapshots that were there and the ends of the logbook's chains, by the
//! repository's id, whatever place it lies at. What is gone for a reason, told by a tombstone, the plan of a prune or a signed record,
//! is forgotten here too; anything else makes the repository older than it was.

mod older;
mod seen;

use crate::repo::{Repo, RepoError};
use crate::state::{State, StateError};

pub use older::{Gone, Older};
use seen::Seen;

/// The file in the repository's directory of the host's state.
const FILE: &str = "seen.json";
/// Held while that file is replaced.
const LOCK: &str = "seen.lock";

/// Why nothing could be said or remembered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessError {
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// What this host remembers failed.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Compares the repository with what this host has seen of it, and remembers what is new. Without a place to remember,
/// the logbook alone is asked. What is missing stays remembered until it is back or [`accept`]ed.
///
/// # Errors
/// If the repository cannot be listed, or what is remembered can be neither read nor written.
pub fn look(repo: &Repo, state: Option<&State>) -> Result<Option<Older>, WitnessError> {
    let before = match state {
        Some(state) => state.read::<Seen>(FILE)?.unwrap_or_default(),
        None => Seen::default(),
    };
    let mut now = before.clone();
    // records before documents: a document is there before the record that tells of it
    let records = now.follow(repo)?;
    let snapshots = now.compare(repo)?;
    if let Some(state) = state
        && now != before
    {
        keep(state, &before, &now)?;
    }
    let older = Older { snapshots, records };
    Ok((!older.is_empty()).then_some(older))
}

/// Takes the repository as it is for the newest: what is gone is remembered no longer.
///
/// # Errors
/// As [`look`].
pub fn accept(repo: &Repo, state: &State) -> Result<(), WitnessError> {
    let mut now = Seen::default();
    now.follow(repo)?;
    now.compare(repo)?;
    now.only_what_is_there(repo)?;
    Ok(state.write(FILE, &now)?)
}

// Another command of this host may have seen something else meanwhile. If it is writing just now, it or the next one
// will see the same.
fn keep(state: &State, before: &Seen, now: &Seen) -> Result<(), StateError> {
    let Some(_lock) = state.lock(LOCK)? else { return Ok(()) };
    let current = state.read::<Seen>(FILE)?.unwrap_or_default();
    let merged = if current == *before { now.clone() } else { current.with(before, now) };
    state.write(FILE, &merged)
}
