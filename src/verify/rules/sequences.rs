//! The snapshots of a host are numbered and chained: what is gone without having been forgotten is
//! named by what came after it.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::id::{RecordId, SnapshotId};
use crate::format::snapshot::Document;
use crate::logbook::{Fault, FaultKind, Logbook};
use crate::repo::{Repo, Result};
use crate::verify::Problem;

/// Looks for gaps, doubles and wrong links.
pub fn check(
    repo: &Repo,
    documents: &[(SnapshotId, Document)],
    logbook: &Logbook,
    found: &mut Vec<Problem>,
) -> Result<()> {
    doubles(documents, found);
    let by_id: BTreeMap<_, _> = documents.iter().map(|(id, document)| (*id, document)).collect();
    let explained = explained(repo, logbook, found)?;
    let mut gone: BTreeMap<SnapshotId, String> = BTreeMap::new();
    for (id, document) in documents {
        match document.previous {
            None if document.sequence == 1 => {}
            None => found.push(Problem::ChainBroken { snapshot: *id }),
            Some(previous) => match by_id.get(&previous) {
                Some(before) if before.host == document.host && before.sequence + 1 == document.sequence => {}
                Some(_) => found.push(Problem::ChainBroken { snapshot: *id }),
                None if explained.contains(&previous) => {}
                None => {
                    gone.insert(previous, format!("snapshot {}", id.short()));
                }
            },
        }
    }
    for (_, record) in logbook.trusted().filter(|(_, record)| record.kind == "snapshot") {
        let told = record.body.get("snapshot").and_then(|s| SnapshotId::from_hex(s.as_str()?).ok());
        if let Some(id) = told.filter(|id| !by_id.contains_key(id) && !explained.contains(id)) {
            gone.entry(id).or_insert_with(|| "the logbook".to_owned());
        }
    }
    found.retain(|p| !matches!(p, Problem::DocumentUnfinished { snapshot } if gone.contains_key(snapshot)));
    found
        .extend(gone.into_iter().map(|(snapshot, named_by)| Problem::DocumentMissing { snapshot, named_by }));
    records(documents, logbook, found);
    Ok(())
}

/// Between what a document calls its end and the moment others see it, in seconds: its own writing.
const COMMIT_TAKES: i64 = 60;

fn doubles(documents: &[(SnapshotId, Document)], found: &mut Vec<Problem>) {
    let mut numbers: BTreeMap<_, Vec<&(SnapshotId, Document)>> = BTreeMap::new();
    for one in documents {
        numbers.entry((&one.1.host.0, one.1.sequence)).or_default().push(one);
    }
    for ((host, sequence), same) in numbers.into_iter().filter(|(_, same)| same.len() > 1) {
        let host = crate::base::Name(host.clone());
        let snapshots = same.iter().map(|(id, _)| *id).collect();
        let pairs =
            same.iter().enumerate().flat_map(|(i, one)| same[i + 1..].iter().map(move |two| (one, two)));
        found.push(if pairs.into_iter().all(|(one, two)| together(&one.1, &two.1)) {
            Problem::TakenTogether { host, sequence, snapshots }
        } else {
            Problem::SequenceDuplicate { host, sequence, snapshots }
        });
    }
}

/// True if neither could see the other: both follow the same one, and each began before the other was there.
fn together(one: &Document, two: &Document) -> bool {
    let before_end = |a: &Document, b: &Document| a.started.parts().0 <= b.finished.parts().0 + COMMIT_TAKES;
    one.previous == two.previous && before_end(one, two) && before_end(two, one)
}

/// Snapshots that are known to be gone for a reason, or whose damage is reported already.
fn explained(repo: &Repo, logbook: &Logbook, found: &[Problem]) -> Result<BTreeSet<SnapshotId>> {
    let mut explained = repo.forgotten_ids()?;
    // a plan that cannot be read is another rule's problem
    for (_, plan) in repo.prune_plans().unwrap_or_default() {
        explained.extend(plan.documents);
    }
    explained.extend(crate::logbook::forgotten(logbook));
    for problem in found {
        if let Problem::DocumentDamaged { snapshot, .. } = problem {
            explained.insert(*snapshot);
        }
    }
    Ok(explained)
}

/// A record that a document saw must still be there.
fn records(documents: &[(SnapshotId, Document)], logbook: &Logbook, found: &mut Vec<Problem>) {
    let known: BTreeSet<RecordId> = logbook.records.iter().map(|logged| logged.id).collect();
    let lost: BTreeSet<RecordId> =
        documents.iter().filter_map(|(_, d)| d.logbook).filter(|id| !known.contains(id)).collect();
    let lone = |id: &RecordId| {
        logbook.lone_signatures.iter().find(|key| key.as_str().contains(&id.to_hex())).cloned()
    };
    for id in lost {
        let gap = |p: &Problem| matches!(p, Problem::Logbook(Fault { kind: FaultKind::Missing, .. }));
        // one gap in a chain is enough of an explanation
        if found.iter().any(gap) {
            continue;
        }
        let writer = id.short();
        found.push(Problem::Logbook(Fault { kind: FaultKind::Missing, writer, sequence: 0, key: lone(&id) }));
    }
}
