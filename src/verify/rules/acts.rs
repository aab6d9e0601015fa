//! What the signed records of `forget` and `prune` tell of must be there as they told it: tombstones and plans are named
//! by nothing else, so that their loss or change would not show.

use std::collections::BTreeSet;

use crate::base::id::{SnapshotId, name_of};
use crate::format::record::{MAX_SMALL, PlanState};
use crate::logbook::{self, Logbook, PLANS_FIELD};
use crate::repo::{Repo, Result};
use crate::store::{Key, Kind, StoreError};
use crate::verify::Problem;

/// Compares tombstones and plans with what the logbook tells of them.
pub fn check(repo: &Repo, logbook: &Logbook, found: &mut Vec<Problem>) -> Result<()> {
    tombstones(repo, logbook, found)?;
    plans(repo, logbook, found)
}

fn tombstones(repo: &Repo, logbook: &Logbook, found: &mut Vec<Problem>) -> Result<()> {
    // those that must be there, with their hashes where a record tells them
    let mut expected = logbook::standing(logbook);
    for id in repo.forgotten_ids()? {
        let key = Key::tombstone(id);
        let bytes = match repo.store().read_all(&key, MAX_SMALL) {
            // taken back or pruned since it was listed
            Err(StoreError::Missing { .. }) => continue,
            // another rule says that it cannot be read
            Err(_) => {
                expected.remove(&id);
                continue;
            }
            Ok(bytes) => bytes,
        };
        match expected.remove(&id) {
            None => found.push(Problem::TombstoneUnrecorded { snapshot: id }),
            Some(hashes)
                if !hashes.iter().any(|hash| hash.as_ref().is_none_or(|hash| *hash == name_of(&bytes))) =>
            {
                let malformed =
                    |p: &Problem| matches!(p, Problem::ObjectMalformed { key: bad, .. } if *bad == key);
                if !found.iter().any(malformed) {
                    let why = "its bytes are not those that the logbook tells of".to_owned();
                    found.push(Problem::ObjectMalformed { key, why });
                }
            }
            Some(_) => {}
        }
    }
    // a prune takes the tombstone away with the document
    let there: BTreeSet<SnapshotId> = repo.snapshot_ids()?.into_iter().collect();
    let lost = expected.into_keys().filter(|id| there.contains(id));
    found.extend(lost.map(|snapshot| Problem::TombstoneMissing { snapshot }));
    Ok(())
}

// The newest record of a prune names the plans that it left. A prune that was cut off before its record left others,
// and may have removed those.
fn plans(repo: &Repo, logbook: &Logbook, found: &mut Vec<Problem>) -> Result<()> {
    let left = logbook.newest("prune");
    let left = left.and_then(|record| record.body.get(PLANS_FIELD)?.as_array());
    let left: BTreeSet<&str> = left.into_iter().flatten().filter_map(|name| name.as_str()).collect();
    let there: BTreeSet<String> =
        repo.store().names(Kind::Prune)?.iter().map(|key| key.stem().to_owned()).collect();
    // one that cannot be read is another rule's problem, and tells nothing here
    let newer = |(key, plan): &(Key, crate::format::record::PrunePlan)| {
        !left.contains(key.stem()) && plan.state != PlanState::Alone
    };
    if repo.prune_plans().unwrap_or_default().iter().any(newer) {
        return Ok(());
    }
    let gone = left.into_iter().filter(|name| !there.contains(*name));
    let keys = gone.filter_map(|name| Key::from_listing(&format!("prune/{name}.json")));
    found.extend(keys.map(|key| Problem::PlanMissing { key }));
    Ok(())
}
