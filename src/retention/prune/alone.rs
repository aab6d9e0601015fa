//! Nobody else is at work: everything at once, in the order of format.md, section 10.

use std::collections::BTreeSet;

use super::apply::Outcome;
use super::proposal::{Amount, Proposal};
use super::reindex::{reindex, replaced};
use super::rewrite::rewrite;
use super::steps::Steps;
use super::{Options, Result};
use crate::base::id::{IndexId, PackId, SnapshotId};
use crate::format::record::{PlanState, PrunePlan};
use crate::repo::ChunkIndex;
use crate::repo::writer::Writer;
use crate::store::{Key, Kind, ObjectInfo};

/// Does it all.
pub fn apply(proposal: &Proposal, steps: &mut Steps<'_>, options: &Options) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    if !proposal.restored.is_empty() {
        return restore(proposal, steps);
    }
    if !proposal.is_empty() || proposal.ground.in_trash || !is_remembered(proposal) {
        remove(proposal, steps, options, &mut outcome)?;
    }
    // nobody is at work, so nobody has a session or a half-written object; if somebody began elsewhere, a later prune
    // clears up
    let sessions = keys(steps.repo.store().list(Kind::Sessions)?);
    if !steps.repo.writers_elsewhere()? {
        steps.delete(&sessions)?;
        outcome.cleared_bytes = steps.repo.store().clear_staged()?;
    }
    Ok(outcome)
}

fn keys(objects: Vec<ObjectInfo>) -> Vec<Key> {
    objects.into_iter().map(|object| object.key).collect()
}

/// Takes packs back from the trash; everything must be looked at again then.
pub fn restore(proposal: &Proposal, steps: &mut Steps<'_>) -> Result<Outcome> {
    steps.untrash(&Steps::packs(&proposal.restored))?;
    Ok(Outcome { spared: proposal.restored.clone(), look_again: true, ..Outcome::default() })
}

fn remove(
    proposal: &Proposal,
    steps: &mut Steps<'_>,
    options: &Options,
    outcome: &mut Outcome,
) -> Result<()> {
    let old_plans: Vec<Key> = proposal.ground.memory.plans.iter().map(|s| s.key.clone()).collect();
    let mut obsolete = old_plans;
    let leaving: BTreeSet<PackId> = proposal.leaving().collect();
    let (mut goes, mut indexes) = (BTreeSet::new(), Vec::new());
    // nothing but documents goes: one plan is enough, and it is the memory at once
    let short = leaving.is_empty() && proposal.indexes.is_empty() && proposal.strays.is_empty();
    if short {
        steps.write_plan(&memory(proposal, steps, &goes, &BTreeSet::new()))?;
    } else {
        let plan = PrunePlan {
            state: PlanState::Alone,
            packs: leaving.iter().copied().collect(),
            indexes: proposal.indexes.clone(),
            ..memory(proposal, steps, &leaving, &BTreeSet::new())
        };
        obsolete.push(steps.write_plan(&plan)?);
    }
    let mut written = BTreeSet::new();
    if !short {
        (goes, indexes, written) = replace(proposal, steps, options, outcome)?;
    }
    documents(proposal, steps)?;
    steps.delete(&indexes.iter().map(|id| Key::index(*id)).collect::<Vec<_>>())?;
    steps.delete(&Steps::packs(&goes))?;
    outcome.replaced_indexes = indexes.len() as u64;
    let trash = keys(steps.repo.store().list(Kind::Trash)?);
    steps.delete(&trash)?;
    outcome.purged_objects = trash.len() as u64;
    if !short {
        steps.write_plan(&memory(proposal, steps, &goes, &written))?;
    }
    steps.delete(&obsolete)?;
    count(proposal, &goes, outcome);
    Ok(())
}

fn documents(proposal: &Proposal, steps: &mut Steps<'_>) -> Result<()> {
    steps.documents(&proposal.forgotten, Steps::delete)?;
    let lone = &proposal.ground.lone_signatures;
    steps.delete(&lone.iter().map(|(id, _)| Key::signature(*id)).collect::<Vec<_>>())?;
    // last: a document without its tombstone would be a snapshot again
    let tombstones: Vec<SnapshotId> =
        proposal.forgotten.iter().chain(&proposal.ground.lone_tombstones).copied().collect();
    steps.tombstones(&tombstones)
}

// Makes what replaces durable. Returns the packs and index objects that may go, and the new packs.
fn replace(
    proposal: &Proposal,
    steps: &Steps<'_>,
    options: &Options,
    outcome: &mut Outcome,
) -> Result<(BTreeSet<PackId>, Vec<IndexId>, BTreeSet<PackId>)> {
    let repo = steps.repo;
    let writer = Writer::with_index(repo, options.level, ChunkIndex::default());
    outcome.damaged = rewrite(repo, &writer, &proposal.rewrite, steps.observer)?;
    let written = writer.written_packs();
    // the same frames make the same pack: one that a crashed prune left may have been made again
    let stays = |pack: &PackId| outcome.damaged.contains(pack) || written.contains(pack);
    let goes: BTreeSet<PackId> = proposal.leaving().filter(|pack| !stays(pack)).collect();
    let ground = &proposal.ground;
    let listed = |pack: &PackId| ground.listed.contains_key(pack) || written.contains(pack);
    let old = replaced(&ground.index_names, &ground.merge, |pack| goes.contains(pack) || !listed(pack));
    let strays: Vec<PackId> = proposal.strays.iter().map(|p| p.id).collect();
    let (new, old) = reindex(repo, &writer, &old, &goes, &strays)?;
    outcome.index = new;
    outcome.written_bytes = writer.stored_bytes();
    Ok((goes, old, written))
}

fn count(proposal: &Proposal, goes: &BTreeSet<PackId>, outcome: &mut Outcome) {
    let bytes = |id: &PackId| proposal.ground.listed.get(id).map_or(0, |listed| listed.bytes);
    outcome.deleted = Amount::of(goes.iter().map(bytes));
    let rewritten = proposal.rewrite.iter().filter(|r| goes.contains(&r.id));
    outcome.rewritten = Amount::of(rewritten.map(|r| r.bytes));
    outcome.removed.extend(&proposal.forgotten);
}

/// What the next prune must know after these packs are gone and those have been written.
pub fn memory(
    proposal: &Proposal,
    steps: &Steps<'_>,
    goes: &BTreeSet<PackId>,
    written: &BTreeSet<PackId>,
) -> PrunePlan {
    let repo = steps.repo;
    let ground = &proposal.ground;
    let stays =
        |pack: &PackId| (ground.listed.contains_key(pack) || written.contains(pack)) && !goes.contains(pack);
    let gone = ground.named.iter().filter(|pack| !stays(pack));
    let instead: BTreeSet<PackId> = match proposal.counted {
        super::Counted::Documents => ground.memory.instead.iter().copied().filter(stays).collect(),
        super::Counted::Manifests => {
            let live = ground.live.iter().chain(written);
            live.filter(|pack| stays(pack) && !ground.named.contains(pack)).copied().collect()
        }
    };
    let removed = ground.removed.iter().chain(&proposal.forgotten);
    PrunePlan {
        snapshots: proposal.snapshots.clone(),
        documents: removed.copied().collect::<BTreeSet<_>>().into_iter().collect(),
        gone: gone.copied().collect(),
        instead: instead.into_iter().collect(),
        records: ground.memory.records.clone(),
        ..PrunePlan::new(&repo.config().id, PlanState::Done, repo.clock().now())
    }
}

/// True if the one plan there is says what it would say if it were written again.
pub fn is_remembered(proposal: &Proposal) -> bool {
    let ground = &proposal.ground;
    let [stored] = &ground.memory.plans[..] else { return false };
    let plan = &stored.plan;
    let snapshots: BTreeSet<_> = plan.snapshots.iter().collect();
    plan.state == PlanState::Done
        && snapshots.iter().copied().eq(proposal.snapshots.iter().collect::<BTreeSet<_>>())
        && plan.records == ground.memory.records
        && (proposal.counted == super::Counted::Documents || proposal.is_empty() && explains(plan, proposal))
}

// Nothing changed, but everything was read because what documents name and what is there differ:
// the next prune is spared that if the plan says why.
fn explains(plan: &PrunePlan, proposal: &Proposal) -> bool {
    let ground = &proposal.ground;
    let gone = |pack: &PackId| ground.listed.contains_key(pack) || plan.gone.contains(pack);
    let instead = |pack: &PackId| ground.named.contains(pack) || plan.instead.contains(pack);
    ground.named.iter().all(gone) && ground.live.iter().all(instead)
}
