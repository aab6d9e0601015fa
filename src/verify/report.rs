//! What a verification found.

use std::collections::{BTreeMap, BTreeSet};

use super::problem::LostPath;
use super::{Depth, Problem, Severity};
use crate::base::id::{PackId, SnapshotId};

/// How much of the stored data is known to be good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Bytes of all packs.
    pub stored_bytes: u64,
    /// Bytes of packs whose every byte was proved within 30 days, this run included.
    pub proved_bytes: u64,
}

impl Coverage {
    /// The share of stored bytes that is proved, 0 to 1; nothing to prove is all proved.
    pub fn share(&self) -> f64 {
        if self.stored_bytes == 0 { 1.0 } else { self.proved_bytes as f64 / self.stored_bytes as f64 }
    }
}

/// What a verification found.
#[derive(Clone, Debug)]
pub struct Report {
    /// How closely was looked.
    pub depth: Depth,
    /// True if it was about the whole repository, not about some snapshots.
    pub is_whole: bool,
    /// What is wrong, the worst first.
    pub problems: Vec<Problem>,
    /// The snapshots looked at.
    pub snapshots: Vec<SnapshotId>,
    /// The packs whose every byte was read and found right.
    pub proved: Vec<PackId>,
    /// How much was proved lately.
    pub coverage: Coverage,
    /// Packs that are there.
    pub checked_packs: u64,
}

impl Report {
    /// The worst of the problems.
    pub fn severity(&self) -> Option<Severity> {
        self.problems.iter().map(Problem::severity).max()
    }

    /// True if nothing is wrong but what is only worth knowing.
    pub fn is_clean(&self) -> bool {
        self.severity().is_none_or(|worst| worst == Severity::Notice)
    }

    /// Everything lost, snapshot by snapshot. A snapshot whose document is lost has no paths here.
    pub fn lost(&self) -> BTreeMap<SnapshotId, BTreeSet<LostPath>> {
        let mut lost: BTreeMap<SnapshotId, BTreeSet<LostPath>> = BTreeMap::new();
        for problem in self.problems.iter().filter(|p| p.severity() != Severity::Notice) {
            for hit in problem.hits() {
                lost.entry(hit.snapshot).or_default().extend(hit.paths.iter().cloned());
            }
            if problem.severity() == Severity::DataLoss {
                for snapshot in problem.snapshots() {
                    lost.entry(snapshot).or_default();
                }
            }
        }
        lost
    }

    /// What the logbook's record of this verification says.
    pub fn record_body(&self) -> serde_json::Value {
        let packs: Vec<String> = self.proved.iter().map(|pack| pack.to_hex()).collect();
        let damaged: BTreeSet<String> = self.problems.iter().filter_map(Problem::damaged_pack).collect();
        serde_json::json!({
            "depth": self.depth.word(),
            "packs": packs,
            "problems": self.problems.len(),
            "clean": self.is_clean(),
            "whole": self.is_whole,
            "damaged_packs": damaged,
        })
    }
}
