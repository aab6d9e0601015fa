//! A log and its directory, by descriptors.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags, SeekFrom, openat, openat2, statat, unlinkat};

use super::{Aside, RotateError, name};
use crate::base::Name;
use crate::base::time::Timestamp;
use crate::sys::attributes::{Handle, set_xattr, xattrs};

/// What begins the names of files that are not finished.
const UNFINISHED: &[u8] = b".lifeboat-rotate-";

/// The directory of a log.
pub struct Place {
    pub dir: OwnedFd,
    pub path: PathBuf,
    pub name: Vec<u8>,
}

/// The log, opened.
pub struct Log {
    pub file: File,
    pub metadata: std::fs::Metadata,
}

/// The logs that a path or a pattern with `*`, `?` and `[…]` in its last part stands for. Those that were set aside
/// are none of them.
pub fn logs_of(pattern: &Path) -> Vec<PathBuf> {
    let last = pattern.file_name().unwrap_or_default().as_bytes();
    if !last.iter().any(|b| b"*?[".contains(b)) {
        return vec![pattern.to_owned()];
    }
    let (Some(dir), Ok(glob)) = (
        pattern.parent(),
        ignore::overrides::OverrideBuilder::new("/")
            .add(&format!("/{}", OsStr::from_bytes(last).to_string_lossy()))
            .and_then(|b| b.build()),
    ) else {
        return Vec::new();
    };
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .filter(|entry| glob.matched(Path::new("/").join(entry.file_name()), false).is_whitelist())
        .map(|entry| entry.path())
        .collect();
    found.sort();
    let names: Vec<Vec<u8>> = found.iter().filter_map(|p| Some(p.file_name()?.as_bytes().to_vec())).collect();
    let is_aside = |path: &PathBuf| {
        let this = path.file_name().unwrap_or_default().as_bytes();
        this.ends_with(name::PACKED) || names.iter().any(|log| name::read(log, this).is_some())
    };
    found.retain(|path| !is_aside(path));
    found
}

impl Place {
    /// Opens the directory of a log without following a link. Below `trusted`, the plan's directory, which the operator
    /// chose, only what comes after it is looked at so.
    pub fn of(log: &Path, trusted: &Path) -> Result<Self, RotateError> {
        let (Some(parent), Some(last)) = (log.parent(), log.file_name()) else {
            return Err(RotateError::Unsafe { path: name_of(log), why: "it is no file's path".to_owned() });
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = match parent.strip_prefix(trusted) {
            Ok(below) => rustix::fs::open(trusted, flags, Mode::empty()).and_then(|base| {
                let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
                openat2(&base, below, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH)
            }),
            Err(_) => openat2(rustix::fs::CWD, parent, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS),
        };
        let dir = opened.map_err(|error| match error {
            rustix::io::Errno::LOOP => {
                RotateError::Unsafe { path: name_of(log), why: "a link is on the way to it".to_owned() }
            }
            error => failed("open the directory", parent)(error.into()),
        })?;
        Ok(Self { dir, path: parent.to_owned(), name: last.as_bytes().to_vec() })
    }

    /// The path of a name here.
    pub fn full(&self, name: &[u8]) -> Name {
        name_of(&self.path.join(OsStr::from_bytes(name)))
    }

    pub fn failed(&self, act: &'static str, name: &[u8]) -> impl FnOnce(io::Error) -> RotateError + use<> {
        failed(act, &self.path.join(OsStr::from_bytes(name)))
    }

    /// Opens a file here that must be a regular one.
    pub fn open(&self, name: &[u8], flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&self.dir, OsStr::from_bytes(name), flags, Mode::empty())?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
    }

    /// Opens the log.
    pub fn open_log(&self) -> Result<Log, RotateError> {
        let refuse = |why: &str| RotateError::Unsafe { path: self.full(&self.name), why: why.to_owned() };
        let file = self.open(&self.name, OFlags::RDWR).map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => refuse("it is a link"),
            Some(libc::ENXIO) => refuse("it is no regular file"),
            None => refuse(&error.to_string()),
            Some(_) => self.failed("open", &self.name)(error),
        })?;
        let metadata = file.metadata().map_err(self.failed("examine", &self.name))?;
        Ok(Log { file, metadata })
    }

    /// Refuses a file that has other names: who may name a file here could make it one that is not theirs. `known` of them are
    /// no reason, nor is the one in the tree that was put aside.
    pub fn refuse_links(&self, log: &Log, known: u64, aside: Option<Aside<'_>>) -> Result<(), RotateError> {
        let names = || Ok(log.file.metadata().map_err(self.failed("examine", &self.name))?.nlink());
        let count = names()?;
        let strange = count.saturating_sub(1 + known);
        if strange == 0 {
            return Ok(());
        }
        // counted again: the name may have been made there for this look, besides another
        if strange == 1 && aside.is_some_and(|aside| self.is_in(log, aside)) && names()? == count {
            return Ok(());
        }
        Err(RotateError::Unsafe {
            path: self.full(&self.name),
            why: format!("it has {count} names (hard links)"),
        })
    }

    // Whether this log has its path in the tree that was put aside too. No link is followed there: one could lead to the only
    // other name of somebody else's file.
    fn is_in(&self, log: &Log, aside: Aside<'_>) -> bool {
        let Ok(parent) = self.path.canonicalize() else { return false };
        let Ok(below) = parent.strip_prefix(aside.live) else { return false };
        let name = OsStr::from_bytes(&self.name);
        let Ok(there) = Self::of(&aside.tree.join(below).join(name), aside.tree) else { return false };
        statat(&there.dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (log.metadata.dev(), log.metadata.ino()))
    }

    /// Makes a file here that nobody else opened, with owner, mode and attributes of another. Its name is in the way
    /// of nobody.
    pub fn create_like(&self, log: &Log) -> io::Result<(Vec<u8>, File)> {
        let name = [UNFINISHED, crate::sys::host::random_hex()?.as_bytes()].concat();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            File::from(openat(&self.dir, OsStr::from_bytes(&name), flags, Mode::from_raw_mode(0o600))?);
        let made = like(&file, log);
        if made.is_err() {
            let _ = self.remove(&name);
        }
        made.map(|()| (name, file))
    }

    pub fn remove(&self, name: &[u8]) -> io::Result<()> {
        Ok(unlinkat(&self.dir, OsStr::from_bytes(name), AtFlags::empty())?)
    }

    /// Gives a file its name, which must be free.
    pub fn rename(&self, from: &[u8], to: &[u8]) -> io::Result<()> {
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        let (from, to) = (OsStr::from_bytes(from), OsStr::from_bytes(to));
        Ok(rustix::fs::renameat_with(&self.dir, from, &self.dir, to, flags)?)
    }

    /// Makes names durable.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.dir)?)
    }

    /// Every name here.
    pub fn names(&self) -> Vec<Vec<u8>> {
        let Ok(dir) = Dir::read_from(&self.dir) else { return Vec::new() };
        let mut names: Vec<Vec<u8>> =
            dir.flatten().map(|entry| entry.file_name().to_bytes().to_vec()).collect();
        names.sort();
        names
    }

    /// What was set aside of this log, oldest first.
    pub fn rotated(&self) -> Vec<(Vec<u8>, Timestamp)> {
        let known = |name: Vec<u8>| name::read(&self.name, &name).map(|(at, _)| (name, at));
        let mut found: Vec<_> = self.names().into_iter().filter_map(known).collect();
        found.sort_by(|a, b| (a.1, &a.0).partial_cmp(&(b.1, &b.0)).unwrap_or(std::cmp::Ordering::Equal));
        found
    }

    /// A name for this time that nothing has, packed or not.
    pub fn free_name(&self, now: Timestamp) -> Result<Vec<u8>, RotateError> {
        let is_there =
            |name: &[u8]| statat(&self.dir, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW).is_ok();
        (1..10_000)
            .map(|again| name::dated(&self.name, now, again))
            .find(|name| !is_there(name) && !is_there(&[name, name::PACKED].concat()))
            .ok_or_else(|| RotateError::Unsafe {
                path: self.full(&self.name),
                why: "no dated name is free".to_owned(),
            })
    }

    /// Throws away what runs that were killed left unfinished.
    pub fn tidy(&self) -> Result<(), RotateError> {
        for name in self.names().into_iter().filter(|name| name.starts_with(UNFINISHED)) {
            // one that somebody works on is locked
            let Ok(file) = self.open(&name, OFlags::RDONLY) else { continue };
            if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok() {
                self.remove(&name).map_err(self.failed("remove", &name))?;
            }
        }
        Ok(())
    }
}

impl Log {
    /// Where its first written byte is: a writer that does not append leaves a hole before it.
    pub fn start(&self) -> u64 {
        match rustix::fs::seek(&self.file, SeekFrom::Data(0)) {
            Ok(at) => at,
            Err(rustix::io::Errno::NXIO) => self.len(),
            Err(_) => 0,
        }
    }

    pub fn len(&self) -> u64 {
        self.file.metadata().map_or(0, |m| m.len())
    }

    pub fn data_size(&self) -> u64 {
        self.len().saturating_sub(self.start())
    }

    /// When it was made, where the file system knows.
    pub fn born(&self) -> Option<Timestamp> {
        Some(Timestamp(self.metadata.created().ok()?.into()))
    }
}

// Owner first: giving a file away takes rights from it.
fn like(file: &File, log: &Log) -> io::Result<()> {
    let _ = rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    let (now, wanted) = (file.metadata()?, &log.metadata);
    if (now.uid(), now.gid()) != (wanted.uid(), wanted.gid()) {
        std::os::unix::fs::fchown(file, Some(wanted.uid()), Some(wanted.gid()))?;
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(wanted.mode() & 0o7777))?;
    for (name, value) in xattrs(Handle::Open(log.file.as_fd()))? {
        // labels of the system are set by itself
        if !name.0.starts_with(b"security.") {
            set_xattr(Handle::Open(file.as_fd()), &name.0, &value)?;
        }
    }
    Ok(())
}

fn name_of(path: &Path) -> Name {
    Name::from(path.as_os_str())
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RotateError + use<> {
    let path = name_of(path);
    move |source| RotateError::Io { act, path, source }
}
