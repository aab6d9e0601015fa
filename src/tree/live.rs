//! What the file system says of an entry, in the words of the manifest.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::format::manifest::{Entry, Stat, Time, Type};
use crate::sys::attributes::{Handle, flags, xattrs};
use crate::sys::names::Names;

/// What `lstat` says, and what only a walk needs of it.
#[derive(Clone, Copy, Debug)]
pub struct LiveStat {
    /// What manifests keep.
    pub stat: Stat,
    /// Number of the device that the inode lies on.
    pub dev: u64,
    /// Allocated blocks of 512 bytes: fewer than the size needs means holes.
    pub blocks: u64,
}

impl LiveStat {
    /// From the system's structure.
    pub fn new(raw: &rustix::fs::Stat) -> Self {
        let kind = match FileType::from_raw_mode(raw.st_mode) {
            FileType::Directory => Type::Dir,
            FileType::Symlink => Type::Symlink,
            FileType::Fifo => Type::Fifo,
            FileType::Socket => Type::Socket,
            FileType::CharacterDevice => Type::Char,
            FileType::BlockDevice => Type::Block,
            FileType::RegularFile | FileType::Unknown => Type::File,
        };
        let device = matches!(kind, Type::Char | Type::Block)
            .then(|| (rustix::fs::major(raw.st_rdev), rustix::fs::minor(raw.st_rdev)));
        let sized = matches!(kind, Type::File | Type::Symlink);
        let stat = Stat {
            kind,
            mode: raw.st_mode & 0o7777,
            uid: raw.st_uid,
            gid: raw.st_gid,
            size: if sized { raw.st_size.unsigned_abs() } else { 0 },
            mtime: Time(raw.st_mtime, raw.st_mtime_nsec as u32), // below 10^9
            ctime: Time(raw.st_ctime, raw.st_ctime_nsec as u32),
            inode: raw.st_ino,
            links: if kind == Type::Dir { 1 } else { raw.st_nlink },
            device,
        };
        Self { stat, dev: raw.st_dev, blocks: raw.st_blocks.unsigned_abs() }
    }

    /// Of an open file.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self::new(&rustix::fs::fstat(fd)?))
    }

    /// True if the content may have holes.
    pub fn may_have_holes(&self) -> bool {
        self.stat.size > 0 && self.blocks.saturating_mul(512) < self.stat.size
    }

    /// True if it is the same inode and nothing was written to it in between.
    pub fn same_as(&self, other: &Self) -> bool {
        let key = |s: &Self| (s.dev, s.stat.inode, s.stat.kind, s.stat.size, s.stat.mtime, s.stat.ctime);
        key(self) == key(other)
    }
}

/// Opens an entry of a directory, never following a link; with `O_NOATIME` where that is allowed.
///
/// # Errors
/// If it cannot be opened, or is a link.
pub fn open_in(dir: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    match rustix::fs::openat(dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        // only the owner and root may leave no trace of reading
        Err(Errno::PERM) => rustix::fs::openat(dir, name, flags, Mode::empty()),
        other => other,
    }
}

/// Opens an entry only as a place, whatever it is.
///
/// # Errors
/// If it is gone or cannot be reached.
pub fn open_path(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Opens a directory entry, never following a link.
///
/// # Errors
/// If it is no directory or cannot be read.
pub fn open_dir(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    open_in(dir, name, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Fills in the names of owner and group.
pub fn add_names(entry: &mut Entry, names: &mut Names) {
    entry.user = names.user(entry.stat.uid);
    entry.group = names.group(entry.stat.gid);
}

/// Fills in what an open directory has besides `lstat`.
///
/// # Errors
/// If its attributes cannot be read.
pub fn add_dir(entry: &mut Entry, dir: BorrowedFd<'_>) -> io::Result<()> {
    entry.xattrs = xattrs(Handle::Open(dir))?;
    entry.flags = flags(dir);
    Ok(())
}

/// Fills in what an entry that is neither file nor directory has: a link's target, attributes.
///
/// # Errors
/// If it cannot be read or is not what it was.
pub fn add_special(entry: &mut Entry, dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let fd = open_path(dir, name)?;
    let live = LiveStat::of(fd.as_fd())?;
    if live.stat.kind != entry.stat.kind {
        return Err(io::Error::other("it was replaced by something else while it was read"));
    }
    if live.stat.inode != entry.stat.inode {
        // another of its kind took its place
        entry.stat = live.stat;
    }
    if entry.stat.kind == Type::Symlink {
        let target = rustix::fs::readlinkat(&fd, "", Vec::with_capacity(256))?.into_bytes();
        // file systems may give another size; the format wants the target's
        entry.stat.size = target.len() as u64;
        entry.target = Some(target);
    }
    entry.xattrs = xattrs(Handle::Path(fd.as_fd()))?;
    Ok(())
}
