//! In place: the manifest and the living tree side by side. What is missing is made, what differs
//! replaced, what is too much noted and removed at the very end.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, OFlags};

use super::attributes::{Now, apply};
use super::beside::{Extra, Fate, Owners};
use super::directory::{Directory, remove_but};
use super::follow::Followers;
use super::live::Meeting;
use super::room::Room;
use super::seal;
use super::settled::Unsettled;
use super::single::placement_is_file;
use super::spare::{LeftOut, Spared};
use super::stack::Stack;
use super::tree::{Run, split};
use super::{Overwrite, Placement, RestoreError};
use crate::base::Name;
use crate::database::sqlite::owner_of;
use crate::format::manifest::{Entry, ROOT, Stat, Type, compare_entries, is_within_subtree};
use crate::repo::manifest_reader::ManifestReader;
use crate::sys::attributes::{Handle, is_sealed, unseal};
use crate::sys::names::Names;
use crate::tree::live::{open_in, open_path};
use crate::tree::walk::{Visit, walk};

/// Something that the snapshot does not have.
pub struct Doomed<'o> {
    dir: Arc<Directory<'o>>,
    name: Vec<u8>,
    /// Its path in the target.
    pub path: Vec<u8>,
    entries: u64,
    spared: Spared,
}

/// Where a merge stands.
struct Merge<'o> {
    stack: Stack<'o>,
    next: Option<Entry>,
    overwrite: Overwrite,
    // what is spared where something is deleted
    delete: Option<LeftOut>,
    // the subtree being passed over, and whether it is doomed
    inside: Option<(Vec<u8>, bool)>,
    // the directory in whose place something else is kept
    kept: Option<Vec<u8>>,
    // what waits for that subtree to make room
    room: Option<Room<'o>>,
    // the device of the placement's top
    device: u64,
    names: Names,
    // what becomes of the files that something may lie beside
    owners: Owners,
    // what waits for one of them
    followers: Followers<'o>,
}

impl<'o> Run<'o, '_> {
    /// Brings what is there to the snapshot's state.
    pub(super) fn in_place(
        &mut self,
        reader: &mut ManifestReader<'_, '_>,
        placement: &Placement,
        file_name: &[u8],
        overwrite: Overwrite,
        delete: Option<LeftOut>,
    ) -> Result<(), RestoreError> {
        let base = self.begin(placement)?;
        let mut merge = Merge {
            stack: Stack::new(Arc::clone(&base)),
            next: self.next_placed(reader, placement, file_name)?,
            overwrite,
            delete,
            inside: None,
            kept: None,
            room: None,
            device: 0,
            names: Names::default(),
            owners: Owners::default(),
            followers: Vec::new(),
        };
        // a file by itself: only its own name is looked at
        let single = merge.next.as_ref().is_some_and(|e| e.path != ROOT && e.stat.kind != Type::Dir);
        if single && placement_is_file(placement, merge.next.as_ref(), file_name) {
            let alone = self.is_alone(reader, placement)?;
            return self.single(&base, merge.next, (overwrite, merge.delete.as_ref()), alone);
        }
        if let Ok(fd) = base.fd() {
            let root = fd.try_clone_to_owned()?;
            let workers = self.options.workers;
            let unsettled = Unsettled(Arc::clone(&self.settled.directories));
            walk(root, &unsettled, workers, &mut |visit| {
                self.visit(&mut merge, reader, placement, file_name, visit)
            })?;
            self.leave(&mut merge)?;
        }
        while let Some(entry) = merge.next.take() {
            self.check_interrupt()?;
            self.put_missing(&mut merge, entry)?;
            merge.next = self.next_placed(reader, placement, file_name)?;
        }
        self.follow(&mut merge.followers)
    }

    fn visit(
        &mut self,
        merge: &mut Merge<'o>,
        reader: &mut ManifestReader<'_, '_>,
        placement: &Placement,
        file_name: &[u8],
        visit: Visit<'_>,
    ) -> Result<(), RestoreError> {
        self.check_interrupt()?;
        self.there += u64::from(!self.nested.is_inner(visit.path));
        if let Some((top, doomed)) = &merge.inside {
            if is_within_subtree(visit.path, top) {
                if merge.room.is_some() {
                    let stays = self.stays(merge, &visit);
                    merge.room.as_mut().into_iter().for_each(|room| room.see(stays));
                } else if *doomed {
                    self.inside_doomed(merge, &visit);
                }
                return Ok(());
            }
            self.leave(merge)?;
        }
        if visit.path == ROOT {
            merge.device = visit.item.live.dev;
        }
        for problem in &visit.problems {
            self.shared.collector.problem(&problem.path, "directory-unreadable", &problem.error);
        }
        let is_repository = self.shared.own.is((visit.item.live.dev, visit.item.live.stat.inode));
        while let Some(entry) = merge.next.take() {
            if is_repository && is_within_subtree(&entry.path, visit.path) {
                let why = "the repository that is read from lies there; it stays as it is";
                self.shared.collector.problem(&entry.path, "repository-stays", why);
                merge.next = self.next_placed(reader, placement, file_name)?;
                continue;
            }
            match compare_entries(&entry.path, visit.path) {
                std::cmp::Ordering::Less => {
                    self.put_missing(merge, entry)?;
                    merge.next = self.next_placed(reader, placement, file_name)?;
                }
                std::cmp::Ordering::Equal => {
                    merge.next = self.next_placed(reader, placement, file_name)?;
                    return self.meet(merge, entry, &visit);
                }
                std::cmp::Ordering::Greater => {
                    merge.next = Some(entry);
                    break;
                }
            }
        }
        self.extra(merge, &visit);
        Ok(())
    }

    // The subtree that was passed over is behind.
    fn leave(&mut self, merge: &mut Merge<'o>) -> Result<(), RestoreError> {
        merge.inside = None;
        let Some(room) = merge.room.take() else { return Ok(()) };
        let (path, clears) = (room.entry.path.clone(), room.entry.database);
        if self.make_room(room)? {
            merge.owners.add(&path, Fate::Put { clears, before: None });
        }
        Ok(())
    }

    // One more entry of a directory that goes, unless it is one that stays.
    fn inside_doomed(&mut self, merge: &Merge<'o>, visit: &Visit<'_>) {
        let stays = self.stays(merge, visit);
        let Some(doomed) = self.doomed.last_mut() else { return };
        // also what lies above another placement's top, which was known before
        if doomed.spared.holds(visit.path) || doomed.spared.above.contains(visit.path) {
            return;
        }
        if stays {
            let more = doomed.spared.add(visit.path, &doomed.path);
            doomed.entries = doomed.entries.saturating_sub(more);
            self.shared.collector.report().spared += 1;
        } else {
            doomed.entries += 1;
        }
    }

    // True for what is not the snapshot's to delete, and for the repository.
    fn stays(&self, merge: &Merge<'o>, visit: &Visit<'_>) -> bool {
        let live = &visit.item.live;
        self.shared.own.is((live.dev, live.stat.inode))
            || self.options.selection.is_spared(visit.path)
            || merge
                .delete
                .as_ref()
                .is_some_and(|left_out| left_out.spares(visit, &self.subtree, merge.device))
    }

    fn extra(&mut self, merge: &mut Merge<'o>, visit: &Visit<'_>) {
        match self.meet_beside(&merge.owners, merge.overwrite == Overwrite::IfNewer, visit) {
            Extra::Goes => return,
            Extra::Remove => return self.remove_side_file(visit),
            Extra::Stays => {
                self.shared.collector.report().spared += u64::from(merge.delete.is_some());
                return;
            }
            Extra::Other => {}
        }
        if self.lost.get() {
            return self.unknown(merge, visit);
        }
        let elsewhere = self.nested.is_inner(visit.path) || self.nested.is_held(visit.path);
        let kept = visit.path == b"lost+found" || visit.path == ROOT || elsewhere;
        if visit.item.live.stat.kind == Type::Dir {
            merge.inside = Some((visit.path.to_vec(), merge.delete.is_some() && !kept));
        }
        if merge.delete.is_none() || kept {
            return;
        }
        if self.stays(merge, visit) {
            merge.inside = merge.inside.take().map(|(top, _)| (top, false));
            self.shared.collector.report().spared += 1;
            return;
        }
        let (parent, name) = split(visit.path);
        if let Some(dir) = merge.stack.parent(parent, self.shared) {
            let (name, path) = (name.to_vec(), visit.path.to_vec());
            let spared = self.nested.spared(&path);
            let entries = u64::from(spared.above.is_empty());
            self.doomed.push(Doomed { dir, name, path, entries, spared });
        }
    }

    // The snapshot may have it or not, as that part of the manifest is lost: it stays, and what is known to lie in it is restored.
    fn unknown(&self, merge: &mut Merge<'o>, visit: &Visit<'_>) {
        self.shared.collector.report().spared += u64::from(merge.delete.is_some() && visit.path != ROOT);
        let Some(fd) = visit.opened.filter(|_| visit.item.live.stat.kind == Type::Dir) else { return };
        let parent = if visit.path == ROOT { None } else { split(visit.path).0 };
        let parent = merge.stack.parent(parent, self.shared);
        let path = visit.path.to_vec();
        let dir = Directory::existing(Arc::clone(fd), parent, path.clone(), None, self.shared);
        merge.stack.push(path, dir);
    }

    fn remove_side_file(&self, visit: &Visit<'_>) {
        if !self.options.dry_run
            && let Err(e) = rustix::fs::unlinkat(visit.dir, &visit.item.name[..], AtFlags::empty())
        {
            self.shared.collector.problem(visit.path, "not-removed", e);
            return;
        }
        self.shared.collector.report().deleted += 1;
    }

    fn wants_entry(&self, entry: &Entry) -> bool {
        self.wants(&entry.path, entry.stat.kind == Type::Dir)
    }

    // What is there under the name of an entry that is not selected stays as it is.
    fn pass(&mut self, merge: &mut Merge<'o>, entry: Entry, visit: &Visit<'_>) -> Result<(), RestoreError> {
        if entry.stat.kind == Type::File {
            merge.owners.add(&entry.path, Fate::Left);
        }
        match (entry.stat.kind == Type::Dir, visit.item.live.stat.kind == Type::Dir) {
            (true, _) => self.put(&mut merge.stack, entry).map(drop),
            (false, true) => {
                merge.inside = Some((visit.path.to_vec(), false));
                Ok(())
            }
            (false, false) => Ok(()),
        }
    }

    fn meet(&mut self, merge: &mut Merge<'o>, entry: Entry, visit: &Visit<'_>) -> Result<(), RestoreError> {
        let live = visit.item.live;
        let live_dir = live.stat.kind == Type::Dir;
        let both = entry.stat.kind == Type::Dir && live_dir;
        if !both && !self.wants_entry(&entry) {
            return self.pass(merge, entry, visit);
        }
        match (entry.stat.kind == Type::Dir, live_dir) {
            (true, true) => {
                self.meet_dir(merge, entry, visit);
                return Ok(());
            }
            (true, false) => return self.replace_by_dir(merge, entry, visit),
            (false, true) => merge.inside = Some((visit.path.to_vec(), false)),
            (false, false) => {}
        }
        let (parent, name) = split(visit.path);
        let Some(dir) = merge.stack.parent(parent, self.shared) else { return Ok(()) };
        let name = name.to_vec();
        if live_dir && !merge.overwrite.keeps(&entry, &live.stat) {
            // whether it makes room shows when all that is below it has been seen
            let stays = !visit.problems.is_empty() || self.stays(merge, visit);
            merge.room = Some(Room::new(dir, name, entry, stays));
            return Ok(());
        }
        let path = entry.path.clone();
        if self.options.count_only {
            if entry.database {
                merge.owners.add(&path, Fate::Put { clears: true, before: None });
            }
            return Ok(());
        }
        let at = (visit.dir.as_fd(), &name[..]);
        let mut found = self.compare(&entry, &live.stat, at, merge.overwrite);
        let waits = (&merge.owners, &mut merge.followers);
        let there = Some(found).filter(|_| live.stat.kind == Type::File);
        let Some(entry) = self.admit(waits, &dir, entry, there)? else { return Ok(()) };
        let linked = entry.stat.links > 1 || entry.hardlink.is_some();
        if linked && matches!(found, Meeting::Same | Meeting::Attributes) {
            found = self.meet_link(&entry, &path, (live.dev, live.stat.inode), found);
        }
        let is_file = entry.stat.kind == Type::File;
        let mut fate = Fate::Same { database: entry.database };
        match found {
            Meeting::Same => self.shared.collector.report().unchanged += 1,
            Meeting::Keep => {
                self.shared.collector.report().kept += 1;
                fate = Fate::Kept;
            }
            Meeting::Attributes => self.mend(merge, &entry, &live.stat, at),
            Meeting::Replace => {
                let before = Some((live.dev, live.stat.inode));
                fate = Fate::Put { clears: self.put_file(dir, name, path.clone(), entry, true)?, before };
            }
        }
        if is_file {
            merge.owners.add(&path, fate);
        }
        Ok(())
    }

    // Names that should lead to one inode must, unless the first of them is written anew anyway.
    fn meet_link(&mut self, entry: &Entry, path: &[u8], inode: (u64, u64), found: Meeting) -> Meeting {
        match self.leader_inode(entry, path) {
            None => {
                self.keep_leader(entry, path, inode);
                self.kept_names.insert(inode, 1);
                found
            }
            Some(Some(leader)) if leader == inode => {
                self.kept_names.entry(inode).and_modify(|names| *names += 1);
                found
            }
            Some(_) => Meeting::Replace,
        }
    }

    fn meet_dir(&mut self, merge: &mut Merge<'o>, entry: Entry, visit: &Visit<'_>) {
        let path = entry.path.clone();
        let live = &visit.item.live.stat;
        let Some(fd) = visit.opened else { return };
        let (parent, _) = split(&path);
        let parent = if path == ROOT { None } else { merge.stack.parent(parent, self.shared) };
        let (wanted, stays) = (self.wants(&path, true), merge.overwrite.keeps(&entry, live));
        let entry = (wanted && !stays).then_some(entry);
        self.shared.collector.report().directories += u64::from(wanted);
        let dir = Directory::existing(Arc::clone(fd), parent, path.clone(), entry, self.shared);
        merge.stack.push(path, dir);
    }

    // What is not there is made, unless something is kept where the directory around it would be.
    fn put_missing(&mut self, merge: &mut Merge<'o>, entry: Entry) -> Result<(), RestoreError> {
        match &merge.kept {
            Some(kept) if is_within_subtree(&entry.path, kept) => {
                self.shared.collector.report().kept += u64::from(self.wants_entry(&entry));
                Ok(())
            }
            _ if entry.stat.kind == Type::File => self.put_missing_file(merge, entry),
            _ => self.put(&mut merge.stack, entry).map(drop),
        }
    }

    fn put_missing_file(&mut self, merge: &mut Merge<'o>, mut entry: Entry) -> Result<(), RestoreError> {
        let path = entry.path.clone();
        if !self.wants_entry(&entry) {
            merge.owners.add(&path, Fate::Left);
            return Ok(());
        }
        if owner_of(&path).is_some()
            && let Some(dir) = merge.stack.parent(split(&path).0, self.shared)
        {
            let waits = (&merge.owners, &mut merge.followers);
            let Some(admitted) = self.admit(waits, &dir, entry, None)? else { return Ok(()) };
            entry = admitted;
        }
        let clears = self.put(&mut merge.stack, entry)?;
        merge.owners.add(&path, Fate::Put { clears, before: None });
        Ok(())
    }

    fn replace_by_dir(
        &mut self,
        merge: &mut Merge<'o>,
        entry: Entry,
        visit: &Visit<'_>,
    ) -> Result<(), RestoreError> {
        if merge.overwrite.keeps(&entry, &visit.item.live.stat) {
            self.shared.collector.report().kept += 1;
            merge.kept = Some(entry.path);
            return Ok(());
        }
        if !self.options.dry_run {
            let (_, name) = split(visit.path);
            let remove = || rustix::fs::unlinkat(visit.dir, name, AtFlags::empty());
            if let Err(e) = seal::insist(visit.dir.as_fd(), name, &self.shared.powers, remove) {
                self.shared.collector.problem(visit.path, "not-removed", e);
                return Ok(());
            }
        }
        self.put(&mut merge.stack, entry).map(drop)
    }

    fn mend(&self, merge: &mut Merge<'o>, entry: &Entry, live: &Stat, at: (BorrowedFd<'_>, &[u8])) {
        if self.options.dry_run {
            self.shared.collector.report().metadata += 1;
            return;
        }
        // flags can be asked of what is open only
        let opened = self.shared.powers.sets_flags() && entry.stat.kind == Type::File;
        let fd = if opened { open_in(at.0, at.1, OFlags::RDONLY) } else { open_path(at.0, at.1) };
        let done = fd.map_err(std::io::Error::from).and_then(|fd| {
            let handle = if opened { Handle::Open(fd.as_fd()) } else { Handle::Path(fd.as_fd()) };
            if opened && is_sealed(fd.as_fd()) {
                unseal(fd.as_fd())?;
            }
            apply(handle, entry, Now::of(live), &self.shared.powers, &mut merge.names, self.shared.collector)
        });
        match done {
            Ok(()) => self.shared.collector.report().metadata += 1,
            Err(e) => {
                let why = seal::explained(at.0, at.1, e);
                self.shared.collector.problem(&entry.path, "attributes", why);
            }
        }
    }

    /// Removes what the snapshot does not have.
    pub(super) fn remove_doomed(&mut self) -> Result<(), RestoreError> {
        let doomed = self.cleared + self.doomed.iter().map(|d| d.entries).sum::<u64>();
        if doomed > self.there / 2 && !self.options.delete_most {
            return Err(RestoreError::TooMuchRemoved {
                doomed,
                there: self.there,
                written: !self.options.dry_run,
            });
        }
        for extra in std::mem::take(&mut self.doomed) {
            if self.options.dry_run {
                self.shared.collector.report().deleted += extra.entries;
                continue;
            }
            match extra
                .dir
                .fd()
                .and_then(|dir| remove_but(dir, &extra.name, &extra.path, &extra.spared, &self.shared.own))
            {
                Ok(removed) => self.shared.collector.report().deleted += removed,
                Err(e) => self.shared.collector.problem(&extra.path, "not-removed", e),
            }
        }
        Ok(())
    }
}

impl From<std::io::Error> for RestoreError {
    fn from(source: std::io::Error) -> Self {
        Self::Io { act: "walk", path: Name::from("the target"), source }
    }
}
