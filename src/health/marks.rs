//! How far logs were read, remembered between runs.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::{Mark, Verdict};
use crate::state::{Lock, State, StateError};

/// The file of marks.
pub const FILE: &str = "health.json";
const LOCK: &str = "health.lock";
/// Who has the lock writes a small file; longer than this something hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// Marks by the names of checks.
pub type Marks = BTreeMap<String, Mark>;

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    marks: Marks,
}

/// The marks of the last runs.
///
/// # Errors
/// If they cannot be read.
pub fn load(state: &State) -> Result<Marks, StateError> {
    Ok(state.read::<Kept>(FILE)?.unwrap_or_default().marks)
}

/// Keeps the marks of these verdicts, by the names of their checks; those of other checks stay as they are, also
/// where others write at the same time.
///
/// # Errors
/// If they cannot be written.
pub fn keep<'v>(
    state: &State,
    found: impl IntoIterator<Item = (&'v str, &'v Verdict)>,
) -> Result<(), StateError> {
    let marked =
        found.into_iter().filter_map(|(name, verdict)| Some((name.to_owned(), verdict.mark.clone()?)));
    let marked: Vec<_> = marked.collect();
    if marked.is_empty() { Ok(()) } else { change(state, |marks| marks.extend(marked)) }
}

/// Changes the marks while nobody else does. A file that is damaged is written anew.
///
/// # Errors
/// If they cannot be written.
pub fn change(state: &State, act: impl FnOnce(&mut Marks)) -> Result<(), StateError> {
    let _held = lock(state)?;
    let mut kept = match state.read::<Kept>(FILE) {
        Err(StateError::Damaged { .. }) => Kept::default(),
        other => other?.unwrap_or_default(),
    };
    let before = kept.marks.clone();
    act(&mut kept.marks);
    if kept.marks == before { Ok(()) } else { state.write(FILE, &kept) }
}

// Without it after a long while all the same: a mark too old is better than none.
pub(super) fn lock(state: &State) -> Result<Option<Lock>, StateError> {
    let mut waited = Duration::ZERO;
    loop {
        if let Some(held) = state.lock(LOCK)? {
            return Ok(Some(held));
        }
        if waited >= PATIENCE {
            return Ok(None);
        }
        sleep(Duration::from_millis(5));
        waited += Duration::from_millis(5);
    }
}
