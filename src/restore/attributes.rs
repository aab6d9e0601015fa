//! Setting what an entry has besides content, in the order that keeps each part: owner, mode,
//! attributes, capabilities, flags, times. A change of owner clears setuid and capabilities.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use super::report::{Collector, Loss};
use super::{Options, Owner};
use crate::base::Name;
use crate::format::manifest::{Entry, Stat, Time, Type};
use crate::sys::attributes::{Handle, remove_xattr, set_flags, set_xattr, xattrs};
use crate::sys::host::umask;
use crate::sys::names::Names;
use crate::tree::live::LiveStat;

const CAPABILITY: &[u8] = b"security.capability";
const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

/// What this process may and is asked to set.
#[derive(Clone, Copy)]
pub struct Powers {
    owner: Owner,
    flags: bool,
    uid: u32,
    gid: u32,
    // new files may inherit an ACL from the target
    inherits: bool,
    // what the system takes from the mode of whatever is made; it is the whole process's, so it is not changed
    umask: u32,
}

impl Powers {
    /// What these options allow. `target` is asked whether files made in it inherit an ACL.
    pub fn new(options: &Options, target: Option<BorrowedFd<'_>>) -> Self {
        let inherits = target.is_some_and(|fd| {
            xattrs(Handle::Open(fd)).is_ok_and(|all| all.iter().any(|(name, _)| name.0 == ACL_DEFAULT))
        });
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self { owner: options.owner, flags: options.flags, uid, gid, inherits, umask: umask() }
    }

    /// The bits that the system takes from the mode of whatever is made.
    pub fn umask(&self) -> u32 {
        self.umask
    }

    /// How owners are restored.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// True if inode flags are set, and taken away where they are in the way.
    pub fn sets_flags(&self) -> bool {
        self.flags
    }

    /// True if what is made in the target may inherit an ACL.
    pub fn inherits(&self) -> bool {
        self.inherits
    }

    /// The owner that an entry gets, if that is not the one its file is made with.
    fn owner_of(&self, entry: &Entry, names: &mut Names) -> Option<(u32, u32)> {
        let (uid, gid) = match self.owner {
            Owner::Mine => return None,
            Owner::Number => (entry.stat.uid, entry.stat.gid),
            Owner::Name => {
                let user = entry.user.as_ref().and_then(|name| names.user_number(name));
                let group = entry.group.as_ref().and_then(|name| names.group_number(name));
                (user.unwrap_or(entry.stat.uid), group.unwrap_or(entry.stat.gid))
            }
        };
        Some((uid, gid))
    }

    /// Counts what a new file or directory would lose for want of rights. Whether the file system takes its attributes and
    /// times only a run itself can tell.
    pub fn imagine(&self, entry: &Entry, names: &mut Names, collector: &Collector<'_>) {
        let owner = self.owner_of(entry, names);
        let is_owned = owner.is_some_and(|owner| self.may_give_to(owner));
        if owner.is_some() && !is_owned {
            collector.loss(Loss::Owner);
        }
        let capability = entry.xattrs.iter().any(|(name, _)| name.0 == CAPABILITY);
        if !is_owned && (capability || entry.stat.mode & 0o6000 != 0) {
            collector.loss(Loss::Privilege);
        }
        if !self.flags && !entry.flags.is_empty() {
            collector.loss(Loss::Flags);
        }
    }

    fn may_give_to(&self, (uid, gid): (u32, u32)) -> bool {
        if uid == u32::MAX || gid == u32::MAX {
            return false;
        }
        let in_group = || {
            let groups = rustix::process::getgroups().unwrap_or_default();
            gid == self.gid || groups.iter().any(|group| group.as_raw() == gid)
        };
        self.uid == 0 || uid == self.uid && in_group()
    }

    /// The mode with which a new directory can be made: what its owner needs to fill it, and for others what they will have.
    pub fn first_directory_mode(&self, entry: Option<&Entry>) -> Mode {
        let others = entry.map_or(0, |entry| self.first_mode(entry).as_raw_mode() & 0o077);
        Mode::from_raw_mode(0o700 | others)
    }

    /// The mode with which a new file can be made at once: its final one, if nothing can make that
    /// wider than it will be; else readable by nobody else.
    pub fn first_mode(&self, entry: &Entry) -> Mode {
        let mine = entry.stat.uid == self.uid && entry.stat.gid == self.gid;
        let plain = entry.stat.mode & 0o7000 == 0 && entry.xattrs.is_empty() && !self.inherits;
        Mode::from_raw_mode(if mine && plain { entry.stat.mode } else { 0o600 })
    }
}

/// What a file has now, so that only what differs is set.
#[derive(Clone, Copy)]
pub struct Now {
    /// Owner's number.
    pub uid: u32,
    /// Group's number.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Time of change of content, if known.
    pub mtime: Option<Time>,
    /// It was there before and may have attributes.
    pub old: bool,
}

impl Now {
    /// Of a file that was just made with this mode in a directory of this run.
    pub fn fresh(powers: &Powers, mode: Mode) -> Self {
        // where an ACL is inherited the mask counts for nothing, and `old` says that it has to be looked at
        let mode = mode.as_raw_mode() & !powers.umask;
        Self { uid: powers.uid, gid: powers.gid, mode, mtime: None, old: powers.inherits }
    }

    /// Of something that was there.
    pub fn of(stat: &Stat) -> Self {
        Self { uid: stat.uid, gid: stat.gid, mode: stat.mode, mtime: Some(stat.mtime), old: true }
    }
}

/// Sets everything that differs. The file must be open for reading or writing, or be reached by
/// `O_PATH` if it is neither file nor directory.
///
/// # Errors
/// If mode or times cannot be set; what needs privileges is counted in the report instead.
pub fn apply(
    handle: Handle<'_>,
    entry: &Entry,
    now: Now,
    powers: &Powers,
    names: &mut Names,
    collector: &Collector<'_>,
) -> io::Result<()> {
    apply_but_flags(handle, entry, now, powers, names, collector)?;
    apply_flags(handle, entry, now, powers, collector);
    Ok(())
}

/// As [`apply`], but leaves the flags for later: what is immutable can get no other name.
///
/// # Errors
/// As [`apply`].
pub fn apply_but_flags(
    handle: Handle<'_>,
    entry: &Entry,
    now: Now,
    powers: &Powers,
    names: &mut Names,
    collector: &Collector<'_>,
) -> io::Result<()> {
    let mut mode = entry.stat.mode;
    let owned = set_owner(handle, entry, &now, powers, names, collector)?;
    if !owned && mode & 0o6000 != 0 {
        mode &= !0o6000;
        collector.loss(Loss::Privilege);
    }
    let chowned = owned && powers.owner_of(entry, names).is_some_and(|o| o != (now.uid, now.gid));
    // where an ACL comes, the group's bits of the mode are its mask: until it is there, they would be the group's own
    let has_acl = entry.xattrs.iter().any(|(name, _)| name.0 == ACL_ACCESS);
    let first = if has_acl { mode & !0o070 } else { mode };
    if entry.stat.kind != Type::Symlink && (first != now.mode || (chowned && mode & 0o6000 != 0)) {
        chmod(handle, first)?;
    }
    if now.old || !entry.xattrs.is_empty() {
        set_xattrs(handle, entry, &now, owned, powers, collector)?;
    }
    // setting an ACL sets those bits; setting the mode again keeps both in step
    if has_acl && entry.stat.kind != Type::Symlink {
        chmod(handle, mode)?;
    }
    if now.mtime != Some(entry.stat.mtime) {
        set_mtime(handle, entry.stat.mtime)?;
        if collector.may_not_hold(entry.stat.mtime) {
            let held = mtime(handle)? == entry.stat.mtime;
            collector.look_at_time(entry.stat.mtime, held);
        }
    }
    Ok(())
}

fn set_owner(
    handle: Handle<'_>,
    entry: &Entry,
    now: &Now,
    powers: &Powers,
    names: &mut Names,
    collector: &Collector<'_>,
) -> io::Result<bool> {
    let Some((uid, gid)) = powers.owner_of(entry, names) else {
        return Ok(false);
    };
    if (uid, gid) == (now.uid, now.gid) {
        return Ok(true);
    }
    // (uid_t)-1 means "leave it": such an owner cannot be set
    let wanted = (uid != u32::MAX && gid != u32::MAX).then_some((uid, gid));
    let Some((uid, gid)) = wanted else {
        collector.loss(Loss::Owner);
        return Ok(false);
    };
    let (user, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    let done = match handle {
        Handle::Open(fd) => rustix::fs::fchown(fd, user, group),
        Handle::Path(fd) => rustix::fs::chownat(fd, c"", user, group, AtFlags::EMPTY_PATH),
    };
    match done {
        Ok(()) => Ok(true),
        Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP) => {
            // an ordinary user may still give a file to one of his groups
            if let Handle::Open(fd) = handle {
                let _ = rustix::fs::fchown(fd, None, group);
            }
            collector.loss(Loss::Owner);
            Ok(false)
        }
        Err(e) => Err(e.into()),
    }
}

fn chmod(handle: Handle<'_>, mode: u32) -> io::Result<()> {
    let mode = Mode::from_raw_mode(mode);
    match handle {
        Handle::Open(fd) => rustix::fs::fchmod(fd, mode)?,
        // fchmodat cannot be told to stay at an O_PATH descriptor; its /proc link leads to the inode
        Handle::Path(fd) => {
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
            rustix::fs::chmod(path, mode)?;
        }
    }
    Ok(())
}

fn set_xattrs(
    handle: Handle<'_>,
    entry: &Entry,
    now: &Now,
    owned: bool,
    powers: &Powers,
    collector: &Collector<'_>,
) -> io::Result<()> {
    let have = if now.old { xattrs(handle).unwrap_or_default() } else { Vec::new() };
    for (name, _) in &have {
        if !entry.xattrs.iter().any(|(wanted, _)| wanted == name) && !is_label(name) {
            let _ = remove_xattr(handle, &name.0);
        }
    }
    for (name, value) in &entry.xattrs {
        let capability = name.0 == CAPABILITY;
        if capability && (!owned || powers.owner == Owner::Mine) {
            collector.loss(Loss::Privilege);
            continue;
        }
        // a change of owner clears capabilities, so they are always set again
        if !capability && have.iter().any(|(n, v)| n == name && v == value) {
            continue;
        }
        if set_xattr(handle, &name.0, value).is_err() {
            collector.loss(Loss::Xattr);
        }
    }
    Ok(())
}

// Labels of security modules belong to the host, which sets them by its own rules.
fn is_label(name: &Name) -> bool {
    name.0.starts_with(b"security.") && name.0 != CAPABILITY
}

/// Sets the inode flags, last of all. What was there before loses those that the entry does not have.
pub fn apply_flags(handle: Handle<'_>, entry: &Entry, now: Now, powers: &Powers, collector: &Collector<'_>) {
    let done = match handle {
        Handle::Open(fd) if powers.flags && (now.old || !entry.flags.is_empty()) => {
            set_flags(fd, &entry.flags).is_ok()
        }
        _ => false,
    };
    if !done && !entry.flags.is_empty() {
        collector.loss(Loss::Flags);
    }
}

fn mtime(handle: Handle<'_>) -> io::Result<Time> {
    let (Handle::Open(fd) | Handle::Path(fd)) = handle;
    Ok(LiveStat::of(fd)?.stat.mtime)
}

fn set_mtime(handle: Handle<'_>, time: Time) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: time.0, tv_nsec: i64::from(time.1) },
    };
    match handle {
        Handle::Open(fd) => rustix::fs::futimens(fd, &times)?,
        Handle::Path(fd) => rustix::fs::utimensat(fd.as_fd(), c"", &times, AtFlags::EMPTY_PATH)?,
    }
    Ok(())
}
