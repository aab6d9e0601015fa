//! What is stored: the repository, the newest snapshot, copies elsewhere, the logbook.

use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use super::{Facts, Line, Verdict, age, words};
use crate::base::id::SnapshotId;
use crate::base::name::{is_within, shown};
use crate::base::size;
use crate::base::time::Timestamp;
use crate::readiness::facts::{Application, Replica, Repository, SnapshotFact, Unopened};

/// A replica may lag so long where the plan has no objective.
const LAG: Duration = Duration::from_secs(24 * 3600);

/// Whether there is a repository that can be read.
pub fn repository(facts: &Facts) -> Line {
    const NAME: &str = "repository";
    match &facts.repository {
        Err(Unopened { why, is_missing }) => {
            let (hint, mend) = match is_missing {
                true => ("; if it lies on a mount, is that mounted?", "lifeboat init"),
                false => ("", "lifeboat doctor"),
            };
            let reason = format!("{}{hint}", shown(why.as_bytes()));
            Line::new(NAME, Verdict::Fail, reason).blocking().mend(mend)
        }
        Ok(found) if !found.unreadable.is_empty() => {
            let count = size::plural(found.unreadable.len() as u64, "snapshot");
            let first = found.unreadable.first().map(|id| id.short()).unwrap_or_default();
            Line::new(NAME, Verdict::Fail, format!("{count} cannot be read, such as {first}"))
                .blocking()
                .mend("lifeboat verify")
        }
        Ok(Repository { lost: Some(lost), .. }) => {
            Line::new(NAME, Verdict::Fail, lost.clone()).blocking().mend("lifeboat verify")
        }
        Ok(Repository { older: Some(older), .. }) => {
            let reason = shown(older.replace('\n', " ").as_bytes());
            let mend = "put the newer state back, or lifeboat snapshot --accept-older";
            Line::new(NAME, Verdict::Fail, reason).blocking().mend(mend)
        }
        Ok(found) => {
            let (count, bytes) = (found.snapshots.len() as u64, found.coverage.0);
            let text = format!("{} in {}", size::plural(count, "snapshot"), size::bytes(bytes));
            Line::new(NAME, Verdict::Pass, text)
        }
    }
}

/// The newest snapshot of the application, and its age.
pub fn snapshot(repository: &Repository, application: Option<&Application>, now: Timestamp) -> Line {
    const NAME: &str = "snapshot";
    let Some((id, fact)) = newest(repository, application) else {
        let reason = match application {
            Some(application) if !repository.snapshots.is_empty() => {
                let root = crate::base::Name::from(application.plan.root().as_os_str()).shown();
                format!(
                    "none of {} is of {root}",
                    size::plural(repository.snapshots.len() as u64, "snapshot")
                )
            }
            _ => "there is none".to_owned(),
        };
        return Line::new(NAME, Verdict::Fail, reason).blocking().mend("lifeboat snapshot");
    };
    // what was saved is as old as the beginning
    let old = now.since(fact.started);
    let mut reason = format!("{} is {} old", id.short(), age(fact.started, now));
    let limit = application.and_then(Application::rpo);
    if let Some(limit) = limit {
        let relation = if old > limit { "more than" } else { "within" };
        reason.push_str(&format!(", {relation} the objective of {}", words(limit)));
    }
    if limit.is_some_and(|limit| old > limit) {
        return Line::new(NAME, Verdict::Fail, reason).mend("lifeboat snapshot").by_age();
    }
    if fact.incomplete > 0 {
        let entries = size::plural(fact.incomplete, "thing");
        reason.push_str(&format!(
            "; {entries} could not be read or may be torn, or is a database of the plan that is not saved"
        ));
        return Line::new(NAME, Verdict::Fail, reason).mend(format!("lifeboat show {}", id.short()));
    }
    Line::new(NAME, Verdict::Pass, reason)
}

// Of the application where there is a plan: its tree, or one that holds it.
fn newest<'r>(
    repository: &'r Repository,
    application: Option<&Application>,
) -> Option<&'r (SnapshotId, SnapshotFact)> {
    let root = application.map(|application| application.plan.root());
    let is_of = |(_, fact): &&(SnapshotId, SnapshotFact)| {
        root.as_ref().is_none_or(|root| {
            fact.roots.iter().any(|saved| is_within(root.as_os_str().as_bytes(), &saved.0))
        })
    };
    repository.snapshots.iter().rev().find(is_of)
}

/// Whether the plan's copies of the repository hold what this one does.
pub fn replicas(repository: &Repository, application: Option<&Application>, now: Timestamp) -> Line {
    const NAME: &str = "replicas";
    const MEND: &str = "rsync -a --delete-after REPOSITORY/ REPLICA/";
    if repository.replicas.is_empty() {
        let shared =
            application.and_then(|application| application.place).is_some_and(|place| place.is_shared);
        let reason = match shared {
            true => "the plan names none, and the repository lies on the application's own disk",
            false => "the plan names none",
        };
        return Line::new(NAME, Verdict::NotJudged, reason);
    }
    let limit = application.and_then(Application::rpo).unwrap_or(LAG);
    let mut worst = Verdict::Pass;
    let mut parts = Vec::new();
    for (name, found) in &repository.replicas {
        let (verdict, text) = match found {
            Err(why) => (Verdict::Fail, why.clone()),
            Ok(replica) => one(replica, limit, now),
        };
        worst = worst.max(verdict);
        parts.push(shown(format!("{name} {text}").as_bytes()));
    }
    let line = Line::new(NAME, worst, parts.join("; "));
    if worst.is_wrong() { line.mend(MEND) } else { line }
}

fn one(replica: &Replica, limit: Duration, now: Timestamp) -> (Verdict, String) {
    match (replica.missing, replica.since, replica.missing_packs) {
        (0, _, 0) => (Verdict::Pass, "holds everything".to_owned()),
        (0, _, packs) => (Verdict::Fail, format!("lacks {}", size::plural(packs, "pack"))),
        (count, since, _) => {
            let lag = since.map(|since| now.since(since)).unwrap_or_default();
            let verdict = if lag > limit { Verdict::Fail } else { Verdict::Pass };
            (verdict, format!("lacks {}, for {}", size::plural(count, "snapshot"), words(lag)))
        }
    }
}

/// Whether the logbook is whole.
pub fn logbook(repository: &Repository) -> Line {
    const NAME: &str = "logbook";
    if let Some(first) = repository.faults.first() {
        let more = repository.faults.len() - 1;
        let rest = if more > 0 { format!(", and {more} more") } else { String::new() };
        let reason = shown(format!("{first}{rest}").as_bytes());
        return Line::new(NAME, Verdict::Fail, reason).mend("lifeboat log verify");
    }
    let count = size::plural(repository.memory.records, "record");
    Line::new(NAME, Verdict::Pass, format!("{count}, whole and signed"))
}
