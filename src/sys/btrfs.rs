//! Subvolumes of btrfs: directories that the file system copies in one step, whatever is in them.
//!
//! The requests and their arguments are those of `include/uapi/linux/btrfs.h`; no crate has them.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{Getter, Opcode, Setter, Updater, ioctl, opcode};

const MAGIC: u64 = 0x9123_683e;
// what the directory of a subvolume has as its inode number
const TOP: u64 = 256;

const GROUP: u8 = 0x94;
const DESTROY: Opcode = opcode::write::<Named>(GROUP, 15);
const SNAPSHOT: Opcode = opcode::write::<Wanted>(GROUP, 23);
const INFO: Opcode = opcode::read::<Info>(GROUP, 60);
const CHILDREN: Opcode = opcode::read_write::<Children>(GROUP, 61);

// struct btrfs_ioctl_vol_args
#[repr(C)]
struct Named {
    fd: i64,
    name: [u8; 4088],
}

// struct btrfs_ioctl_vol_args_v2
#[repr(C)]
struct Wanted {
    fd: i64,
    transaction: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

// struct btrfs_ioctl_timespec
#[repr(C)]
#[derive(Clone, Copy)]
struct Moment {
    seconds: u64,
    nanoseconds: u32,
}

// struct btrfs_ioctl_get_subvol_info_args
#[repr(C)]
struct Info {
    tree: u64,
    name: [u8; 256],
    parent: u64,
    directory: u64,
    generation: u64,
    flags: u64,
    // its own first
    uuids: [[u64; 2]; 3],
    transactions: [u64; 4],
    changed: Moment,
    made: Moment,
    sent: Moment,
    received: Moment,
    reserved: [u64; 8],
}

// struct btrfs_ioctl_get_subvol_rootref_args
#[repr(C)]
struct Children {
    least: u64,
    // id and directory of each
    found: [[u64; 2]; 255],
    count: u8,
    padding: [u8; 7],
}

// what the kernel's header says
const _: () = {
    assert!(size_of::<Named>() == 4096 && size_of::<Wanted>() == 4096);
    assert!(size_of::<Info>() == 504 && size_of::<Children>() == 4096);
};

/// A subvolume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subvolume {
    /// The beginning of its UUID, which no other has.
    pub id: u64,
    /// When it was made: seconds since 1970, and nanoseconds after them.
    pub made: (i64, u32),
    /// It has subvolumes in it, which are empty in a copy of it.
    pub has_children: bool,
}

/// The subvolume whose directory this is; `None` if it is something else. A link is not followed.
///
/// # Errors
/// If it cannot be opened, or is one of which the system does not tell more.
pub fn subvolume(path: &Path) -> io::Result<Option<Subvolume>> {
    let found = std::fs::symlink_metadata(path)?;
    if !found.is_dir() || found.ino() != TOP {
        return Ok(None);
    }
    let dir = open(path)?;
    if rustix::fs::fstatfs(&dir)?.f_type as u64 & 0xffff_ffff != MAGIC {
        return Ok(None);
    }
    // SAFETY: the request fills the structure that the kernel's header gives for it, of which any bytes are a value
    let info: Info = unsafe { ioctl(&dir, Getter::<INFO, Info>::new())? };
    let made = (i64::try_from(info.made.seconds).unwrap_or(i64::MAX), info.made.nanoseconds);
    // those that were made by the first kernels that knew them have no UUID
    let id = if info.uuids[0] == [0, 0] { info.tree } else { info.uuids[0][0] };
    Ok(Some(Subvolume { id, made, has_children: has_children(&dir)? }))
}

/// True if this is the directory of a subvolume of which the system tells.
pub fn is_subvolume(path: &Path) -> bool {
    matches!(subvolume(path), Ok(Some(_)))
}

fn has_children(dir: &File) -> io::Result<bool> {
    let mut children = Children { least: 0, found: [[0; 2]; 255], count: 0, padding: [0; 7] };
    // SAFETY: as above; it reads the first field only
    let asked = unsafe { ioctl(dir, Updater::<CHILDREN, Children>::new(&mut children)) };
    match asked {
        // there are more than fit
        Err(rustix::io::Errno::OVERFLOW) => Ok(true),
        other => {
            other?;
            Ok(children.count > 0)
        }
    }
}

/// Makes a copy of a subvolume, of this moment, that can be written to. What is in it has the same inode numbers and times.
///
/// # Errors
/// If it is no subvolume, `to` is there or on another file system, or the user may not.
pub fn copy(of: &Path, to: &Path) -> io::Result<()> {
    let (of, (parent, name)) = (open(of)?, place(to)?);
    let wanted = Wanted {
        fd: i64::from(of.as_fd().as_raw_fd()),
        transaction: 0,
        flags: 0,
        unused: [0; 4],
        name: padded(name)?,
    };
    // SAFETY: the request reads the structure that the kernel's header gives for it, and `of` is open until it returns
    unsafe { ioctl(&parent, Setter::<SNAPSHOT, Wanted>::new(wanted))? };
    Ok(())
}

/// Removes a subvolume with all that is in it, in one step.
///
/// # Errors
/// If it is none, or the user may not: then it can be removed like any directory.
pub fn remove(path: &Path) -> io::Result<()> {
    let (parent, name) = place(path)?;
    let named = Named { fd: 0, name: padded(name)? };
    // SAFETY: as above
    unsafe { ioctl(&parent, Setter::<DESTROY, Named>::new(named))? };
    Ok(())
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

fn place(path: &Path) -> io::Result<(File, &[u8])> {
    let (parent, name) = path.parent().zip(path.file_name()).ok_or(io::ErrorKind::InvalidInput)?;
    Ok((File::open(parent)?, name.as_bytes()))
}

// Ended by a zero, as C has it.
fn padded<const N: usize>(name: &[u8]) -> io::Result<[u8; N]> {
    let mut out = [0; N];
    if name.is_empty() || name.len() > 255 || name.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    out[..name.len()].copy_from_slice(name);
    Ok(out)
}
