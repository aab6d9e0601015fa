//! What earlier prunes left written down: the snapshots they saw, and where rewritten packs went.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::id::{PackId, SnapshotId};
use crate::format::record::PlanState;
use crate::repo::plans::StoredPlan;

/// The plans, taken together. More than one is there while a prune goes in steps, or after a crash.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Snapshots that were there and were to stay.
    pub snapshots: BTreeSet<SnapshotId>,
    /// Snapshots that a prune removed.
    pub removed: BTreeSet<SnapshotId>,
    /// Packs that documents name and that are gone for a reason.
    pub gone: BTreeSet<PackId>,
    /// Packs that hold what was in those.
    pub instead: BTreeSet<PackId>,
    /// The newest record of each writer.
    pub records: BTreeMap<String, u64>,
    /// Packs that some plan is or was about to remove.
    pub condemned: BTreeSet<PackId>,
    /// Packs that a plan named which saw no snapshot at all.
    pub all_forgotten: BTreeSet<PackId>,
    /// The plans.
    pub plans: Vec<StoredPlan>,
}

impl Memory {
    /// What these plans say.
    pub fn of(plans: Vec<StoredPlan>) -> Self {
        let mut memory = Self::default();
        for StoredPlan { plan, .. } in &plans {
            memory.snapshots.extend(&plan.snapshots);
            memory.gone.extend(&plan.gone);
            memory.instead.extend(&plan.instead);
            memory.condemned.extend(&plan.packs);
            // what is only condemned is still there, and may yet be taken back
            if plan.state != PlanState::Condemned {
                memory.removed.extend(&plan.documents);
            }
            if plan.snapshots.is_empty() {
                memory.all_forgotten.extend(&plan.packs);
            }
            for (writer, &sequence) in &plan.records {
                let newest = memory.records.entry(writer.clone()).or_default();
                *newest = sequence.max(*newest);
            }
        }
        memory.plans = plans;
        memory
    }

    /// True if a plan has work left, going by the packs that are still listed.
    pub fn is_unfinished(&self, is_listed: impl Fn(&PackId) -> bool) -> bool {
        self.plans.iter().any(|stored| match stored.plan.state {
            PlanState::Done => false,
            PlanState::Alone => stored.plan.packs.iter().any(&is_listed),
            PlanState::Condemned | PlanState::Trash => true,
        })
    }
}
