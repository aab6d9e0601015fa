//! This host and this process.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::base::Name;

/// The host's name.
pub fn host_name() -> Name {
    Name(rustix::system::uname().nodename().to_bytes().to_vec())
}

/// The name of the user this process acts as, or the number where it has none.
pub fn user_name() -> Name {
    let uid = rustix::process::geteuid().as_raw();
    super::names::Names::default().user(uid).unwrap_or_else(|| Name(uid.to_string().into_bytes()))
}

/// True if this process acts as root. Whether it may do what root may is found out by doing it.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The id of this run of the kernel, another one after each boot; empty where the system does not say.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The usual directory for large temporary files.
pub const LARGE_TEMPORARY: &str = "/var/tmp";

/// Where large temporary files go: there, if this user may write there, else to the directory for temporary files that the
/// variable `TMPDIR` names, or `/tmp`.
pub fn large_temporary() -> PathBuf {
    let usual = Path::new(LARGE_TEMPORARY);
    let may = accessat(CWD, usual, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok();
    if may && usual.is_dir() { usual.to_owned() } else { std::env::temp_dir() }
}

/// 32 random hexadecimal digits.
///
/// # Errors
/// If the system gives no random bytes.
pub fn random_hex() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(hex::encode(bytes))
}

/// Allows as many open files as the system permits this process: a walk holds a descriptor for
/// each directory between the root and where it is.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // best effort: with fewer descriptors very deep trees fail with a clear error
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// How many files this process may have open at most; `None` without a limit.
pub fn open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// How many threads to use for work that keeps a processor busy.
pub fn worker_count() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 32)
}

/// The bits that the system takes from the mode of whatever this process makes; all of them where that cannot be found out.
pub fn umask() -> u32 {
    // asking by the call itself would change it for a moment, for all threads
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0o777)
}
