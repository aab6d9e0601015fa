//! The verdict over all.

use crate::check::{Outcome, Verdict};

/// The verdict over all: of the required ones, fail goes before error, and that before pass.
pub fn overall(found: &[Verdict]) -> Outcome {
    let any = |outcome| found.iter().any(|verdict| verdict.required && verdict.outcome == outcome);
    if any(Outcome::Fail) {
        Outcome::Fail
    } else if any(Outcome::Error) {
        Outcome::Error
    } else {
        Outcome::Pass
    }
}
