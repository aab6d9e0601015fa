//! The living application back to a snapshot: files, databases and service together, or not at all.
//!
//! The new tree is built beside the living one while the service runs; what stays the same is shared with it, what differs
//! comes from the repository. Then the service is stopped, the two directories change their names in one step, and the
//! service is started from what is there now. The live tree is at every moment the old one or the new one. Live data
//! that must not go back has a name in both trees, so that it too is there at every moment.
//!
//! Each step is in a [journal](journal) before it is done, so that whatever ends a rollback, [`resume`] knows where it
//! stood and finishes or takes it back. docs/rollback.md says what happens when.

mod types;

use crate::base::event::Observer;
use crate::state::{State, StateError};

pub use types::{
    Direction, Ended, Goal, Obstacle, Options, Outcome, Pending, Proposal, RollbackError, Subject, Way,
};

/// What would happen, and everything that would stop it. Changes nothing.
///
/// # Errors
/// If it could not be found out.
pub fn propose(
    subject: &Subject<'_>,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Proposal, RollbackError> {
    let _ = (subject, options, observer);
    Err(RollbackError::Unfinished)
}

/// What would stop any rollback of this application: all that can be found out without a snapshot.
///
/// # Errors
/// If it could not be found out.
pub fn obstacles_of_place(subject: &Subject<'_>) -> Result<Vec<Obstacle>, RollbackError> {
    let _ = subject;
    Err(RollbackError::Unfinished)
}

/// Does it. What is refused before anything is touched is an error; what fails later is taken back, and is an outcome.
///
/// # Errors
/// If it could not begin: nothing was touched.
pub fn perform(
    subject: &Subject<'_>,
    proposal: &Proposal,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Outcome, RollbackError> {
    let _ = (subject, proposal, options, observer);
    Err(RollbackError::Unfinished)
}

/// The rollback of this application that has begun and not ended, if there is one.
///
/// # Errors
/// If the journal cannot be read.
pub fn pending(state: &State) -> Result<Option<Pending>, StateError> {
    let _ = state;
    Ok(None)
}

/// Brings a rollback that was cut off to an end.
///
/// # Errors
/// If there is none, or it could not be taken up: it stays as it is.
pub fn resume(
    subject: &Subject<'_>,
    direction: Direction,
    observer: &dyn Observer,
) -> Result<Outcome, RollbackError> {
    let _ = (subject, direction, observer);
    Err(RollbackError::Unfinished)
}
