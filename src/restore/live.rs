//! Comparing an entry with what is there.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::attributes::Powers;
use super::{Overwrite, Owner};
use crate::format::manifest::{Entry, Stat, Time, Type};
use crate::repo::ChunkIndex;
use crate::repo::content::same_stream;
use crate::sys::attributes::{Handle, flags, holes, list_names_at, xattrs};
use crate::tree::live::{open_in, open_path};

/// What is to be done with something that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// It is as it should be.
    Same,
    /// Owner, mode, times or attributes differ.
    Attributes,
    /// It must be made anew.
    Replace,
    /// It differs but stays, because of the overwrite mode.
    Keep,
}

/// Compares an entry (no directory) with what is there under its name.
pub fn meet(
    entry: &Entry,
    live: &Stat,
    (dir, name): (BorrowedFd<'_>, &[u8]),
    overwrite: Overwrite,
    powers: &Powers,
    index: &ChunkIndex,
) -> Meeting {
    if overwrite == Overwrite::Never {
        return Meeting::Keep;
    }
    if entry.stat.kind != live.kind {
        return if overwrite.keeps(entry, live) { Meeting::Keep } else { Meeting::Replace };
    }
    let same = match entry.stat.kind {
        Type::File => match overwrite {
            // a name too many would be written through
            _ if live.links > 1 && entry.stat.links < 2 => false,
            // times and sizes say nothing of one whose log may have been merged into its copy, or not
            _ if entry.database && !entry.exact => same_content(entry, live, dir, name, index),
            Overwrite::IfTouched(trusted_before) if is_untouched(entry, live, trusted_before) => true,
            Overwrite::Always | Overwrite::IfTouched(_) => same_content(entry, live, dir, name, index),
            _ => entry.stat.size == live.size && entry.stat.mtime == live.mtime,
        },
        Type::Symlink => {
            let target = rustix::fs::readlinkat(dir, name, Vec::with_capacity(256));
            target.is_ok_and(|t| Some(t.to_bytes()) == entry.target.as_deref())
        }
        _ => entry.stat.device == live.device,
    };
    if !same {
        return if overwrite.keeps(entry, live) { Meeting::Keep } else { Meeting::Replace };
    }
    if powers.attributes_differ(entry, live)
        || !same_xattrs(entry, dir, name)
        || powers.sets_flags() && !same_flags(entry, dir, name)
    {
        // what has other names may have them outside the target, and those would change too
        return if live.links > 1 { Meeting::Replace } else { Meeting::Attributes };
    }
    Meeting::Same
}

impl Overwrite {
    /// True if something that is there stays whatever it is, where the snapshot has something else.
    pub(super) fn keeps(self, entry: &Entry, live: &Stat) -> bool {
        match self {
            Self::Never => true,
            Self::IfNewer => entry.stat.mtime <= live.mtime,
            Self::IfChanged | Self::Always | Self::IfTouched(_) => false,
        }
    }
}

/// True if `fstat` says of a living file what the manifest does, and it changed for the last time before this, so that a further
/// change would show.
pub fn is_untouched(entry: &Entry, live: &Stat, trusted_before: Time) -> bool {
    let kept = &entry.stat;
    let times = |stat: &Stat| (stat.size, stat.mtime, stat.ctime, stat.inode);
    times(live) == times(kept) && kept.ctime < trusted_before
}

/// True if a file is what an entry says, its content read and held against the hashes; how many names it has does not count.
pub fn is_same_but_names(
    entry: &Entry,
    live: &Stat,
    at: (BorrowedFd<'_>, &[u8]),
    powers: &Powers,
    index: &ChunkIndex,
) -> bool {
    let live = Stat { links: entry.stat.links, ..*live };
    meet(entry, &live, at, Overwrite::Always, powers, index) == Meeting::Same
}

impl Powers {
    /// True if owner, mode or time differ in a way that a restore would mend.
    pub fn attributes_differ(&self, entry: &Entry, live: &Stat) -> bool {
        let owner = match self.owner() {
            Owner::Number => (entry.stat.uid, entry.stat.gid) != (live.uid, live.gid),
            // settled by looking closer
            Owner::Name => true,
            Owner::Mine => false,
        };
        let mode = entry.stat.kind != Type::Symlink && entry.stat.mode != live.mode;
        owner || mode || entry.stat.mtime != live.mtime
    }
}

fn same_flags(entry: &Entry, dir: BorrowedFd<'_>, name: &[u8]) -> bool {
    entry.stat.kind != Type::File
        || open_in(dir, name, OFlags::RDONLY).is_ok_and(|fd| flags(fd.as_fd()) == entry.flags)
}

// One call finds out that there are no attributes, which is nearly always so.
fn same_xattrs(entry: &Entry, dir: BorrowedFd<'_>, name: &[u8]) -> bool {
    match list_names_at(dir, name, &mut [0; 256]) {
        Ok(0) | Err(Errno::OPNOTSUPP) => entry.xattrs.is_empty(),
        Ok(_) | Err(Errno::RANGE) => open_path(dir, name).is_ok_and(|fd| {
            xattrs(Handle::Path(fd.as_fd())).is_ok_and(|have| same_but_labels(&have, &entry.xattrs))
        }),
        Err(_) => false,
    }
}

// Labels of security modules that the snapshot does not have belong to this host.
fn same_but_labels(have: &[(crate::base::Name, Vec<u8>)], wanted: &[(crate::base::Name, Vec<u8>)]) -> bool {
    let label = |name: &[u8]| name.starts_with(b"security.") && name != b"security.capability";
    let kept = have.iter().filter(|(n, _)| !label(&n.0) || wanted.iter().any(|(w, _)| w == n));
    kept.eq(wanted.iter())
}

fn same_content(entry: &Entry, live: &Stat, dir: BorrowedFd<'_>, name: &[u8], index: &ChunkIndex) -> bool {
    let read = || -> std::io::Result<bool> {
        if entry.stat.size != live.size {
            return Ok(false);
        }
        let fd = open_in(dir, name, OFlags::RDONLY)?;
        let live_holes = if entry.holes.is_empty() {
            Vec::new()
        } else {
            holes(fd.as_fd(), live.size).unwrap_or_default()
        };
        if live_holes != entry.holes {
            return Ok(false);
        }
        same_stream(fd, entry, index)
    };
    read().unwrap_or(false)
}
