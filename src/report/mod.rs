//! One page that says whether a recovery would go well now, with what it rests on drawn over time.
//!
//! Pure: [`Data`] is what is known, [`page`] the same for people. The page needs nothing else: styles and drawings are in it, there
//! is no script, and it prints. Every value goes through the template engine, which escapes it; the finished page goes once more
//! through `shown_text`, so that no control or direction character from outside is left in it.

mod chart;
mod page;
mod strip;

use serde::Serialize;

use crate::base::time::Timestamp;
use crate::capacity::{self, Growth};
use crate::evidence::actions::Action;
use crate::health::history::Said;
use crate::readiness::{Readiness, Run};

pub use page::page;

#[cfg(test)]
mod tests;

/// The form of the data that this version writes.
pub const SCHEMA: &str = "lifeboat-report-1";

/// What is known. Fields are added, never renamed.
#[derive(Clone, Debug, Serialize)]
pub struct Data {
    /// Always `lifeboat-report-1`.
    pub schema: &'static str,
    /// Where the repository is.
    pub repository: String,
    /// This host.
    pub host: String,
    /// Whether a recovery would go well now.
    pub readiness: Readiness,
    /// The objectives, in seconds.
    pub objectives: Objectives,
    /// Every drill, oldest first.
    pub drills: Vec<Run>,
    /// The snapshots that are kept, oldest first.
    pub snapshots: Vec<Kept>,
    /// How the repository grows; `None` where it cannot be read.
    pub growth: Option<Growth>,
    /// What checks said, oldest first.
    pub checks: Vec<Said>,
    /// What measures said when they were looked at last.
    pub capacity: Option<capacity::Report>,
    /// The plan's runbooks.
    pub runbooks: Vec<Procedure>,
    /// What is to be done.
    pub actions: Vec<Action>,
    /// The newest acts, newest first.
    pub acts: Vec<Act>,
}

/// What a recovery must reach, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Objectives {
    /// How long it may take.
    pub rto: Option<f64>,
    /// How much may be lost, as time.
    pub rpo: Option<f64>,
}

/// A snapshot that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Its id.
    pub id: String,
    /// When it began.
    pub at: Timestamp,
    /// Its size, in bytes.
    pub bytes: u64,
    /// Its regular files.
    pub files: u64,
    /// How its last drill with a result ended; `None` if it was in none.
    pub drilled: Option<bool>,
}

/// A procedure of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Procedure {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// When it was run last.
    pub last: Option<Timestamp>,
    /// What that came to.
    pub verdict: Option<String>,
    /// When it is due next.
    pub due: Option<Timestamp>,
    /// True: now.
    pub is_due: bool,
}

/// Something that was done, as the logbook has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Act {
    /// When.
    pub at: Timestamp,
    /// What kind of act.
    pub kind: String,
    /// Who, as `user@host`.
    pub by: String,
    /// In a line.
    pub what: String,
}
