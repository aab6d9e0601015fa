//! `rotate`: logs are set aside under a dated name while the application writes, packed, and thrown away when old.
//!
//! Everything is done by descriptors of the log's own directory, which is reached without following a link; what is no
//! regular file with one name, but for that in a tree that a rollback put aside, is left alone. At each moment every line is in the log, in the file set aside, or in
//! both: what a crash leaves is finished by the next run.

mod copy;
mod expire;
pub mod logrotate;
mod name;
mod pack;
mod place;
mod rename;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::base::Name;
use crate::base::time::Timestamp;
use crate::check::Mark;
use crate::plan::types::{Rotate, RotateMethod};

pub use place::logs_of;

/// How the log was emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Its beginning was taken out of the file: nothing can be lost.
    Collapsed,
    /// Its beginning was made a hole, as its writer does not append: nothing can be lost.
    Punched,
    /// It was cut to nothing: what was written between the last look and the cut is lost.
    Truncated,
    /// It was renamed, and a new one is in its place: nothing can be lost.
    Renamed,
}

/// What is to be done with a log, or was.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The log.
    pub log: Name,
    /// Its size before, in bytes; zeros that nobody wrote left out.
    pub size: u64,
    /// Why it is rotated, or why not.
    pub reason: String,
    /// The name it was set aside under; `None` if it was not rotated.
    pub set_aside: Option<Name>,
    /// How it was emptied.
    pub way: Option<Way>,
    /// The time in which a line could have been lost, in seconds; 0 where none can be.
    pub window: f64,
    /// Files that were packed.
    pub packed: Vec<Name>,
    /// Files that were thrown away as too old or too many.
    pub removed: Vec<Name>,
    /// What should be known besides.
    pub notes: Vec<String>,
    /// How the marks of readers move.
    #[serde(skip)]
    pub moved: Option<Moved>,
}

/// Where the content of a log went.
#[derive(Clone, Debug)]
pub struct Moved {
    /// The log.
    pub log: PathBuf,
    /// Its inode before.
    pub inode: u64,
    /// The first byte that was set aside.
    pub from: u64,
    /// The first byte that was not.
    pub to: u64,
    /// How many bytes were taken out of the file's beginning.
    pub taken: u64,
    /// The inode of what was set aside.
    pub aside: u64,
}

impl Moved {
    /// The mark of somebody who had read the log so far. `None` if it is of another file.
    pub fn follow(&self, mark: &Mark) -> Option<Mark> {
        if mark.inode != self.inode || self.inode == self.aside {
            return None;
        }
        if mark.offset < self.to {
            let offset = mark.offset.saturating_sub(self.from);
            // the hash is the same, unless zeros lie before the mark that were not copied
            return (self.from == 0 || offset >= 256).then(|| Mark {
                inode: self.aside,
                offset,
                ..mark.clone()
            });
        }
        let file = std::fs::File::open(&self.log).ok()?;
        crate::check::follow::mark_at(&file, mark.offset - self.taken).ok()
    }
}

/// How it is done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Whatever its size and age.
    pub force: bool,
    /// Only said.
    pub dry_run: bool,
    /// The tree that a rollback put aside: a log that is live data has a second name there.
    pub aside: Option<Aside<'a>>,
}

/// A tree that was put aside, and the one that took its place.
#[derive(Clone, Copy, Debug)]
pub struct Aside<'a> {
    /// The application's tree now, without links in its path.
    pub live: &'a Path,
    /// The one that was put aside.
    pub tree: &'a Path,
}

/// Why a log could not be rotated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotateError {
    /// The file system failed.
    #[error("could not {act} {}", path.shown())]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: Name,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// It would not be safe.
    #[error("{} is left alone: {why}", path.shown())]
    Unsafe {
        /// The log.
        path: Name,
        /// Why.
        why: String,
    },
    /// The writer could not be told to open its log anew.
    #[error("{} was renamed, but its writer could not be told: {why}", path.shown())]
    NotTold {
        /// The log.
        path: Name,
        /// Why.
        why: String,
    },
}

/// Rotates one log if it is due, then packs and throws away what was set aside. `directory` is where commands run.
///
/// # Errors
/// If it cannot be done. No line is lost: the log is as it was, or what was set aside is whole.
pub fn rotate(
    log: &Path,
    rule: &Rotate,
    directory: &Path,
    options: Options<'_>,
    now: Timestamp,
) -> Result<Outcome, RotateError> {
    let place = place::Place::of(log, directory)?;
    let mut outcome = Outcome {
        log: Name::from(log.as_os_str()),
        size: 0,
        reason: String::new(),
        set_aside: None,
        way: None,
        window: 0.0,
        packed: Vec::new(),
        removed: Vec::new(),
        notes: Vec::new(),
        moved: None,
    };
    let file = place.open_log()?;
    if !options.dry_run {
        place.tidy()?;
        if rule.method == RotateMethod::Rename {
            rename::undo_half(&place, &file)?;
        }
    }
    outcome.size = file.data_size();
    let mut due = due(&file, rule, options, now, &place);
    if !due.0 && rule.method == RotateMethod::Copytruncate && copy::unfinished(&place, &file).is_some() {
        due = (true, "a rotation was cut short".to_owned());
    }
    outcome.reason = due.1;
    if due.0 {
        let name = place.free_name(now)?;
        // what a rename that was killed left under a second name is taken away first, where something is done
        let halves = match rule.method {
            RotateMethod::Rename => rename::halves(&place, &file).len() as u64,
            RotateMethod::Copytruncate => 0,
        };
        place.refuse_links(&file, halves, options.aside)?;
        outcome.set_aside = Some(place.full(&name));
        if !options.dry_run {
            match rule.method {
                RotateMethod::Copytruncate => copy::rotate(&place, &file, &name, &mut outcome)?,
                RotateMethod::Rename => rename::rotate(&place, &file, &name, rule, directory, &mut outcome)?,
            }
        }
    }
    if rule.compress {
        pack::pack_all(&place, options, &mut outcome)?;
    }
    expire::expire(&place, rule, options, now, &mut outcome)?;
    Ok(outcome)
}

fn due(
    file: &place::Log,
    rule: &Rotate,
    options: Options<'_>,
    now: Timestamp,
    place: &place::Place,
) -> (bool, String) {
    use crate::base::size::{bytes, duration};
    let size = file.data_size();
    if size == 0 {
        return (false, "it is empty".to_owned());
    }
    if options.force {
        return (true, "it is forced".to_owned());
    }
    if size > rule.size.0 {
        return (true, format!("{} is more than {}", bytes(size), bytes(rule.size.0)));
    }
    if let Some(every) = rule.every {
        // the first time counts from the file's own beginning, where the file system knows it
        let last = place.rotated().into_iter().map(|(_, at)| at).next_back().or_else(|| file.born());
        let age: Option<Duration> = last.map(|last| now.since(last));
        if let Some(age) = age.filter(|age| *age >= every.0) {
            return (true, format!("{} old, more than {}", duration(age), duration(every.0)));
        }
    }
    (false, format!("{} is not more than {}", bytes(size), bytes(rule.size.0)))
}

#[cfg(test)]
mod tests;
