//! Logs and journals that the snapshot has itself: beside a database that it could not copy, or was told to read as it lies.
//! They are worth something only beside their database as the snapshot has it. Beside another one they would be merged into
//! that and spoil it: so they wait for theirs, and are kept out where it stays or does not come.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::RestoreError;
use super::beside::{BEGINNINGS, Fate, Inode, Owners, begins};
use super::directory::{Directory, stat_in};
use super::live::Meeting;
use super::tree::{Run, split};
use crate::base::name::shown;
use crate::database::sqlite::{MAGIC, owner_of};
use crate::format::manifest::{Entry, Type};

/// So many may wait; each holds its directory open.
const MOST: usize = 100;

/// An entry that waits for its database.
pub struct Follower<'o> {
    dir: Arc<Directory<'o>>,
    entry: Entry,
    // what was in the place of the database
    before: Option<Inode>,
    // what is in its own place goes, and is counted, with that
    replaced: bool,
}

/// The entries that wait.
pub type Followers<'o> = Vec<Follower<'o>>;

// Why an entry is not put beside a database.
enum Why {
    Kept,
    Left,
    Missing,
    Failed,
}

impl<'o> Run<'o, '_> {
    /// The entry, unless it belongs beside a database that is not there as the snapshot has it: then it waits for that, or is kept
    /// out. `live`: how what has its name compares, if something has.
    ///
    /// # Errors
    /// As for any file.
    pub(super) fn admit(
        &mut self,
        (owners, followers): (&Owners, &mut Followers<'o>),
        dir: &Arc<Directory<'o>>,
        entry: Entry,
        live: Option<Meeting>,
    ) -> Result<Option<Entry>, RestoreError> {
        let (Some(owner), Type::File) = (owner_of(&entry.path), entry.stat.kind) else {
            return Ok(Some(entry));
        };
        let (fate, name) = (owners.fate(owner), split(owner).1);
        let Ok(within) = dir.fd() else { return Ok(Some(entry)) };
        let why = match fate {
            Some(Fate::Same { .. } | Fate::Put { clears: false, before: None }) => return Ok(Some(entry)),
            // what is there is left as it is
            Some(Fate::Kept | Fate::Left) | None if live.is_some_and(|found| found != Meeting::Replace) => {
                return Ok(Some(entry));
            }
            Some(Fate::Put { clears, before }) => {
                if !clears && !self.is_one(within, name, &entry) {
                    return Ok(Some(entry));
                }
                let replaced = clears && live.is_some();
                followers.push(Follower { dir: Arc::clone(dir), entry, before, replaced });
                if followers.len() >= MOST {
                    self.follow(followers)?;
                }
                return Ok(None);
            }
            Some(Fate::Kept) => Why::Kept,
            Some(Fate::Left) => Why::Left,
            None => Why::Missing,
        };
        if !self.is_one(within, name, &entry) {
            return Ok(Some(entry));
        }
        self.keep_out(&entry.path, name, &why);
        Ok(None)
    }

    // True if a file is there with content, and this would be its log or journal.
    fn is_one(&self, dir: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> bool {
        let live = stat_in(dir, name).ok().flatten();
        live.is_some_and(|live| live.stat.kind == Type::File && live.stat.size > 0)
            && (begins(dir, name, &[MAGIC]) || self.entry_begins(entry, &BEGINNINGS))
    }

    fn keep_out(&self, path: &[u8], owner: &[u8], why: &Why) {
        let (reason, is_failure) = match why {
            Why::Kept => ("which was kept because of --overwrite", false),
            Why::Left => ("which is not selected", false),
            Why::Missing => ("which the snapshot does not have", true),
            Why::Failed => ("which could not be restored", true),
        };
        let text = format!(
            "it was not put beside {}, {reason}: SQLite would merge it into that and spoil it; restore to another directory to have it",
            shown(owner)
        );
        // the shared index is made again from the log
        self.shared.collector.kept_out(path, text, is_failure && !path.ends_with(b"-shm"));
    }

    /// Restores what waited for databases, as far as they came.
    ///
    /// # Errors
    /// As for any file.
    pub(super) fn follow(&mut self, followers: &mut Followers<'o>) -> Result<(), RestoreError> {
        if followers.is_empty() {
            return Ok(());
        }
        self.flush_links()?;
        self.settle()?;
        for Follower { dir, entry, before, replaced } in std::mem::take(followers) {
            self.check_interrupt()?;
            let (name, path) = (split(&entry.path).1.to_vec(), entry.path.clone());
            let owner = owner_of(&name).unwrap_or_default();
            let now = stat_in(dir.fd()?, owner)?.map(|live| (live.dev, live.stat.inode));
            if !self.options.dry_run && (now.is_none() || now == before) {
                self.keep_out(&path, owner, &Why::Failed);
                continue;
            }
            if replaced {
                // it was counted as removed with what lay beside the database
                let mut report = self.shared.collector.report();
                report.deleted = report.deleted.saturating_sub(1);
            }
            let replace = stat_in(dir.fd()?, &name)?.is_some();
            self.put_file(dir, name, path, entry, replace)?;
        }
        Ok(())
    }
}
