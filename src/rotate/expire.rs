//! What was set aside is thrown away when it is too old or there is too much of it. Only names that a rotation makes.

use super::place::Place;
use super::{Options, Outcome, RotateError};
use crate::base::time::Timestamp;
use crate::plan::types::Rotate;

/// Throws away what the rule does not keep.
pub fn expire(
    place: &Place,
    rule: &Rotate,
    options: Options<'_>,
    now: Timestamp,
    outcome: &mut Outcome,
) -> Result<(), RotateError> {
    let found = place.rotated();
    // a new one counts, also where it is only thought of
    let coming = usize::from(options.dry_run && outcome.set_aside.is_some());
    let most = rule.keep_count.map_or(usize::MAX, |count| count as usize);
    let over = (found.len() + coming).saturating_sub(most);
    for (i, (name, at)) in found.iter().enumerate() {
        if i >= over && now.since(*at) <= rule.keep.0 {
            continue;
        }
        if !options.dry_run {
            place.remove(name).map_err(place.failed("remove", name))?;
        }
        outcome.removed.push(place.full(name));
    }
    Ok(())
}
