//! The system calls of isolation that `rustix` has no safe name for.
//!
//! Everything here is meant for the sandbox's helper, a process of one thread that `exec` has just begun.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Fork {
    /// The new process.
    Child,
    /// The old one, and the new one's number.
    Parent(Pid),
}

/// Splits this process in two.
///
/// # Errors
/// If the system has no room for another process, or if this process has more than one thread: a
/// lock that another thread holds would be held for ever in the child.
pub fn fork() -> io::Result<Fork> {
    if std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1) {
        return Err(io::Error::other("fork in a process of more than one thread"));
    }
    // SAFETY: one thread only, so that no lock of the allocator or of the standard library is held
    // by a thread that the child lacks.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Pid::from_raw(pid).map(Fork::Parent).ok_or_else(|| io::Error::other("fork gave no process")),
    }
}

/// Ends this process at once, with nothing run and nothing flushed: what a forked child has to do.
pub fn exit(status: i32) -> ! {
    // SAFETY: `_exit` only ends the process.
    unsafe { libc::_exit(status) }
}

/// Kills every other process of this PID namespace in one go, so that not even a fork bomb gets away: a process that is about to
/// fork dies instead.
///
/// # Errors
/// If this process is not the first of a PID namespace, where nothing is killed.
pub fn kill_all_others() -> io::Result<()> {
    let outside = rustix::process::getppid();
    if std::process::id() != 1 || outside.is_some() {
        return Err(io::Error::other("only the first process of a namespace may kill all others"));
    }
    // SAFETY: only sends a signal; -1 means all but this one, and reaches no further than the namespace.
    match unsafe { libc::kill(-1, libc::SIGKILL) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Moves this process (or, for processes, its children) into new namespaces.
///
/// # Errors
/// As the system says: EPERM where namespaces are forbidden, ENOSPC where none are left.
pub fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: descriptors are not unshared by any caller (`CLONE_FILES` is masked out), which is the only
    // way in which this call breaks promises of the standard library.
    unsafe { rustix::thread::unshare_unsafe(flags.difference(UnshareFlags::FILES)) }
}

/// Makes `keep[i]` descriptor `i` and closes all others; the last is also given back as an owner.
///
/// Owners of the old descriptors must not be used or dropped after this: end the process with [`exit`], or `exec`.
///
/// # Errors
/// If a descriptor of the list is not open.
pub fn keep_only(keep: &[RawFd]) -> io::Result<OwnedFd> {
    let high = keep.len() as RawFd + 64;
    let mut moved = Vec::with_capacity(keep.len());
    for &fd in keep {
        // SAFETY: plain integers; the copies are descriptors of ours, put above all targets.
        let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD, high) };
        if copy < 0 {
            return Err(io::Error::last_os_error());
        }
        moved.push(copy);
    }
    for (target, &copy) in moved.iter().enumerate() {
        // SAFETY: plain integers; whoever owned the target is not used again, says the contract above.
        if unsafe { libc::dup2(copy, target as RawFd) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: closes what this process shall not have; the owners are not used again, says the contract above.
    if unsafe { libc::syscall(libc::SYS_close_range, keep.len() as libc::c_uint, libc::c_uint::MAX, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: open, made by this function, and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(keep.len() as RawFd - 1) })
}

/// Closes every descriptor but the three standard ones: what a parent left open by mistake. Only for
/// the very beginning of a process, when nothing owns them yet.
pub fn close_inherited() {
    // SAFETY: closes what nothing in this process owns, says the contract above.
    let _ = unsafe { libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, 0) };
}

/// Marks a descriptor to be closed by `exec`.
///
/// # Errors
/// As the system says.
pub fn close_on_exec(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?)
}

/// Takes the descriptor that this process was started with as its standard input.
///
/// # Errors
/// If it is not open.
pub fn take_stdin() -> io::Result<OwnedFd> {
    let fd = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3)?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(fd)
}

/// What [`mount_flags`] sets.
#[derive(Clone, Copy, Debug)]
pub struct MountFlags {
    /// Nothing can be written.
    pub read_only: bool,
    /// Device files are dead.
    pub no_devices: bool,
}

/// Sets flags of a mount, and with `recursive` of all mounts below; set-user-id is off in any case.
///
/// # Errors
/// As the system says; ENOSYS before Linux 5.12.
pub fn mount_flags(mount: BorrowedFd<'_>, recursive: bool, flags: MountFlags) -> io::Result<()> {
    let mut set = libc::MOUNT_ATTR_NOSUID;
    if flags.read_only {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    if flags.no_devices {
        set |= libc::MOUNT_ATTR_NODEV;
    }
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let at = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a string that ends in NUL, the structure lives through the call and its length is given.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            at,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Brings the loopback interface of this network namespace up; 127.0.0.1 and ::1 appear by themselves.
///
/// # Errors
/// As the system says.
pub fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: a structure of integers and byte arrays, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, &from) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an `ifreq`, which lives through the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Installs a program of the system call filter for this process and all that it starts, for ever.
///
/// # Errors
/// As the system says; no_new_privs must have been set.
pub fn install_filter(program: &[(u16, u8, u8, u32)]) -> io::Result<()> {
    let mut code: Vec<libc::sock_filter> =
        program.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
    let len = u16::try_from(code.len()).map_err(|_| io::Error::other("the filter is too long"))?;
    let program = libc::sock_fprog { len, filter: code.as_mut_ptr() };
    // SAFETY: the program and the instructions it points to live through the call, and the length is theirs.
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Tries system calls that a process in a sandbox must be refused, and says which were not.
///
/// The calls are made so that they do nothing, or nothing that lasts, where they are allowed.
pub fn calls_not_refused() -> Vec<&'static str> {
    let mut open = Vec::new();
    let mut refused = |name, result: libc::c_long| {
        if result >= 0 {
            open.push(name);
        }
    };
    let text = |s: &str| CString::new(s).unwrap_or_default();
    let (none, root) = (text("none"), text("/proc"));
    // SAFETY: all pointers are to strings that end in NUL and live through the calls, or null where null is allowed.
    unsafe {
        let flags = libc::MS_REMOUNT | libc::MS_BIND;
        refused(
            "mount",
            libc::c_long::from(libc::mount(
                none.as_ptr(),
                root.as_ptr(),
                std::ptr::null(),
                flags,
                std::ptr::null(),
            )),
        );
        refused("unshare", libc::c_long::from(libc::unshare(libc::CLONE_NEWUSER)));
        refused("chroot", libc::c_long::from(libc::chroot(root.as_ptr())));
        refused("setuid 0", if libc::geteuid() == 0 { -1 } else { libc::c_long::from(libc::setuid(0)) });
    }
    open
}
