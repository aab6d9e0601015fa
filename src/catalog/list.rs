//! The snapshots there are, and the one that is meant.

use super::select::{Filters, Known, SelectError, Wanted, admitted, select};
use crate::format::source::Source;
use crate::repo::documents::Snapshot;

/// A snapshot, as far as choosing one needs it.
pub fn known(snapshot: &Snapshot) -> Known {
    let document = &snapshot.document;
    Known {
        id: snapshot.id,
        source: Source::of(document),
        host: document.host.clone(),
        sequence: document.sequence,
        taken: document.started,
        tags: document.tags.clone(),
    }
}

/// Finds the one snapshot that is meant. Forgotten ones are found by their id only.
///
/// # Errors
/// If there is none, or more than one.
pub fn choose<'a>(
    wanted: &Wanted,
    snapshots: &'a [Snapshot],
    filters: &Filters,
) -> Result<&'a Snapshot, SelectError> {
    let by_id = matches!(wanted, Wanted::Id(_));
    let candidates: Vec<Known> = snapshots.iter().filter(|s| by_id || !s.forgotten).map(known).collect();
    let id = select(wanted, &candidates, filters)?.id;
    let none = || SelectError::NoneMatch { wanted: wanted.clone(), filtered: false };
    snapshots.iter().find(|s| s.id == id).ok_or_else(none)
}

/// The snapshots that the filters admit, in the order given; forgotten ones only if asked for.
pub fn listed<'a>(snapshots: &'a [Snapshot], filters: &Filters, all: bool) -> Vec<&'a Snapshot> {
    let candidates: Vec<Known> = snapshots.iter().filter(|s| all || !s.forgotten).map(known).collect();
    let admitted: Vec<_> = admitted(&candidates, filters).iter().map(|one| one.id).collect();
    snapshots.iter().filter(|s| admitted.contains(&s.id)).collect()
}
