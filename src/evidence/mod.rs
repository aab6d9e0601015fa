//! What a practised recovery leaves: one record with everything that was done, found and measured, the
//! rule that gives it its verdict, and the forms in which people and programs read it.
//!
//! Pure but for [`logged`]: nothing else here reads a clock, a disk or the network. The harness fills an
//! [`Evidence`] and gives it to [`append`], which judges it and puts it into the logbook, whose chain and
//! signature make it evidence; everything in [`render`] is a view of that one record.
//!
//! People speak later, and never by changing a signed record: their sign-off, lessons and actions are
//! records of their own, each a [`FollowUp`].

pub mod actions;
mod follow_up;
pub mod logged;
mod measure;
mod output;
mod record;
pub mod render;
mod schema;
mod step;
pub mod verdict;

pub use follow_up::{Action, ActionStatus, Closed, FollowUp, SignOff};
pub use logged::{Passed, append, drills, follow_up, last_passed};
pub use measure::{Isolation, Level, Measured, Objectives, Phase, Seconds};
pub use output::{Collector, LIMIT as OUTPUT_LIMIT, Output, mask_text};
pub use record::{
    Cleanup, Evidence, Host, Kind, Operator, Production, SCHEMA, Sabotage, Seal, SnapshotFacts, Tool,
};
pub use schema::schema;
pub use step::{Check, OPEN, Outcome, QUESTION, Step};
pub use verdict::{Cap, Verdict};

#[cfg(test)]
mod tests;
