//! Extended attributes, inode flags and holes of files, by descriptor.
//!
//! What can only be opened with `O_PATH` (symlinks, devices, sockets, fifos) is reached through
//! `/proc/self/fd`, whose links lead to the very inode that was opened, whatever happened to its
//! name since.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{IFlags, SeekFrom, XattrFlags};
use rustix::io::Errno;

use crate::base::Name;

/// The letters of inode flags that are kept, as `chattr` writes them.
const FLAGS: [(char, IFlags); 5] = [
    ('i', IFlags::IMMUTABLE),
    ('a', IFlags::APPEND),
    ('d', IFlags::NODUMP),
    ('A', IFlags::NOATIME),
    ('C', IFlags::NOCOW),
];

fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// How a file's attributes are reached.
#[derive(Clone, Copy)]
pub enum Handle<'a> {
    /// Opened for reading or writing.
    Open(BorrowedFd<'a>),
    /// Opened with `O_PATH`.
    Path(BorrowedFd<'a>),
}

impl Handle<'_> {
    fn list(self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => rustix::fs::flistxattr(fd, buffer),
            Self::Path(fd) => rustix::fs::listxattr(proc_path(fd), buffer),
        }
    }

    fn get(self, name: &[u8], buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fgetxattr(fd, name, buffer),
            Self::Path(fd) => rustix::fs::getxattr(proc_path(fd), name, buffer),
        }
    }

    fn set(self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Path(fd) => rustix::fs::setxattr(proc_path(fd), name, value, XattrFlags::empty()),
        }
    }

    fn remove(self, name: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fremovexattr(fd, name),
            Self::Path(fd) => rustix::fs::removexattr(proc_path(fd), name),
        }
    }
}

// Calls with a buffer that is large enough: tries a larger one when it was not.
fn growing(first: usize, mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; first];
    for _ in 0..8 {
        match call(&mut buffer) {
            Ok(size) => {
                buffer.truncate(size);
                return Ok(buffer);
            }
            // asking for the size with an empty buffer is answered with 0 by the wrapper, so it is guessed:
            // Linux gives attributes and lists of names at most 64 KiB
            Err(Errno::RANGE) => buffer.resize(buffer.len() * 4, 0),
            Err(e) => return Err(e),
        }
    }
    Err(Errno::RANGE)
}

/// All extended attributes, sorted by name. Empty where the file system has none.
///
/// # Errors
/// If they cannot be read.
pub fn xattrs(handle: Handle<'_>) -> io::Result<Vec<(Name, Vec<u8>)>> {
    let mut guess = [0; 512];
    let names = match handle.list(&mut guess) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Ok(size) => guess[..size].to_vec(),
        Err(Errno::RANGE) => growing(64 << 10, |b| handle.list(b))?,
        Err(e) => return Err(e.into()),
    };
    let mut found = Vec::new();
    for name in names.split(|&b| b == 0).filter(|n| !n.is_empty()) {
        match growing(4096, |b| handle.get(name, b)) {
            Ok(value) => found.push((Name(name.to_vec()), value)),
            // removed since it was listed, or only listed (some system.* names)
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e.into()),
        }
    }
    found.sort_by(|a, b| a.0.0.cmp(&b.0.0));
    Ok(found)
}

/// Sets one extended attribute.
///
/// # Errors
/// If the system or file system refuses.
pub fn set_xattr(handle: Handle<'_>, name: &[u8], value: &[u8]) -> io::Result<()> {
    Ok(handle.set(name, value)?)
}

/// Removes one extended attribute; one that is gone is removed.
///
/// # Errors
/// If it is still there.
pub fn remove_xattr(handle: Handle<'_>, name: &[u8]) -> io::Result<()> {
    match handle.remove(name) {
        Err(Errno::NODATA) => Ok(()),
        other => Ok(other?),
    }
}

/// The inode flags that are kept, as letters; empty where the file system has none.
pub fn flags(fd: BorrowedFd<'_>) -> String {
    let Ok(set) = rustix::fs::ioctl_getflags(fd) else { return String::new() };
    if !set.intersects(FLAGS.iter().fold(IFlags::empty(), |all, f| all | f.1)) {
        return String::new();
    }
    FLAGS.iter().filter(|(_, flag)| set.contains(*flag)).map(|(letter, _)| *letter).collect()
}

/// Sets the inode flags of these letters and leaves all others as they are.
///
/// # Errors
/// If the file system refuses.
pub fn set_flags(fd: BorrowedFd<'_>, letters: &str) -> io::Result<()> {
    let mut set = rustix::fs::ioctl_getflags(fd)?;
    for (letter, flag) in FLAGS {
        set.set(flag, letters.contains(letter));
    }
    Ok(rustix::fs::ioctl_setflags(fd, set)?)
}

/// Offset and length of the holes of a file of `size` bytes, in order.
///
/// # Errors
/// If the file cannot be examined, or changes meanwhile so that the answer makes no sense.
pub fn holes(fd: BorrowedFd<'_>, size: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < size {
        let hole = match rustix::fs::seek(fd, SeekFrom::Hole(at)) {
            Ok(offset) => offset.min(size),
            Err(Errno::NXIO) => break,
            // no way to ask: everything is data
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        };
        if hole >= size {
            break;
        }
        let data = match rustix::fs::seek(fd, SeekFrom::Data(hole)) {
            Ok(offset) => offset.min(size),
            Err(Errno::NXIO) => size,
            Err(e) => return Err(e.into()),
        };
        if data <= hole {
            return Err(io::Error::other("the file's holes changed while they were listed"));
        }
        found.push((hole, data - hole));
        at = data;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn large_attributes_are_read_whole() {
        let file = tempfile::tempfile_in("/dev/shm").or_else(|_| tempfile::tempfile()).unwrap();
        let handle = Handle::Open(file.as_fd());
        for size in [65_536, 4097, 4000] {
            // what this file system does not take cannot be read back either
            if set_xattr(handle, b"user.large", &vec![7; size]).is_ok() {
                assert_eq!(xattrs(handle).unwrap(), [(Name::from("user.large"), vec![7; size])]);
            }
        }
    }
}
