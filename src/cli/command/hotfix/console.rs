//! What a person sees of a hotfix, and what is asked of them.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::base::size;
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::cli::signals::Heard;
use crate::evidence::Seconds;
use crate::guard::{Armed, LOG, Message, Operator, Touched, Wish};
use crate::state::State;

/// Where nobody sees a line in place, all is well is said this often.
const SPARSE: Duration = Duration::from_secs(60);
/// Whoever interrupts and does not answer wants it back.
const PATIENCE: Duration = Duration::from_secs(30);

/// Shows on stderr, or as JSON lines on stdout, and in a file besides.
pub struct Console {
    json: bool,
    quiet: bool,
    heard: Heard,
    // set once the change may have begun
    armed: AtomicBool,
    shown: Mutex<Shown>,
    stop: Arc<AtomicBool>,
}

struct Shown {
    path: PathBuf,
    log: Option<File>,
    // true: a line stands there that the next one is written over
    in_place: bool,
    said: Option<Instant>,
    was_well: bool,
}

impl Console {
    /// For this run; the file lies in the application's state directory.
    pub fn new(context: &Context, state: &State) -> Result<Self, CommandError> {
        let heard = super::hear()?;
        let shown = Shown { path: state.path(LOG), log: None, in_place: false, said: None, was_well: true };
        Ok(Self {
            json: context.json(),
            quiet: context.quiet(),
            heard,
            armed: AtomicBool::new(false),
            shown: Mutex::new(shown),
            stop: Arc::new(AtomicBool::new(false)),
        })
    }

    /// Never raised: what runs asks for wishes instead.
    pub fn stop(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    fn is_terminal(&self) -> bool {
        !self.heard.hangup.load(Ordering::Relaxed) && io::stderr().is_terminal()
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // A line for good.
    fn line(&self, text: &str) {
        let mut shown = self.shown();
        if shown.log.is_none() {
            // its directory is made with the lock; without it all is still shown
            shown.log = OpenOptions::new().create(true).append(true).mode(0o600).open(&shown.path).ok();
        }
        if let Some(log) = &mut shown.log {
            // best effort, as on a terminal that is closed
            let _ = writeln!(log, "{text}");
        }
        if self.quiet || self.json {
            return;
        }
        let over = if std::mem::take(&mut shown.in_place) { "\r\x1b[K" } else { "" };
        let _ = writeln!(io::stderr(), "{over}{text}");
    }

    // A line that the next one is written over.
    fn in_place(&self, text: &str) {
        if self.quiet || self.json || !self.is_terminal() {
            return;
        }
        let mut shown = self.shown();
        shown.in_place = true;
        let width = rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
        // a terminal that does not know how wide it is says 0
        let width = if width == 0 { 80 } else { width };
        let cut: String = text.chars().take(width.saturating_sub(1)).collect();
        let _ = write!(io::stderr(), "\r\x1b[K{cut}");
    }

    fn show(&self, message: &Message<'_>) {
        match message {
            Message::Begins { phase, text } => self.in_place(&format!("  …     {phase}: {text}")),
            Message::Ended { phase, text, passed, detail, seconds, output } => {
                let word = if *passed { "ok  " } else { "FAIL" };
                let time = Duration::try_from_secs_f64(*seconds).unwrap_or_default();
                let time = if time.as_secs() >= 10 { whole(time) } else { size::duration(time) };
                let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
                self.line(&format!("  {word}  {phase}: {text}{detail} ({time})"));
                for line in output.lines() {
                    self.line(&format!("        | {line}"));
                }
            }
            Message::Armed { armed } => self.line(&format!(
                "  armed {}: the way back is snapshot {}",
                armed.run_id,
                armed.before.short()
            )),
            Message::Touched { touched } => self.touched(touched),
            Message::Watching { armed, checks } => self.watching(armed, *checks),
            Message::Round { .. } => self.round(message),
            Message::Note { text } => self.line(&format!("  note  {text}")),
        }
    }

    fn touched(&self, touched: &Touched) {
        self.line(&format!("  touched: {}", touched.shown()));
        for (letter, path) in &touched.listed {
            self.line(&format!("    {letter} {}", path.shown()));
        }
        let more =
            touched.total().saturating_sub(touched.metadata).saturating_sub(touched.listed.len() as u64);
        if more > 0 {
            self.line(&format!("    and {} more: lifeboat diff --live shows all", size::count(more)));
        }
    }

    fn watching(&self, armed: &Armed, checks: usize) {
        let checks = size::plural(checks as u64, "check");
        let left = whole(armed.watch_left().unwrap_or_default());
        let text = match armed.confirm_left() {
            None => format!("watching {checks} for {left}; lifeboat confirm keeps it now"),
            Some(confirm) => format!(
                "watching {checks}; rolled back in {} unless somebody says lifeboat confirm",
                whole(confirm)
            ),
        };
        self.line(&format!("  {text}, lifeboat hotfix abort takes it back"));
    }

    fn round(&self, message: &Message<'_>) {
        let Message::Round { number, left, confirm_left, wrong, unjudged, slowest, memory } = message else {
            return;
        };
        let is_well = wrong.is_empty() && unjudged.is_empty();
        let seconds = |left: f64| whole(Duration::try_from_secs_f64(left).unwrap_or_default());
        let mut text = format!("round {number}, {} left", seconds(*left));
        if let Some(left) = confirm_left {
            text.push_str(&format!(", to be confirmed within {}", seconds(*left)));
        }
        if is_well {
            text.push_str(": all well");
            slowest
                .iter()
                .for_each(|time| text.push_str(&format!(", slowest answer {:.0} ms", time * 1000.0)));
            memory.iter().for_each(|bytes| text.push_str(&format!(", memory {}", size::bytes(*bytes))));
        } else {
            let all: Vec<String> = wrong.iter().chain(*unjudged).cloned().collect();
            text.push_str(&format!(": {}", all.join("; ").replace('\n', " ")));
        }
        let now = Instant::now();
        let is_due = {
            let mut shown = self.shown();
            let was_well = std::mem::replace(&mut shown.was_well, is_well);
            let silent = shown.said.is_none_or(|at| now - at >= SPARSE) && !self.is_terminal();
            let is_due = !is_well || !was_well || silent;
            if is_due {
                shown.said = Some(now);
            }
            is_due
        };
        if is_due { self.line(&format!("  {text}")) } else { self.in_place(&format!("  {text}")) }
    }

    fn ask(&self) -> Option<Wish> {
        let timeout = size::duration(PATIENCE);
        self.line("");
        self.in_place(&format!(
            "roll back [r], keep [k] or go on [g]? Without an answer in {timeout}: roll back. "
        ));
        let began = Instant::now();
        let slice = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        let answer = loop {
            // a second Ctrl-C is an answer too
            if self.heard.interrupt.swap(false, Ordering::Relaxed) || began.elapsed() > PATIENCE {
                break Some(Wish::RollBack);
            }
            if self.heard.hangup.load(Ordering::Relaxed) {
                break None;
            }
            let stdin = io::stdin();
            match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&slice)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Err(_) => break Some(Wish::RollBack),
                Ok(_) => {}
            }
            let mut bytes = [0; 256];
            // a line, as the terminal gives it
            let count = stdin.lock().read(&mut bytes).unwrap_or_default();
            match bytes[..count].trim_ascii() {
                b"r" | b"roll back" => break Some(Wish::RollBack),
                b"k" | b"keep" => break Some(Wish::Keep),
                b"g" | b"go on" => break None,
                _ if count == 0 => break Some(Wish::RollBack),
                _ => self.in_place("r, k or g? "),
            }
        };
        self.shown().in_place = false;
        answer
    }
}

/// To the second, as people say it.
pub fn whole(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    if seconds < 60 { format!("{seconds} s") } else { Seconds::from_secs(seconds).to_string() }
}

impl Operator for Console {
    fn tell(&self, message: &Message<'_>) {
        if matches!(message, Message::Armed { .. }) {
            self.armed.store(true, Ordering::Relaxed);
        }
        if self.json {
            self.tell_programs(message);
        }
        self.show(message);
    }

    fn wish(&self) -> Option<Wish> {
        if self.heard.end.load(Ordering::Relaxed) {
            return Some(Wish::Leave);
        }
        if !self.heard.interrupt.swap(false, Ordering::Relaxed) {
            return None;
        }
        let may_ask = self.armed.load(Ordering::Relaxed) && self.is_terminal() && io::stdin().is_terminal();
        if may_ask { self.ask() } else { Some(Wish::RollBack) }
    }
}

impl Console {
    fn tell_programs(&self, message: &Message<'_>) {
        let Ok(mut value) = serde_json::to_value(message) else { return };
        if let Some(fields) = value.as_object_mut() {
            fields.insert("message_type".to_owned(), "status".into());
        }
        let _ = writeln!(io::stdout(), "{value}");
    }
}
