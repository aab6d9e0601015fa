//! Others may be at work: condemn, days later move to the trash, days later delete. Every step
//! stands on a look at all documents made in this run; by the store's clock.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::apply::Outcome;
use super::history::is_there;
use super::proposal::{Amount, Proposal};
use super::propose::{due, sessions};
use super::reindex::{reindex, replaced};
use super::rewrite::rewrite;
use super::stages::{SessionSeen, Stages, open_sessions};
use super::steps::Steps;
use super::{Options, PruneError, Result, alone};
use crate::base::id::{IndexId, PackId, SnapshotId};
use crate::format::record::{PlanState, PrunePlan};
use crate::repo::ChunkIndex;
use crate::repo::session::OpenSession;
use crate::repo::writer::Writer;
use crate::store::{Key, Kind};
use crate::sys::host::host_name;

/// Does what is due.
pub fn apply(proposal: &Proposal, steps: &mut Steps<'_>, options: &Options) -> Result<Outcome> {
    // tells the store's time, and whether its listing of sessions can be believed
    let own = OpenSession::begin(steps.repo, &host_name())?;
    let result = act(proposal, steps, options, &own);
    own.close();
    result
}

fn act(proposal: &Proposal, steps: &mut Steps<'_>, options: &Options, own: &OpenSession) -> Result<Outcome> {
    let (open, ended, now) = look(proposal, steps, own)?;
    // of writers and prunes that crashed
    steps.delete(&ended)?;
    if !proposal.restored.is_empty() {
        return alone::restore(proposal, steps);
    }
    let stages = due(proposal, &open, now, options);
    let mut outcome = Outcome { spared: stages.pardon.clone(), ..Outcome::default() };
    outcome.waiting = amount(proposal, &stages.waiting);
    let mut obsolete = Vec::new();
    pardon(proposal, steps, &stages, &mut obsolete)?;
    let condemned = condemn(proposal, steps, options, &stages, &open, &mut outcome)?;
    let swept = sweep(proposal, steps, options, &stages, &mut outcome, &mut obsolete)?;
    let purged = purge(proposal, steps, &stages, &mut outcome, &mut obsolete)?;
    let lone: Vec<Key> = stages.lone_signatures.iter().map(|id| Key::signature(*id)).collect();
    steps.delete(&lone)?;
    let nothing = !condemned && !swept && !purged && obsolete.is_empty();
    if !(nothing && alone::is_remembered(proposal)) {
        remember(proposal, steps, &stages, obsolete)?;
    }
    Ok(outcome)
}

fn amount(proposal: &Proposal, packs: &[PackId]) -> Amount {
    Amount::of(packs.iter().filter_map(|id| proposal.ground.listed.get(id)).map(|listed| listed.bytes))
}

// The sessions that are open, the objects of those that have ended, and the store's time.
fn look(
    proposal: &Proposal,
    steps: &Steps<'_>,
    own: &OpenSession,
) -> Result<(Vec<SessionSeen>, Vec<Key>, SystemTime)> {
    let mut listed = sessions(steps.repo)?;
    let at = listed.iter().position(|s| s.name == own.name()).ok_or(PruneError::ListingBlind)?;
    let now = listed.swap_remove(at).modified;
    for stored in &proposal.ground.memory.plans {
        let named = stored.plan.sessions.iter().filter(|name| !listed.iter().any(|s| s.name == **name));
        for name in named {
            if Key::from_listing(&format!("sessions/{name}.json")).is_some()
                && is_there(steps.repo, &Key::session(name))?
            {
                return Err(PruneError::ListingBlind);
            }
        }
    }
    let open = open_sessions(&listed, &proposal.ground.closed_sessions, now);
    let ended = listed.iter().filter(|s| !open.contains(s)).map(|s| Key::session(&s.name)).collect();
    Ok((open, ended, now))
}

// Plans that condemn what is needed after all are replaced by ones that do not; their time begins anew.
fn pardon(proposal: &Proposal, steps: &Steps<'_>, stages: &Stages, obsolete: &mut Vec<Key>) -> Result<()> {
    let needed: BTreeSet<PackId> = stages.pardon.iter().copied().collect();
    let pending = |state| matches!(state, PlanState::Condemned | PlanState::Trash);
    for stored in proposal.ground.memory.plans.iter().filter(|s| pending(s.plan.state)) {
        if !stored.plan.packs.iter().any(|pack| needed.contains(pack)) {
            continue;
        }
        let mut plan = stored.plan.clone();
        plan.packs.retain(|pack| !needed.contains(pack));
        steps.still_holds()?;
        steps.write_plan(&plan)?;
        obsolete.push(stored.key.clone());
    }
    // a writer that begins now may rely on them again
    steps.delete(obsolete)
}

fn condemn(
    proposal: &Proposal,
    steps: &Steps<'_>,
    options: &Options,
    stages: &Stages,
    open: &[SessionSeen],
    outcome: &mut Outcome,
) -> Result<bool> {
    if stages.condemn.is_empty() && stages.condemn_documents.is_empty() {
        return Ok(false);
    }
    let mut packs: BTreeSet<PackId> = stages.condemn.iter().copied().collect();
    let mut rewrites = proposal.rewrite.clone();
    rewrites.retain(|r| packs.contains(&r.id));
    if !rewrites.is_empty() {
        let writer = Writer::with_index(steps.repo, options.level, ChunkIndex::default());
        outcome.damaged = rewrite(steps.repo, &writer, &rewrites, steps.observer)?;
        outcome.index = reindex(steps.repo, &writer, &[], &BTreeSet::new(), &[])?.0;
        outcome.written_bytes += writer.stored_bytes();
        let written = writer.written_packs();
        packs.retain(|pack| !outcome.damaged.contains(pack) && !written.contains(pack));
    }
    let plan = PrunePlan {
        state: PlanState::Condemned,
        sessions: open.iter().map(|s| s.name.clone()).collect(),
        packs: packs.iter().copied().collect(),
        documents: stages.condemn_documents.clone(),
        ..base(proposal, steps)
    };
    steps.still_holds()?;
    steps.write_plan(&plan)?;
    outcome.condemned = amount(proposal, &plan.packs);
    Ok(true)
}

fn base(proposal: &Proposal, steps: &Steps<'_>) -> PrunePlan {
    let repo = steps.repo;
    PrunePlan {
        snapshots: proposal.snapshots.clone(),
        records: proposal.ground.memory.records.clone(),
        ..PrunePlan::new(&repo.config().id, PlanState::Condemned, repo.clock().now())
    }
}

fn sweep(
    proposal: &Proposal,
    steps: &mut Steps<'_>,
    options: &Options,
    stages: &Stages,
    outcome: &mut Outcome,
    obsolete: &mut Vec<Key>,
) -> Result<bool> {
    obsolete.extend(stages.swept_plans.iter().cloned());
    if stages.sweep.is_empty() && stages.sweep_documents.is_empty() {
        return Ok(false);
    }
    let goes: BTreeSet<PackId> = stages.sweep.iter().copied().collect();
    let ground = &proposal.ground;
    let names = |pack: &PackId| goes.contains(pack) || !ground.listed.contains_key(pack);
    let old = replaced(&ground.index_names, &[], names);
    let plan = PrunePlan {
        state: PlanState::Trash,
        packs: stages.sweep.clone(),
        indexes: old.clone(),
        documents: stages.sweep_documents.clone(),
        ..base(proposal, steps)
    };
    steps.still_holds()?;
    steps.write_plan(&plan)?;
    let old = if old.is_empty() { old } else { new_index(steps, options, &old, &goes, outcome)? };
    steps.documents(&stages.sweep_documents, Steps::trash)?;
    steps.trash(&old.iter().map(|id| Key::index(*id)).collect::<Vec<_>>())?;
    steps.trash(&Steps::packs(&goes))?;
    outcome.replaced_indexes += old.len() as u64;
    outcome.trashed = amount(proposal, &stages.sweep);
    outcome.removed.extend(&stages.sweep_documents);
    Ok(true)
}

fn new_index(
    steps: &Steps<'_>,
    options: &Options,
    old: &[IndexId],
    goes: &BTreeSet<PackId>,
    outcome: &mut Outcome,
) -> Result<Vec<IndexId>> {
    let writer = Writer::with_index(steps.repo, options.level, ChunkIndex::default());
    let (new, old) = reindex(steps.repo, &writer, old, goes, &[])?;
    outcome.index = new.or(outcome.index);
    outcome.written_bytes += writer.stored_bytes();
    Ok(old)
}

fn purge(
    proposal: &Proposal,
    steps: &mut Steps<'_>,
    stages: &Stages,
    outcome: &mut Outcome,
    obsolete: &mut Vec<Key>,
) -> Result<bool> {
    let plans = || proposal.ground.memory.plans.iter();
    // what a sweep that ended in the middle left was moved later, under a plan of its own
    let later: BTreeSet<PackId> = plans()
        .filter(|s| !stages.purge.contains(&s.key))
        .flat_map(|s| s.plan.packs.iter().copied())
        .collect();
    for stored in plans().filter(|s| stages.purge.contains(&s.key)) {
        let plan = &stored.plan;
        let documents = plan.documents.iter();
        let documents = documents.flat_map(|id| [Key::document(*id), Key::signature(*id)]);
        let indexes = plan.indexes.iter().map(|id| Key::index(*id));
        let packs = plan.packs.iter().filter(|id| !later.contains(id)).map(|id| Key::pack(*id));
        let keys: Vec<Key> =
            documents.chain(indexes).chain(packs).map(|key| key.below(Kind::Trash)).collect();
        steps.delete(&keys)?;
        outcome.purged_objects += keys.len() as u64;
        outcome.deleted.packs += plan.packs.len() as u64;
        obsolete.push(stored.key.clone());
    }
    Ok(!stages.purge.is_empty())
}

// Writes the memory, then deletes the plans that are done, and the tombstones of what is purged.
fn remember(
    proposal: &Proposal,
    steps: &mut Steps<'_>,
    stages: &Stages,
    mut obsolete: Vec<Key>,
) -> Result<()> {
    let plans = || proposal.ground.memory.plans.iter();
    let trash = |purged: bool| {
        let of_trash = plans()
            .filter(move |s| s.plan.state == PlanState::Trash && stages.purge.contains(&s.key) == purged);
        of_trash.flat_map(|s| s.plan.documents.iter().copied())
    };
    let goes: BTreeSet<PackId> = stages.sweep.iter().copied().collect();
    let mut plan = alone::memory(proposal, steps, &goes, &BTreeSet::new());
    // not those that are forgotten but not removed yet
    let removed = proposal.ground.removed.iter().chain(&stages.sweep_documents).copied();
    plan.documents = removed.chain(trash(true)).collect::<BTreeSet<_>>().into_iter().collect();
    steps.write_plan(&plan)?;
    let is_done = |state| matches!(state, PlanState::Done | PlanState::Alone);
    obsolete.extend(plans().filter(|s| is_done(s.plan.state)).map(|s| s.key.clone()));
    steps.delete(&obsolete)?;
    let in_trash: BTreeSet<SnapshotId> = trash(false).chain(stages.sweep_documents.iter().copied()).collect();
    let purged = proposal.ground.lone_tombstones.iter().filter(|id| !in_trash.contains(id));
    steps.tombstones(&purged.copied().collect::<Vec<_>>())
}
