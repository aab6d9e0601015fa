//! A directory where the snapshot has something else: an empty one makes room for that; one with something in it stays,
//! unless what the snapshot does not have is to be removed.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use super::directory::Directory;
use super::spare::LeftOut;
use super::tree::Run;
use super::{Mode, Options, RestoreError};
use crate::format::manifest::{Entry, ROOT};
use crate::tree::live::LiveStat;
use crate::tree::walk::{Everything, Visit, walk};

/// An entry that waits until everything in the directory at its name has been seen.
pub struct Room<'o> {
    dir: Arc<Directory<'o>>,
    name: Vec<u8>,
    /// What comes there.
    pub entry: Entry,
    // what lies in the directory
    entries: u64,
    // something in it must stay, or is not known
    stays: bool,
}

impl<'o> Room<'o> {
    /// Waits. `stays`: the directory itself must, or cannot be read.
    pub fn new(dir: Arc<Directory<'o>>, name: Vec<u8>, entry: Entry, stays: bool) -> Self {
        Self { dir, name, entry, entries: 0, stays }
    }

    /// Counts what lies in the directory.
    pub fn see(&mut self, stays: bool) {
        self.entries += 1;
        self.stays |= stays;
    }
}

/// What is said of a directory that stays where something else should be.
pub fn in_the_way() -> io::Error {
    io::Error::other(
        "a directory that is not empty is there and stays: --delete removes it, or move it out of the way",
    )
}

impl Options {
    /// True if a directory goes with all that is in it where the snapshot has something else.
    pub(super) fn clears(&self) -> bool {
        self.delete_most || matches!(self.mode, Mode::InPlace { delete: true, .. })
    }
}

impl<'o> Run<'o, '_> {
    /// Restores what waited for a directory, if that may go. True if it does.
    ///
    /// # Errors
    /// As for any file.
    pub(super) fn make_room(&mut self, room: Room<'o>) -> Result<bool, RestoreError> {
        let Room { dir, name, entry, entries, stays } = room;
        let path = entry.path.clone();
        let clears = self.shared.clears;
        if stays && clears {
            let why = "a directory is there, and something in it is not the restore's to remove: move it out of the way";
            self.shared.collector.problem(&path, "directory-in-the-way", why);
            return Ok(false);
        }
        if stays || entries > 0 && !clears {
            self.shared.collector.problem(&path, "directory-in-the-way", in_the_way());
            return Ok(false);
        }
        // an empty one makes room whatever is asked for
        if clears && entries > 0 {
            self.cleared += entries + 1;
        }
        if self.options.dry_run {
            self.shared.collector.report().deleted += entries + 1;
        }
        self.put_file(dir, name, path, entry, true)?;
        Ok(true)
    }

    /// The same for a file that is restored by itself.
    ///
    /// # Errors
    /// As for any file, and if the directory cannot be gone through.
    pub(super) fn make_room_alone(
        &mut self,
        mut room: Room<'o>,
        there: OwnedFd,
        delete: Option<&LeftOut>,
    ) -> Result<(), RestoreError> {
        let device = LiveStat::of(there.as_fd())?.dev;
        let top = self.subtree.clone();
        let is_left_out = |visit: &Visit<'_>| {
            visit.path != ROOT && delete.is_some_and(|left_out| left_out.spares(visit, &top, device))
        };
        walk(there, &Everything, self.options.workers, &mut |visit| -> Result<(), RestoreError> {
            self.check_interrupt()?;
            self.there += 1;
            let live = &visit.item.live;
            room.stays |= self.shared.own.is((live.dev, live.stat.inode)) || !visit.problems.is_empty();
            room.stays |= is_left_out(&visit);
            room.entries += u64::from(visit.path != ROOT);
            Ok(())
        })?;
        self.make_room(room).map(|_| ())
    }
}
