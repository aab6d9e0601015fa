//! Extended attributes, inode flags and holes of files, by descriptor.
//!
//! What can only be opened with `O_PATH` (symlinks, devices, sockets, fifos) is reached through
//! `/proc/self/fd`, whose links lead to the very inode that was opened, whatever happened to its
//! name since.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

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

/// The names of an entry's attributes, each ended by a zero byte, without opening it and without following
/// a link; returns how many bytes there are.
///
/// # Errors
/// `RANGE` if the buffer is too small, `OPNOTSUPP` where the file system has no attributes.
pub fn list_names_at(dir: BorrowedFd<'_>, name: &[u8], buffer: &mut [u8]) -> Result<usize, Errno> {
    // whether the kernel has the call (Linux 6.13); without it, a path through /proc costs three times as much
    static MISSING: AtomicBool = AtomicBool::new(false);
    if !MISSING.load(Ordering::Relaxed) {
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        match listxattrat(dir, &name, buffer) {
            Err(Errno::NOSYS) => MISSING.store(true, Ordering::Relaxed),
            other => return other,
        }
    }
    let mut path = proc_path(dir).into_bytes();
    path.push(b'/');
    path.extend_from_slice(name);
    rustix::fs::llistxattr(&*path, buffer)
}

fn listxattrat(dir: BorrowedFd<'_>, name: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
    /// The same on every architecture, as of all calls since Linux 5.1.
    const LISTXATTRAT: libc::c_long = 465;
    // SAFETY: the name ends with a zero byte, and the kernel writes at most `buffer.len()` bytes into `buffer`.
    #[allow(unsafe_code, reason = "no crate has this call yet")]
    let size = unsafe {
        libc::syscall(
            LISTXATTRAT,
            dir.as_raw_fd(),
            name.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    };
    usize::try_from(size).map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
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

/// The flags that forbid to change, rename or remove an inode, or what is in it.
const SEALS: IFlags = IFlags::IMMUTABLE.union(IFlags::APPEND);

/// True if the inode is immutable or append-only.
pub fn is_sealed(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::ioctl_getflags(fd).is_ok_and(|set| set.intersects(SEALS))
}

/// Takes these two flags away.
///
/// # Errors
/// If the file system refuses.
pub fn unseal(fd: BorrowedFd<'_>) -> io::Result<()> {
    let set = rustix::fs::ioctl_getflags(fd)?;
    Ok(rustix::fs::ioctl_setflags(fd, set.difference(SEALS))?)
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
    fn names_are_listed_without_opening() {
        let dir = tempfile::tempdir().unwrap();
        let fd = std::fs::File::open(dir.path()).unwrap();
        let file = std::fs::File::create(dir.path().join("file")).unwrap();
        std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
        let mut buffer = [0; 256];
        let labels =
            |names: &[u8]| names.split(|b| *b == 0).all(|n| n.is_empty() || n.starts_with(b"security."));
        for name in [&b"file"[..], b"link"] {
            let size = list_names_at(fd.as_fd(), name, &mut buffer).unwrap();
            assert!(labels(&buffer[..size]));
        }
        if set_xattr(Handle::Open(file.as_fd()), b"user.some", b"value").is_ok() {
            let size = list_names_at(fd.as_fd(), b"file", &mut buffer).unwrap();
            assert!(buffer[..size].split(|b| *b == 0).any(|n| n == b"user.some"));
            assert_eq!(list_names_at(fd.as_fd(), b"file", &mut buffer[..3]), Err(Errno::RANGE));
            // not of what the link leads to
            let size = list_names_at(fd.as_fd(), b"link", &mut buffer).unwrap();
            assert!(labels(&buffer[..size]));
        }
        assert_eq!(list_names_at(fd.as_fd(), b"none", &mut buffer), Err(Errno::NOENT));
    }

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
