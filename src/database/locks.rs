//! SQLite's locks are POSIX locks, and those belong to a process: whoever closes any descriptor of a file gives up all locks
//! that the process has on it (`fcntl_locking(2)`). While one thread copies a database under its lock, another may look at the same file:
//! its descriptor then waits, and is closed when the copy is made.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

// Device and number.
type Inode = (u64, u64);

#[derive(Default)]
struct Copied {
    copies: usize,
    waiting: Vec<OwnedFd>,
}

static COPIED: Mutex<BTreeMap<Inode, Copied>> = Mutex::new(BTreeMap::new());

fn copied() -> MutexGuard<'static, BTreeMap<Inode, Copied>> {
    COPIED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A database is copied as long as this lives: made before its lock is taken, dropped when that is given up.
#[must_use]
pub struct Copying(Inode);

impl Copying {
    /// Of the file with this device and inode number.
    pub fn of(inode: (u64, u64)) -> Self {
        copied().entry(inode).or_default().copies += 1;
        Self(inode)
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        let mut all = copied();
        if let Some(mut this) = all.remove(&self.0) {
            this.copies -= 1;
            if this.copies > 0 {
                all.insert(self.0, this);
            }
        }
    }
}

/// Closes a descriptor of what may be a database: at once, or when no copy of it is being made any more.
pub fn close(fd: impl Into<OwnedFd>) {
    let fd = fd.into();
    let mut all = copied();
    let inode = rustix::fs::fstat(&fd).map(|found| (found.st_dev, found.st_ino));
    match inode.ok().and_then(|inode| all.get_mut(&inode)) {
        Some(this) => this.waiting.push(fd),
        // before anybody can begin a copy: `all` is held
        None => drop(fd),
    }
}

/// A descriptor of what may be a database, which is closed by [`close`].
pub struct Guest(Option<OwnedFd>);

impl Guest {
    /// It, from now on.
    pub fn new(fd: OwnedFd) -> Self {
        Self(Some(fd))
    }

    /// The descriptor; none is never seen.
    pub fn get(&self) -> Option<&OwnedFd> {
        self.0.as_ref()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(fd) = self.0.take() {
            close(fd);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;
    use std::process::Command;

    use rustix::fs::{FlockOperation, fcntl_lock};

    use super::*;

    // Asked by another process: one's own locks never stand in one's way.
    fn is_locked(path: &Path) -> bool {
        let code = "import fcntl, sys\nfcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)";
        !Command::new("python3").arg("-c").arg(code).arg(path).output().unwrap().status.success()
    }

    // found by review: the walk looked at a database, by the files beside it, while a worker copied it
    #[test]
    fn a_look_at_a_database_does_not_take_the_lock_from_its_copy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        std::fs::write(&path, "x").unwrap();
        let about = std::fs::metadata(&path).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let copying = Copying::of((about.dev(), about.ino()));
        fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert!(is_locked(&path));
        close(File::open(&path).unwrap());
        assert!(is_locked(&path));
        drop(file);
        drop(copying);
        assert!(!is_locked(&path) && copied().get(&(about.dev(), about.ino())).is_none());
        close(File::open(&path).unwrap());
    }
}
