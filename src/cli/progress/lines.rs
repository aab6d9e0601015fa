//! Plain lines, for logs and pipes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Sink;
use super::tally::Tally;
use crate::base::event::{Event, Observer};

/// Writes a line now and then, and each notice.
pub(super) struct Lines {
    // `None` where only notices are wanted
    tally: Option<Tally>,
    sink: Sink,
    stop: Arc<AtomicBool>,
}

impl Lines {
    pub(super) fn new(sink: Sink, every: Option<Duration>, stop: Arc<AtomicBool>) -> Self {
        Self { tally: every.map(Tally::new), sink, stop }
    }
}

impl Observer for Lines {
    fn event(&self, event: Event<'_>) {
        match (event, &self.tally) {
            (Event::Notice(notice), _) => self.sink.notice(notice),
            (Event::Started { step, bytes }, Some(tally)) => tally.start(step, bytes),
            (Event::Advanced { entries, bytes }, Some(tally)) => {
                if let Some(counts) = tally.advance(entries, bytes) {
                    self.sink.line(counts.line().into_bytes());
                }
            }
            (Event::Finished, Some(tally)) => tally.finish(),
            (_, None) => {}
        }
    }

    fn interrupted(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
