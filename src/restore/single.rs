//! In place: one entry that is no directory, by itself. Only what has its name is looked at, and what SQLite has beside that.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::fs::OFlags;

use super::beside::{Owners, is_newer};
use super::directory::{Directory, stat_in};
use super::live::{Meeting, meet};
use super::room::Room;
use super::spare::LeftOut;
use super::tree::{Run, split};
use super::{Overwrite, Placement, RestoreError};
use crate::database::sqlite::owner_of;
use crate::format::manifest::{Entry, ROOT, Stat, Type};
use crate::repo::manifest_reader::ManifestReader;
use crate::tree::live::open_in;

/// True if the top of a placement is no directory.
pub fn placement_is_file(placement: &Placement, next: Option<&Entry>, file_name: &[u8]) -> bool {
    let name = if placement.subtree == ROOT { file_name } else { split(&placement.subtree).1 };
    next.is_some_and(|entry| entry.path == name)
}

impl<'o> Run<'o, '_> {
    /// True if the snapshot has nothing of SQLite's beside the file that was read last.
    ///
    /// # Errors
    /// If the manifest cannot be read.
    pub(super) fn is_alone(
        &self,
        reader: &mut ManifestReader<'_, '_>,
        placement: &Placement,
    ) -> Result<bool, RestoreError> {
        let path = &placement.subtree;
        if path == ROOT {
            return Ok(true);
        }
        loop {
            self.check_interrupt()?;
            match reader.next_entry() {
                Ok(Some(entry)) if owner_of(&entry.path) == Some(path) => return Ok(false),
                Ok(Some(entry)) if entry.path.starts_with(path) => {}
                Ok(_) => return Ok(true),
                // what is not known may have been there
                Err(e) if e.is_unreadable() => return Ok(false),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Brings one name to the snapshot's state. `alone`: the snapshot has nothing of SQLite's beside it.
    ///
    /// # Errors
    /// As for any file.
    pub(super) fn single(
        &mut self,
        base: &Arc<Directory<'o>>,
        entry: Option<Entry>,
        (overwrite, delete): (Overwrite, Option<&LeftOut>),
        alone: bool,
    ) -> Result<(), RestoreError> {
        let Some(entry) = entry.filter(|entry| self.wants(&entry.path, false)) else { return Ok(()) };
        let name = entry.path.clone();
        let there = match base.fd() {
            Ok(fd) => stat_in(fd, &name)?,
            Err(_) => None,
        };
        let Some(there) = there else { return self.put_single(base, entry, None) };
        if there.stat.kind == Type::Dir && !overwrite.keeps(&entry, &there.stat) {
            let fd = open_in(base.fd()?, &name, OFlags::RDONLY | OFlags::DIRECTORY)
                .map_err(std::io::Error::from)?;
            let room = Room::new(Arc::clone(base), name, entry, false);
            return self.make_room_alone(room, fd, delete);
        }
        match self.compare(&entry, &there.stat, (base.fd()?, &name), overwrite) {
            Meeting::Keep => self.shared.collector.report().kept += 1,
            Meeting::Same => {
                // what is in a log is newer than anything that the snapshot has
                self.clear_beside(base, &name, &entry, alone && overwrite != Overwrite::IfNewer);
                self.shared.collector.report().unchanged += 1;
            }
            found => return self.put_single(base, entry, Some(found)),
        }
        Ok(())
    }

    fn put_single(
        &mut self,
        base: &Arc<Directory<'o>>,
        entry: Entry,
        found: Option<Meeting>,
    ) -> Result<(), RestoreError> {
        let beside_nothing = (&Owners::default(), &mut Vec::new());
        let Some(entry) = self.admit(beside_nothing, base, entry, found)? else { return Ok(()) };
        let (name, path) = (entry.path.clone(), entry.path.clone());
        self.put_file(Arc::clone(base), name, path, entry, found.is_some()).map(drop)
    }

    /// Compares an entry with what has its name. A database is as new as its log.
    pub(super) fn compare(
        &self,
        entry: &Entry,
        live: &Stat,
        at: (BorrowedFd<'_>, &[u8]),
        overwrite: Overwrite,
    ) -> Meeting {
        let found = meet(entry, live, at, overwrite, &self.shared.powers, self.index);
        let may_go = overwrite == Overwrite::IfNewer && (entry.database || found == Meeting::Replace);
        let is_kept = may_go && live.kind == Type::File && is_newer(at, entry.stat.mtime);
        if is_kept { Meeting::Keep } else { found }
    }
}
