//! Removing, in batches, each preceded by a look whether the decision still holds.

use super::awake::Awake;
use super::proposal::Mode;
use super::seen::BasedOn;
use super::{PruneError, Result};
use crate::base::event::{Event, Observer};
use crate::base::id::{PackId, SnapshotId, name_of};
use crate::format::record::PrunePlan;
use crate::repo::{Repo, RepoError};
use crate::store::{Key, Kind, StoreError};
use crate::sys::host::random_hex;

/// So many objects are removed between two looks.
const BATCH: usize = 64;

/// What the steps of one prune share.
pub struct Steps<'a> {
    /// The repository.
    pub repo: &'a Repo,
    /// Who listens.
    pub observer: &'a dyn Observer,
    /// Whether others may be at work.
    pub mode: Mode,
    /// What the decision was made on.
    pub based_on: &'a mut BasedOn,
    /// Whether the machine slept.
    pub awake: Awake<'a>,
}

impl Steps<'_> {
    /// Fails unless everything is as it was when the decision was made.
    ///
    /// # Errors
    /// [`PruneError::Outdated`], [`PruneError::Slept`], or that of the store; or if it was told to stop.
    pub fn still_holds(&self) -> Result<()> {
        if self.observer.interrupted() {
            return Err(RepoError::Interrupted.into());
        }
        self.awake.check()?;
        self.unchanged()?;
        // one that began elsewhere: from now on it goes in steps
        if self.mode == Mode::Alone && self.repo.writers_elsewhere()? {
            return Err(PruneError::Outdated);
        }
        Ok(())
    }

    /// Fails if snapshots came or went, or were forgotten or taken back.
    ///
    /// # Errors
    /// [`PruneError::Outdated`], or that of the store.
    pub fn unchanged(&self) -> Result<()> {
        if BasedOn::now(self.repo)? == *self.based_on { Ok(()) } else { Err(PruneError::Outdated) }
    }

    /// Deletes objects and makes that durable.
    ///
    /// # Errors
    /// If the decision no longer holds or the store fails.
    pub fn delete(&self, keys: &[Key]) -> Result<()> {
        self.in_batches(keys, |key| Ok(self.repo.store().delete(key)?))
    }

    /// Moves objects to the trash and makes that durable.
    ///
    /// # Errors
    /// If the decision no longer holds or the store fails.
    pub fn trash(&self, keys: &[Key]) -> Result<()> {
        self.in_batches(keys, |key| move_to(self.repo, key, &key.below(Kind::Trash)))
    }

    /// Moves objects back from the trash and makes that durable.
    ///
    /// # Errors
    /// If the store fails.
    pub fn untrash(&self, keys: &[Key]) -> Result<()> {
        self.in_batches(keys, |key| move_to(self.repo, &key.below(Kind::Trash), key))
    }

    fn in_batches(&self, keys: &[Key], mut act: impl FnMut(&Key) -> Result<()>) -> Result<()> {
        for batch in keys.chunks(BATCH) {
            self.still_holds()?;
            batch.iter().try_for_each(&mut act)?;
            self.observer.event(Event::Advanced { entries: batch.len() as u64, bytes: 0 });
        }
        if !keys.is_empty() {
            self.repo.store().sync()?;
        }
        Ok(())
    }

    /// Removes documents and their signatures, the documents first: a snapshot without a signature
    /// would look forged.
    ///
    /// # Errors
    /// If the decision no longer holds or the store fails.
    pub fn documents(&mut self, ids: &[SnapshotId], remove: fn(&Self, &[Key]) -> Result<()>) -> Result<()> {
        let keys = |key: fn(SnapshotId) -> Key| ids.iter().map(|id| key(*id)).collect::<Vec<_>>();
        for batch in keys(Key::document).chunks(BATCH) {
            remove(self, batch)?;
            for key in batch {
                if let Ok(id) = SnapshotId::from_hex(key.stem()) {
                    self.based_on.documents.remove(&id);
                }
            }
        }
        remove(self, &keys(Key::signature))
    }

    /// Removes tombstones.
    ///
    /// # Errors
    /// If the decision no longer holds or the store fails.
    pub fn tombstones(&mut self, ids: &[SnapshotId]) -> Result<()> {
        for batch in ids.chunks(BATCH) {
            self.delete(&batch.iter().map(|id| Key::tombstone(*id)).collect::<Vec<_>>())?;
            batch.iter().for_each(|id| {
                self.based_on.tombstones.remove(id);
            });
        }
        Ok(())
    }

    /// Writes a plan, durable, and looks whether the store's listing shows it.
    ///
    /// # Errors
    /// [`PruneError::ListingBlind`] if it does not, or that of the store.
    pub fn write_plan(&self, plan: &PrunePlan) -> Result<Key> {
        let nonce = random_hex().map_err(RepoError::io("get random bytes"))?;
        let bytes = plan.with_nonce(nonce).encode().map_err(RepoError::from)?;
        let key = Key::prune(&name_of(&bytes));
        let store = self.repo.store();
        store.create(&key, &bytes)?;
        store.sync()?;
        if store.list(Kind::Prune)?.iter().any(|object| object.key == key) {
            return Ok(key);
        }
        Err(PruneError::ListingBlind)
    }

    /// The keys of packs.
    pub fn packs<'p>(ids: impl IntoIterator<Item = &'p PackId>) -> Vec<Key> {
        ids.into_iter().map(|id| Key::pack(*id)).collect()
    }
}

// An object that is gone was moved by another prune; one whose new name is taken is there twice.
fn move_to(repo: &Repo, from: &Key, to: &Key) -> Result<()> {
    let store = repo.store();
    let size = |key: &Key| match store.size(key) {
        Ok(size) => Ok(Some(size)),
        Err(StoreError::Missing { .. }) => Ok(None),
        Err(e) => Err(e),
    };
    if let Some(there) = size(to)? {
        // of another size it is damaged: both stay for a repair to look at
        return if size(from)? == Some(there) { Ok(store.delete(from)?) } else { Ok(()) };
    }
    match store.rename(from, to) {
        Ok(()) | Err(StoreError::Missing { .. }) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
