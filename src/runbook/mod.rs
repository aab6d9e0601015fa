//! Runbooks: the procedures of a plan, step by step, with a record; and maintenance, work with a beginning and an end.
//!
//! A step is an operation of Lifeboat, run as a process of the same program, a command, or a question to people.
//! What was done becomes one [`Evidence`](crate::evidence::Evidence); the terminal, the logbook and the people are
//! on the other side of a [`Console`]. Whether a runbook is due follows from the logbook alone.

pub mod answer;
pub mod due;
mod follow;
pub mod maintenance;
mod setting;
mod step;
pub mod timers;

pub use follow::{Runner, run};
pub use setting::{Console, End, Facts, Outcome, Setting};
pub use step::{OUTCOME, WITHIN, arguments};

#[cfg(test)]
mod tests;
