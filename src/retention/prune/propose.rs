//! Deciding. Needs only read access.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::SystemTime;

use super::fates::{Fate, Usage, rewrites, usages};
use super::mark::Mark;
use super::memory::Memory;
use super::proposal::{Amount, Counted, Ground, Mode, PackSize, Proposal, Refusal, Warning};
use super::seen::{BasedOn, Seen, unreadable};
use super::stages::{SessionSeen, Stages, View, open_sessions, stages};
use super::{Options, Result, history, reindex, shared};
use crate::base::event::Observer;
use crate::base::id::{ChunkId, PackId, SnapshotId};
use crate::format::pack;
use crate::format::record::{MAX_SMALL, Session};
use crate::logbook;
use crate::repo::load::{Loaded, read_table_of};
use crate::repo::{ChunkIndex, Repo, RepoError};
use crate::store::{Key, Kind, ObjectInfo, StoreError};

/// How often it is looked anew when what speaks against a prune may only have been a change between two looks.
const LOOKS: usize = 3;

/// Decides what a prune would do. Takes the repository for itself if nobody else is at work, and
/// keeps it until [`super::apply`] has ended or the caller shares it again.
///
/// # Errors
/// If the store fails. What makes a prune unsafe is in the proposal.
pub fn propose(repo: &mut Repo, options: &Options, observer: &dyn Observer) -> Result<Proposal> {
    let mode = if !options.together && is_alone(repo)? { Mode::Alone } else { Mode::Together };
    let mut tries = 0;
    loop {
        tries += 1;
        let proposal = propose_as(mode, repo, options, observer)?;
        // what was listed and what was read after it may have been of two moments; a listing that lies stays as it is
        let changed = || Ok::<_, RepoError>(BasedOn::now(repo)? != proposal.ground.based_on);
        if proposal.refusals.is_empty() || tries == LOOKS || !changed()? {
            return Ok(proposal);
        }
    }
}

// Takes the repository for itself, and is alone then, unless others may have locks that this one does not see.
fn is_alone(repo: &mut Repo) -> Result<bool> {
    if !repo.store().locks_reach_everybody() || !repo.try_exclusive()? {
        return Ok(false);
    }
    let alone = !repo.writers_elsewhere()?;
    if !alone {
        repo.share()?;
    }
    Ok(alone)
}

fn propose_as(mode: Mode, repo: &Repo, options: &Options, observer: &dyn Observer) -> Result<Proposal> {
    let plans = match repo.stored_plans() {
        Err(e) if e.is_damage() => return Ok(Proposal::refused(mode, unreadable(&"a prune plan", &e))),
        other => other?,
    };
    let memory = Memory::of(plans);
    let seen = Seen::look(repo)?;
    let recorded = history::recorded(repo, &memory)?;
    let mut proposal = Proposal::of(mode, &seen);
    proposal.refusals = history::refusals(repo, &seen, &memory, &recorded)?;
    proposal.warnings = history::warnings(&seen);
    if !proposal.refusals.is_empty() {
        return Ok(proposal);
    }
    proposal.ground.memory = Memory { records: recorded.newest, ..memory };
    proposal.remember_removed(repo, &seen)?;
    // packs after documents, once: what a document needs is in the listing or missing
    let indexes = repo.store().list(Kind::Index)?;
    proposal.ground.listed = reindex::listing(&repo.store().list(Kind::Packs)?);
    proposal.ground.merge = reindex::small(&indexes, options.max_indexes);
    proposal.ground.in_trash = !repo.store().list(Kind::Trash)?.is_empty();
    let quick = proposal.ground.listed.is_empty() || may_be_short(&proposal, &seen, options);
    if quick && count_by_documents(repo, &seen, &mut proposal, &indexes)? {
        return finish(repo, &seen, proposal, options);
    }
    count_by_manifests(repo, &seen, &mut proposal, &indexes, options, observer)?;
    finish(repo, &seen, proposal, options)
}

impl Proposal {
    fn of(mode: Mode, seen: &Seen) -> Self {
        let (based_on, lone_signatures) = (seen.based_on.clone(), seen.lone_signatures.clone());
        let ground = Ground { based_on, lone_signatures, ..Ground::default() };
        Self {
            mode,
            counted: Counted::Documents,
            refusals: Vec::new(),
            warnings: Vec::new(),
            snapshots: seen.remaining.iter().map(|(id, _)| *id).collect(),
            forgotten: seen.forgotten.iter().map(|(id, _)| *id).collect(),
            dead: Vec::new(),
            rewrite: Vec::new(),
            kept: Amount::default(),
            unused_kept_bytes: 0,
            indexes: Vec::new(),
            strays: Vec::new(),
            restored: Vec::new(),
            sessions: Vec::new(),
            stages: Stages::default(),
            ground,
        }
    }

    fn refused(mode: Mode, refusal: Refusal) -> Self {
        let mut proposal = Self::of(mode, &Seen::default());
        proposal.refusals.push(refusal);
        proposal
    }

    // A removed snapshot is forgotten for good when no document names it any more and a signed record tells that it was
    // removed: a prune that was cut off before its record has left no other trace of that than its plan.
    fn remember_removed(&mut self, repo: &Repo, seen: &Seen) -> Result<()> {
        let mut named: BTreeSet<_> =
            seen.documents().flat_map(|(_, d)| d.previous.into_iter().chain(d.parent)).collect();
        // and no plan
        named.extend(&self.ground.memory.snapshots);
        let gone = seen.based_on.tombstones.difference(&seen.based_on.documents);
        let known: BTreeSet<_> = self.ground.memory.removed.iter().chain(gone.clone()).copied().collect();
        let is_named = |id: &SnapshotId| named.contains(id);
        let told = if known.iter().all(is_named) {
            BTreeSet::new()
        } else {
            logbook::removed(&logbook::read(repo)?)
        };
        self.ground.removed = known.into_iter().filter(|id| is_named(id) || !told.contains(id)).collect();
        self.ground.lone_tombstones =
            gone.filter(|id| self.ground.memory.removed.contains(id)).copied().collect();
        Ok(())
    }
}

fn may_be_short(proposal: &Proposal, seen: &Seen, options: &Options) -> bool {
    let Ground { memory, listed, merge, in_trash, .. } = &proposal.ground;
    let pending = memory.is_unfinished(|pack| listed.contains_key(pack));
    let tidy = merge.is_empty() && !in_trash;
    !options.full && !pending && tidy && !seen.remaining.is_empty() && shared::nothing_of_its_own(seen)
}

// The short way; false if it does not lead to the end.
fn count_by_documents(
    repo: &Repo,
    seen: &Seen,
    proposal: &mut Proposal,
    indexes: &[ObjectInfo],
) -> Result<bool> {
    let sizes: HashMap<PackId, u64> = proposal.ground.listed.iter().map(|(id, l)| (*id, l.bytes)).collect();
    let index = if shared::lists_are_chunks(seen) {
        repo.load_listed(indexes, &sizes, &HashSet::new(), Some(pack::Kind::Manifest))?.index
    } else {
        ChunkIndex::default()
    };
    proposal.ground.named = match shared::named_packs(repo, seen, &index) {
        // the long way finds out what is missing, and says so
        Err(e) if e.is_damage() => return Ok(false),
        other => other?,
    };
    if !shared::packs_are_as_named(&proposal.ground) {
        return Ok(false);
    }
    proposal.kept = Amount::of(sizes.into_values());
    proposal.ground.live = proposal.ground.listed.keys().copied().collect();
    Ok(true)
}

fn count_by_manifests(
    repo: &Repo,
    seen: &Seen,
    proposal: &mut Proposal,
    indexes: &[ObjectInfo],
    options: &Options,
    observer: &dyn Observer,
) -> Result<()> {
    proposal.counted = Counted::Manifests;
    if let Some(refusal) = no_snapshots(seen, &proposal.ground) {
        proposal.refusals.push(refusal);
        return Ok(());
    }
    let sizes: HashMap<PackId, u64> = proposal.ground.listed.iter().map(|(id, l)| (*id, l.bytes)).collect();
    let loaded = repo.load_listed(indexes, &sizes, &HashSet::new(), None)?;
    proposal.refusals = index_refusals(&loaded, &sizes);
    if !proposal.refusals.is_empty() {
        return Ok(());
    }
    let index = &loaded.index;
    let named = shared::named_packs(repo, seen, index);
    let mark = match named.and_then(|named| {
        proposal.ground.named = named;
        Mark::read(repo, seen, index, rank(&proposal.ground), observer)
    }) {
        Ok(mark) => mark,
        Err(RepoError::ChunkMissing(id)) => return look_in_trash(repo, proposal, &[id]),
        Err(e) if e.is_damage() => {
            proposal.refusals.push(unreadable(&"a manifest", &e));
            return Ok(());
        }
        Err(e) => return Err(e.into()),
    };
    if !mark.lost.is_empty() {
        return look_in_trash(repo, proposal, &mark.lost);
    }
    decide(proposal, &loaded, &mark, options);
    Ok(())
}

// No snapshot at all is right only if the last prune was about to remove all these packs.
fn no_snapshots(seen: &Seen, ground: &Ground) -> Option<Refusal> {
    let explained = ground.listed.keys().all(|pack| ground.memory.all_forgotten.contains(pack));
    let refused = seen.based_on.documents.is_empty() && !explained;
    refused.then_some(Refusal::NoSnapshots { packs: ground.listed.len() })
}

fn index_refusals(loaded: &Loaded, sizes: &HashMap<PackId, u64>) -> Vec<Refusal> {
    let damaged = loaded.damaged_indexes.iter().map(|(key, e)| unreadable(key, e));
    let wrong = loaded.missing.iter().filter(|pack| sizes.contains_key(pack)).chain(&loaded.conflicts);
    let why = || "it is not what the index says".to_owned();
    let wrong = wrong.map(|&pack| Refusal::Unreadable { object: Key::pack(pack).to_string(), why: why() });
    // what an index describes and a listing shows in another size was read from the pack itself
    damaged.chain(wrong).collect()
}

// Where a chunk lies in several packs: rather in one that documents name; last in one that is to go.
fn rank(ground: &Ground) -> impl Fn(&PackId) -> u8 {
    |pack| match pack {
        pack if ground.memory.condemned.contains(pack) => 0,
        pack if ground.named.contains(pack) || ground.memory.instead.contains(pack) => 2,
        _ => 1,
    }
}

fn decide(proposal: &mut Proposal, loaded: &Loaded, mark: &Mark, options: &Options) {
    let usages = usages(&loaded.index, mark);
    let unreadable: HashSet<PackId> = loaded.unreadable.iter().map(|(id, _)| *id).collect();
    proposal.warnings.extend(unreadable.iter().map(|&pack| Warning::PackUnreadable { pack }));
    let mut rewritten = HashSet::new();
    let mut kept = Vec::new();
    let packs = loaded.index.packs().iter().zip(&usages);
    for (number, (pack, usage)) in (0u32..).zip(packs) {
        let Some(id) = pack.id else { continue };
        match usage.fate(options.max_unused) {
            Fate::Dead => proposal.dead.push(PackSize { id, bytes: pack.bytes }),
            Fate::Rewrite => {
                rewritten.insert(number);
            }
            Fate::Keep => {
                proposal.ground.live.insert(id);
                proposal.unused_kept_bytes += unused(*usage, pack.bytes);
                kept.push(pack.bytes);
            }
        }
    }
    proposal.rewrite = rewrites(&loaded.index, mark, &usages, &rewritten);
    proposal.rewrite.sort_by_key(|r| r.id);
    proposal.dead.sort_unstable();
    proposal.kept = Amount::of(kept);
    let live = &proposal.ground.live;
    let strays = loaded.unindexed.iter().filter(|(id, ..)| live.contains(id));
    proposal.strays = strays.map(|(id, bytes, _)| PackSize { id: *id, bytes: *bytes }).collect();
    proposal.ground.index_names = loaded.named.clone();
    let goes: BTreeSet<PackId> = proposal.leaving().collect();
    let listed = &proposal.ground.listed;
    proposal.indexes = reindex::replaced(&loaded.named, &proposal.ground.merge, |pack| {
        goes.contains(pack) || !listed.contains_key(pack)
    });
}

fn unused(usage: Usage, bytes: u64) -> u64 {
    bytes - usage.live_of(bytes)
}

impl Proposal {
    /// The packs that are not to stay.
    pub(super) fn leaving(&self) -> impl Iterator<Item = PackId> + '_ {
        self.dead.iter().map(|p| p.id).chain(self.rewrite.iter().map(|r| r.id))
    }
}

// What is needed but in no pack may lie in the trash: a writer came back after a long time.
fn look_in_trash(repo: &Repo, proposal: &mut Proposal, lost: &[ChunkId]) -> Result<()> {
    let wanted: HashSet<ChunkId> = lost.iter().copied().collect();
    for object in repo.store().list(Kind::Trash)? {
        let Ok(id) = PackId::from_hex(object.key.stem()) else { continue };
        if object.key != Key::pack(id).below(Kind::Trash) {
            continue;
        }
        let has = match read_table_of(repo.store(), &object.key, object.bytes) {
            Ok(table) => table.frames.iter().flat_map(|f| &f.chunks).any(|(chunk, _)| wanted.contains(chunk)),
            Err(e) if e.is_damage() => false,
            Err(e) => return Err(e.into()),
        };
        if has {
            proposal.restored.push(id);
        }
    }
    if let ([], Some(&first)) = (&proposal.restored[..], lost.first()) {
        proposal.refusals.push(Refusal::ChunksMissing { count: lost.len(), first });
    }
    Ok(())
}

fn finish(repo: &Repo, seen: &Seen, mut proposal: Proposal, options: &Options) -> Result<Proposal> {
    if !proposal.refusals.is_empty() {
        return Ok(proposal);
    }
    let now: SystemTime = repo.clock().now().0.into();
    let open = open_sessions(&sessions(repo)?, &closed_sessions(seen), now);
    proposal.sessions = open.iter().map(|s| s.name.clone()).collect();
    if proposal.mode == Mode::Together && proposal.restored.is_empty() {
        proposal.ground.closed_sessions = closed_sessions(seen);
        proposal.stages = due(&proposal, &open, now, options);
        // index objects are replaced when the packs go
        proposal.indexes.clear();
    }
    Ok(proposal)
}

/// What is due at this time.
pub fn due(proposal: &Proposal, open: &[SessionSeen], now: SystemTime, options: &Options) -> Stages {
    let dead = proposal.dead.iter().map(|p| p.id).collect();
    let rewrite = proposal.rewrite.iter().map(|r| r.id).collect();
    let ground = &proposal.ground;
    let view = View {
        plans: &ground.memory.plans,
        dead: &dead,
        rewrite: &rewrite,
        listed: &ground.listed,
        forgotten: &proposal.forgotten,
        lone_signatures: &ground.lone_signatures,
        open,
        now,
    };
    stages(&view, options)
}

/// The sessions that documents name: they are closed.
fn closed_sessions(seen: &Seen) -> BTreeSet<String> {
    seen.documents().filter_map(|(_, document)| document.session.clone()).collect()
}

/// All session objects.
///
/// # Errors
/// If they cannot be listed or the store fails.
pub fn sessions(repo: &Repo) -> Result<Vec<SessionSeen>> {
    let mut found: BTreeMap<String, SessionSeen> = BTreeMap::new();
    for object in repo.store().list(Kind::Sessions)? {
        let renews = match repo.store().read_all(&object.key, MAX_SMALL) {
            // one that cannot be understood is one all the same
            Ok(bytes) => serde_json::from_slice::<Session>(&bytes).ok().and_then(|s| s.renews),
            Err(StoreError::Missing { .. }) => continue,
            Err(e) if e.is_of_the_object() => None,
            Err(e) => return Err(e.into()),
        };
        let name = object.key.stem().to_owned();
        found.insert(name.clone(), SessionSeen { name, modified: object.modified, renews });
    }
    Ok(found.into_values().collect())
}
