//! What a rollback leaves in the logbook.

use std::path::PathBuf;

use super::run::Run;
use super::types::{Ended, Outcome, Way};
use crate::base::id::SnapshotId;
use crate::drill::facts;
use crate::evidence::{self, Cleanup, Evidence, Kind, Measured, Seconds, Tool};

/// Writes the record, and says what came of it.
pub fn outcome(run: &Run<'_>, ended: Ended, tool: Tool) -> Outcome {
    let is_done = ended == Ended::Done;
    let (before, snapshot) = (run.journal.safety, run.journal.snapshot);
    let after = if is_done { snapshot } else { None };
    let kept =
        (is_done && run.journal.way == Way::Exchange).then(|| PathBuf::from(run.journal.beside.as_os_str()));
    let mut evidence = Evidence { tool, ..of(run, &ended, after) };
    let recorded = evidence::append(run.subject.repo, run.subject.key, &mut evidence);
    let not_recorded = recorded.err().map(|error| error.to_string());
    Outcome { ended, evidence, not_recorded, before, after, downtime: run.downtime, kept }
}

fn of(run: &Run<'_>, ended: &Ended, after: Option<SnapshotId>) -> Evidence {
    let (subject, journal) = (run.subject, &run.journal);
    let goal = journal.snapshot.map_or_else(|| "how it was".to_owned(), |id| id.short());
    let what = match &journal.undoes {
        Some(undone) => format!("undo of the rollback {undone}"),
        None => format!("back to {goal} ({})", journal.way.word()),
    };
    let how = match ended {
        Ended::Done => String::new(),
        Ended::Reverted { why } => format!("; taken back: {why}"),
        Ended::Broken { why, .. } => format!("; broken: {why}"),
    };
    let reason = journal.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let faults = match ended {
        // that a rollback was cut off before anything was touched is not the application's fault
        Ended::Reverted { why } if run.recorder.steps.iter().all(|s| s.result == evidence::Outcome::Pass) => {
            vec![why.clone()]
        }
        _ => Vec::new(),
    };
    Evidence {
        run_id: journal.run_id.clone(),
        app: subject.plan.name(),
        scenario: format!("{what}{reason}{how}"),
        finished: subject.repo.clock().now(),
        host: facts::host(),
        operator: facts::operator(subject.sudo_user.clone()),
        config_sha256: subject.plan_sha256.clone(),
        snapshot: journal
            .safety
            .and_then(|id| Some(facts::of_snapshot(id, &subject.repo.document(id).ok()?))),
        after: after.map(SnapshotId::to_hex),
        measured: Measured {
            recovery_s: run.downtime.map(Seconds::new),
            phases: run.recorder.phases.clone(),
            ..Measured::default()
        },
        steps: run.recorder.steps.clone(),
        checks: run.recorder.checks.clone(),
        faults,
        deviations: run.notes.clone(),
        cleanup: Cleanup { proved: true, leftovers: Vec::new() },
        ..Evidence::begun(Kind::Rollback, journal.started)
    }
}
