//! Tests of the program as a whole: the real binary, real trees, and comparisons by other means than its own.
//!
//! Outside tools (Python 3, zstd, mkfs, …) and root are used where they are there; what is left out is said
//! on stderr as `SKIPPED: …`. With the variable `CI` set, leaving anything out is a failure. With
//! `LIFEBOAT_TEST_LONG` set the long versions run.

#![expect(clippy::print_stderr, reason = "what is skipped must be seen")]
#![expect(clippy::disallowed_methods, reason = "the tests have an environment of their own")]

mod crash;
mod damage;
mod databases;
mod detected;
mod drill;
mod env;
mod faults;
mod fidelity;
mod golden;
mod hostile;
mod hotfix;
mod interop;
mod layering;
mod links;
mod modes;
mod notifications;
mod rollback;
mod rollback_systems;
mod runbooks;
mod sample;
mod status;
mod systemd;
