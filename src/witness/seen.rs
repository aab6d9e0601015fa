//! What is remembered, and how it is compared with what is there.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::older::Gone;
use crate::base::id::SnapshotId;
use crate::logbook::{self, Cut, Progress};
use crate::repo::documents::Signed;
use crate::repo::{Repo, RepoError, Result};

/// What this host has seen of one repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The snapshots that were there, or that signed records tell of, and that are not gone for a reason.
    snapshots: BTreeMap<SnapshotId, Gone>,
    /// How far the logbook was read.
    logbook: Option<Progress>,
}

impl Seen {
    /// Reads what is new in the logbook; returns the ends of chains that are gone.
    pub fn follow(&mut self, repo: &Repo) -> Result<Vec<Cut>> {
        if let Some(progress) = &self.logbook
            && logbook::is_at_end(repo, progress)?
        {
            return Ok(Vec::new());
        }
        let followed = logbook::follow(repo, self.logbook.as_ref())?;
        for (_, record) in followed.logbook.trusted().filter(|(_, record)| record.kind == "snapshot") {
            let told = record.body.get("snapshot").and_then(|id| SnapshotId::from_hex(id.as_str()?).ok());
            if let Some(id) = told {
                let gone = Gone { host: record.host.clone(), sequence: None, at: record.at };
                self.snapshots.entry(id).or_insert(gone);
            }
        }
        if followed.progress.is_some() {
            self.logbook = followed.progress;
        }
        Ok(followed.cuts)
    }

    /// Learns the documents that are new; returns the snapshots that are gone without a reason.
    pub fn compare(&mut self, repo: &Repo) -> Result<Vec<(SnapshotId, Gone)>> {
        let listed: BTreeSet<SnapshotId> = repo.snapshot_ids()?.into_iter().collect();
        let new: Vec<SnapshotId> = listed.iter().copied().filter(|id| !self.is_known(id)).collect();
        let writers = if new.is_empty() { Vec::new() } else { repo.writers()? };
        for id in new {
            // what nobody signed proves nothing; what cannot be read is there all the same
            let seen = repo.signed(id, &writers).and_then(|signed| {
                Ok(if matches!(signed, Signed::By(_)) { Some(repo.document(id)?) } else { None })
            });
            match seen {
                Ok(Some(document)) => {
                    let (host, sequence) = (document.host, Some(document.sequence));
                    self.snapshots.insert(id, Gone { host, sequence, at: document.started });
                }
                Ok(None) => {}
                Err(error) if error.is_damage() || matches!(error, RepoError::Store(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if self.snapshots.keys().all(|id| listed.contains(id)) {
            return Ok(Vec::new());
        }
        let explained = explained(repo)?;
        self.snapshots.retain(|id, _| listed.contains(id) || !explained.contains(id));
        let gone = self.snapshots.iter().filter(|(id, _)| !listed.contains(id));
        Ok(gone.map(|(id, gone)| (*id, gone.clone())).collect())
    }

    fn is_known(&self, id: &SnapshotId) -> bool {
        self.snapshots.get(id).is_some_and(|seen| seen.sequence.is_some())
    }

    /// Forgets what is gone.
    pub fn only_what_is_there(&mut self, repo: &Repo) -> Result<()> {
        let listed: BTreeSet<SnapshotId> = repo.snapshot_ids()?.into_iter().collect();
        self.snapshots.retain(|id, _| listed.contains(id));
        Ok(())
    }

    /// This, with what another look changed between `before` and `now`.
    pub fn with(mut self, before: &Self, now: &Self) -> Self {
        self.snapshots.retain(|id, _| now.snapshots.contains_key(id) || !before.snapshots.contains_key(id));
        self.snapshots.extend(now.snapshots.iter().map(|(id, seen)| (*id, seen.clone())));
        Self { logbook: now.logbook.clone(), ..self }
    }
}

// Snapshots that were forgotten, and those that prunes removed.
fn explained(repo: &Repo) -> Result<BTreeSet<SnapshotId>> {
    let mut explained = repo.forgotten_ids()?;
    // a plan that cannot be read explains nothing; verify names it
    for (_, plan) in repo.prune_plans().unwrap_or_default() {
        explained.extend(plan.documents);
    }
    explained.extend(logbook::forgotten(&logbook::read(repo)?));
    Ok(explained)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Name;
    use crate::base::time::Timestamp;

    fn seen(ids: &[u8]) -> Seen {
        let at = Timestamp::from_seconds(0).unwrap();
        let gone = Gone { host: Name::from("web"), sequence: Some(1), at };
        let snapshots = ids.iter().map(|id| (SnapshotId([*id; 32]), gone.clone())).collect();
        Seen { snapshots, logbook: None }
    }

    #[test]
    fn what_two_commands_saw_is_joined() {
        // one saw 4 come and 1 go, another saw 3 come
        assert_eq!(seen(&[1, 2, 3]).with(&seen(&[1, 2]), &seen(&[2, 4])), seen(&[2, 3, 4]));
    }
}
