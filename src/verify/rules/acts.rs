//! What the signed records of `forget` and `prune` tell of must be there as they told it: tombstones and plans are named
//! by nothing else, so that their loss or change would not show.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::id::{SnapshotId, name_of};
use crate::format::record::{MAX_SMALL, PlanState, Record};
use crate::logbook::{Logbook, PLANS_FIELD, TOMBSTONES_FIELD};
use crate::repo::{Repo, Result};
use crate::store::{Key, Kind, StoreError};
use crate::verify::Problem;

/// Compares tombstones and plans with what the logbook tells of them.
pub fn check(repo: &Repo, logbook: &Logbook, found: &mut Vec<Problem>) -> Result<()> {
    let mut acts: Vec<&Record> = logbook.trusted().map(|(_, record)| record).collect();
    acts.sort_by_key(|record| (record.at, record.sequence));
    tombstones(repo, &acts, found)?;
    plans(repo, &acts, found)
}

/// The tombstones that must be there, with their hashes where a record tells them.
fn expected(acts: &[&Record]) -> BTreeMap<SnapshotId, Option<String>> {
    let mut expected = BTreeMap::new();
    for record in acts {
        let ids = || {
            let named = record.body.get("snapshots").and_then(|ids| ids.as_array()).into_iter().flatten();
            named.filter_map(|id| SnapshotId::from_hex(id.as_str()?).ok())
        };
        match record.kind.as_str() {
            "forget" => expected.extend(ids().map(|id| {
                let hash = record.body.get(TOMBSTONES_FIELD).and_then(|all| all.get(id.to_hex())?.as_str());
                (id, hash.map(str::to_owned))
            })),
            "remember" => ids().for_each(|id| {
                expected.remove(&id);
            }),
            _ => {}
        }
    }
    expected
}

fn tombstones(repo: &Repo, acts: &[&Record], found: &mut Vec<Problem>) -> Result<()> {
    let mut expected = expected(acts);
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
            Some(Some(hash)) if hash != name_of(&bytes) => {
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
fn plans(repo: &Repo, acts: &[&Record], found: &mut Vec<Problem>) -> Result<()> {
    let left = acts.iter().rev().find(|record| record.kind == "prune");
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
