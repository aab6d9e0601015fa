//! Whether the clock was moved. Ages are all that readiness rests on, so a clock that was set to another date between two
//! looks is said. What went by is told by the kernel's own count, which nobody sets.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::time::Timestamp;
use crate::sys::clock::since_boot;
use crate::sys::host::boot_id;

/// Clocks that are kept by the network move by less.
const TOLERANCE: i64 = 5 * 60;
/// After this time a clock that was moved is taken for right.
const FORGIVEN: Duration = Duration::from_secs(24 * 3600);

/// Two clocks at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    boot: String,
    since_boot: Duration,
    at: Timestamp,
}

impl Seen {
    pub(super) fn now(at: Timestamp) -> Self {
        Self { boot: boot_id(), since_boot: since_boot(), at }
    }

    /// How far the clock went otherwise than the time that passed, in seconds; `None` if by no more than clocks do.
    pub(super) fn jump(&self, before: &Self) -> Option<i64> {
        if self.boot != before.boot || self.since_boot < before.since_boot {
            return None;
        }
        let passed = i64::try_from((self.since_boot - before.since_boot).as_secs()).unwrap_or(i64::MAX);
        let jump = (self.at.0 - before.at.0).num_seconds().saturating_sub(passed);
        (jump.abs() > TOLERANCE).then_some(jump)
    }

    /// What to compare with the next time: the first look, until the clock agrees or was let be for a day.
    pub(super) fn or_before(self, before: Option<Self>) -> Self {
        match before {
            Some(before)
                if self.jump(&before).is_some() && self.since_boot - before.since_boot < FORGIVEN =>
            {
                before
            }
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(since_boot: u64, at: i64) -> Seen {
        let at = Timestamp::from_seconds(1_800_000_000 + at).unwrap();
        Seen { boot: "a".to_owned(), since_boot: Duration::from_secs(since_boot), at }
    }

    #[test]
    fn a_clock_that_goes_with_the_time_did_not_jump() {
        assert_eq!(seen(1000, 1000).jump(&seen(0, 0)), None);
        assert_eq!(seen(1000, 1290).jump(&seen(0, 0)), None);
        assert_eq!(seen(1000, 1400).jump(&seen(0, 0)), Some(400));
        assert_eq!(seen(1000, -86_400).jump(&seen(0, 0)), Some(-87_400));
        // another start of the machine says nothing
        assert_eq!(Seen { boot: "b".to_owned(), ..seen(10, 9000) }.jump(&seen(0, 0)), None);
    }

    #[test]
    fn a_jump_is_said_until_the_clock_is_right_again_or_for_a_day() {
        let first = seen(0, 0);
        let moved = seen(100, 9000);
        assert_eq!(moved.clone().or_before(Some(first.clone())), first);
        assert_eq!(seen(200, 200).or_before(Some(first.clone())), seen(200, 200));
        let later = seen(90_000, 99_000);
        assert_eq!(later.clone().or_before(Some(first)), later);
    }
}
