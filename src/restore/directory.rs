//! Directories of the target, each held open by what is still to be written in it. When the last
//! of that is done, the directory gets its own mode, owner and times: children before parents.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use super::attributes::{Now, Powers, apply};
use super::own::{Identity, Own, identity};
use super::report::Collector;
use super::room::in_the_way;
use super::seal;
use super::spare::Spared;
use crate::format::manifest::Entry;
use crate::sys::attributes::{Handle, is_sealed, unseal};
use crate::sys::names::Names;
use crate::tree::live::{LiveStat, open_dir};
use crate::tree::walk::join;

/// What directories of one restore share.
pub struct Shared<'o> {
    /// Receives what goes wrong.
    pub collector: &'o Collector<'o>,
    /// What may be set.
    pub powers: Powers,
    /// Directories that are open.
    pub open: AtomicUsize,
    /// Nothing is written.
    pub dry_run: bool,
    /// A directory goes with all that is in it where something else comes.
    pub clears: bool,
    /// The repository, which stays whatever happens.
    pub own: Own,
}

/// A directory of the target.
pub struct Directory<'o> {
    fd: Option<Arc<OwnedFd>>,
    // keeps the parent from being finished before this one
    _parent: Option<Arc<Directory<'o>>>,
    /// Its path in the target.
    pub path: Vec<u8>,
    entry: Option<Entry>,
    /// It was made by this run, so nobody else has put anything into it.
    pub fresh: bool,
    shared: &'o Shared<'o>,
}

impl<'o> Directory<'o> {
    /// The target itself, or another directory that is there.
    pub fn existing(
        fd: Arc<OwnedFd>,
        parent: Option<Arc<Self>>,
        path: Vec<u8>,
        entry: Option<Entry>,
        shared: &'o Shared<'o>,
    ) -> Arc<Self> {
        shared.open.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { fd: Some(fd), _parent: parent, path, entry, fresh: false, shared })
    }

    /// Makes a directory in this one; one that is there is used unless it is no directory.
    ///
    /// # Errors
    /// If it cannot be made or opened.
    pub fn make(self: &Arc<Self>, name: &[u8], path: Vec<u8>, entry: Option<Entry>) -> io::Result<Arc<Self>> {
        let shared = self.shared;
        if shared.dry_run {
            return Ok(self.imagined(path));
        }
        let mode = shared.powers.first_directory_mode(entry.as_ref());
        let made = match rustix::fs::mkdirat(self.fd()?, name, mode) {
            Err(Errno::PERM) => {
                self.open_up()?;
                rustix::fs::mkdirat(self.fd()?, name, mode)
            }
            other => other,
        };
        let fresh = match made {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(e) => return Err(e.into()),
        };
        if fresh && shared.powers.umask() & 0o700 != 0 {
            rustix::fs::chmodat(self.fd()?, name, Mode::from_raw_mode(0o700), AtFlags::empty())?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(self.fd()?, name, flags, Mode::empty())?;
        shared.open.fetch_add(1, Ordering::Relaxed);
        let fd = Some(Arc::new(fd));
        Ok(Arc::new(Self { fd, _parent: Some(Arc::clone(self)), path, entry, fresh, shared }))
    }

    /// For a dry run: the directory at a name, or if nothing is there one that would be made.
    ///
    /// # Errors
    /// If something else is there, or it cannot be opened.
    pub fn look(self: &Arc<Self>, name: &[u8], path: Vec<u8>) -> io::Result<Arc<Self>> {
        let Ok(above) = self.fd() else { return Ok(self.imagined(path)) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(above, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Self::existing(Arc::new(fd), Some(Arc::clone(self)), path, None, self.shared)),
            Err(Errno::NOENT) => Ok(self.imagined(path)),
            Err(e) => Err(e.into()),
        }
    }

    /// The target of a dry run that is not there.
    pub fn nowhere(shared: &'o Shared<'o>) -> Arc<Self> {
        shared.open.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { fd: None, _parent: None, path: Vec::new(), entry: None, fresh: true, shared })
    }

    /// This directory once more, to get these attributes when all in it is done.
    pub fn with_entry(self: &Arc<Self>, entry: Entry) -> Arc<Self> {
        let shared = self.shared;
        shared.open.fetch_add(1, Ordering::Relaxed);
        let (fd, path) = (self.fd.clone(), self.path.clone());
        Arc::new(Self {
            fd,
            _parent: Some(Arc::clone(self)),
            path,
            entry: Some(entry),
            fresh: self.fresh,
            shared,
        })
    }

    // A directory that a dry run would make.
    fn imagined(self: &Arc<Self>, path: Vec<u8>) -> Arc<Self> {
        self.shared.open.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            fd: None,
            _parent: Some(Arc::clone(self)),
            path,
            entry: None,
            fresh: true,
            shared: self.shared,
        })
    }

    /// Takes away the flags by which this directory forbids changes in it, if there are any; [`Self::finish`] sets them again.
    ///
    /// # Errors
    /// If that is not asked for, or it is not known what flags it should have.
    pub fn open_up(&self) -> io::Result<()> {
        let fd = self.fd()?;
        if self.fresh || !is_sealed(fd) {
            return Ok(());
        }
        if self.shared.powers.sets_flags() && self.entry.is_some() {
            return unseal(fd);
        }
        Err(io::Error::other(format!("the directory it lies in: {}", seal::refused())))
    }

    /// Removes the directory at a name, to make room for what comes.
    ///
    /// # Errors
    /// If something stays, such as the repository, or what lies in it where that is not to go.
    pub fn clear(&self, name: &[u8]) -> io::Result<()> {
        let removed = if self.shared.clears {
            remove_in(self.fd()?, name, &self.shared.own)?
        } else {
            match rustix::fs::unlinkat(self.fd()?, name, AtFlags::REMOVEDIR) {
                Ok(()) => 1,
                Err(Errno::NOTEMPTY | Errno::EXIST) => return Err(in_the_way()),
                Err(e) => return Err(e.into()),
            }
        };
        self.shared.collector.report().deleted += removed;
        Ok(())
    }

    /// Its descriptor.
    ///
    /// # Errors
    /// In a dry run, if it is not there yet.
    pub fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        self.fd.as_ref().map(|fd| fd.as_fd()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn finish(&self) -> io::Result<()> {
        let (Some(fd), Some(entry)) = (&self.fd, &self.entry) else { return Ok(()) };
        if self.shared.dry_run {
            return Ok(());
        }
        if !self.fresh && self.shared.powers.sets_flags() && is_sealed(fd.as_fd()) {
            unseal(fd.as_fd())?;
        }
        let live = LiveStat::of(fd.as_fd())?;
        let mut now = Now::of(&live.stat);
        now.old = !self.fresh || self.shared.powers.inherits();
        apply(
            Handle::Open(fd.as_fd()),
            entry,
            now,
            &self.shared.powers,
            &mut Names::default(),
            self.shared.collector,
        )
    }
}

impl Drop for Directory<'_> {
    fn drop(&mut self) {
        if let Err(e) = self.finish() {
            self.shared.collector.problem(&self.path, "directory-attributes", e);
        }
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is at a name of a directory; `None` if nothing.
///
/// # Errors
/// If that cannot be found out.
pub fn stat_in(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<LiveStat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(raw) => Ok(Some(LiveStat::new(&raw))),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Removes whatever is at a name: a file, or a directory with everything in it. Never follows a
/// link, never enters another file system or mount, and never removes the repository or what it lies in.
/// However deep it goes, one directory is open at a time.
///
/// # Errors
/// If something stays.
pub fn remove_in(dir: BorrowedFd<'_>, name: &[u8], own: &Own) -> io::Result<u64> {
    let (mut removed, opened) = unlink_or_open(dir, name, own)?;
    let Some((mut at, top)) = opened else { return Ok(removed) };
    let mut levels = vec![top];
    while let Some(level) = levels.last_mut() {
        if let Some(child) = level.left.pop() {
            let (gone, opened) = unlink_or_open(at.as_fd(), &child, own)?;
            removed += gone;
            if let Some((fd, inner)) = opened {
                levels.push(inner);
                at = fd;
            }
            continue;
        }
        let name = std::mem::take(&mut level.name);
        levels.pop();
        match levels.last() {
            None => rustix::fs::unlinkat(dir, &name[..], AtFlags::REMOVEDIR)?,
            Some(above) => {
                let up = open_dir(at.as_fd(), b"..")?;
                if identity(up.as_fd())? != above.identity {
                    return Err(io::Error::other("a directory in it was moved while it was being removed"));
                }
                rustix::fs::unlinkat(&up, &name[..], AtFlags::REMOVEDIR)?;
                at = up;
            }
        }
        removed += 1;
    }
    Ok(removed)
}

// A directory that is being emptied.
struct Level {
    // in the directory around it
    name: Vec<u8>,
    identity: Identity,
    left: Vec<Vec<u8>>,
}

// Removes what is no directory, and opens what is one. How many names went.
fn unlink_or_open(
    dir: BorrowedFd<'_>,
    name: &[u8],
    own: &Own,
) -> io::Result<(u64, Option<(OwnedFd, Level)>)> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => return Ok((1, None)),
        Err(Errno::NOENT) => return Ok((0, None)),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e.into()),
    }
    let fd = match open_to_empty(dir, name) {
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => return Err(seal::refused()),
        other => other?,
    };
    let here = identity(fd.as_fd())?;
    if own.is(here) || own.lies_in(here) {
        return Err(io::Error::other("the repository is there, or in it; it stays"));
    }
    // an ordinary user must be able to remove what is in it
    let _ = rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o700));
    let left = names_of(fd.as_fd())?;
    Ok((0, Some((fd, Level { name: name.to_vec(), identity: here, left }))))
}

/// As [`remove_in`], but leaves what is spared, and the directories it lies in. `path` is that of the name.
///
/// # Errors
/// If something else stays.
pub fn remove_but(
    dir: BorrowedFd<'_>,
    name: &[u8],
    path: &[u8],
    spared: &Spared,
    own: &Own,
) -> io::Result<u64> {
    if spared.entries.contains(path) {
        return Ok(0);
    }
    if !spared.above.contains(path) {
        return remove_in(dir, name, own);
    }
    let fd = open_to_empty(dir, name)?;
    let mut removed = 0;
    for child in names_of(fd.as_fd())? {
        removed += remove_but(fd.as_fd(), &child, &join(path, &child), spared, own)?;
    }
    Ok(removed)
}

fn open_to_empty(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let fd = open_dir(dir, name)?;
    if mount_of(dir)? != mount_of(fd.as_fd())? {
        return Err(io::Error::other("something is mounted there"));
    }
    Ok(fd)
}

fn mount_of(fd: BorrowedFd<'_>) -> io::Result<(u32, u32, u64)> {
    let x = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)?;
    Ok((x.stx_dev_major, x.stx_dev_minor, x.stx_mnt_id))
}

/// The names in a directory.
///
/// # Errors
/// If it cannot be read.
pub fn names_of(dir: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_goes_however_deep_it_is() {
        let place = tempfile::tempdir().unwrap();
        let top = open_dir(rustix::fs::CWD, place.path().as_os_str().as_encoded_bytes()).unwrap();
        let mut at = top.try_clone().unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            rustix::fs::symlinkat("..", &at, "link").unwrap();
            at = open_dir(at.as_fd(), b"d").unwrap();
        }
        rustix::fs::symlinkat(place.path(), &at, "link").unwrap();
        std::fs::write(place.path().join("kept"), "x").unwrap();
        // as little stack as a thread may have: nothing goes down by calling itself
        let removed = std::thread::scope(|scope| {
            let small = std::thread::Builder::new().stack_size(64 << 10);
            let work = || remove_in(top.as_fd(), b"d", &Own::default());
            small.spawn_scoped(scope, work).unwrap().join().unwrap()
        });
        assert_eq!(removed.unwrap(), 3000 + 2999 + 1);
        assert!(place.path().join("kept").exists() && !place.path().join("d").exists());
    }
}
