//! What is there and forbids changes by its inode flags (`chattr +i`, `+a`): opened up where flags are restored too, else
//! left, and said so.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::attributes::Powers;
use super::directory::stat_in;
use crate::format::manifest::Type;
use crate::sys::attributes::{is_sealed, unseal};
use crate::tree::live::open_in;

/// Why something stays as it is.
pub fn refused() -> io::Error {
    io::Error::other("it is immutable or append-only (chattr): give --flags, as root, to change it")
}

/// After a change of what is at this name was refused: takes the flags away that forbid it, so that it can be tried again.
///
/// # Errors
/// If that is not asked for, or is not why it was refused.
pub fn open_up(dir: BorrowedFd<'_>, name: &[u8], powers: &Powers) -> io::Result<()> {
    match sealed(dir, name)? {
        None => Err(Errno::PERM.into()),
        Some(fd) if powers.sets_flags() => unseal(fd.as_fd()),
        Some(_) => Err(refused()),
    }
}

// What is at the name, if its flags forbid changes.
fn sealed(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<OwnedFd>> {
    let kind = stat_in(dir, name)?.map(|live| live.stat.kind);
    // nothing else has flags, and some things do not bear being opened
    if !matches!(kind, Some(Type::File | Type::Dir)) {
        return Ok(None);
    }
    Ok(Some(open_in(dir, name, OFlags::RDONLY)?).filter(|fd| is_sealed(fd.as_fd())))
}

/// Why a change of what is at this name was refused, in words where its flags are the reason.
pub fn explained(dir: BorrowedFd<'_>, name: &[u8], error: io::Error) -> io::Error {
    let refused_it = error.kind() == io::ErrorKind::PermissionDenied;
    if refused_it && matches!(sealed(dir, name), Ok(Some(_))) { refused() } else { error }
}

/// Does something to what is at a name; once more after [`open_up`], if it was refused.
///
/// # Errors
/// As what is done, or [`open_up`].
pub fn insist(
    dir: BorrowedFd<'_>,
    name: &[u8],
    powers: &Powers,
    act: impl Fn() -> Result<(), Errno>,
) -> Result<(), io::Error> {
    match act() {
        Err(Errno::PERM) => {
            open_up(dir, name, powers)?;
            Ok(act()?)
        }
        other => Ok(other?),
    }
}
