//! A snapshot of the application as it is, before or after something is done to it.

use super::choose::SAFETY_TAG;
use super::types::Subject;
use crate::base::Name;
use crate::base::event::Observer;
use crate::base::id::SnapshotId;
use crate::logbook::{self, Act};
use crate::repo::writer::DEFAULT_LEVEL;
use crate::snapshot::{self, SnapshotError};
use crate::sys::host::{self, worker_count};
use crate::tree::exclude;

/// Takes a snapshot of the plan's tree, and says so in the logbook.
///
/// # Errors
/// If none could be taken.
pub fn save(
    subject: &Subject<'_>,
    tag: &str,
    reason: &str,
    observer: &dyn Observer,
) -> Result<SnapshotId, SnapshotError> {
    let plan = subject.plan;
    let patterns = plan.app.exclude.clone();
    // before a rollback it is wanted as it is, whatever is missing: that may be why it goes back
    let databases = if tag == SAFETY_TAG { Vec::new() } else { plan.sqlite_databases() };
    let options = snapshot::Options {
        roots: vec![plan.root()],
        excludes: exclude::Options { patterns, ..exclude::Options::default() },
        tags: vec![Name::from(tag)],
        reason: Some(Name::from(reason)),
        host: host::host_name(),
        user: host::user_name(),
        level: DEFAULT_LEVEL,
        workers: worker_count(),
        databases,
        ..snapshot::Options::default()
    };
    let head = logbook::head(subject.repo)?;
    let outcome = snapshot::take(subject.repo, subject.key, head, &options, observer)?;
    let id = outcome.id.ok_or_else(|| std::io::Error::other("no snapshot came of it"))?;
    let body = serde_json::json!({"snapshot": id, "reason": reason, "statistics": outcome.statistics});
    let act = Act { kind: "snapshot".to_owned(), host: host::host_name(), user: host::user_name(), body };
    // it is there all the same, and the record of what follows names it
    let _ = logbook::append(subject.repo, subject.key, act);
    Ok(id)
}
