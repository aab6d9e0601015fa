//! Who is told how an operation went: by a webhook, a ping, a command.
//!
//! A failure is told once, and its end; a ping is told everything. Telling has a few seconds and never fails an
//! operation. What is remembered is in `notify.json` of the application's state (see [`Memory`]): the
//! failures that last, and the ways that did not work.

mod document;
mod memory;
mod send;
mod way;

pub use document::{Event, Happened, Told};
pub use memory::{Incident, Memory, STATE, Telling, Trouble};
pub use send::{BUDGET, Begun, Notifier, Report};
pub use way::{labels, secrets};
