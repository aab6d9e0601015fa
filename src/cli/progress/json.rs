//! JSON lines, for programs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::Sink;
use super::tally::{Counts, Tally};
use crate::base::event::{Event, Notice, Observer};
use crate::base::name::Name;

/// Writes JSON lines. Fields are added, never renamed.
pub(super) struct Json {
    tally: Tally,
    sink: Sink,
    stop: Arc<AtomicBool>,
}

#[derive(Serialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
enum Message<'a> {
    Status { step: &'static str, entries: u64, bytes: u64, total_bytes: Option<u64>, seconds: f64 },
    Error { code: &'static str, item: Option<&'a Name>, text: &'a str },
}

impl Json {
    pub(super) fn new(sink: Sink, every: Duration, stop: Arc<AtomicBool>) -> Self {
        Self { tally: Tally::new(every), sink, stop }
    }

    fn send(&self, message: &Message<'_>) {
        if let Ok(line) = serde_json::to_vec(message) {
            self.sink.line(line);
        }
    }

    fn status(&self, counts: &Counts) {
        self.send(&Message::Status {
            step: counts.step.label(),
            entries: counts.entries,
            bytes: counts.bytes,
            total_bytes: counts.total,
            seconds: counts.time.as_millis() as f64 / 1000.0,
        });
    }
}

impl Observer for Json {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Started { step, bytes } => self.tally.start(step, bytes),
            Event::Advanced { entries, bytes } => {
                if let Some(counts) = self.tally.advance(entries, bytes) {
                    self.status(&counts);
                }
            }
            Event::Notice(Notice { code, subject, text }) => {
                self.send(&Message::Error { code, item: subject.as_ref(), text });
            }
            Event::Finished => self.tally.finish(),
        }
    }

    fn interrupted(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
