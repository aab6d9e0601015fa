//! Shows what a running operation says: a bar on a terminal, lines elsewhere, or JSON lines.
//!
//! Events come from several threads, thousands of times a second. To count them takes two atomic
//! additions; locks are taken only when something is due to be shown. What cannot be written is lost: a
//! closed terminal must not end a backup.

mod bar;
mod json;
mod lines;
mod tally;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};

use crate::base::event::{Notice, Observer};
use crate::base::name::Name;

use bar::Bar;
use json::Json;
use lines::Lines;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// A bar on stderr, which is a terminal; notices above it.
    Bar,
    /// A line on stderr every ten seconds, and the notices.
    Lines,
    /// Notices only, on stderr: `--quiet` silences progress, not trouble.
    Notices,
    /// JSON lines on stdout: `status` at most twice a second, `error` for each notice.
    Json,
}

/// An observer that shows events so, and asks the operation to stop once `stop` is true.
pub fn observer(show: Show, stop: Arc<AtomicBool>) -> Box<dyn Observer> {
    // `auto` drops colours where NO_COLOR is set or nobody looks
    let stderr = || Sink::new(AutoStream::auto(io::stderr()));
    match show {
        Show::Bar => Box::new(Bar::new(stderr(), stop)),
        Show::Lines => Box::new(Lines::new(stderr(), Some(Duration::from_secs(10)), stop)),
        Show::Notices => Box::new(Lines::new(stderr(), None, stop)),
        Show::Json => Box::new(Json::new(Sink::new(io::stdout()), Duration::from_millis(500), stop)),
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// Where text goes; a line is written at once, so lines of several threads do not mix.
struct Sink(Mutex<Box<dyn Write + Send>>);

impl Sink {
    fn new(writer: impl Write + Send + 'static) -> Self {
        Self(Mutex::new(Box::new(writer)))
    }

    fn line(&self, mut line: Vec<u8>) {
        line.push(b'\n');
        let mut writer = lock(&self.0);
        // best effort, see the module's header
        let _ = writer.write_all(&line).and_then(|()| writer.flush());
    }

    fn notice(&self, notice: &Notice) {
        let style = Style::new().bold().fg_color(Some(AnsiColor::Yellow.into()));
        let mut line = format!("{style}warning[{}]{style:#}: ", notice.code);
        let subject = notice.subject.as_ref().map(Name::shown).unwrap_or_default();
        if !notice.text.contains(&subject) {
            line.push_str(&subject);
            line.push_str(": ");
        }
        line.push_str(&notice.text);
        self.line(line.into_bytes());
    }
}
