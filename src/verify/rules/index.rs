//! Index objects decode and agree with each other.

use crate::repo::load::Loaded;
use crate::verify::Problem;

/// Adds what the load met.
pub fn check(loaded: &Loaded, found: &mut Vec<Problem>) {
    for (key, error) in &loaded.damaged_indexes {
        found.push(Problem::IndexDamaged { key: key.clone(), why: error.to_string() });
    }
    for &pack in &loaded.conflicts {
        found.push(Problem::IndexDiffers { pack });
    }
}
