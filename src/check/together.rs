//! Several checks, some at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{Check, Context, Verdict};

/// So many checks run at a time.
const AT_A_TIME: usize = 8;

/// Runs all of them, some at a time. The verdicts come in the order of the checks.
pub fn run_all(checks: &[&Check], context: &Context) -> Vec<Verdict> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..checks.len().min(AT_A_TIME) {
            scope.spawn(|| {
                while let Some((at, check)) = {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    checks.get(at).map(|check| (at, check))
                } {
                    let verdict = check.run(context);
                    found.lock().unwrap_or_else(PoisonError::into_inner).push((at, verdict));
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, verdict)| verdict).collect()
}
