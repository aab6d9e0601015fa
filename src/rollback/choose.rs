//! Which snapshot: by the order in which they were taken and by the logbook, never by a time or a name.

use std::time::Duration;

use super::types::{Goal, RollbackError, Subject};
use crate::base::Name;
use crate::base::id::SnapshotId;
use crate::base::time::Timestamp;
use crate::evidence::{Evidence, Kind, Verdict, logged};
use crate::repo::documents::Snapshot;
use crate::restore::{self, Placement};
use crate::{base::size, logbook};

/// The tag of the snapshots that a rollback takes first.
pub const SAFETY_TAG: &str = "before-rollback";
/// Without an objective, a snapshot that passed a drill may be so much older than the newest.
const DAY: Duration = Duration::from_secs(86_400);

/// The snapshot, and why it is the one.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// It.
    pub snapshot: Snapshot,
    /// What of it is the tree.
    pub placement: Placement,
    /// When it passed a drill.
    pub drilled: Option<Timestamp>,
    /// Why.
    pub why: String,
    /// What should be known.
    pub notes: Vec<String>,
    /// How long the last rollback took, and how long the service was gone.
    pub last_took: Option<(Duration, Duration)>,
}

/// Chooses it.
///
/// # Errors
/// If there is none.
pub fn choose(subject: &Subject<'_>, goal: Goal) -> Result<Chosen, RollbackError> {
    let root = Name::from(subject.plan.root().as_os_str());
    let (snapshots, _) = subject.repo.snapshots()?;
    let runs = logged::runs(&logbook::read(subject.repo)?);
    let drilled = logged::passed(&runs);
    let last_took = last_took(&runs);
    let place = |snapshot: &Snapshot| {
        restore::place(&snapshot.document, Some(&root)).into_iter().find(|p| p.prefix.is_empty())
    };
    let made = |snapshot: &Snapshot, placement, why: String, notes| {
        let drilled = drilled.get(&snapshot.id).map(|passed| passed.at);
        Chosen { snapshot: snapshot.clone(), placement, drilled, why, notes, last_took }
    };
    if let Goal::Snapshot(id) = goal {
        let snapshot = snapshots.iter().find(|s| s.id == id).ok_or_else(|| {
            RollbackError::NoSnapshot(format!("there is no snapshot {} that can be read", id.short()))
        })?;
        let placement = place(snapshot).ok_or_else(|| {
            RollbackError::NoSnapshot(format!("the snapshot {} does not hold {root}", id.short()))
        })?;
        return Ok(made(snapshot, placement, "it was named".to_owned(), Vec::new()));
    }
    let host = crate::sys::host::host_name();
    let mut ours: Vec<(&Snapshot, Placement)> = snapshots
        .iter()
        .filter(|s| s.document.host == host && !s.forgotten && s.document.holds_its_roots())
        .filter(|s| !s.document.tags.iter().any(|tag| tag.0 == SAFETY_TAG.as_bytes()))
        .filter_map(|s| Some((s, place(s)?)))
        .collect();
    // the order of this host's snapshots
    ours.sort_by_key(|(s, _)| s.document.sequence);
    let Some(newest) = ours.last().cloned() else {
        return Err(RollbackError::NoSnapshot(format!(
            "there is no whole snapshot of {root} by this host to go back to"
        )));
    };
    let why = "the newest".to_owned();
    let mut notes = Vec::new();
    let is_passed_over = |s: &&Snapshot| {
        let document = &s.document;
        document.host == host
            && document.sequence > newest.0.document.sequence
            && !s.forgotten
            && !document.holds_its_roots()
            && place(s).is_some()
    };
    let passed_over = snapshots.iter().filter(is_passed_over).count() as u64;
    if passed_over > 0 {
        let snapshots = size::plural(passed_over, "newer snapshot");
        notes.push(format!("{snapshots} passed over: not whole; lifeboat show names what is missing"));
    }
    if went_to(&runs, subject) == Some(newest.0.id) {
        // the same again: nobody goes further back than was said
        notes.push("the last rollback went there too; name an older one to go further back".to_owned());
    }
    if goal == Goal::Previous && !drilled.contains_key(&newest.0.id) {
        let allowed = subject.plan.drill.objectives.rpo.map_or(DAY, |rpo| rpo.0);
        let taken = newest.0.document.started;
        let good = ours
            .iter()
            .rev()
            .find(|(s, _)| drilled.contains_key(&s.id) && taken.since(s.document.started) <= allowed);
        if let Some((snapshot, placement)) = good {
            notes.push(format!(
                "{} is newer by {} and was never drilled; --newest takes it",
                newest.0.id.short(),
                size::duration(taken.since(snapshot.document.started))
            ));
            let why = "the newest that passed a drill".to_owned();
            return Ok(made(snapshot, placement.clone(), why, notes));
        }
        notes.push("no drill has shown that it comes back".to_owned());
    }
    Ok(made(newest.0, newest.1, why, notes))
}

// Where the last rollback of this application went.
fn went_to(runs: &[Evidence], subject: &Subject<'_>) -> Option<SnapshotId> {
    let app = subject.plan.name();
    let is_one =
        |run: &&Evidence| run.app == app && run.kind == Kind::Rollback && run.verdict == Verdict::Pass;
    let after = runs.iter().rev().find(is_one)?.after.as_deref()?;
    SnapshotId::from_hex(after).ok()
}

fn last_took(runs: &[Evidence]) -> Option<(Duration, Duration)> {
    let last = runs.iter().rev().find(|run| run.kind == Kind::Rollback && run.verdict == Verdict::Pass)?;
    let gone = last.measured.recovery_s.map(|s| s.duration()).unwrap_or_default();
    Some((last.finished.since(last.started), gone))
}
