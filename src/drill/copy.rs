//! The copy: restored from the repository, and held against the snapshot before anything touches it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::recorder::Result;
use crate::base::error::causes;
use crate::base::event::Observer;
use crate::base::name::Name;
use crate::catalog::compare::Kind as ChangeKind;
use crate::catalog::diff::Change;
use crate::catalog::live::{self, diff_live_beside};
use crate::catalog::paths::{Part, absolute};
use crate::evidence::Outcome;
use crate::format::manifest::Type;
use crate::repo::documents::Snapshot;
use crate::repo::load::Condemned;
use crate::repo::manifest_reader::find_entry;
use crate::repo::reader::ChunkReader;
use crate::repo::{Repo, RepoError};
use crate::restore::{self, Options, Placement};
use crate::sys::host::{is_root, worker_count};

/// Differences that are named.
const NAMED: usize = 5;

/// Who owns the tree's own directory in the snapshot: user and group by number; `None` if it is not there.
///
/// # Errors
/// If the repository cannot be read.
pub fn owner(
    repo: &Repo,
    snapshot: &Snapshot,
    placement: &Placement,
) -> std::result::Result<Option<(u32, u32)>, RepoError> {
    let loaded = repo.load(Condemned::Use)?;
    let mut chunks = ChunkReader::new(repo.store(), &loaded.index, 4)?;
    let root = &snapshot.document.roots[placement.root];
    let entry = find_entry(&mut chunks, &root.manifest, &placement.subtree)?;
    Ok(entry.map(|entry| (entry.stat.uid, entry.stat.gid)))
}

/// Restores these parts straight into `target`, which is empty or not there.
pub fn restore_into(
    repo: &Repo,
    snapshot: &Snapshot,
    placements: &[Placement],
    target: &Path,
    observer: &dyn Observer,
) -> Result {
    // the time of a real recovery has the sync in it, but a drill every night need not wear the disk
    let options = Options::fresh(target);
    match restore::restore(repo, snapshot, placements, &options, observer) {
        Ok(report) if report.damage => {
            Result::of(Outcome::Fail, "stored data is damaged; lifeboat verify --deep names what")
        }
        Ok(report) if report.failed > 0 => {
            let first =
                report.problems.first().map(|p| format!("{}: {}", p.path, p.text)).unwrap_or_default();
            Result::of(Outcome::Fail, format!("{} entries could not be restored; {first}", report.failed))
        }
        Ok(_) => Result::pass(),
        Err(error) => Result::of(Outcome::Error, causes(&error)),
    }
}

/// What a comparison of the copy with the snapshot came to.
pub struct Compared {
    /// The verdict.
    pub result: Result,
    /// How many entries differ in nothing but their owner, which only root can give away: that is no fault of the copy.
    pub foreign: u64,
    /// How long it took by itself.
    pub took: Duration,
}

struct Differences {
    named: Vec<String>,
    foreign: u64,
    took: Duration,
}

/// Reads the whole copy and compares it with the hashes of the snapshot. Each thread that will read does `first` before:
/// what must have the copy as it is, and changes nothing in it.
pub fn compare(
    repo: &Repo,
    snapshot: &Snapshot,
    placement: &Placement,
    target: &Path,
    first: &(dyn Fn() + Sync),
    observer: &dyn Observer,
) -> Compared {
    let began = Instant::now();
    match differences(repo, snapshot, placement, target, first, observer) {
        Ok(Differences { named, foreign, took }) => {
            let result = if named.is_empty() {
                Result::pass()
            } else {
                let why = format!("the copy differs from the snapshot: {}", named.join(", "));
                Result::of(Outcome::Fail, why)
            };
            Compared { result, foreign, took }
        }
        Err(why) => Compared { result: Result::of(Outcome::Error, why), foreign: 0, took: began.elapsed() },
    }
}

fn differences(
    repo: &Repo,
    snapshot: &Snapshot,
    placement: &Placement,
    target: &Path,
    first: &(dyn Fn() + Sync),
    observer: &dyn Observer,
) -> std::result::Result<Differences, String> {
    let root = &snapshot.document.roots[placement.root];
    let loaded = repo.load(Condemned::Use).map_err(|e| causes(&e))?;
    let mut chunks = ChunkReader::new(repo.store(), &loaded.index, 4).map_err(|e| causes(&e))?;
    let parts = [Part { root, top: placement.subtree.clone() }];
    let at = Some(target.to_owned());
    let options = live::Options { threads: worker_count(), at, ..live::Options::default() };
    let mut found: BTreeMap<Vec<u8>, (ChangeKind, String)> = BTreeMap::new();
    let (mut all, mut foreign) = (0u64, 0u64);
    let is_root = is_root();
    let mut keep = |change: &Change<'_>| {
        let of_owner = change.what.iter().all(|what| ["owner", "group"].contains(what));
        if !is_root && change.kind == ChangeKind::Metadata && of_owner {
            foreign += 1;
            return Ok(());
        }
        all += 1;
        if found.len() < 10_000 {
            found.insert(change.path.to_vec(), (change.kind, change.what.join(" ")));
        }
        Ok(())
    };
    let outcome = diff_live_beside(&mut chunks, &parts, &options, first, &mut keep, observer)
        .map_err(|e| causes(&e))?;
    let mut named = Vec::new();
    for (path, (kind, what)) in &found {
        let mut was = || find_entry(&mut chunks, &root.manifest, path).map_err(|e| causes(&e));
        // sockets are not restored: the program that listens makes its own
        let socket =
            *kind == ChangeKind::Removed && was()?.is_some_and(|entry| entry.stat.kind == Type::Socket);
        if socket {
            all -= 1;
        } else if named.len() < NAMED {
            let path = Name(absolute(&root.path.0, path));
            named.push(format!("{} {path} {what}", kind.letter()).trim_end().to_owned());
        }
    }
    all += outcome.unreadable;
    if all > named.len() as u64 {
        named.push(format!("{} more", all - named.len() as u64));
    }
    let named = if all == 0 { Vec::new() } else { named };
    Ok(Differences { named, foreign, took: outcome.took })
}
