//! Removes what no snapshot needs (format.md, section 10).
//!
//! [`propose`] decides and changes nothing; [`apply`] does what was decided, in an order in which a
//! crash at any point loses nothing: what replaces is durable before what is replaced goes, and
//! references go before what they refer to. A prune that is alone (it holds the exclusive lock) does
//! all at once; one that is not condemns, and looks again days later before it removes.
//!
//! Invariant: a pack is removed only after every chunk that a remaining snapshot needs was found in
//! another pack that stays, by reading the manifests of all remaining snapshots, not by counting.

mod alone;
mod apply;
mod awake;
mod fates;
mod history;
mod mark;
mod memory;
mod proposal;
mod propose;
mod reindex;
mod rewrite;
mod seen;
mod shared;
mod stages;
mod steps;
mod together;

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::base::event::Observer;
use crate::repo::{Repo, RepoError};
use crate::store::StoreError;

pub use apply::{Outcome, apply};
pub use proposal::{Amount, Counted, Mode, PackSize, Proposal, Refusal, Rewrite, Warning};
pub use propose::propose;

/// What a prune may do.
#[derive(Clone, Debug)]
pub struct Options {
    /// A pack is rewritten when more than this share of it is needed by nothing: 0 to 1.
    pub max_unused: f64,
    /// More index objects than this are merged.
    pub max_indexes: usize,
    /// Go in steps even where nobody else is at work.
    pub together: bool,
    /// Together: from condemning to the trash; at least [`Self::MIN_GRACE`].
    pub grace: Duration,
    /// Together: from the trash to deletion; at least [`Self::MIN_KEEP_TRASH`].
    pub keep_trash: Duration,
    /// Read every manifest even if nothing seems to have become useless.
    pub full: bool,
    /// Level at which frames that are made again are compressed.
    pub level: i32,
}

impl Options {
    /// No shorter time is waited after condemning.
    pub const MIN_GRACE: Duration = Duration::from_secs(48 * 3600);
    /// No shorter time is waited before the trash is emptied.
    pub const MIN_KEEP_TRASH: Duration = Duration::from_secs(7 * 24 * 3600);
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_unused: 0.3,
            max_indexes: 32,
            together: false,
            grace: Self::MIN_GRACE,
            keep_trash: Self::MIN_KEEP_TRASH,
            full: false,
            level: crate::repo::writer::DEFAULT_LEVEL,
        }
    }
}

/// Why a prune did not do what it was to do. Whatever the reason, nothing that a snapshot needs is gone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PruneError {
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// It would not be safe; nothing was changed.
    #[error("nothing was removed: {}", .0.first().map_or_else(|| "it is not safe".to_owned(), ToString::to_string))]
    Refused(Vec<Refusal>),
    /// The repository is not what it was when the proposal was made.
    #[error("the repository has changed since the prune looked at it")]
    Outdated,
    /// The machine slept: what was decided before may not be right any more.
    #[error("the machine slept for {} seconds in the middle of the prune", .0.as_secs())]
    Slept(Duration),
    /// The store does not show what was just written: its listings cannot be believed.
    #[error("nothing was removed: the store's listing does not show an object that was just written")]
    ListingBlind,
}

impl From<StoreError> for PruneError {
    fn from(error: StoreError) -> Self {
        Self::Repo(error.into())
    }
}

/// The result of a prune's work.
pub type Result<T> = std::result::Result<T, PruneError>;

/// How often [`run`] looks again when something has changed under it.
const TRIES: usize = 5;

/// Proposes and applies; looks again when the repository changed meanwhile or the machine slept.
///
/// # Errors
/// If it is refused or fails; see [`PruneError`].
pub fn run(repo: &mut Repo, options: &Options, observer: &dyn Observer) -> Result<Outcome> {
    let mut total = Outcome::default();
    for last in (0..TRIES).map(|n| n + 1 == TRIES) {
        let proposal = propose(repo, options, observer)?;
        match apply(proposal, repo, options, observer) {
            Ok(outcome) => {
                let again = outcome.look_again;
                total.add(outcome);
                if !again {
                    break;
                }
            }
            Err(PruneError::Outdated | PruneError::Slept(_)) if !last => {}
            Err(e) => return Err(e),
        }
    }
    Ok(total)
}
