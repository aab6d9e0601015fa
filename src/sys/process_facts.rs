//! What a process shows of whom it belongs to: where it works, what it runs and has open, on which port it listens.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::process_tree::{Member, Stat};

/// USER_HZ: what the kernel counts by towards programs, on every processor Rust runs on.
const TICKS_A_SECOND: u64 = 100;
/// The state of a listening socket in /proc/net/tcp.
const LISTENING: &str = "0A";

/// Whether a process shows that it belongs to a tree: it works there, its program or an argument lies there, or, with
/// `open_files`, it has a file open there. `None` if it shows nothing and not all could be looked at.
pub fn belongs(pid: i32, root: &Path, open_files: bool) -> Option<bool> {
    let mut hidden = false;
    for name in ["cwd", "exe"] {
        match fs::read_link(format!("/proc/{pid}/{name}")) {
            Ok(path) if is_below(&path, root) => return Some(true),
            Err(error) => hidden |= error.kind() == io::ErrorKind::PermissionDenied,
            Ok(_) => {}
        }
    }
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if line.split(|&b| b == 0).any(|argument| names(argument, root.as_os_str().as_bytes())) {
        return Some(true);
    }
    if !open_files {
        return if hidden { None } else { Some(false) };
    }
    match fs::read_dir(format!("/proc/{pid}/fd")) {
        Err(error) => hidden |= error.kind() == io::ErrorKind::PermissionDenied,
        Ok(entries) => {
            let mut open = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
            if open.any(|path| is_below(&path, root)) {
                return Some(true);
            }
        }
    }
    if hidden { None } else { Some(false) }
}

fn is_below(path: &Path, root: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    let bytes = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
    Path::new(std::ffi::OsStr::from_bytes(bytes)).starts_with(root)
}

// `/srv/app/x`, and `--config=/srv/app/x` too.
fn names(argument: &[u8], root: &[u8]) -> bool {
    root.len() > 1
        && memchr::memmem::find_iter(argument, root)
            .any(|at| matches!(argument.get(at + root.len()), None | Some(b'/')))
}

/// How a process is called by its arguments, as bytes with blanks between; empty if it is gone.
pub fn command_line(pid: i32) -> Vec<u8> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line: Vec<u8> = line.iter().map(|&b| if b == 0 { b' ' } else { b }).collect();
    line.trim_ascii().to_vec()
}

/// How long ago a process began.
pub fn age(member: Member) -> Duration {
    let began = Duration::from_millis(member.started.saturating_mul(1000 / TICKS_A_SECOND));
    super::clock::since_boot().saturating_sub(began)
}

/// Memory in use by a process (resident), in bytes; `None` if it is gone.
pub fn resident(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    rest.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Processor time used by a process so far.
pub fn processor_time(stat: &Stat) -> Duration {
    Duration::from_millis(stat.ticks.saturating_mul(1000 / TICKS_A_SECOND))
}

/// Those of the system's processes that listen on one of these TCP ports, on whatever address.
pub fn listeners(all: &[Stat], ports: &[u16]) -> Vec<Member> {
    let mut sockets = HashSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        sockets.extend(text.lines().skip(1).filter_map(|line| listening(line, ports)));
    }
    if sockets.is_empty() {
        return Vec::new();
    }
    let holds = |pid: i32| {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        entries.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|to| sockets.contains(&to)))
    };
    all.iter().filter(|one| !one.is_dead() && holds(one.member.pid)).map(|one| one.member).collect()
}

// proc(5): number, local address, remote address, state, …; the inode is the tenth.
fn listening(line: &str, ports: &[u16]) -> Option<PathBuf> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let port = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
    let is_it = *fields.get(3)? == LISTENING && ports.contains(&port);
    is_it.then_some(())?;
    Some(PathBuf::from(format!("socket:[{}]", fields.get(9)?)))
}

/// The processes of a control group and of those below it, by its path in the unified hierarchy.
pub fn of_cgroup(path: &Path) -> Vec<i32> {
    let below = path.strip_prefix("/").unwrap_or(path);
    let mut found = Vec::new();
    for base in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"] {
        let walk = walkdir::WalkDir::new(Path::new(base).join(below)).into_iter().flatten();
        for entry in walk.filter(|entry| entry.file_name() == "cgroup.procs") {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
        if !found.is_empty() {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::process_tree::{all, stat};
    use super::*;

    #[test]
    fn a_process_shows_where_it_belongs() {
        let own = std::process::id() as i32;
        let here = std::env::current_dir().unwrap();
        assert_eq!(belongs(own, &here, false), Some(true));
        let other = tempfile::tempdir().unwrap();
        assert_eq!(belongs(own, other.path(), true), Some(false));
        let file = fs::File::create(other.path().join("open")).unwrap();
        assert_eq!(belongs(own, other.path(), true), Some(true));
        assert_eq!(belongs(own, other.path(), false), Some(false));
        drop(file);
        assert!(names(b"--config=/srv/app/x", b"/srv/app") && names(b"/srv/app", b"/srv/app"));
        assert!(!names(b"/srv/apple", b"/srv/app") && !names(b"/", b"/"));
        assert!(is_below(Path::new("/srv/app (deleted)"), Path::new("/srv/app")));
    }

    #[test]
    fn who_listens_on_a_port_is_found() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let own = stat(std::process::id() as i32).unwrap().member;
        assert!(listeners(&all(), &[port]).contains(&own));
        drop(socket);
        assert!(!listeners(&all(), &[port]).contains(&own));
    }

    #[test]
    fn the_age_of_a_process_is_counted_from_its_start() {
        let child = std::process::Command::new("sleep").arg("5").spawn();
        let mut child = child.unwrap();
        let member = stat(child.id() as i32).unwrap().member;
        assert!(age(member) < Duration::from_secs(3), "{:?}", age(member));
        assert!(resident(member.pid).is_some());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
