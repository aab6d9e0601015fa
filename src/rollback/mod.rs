//! The living application back to a snapshot: files, databases and service together, or not at all.
//!
//! The new tree is built beside the living one while the service runs; what stays the same is shared with it, what differs
//! comes from the repository. Then the service is stopped, the two directories change their names in one step, and the
//! service is started from what is there now. The live tree is at every moment the old one or the new one. Live data
//! that must not go back has a name in both trees, so that it too is there at every moment.
//!
//! Each step is in a journal before it is done, so that whatever ends a rollback, [`resume`] knows where it
//! stood and finishes or takes it back. docs/rollback.md says what happens when.

mod build;
mod carry;
mod choose;
mod copy;
mod exchange;
mod journal;
mod linked;
#[cfg(test)]
mod linked_tests;
mod moment;
mod place;
mod propose;
mod record;
mod resolute;
mod run;
mod save;
#[cfg(test)]
mod tests;
mod types;

use crate::base::Name;
use crate::base::event::Observer;
use crate::state::{State, StateError};
use crate::sys::host;

use journal::{Journal, Kept, Stage, Standing};
use linked::Linked;
use run::Run;

pub use choose::SAFETY_TAG;
pub use propose::other_schemas;
pub use save::save;
pub use types::{
    DatabaseFate, Direction, Ended, Goal, Obstacle, Options, Outcome, Pending, Proposal, RollbackError,
    Subject, Way,
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
    if options.goal == Goal::Undo {
        return propose::undo(subject, options);
    }
    propose::to_snapshot(subject, options, observer)
}

/// What would stop any rollback of this application: all that can be found out without a snapshot.
///
/// # Errors
/// If it could not be found out.
pub fn obstacles_of_place(subject: &Subject<'_>) -> Result<Vec<Obstacle>, RollbackError> {
    let classes = place::Classes::of(&subject.tree(), &place::Rules::of(subject.plan, false))?;
    let mut found = place::obstacles(subject, &classes);
    found.extend(place::far_databases(subject.plan));
    Ok(found)
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
    if !proposal.obstacles().is_empty() {
        return Err(RollbackError::Refused(proposal.obstacles().to_vec()));
    }
    let lock = journal::lock(subject.state)?.ok_or(RollbackError::Locked)?;
    if let Some(found) = Journal::open(subject.state)? {
        return Err(RollbackError::UnfinishedRun(Box::new(found.pending(false))));
    }
    let root = subject.tree();
    let started = subject.repo.clock().now();
    let random = host::random_hex().unwrap_or_default();
    let run_id = format!("{}-{}", started.0.format("%Y%m%dT%H%M%SZ"), random.get(..8).unwrap_or_default());
    let mut linked = None;
    let beside = if proposal.is_undo {
        let kept = Kept::read(subject.state)?
            .ok_or_else(|| RollbackError::NothingToUndo("the earlier tree is gone".to_owned()))?;
        linked = kept.linked;
        kept.path
    } else {
        let name = root.file_name().unwrap_or_default();
        let mut beside = std::ffi::OsString::from(".lifeboat-");
        beside.push(name);
        beside.push(format!(".{run_id}"));
        let beside = root.parent().unwrap_or(&root).join(beside);
        Name::from(beside.as_os_str())
    };
    let strange = || RollbackError::Strange(format!("{} is not a directory", Name::from(root.as_os_str())));
    let journal = Journal {
        run_id,
        started,
        root: Name::from(root.as_os_str()),
        beside,
        way: proposal.way,
        snapshot: proposal.snapshot,
        safety: None,
        undoes: proposal.undoes.clone(),
        accept_unhealthy: options.accept_unhealthy,
        reason: options.reason.clone(),
        was_running: false,
        carried: proposal.gone.clone(),
        rules: place::Rules::of(subject.plan, proposal.keep_databases),
        old_inode: journal::inode(&root).ok_or_else(strange)?,
        new_inode: 0,
        earlier: None,
        linked,
        touched: false,
        stage: Stage::Building,
        why: None,
    };
    Run::new(subject, journal, lock, observer).forward(options, proposal.goes_to.as_ref())
}

/// The rollback of this application that has begun and not ended, if there is one.
///
/// # Errors
/// If the journal cannot be read.
pub fn pending(state: &State) -> Result<Option<Pending>, StateError> {
    let Some(found) = Journal::open(state)? else { return Ok(None) };
    let running = journal::lock(state)?.is_none();
    Ok(Some(found.pending(running)))
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
    let lock = journal::lock(subject.state)?.ok_or(RollbackError::Locked)?;
    let found = Journal::open(subject.state)?.ok_or(RollbackError::NothingPending)?;
    let why = found.why.clone().unwrap_or_else(|| format!("it was cut off while {}", found.stage.word()));
    let standing = found.standing();
    let goes_on = direction != Direction::Revert && found.stage != Stage::Reverting;
    let accept_unhealthy = found.accept_unhealthy || direction == Direction::FinishUnhealthy;
    let found = Journal { accept_unhealthy, ..found };
    let mut run = Run::new(subject, found, lock, observer);
    run.resumed = true;
    match (run.journal.way, standing) {
        (Way::Exchange, Standing::Strange) => Err(RollbackError::Strange(format!(
            "{} is neither the tree from before nor the new one; both are needed to go on",
            run.journal.root
        ))),
        (Way::Exchange, Standing::New) if goes_on => Ok(run.arrive()),
        (Way::InPlace, _) if goes_on && run.journal.stage == Stage::Starting => Ok(run.arrive()),
        _ => Ok(run.back(why)),
    }
}

/// Where the tree is that an undo of this one would go to; `None` if there is none.
///
/// # Errors
/// If what is remembered cannot be read.
pub fn put_aside(state: &State, root: &std::path::Path) -> Result<Option<std::path::PathBuf>, StateError> {
    let root = Name::from(root.as_os_str());
    let kept = Kept::read(state)?.filter(|kept| kept.root == root);
    Ok(kept.map(|kept| kept.path.as_os_str().into()))
}

/// Removes the tree that an undo would go to. Says where it was; `None` if there is none.
///
/// # Errors
/// If it cannot be removed, or a rollback or an undo is under way or was cut off: that may need it.
pub fn drop_kept(state: &State) -> Result<Option<Name>, RollbackError> {
    let _lock = journal::lock(state)?.ok_or(RollbackError::Locked)?;
    if let Some(found) = Journal::open(state)? {
        return Err(RollbackError::UnfinishedRun(Box::new(found.pending(false))));
    }
    let there = Kept::written(state)?.filter(Kept::remains);
    let Some(mut kept) = there else { return Ok(None) };
    // cut off here, no undo goes to what is left of it
    kept.going = true;
    kept.write(state)?;
    carry::clear(std::path::Path::new(kept.path.as_os_str()))?;
    Kept::forget(state)?;
    kept.linked.map_or(Ok(()), |run_id| Linked::forget(state, &run_id))?;
    Ok(Some(kept.path))
}
