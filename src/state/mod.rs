//! What Lifeboat remembers on a host of one application between runs: where a log was read to, a rollback that has
//! begun, a change that waits to be confirmed; and of each repository, what was seen of it. It is small, private, and of this host alone; what others must see
//! is in the repository. Losing it loses no snapshot.
//!
//! Each thing is a JSON file of its own, written whole and durably (written aside, synced, renamed, directory synced),
//! so that after a crash it is the old one or the new one.

mod directory;
#[cfg(test)]
mod tests;

pub use directory::{Lock, State, StateError};
