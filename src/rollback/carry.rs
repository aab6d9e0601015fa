//! Live data gets its names in another tree too: files by hard links, so that both trees hold the same ones.
//!
//! Where the trees are subvolumes of their own, no file can have a name in both: then what changed since one was copied from the
//! other is copied again, its blocks shared.
//!
//! Nothing is ever taken from the tree that has it. So a rollback that ends at any moment loses none of it, and one that
//! goes back finds what was written meanwhile. Doing it again links only what came up since: it is done once while the
//! service runs, and once more when it is stopped.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::copy;
use super::moment::moment;
use super::types::RollbackError;
use crate::base::Name;
use crate::format::manifest::Time;
use crate::snapshot::shows_after;
use crate::sys::attributes::{Handle, set_xattr, xattrs};
use crate::sys::btrfs;
use crate::tree::remove::remove_tree;

/// Gives everything at these paths below `from` its names below `to`, in place of what is there. What `from` does not have at
/// such a path, `to` has not either: the log of a database that was merged since would spoil it.
///
/// # Errors
/// If it cannot be done; `from` is as it was.
pub fn carry(from: &Path, to: &Path, paths: &[Name]) -> Result<(), RollbackError> {
    let mut carrier = Carrier { split: split(from, to), copies: HashMap::new() };
    for path in paths {
        let relative = Path::new(path.as_os_str());
        let (source, target) = (from.join(relative), to.join(relative));
        let parent = relative.parent().unwrap_or(Path::new(""));
        match (look(&source)?, look(&target)?) {
            (Some(have), Some(there)) if !have.is_dir() && same_inode(&have, &there) => continue,
            (Some(_), _) => make_parents(from, to, parent)?,
            (None, Some(_)) if is_plain(to, parent) => {}
            (None, _) => continue,
        }
        // the directory around it keeps the time that the snapshot gave it
        let around = to.join(parent);
        let times = fs::symlink_metadata(&around).map_err(io_error("read", &around))?;
        moment("before live data gets its names");
        carrier.follow(&source, &target)?;
        moment("live data has its names");
        set_times_of(&times, &around)?;
    }
    Ok(())
}

// What is at a path, links not followed; `None` if nothing.
fn look(path: &Path) -> Result<Option<fs::Metadata>, RollbackError> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(io_error("look at", path)(error)),
    }
}

fn same_inode(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

// Whether a path below a tree leads through directories only: what a link leads to is not ours.
fn is_plain(to: &Path, relative: &Path) -> bool {
    let mut path = to.to_owned();
    relative.components().all(|part| {
        path.push(part);
        fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir())
    })
}

/// The system's error, with what was tried on what.
pub fn io_error(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RollbackError {
    let path = Name::from(path.as_os_str());
    move |source| RollbackError::Io { act, path, source }
}

/// Removes what is at a path, if anything is. Links are removed, never followed.
pub fn clear(path: &Path) -> Result<(), RollbackError> {
    let removed = match look(path)? {
        None => return Ok(()),
        // a subvolume goes in one step, if the user may
        Some(found) if found.is_dir() => {
            if btrfs::is_subvolume(path) && btrfs::remove(path).is_ok() {
                Ok(())
            } else {
                remove_tree(path)
            }
        }
        Some(_) => fs::remove_file(path),
    };
    moment("something was removed");
    removed.map_err(io_error("remove", path))
}

fn make_parents(from: &Path, to: &Path, relative: &Path) -> Result<(), RollbackError> {
    let mut done = PathBuf::new();
    for part in relative.components() {
        done.push(part);
        let target = to.join(&done);
        if fs::symlink_metadata(&target).is_ok_and(|found| found.is_dir()) {
            continue;
        }
        clear(&target)?;
        make_directory(&from.join(&done), &target)?;
    }
    Ok(())
}

// When the younger of two subvolumes was made, less what a change may take to show; `None` if they are none.
fn split(one: &Path, other: &Path) -> Option<Time> {
    let made = |path| btrfs::subvolume(path).ok().flatten().map(|subvolume| subvolume.made);
    let (seconds, nanos) = made(one)?.max(made(other)?);
    Some(shows_after(Time(seconds, nanos)))
}

struct Carrier {
    // what changed before this, the trees have in common
    split: Option<Time>,
    // of files with several names: where the copy of each is
    copies: HashMap<u64, PathBuf>,
}

impl Carrier {
    // Brings `target` to where it has what `source` has.
    fn follow(&mut self, source: &Path, target: &Path) -> Result<(), RollbackError> {
        let Some(found) = look(source)? else { return clear(target) };
        let there = look(target)?;
        if !found.is_dir() {
            return self.follow_file((source, &found), (target, there.as_ref()));
        }
        let is_there = there.is_some_and(|there| there.is_dir());
        if !is_there {
            clear(target)?;
            make_directory(source, target)?;
        }
        let names = names_of(source)?;
        if is_there {
            for name in names_of(target)?.difference(&names) {
                clear(&target.join(name))?;
            }
            give_attributes(source, target)?;
        }
        for name in &names {
            self.follow(&source.join(name), &target.join(name))?;
        }
        // making entries changed its time
        set_times_of(&found, target)
    }

    fn follow_file(
        &mut self,
        (source, found): (&Path, &fs::Metadata),
        (target, there): (&Path, Option<&fs::Metadata>),
    ) -> Result<(), RollbackError> {
        let is_same = there.is_some_and(|there| same_inode(found, there) || self.is_common(found, there));
        if !is_same {
            clear(target)?;
            let linked = self.copies.get(&found.ino()).filter(|_| found.nlink() > 1);
            let from = linked.map_or(source, PathBuf::as_path);
            match rustix::fs::linkat(CWD, from, CWD, target, AtFlags::empty()) {
                // a file that its writer removed since it was looked at
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(Errno::XDEV) if self.split.is_some() => copy::copy(source, found, target)?,
                Err(error) => return Err(io_error("link to", target)(error.into())),
            }
        }
        if self.split.is_some() && found.nlink() > 1 {
            self.copies.entry(found.ino()).or_insert_with(|| target.to_owned());
        }
        Ok(())
    }

    // In a copy of a subvolume everything has the inode number and the times of what it is a copy of.
    fn is_common(&self, one: &fs::Metadata, other: &fs::Metadata) -> bool {
        let state = |of: &fs::Metadata| {
            (of.ino(), of.size(), (of.mtime(), of.mtime_nsec()), (of.ctime(), of.ctime_nsec()), of.nlink())
        };
        let changed = Time(one.ctime(), u32::try_from(one.ctime_nsec()).unwrap_or_default());
        state(one) == state(other) && self.split.is_some_and(|split| changed < split)
    }
}

fn names_of(directory: &Path) -> Result<BTreeSet<OsString>, RollbackError> {
    let entries = fs::read_dir(directory).map_err(io_error("list", directory))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
    names.collect::<io::Result<_>>().map_err(io_error("list", directory))
}

fn make_directory(source: &Path, target: &Path) -> Result<(), RollbackError> {
    fs::DirBuilder::new().mode(0o700).create(target).map_err(io_error("make the directory", target))?;
    give_attributes(source, target)?;
    let found = fs::symlink_metadata(source).map_err(io_error("read", source))?;
    set_times_of(&found, target)
}

// Owner, mode and attributes of a directory or file.
pub(super) fn give_attributes(source: &Path, target: &Path) -> Result<(), RollbackError> {
    let found = fs::symlink_metadata(source).map_err(io_error("read", source))?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = |path: &Path| {
        rustix::fs::open(path, flags, Mode::empty()).map_err(|e| io_error("open", path)(e.into()))
    };
    let (have, made) = (open(source)?, open(target)?);
    let failed = |error: rustix::io::Errno| io_error("set the owner or mode of", target)(error.into());
    let own = fs::symlink_metadata(target).map_err(io_error("read", target))?;
    if (own.uid(), own.gid()) != (found.uid(), found.gid()) {
        let (user, group) = (Uid::from_raw(found.uid()), Gid::from_raw(found.gid()));
        rustix::fs::fchown(&made, Some(user), Some(group)).map_err(failed)?;
    }
    rustix::fs::fchmod(&made, Mode::from_raw_mode(found.mode() & 0o7777)).map_err(failed)?;
    let read = |fd| xattrs(Handle::Open(fd)).map_err(io_error("read the attributes of", source));
    let there = read(made.as_fd())?;
    let wanted = read(have.as_fd())?;
    for (name, value) in wanted.iter().filter(|attribute| !there.contains(attribute)) {
        set_xattr(Handle::Open(made.as_fd()), &name.0, value)
            .map_err(io_error("set the attributes of", target))?;
    }
    // an access list that was taken away does not come back; labels belong to the system
    let is_wanted = |name: &Name| wanted.iter().any(|(wanted, _)| wanted == name);
    for (name, _) in there.iter().filter(|(name, _)| !is_wanted(name) && !name.0.starts_with(b"security.")) {
        match rustix::fs::fremovexattr(&made, &*name.0) {
            Ok(()) | Err(Errno::NODATA) => {}
            Err(error) => return Err(io_error("remove the attributes of", target)(error.into())),
        }
    }
    Ok(())
}

/// Gives something the times that something else had.
///
/// # Errors
/// If the system refuses.
pub fn set_times_of(found: &fs::Metadata, target: &Path) -> Result<(), RollbackError> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: found.atime(), tv_nsec: found.atime_nsec() },
        last_modification: Timespec { tv_sec: found.mtime(), tv_nsec: found.mtime_nsec() },
    };
    let set = rustix::fs::utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW);
    set.map_err(|e| io_error("set the time of", target)(e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(paths: &[&str]) -> Vec<Name> {
        paths.iter().map(|path| Name::from(*path)).collect()
    }

    #[test]
    fn what_came_up_since_is_linked_and_what_is_gone_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        for path in ["from/logs/deep", "from/data", "to/logs", "to/data"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        fs::write(from.join("logs/a"), "a").unwrap();
        fs::write(from.join("logs/deep/b"), "b").unwrap();
        fs::write(to.join("logs/stale"), "stale").unwrap();
        fs::write(from.join("data/db"), "live").unwrap();
        fs::write(to.join("data/db"), "of the snapshot").unwrap();
        fs::write(to.join("data/db-wal"), "of an earlier time").unwrap();
        fs::write(to.join("data/other"), "not carried").unwrap();
        let paths = names(&["logs", "data/db", "data/db-wal", "never/there"]);
        let around = fs::metadata(to.join("data")).unwrap().modified().unwrap();
        carry(&from, &to, &paths).unwrap();
        let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
        for path in ["logs/a", "logs/deep/b", "data/db"] {
            assert_eq!(inode(from.join(path)), inode(to.join(path)), "{path}");
        }
        assert!(!to.join("logs/stale").exists() && !to.join("data/db-wal").exists());
        assert!(to.join("data/other").exists() && !to.join("never").exists());
        assert_eq!(fs::metadata(to.join("data")).unwrap().modified().unwrap(), around);

        fs::remove_file(from.join("logs/a")).unwrap();
        fs::write(from.join("logs/c"), "c").unwrap();
        fs::write(from.join("data/db-wal"), "new").unwrap();
        carry(&from, &to, &paths).unwrap();
        assert!(!to.join("logs/a").exists());
        for path in ["logs/c", "logs/deep/b", "data/db", "data/db-wal"] {
            assert_eq!(inode(from.join(path)), inode(to.join(path)), "{path}");
        }
    }

    #[test]
    fn nothing_is_removed_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to, far) = (dir.path().join("from"), dir.path().join("to"), dir.path().join("far"));
        for path in [&from, &to, &far] {
            fs::create_dir(path).unwrap();
        }
        fs::write(far.join("db-wal"), "of somebody else").unwrap();
        std::os::unix::fs::symlink(&far, to.join("data")).unwrap();
        carry(&from, &to, &names(&["data/db-wal"])).unwrap();
        assert!(far.join("db-wal").exists());
    }
}
