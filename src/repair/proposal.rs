//! What a repair would do. Needs only read access.

use std::collections::{BTreeMap, BTreeSet};

use super::{Options, Result};
use crate::base::event::Observer;
use crate::base::id::{ChunkId, PackId, SnapshotId};
use crate::format::manifest::{line_chunks, read_list};
use crate::format::pack::Table;
use crate::repo::load::{Condemned, read_table};
use crate::repo::reader::ChunkReader;
use crate::repo::{ChunkIndex, Place, Repo};
use crate::store::{Key, Kind, Store};
use crate::verify::{self, Checker, Layout, Problem, Selection, Severity, verify};

use super::overlay::Overlay;

/// Everything a repair would do, decided before anything is touched.
#[derive(Clone, Debug, Default)]
pub struct Proposal {
    /// What was wrong.
    pub problems: Vec<Problem>,
    /// Files at the top that are written again.
    pub rewrite: Vec<Key>,
    /// Whole packs in the trash or the quarantine that are needed: where they lie, and what they are.
    pub bring_back: Vec<(Key, PackId)>,
    /// Damaged packs whose good chunks are saved.
    pub salvage: Vec<PackId>,
    /// True if the index is made again from the packs.
    pub rebuild_index: bool,
    /// Objects that are only moved to the quarantine.
    pub quarantine: Vec<Key>,
    /// Documents that cannot be read, and stay where they are.
    pub unreadable: u64,
    pub(super) based_on: BTreeMap<Key, u64>,
}

impl Proposal {
    /// True if data is lost, be it mended or not.
    pub fn has_loss(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity() == Severity::DataLoss)
    }

    /// True if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.rewrite.is_empty()
            && self.bring_back.is_empty()
            && self.salvage.is_empty()
            && !self.rebuild_index
            && self.quarantine.is_empty()
    }
}

/// Reads the repository as closely as asked and decides what to do about what is wrong with it.
///
/// # Errors
/// If it cannot be listed, or the observer interrupts.
pub fn propose(repo: &Repo, options: &Options, observer: &dyn Observer) -> Result<Proposal> {
    let based_on = listing(repo)?;
    let looked = verify::Options {
        depth: options.depth,
        selection: Selection::All,
        snapshots: None,
        workers: options.workers,
    };
    let problems = verify(repo, &looked, observer)?.problems;
    let mut proposal = Proposal { based_on, ..Proposal::default() };
    let mut salvage = BTreeSet::new();
    for problem in &problems {
        match problem {
            Problem::RecoveryMissing { key } | Problem::RecoveryChanged { key } => {
                proposal.rewrite.push(key.clone());
            }
            Problem::PackUnreadable { pack, .. } | Problem::PackDamaged { pack, .. } => {
                salvage.insert(*pack);
            }
            Problem::IndexDamaged { .. }
            | Problem::IndexDiffers { .. }
            | Problem::PackMissing { .. }
            | Problem::PackUnindexed { .. } => proposal.rebuild_index = true,
            Problem::DocumentDamaged { snapshot, .. } if options.unreadable_documents => {
                proposal.quarantine.extend(document_objects(&proposal.based_on, *snapshot));
            }
            Problem::DocumentDamaged { .. } => proposal.unreadable += 1,
            // nobody can say what it condemned, so no writer may begin; taken by somebody who is alone, it condemns nothing
            Problem::ObjectMalformed { key, .. } if *key == Key::prune(key.stem()) => {
                proposal.quarantine.push(key.clone());
            }
            _ => {}
        }
    }
    if problems.iter().any(|problem| !problem.hits().is_empty()) {
        proposal.bring_back = bring_back(repo, &salvage)?;
    }
    proposal.salvage = salvage.into_iter().collect();
    proposal.rebuild_index |= !proposal.salvage.is_empty() || !proposal.bring_back.is_empty();
    proposal.problems = problems;
    Ok(proposal)
}

fn document_objects(listing: &BTreeMap<Key, u64>, id: SnapshotId) -> Vec<Key> {
    [Key::document(id), Key::signature(id)].into_iter().filter(|key| listing.contains_key(key)).collect()
}

/// What the proposal depends on: names and sizes of what it may touch.
pub(super) fn listing(repo: &Repo) -> Result<BTreeMap<Key, u64>> {
    let mut all = BTreeMap::new();
    for kind in [Kind::Packs, Kind::Index, Kind::Snapshots, Kind::Prune, Kind::Trash, Kind::Quarantine] {
        all.extend(repo.store().list(kind)?.into_iter().map(|o| (o.key, o.bytes)));
    }
    Ok(all)
}

/// Whole packs in the trash and the quarantine that hold what a snapshot needs and no listed pack gives.
fn bring_back(repo: &Repo, damaged: &BTreeSet<PackId>) -> Result<Vec<(Key, PackId)>> {
    let mut loaded = repo.load(Condemned::Use)?;
    let mut overlay = Overlay::new(repo.store());
    let listed = loaded.index.packs().len() as u32;
    let mut parked = Vec::new();
    for kind in [Kind::Trash, Kind::Quarantine] {
        for object in repo.store().list(kind)? {
            let Ok(id) = PackId::from_hex(object.key.stem()) else { continue };
            let original = Key::pack(id);
            let named = original.below(kind) == object.key;
            if !named || repo.store().size(&original).is_ok() || parked.iter().any(|(_, p)| *p == id) {
                continue;
            }
            overlay.redirect(original, object.key.clone());
            if let Some(table) = whole(&overlay, id, object.bytes) {
                loaded.index.add_pack(id, object.bytes, &table);
                parked.push((object.key, id));
            }
        }
    }
    if parked.is_empty() {
        return Ok(parked);
    }
    let bad = bad_places(repo.store(), &loaded.index, damaged)?;
    let mut wanted = BTreeSet::new();
    for_each_needed(repo, &overlay, &loaded.index, &mut |chunk| {
        let good = |place: &Place| place.pack >= listed || !bad.contains(&(place.pack, chunk));
        let first = loaded.index.places(&chunk).find(good).map(|place| place.pack);
        wanted.extend(first.filter(|pack| *pack >= listed));
    })?;
    let wanted: BTreeSet<PackId> =
        wanted.into_iter().filter_map(|n| loaded.index.pack(n).and_then(|p| p.id)).collect();
    Ok(parked.into_iter().filter(|(_, id)| wanted.contains(id)).collect())
}

/// The table of a pack, if every byte of the pack is right.
fn whole(store: &dyn Store, id: PackId, bytes: u64) -> Option<Table> {
    let table = read_table(store, id, bytes).ok()?;
    let mut index = ChunkIndex::default();
    let number = index.add_pack(id, bytes, &table);
    let members = Layout::of(&index).members(&index, number);
    let state = Checker::new(store, &index).ok()?.decode(number, &members, &|_| ());
    (state.why.is_none() && !state.differs).then_some(table)
}

/// Which chunks of damaged packs cannot be read there.
fn bad_places(
    store: &dyn Store,
    index: &ChunkIndex,
    damaged: &BTreeSet<PackId>,
) -> Result<BTreeSet<(u32, ChunkId)>> {
    let layout = Layout::of(index);
    let mut checker = Checker::new(store, index)?;
    let mut bad = BTreeSet::new();
    for (number, pack) in (0u32..).zip(index.packs()) {
        if pack.id.is_some_and(|id| damaged.contains(&id)) {
            let state = checker.decode(number, &layout.members(index, number), &|_| ());
            bad.extend(state.bad.into_iter().map(|chunk| (number, chunk)));
        }
    }
    Ok(bad)
}

/// Every chunk that some snapshot needs, as far as manifests can be read: theirs and their files'.
pub(super) fn for_each_needed(
    repo: &Repo,
    store: &dyn Store,
    index: &ChunkIndex,
    needed: &mut dyn FnMut(ChunkId),
) -> Result<()> {
    let mut seen = BTreeSet::new();
    let mut chunks = ChunkReader::new(store, index, 4)?;
    for snapshot in repo.snapshots()?.0 {
        let lists = snapshot.document.roots.iter().map(|root| &root.manifest);
        let mut pending: Vec<_> = lists.flat_map(|l| l.chunks.iter().map(|c| (l.level, c.chunk))).collect();
        while let Some((level, id)) = pending.pop() {
            if !seen.insert((level, id)) {
                continue;
            }
            needed(id);
            // what cannot be read, or does not read as what it must be, names nothing more
            let Ok(bytes) = chunks.with_chunk(id, <[u8]>::to_vec) else { continue };
            if level > 0 {
                let inner = read_list(&bytes).unwrap_or_default();
                pending.extend(inner.into_iter().map(|c| (level - 1, c.chunk)));
            } else {
                bytes.split(|&b| b == b'\n').for_each(|line| drop(line_chunks(line, &mut *needed)));
            }
        }
    }
    Ok(())
}
