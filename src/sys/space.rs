//! What a file system is, and how much room it has.

use std::io;
use std::path::Path;

/// Room on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes this process may still write.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Files that may still be made.
    pub free_inodes: u64,
    /// Files in all; 0 where the file system sets no limit.
    pub total_inodes: u64,
}

/// The room where this path lies.
///
/// # Errors
/// If the path does not exist.
pub fn space(path: &Path) -> io::Result<Space> {
    let found = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(Space {
        free_bytes: bytes(found.f_bavail),
        total_bytes: bytes(found.f_blocks),
        free_inodes: found.f_favail,
        total_inodes: found.f_files,
    })
}

/// How far what was synced to a file system survives a loss of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// It is on a disk of this host.
    Disk,
    /// It is in memory: nothing survives.
    Memory,
    /// It is on another host, and what a sync promises is that host's affair.
    Remote,
    /// Nothing is known.
    Unknown,
}

/// The name of the file system that this path lies on, and what it keeps.
///
/// # Errors
/// If the path does not exist.
pub fn file_system(path: &Path) -> io::Result<(&'static str, Keeps)> {
    let magic = rustix::fs::statfs(path)?.f_type as u64 & 0xffff_ffff; // the type differs by processor
    Ok(match magic {
        0xef53 => ("ext4", Keeps::Disk),
        0x5846_5342 => ("xfs", Keeps::Disk),
        0x9123_683e => ("btrfs", Keeps::Disk),
        0x2fc1_2fc1 => ("zfs", Keeps::Disk),
        0xf2f5_2010 => ("f2fs", Keeps::Disk),
        0xca45_1a4e => ("bcachefs", Keeps::Disk),
        0x0102_1994 => ("tmpfs", Keeps::Memory),
        0x8584_58f6 => ("ramfs", Keeps::Memory),
        0x6969 => ("nfs", Keeps::Remote),
        0xff53_4d42 | 0xfe53_4d42 => ("smb", Keeps::Remote),
        0x0102_1997 => ("9p", Keeps::Remote),
        0x6573_5546 => ("fuse", Keeps::Remote),
        0x00c3_6400 => ("ceph", Keeps::Remote),
        0x0bd0_0bd0 => ("lustre", Keeps::Remote),
        0x1983_0326 => ("beegfs", Keeps::Remote),
        0x5346_414f => ("afs", Keeps::Remote),
        0x0116_1970 => ("gfs2", Keeps::Remote),
        0x7461_636f => ("ocfs2", Keeps::Remote),
        0x786f_4256 => ("vboxsf", Keeps::Remote),
        0x794c_7630 => ("overlayfs", Keeps::Unknown),
        _ => ("a file system without a known name", Keeps::Unknown),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_somewhere() {
        let space = space(Path::new("/")).unwrap();
        assert!(space.free_bytes <= space.total_bytes);
        assert!(super::space(Path::new("/does/not/exist")).is_err());
        file_system(Path::new("/")).unwrap();
    }
}
