//! Counts what several threads do, and chooses who says so and when.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::lock;
use crate::base::event::Step;
use crate::base::size;

/// What has been done so far, and when something is to be said again.
pub(super) struct Tally {
    entries: AtomicU64,
    bytes: AtomicU64,
    work: Mutex<Option<Work>>,
    created: Instant,
    every: Duration,
    // in milliseconds after `created`
    due: AtomicU64,
}

#[derive(Clone, Copy)]
struct Work {
    step: Step,
    total: Option<u64>,
    started: Instant,
}

/// A look at the tally.
pub(super) struct Counts {
    pub(super) step: Step,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) total: Option<u64>,
    pub(super) time: Duration,
}

impl Tally {
    pub(super) fn new(every: Duration) -> Self {
        Self {
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            work: Mutex::new(None),
            created: Instant::now(),
            every,
            due: AtomicU64::new(0),
        }
    }

    pub(super) fn start(&self, step: Step, total: Option<u64>) {
        let mut work = lock(&self.work);
        self.entries.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        self.due.store(self.now() + self.interval(), Ordering::Relaxed);
        *work = Some(Work { step, total, started: Instant::now() });
    }

    pub(super) fn finish(&self) {
        *lock(&self.work) = None;
    }

    // Counts; says how things stand if that is due, to one of the threads only.
    pub(super) fn advance(&self, entries: u64, bytes: u64) -> Option<Counts> {
        self.entries.fetch_add(entries, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let (now, due) = (self.now(), self.due.load(Ordering::Relaxed));
        let next = now + self.interval();
        let chosen =
            now >= due && self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if chosen { self.counts() } else { None }
    }

    pub(super) fn counts(&self) -> Option<Counts> {
        let work = *lock(&self.work);
        work.map(|Work { step, total, started }| Counts {
            step,
            entries: self.entries.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            total,
            time: started.elapsed(),
        })
    }

    fn now(&self) -> u64 {
        self.created.elapsed().as_millis() as u64
    }

    fn interval(&self) -> u64 {
        self.every.as_millis() as u64
    }
}

impl Counts {
    // `snapshot: 12,345 entries, 1.2 GiB of 2.4 GiB (50 %), 117.0 MiB/s`
    pub(super) fn line(&self) -> String {
        let mut line = format!("{}: {}", self.step.label(), entries(self.entries));
        if self.bytes > 0 || self.total.is_some() {
            line.push_str(&format!(", {}", size::bytes(self.bytes)));
        }
        if let Some(total) = self.total.filter(|&total| total > 0) {
            let percent = (self.bytes as f64 / total as f64 * 100.0).min(100.0);
            line.push_str(&format!(" of {} ({percent:.0} %)", size::bytes(total)));
        }
        let rate = self.bytes as f64 / self.time.as_secs_f64().max(0.001);
        if rate >= 1.0 {
            line.push_str(&format!(", {}/s", size::bytes(rate as u64)));
        }
        line
    }
}

pub(super) fn entries(count: u64) -> String {
    format!("{} {}", size::count(count), if count == 1 { "entry" } else { "entries" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_lose_no_count_and_one_of_them_speaks() {
        let tally = Tally::new(Duration::from_secs(3600));
        tally.start(Step::Verify, None);
        tally.due.store(0, Ordering::Relaxed);
        let spoken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let spoke = tally.advance(1, 2).is_some();
                        spoken.fetch_add(u64::from(spoke), Ordering::Relaxed);
                    }
                });
            }
        });
        let counts = tally.counts().unwrap();
        assert_eq!((counts.entries, counts.bytes), (40_000, 80_000));
        assert_eq!(spoken.into_inner(), 1);
    }
}
