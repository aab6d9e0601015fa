//! A bar on a terminal: how far, how fast, how long still.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::tally::{Counts, Tally, entries};
use super::{Sink, lock};
use crate::base::event::{Event, Notice, Observer, Step};
use crate::base::size;

/// Draws a bar on stderr; notices go above it.
pub(super) struct Bar {
    tally: Tally,
    bar: Mutex<Option<ProgressBar>>,
    sink: Sink,
    stop: Arc<AtomicBool>,
}

impl Bar {
    pub(super) fn new(sink: Sink, stop: Arc<AtomicBool>) -> Self {
        Self { tally: Tally::new(Duration::from_millis(100)), bar: Mutex::new(None), sink, stop }
    }

    fn start(&self, step: Step, total: Option<u64>) {
        self.tally.start(step, total);
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10));
        bar.set_style(style(match (step, total) {
            (_, Some(_)) => WITH_TOTAL,
            (Step::Drill(_), None) => WAITING,
            (_, None) => WITHOUT_TOTAL,
        }));
        bar.set_prefix(step.label());
        bar.set_message(entries(0));
        // a thread of its own draws, so that time goes on where nothing else does
        bar.enable_steady_tick(Duration::from_millis(200));
        if let Some(former) = lock(&self.bar).replace(bar) {
            former.finish_and_clear();
        }
    }

    fn show(&self, counts: &Counts) {
        if let Some(bar) = &*lock(&self.bar) {
            bar.set_position(counts.bytes);
            bar.set_message(entries(counts.entries));
        }
    }

    fn notice(&self, notice: &Notice) {
        match &*lock(&self.bar) {
            Some(bar) => bar.suspend(|| self.sink.notice(notice)),
            None => self.sink.notice(notice),
        }
    }

    fn finish(&self) {
        self.tally.finish();
        if let Some(bar) = lock(&self.bar).take() {
            bar.finish_and_clear();
        }
    }
}

pub(super) const WITH_TOTAL: &str =
    "{prefix} [{wide_bar}] {percent}%  {done} of {all}  {msg}  {rate}  {left}";
pub(super) const WITHOUT_TOTAL: &str = "{spinner} {prefix}  {done}  {msg}  {rate}  {time}";
/// For what is waited for and not counted.
pub(super) const WAITING: &str = "{spinner} {prefix}  {time}";

// Without colours; amounts as everywhere else in the program.
fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    type Out<'a> = &'a mut dyn Write;
    // a key that cannot be written leaves a gap, nothing worse
    style
        .progress_chars("=> ")
        .with_key("done", |state: &ProgressState, out: Out<'_>| {
            let _ = out.write_str(&size::bytes(state.pos()));
        })
        .with_key("all", |state: &ProgressState, out: Out<'_>| {
            let _ = out.write_str(&size::bytes(state.len().unwrap_or_default()));
        })
        .with_key("rate", |state: &ProgressState, out: Out<'_>| {
            let _ = write!(out, "{}/s", size::bytes(state.per_sec() as u64));
        })
        .with_key("left", |state: &ProgressState, out: Out<'_>| {
            // while nothing moves there is no telling
            if state.per_sec() >= 1.0 {
                let _ = write!(out, "{} left", clock(state.eta()));
            }
        })
        .with_key("time", |state: &ProgressState, out: Out<'_>| {
            let _ = out.write_str(&clock(state.elapsed()));
        })
}

// In whole seconds, so that the figures do not flicker: `0:07`, `12:05`, `3:00:00`.
pub(super) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

impl Observer for Bar {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Started { step, bytes } => self.start(step, bytes),
            Event::Advanced { entries, bytes } => {
                if let Some(counts) = self.tally.advance(entries, bytes) {
                    self.show(&counts);
                }
            }
            Event::Notice(notice) => self.notice(notice),
            Event::Finished => self.finish(),
        }
    }

    fn interrupted(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
