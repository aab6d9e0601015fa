//! The logbook's chains.

use crate::logbook::{Logbook, verify_chain};
use crate::verify::Problem;

/// Adds what is wrong with them.
pub fn check(logbook: &Logbook, found: &mut Vec<Problem>) {
    found.extend(verify_chain(logbook).into_iter().map(Problem::Logbook));
    found.extend(logbook.strange.iter().map(|key| Problem::ObjectUnknown { key: key.clone() }));
}
