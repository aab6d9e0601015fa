//! The guarded change: a snapshot, the change, tests, a watch, and back again by itself if something is wrong.
//!
//! The order is the argument. Nothing is changed before it is known that the way back is open and that good can be told from bad;
//! what the way back needs is durable before the change begins; and whatever ends the watcher, [`resume`] judges what is there
//! and keeps it or takes it back. Silence is no consent: where somebody should have confirmed, it is taken back.
//!
//! `begin` is what comes before the change, `change` the change and what follows it at once, `watch` the time after, `finish` the
//! end; `judge` alone decides, and looks at nothing itself. docs/hotfix.md says what happens when.

mod armed;
mod baseline;
mod begin;
mod change;
mod finish;
mod flap;
mod judge;
mod look;
mod resume;
mod run;
mod signs;
#[cfg(test)]
mod tests;
mod touched;
mod types;
mod watch;

pub use armed::{Armed, Last, Request, Stage, Want, armed, ask, is_watched, last};
pub use baseline::Baseline;
pub use resume::{Resumed, decide, resume, wait_for_watcher};
pub use run::{begin, hotfix, settle};
pub use touched::Touched;
pub use types::{Change, End, GuardError, Message, Operator, Options, Outcome, Wish};

/// The file, in an application's state directory, that a watcher without a terminal writes to.
pub const LOG: &str = "hotfix.log";
