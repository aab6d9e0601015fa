//! What is really active, tried from inside by a process with exactly the rights of a command.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::active::{Level, Measured};
use super::privilege;
use super::recipe::{Network, Recipe};
use crate::sys::filter;
use crate::sys::namespace::{self, Fork};

/// What must be found to be refused.
pub(super) struct Expected<'a> {
    pub writable: &'a BTreeSet<PathBuf>,
    pub masked: &'a [PathBuf],
    /// The host's namespaces, as [`spaces`] tells them.
    pub spaces: &'a BTreeMap<String, String>,
    /// Whether users are the sandbox's own too.
    pub own_user_space: bool,
    /// Whether the process list must be the sandbox's own.
    pub own_processes: bool,
}

/// Namespaces that a sandbox has for itself: what the measurement of each is called, and its file in /proc/self/ns.
const SPACES: &[(&str, &str)] = &[
    ("files: mount namespace", "mnt"),
    ("processes: PID namespace", "pid"),
    ("processes: IPC namespace", "ipc"),
    ("network: net namespace", "net"),
    ("rights: user namespace", "user"),
    ("limits: cgroup namespace", "cgroup"),
];

/// The namespaces of this process: kind and identity.
pub(super) fn spaces() -> BTreeMap<String, String> {
    let identity = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}")).ok();
    SPACES
        .iter()
        .filter_map(|(_, kind)| Some(((*kind).to_owned(), identity(kind)?.to_string_lossy().into_owned())))
        .collect()
}

/// What keeps apart, as far as it was measured.
pub(super) fn mechanisms(measured: &[Measured]) -> Vec<String> {
    let holding = measured.iter().filter(|m| m.holds).filter_map(|m| m.name.split_once(": "));
    let word = |name: &str| match name {
        name if name.ends_with("namespace") => Some(name.to_owned()),
        "capabilities" => Some("dropped capabilities".to_owned()),
        "no_new_privs" | "seccomp" => Some(name.to_owned()),
        _ => None,
    };
    holding.filter_map(|(_, name)| word(name)).collect()
}

/// Tries everything in a process of its own.
pub(super) fn measure(recipe: &Recipe, counted: u64, expected: &Expected<'_>) -> io::Result<Vec<Measured>> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    match namespace::fork()? {
        Fork::Child => {
            let status = match privilege::give_up(recipe, true, counted) {
                Ok(()) => {
                    let text = serde_json::to_vec(&attempts(recipe, expected)).unwrap_or_default();
                    i32::from(File::from(write).write_all(&text).is_err())
                }
                Err(error) => {
                    let _ = File::from(write).write_all(error.to_string().as_bytes());
                    1
                }
            };
            namespace::exit(status)
        }
        Fork::Parent(child) => {
            drop(write);
            let mut text = Vec::new();
            File::from(read).read_to_end(&mut text)?;
            let _ = rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty());
            serde_json::from_slice(&text).map_err(|_| {
                let seen = String::from_utf8_lossy(&text);
                io::Error::other(format!("a command's rights could not be taken on: {seen}"))
            })
        }
    }
}

/// The level that measurements bear out.
pub(super) fn level(measured: &[Measured], network: Network) -> Level {
    let holds = |kind: &str| {
        let mut of_kind = measured.iter().filter(|m| m.name.starts_with(kind)).peekable();
        of_kind.peek().is_some() && of_kind.all(|m| m.holds)
    };
    if !(holds("files") && holds("rights") && holds("processes")) {
        Level::None
    } else if network == Network::None && holds("network") {
        Level::Full
    } else {
        Level::Files
    }
}

fn attempts(recipe: &Recipe, expected: &Expected<'_>) -> Vec<Measured> {
    let mut measured = namespaces(recipe, expected);
    measured.extend([mounts(expected.writable), rights(), calls(), processes(expected.own_processes)]);
    measured.push(status("rights: no_new_privs", "NoNewPrivs:", "1"));
    if filter::program().is_some() {
        // 2: by a filter
        measured.push(status("rights: seccomp", "Seccomp:", "2"));
    }
    measured.extend(["/", "/etc", "/usr"].map(write));
    measured.push(sockets(expected.masked));
    if recipe.network == Network::None {
        measured.extend([interfaces(), outside(), loopback()]);
    }
    measured
}

fn found(name: impl Into<String>, holds: bool, seen: impl Into<String>) -> Measured {
    Measured { name: name.into(), holds, seen: seen.into() }
}

// Every mount that is not known to be the sandbox's own must be read-only.
fn mounts(writable: &BTreeSet<PathBuf>) -> Measured {
    let Ok(table) = fs::read_to_string("/proc/self/mountinfo") else {
        return found("files: mounts", false, "the mount table cannot be read");
    };
    let mut open = Vec::new();
    let mut count = 0;
    for line in table.lines() {
        let mut fields = line.split(' ').skip(4);
        let (Some(point), Some(options)) = (fields.next(), fields.next()) else { continue };
        count += 1;
        let point = point.replace("\\040", " ");
        let read_only = options.split(',').any(|option| option == "ro");
        if !read_only && !writable.contains(Path::new(&point)) {
            open.push(point);
        }
    }
    let seen = match open.is_empty() {
        true => format!("{count} mounts, {} of them writable and the sandbox's own", writable.len()),
        false => format!("writable: {}", open.join(", ")),
    };
    found("files: mounts", open.is_empty() && count > 0, seen)
}

fn write(place: &str) -> Measured {
    let path = Path::new(place).join(".lifeboat-probe");
    let name = format!("files: write in {place}");
    match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(_) => {
            let _ = fs::remove_file(&path);
            found(name, false, "written")
        }
        Err(error) => found(name, true, error.to_string()),
    }
}

fn namespaces(recipe: &Recipe, expected: &Expected<'_>) -> Vec<Measured> {
    let own = spaces();
    let wanted = |kind: &str| match kind {
        "net" => recipe.network == Network::None,
        "user" => expected.own_user_space,
        _ => true,
    };
    let compare = |&(name, kind): &(&str, &str)| {
        let (Some(inside), Some(outside)) = (own.get(kind), expected.spaces.get(kind)) else {
            return found(name, false, "cannot be seen");
        };
        found(name, inside != outside, format!("{inside}, the host's is {outside}"))
    };
    SPACES.iter().filter(|(_, kind)| wanted(kind)).map(compare).collect()
}

fn field(name: &str) -> String {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let rest = status.lines().find_map(|line| line.strip_prefix(name));
    rest.map(|rest| rest.trim().to_owned()).unwrap_or_default()
}

fn status(name: &str, of: &str, demanded: &str) -> Measured {
    let seen = field(of);
    found(name, seen == demanded, seen)
}

fn rights() -> Measured {
    let zero = |name: &str| {
        let text = field(name);
        !text.is_empty() && text.bytes().all(|b| b == b'0')
    };
    let holds = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"].iter().all(|name| zero(name));
    let seen = format!("effective {}, bounding {}", field("CapEff:"), field("CapBnd:"));
    found("rights: capabilities", holds, seen)
}

fn calls() -> Measured {
    let open = namespace::calls_not_refused();
    let seen = if open.is_empty() { "refused".to_owned() } else { format!("allowed: {}", open.join(", ")) };
    found("rights: mount, unshare, chroot, setuid", open.is_empty(), seen)
}

fn processes(own: bool) -> Measured {
    let name = "processes: the host's";
    if !own {
        // the list is the host's; what counts is that its processes cannot be entered
        let open = fs::read_dir("/proc/1/root/").is_ok() || fs::read_link("/proc/1/cwd").is_ok();
        return found(name, !open, "seen, not entered");
    }
    let shown = fs::read_link("/proc/self").unwrap_or_default();
    let holds = shown == Path::new(&std::process::id().to_string()) && fs::read_dir("/proc/1/root/").is_err();
    found(name, holds, format!("this process is number {}", shown.display()))
}

fn sockets(masked: &[PathBuf]) -> Measured {
    let open: Vec<String> = masked
        .iter()
        .filter(|path| UnixStream::connect(path).is_ok())
        .map(|path| path.display().to_string())
        .collect();
    let seen = match open.is_empty() {
        true => format!("{} covered", masked.len()),
        false => format!("answers: {}", open.join(", ")),
    };
    found("files: sockets of services", open.is_empty(), seen)
}

fn interfaces() -> Measured {
    let table = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let names: Vec<&str> =
        table.lines().skip(2).filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()).collect();
    // some kernels put idle tunnel devices into every namespace; they have no addresses
    let routes = fs::read_to_string("/proc/self/net/route").unwrap_or_default().lines().skip(1).count();
    found("network: routes", routes == 0, format!("{routes}, interfaces {}", names.join(" ")))
}

fn outside() -> Measured {
    // TEST-NET-1 (RFC 5737): nobody's address
    let address = SocketAddr::from(([192, 0, 2, 1], 80));
    match TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        Ok(_) => found("network: other hosts", false, "connected"),
        Err(error) if error.raw_os_error() == Some(libc::ENETUNREACH) => {
            found("network: other hosts", true, error.to_string())
        }
        Err(error) => found("network: other hosts", false, error.to_string()),
    }
}

fn loopback() -> Measured {
    let up = || {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        TcpStream::connect_timeout(&listener.local_addr()?, Duration::from_millis(300))?;
        Ok::<_, io::Error>(listener.as_raw_fd())
    };
    match up() {
        Ok(_) => found("network: own loopback", true, "up"),
        Err(error) => found("network: own loopback", false, error.to_string()),
    }
}
