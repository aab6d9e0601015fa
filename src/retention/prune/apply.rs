//! Doing what was decided.

use std::time::Duration;

use super::awake::Awake;
use super::proposal::{Amount, Mode, Proposal};
use super::steps::Steps;
use super::{Options, PruneError, Result, alone, together};
use crate::base::event::{Event, Observer, Step};
use crate::base::id::{IndexId, PackId, SnapshotId};
use crate::repo::Repo;

/// What a prune did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Snapshots whose documents were removed.
    pub removed: Vec<SnapshotId>,
    /// Packs that were deleted.
    pub deleted: Amount,
    /// Those of them that were rewritten.
    pub rewritten: Amount,
    /// Bytes that were written.
    pub written_bytes: u64,
    /// Packs that are damaged and were left as they are, though little of them is needed.
    pub damaged: Vec<PackId>,
    /// The new index object.
    pub index: Option<IndexId>,
    /// How many index objects were replaced.
    pub replaced_indexes: u64,
    /// Together: packs condemned now.
    pub condemned: Amount,
    /// Together: packs condemned earlier whose time has not come.
    pub waiting: Amount,
    /// Packs found to be needed after all: pardoned, or taken back from the trash.
    pub spared: Vec<PackId>,
    /// Packs moved to the trash.
    pub trashed: Amount,
    /// Objects deleted from the trash.
    pub purged_objects: u64,
    /// Bytes that crashed writers had left under `tmp/`.
    pub cleared_bytes: u64,
    /// True if packs were taken back from the trash: everything has to be looked at again.
    pub look_again: bool,
}

impl Outcome {
    /// Adds what a further attempt did.
    pub fn add(&mut self, other: Self) {
        let sum = |a: Amount, b: Amount| Amount { packs: a.packs + b.packs, bytes: a.bytes + b.bytes };
        self.removed.extend(other.removed);
        self.deleted = sum(self.deleted, other.deleted);
        self.rewritten = sum(self.rewritten, other.rewritten);
        self.written_bytes += other.written_bytes;
        self.damaged.extend(other.damaged);
        self.index = other.index.or(self.index);
        self.replaced_indexes += other.replaced_indexes;
        self.condemned = sum(self.condemned, other.condemned);
        self.waiting = other.waiting;
        self.spared.extend(other.spared);
        self.trashed = sum(self.trashed, other.trashed);
        self.purged_objects += other.purged_objects;
        self.cleared_bytes += other.cleared_bytes;
        self.look_again = other.look_again;
    }
}

/// Does what the proposal says, then shares the repository again.
///
/// # Errors
/// If the proposal says why it must not be done, if the repository has changed since, or if it
/// fails; a crash or an error at any point loses nothing.
pub fn apply(
    proposal: Proposal,
    repo: &mut Repo,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Outcome> {
    let result = apply_watching(proposal, repo, options, observer, &crate::sys::clock::slept);
    repo.share()?;
    result
}

/// As [`apply`], with another way to learn how long the machine has slept.
pub(super) fn apply_watching(
    mut proposal: Proposal,
    repo: &Repo,
    options: &Options,
    observer: &dyn Observer,
    slept: &dyn Fn() -> Duration,
) -> Result<Outcome> {
    if !proposal.refusals.is_empty() {
        return Err(PruneError::Refused(proposal.refusals));
    }
    let bytes = proposal.rewrite.iter().map(|r| r.live_bytes).sum();
    observer.event(Event::Started { step: Step::Prune, bytes: Some(bytes) });
    let mut based_on = std::mem::take(&mut proposal.ground.based_on);
    let mode = proposal.mode;
    let awake = Awake::since_now(slept);
    let mut steps = Steps { repo, observer, mode, based_on: &mut based_on, awake };
    let result = steps.unchanged().and_then(|()| match mode {
        Mode::Alone => alone::apply(&proposal, &mut steps, options),
        Mode::Together => together::apply(&proposal, &mut steps, options),
    });
    observer.event(Event::Finished);
    result
}
