//! Reading what is known. Nothing here takes long, takes a lock or changes anything but what is remembered.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use sha2::{Digest as _, Sha256};

use super::clock::Seen;
use super::facts::{Application, Facts, Place, Replica, Repository, SnapshotFact, Under, Unopened};
use super::memory::{Known, Memory, Proof};
use crate::base::Name;
use crate::base::error::causes;
use crate::base::id::{PackId, SnapshotId};
use crate::base::size;
use crate::base::time::{Clock, Timestamp};
use crate::capacity::Growth;
use crate::capacity::repository::{of_points, points};
use crate::evidence::actions;
use crate::format::snapshot::Document;
use crate::logbook::{Followed, follow};
use crate::plan::Plan;
use crate::repo::load::Condemned;
use crate::repo::{Repo, RepoError, Result};
use crate::state::{State, StateError};
use crate::store::local::LocalStore;
use crate::store::{Kind, ObjectInfo, StoreError};
use crate::sys::space::space;
use crate::verify::RECENT;
use crate::witness::WitnessError;
use crate::{capacity, guard, health, notify, rollback, runbook, witness};

/// The name under which what was read is kept.
const FILE: &str = "readiness.json";

/// Files of what this host remembers that could not be read, and why.
type Unread = Vec<(Name, String)>;

/// Where to look.
pub struct Sources<'s> {
    /// The repository; or why it cannot be opened.
    pub repo: std::result::Result<&'s Repo, Unopened>,
    /// Where it lies.
    pub location: &'s Path,
    /// The application's plan, and the hash of its file.
    pub plan: Option<(&'s Plan, String)>,
    /// What this host remembers of the application.
    pub state: Option<&'s State>,
    /// What this host remembers of the repository.
    pub memory: Option<&'s State>,
    /// What time it is.
    pub clock: Clock,
}

/// Reads what is known.
pub fn gather(sources: &Sources<'_>) -> Facts {
    let now = sources.clock.now();
    let seen = Seen::now(now);
    let (mut clock_jump, mut unread) = (None, Vec::new());
    let repository = sources.repo.clone().and_then(|repo| {
        let remembered: Option<Memory> = sources.memory.and_then(|state| state.read(FILE).ok().flatten());
        let before = remembered.as_ref().and_then(|memory| memory.seen.clone());
        clock_jump = before.as_ref().and_then(|before| seen.jump(before));
        let mut memory = Memory::of(remembered, &repo.config().id);
        memory.seen = Some(seen.or_before(before));
        read(repo, memory, sources, now, &mut unread)
            .map_err(|error| Unopened { why: causes(&error), is_missing: false })
    });
    let application = sources.plan.as_ref().map(|(plan, hash)| application(plan, hash, sources, &mut unread));
    Facts { now, repository, application, unread, clock_jump }
}

fn read(
    repo: &Repo,
    mut memory: Memory,
    sources: &Sources<'_>,
    now: Timestamp,
    unread: &mut Unread,
) -> Result<Repository> {
    let before = (memory.progress.clone(), memory.documents.len());
    let followed = follow(repo, memory.progress.as_ref())?;
    memory.take(&followed);
    let (unreadable, changed) = documents(repo, &mut memory)?;
    let packs = repo.store().list(Kind::Packs)?;
    let counted = lost(repo, &mut memory, &packs)?;
    let changed = changed || counted;
    if let Some(state) = sources.memory
        && (changed || before != (memory.progress.clone(), memory.documents.len()))
    {
        // without it the next look only takes longer
        let _ = state.write(FILE, &memory);
    }
    let forgotten = repo.forgotten_ids()?;
    let space = space(sources.location).ok();
    let free = space.map(|space| space.free_bytes);
    let live = memory.documents.iter().filter(|(id, _)| !forgotten.contains(id));
    let mut snapshots: Vec<(SnapshotId, SnapshotFact)> =
        live.map(|(id, known)| (*id, known.fact.clone())).collect();
    snapshots.sort_by_key(|(id, fact)| (fact.finished, *id));
    let replicas =
        replicas(repo, sources.plan.as_ref().map(|plan| plan.0), &snapshots, &packs, sources.clock);
    let (older, cuts) = older(repo, sources.memory, unread)?;
    Ok(Repository {
        location: Name::from(sources.location.as_os_str()),
        coverage: coverage(&memory, &packs, now),
        damaged_packs: damaged(&memory, &packs),
        growth: growth(&memory, free, now),
        actions: actions::open(&memory.spoken()),
        lost: memory.stock.as_ref().and_then(|stock| stock.1.clone()),
        faults: cuts.into_iter().chain(faults(&followed)).collect(),
        older,
        snapshots,
        unreadable,
        memory,
        space,
        replicas,
    })
}

// Documents that are new in the listing are read; those that are gone are forgotten. Says which cannot be read, and whether
// anything changed.
fn documents(repo: &Repo, memory: &mut Memory) -> Result<(Vec<SnapshotId>, bool)> {
    let listed = repo.store().list(Kind::Snapshots)?;
    let mut known = std::mem::take(&mut memory.documents);
    let (mut unreadable, mut changed) = (Vec::new(), false);
    for object in &listed {
        let Some(id) = document_id(object) else { continue };
        let modified = object.modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let same = |known: &Known| known.bytes == object.bytes && known.modified == modified;
        if let Some(known) = known.remove(&id).filter(same) {
            memory.documents.insert(id, known);
            continue;
        }
        changed = true;
        match repo.document(id) {
            Ok(document) => {
                let fact = fact(&document);
                memory.documents.insert(id, Known { bytes: object.bytes, modified, fact });
            }
            // removed since it was listed
            Err(RepoError::Store(StoreError::Missing { .. })) => {}
            Err(_) => unreadable.push(id),
        }
    }
    Ok((unreadable, changed || !known.is_empty()))
}

fn document_id(object: &ObjectInfo) -> Option<SnapshotId> {
    object.key.as_str().ends_with(".json").then(|| SnapshotId::from_hex(object.key.stem()).ok()).flatten()
}

fn fact(document: &Document) -> SnapshotFact {
    let statistics = &document.statistics;
    SnapshotFact {
        started: document.started,
        finished: document.finished,
        roots: document.roots.iter().map(|root| root.path.clone()).collect(),
        bytes: statistics.bytes,
        stored_bytes: statistics.stored_bytes,
        files: statistics.files,
        incomplete: statistics.skipped + statistics.torn,
    }
}

fn growth(memory: &Memory, free: Option<u64>, now: Timestamp) -> Growth {
    let mut facts: Vec<&SnapshotFact> = memory.documents.values().map(|known| &known.fact).collect();
    facts.sort_by_key(|fact| fact.started);
    let taken = facts.iter().map(|fact| (fact.started, fact.bytes, fact.stored_bytes));
    of_points(points(taken), free, now)
}

fn coverage(memory: &Memory, packs: &[ObjectInfo], now: Timestamp) -> (u64, u64) {
    let mut sums = (0, 0);
    for pack in packs {
        let Ok(id) = PackId::from_hex(pack.key.stem()) else { continue };
        sums.0 += pack.bytes;
        let proof = memory.verification.packs.get(&id).filter(|proof| !proof.is_broken());
        if proof.and_then(|proof| proof.right).is_some_and(|at| now.since(at) <= RECENT) {
            sums.1 += pack.bytes;
        }
    }
    sums
}

fn damaged(memory: &Memory, packs: &[ObjectInfo]) -> Vec<PackId> {
    let there = packs.iter().filter_map(|pack| PackId::from_hex(pack.key.stem()).ok());
    let is_damaged = |id: &PackId| memory.verification.packs.get(id).is_some_and(Proof::is_broken);
    there.filter(is_damaged).collect()
}

// The snapshots that are gone, in words, and the ends of chains that are.
fn older(repo: &Repo, memory: Option<&State>, unread: &mut Unread) -> Result<(Option<String>, Vec<String>)> {
    let found = match witness::look(repo, memory) {
        Ok(look) => look.older,
        Err(WitnessError::Repo(error)) => return Err(error),
        Err(WitnessError::State(error)) => {
            unread.push(of_state(&error));
            None
        }
    };
    let Some(older) = found else { return Ok((None, Vec::new())) };
    let cut = |cut: &crate::logbook::Cut| {
        format!(
            "record {} of writer {} was there and is gone, with all that followed it",
            cut.sequence, cut.writer
        )
    };
    let cuts = older.records.iter().map(cut).collect();
    Ok(((!older.snapshots.is_empty()).then(|| older.to_string()), cuts))
}

// Compares the packs that are there with what the indexes and the newest document say, if either listing changed since the
// last time. Says whether it did.
fn lost(repo: &Repo, memory: &mut Memory, packs: &[ObjectInfo]) -> Result<bool> {
    let newest =
        memory.documents.iter().max_by_key(|(id, known)| (known.fact.finished, **id)).map(|(id, _)| *id);
    let indexes = repo.store().list(Kind::Index)?;
    let mut hash = Sha256::new();
    for object in packs.iter().chain(&indexes) {
        hash.update(object.key.as_str().as_bytes());
        hash.update(object.bytes.to_le_bytes());
    }
    hash.update(newest.map(SnapshotId::to_hex).unwrap_or_default().as_bytes());
    let mark = hex::encode(hash.finalize());
    if memory.stock.as_ref().is_some_and(|stock| stock.0 == mark) {
        return Ok(false);
    }
    let loaded = repo.load(Condemned::Use)?;
    let mut missing: BTreeSet<PackId> = loaded.missing.iter().copied().collect();
    missing.extend(loaded.unreadable.iter().map(|(id, _)| *id));
    if let Some(document) = newest.and_then(|id| repo.document(id).ok()) {
        let there: BTreeSet<PackId> =
            packs.iter().filter_map(|pack| PackId::from_hex(pack.key.stem()).ok()).collect();
        let plans = repo.prune_plans().unwrap_or_default();
        let gone: BTreeSet<PackId> = plans.into_iter().flat_map(|(_, plan)| plan.gone).collect();
        missing.extend(document.packs.iter().filter(|id| !there.contains(*id) && !gone.contains(*id)));
    }
    let mut parts = Vec::new();
    if !missing.is_empty() {
        let count = size::plural(missing.len() as u64, "pack");
        let (verb, have) = if missing.len() == 1 { ("is", "has") } else { ("are", "have") };
        parts.push(format!("{count} {verb} missing or {have} another size than was recorded"));
    }
    if !loaded.damaged_indexes.is_empty() {
        let count = size::plural(loaded.damaged_indexes.len() as u64, "index object");
        parts.push(format!("{count} cannot be read"));
    }
    memory.stock = Some((mark, (!parts.is_empty()).then(|| parts.join("; "))));
    Ok(true)
}

fn faults(followed: &Followed) -> Vec<String> {
    let damage = followed.faults.iter().filter(|fault| !fault.kind.is_notice());
    damage
        .map(|fault| {
            format!("record {} of writer {}: {}", fault.sequence, fault.writer, fault.kind.meaning())
        })
        .collect()
}

fn replicas(
    repo: &Repo,
    plan: Option<&Plan>,
    snapshots: &[(SnapshotId, SnapshotFact)],
    packs: &[ObjectInfo],
    clock: Clock,
) -> Vec<(String, std::result::Result<Replica, String>)> {
    let Some(plan) = plan else { return Vec::new() };
    let judged = |location: &String| {
        let found = match location.split_once("://") {
            Some((scheme, _)) => Err(format!("this version has no way to reach {scheme}://")),
            None => replica(repo, &plan.path(location), snapshots, packs, clock),
        };
        (location.clone(), found)
    };
    plan.repository.replicas.iter().map(judged).collect()
}

fn replica(
    repo: &Repo,
    location: &Path,
    snapshots: &[(SnapshotId, SnapshotFact)],
    packs: &[ObjectInfo],
    clock: Clock,
) -> std::result::Result<Replica, String> {
    let other = Repo::open(Arc::new(LocalStore::open(location)), clock).map_err(|error| causes(&error))?;
    if other.config().id != repo.config().id {
        return Err("it is another repository, no copy of this one".to_owned());
    }
    let there: BTreeSet<SnapshotId> =
        other.snapshot_ids().map_err(|error| causes(&error))?.into_iter().collect();
    let missing: Vec<_> = snapshots.iter().filter(|(id, _)| !there.contains(id)).collect();
    let held = other.store().list(Kind::Packs).map_err(|error| causes(&error))?;
    let held: HashMap<&str, u64> = held.iter().map(|pack| (pack.key.as_str(), pack.bytes)).collect();
    let lacks = packs.iter().filter(|pack| held.get(pack.key.as_str()) != Some(&pack.bytes));
    Ok(Replica {
        missing: missing.len() as u64,
        since: missing.iter().map(|(_, fact)| fact.finished).min(),
        missing_packs: lacks.count() as u64,
    })
}

fn application(plan: &Plan, config_sha256: &str, sources: &Sources<'_>, unread: &mut Unread) -> Application {
    let mut found = Application {
        name: plan.name(),
        plan: plan.clone(),
        config_sha256: config_sha256.to_owned(),
        checks: BTreeMap::new(),
        looked: None,
        rollback: None,
        hotfix: None,
        silent: Vec::new(),
        capacity: None,
        place: place(plan, sources.location),
        maintenance: None,
    };
    if let Some(state) = sources.state {
        recall(&mut found, plan, state, unread);
    }
    found
}

fn place(plan: &Plan, repository: &Path) -> Option<Place> {
    let root = plan.root();
    let device = |path: &Path| path.metadata().map(|metadata| metadata.dev()).ok();
    let is_shared = device(&root).is_some() && device(&root) == device(repository);
    space(&root).ok().map(|space| Place { space, is_shared })
}

// The file, and what is wrong with it.
fn of_state(error: &StateError) -> (Name, String) {
    let path = match error {
        StateError::Io { path, .. } | StateError::Damaged { path, .. } => path.clone(),
    };
    (path, causes(error))
}

fn recall(found: &mut Application, plan: &Plan, state: &State, unread: &mut Unread) {
    let mut note = |error: &StateError| unread.push(of_state(error));
    for said in health::history::read(state) {
        // in the order in which they were said: a clock that was right again is believed
        found.looked = Some(said.at);
        found.checks.insert(said.check, (said.at, said.outcome));
    }
    match rollback::pending(state) {
        Ok(pending) => {
            found.rollback = pending.map(|pending| Under {
                stage: pending.stage.to_owned(),
                since: pending.since,
                is_attended: pending.running,
                is_by_hand: false,
            });
        }
        Err(error) => note(&error),
    }
    match guard::armed(state) {
        Ok(None) => {}
        Ok(Some(armed)) => {
            found.hotfix = Some(Under {
                stage: armed.stage.word().to_owned(),
                since: armed.started,
                is_attended: guard::is_watched(state).unwrap_or(false),
                is_by_hand: armed.stage == guard::Stage::Open && armed.confirm_until.is_none(),
            });
        }
        Err(error) => note(&error),
    }
    match state.read::<notify::Memory>(notify::STATE) {
        Ok(memory) => {
            let known: BTreeSet<String> = notify::labels(plan).into_iter().collect();
            let ways = memory.unwrap_or_default().ways.into_iter();
            // what the plan has no longer is nobody's trouble
            let ways = ways.filter(|(way, _)| known.contains(way));
            found.silent = ways.map(|(way, trouble)| (way, trouble.why)).collect();
        }
        Err(error) => note(&error),
    }
    match capacity::last(state) {
        Ok(report) => found.capacity = report.map(|report| (report.at, report.warnings)),
        Err(error) => note(&error),
    }
    match state.read::<runbook::maintenance::Begun>(runbook::maintenance::STATE) {
        Ok(begun) => found.maintenance = begun.map(|begun| begun.at),
        Err(error) => note(&error),
    }
}
