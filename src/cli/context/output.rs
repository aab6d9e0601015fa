//! Where what commands say and answer goes.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use super::Context;
use crate::base::event::Observer;
use crate::cli::env;
use crate::cli::error::CommandError;
use crate::cli::progress::{self, Show};

/// Results on stdout: large blocks, written past the line buffering of the standard library.
pub type Out = BufWriter<File>;

impl Context {
    /// Shows what an operation says, and tells it when to stop.
    pub fn observer(&self) -> Box<dyn Observer> {
        progress::observer(self.show(), self.stop())
    }

    fn show(&self) -> Show {
        if self.json() {
            Show::Json
        } else if self.global.quiet {
            Show::Notices
        } else if io::stderr().is_terminal() {
            Show::Bar
        } else {
            Show::Lines
        }
    }

    /// As [`Self::observer`], for a command that hears signals itself.
    pub fn observer_until(&self, stop: Arc<AtomicBool>) -> Box<dyn Observer> {
        progress::observer(self.show(), stop)
    }

    /// Shows notices only, on stderr: for commands that write their results while they work.
    pub fn notices(&self) -> Box<dyn Observer> {
        progress::observer(Show::Notices, self.stop())
    }

    /// Tells people something on stderr, unless they want it quiet or programs read.
    pub fn say(&self, text: impl AsRef<str>) {
        if !self.global.quiet && !self.json() {
            // best effort: a closed terminal must not end a backup
            let _ = writeln!(io::stderr(), "{}", text.as_ref());
        }
    }

    /// True if there was something to warn of.
    pub fn has_warned(&self) -> bool {
        self.has_warned.get()
    }

    /// Warns people on stderr, or programs by a line.
    pub fn warn(&self, code: &'static str, text: &str) {
        self.has_warned.set(true);
        let line = if self.json() {
            let message =
                serde_json::json!({"message_type": "error", "code": code, "item": null, "text": text});
            format!("{message}\n")
        } else {
            format!("warning[{code}]: {text}\n")
        };
        let _ = io::stderr().write_all(line.as_bytes());
    }

    /// Where results go.
    ///
    /// # Errors
    /// If there is no stdout.
    pub fn out(&self) -> Result<Out, CommandError> {
        let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(CommandError::output)?;
        Ok(BufWriter::with_capacity(64 << 10, File::from(stdout)))
    }

    /// Writes a text as the result.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn print(&self, text: &str) -> Result<(), CommandError> {
        let mut out = self.out()?;
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CommandError::output)
    }

    /// Writes the one document that is the answer.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn document(&self, answer: &impl Serialize) -> Result<(), CommandError> {
        let text = serde_json::to_string(answer).map_err(|e| CommandError::output(e.into()))?;
        self.print(&(text + "\n"))
    }

    /// How wide a table may be; `None` where nothing limits it.
    pub fn width(&self) -> Option<u16> {
        let terminal = || rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| size.ws_col);
        env::columns().or_else(terminal).filter(|&width| width > 0)
    }
}
