//! Doing what was proposed. New objects first, each durable and proven, then old ones out of the way,
//! references before what they refer to.

use std::collections::{BTreeSet, HashSet};

use super::proposal::{Proposal, for_each_needed, listing};
use super::salvage::Salvage;
use super::{Outcome, RepairError, Result, rebuild};
use crate::base::event::{Event, Observer, Step};
use crate::base::id::{ChunkId, IndexId, PackId, SnapshotId};
use crate::repo::load::Condemned;
use crate::repo::open::{RECOVER_MD, RECOVER_PY};
use crate::repo::writer::{DEFAULT_LEVEL, Writer};
use crate::repo::{ChunkIndex, Repo, RepoError};
use crate::store::{Key, Kind, StoreError};
use crate::verify::{Checker, Layout};

/// Does what the proposal says.
///
/// # Errors
/// If somebody else uses the repository, it has changed since, or cannot be written. It can be begun
/// again whenever it ended.
pub fn apply(proposal: &Proposal, repo: &mut Repo, observer: &dyn Observer) -> Result<Outcome> {
    if proposal.is_empty() {
        return Ok(Outcome::default());
    }
    if !repo.try_exclusive()? {
        return Err(RepairError::Busy);
    }
    if repo.writers_elsewhere()? {
        repo.share()?;
        return Err(RepairError::Busy);
    }
    observer.event(Event::Started { step: Step::Repair, bytes: None });
    let result = mend(proposal, repo, observer);
    observer.event(Event::Finished);
    // others may go on, whatever came of it
    repo.share()?;
    result
}

fn mend(proposal: &Proposal, repo: &Repo, observer: &dyn Observer) -> Result<Outcome> {
    if listing(repo)? != proposal.based_on {
        return Err(RepairError::Changed);
    }
    let mut outcome = Outcome::default();
    rewrite(proposal, repo, &mut outcome)?;
    for (key, pack) in &proposal.bring_back {
        repo.store().rename(key, &Key::pack(*pack))?;
        outcome.brought_back.push(*pack);
    }
    repo.store().sync()?;
    if proposal.rebuild_index {
        rebuild_index(proposal, repo, &mut outcome, observer)?;
    }
    for key in &proposal.quarantine {
        still_unreadable(repo, key)?;
        outcome.quarantined.push(park(repo, key)?);
    }
    repo.store().sync()?;
    outcome.missing_chunks = missing(repo)?;
    Ok(outcome)
}

// What nothing tells of where it lay cannot be counted by what was looked at, but by who needs it.
fn missing(repo: &Repo) -> Result<u64> {
    let index = repo.load(Condemned::Use)?.index;
    let mut missing = HashSet::new();
    for_each_needed(repo, repo.store(), &index, &mut |chunk| {
        if index.get(&chunk).is_none() {
            missing.insert(chunk);
        }
    })?;
    Ok(missing.len() as u64)
}

// A read that failed may have been the moment's: a document that is given now stays.
fn still_unreadable(repo: &Repo, key: &Key) -> Result<()> {
    let Ok(id) = SnapshotId::from_hex(key.stem()) else { return Ok(()) };
    match repo.document(id) {
        Ok(_) => Err(RepairError::Changed),
        Err(e) if e.is_damage() => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn rewrite(proposal: &Proposal, repo: &Repo, outcome: &mut Outcome) -> Result<()> {
    for key in &proposal.rewrite {
        let bytes = if *key == Key::top("RECOVER.md") { RECOVER_MD } else { RECOVER_PY };
        match repo.store().size(key) {
            Err(StoreError::Missing { .. }) => {}
            _ => outcome.quarantined.push(park(repo, key)?),
        }
        repo.store().create(key, bytes)?;
        outcome.rewritten.push(key.clone());
    }
    Ok(())
}

fn rebuild_index(
    proposal: &Proposal,
    repo: &Repo,
    outcome: &mut Outcome,
    observer: &dyn Observer,
) -> Result<()> {
    let damaged: BTreeSet<PackId> = proposal.salvage.iter().copied().collect();
    let before = rebuild::listed(repo, &damaged)?;
    let known = match proposal.salvage.is_empty() {
        true => ChunkIndex::default(),
        false => rebuild::from_tables(repo, &before)?,
    };
    let writer = Writer::with_index(repo, DEFAULT_LEVEL, known);
    let saved = salvage(proposal, repo, &writer, outcome, observer)?;
    let indexes = rebuild::write(repo, &writer, &before)?;
    // with the new packs, and whatever an interrupted repair left
    let now = rebuild::listed(repo, &damaged)?;
    rebuild::prove(repo, &indexes, &now)?;
    if !proposal.salvage.is_empty() {
        let index = rebuild::from_tables(repo, &now)?;
        let new: Vec<PackId> = now.keys().filter(|id| !before.contains_key(id)).copied().collect();
        prove_packs(repo, &index, &new, &saved)?;
    }
    let old = repo.store().list(Kind::Index)?.into_iter().map(|o| o.key);
    let kept: BTreeSet<Key> = indexes.iter().map(|id: &IndexId| Key::index(*id)).collect();
    for key in old.filter(|key| !kept.contains(key)) {
        outcome.quarantined.push(park(repo, &key)?);
    }
    repo.store().sync()?;
    outcome.indexes = indexes;
    for pack in &proposal.salvage {
        outcome.quarantined.push(park(repo, &Key::pack(*pack))?);
        outcome.salvaged.push(*pack);
    }
    repo.store().sync()?;
    Ok(())
}

fn salvage(
    proposal: &Proposal,
    repo: &Repo,
    writer: &Writer,
    outcome: &mut Outcome,
    observer: &dyn Observer,
) -> Result<HashSet<ChunkId>> {
    if proposal.salvage.is_empty() {
        return Ok(HashSet::new());
    }
    let loaded = repo.load(Condemned::Use)?;
    let mut salvage = Salvage::new(writer, observer)?;
    for &pack in &proposal.salvage {
        let bytes = repo.store().size(&Key::pack(pack))?;
        salvage.pack(pack, bytes, &loaded)?;
    }
    let (saved, lost) = salvage.finish()?;
    outcome.saved_chunks = saved.len() as u64;
    outcome.lost_chunks = lost.len() as u64;
    Ok(saved)
}

/// Reads the new packs as they are stored: all is right, and every chunk saved is there.
fn prove_packs(repo: &Repo, index: &ChunkIndex, new: &[PackId], saved: &HashSet<ChunkId>) -> Result<()> {
    let layout = Layout::of(index);
    let mut checker = Checker::new(repo.store(), index)?;
    for (number, pack) in (0u32..).zip(index.packs()) {
        if pack.id.is_some_and(|id| new.contains(&id)) {
            let state = checker.decode(number, &layout.members(index, number), &|_| ());
            if state.why.is_some() || state.differs {
                return Err(RepairError::NotProven("packs"));
            }
        }
    }
    if saved.iter().all(|id| index.get(id).is_some()) { Ok(()) } else { Err(RepairError::NotProven("packs")) }
}

/// Moves an object to the quarantine, beside what may lie there under its name already.
fn park(repo: &Repo, key: &Key) -> Result<Key> {
    let wanted = key.below(Kind::Quarantine);
    let again = (2..1000).filter_map(|n| Key::from_listing(&format!("{wanted}.{n}")));
    for place in std::iter::once(wanted.clone()).chain(again) {
        match repo.store().size(&place) {
            Err(StoreError::Missing { .. }) => {
                repo.store().rename(key, &place)?;
                return Ok(place);
            }
            other => drop(other?),
        }
    }
    Err(RepoError::Key(format!("too many objects in the quarantine are called {wanted}")).into())
}
