//! Tests of the sandbox by what runs in it: attempts to get out, the pitfalls that the design knows of, limits, and what is left.
//!
//! As root everything is done twice: as root, and as an ordinary user.

#![expect(clippy::print_stdout, reason = "figures are for people")]
#![expect(clippy::print_stderr, reason = "what is skipped must be seen")]
#![expect(clippy::disallowed_methods, reason = "the tests have an environment of their own")]

mod cost;
mod ending;
mod escapes;
mod limits;
mod pitfalls;
mod refusal;
mod terminal;
mod world;
