//! One entry of live data copied to another subvolume: all that is not a directory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dev, FileType, Gid, Mode, OFlags, Uid};

use super::carry::{give_attributes, io_error, set_times_of};
use super::types::RollbackError;
use crate::sys::attributes::{Handle, set_xattr, xattrs};
use crate::tree::live::open_path;

/// Copies what `found` was said of to `target`, where nothing is, with owner, mode, attributes and times. The blocks of a file are
/// shared.
///
/// # Errors
/// If it cannot be done. What its writer removed meanwhile is no error, and not there.
pub fn copy(source: &Path, found: &fs::Metadata, target: &Path) -> Result<(), RollbackError> {
    let kind = found.file_type();
    let done = if kind.is_file() {
        copy_content(source, target)
    } else if kind.is_symlink() {
        fs::read_link(source).and_then(|leads_to| std::os::unix::fs::symlink(leads_to, target))
    } else {
        let kind = FileType::from_raw_mode(found.mode());
        let device = found.rdev() as Dev;
        rustix::fs::mknodat(CWD, target, kind, Mode::RUSR | Mode::WUSR, device).map_err(io::Error::from)
    };
    match done {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("copy to", target)(error)),
    }
    if kind.is_file() {
        give_attributes(source, target)?;
    } else {
        give_special(source, found, target).map_err(io_error("set the owner or mode of", target))?;
    }
    set_times_of(found, target)
}

fn copy_content(source: &Path, target: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut from = File::from(rustix::fs::open(source, flags, Mode::empty())?);
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
    match rustix::fs::ioctl_ficlone(&to, &from) {
        Ok(()) => Ok(()),
        // a file whose blocks may not be shared
        Err(_) => io::copy(&mut from, &mut to).map(drop),
    }
}

// Of what cannot be opened without doing something.
fn give_special(source: &Path, found: &fs::Metadata, target: &Path) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(found.uid()), Gid::from_raw(found.gid()));
    rustix::fs::chownat(CWD, target, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    if !found.is_symlink() {
        rustix::fs::chmodat(CWD, target, Mode::from_raw_mode(found.mode() & 0o7777), AtFlags::empty())?;
    }
    let open = |path: &Path| open_path(CWD, path.as_os_str().as_bytes());
    let (have, made) = (open(source)?, open(target)?);
    for (name, value) in xattrs(Handle::Path(have.as_fd()))? {
        set_xattr(Handle::Path(made.as_fd()), &name.0, &value)?;
    }
    Ok(())
}
