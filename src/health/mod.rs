//! `health`: the plan's checks together, now: several at a time, logs from where they were read to the last time,
//! a verdict over all, and a small history.

pub mod history;
pub mod marks;
pub mod nagios;
pub mod prometheus;
mod run;

pub use run::overall;

use crate::base::time::Timestamp;
use crate::check::{Outcome, Verdict};

/// What a look at the application found.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// The application's name.
    pub application: String,
    /// When it was looked at.
    pub at: Timestamp,
    /// The verdict over all required checks.
    pub verdict: Outcome,
    /// How long it took, in seconds.
    pub took: f64,
    /// Each check's verdict, in the order of the plan.
    pub checks: Vec<Verdict>,
}

impl Report {
    /// The checks that did not pass, required ones first.
    pub fn wrong(&self) -> Vec<&Verdict> {
        let mut wrong: Vec<_> = self.checks.iter().filter(|v| v.outcome != Outcome::Pass).collect();
        wrong.sort_by_key(|v| !v.required);
        wrong
    }
}

#[cfg(test)]
mod tests;
