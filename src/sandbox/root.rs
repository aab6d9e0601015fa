//! The sandbox's root directory: a small file system in memory, into which the host's directories are
//! bound read-only and the rest is mounted.
//!
//! All by descriptor: each mount is made detached, gets its flags, and only then is moved to a place that was resolved without
//! following any symbolic link, so that a link in a restored tree leads nowhere.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags as Old, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use super::error::{Broken, Step as _};
use crate::sys::namespace::{self, MountFlags};

/// A directory with more entries than this is not rebuilt to hold one more.
const ENTRIES: usize = 4096;
/// Host's read-only content.
const SEALED: MountFlags = MountFlags { read_only: true, no_devices: true };

/// A root directory in the making.
pub(super) struct Root {
    root: OwnedFd,
    // file systems in memory that become read-only when all places are made
    seal: Vec<OwnedFd>,
}

impl Root {
    /// Takes this process's mount namespace apart from the host's, and begins a root at `staging`.
    pub fn begin(staging: &Path) -> Result<Self, Broken> {
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).step("make its mounts private")?;
        let flags = Old::NOSUID | Old::NODEV;
        rustix::mount::mount("tmpfs", staging, "tmpfs", flags, Some(c"mode=755,size=4m"))
            .step("mount a tmpfs")?;
        let root =
            rustix::fs::open(staging, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .step("open its root")?;
        let seal = vec![root.try_clone().step("open its root")?];
        Ok(Self { root, seal })
    }

    /// Binds everything in the host's root directory read-only, but what `except` names.
    pub fn host(&mut self, except: &[&str]) -> Result<(), Broken> {
        let host = rustix::fs::open("/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .step("open the host's root")?;
        let root = self.root.try_clone().step("open its root")?;
        let entries = entries(&host, except).step("list the host's root")?;
        fill(&host, &root, &entries, Some(SEALED))
    }

    /// Puts a mount at a path, which is made if it is not there.
    pub fn place(&mut self, mount: &OwnedFd, target: &Path, directory: bool) -> Result<(), Broken> {
        let at = self.ready(target, directory)?;
        move_to(mount, &at).step(format!("mount {}", target.display()))
    }

    /// A place for a mount, made if it is not there.
    pub fn ready(&mut self, target: &Path, directory: bool) -> Result<OwnedFd, Broken> {
        let step = format!("mount {}", target.display());
        let at = match self.at(target) {
            Err(Errno::NOENT) => {
                self.make(target, directory)?;
                self.at(target)
            }
            other => other,
        };
        match at {
            Err(Errno::LOOP) => {
                let cause = "there is a symbolic link on the way; name the place where it leads".to_owned();
                Err(Broken { step, cause, forbidden: false })
            }
            at => at.step(step),
        }
    }

    /// The place of a path, no symbolic link followed.
    pub fn at(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let inside = path.strip_prefix("/").unwrap_or(path);
        let inside = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.root, inside, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how)
    }

    /// Makes a directory or an empty file, and the directories above it.
    pub fn make(&mut self, path: &Path, directory: bool) -> Result<(), Broken> {
        let mut done = PathBuf::from("/");
        let names: Vec<&OsStr> = path.iter().skip(1).collect();
        for (index, name) in names.iter().enumerate() {
            let next = done.join(name);
            match self.at(&next) {
                Ok(_) => {}
                Err(Errno::NOENT) => self.make_one(&done, name, directory || index + 1 < names.len())?,
                Err(error) => return Err(error).step(format!("look for {}", next.display())),
            }
            done = next;
        }
        Ok(())
    }

    fn make_one(&mut self, parent: &Path, name: &OsStr, directory: bool) -> Result<(), Broken> {
        let shown = format!("make {}", parent.join(name).display());
        let dir = self.at(parent).step(shown.clone())?;
        match create(&dir, name, directory) {
            // the host's directory is read-only: one in memory with the same content takes its place
            Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) => {
                self.rebuild(parent)?;
                let dir = self.at(parent).step(shown.clone())?;
                create(&dir, name, directory).step(shown)
            }
            other => other.step(shown),
        }
    }

    fn rebuild(&mut self, path: &Path) -> Result<(), Broken> {
        let shown = format!("rebuild {} in memory", path.display());
        let at = self.at(path).step(shown.clone())?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let old = rustix::fs::openat(&at, ".", flags, Mode::empty()).step(shown.clone())?;
        let entries = entries(&old, &[]).step(shown.clone())?;
        let memory = memory("755", "4m")?;
        move_to(&memory, &at).step(shown)?;
        // all below is sealed already, or the sandbox's own
        fill(&old, &memory, &entries, None)?;
        self.seal.push(memory);
        Ok(())
    }

    /// Makes a mount read-only when all places are made: nothing in it, nor it itself, can be moved out of the way.
    pub fn seal(&mut self, mount: &OwnedFd) -> Result<(), Broken> {
        self.seal.push(mount.try_clone().step("keep hold of a mount")?);
        Ok(())
    }

    /// Makes what lies in memory read-only, and this the root directory; the host's is gone for this process.
    pub fn enter(self) -> Result<(), Broken> {
        for memory in &self.seal {
            namespace::mount_flags(memory.as_fd(), false, SEALED).step("make its root read-only")?;
        }
        rustix::process::fchdir(&self.root).step("enter its root")?;
        rustix::process::pivot_root(".", ".").step("enter its root")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH).step("leave the host's root")?;
        rustix::process::chdir("/").step("enter its root")
    }
}

/// A copy of a mount tree of the host, not mounted anywhere yet.
pub(super) fn clone(path: &Path, read_only: bool) -> Result<OwnedFd, Broken> {
    clone_at(CWD, path.as_os_str(), Some(MountFlags { read_only, no_devices: true }))
        .step(format!("bind {}", path.display()))
}

/// A device file of the host, alive.
pub(super) fn device(path: &Path) -> Result<OwnedFd, Broken> {
    clone_at(CWD, path.as_os_str(), Some(MountFlags { read_only: false, no_devices: false }))
        .step(format!("bind {}", path.display()))
}

fn clone_at(dir: impl AsFd, name: &OsStr, flags: Option<MountFlags>) -> io::Result<OwnedFd> {
    let how = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    let tree = rustix::mount::open_tree(dir, name, how)?;
    if let Some(flags) = flags {
        namespace::mount_flags(tree.as_fd(), true, flags)?;
    }
    Ok(tree)
}

/// A file system of a kind, not mounted anywhere yet.
pub(super) fn fresh(kind: &str, options: &[(&str, &str)], flags: MountAttrFlags) -> Result<OwnedFd, Broken> {
    let make = || {
        let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        for &(name, value) in options {
            rustix::mount::fsconfig_set_string(context.as_fd(), name, value)?;
        }
        rustix::mount::fsconfig_create(context.as_fd())?;
        rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, flags)
    };
    make().step(format!("mount a {kind}"))
}

/// A file system in memory, not mounted anywhere yet.
pub(super) fn memory(mode: &str, size: &str) -> Result<OwnedFd, Broken> {
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    fresh("tmpfs", &[("mode", mode), ("size", size)], flags)
}

/// Another handle on something mounted, to be mounted once more.
pub(super) fn again(mount: &OwnedFd, name: &str, read_only: bool) -> Result<OwnedFd, Broken> {
    clone_at(mount, OsStr::new(name), Some(MountFlags { read_only, no_devices: true }))
        .step("bind an empty file")
}

/// Where a path of the host really is, as far as it exists; what is missing is appended.
pub(super) fn settle(path: &Path) -> Result<PathBuf, Broken> {
    let plain = path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain {
        let cause = "the path must be absolute and without ..".to_owned();
        return Err(Broken { step: format!("use {}", path.display()), cause, forbidden: false });
    }
    let mut missing = Vec::new();
    let mut known = path;
    loop {
        match known.canonicalize() {
            Ok(found) => return Ok(missing.iter().rev().fold(found, |at, name| at.join(name))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).step(format!("look for {}", path.display())),
        }
        let (Some(name), Some(parent)) = (known.file_name(), known.parent()) else {
            return Ok(path.to_owned());
        };
        missing.push(name);
        known = parent;
    }
}

fn entries(dir: &OwnedFd, except: &[&str]) -> io::Result<Vec<(OsString, FileType)>> {
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
        if name == "." || name == ".." || except.iter().any(|&other| name == other) {
            continue;
        }
        // what cannot even be looked at, another user's FUSE mount for one, is not there inside
        let Ok(about) = rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        found.push((name, FileType::from_raw_mode(about.st_mode)));
        if found.len() > ENTRIES {
            return Err(io::Error::other("the directory has too many entries"));
        }
    }
    Ok(found)
}

fn fill(
    from: &OwnedFd,
    to: &OwnedFd,
    entries: &[(OsString, FileType)],
    flags: Option<MountFlags>,
) -> Result<(), Broken> {
    for (name, kind) in entries {
        let what = format!("bind {}", name.display());
        if *kind == FileType::Symlink {
            let link = rustix::fs::readlinkat(from, name, Vec::new()).step(what.clone())?;
            rustix::fs::symlinkat(link, to, name).step(what)?;
            continue;
        }
        let tree = clone_at(from, name, flags).step(what.clone())?;
        create(to, name, *kind == FileType::Directory).step(what.clone())?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let at = rustix::fs::openat(to, name, flags, Mode::empty()).step(what.clone())?;
        move_to(&tree, &at).step(what)?;
    }
    Ok(())
}

fn create(dir: &OwnedFd, name: &OsStr, directory: bool) -> rustix::io::Result<()> {
    if directory {
        return rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755));
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o444)).map(drop)
}

fn move_to(mount: &OwnedFd, at: &OwnedFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", at, c"", flags)
}
