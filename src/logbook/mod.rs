//! The logbook (format.md, section 11): each writer's acts in a signed chain.
//!
//! An act is written as its signature first, then its record, each durable before the next. A crash between
//! the two leaves a signature without a record, which no chain contains; the next act takes the
//! same number. The other way round a crash would leave an unsigned record, which looks like a forgery.

mod append;
pub mod chain;
mod follow;
mod forgotten;
mod read;

pub use append::{Act, append, write};
pub use chain::{Fault, FaultKind, verify_chain};
pub use follow::{Cut, Followed, Progress, Reached, follow, is_at_end};
pub use forgotten::{accepted, forgotten, removed, standing};
pub use read::{Logbook, Logged, Place, head, last, read, read_some};

/// The key of a `forget` record's body under which the hash of each tombstone is told, by its snapshot.
pub const TOMBSTONES_FIELD: &str = "tombstones";
/// The key of a `forget` record's body that is true where its snapshots were gone already, and somebody accepted that.
pub const ACCEPTED_FIELD: &str = "accepted";
/// The key of a `prune` record's body under which the names of the plans are told that it left.
pub const PLANS_FIELD: &str = "plans";

#[cfg(test)]
mod tests;
