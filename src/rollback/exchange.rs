//! Two directories change their names in one step.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags};

use super::moment::moment;
use super::types::RollbackError;
use crate::base::Name;

/// Exchanges the names of two entries of one directory: at every moment each name leads to one of the two. Durable
/// when it returns.
///
/// # Errors
/// If the file system cannot; then nothing has changed.
pub fn exchange(one: &Path, other: &Path) -> Result<(), RollbackError> {
    let failed = |act: &'static str, path: &Path| {
        let path = Name::from(path.as_os_str());
        move |source: io::Error| RollbackError::Io { act, path, source }
    };
    moment("before the exchange");
    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
        .map_err(|error| failed("exchange the names of", one)(error.into()))?;
    moment("the exchange");
    let Some(parent) = one.parent() else { return Ok(()) };
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed("sync the directory", parent))
}

/// Makes all that was done in a tree durable, before the exchange is. Where one journal takes every change of a file system in its
/// order, syncing the exchange does that. Elsewhere (btrfs logs only what is synced) a power loss could leave the exchange
/// without the names that live data got just before.
///
/// # Errors
/// If the system refuses.
pub fn settle_names(tree: &Path) -> Result<(), RollbackError> {
    const ORDERED: [rustix::fs::FsWord; 2] = [0xef53, 0x5846_5342]; // ext4, XFS
    let sync = || -> io::Result<()> {
        let tree = File::open(tree)?;
        if ORDERED.contains(&rustix::fs::fstatfs(&tree)?.f_type) {
            return Ok(());
        }
        Ok(rustix::fs::syncfs(&tree)?)
    };
    sync().map_err(|source| RollbackError::Io { act: "sync", path: Name::from(tree.as_os_str()), source })
}

/// So often it is tried again when somebody else probes at the same time.
const TRIES: usize = 5;

/// Whether names can be exchanged beside a tree, by doing it with two empty directories. One that is cut off leaves a directory
/// that the next one removes.
///
/// # Errors
/// Why not.
pub fn probe(parent: &Path, tree: &OsStr) -> io::Result<()> {
    let mut name = OsString::from(".lifeboat-probe-");
    name.push(tree);
    let place = parent.join(name);
    let mut tries = 0;
    loop {
        let tried = exchange_in(&place);
        let removed = fs::remove_dir_all(&place);
        tries += 1;
        match tried {
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < TRIES => {}
            Ok(()) => {
                return removed.or_else(|error| match error.kind() {
                    io::ErrorKind::NotFound => Ok(()),
                    _ => Err(error),
                });
            }
            failed => return failed,
        }
    }
}

fn exchange_in(place: &Path) -> io::Result<()> {
    let make = |path: &Path| match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !path.is_symlink() => Ok(()),
        other => other,
    };
    let (one, other) = (place.join("1"), place.join("2"));
    make(place).and_then(|()| make(&one)).and_then(|()| make(&other))?;
    Ok(rustix::fs::renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE)?)
}

/// Whether a directory lies on an overlay file system.
pub fn is_overlay(path: &Path) -> bool {
    const OVERLAY: rustix::fs::FsWord = 0x794c_7630;
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type == OVERLAY)
}

/// Whether files of this directory can share blocks, by trying it with two small ones.
pub fn shares_blocks(parent: &Path) -> bool {
    let try_it = || -> io::Result<()> {
        let mut one = tempfile::tempfile_in(parent)?;
        io::Write::write_all(&mut one, &[1; 4096])?;
        let other = tempfile::tempfile_in(parent)?;
        Ok(rustix::fs::ioctl_ficlone(&other, &one)?)
    };
    try_it().is_ok()
}

/// Mount points at a path or below it, from the table of this process.
///
/// # Errors
/// If the table cannot be read.
pub fn mounts_within(root: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let table = fs::read("/proc/self/mountinfo")?;
    let points = table.split(|&b| b == b'\n').filter_map(|line| line.split(|&b| b == b' ').nth(4));
    let mut found: Vec<_> = points.map(unescaped).filter(|point| point.starts_with(root)).collect();
    found.sort();
    found.dedup();
    Ok(found)
}

// The kernel writes blanks, tabs, newlines and backslashes in octal.
fn unescaped(field: &[u8]) -> std::path::PathBuf {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < field.len() {
        let octal = field.get(at + 1..at + 4).filter(|_| field[at] == b'\\');
        let octal = octal.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        out.push(octal.unwrap_or(field[at]));
        at += if octal.is_some() { 4 } else { 1 };
    }
    Name(out).as_os_str().into()
}
