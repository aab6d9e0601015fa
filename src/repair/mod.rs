//! Mending a repository. Nothing is ever deleted: new objects are written and durable first, then
//! what they replace is moved to `quarantine/`. At every moment at least as much can be restored as before,
//! so a repair can be interrupted anywhere and begun again; one that has nothing to do writes nothing.

mod apply;
mod overlay;
mod proposal;
mod rebuild;
mod salvage;

use crate::base::id::{IndexId, PackId};
use crate::repo::RepoError;
use crate::store::Key;
use crate::verify::Depth;

pub use apply::apply;
pub use proposal::{Proposal, propose};

#[cfg(test)]
mod tests;

/// What may be done.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Move documents that cannot be read to the quarantine: nothing can be restored by them, but a
    /// copy elsewhere may still replace them.
    pub unreadable_documents: bool,
    /// How closely damage is looked for. Deep finds all of it; for an index that is gone, structure is
    /// enough and reads only the packs' tables.
    pub depth: Depth,
    /// How many threads read packs.
    pub workers: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { unreadable_documents: false, depth: Depth::Deep, workers: 2 }
    }
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Files at the top that were written again.
    pub rewritten: Vec<Key>,
    /// Packs brought back from the trash or the quarantine.
    pub brought_back: Vec<PackId>,
    /// Packs whose good chunks were saved.
    pub salvaged: Vec<PackId>,
    /// How many chunks that was.
    pub saved_chunks: u64,
    /// How many chunks of them nothing could be got from.
    pub lost_chunks: u64,
    /// Chunks that some snapshot needs, as far as its manifest can be read, and no pack has.
    pub missing_chunks: u64,
    /// The index objects that now describe all packs, if they were made again.
    pub indexes: Vec<IndexId>,
    /// Where everything that was taken out of use lies now.
    pub quarantined: Vec<Key>,
}

/// Why nothing more was done. Whatever was done before was good by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// Somebody else uses it, and packs must not be moved under their hands.
    #[error("the repository is in use by another command")]
    Busy,
    /// It is not as it was when the proposal was made.
    #[error("the repository has changed since the repair was proposed")]
    Changed,
    /// What was just written does not hold what it must: nothing was moved.
    #[error("the new {0} does not hold what it must; nothing was moved")]
    NotProven(&'static str),
}

impl From<crate::store::StoreError> for RepairError {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Repo(error.into())
    }
}

/// The result of a repair's work.
pub type Result<T> = std::result::Result<T, RepairError>;
