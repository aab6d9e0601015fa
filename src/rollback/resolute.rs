//! Past the stop of the service nobody's wish for an end ends a rollback.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::event::{Event, Notice, Observer};

/// Passes everything on, and never wants an end: past the stop of the service there is only forward or back. Whoever wants one is
/// told so, once.
#[derive(Clone)]
pub struct Resolute<'a> {
    observer: &'a dyn Observer,
    has_told: Arc<AtomicBool>,
}

impl Observer for Resolute<'_> {
    fn event(&self, event: Event<'_>) {
        self.observer.event(event);
    }

    fn interrupted(&self) -> bool {
        if self.observer.interrupted() && !self.has_told.swap(true, Ordering::Relaxed) {
            self.observer.event(Event::Notice(&Notice {
                code: "goes-on",
                subject: None,
                text: "interrupted, and it goes on to its end, forward or back: an end here would leave the application stopped. \
                       A second signal ends it at once, and lifeboat rollback --resume goes on from there"
                    .to_owned(),
            }));
        }
        false
    }
}

impl<'a> Resolute<'a> {
    /// Passes on to this one.
    pub fn new(observer: &'a dyn Observer) -> Self {
        Self { observer, has_told: Arc::default() }
    }
}
