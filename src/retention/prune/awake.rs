//! Notices that the machine slept (rule L7): what was decided before may be wrong by now.

use std::time::Duration;

use super::{PruneError, Result};

/// A sleep up to this long is nothing: clocks are not read at the same instant.
const SLACK: Duration = Duration::from_secs(60);

/// Asked before each batch of deletions.
pub struct Awake<'a> {
    slept: &'a dyn Fn() -> Duration,
    before: Duration,
}

impl<'a> Awake<'a> {
    /// Begins to watch; `slept` says how long this machine has slept in all.
    pub fn since_now(slept: &'a dyn Fn() -> Duration) -> Self {
        Self { slept, before: slept() }
    }

    /// Fails if the machine slept since the watch began.
    ///
    /// # Errors
    /// [`PruneError::Slept`].
    pub fn check(&self) -> Result<()> {
        let slept = (self.slept)().saturating_sub(self.before);
        if slept > SLACK { Err(PruneError::Slept(slept)) } else { Ok(()) }
    }
}
