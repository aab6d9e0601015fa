//! What is missing, in words.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::Name;
use crate::base::id::SnapshotId;
use crate::base::size::plural;
use crate::base::time::Timestamp;
use crate::logbook::Cut;

/// So many snapshots are named one by one.
const NAMED: usize = 5;

/// A snapshot that was there, or that a signed record tells of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// The host that took it.
    pub host: Name,
    /// Its number among that host's, where its document was seen.
    pub sequence: Option<u64>,
    /// When it was taken.
    pub at: Timestamp,
}

/// What a repository had and has no longer, without a reason that it could show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Older {
    /// Snapshots that are gone.
    pub snapshots: Vec<(SnapshotId, Gone)>,
    /// Ends of the logbook's chains that are gone.
    pub records: Vec<Cut>,
}

impl Older {
    /// How much is missing, in few words.
    pub fn brief(&self) -> String {
        let snapshots = plural(self.snapshots.len() as u64, "snapshot");
        match self.records.len() as u64 {
            0 => format!("missing: {snapshots}"),
            ends => format!("missing: {snapshots} and {} of the logbook", plural(ends, "end")),
        }
    }

    /// True if nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.snapshots.is_empty() && self.records.is_empty()
    }
}

impl fmt::Display for Older {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the repository is not as new as it was: ")?;
        let count = self.snapshots.len();
        if count > 0 {
            let (noun, verb) = if count == 1 { ("snapshot", "is") } else { ("snapshots", "are") };
            write!(f, "{count} {noun} {verb} gone")?;
        }
        for (number, (id, gone)) in self.snapshots.iter().take(NAMED).enumerate() {
            let mark = if number == 0 { " (" } else { "; " };
            write!(f, "{mark}{} of {}, {}", id.short(), gone.host.shown(), gone.at.shown())?;
        }
        match count {
            0 => {}
            _ if count > NAMED => write!(f, "; and {} more)", count - NAMED)?,
            _ => f.write_str(")")?,
        }
        for (number, cut) in self.records.iter().enumerate() {
            let mark = if number == 0 && count == 0 { "" } else { ", " };
            write!(f, "{mark}the logbook of writer {} has lost its record {}", cut.writer, cut.sequence)?;
        }
        Ok(())
    }
}
