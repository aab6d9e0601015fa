//! Live data gets its names in another tree too: files by hard links, so that both trees hold the same ones.
//!
//! Nothing is ever taken from the tree that has it. So a rollback that ends at any moment loses none of it, and one that
//! goes back finds what was written meanwhile.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, Uid};

use super::types::RollbackError;
use crate::base::Name;
use crate::sys::attributes::{Handle, set_xattr, xattrs};

/// Gives everything at these paths below `from` its names below `to`, in place of what is there.
///
/// # Errors
/// If it cannot be done; `from` is as it was.
pub fn carry(from: &Path, to: &Path, paths: &[Name]) -> Result<(), RollbackError> {
    for path in paths {
        let relative = Path::new(path.as_os_str());
        let (source, target) = (from.join(relative), to.join(relative));
        // what is gone meanwhile is gone
        if fs::symlink_metadata(&source).is_err() {
            continue;
        }
        if let Some(parent) = relative.parent() {
            make_parents(from, to, parent)?;
        }
        // the directory around it keeps the time that the snapshot gave it
        let around = target.parent().unwrap_or(to);
        let times = fs::symlink_metadata(around).map_err(io_error("read", around))?;
        clear(&target)?;
        link_all(&source, &target)?;
        set_times_of(&times, around)?;
    }
    Ok(())
}

fn io_error(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RollbackError {
    let path = Name::from(path.as_os_str());
    move |source| RollbackError::Io { act, path, source }
}

/// Removes what is at a path, if anything is. Links are removed, never followed.
pub fn clear(path: &Path) -> Result<(), RollbackError> {
    let removed = match fs::symlink_metadata(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(error) => Err(error),
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    removed.map_err(io_error("remove", path))
}

fn make_parents(from: &Path, to: &Path, relative: &Path) -> Result<(), RollbackError> {
    let mut done = std::path::PathBuf::new();
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

fn link_all(source: &Path, target: &Path) -> Result<(), RollbackError> {
    let found = fs::symlink_metadata(source).map_err(io_error("read", source))?;
    if !found.is_dir() {
        return match rustix::fs::linkat(CWD, source, CWD, target, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(error) => Err(io_error("link to", target)(error.into())),
        };
    }
    make_directory(source, target)?;
    for entry in fs::read_dir(source).map_err(io_error("list", source))? {
        let entry = entry.map_err(io_error("list", source))?;
        match link_all(&entry.path(), &target.join(entry.file_name())) {
            // a file that its writer removed since it was listed
            Err(RollbackError::Io { source: error, .. }) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    // making entries changed its time
    set_times(source, target)
}

fn make_directory(source: &Path, target: &Path) -> Result<(), RollbackError> {
    let found = fs::symlink_metadata(source).map_err(io_error("read", source))?;
    fs::DirBuilder::new().mode(0o700).create(target).map_err(io_error("make the directory", target))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
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
    for (name, value) in
        xattrs(Handle::Open(have.as_fd())).map_err(io_error("read the attributes of", source))?
    {
        set_xattr(Handle::Open(made.as_fd()), &name.0, &value)
            .map_err(io_error("set the attributes of", target))?;
    }
    set_times(source, target)
}

fn set_times(source: &Path, target: &Path) -> Result<(), RollbackError> {
    let found = fs::symlink_metadata(source).map_err(io_error("read", source))?;
    set_times_of(&found, target)
}

fn set_times_of(found: &fs::Metadata, target: &Path) -> Result<(), RollbackError> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: found.atime(), tv_nsec: found.atime_nsec() },
        last_modification: Timespec { tv_sec: found.mtime(), tv_nsec: found.mtime_nsec() },
    };
    let set = rustix::fs::utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW);
    set.map_err(|e| io_error("set the time of", target)(e.into()))
}
