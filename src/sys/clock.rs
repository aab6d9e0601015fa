//! How long this machine slept.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

fn duration(time: Timespec) -> Duration {
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// The time since this machine started, sleep included.
pub fn since_boot() -> Duration {
    duration(clock_gettime(ClockId::Boottime))
}

/// How long this machine has slept since it started: what a process that was only waiting does not
/// notice, and in which the rest of the world went on.
pub fn slept() -> Duration {
    let awake = duration(clock_gettime(ClockId::Monotonic));
    since_boot().saturating_sub(awake)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_is_awake_does_not_sleep() {
        let before = slept();
        std::thread::sleep(Duration::from_millis(20));
        assert!(slept().saturating_sub(before) < Duration::from_secs(1));
        assert!(since_boot() > Duration::ZERO);
    }
}
