//! The moments between which a step lasts. A crash at any of them must leave whole what is there; tests crash at each.

/// One of them, just before or just after something that lasts was done.
#[inline]
pub fn moment(_what: &'static str) {
    #[cfg(test)]
    testing::reach(_what);
}

#[cfg(test)]
pub mod testing {
    use std::cell::{Cell, RefCell};
    use std::panic::{self, AssertUnwindSafe};

    thread_local! {
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
        static SEEN: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
    }

    /// What a crash throws.
    struct Crash;

    pub fn reach(what: &'static str) {
        SEEN.with_borrow_mut(|seen| seen.push(what));
        match LEFT.get() {
            Some(0) => {
                LEFT.set(None);
                panic::resume_unwind(Box::new(Crash));
            }
            Some(left) => LEFT.set(Some(left - 1)),
            None => {}
        }
    }

    /// Runs it until it has passed so many moments, and crashes at the next; `None` says that it did. The names of the
    /// moments that it reached come with it.
    pub fn crash_after<T>(moments: usize, run: impl FnOnce() -> T) -> (Option<T>, Vec<&'static str>) {
        SEEN.take();
        LEFT.set(Some(moments));
        let done = panic::catch_unwind(AssertUnwindSafe(run));
        LEFT.set(None);
        let done = match done {
            Ok(done) => Some(done),
            Err(thrown) if thrown.is::<Crash>() => None,
            Err(thrown) => panic::resume_unwind(thrown),
        };
        (done, SEEN.take())
    }
}
