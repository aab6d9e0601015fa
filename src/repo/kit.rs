//! What ending a frame needs besides the frame: a compressor, a decoder, and a buffer for each. They are
//! lent, so that there are as many as processors and not as many as there are packs being filled.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::{RepoError, Result};
use crate::format::frame::{Decoder, Encoder};
use crate::format::pack::Table;
use crate::sys::host::worker_count;

/// What compresses, and what came of it.
struct Press {
    encoder: Encoder,
    stored: Vec<u8>,
}

/// What decodes, and memory for a frame.
struct Check {
    decoder: Decoder,
    plain: Vec<u8>,
}

/// The compressors and decoders of one writer.
pub struct Kits {
    level: i32,
    presses: Lender<Press>,
    // decoding takes a fifth of the time of compressing
    checks: Lender<Check>,
}

impl Kits {
    /// As many as there are processors, for frames of this level.
    pub fn new(level: i32) -> Self {
        let processors = worker_count();
        Self { level, presses: Lender::new(processors), checks: Lender::new(processors.div_ceil(2)) }
    }

    /// Compresses a frame, decodes it again and compares: compressors have had bugs, and what does not come back is
    /// not stored. Then does some work with what is to be stored; it must not end another frame.
    ///
    /// # Errors
    /// If it does not come back, or zstd gets no memory; otherwise those of the work.
    pub fn compress<T>(&self, raw: &[u8], work: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        let compress = |press: &mut Press| {
            press.encoder.encode(raw, &mut press.stored).map_err(RepoError::io("compress a frame"))?;
            let same = self.checks.with(Check::new, |check| {
                let back = check.decoder.decode(&press.stored, raw.len() as u64, &mut check.plain);
                Ok(back.is_ok() && check.plain == raw)
            })?;
            if same { work(&press.stored) } else { Err(RepoError::SelfCheck) }
        };
        self.presses.with(|| Press::new(self.level), compress)
    }

    /// Makes what follows a pack's content frames, compressed as frames are or at another level, and does some
    /// work with it.
    ///
    /// # Errors
    /// If the table passes a limit, or zstd gets no memory; otherwise those of the work.
    pub fn tail<T>(
        &self,
        table: &Table,
        level: Option<i32>,
        work: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<T> {
        let encode = |press: &mut Press| {
            let Press { encoder, stored } = press;
            self.checks
                .with(Check::new, |check| Ok(table.encode_tail(encoder, &mut check.plain, stored)?))?;
            work(stored)
        };
        match level {
            None => self.presses.with(|| Press::new(self.level), encode),
            Some(other) => encode(&mut Press::new(other)?),
        }
    }
}

impl Press {
    fn new(level: i32) -> Result<Self> {
        let encoder = Encoder::new(level).map_err(RepoError::io("start the compressor"))?;
        Ok(Self { encoder, stored: Vec::new() })
    }
}

impl Check {
    fn new() -> Result<Self> {
        let decoder = Decoder::new().map_err(RepoError::io("start the decoder"))?;
        Ok(Self { decoder, plain: Vec::new() })
    }
}

/// Things that are lent, made when they are first needed.
struct Lender<T> {
    most: usize,
    state: Mutex<State<T>>,
    returned: Condvar,
}

struct State<T> {
    free: Vec<T>,
    lent: usize,
}

// Says that one is lent, until it is dropped.
struct Lent<'k, T>(&'k Lender<T>);

impl<T> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        self.0.state().lent -= 1;
        self.0.returned.notify_one();
    }
}

impl<T> Lender<T> {
    fn new(most: usize) -> Self {
        Self { most, state: Mutex::new(State { free: Vec::new(), lent: 0 }), returned: Condvar::new() }
    }

    // Lends one for some work; waits if all are lent. The work must not ask for another.
    fn with<R>(&self, make: impl FnOnce() -> Result<T>, work: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        let _lent = self.lend();
        let free = self.state().free.pop();
        let mut thing = match free {
            Some(thing) => thing,
            None => make()?,
        };
        let result = work(&mut thing);
        self.state().free.push(thing);
        result
    }

    fn lend(&self) -> Lent<'_, T> {
        let mut state = self.state();
        while state.lent >= self.most {
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.lent += 1;
        Lent(self)
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn many_threads_compress_with_few_compressors() {
        let kits = Kits { level: 1, presses: Lender::new(2), checks: Lender::new(1) };
        let (now, seen) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for number in 0..8u8 {
                let (kits, now, seen) = (&kits, &now, &seen);
                scope.spawn(move || {
                    let raw = vec![number; 10_000];
                    for _ in 0..20 {
                        let work = |stored: &[u8]| {
                            seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            std::thread::yield_now();
                            now.fetch_sub(1, Ordering::SeqCst);
                            Ok(stored.len())
                        };
                        assert!(kits.compress(&raw, work).is_ok_and(|bytes| bytes < 100));
                    }
                });
            }
        });
        assert!(seen.into_inner() <= 2);
        assert!(kits.presses.state().free.len() <= 2 && kits.presses.state().lent == 0);
        assert!(kits.checks.state().free.len() == 1 && kits.checks.state().lent == 0);
    }

    #[test]
    fn after_work_that_fails_the_next_is_done() {
        let kits = Kits { level: 1, presses: Lender::new(1), checks: Lender::new(1) };
        for _ in 0..3 {
            let failed = kits.compress(b"raw", |_| Err::<(), _>(RepoError::Interrupted));
            assert!(matches!(failed, Err(RepoError::Interrupted)));
        }
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            kits.compress(b"raw", |_| -> Result<()> { std::panic::resume_unwind(Box::new("work")) })
        }));
        assert!(broken.is_err());
        assert!(kits.compress(b"raw", |_| Ok(())).is_ok());
    }
}
