//! What a sandbox sees of files: the recipe turned into mounts.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::error::{Broken, Step as _};
use super::recipe::{Network, Recipe};
use super::root::{self, Root};
use super::secrets;

/// Where the lifeboat program is inside.
pub const PROGRAM: &str = "/run/lifeboat/lifeboat";
/// Directories that the sandbox has for itself; the host's are not seen.
const OWN: &[&str] = &["/tmp", "/var/tmp", "/run", "/dev", "/proc"];
/// Parts of /sys that tell root too much.
const KERNEL: &[&str] = &["/sys/kernel/debug", "/sys/kernel/tracing", "/sys/fs/bpf", "/sys/firmware"];
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// What was mounted.
pub(super) struct Mounted {
    /// Mount points that can be written; every other must be read-only.
    pub writable: BTreeSet<PathBuf>,
    pub masked: Vec<PathBuf>,
    pub downgrades: Vec<String>,
    /// How many places of secrets were covered.
    pub hidden: usize,
}

/// Directories in the scratch that the sandbox needs, made before the host is out of sight.
pub(super) fn prepare(recipe: &Recipe) -> Result<(), Broken> {
    let own = |path: &Path, mode: u32| {
        std::fs::create_dir_all(path)?;
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode))
    };
    let at = |name: &str| recipe.scratch.join(name);
    for (name, mode) in [("root", 0o755), ("tmp", 0o1777), ("var-tmp", 0o1777)] {
        own(&at(name), mode).step(format!("make {}", at(name).display()))?;
    }
    for (index, path) in recipe.writable.iter().enumerate() {
        let place = at(&format!("writable-{index}"));
        let make = || {
            own(&place, 0o755)?;
            match &recipe.user {
                Some((uid, gid, _)) => std::os::unix::fs::chown(&place, Some(*uid), Some(*gid)),
                None => Ok(()),
            }
        };
        make().step(format!("make a place for {}", path.display()))?;
    }
    Ok(())
}

/// Mounts everything and makes it the root. This process must be the first of its PID namespace, alone in
/// its mount namespace.
pub(super) fn mount(recipe: &Recipe, sockets: &[PathBuf]) -> Result<Mounted, Broken> {
    let mut mounted =
        Mounted { writable: BTreeSet::new(), masked: Vec::new(), downgrades: Vec::new(), hidden: 0 };
    // what is to be seen is taken hold of while it can still be seen
    let program = root::clone(&recipe.program.canonicalize().step("find the lifeboat program")?, true)?;
    let mut binds = binds(recipe)?;
    binds.sort_by_key(|bind| bind.0.components().count());
    let secrets = secrets::places();
    let resolver = resolver(recipe);
    let hidden: Vec<_> = recipe.hide.iter().map(|path| root::settle(path)).collect::<Result<_, _>>()?;

    let mut root = Root::begin(&recipe.scratch.join("root"))?;
    root.host(&["proc", "dev", "run", "tmp"])?;
    process_files(&mut root, recipe, &mut mounted)?;
    devices(&mut root, &mut mounted)?;
    let run = root::memory("755", "64m")?;
    root.place(&run, Path::new("/run"), true)?;
    mounted.writable.insert("/run".into());
    make_places(&mut root, &binds)?;
    for (target, tree, directory, writable) in &binds {
        root.place(tree, target, *directory)?;
        if *writable {
            mounted.writable.insert(target.clone());
        }
    }
    let own = root::memory("755", "64k")?;
    root.place(&own, Path::new(PROGRAM).parent().unwrap_or(Path::new("/run")), true)?;
    root.place(&program, Path::new(PROGRAM), false)?;
    if let Some((path, content)) = resolver {
        root.make(&path, false)?;
        write_into(&root, &path, &content).step("copy the resolver's configuration")?;
    }
    root.make(Path::new("/run/lifeboat/empty"), false)?;
    root.seal(&own)?;
    for path in secrets {
        if !seen_elsewhere(&path, &binds) && cover(&mut root, &own, &path)? {
            mounted.hidden += 1;
        }
    }
    for path in KERNEL.iter().map(PathBuf::from).chain(hidden) {
        cover(&mut root, &own, &path)?;
    }
    for path in sockets {
        if is_door(path) && !seen_elsewhere(path, &binds) && cover(&mut root, &own, path)? {
            mounted.masked.push(path.clone());
        }
    }
    root.enter()?;
    Ok(mounted)
}

// Makes what is missing before anything is placed: a directory that is rebuilt in memory to hold one more takes what is mounted below
// along as a copy, and a copy is not sealed with the original. So the shallow go first.
fn make_places(root: &mut Root, binds: &[Placed]) -> Result<(), Broken> {
    let inside_another =
        |path: &Path| binds.iter().any(|other| other.0 != path && path.starts_with(&other.0));
    let mut places: Vec<&Placed> = binds.iter().filter(|bind| !inside_another(&bind.0)).collect();
    let known = |path: &Path| {
        path.ancestors().find(|place| place.exists()).map_or(0, |place| place.components().count())
    };
    places.sort_by_key(|bind| known(&bind.0));
    places.into_iter().try_for_each(|bind| root.ready(&bind.0, bind.2).map(drop))
}

type Placed = (PathBuf, std::os::fd::OwnedFd, bool, bool);

fn binds(recipe: &Recipe) -> Result<Vec<Placed>, Broken> {
    let mut binds = Vec::new();
    let mut add = |source: &Path, target: &Path, writable: bool| {
        let source = source.canonicalize().step(format!("bind {}", source.display()))?;
        let directory = source.is_dir();
        binds.push((root::settle(target)?, root::clone(&source, !writable)?, directory, writable));
        Ok(())
    };
    add(&recipe.scratch.join("tmp"), Path::new("/tmp"), true)?;
    add(&recipe.scratch.join("var-tmp"), Path::new("/var/tmp"), true)?;
    for (index, target) in recipe.writable.iter().enumerate() {
        add(&recipe.scratch.join(format!("writable-{index}")), target, true)?;
    }
    for bind in &recipe.binds {
        add(&bind.source, &bind.target, bind.writable)?;
    }
    Ok(binds)
}

fn process_files(root: &mut Root, recipe: &Recipe, mounted: &mut Mounted) -> Result<(), Broken> {
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_RDONLY;
    let own = if recipe.without.iter().any(|part| part == "proc") {
        Err(Broken { step: String::new(), cause: "left out on purpose".into(), forbidden: true })
    } else {
        root::fresh("proc", &[], flags)
    };
    let tree = match own {
        Ok(tree) => tree,
        // part of the host's is covered, as containers do it: a fresh one would show what lies below. The
        // host's processes are then seen, but belong to another user namespace and cannot be entered
        Err(broken) if broken.forbidden && !rustix::process::geteuid().is_root() => {
            mounted.downgrades.push(format!("proc: the host's process list is seen ({})", broken.cause));
            root::clone(Path::new("/proc"), true)?
        }
        Err(broken) => return Err(broken),
    };
    root.place(&tree, Path::new("/proc"), true)
}

fn devices(root: &mut Root, mounted: &mut Mounted) -> Result<(), Broken> {
    root.place(&root::memory("755", "1m")?, Path::new("/dev"), true)?;
    mounted.writable.insert("/dev".into());
    for name in DEVICES {
        let path = Path::new("/dev").join(name);
        if path.exists() {
            root.place(&root::device(&path)?, &path, false)?;
            mounted.writable.insert(path);
        }
    }
    root.place(&root::memory("1777", "256m")?, Path::new("/dev/shm"), true)?;
    mounted.writable.insert("/dev/shm".into());
    let options = [("ptmxmode", "0666"), ("mode", "0620")];
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    match root::fresh("devpts", &options, flags) {
        Ok(terminals) => {
            root.place(&terminals, Path::new("/dev/pts"), true)?;
            mounted.writable.insert("/dev/pts".into());
        }
        Err(broken) => mounted.downgrades.push(format!("devpts: no terminals inside ({})", broken.cause)),
    }
    let dev = root.at(Path::new("/dev")).step("open /dev")?;
    for (name, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        rustix::fs::symlinkat(to, &dev, name).step("link in /dev")?;
    }
    Ok(())
}

// Puts something empty over a path, if it is there.
fn cover(root: &mut Root, own: &std::os::fd::OwnedFd, path: &Path) -> Result<bool, Broken> {
    let shown = format!("cover {}", path.display());
    let at = match root.at(path) {
        Ok(at) => at,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
        // who may not even look for it here is who commands will be, or has more rights than they
        Err(Errno::ACCESS) if !rustix::process::geteuid().is_root() => return Ok(false),
        Err(error) => return Err(error).step(shown),
    };
    let about = rustix::fs::fstat(&at).step(shown)?;
    let directory = rustix::fs::FileType::from_raw_mode(about.st_mode).is_dir();
    let empty = if directory {
        let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_RDONLY;
        root::fresh("tmpfs", &[("mode", "755"), ("size", "4k")], flags)?
    } else {
        root::again(own, "empty", true)?
    };
    root.place(&empty, path, directory)?;
    Ok(true)
}

fn is_door(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|about| about.file_type().is_socket() || about.file_type().is_fifo())
}

fn seen_elsewhere(path: &Path, binds: &[Placed]) -> bool {
    OWN.iter().any(|own| path.starts_with(own)) || binds.iter().any(|bind| path.starts_with(&bind.0))
}

// With the host's network, names are resolved by a file that often lies in /run, which is ours inside.
fn resolver(recipe: &Recipe) -> Option<(PathBuf, Vec<u8>)> {
    if recipe.network != Network::Host {
        return None;
    }
    let path = Path::new("/etc/resolv.conf").canonicalize().ok()?;
    let content = std::fs::read(&path).ok()?;
    path.starts_with("/run").then_some((path, content))
}

fn write_into(root: &Root, path: &Path, content: &[u8]) -> io::Result<()> {
    let Some((parent, name)) = path.parent().zip(path.file_name()) else { return Ok(()) };
    let dir = root.at(parent)?;
    let _ = rustix::fs::unlinkat(&dir, name, rustix::fs::AtFlags::empty());
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
    let file = rustix::fs::openat(&dir, name, flags, rustix::fs::Mode::from_raw_mode(0o644))?;
    io::Write::write_all(&mut std::fs::File::from(file), content)
}
