//! Content that a living tree has already: taken over from there, so that only what differs comes from the repository.
//!
//! A file is taken over if `fstat` says of the living one what the manifest says: type, size, times, inode. If only size and
//! time of change agree, it is read and held against the hashes first. Everything else is fetched.
//! The blocks are shared where the file system can (`FICLONE`), else copied.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{Mode as Bits, OFlags, ResolveFlags};

use super::RestoreError;
use crate::base::Name;
use crate::format::manifest::{Entry, Type};
use crate::repo::ChunkIndex;
use crate::repo::content::same_stream;
use crate::tree::live::LiveStat;

/// What was taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that share their blocks with the living ones.
    pub shared: u64,
    /// Files that were read and compared with the hashes, as their times or inode were others.
    pub compared: u64,
}

/// A living tree.
pub struct Living {
    dir: OwnedFd,
    // files, bytes, shared, compared
    counts: [AtomicU64; 4],
    // set when the file system turned out not to share blocks
    no_clone: AtomicBool,
}

impl Living {
    /// The tree at this path.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, RestoreError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Bits::empty()).map_err(|error| RestoreError::Io {
            act: "open",
            path: Name::from(path.as_os_str()),
            source: error.into(),
        })?;
        Ok(Self { dir, counts: Default::default(), no_clone: AtomicBool::new(false) })
    }

    /// What was taken over so far.
    pub fn taken(&self) -> Taken {
        let count = |at: usize| self.counts[at].load(Ordering::Relaxed);
        Taken { files: count(0), bytes: count(1), shared: count(2), compared: count(3) }
    }

    /// True if an entry may be there with all its content. A database is not: its log may hold what it does not.
    pub fn may_have(entry: &Entry) -> bool {
        entry.stat.kind == Type::File && entry.stat.size > 0 && !entry.database && !entry.torn
    }

    /// The file at a path below the tree, if it is there unchanged.
    pub fn find(&self, path: &[u8], entry: &Entry, index: &ChunkIndex) -> Option<Found> {
        // never through a link: what is not plainly there comes from the repository
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat2(&self.dir, path, flags, Bits::empty(), resolve).ok()?;
        let before = LiveStat::of(fd.as_fd()).ok()?;
        let (live, kept) = (&before.stat, &entry.stat);
        if live.kind != Type::File || live.size != kept.size || live.mtime != kept.mtime {
            return None;
        }
        let is_untouched = live.ctime == kept.ctime && live.inode == kept.inode;
        let file = File::from(fd);
        if !is_untouched {
            self.add(3, 1);
            if !same_stream(&file, entry, index).unwrap_or(false) {
                return None;
            }
        }
        Some(Found { file, before })
    }

    /// Puts the content of what was found into a file that is empty; false if somebody writes to it at this moment.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn fill(&self, found: &Found, entry: &Entry, out: BorrowedFd<'_>) -> io::Result<bool> {
        let shared = !self.no_clone.load(Ordering::Relaxed) && {
            let cloned = rustix::fs::ioctl_ficlone(out, &found.file).is_ok();
            self.no_clone.fetch_or(!cloned, Ordering::Relaxed);
            cloned
        };
        if !shared {
            for (offset, length) in entry.segments() {
                copy_range(&found.file, out, offset, length)?;
            }
        }
        if !LiveStat::of(found.file.as_fd()).is_ok_and(|after| after.same_as(&found.before)) {
            return Ok(false);
        }
        self.add(0, 1);
        self.add(1, entry.stat.size);
        self.add(2, u64::from(shared));
        Ok(true)
    }

    fn add(&self, at: usize, more: u64) {
        self.counts[at].fetch_add(more, Ordering::Relaxed);
    }
}

/// A living file that has what an entry says.
pub struct Found {
    file: File,
    before: LiveStat,
}

fn copy_range(from: &File, to: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<()> {
    let (mut done, mut buffer) = (0, Vec::new());
    while done < length {
        let (mut source, mut target) = (offset + done, offset + done);
        let want = usize::try_from(length - done).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), want) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(copied) => done += copied as u64,
            // a file system that cannot
            Err(_) => {
                buffer.resize(want.min(1 << 20), 0);
                from.read_exact_at(&mut buffer, offset + done)?;
                super::worker::write_all(to, &buffer, offset + done)?;
                done += buffer.len() as u64;
            }
        }
    }
    Ok(())
}
