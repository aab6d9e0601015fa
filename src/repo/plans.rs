//! Plans of prunes, as writers and the next prune read them.

use std::collections::HashSet;
use std::time::SystemTime;

use super::{Repo, RepoError, Result};
use crate::base::id::PackId;
use crate::format::record::{MAX_BYTES, PlanState, PrunePlan, has_its_name};
use crate::store::{Key, Kind, Lock, StoreError};

/// A plan that was found.
#[derive(Clone, Debug)]
pub struct StoredPlan {
    /// Its object.
    pub key: Key,
    /// What it says.
    pub plan: PrunePlan,
    /// When it was written, by the store's clock.
    pub modified: SystemTime,
}

impl Repo {
    /// The packs that a prune has condemned: a writer must not rely on them.
    ///
    /// # Errors
    /// If the plans cannot be read.
    pub fn condemned_packs(&self) -> Result<HashSet<PackId>> {
        // a plan made alone is carried out under the exclusive lock: whoever holds a lock that reaches
        // that one sees only what a crash left of it, and the next prune decides anew
        let locked = matches!(self.lock, Lock::Held(_)) && self.store.locks_reach_everybody();
        let mut packs = HashSet::new();
        for stored in self.stored_plans()? {
            match stored.plan.state {
                PlanState::Done => {}
                PlanState::Alone if locked => {}
                _ => packs.extend(stored.plan.packs),
            }
        }
        Ok(packs)
    }

    /// The plans of prunes.
    ///
    /// # Errors
    /// If one cannot be read: what it condemned is not known then.
    pub fn prune_plans(&self) -> Result<Vec<(Key, PrunePlan)>> {
        Ok(self.stored_plans()?.into_iter().map(|stored| (stored.key, stored.plan)).collect())
    }

    /// The plans of prunes with their age.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn stored_plans(&self) -> Result<Vec<StoredPlan>> {
        let mut plans = Vec::new();
        for object in self.store.list(Kind::Prune)? {
            let bytes = match self.store.read_all(&object.key, MAX_BYTES) {
                // a prune that ended since
                Err(StoreError::Missing { .. }) => continue,
                other => other?,
            };
            if !has_its_name(object.key.stem(), &bytes) {
                return Err(RepoError::WrongHash { key: object.key });
            }
            let plan = PrunePlan::decode(&bytes, &self.config.id)
                .map_err(|source| RepoError::Damaged { key: object.key.clone(), source })?;
            plans.push(StoredPlan { key: object.key, plan, modified: object.modified });
        }
        Ok(plans)
    }
}
