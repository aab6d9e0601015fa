//! `lifeboat __sandbox`: the program started again as the sandbox's helper.
//!
//! The helper makes the user and PID namespaces and a child. The child is the first process of the
//! sandbox: it makes the other namespaces and the mounts, and serves. The helper stays outside, sees whether the parent
//! lives, and ends the child if not.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use rustix::thread::UnshareFlags;

use super::active::{Active, Level};
use super::cgroup::Group;
use super::doors;
use super::error::{Broken, Step as _};
use super::init::Init;
use super::inside;
use super::mounts;
use super::privilege;
use super::recipe::{Network, Recipe};
use super::wire::{self, Hello, Tell};
use crate::sys::filter;
use crate::sys::namespace::{self, Fork};

/// Runs the helper. Standard input is the socket to the parent.
pub fn helper() -> u8 {
    namespace::close_inherited();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let Ok(control) = namespace::take_stdin() else { return 2 };
    let Ok(Some((hello, _))) = wire::receive::<Hello>(&control) else { return 2 };
    let done =
        if hello.unisolated { unisolated(hello.recipe, &control) } else { isolated(hello.recipe, &control) };
    match done {
        Ok(()) => 0,
        Err(broken) => {
            let _ = wire::send(control.as_fd(), &Tell::Broken { broken }, &[]);
            1
        }
    }
}

fn unisolated(recipe: Recipe, control: &OwnedFd) -> Result<(), Broken> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).step("adopt orphans")?;
    let active = Active {
        level: Level::None,
        mechanisms: vec!["process group".into(), "subreaper".into()],
        downgrades: vec!["isolation: left out, as asked".into()],
        masked_sockets: Vec::new(),
        measured: Vec::new(),
    };
    let counted = processes_of(user(&recipe));
    wire::send(control.as_fd(), &Tell::Ready { active }, &[]).step("report")?;
    let control = control.try_clone().step("report")?;
    let scratch = recipe.scratch.clone();
    let jobs = BTreeMap::new();
    Init { control, recipe, isolated: false, counted, cgroup: false, scratch, jobs }.serve();
    Ok(())
}

fn isolated(mut recipe: Recipe, control: &OwnedFd) -> Result<(), Broken> {
    let root = rustix::process::geteuid().is_root();
    let own = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    match &recipe.user {
        Some((uid, gid, _)) if !root && (*uid, *gid) != own => {
            let cause = "only root may become another user".to_owned();
            return Err(Broken { step: format!("become user {uid}"), cause, forbidden: false });
        }
        Some(_) if !root => recipe.user = None,
        _ => {}
    }
    mounts::prepare(&recipe)?;
    // in a user namespace of its own the system counts anew
    let counted = if root { processes_of(user(&recipe)) } else { 0 };
    // when memory runs out, the kernel is to take it from here and not from production
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    // while this is the user's own process: from another user namespace the descriptors of his others are not seen
    let (spaces, doors) = (inside::spaces(), doors::doors());
    let group = Group::enter(&recipe.limits);
    let begun = Begun { recipe, root, own, counted, spaces, doors, cgroup: group.is_some() };
    let child = begin(begun, control);
    if let Some(group) = &group {
        group.leave();
    }
    let done = child.and_then(|child| attend(control, child));
    if let Some(group) = group {
        group.remove();
    }
    done
}

/// What is known before the first namespace is made.
struct Begun {
    recipe: Recipe,
    root: bool,
    /// User and group of this process.
    own: (u32, u32),
    /// Processes the application's user has.
    counted: u64,
    /// The host's namespaces.
    spaces: BTreeMap<String, String>,
    /// Where the host's services can be spoken to.
    doors: Vec<PathBuf>,
    /// Whether a cgroup holds the limits.
    cgroup: bool,
}

// Forks the first process inside; in it, this does not return.
fn begin(begun: Begun, control: &OwnedFd) -> Result<Pid, Broken> {
    if !begun.root {
        namespace::unshare(UnshareFlags::NEWUSER).step("make a user namespace")?;
        let (uid, gid) = begun.own;
        let write = |name: &str, text: String| std::fs::write(format!("/proc/self/{name}"), text);
        write("setgroups", "deny".into()).step("map its user")?;
        write("uid_map", format!("{uid} {uid} 1")).step("map its user")?;
        write("gid_map", format!("{gid} {gid} 1")).step("map its group")?;
    }
    namespace::unshare(UnshareFlags::NEWPID).step("make a PID namespace")?;
    match namespace::fork().step("start its first process")? {
        Fork::Parent(child) => Ok(child),
        Fork::Child => {
            let status = match first(begun, control) {
                Ok(init) => {
                    init.serve();
                    0
                }
                Err(broken) => {
                    let _ = wire::send(control.as_fd(), &Tell::Broken { broken }, &[]);
                    1
                }
            };
            namespace::exit(status)
        }
    }
}

fn first(begun: Begun, control: &OwnedFd) -> Result<Init, Broken> {
    let recipe = &begun.recipe;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).step("die with its parent")?;
    rustix::process::setsid().step("begin a session")?;
    let mut spaces = UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWCGROUP;
    if recipe.network == Network::None {
        spaces |= UnshareFlags::NEWNET;
    }
    namespace::unshare(spaces).step("make namespaces")?;
    if recipe.network == Network::None {
        namespace::loopback_up().step("bring its loopback up")?;
    }
    let mounted = mounts::mount(recipe, &begun.doors)?;
    privilege::keep_few().step("drop its capabilities")?;
    let active = measure(&begun, &mounted).step("measure its isolation")?;
    wire::send(control.as_fd(), &Tell::Ready { active }, &[]).step("report")?;
    let control = control.try_clone().step("report")?;
    let Begun { recipe, counted, cgroup, .. } = begun;
    let scratch = PathBuf::from("/tmp");
    Ok(Init { control, recipe, isolated: true, counted, cgroup, scratch, jobs: BTreeMap::new() })
}

fn measure(begun: &Begun, mounted: &mounts::Mounted) -> io::Result<Active> {
    let recipe = &begun.recipe;
    let mut downgrades = mounted.downgrades.clone();
    let expected = inside::Expected {
        writable: &mounted.writable,
        masked: &mounted.masked,
        spaces: &begun.spaces,
        own_processes: !downgrades.iter().any(|text| text.starts_with("proc:")),
        own_user_space: !begun.root,
    };
    let measured = inside::measure(recipe, begun.counted, &expected)?;
    let level = inside::level(&measured, recipe.network);
    downgrades.extend(measured.iter().filter(|m| !m.holds).map(|m| format!("{}: {}", m.name, m.seen)));
    let mut mechanisms = inside::mechanisms(&measured);
    if recipe.network == Network::Host {
        downgrades.push("network: the host's, as asked".into());
    }
    if filter::program().is_none() {
        downgrades.push("seccomp: not known for this architecture".into());
    }
    if mounted.hidden > 0 {
        mechanisms.push(format!("{} places of secrets covered", mounted.hidden));
    }
    if recipe.limits.memory.is_some() || recipe.limits.processes.is_some() {
        mechanisms.push(if begun.cgroup { "cgroup v2 limits" } else { "rlimits and watched limits" }.into());
        if !begun.cgroup {
            downgrades
                .push("limits: no cgroup v2 that may be divided; memory and processes are watched".into());
        }
    }
    Ok(Active { level, mechanisms, downgrades, masked_sockets: mounted.masked.clone(), measured })
}

// Waits for the first process; ends it when the parent has gone.
fn attend(control: &OwnedFd, child: Pid) -> Result<(), Broken> {
    let handle = rustix::process::pidfd_open(child, PidfdFlags::empty()).step("watch its first process")?;
    loop {
        // no events asked: a hang-up is told all the same
        let mut fds = [PollFd::new(control, PollFlags::empty()), PollFd::new(&handle, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) if fds[1].revents().is_empty() => {
                let _ = rustix::process::pidfd_send_signal(&handle, Signal::KILL);
                break;
            }
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).step("watch its parent"),
        }
    }
    loop {
        match rustix::process::waitpid(Some(child), WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            _ => return Ok(()),
        }
    }
}

fn user(recipe: &Recipe) -> u32 {
    recipe.user.as_ref().map_or_else(|| rustix::process::getuid().as_raw(), |user| user.0)
}

// Processes of a user, threads counted, as RLIMIT_NPROC does.
fn processes_of(user: u32) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()))
        .filter(|entry| entry.metadata().is_ok_and(|about| about.uid() == user))
        .map(|entry| std::fs::read_dir(entry.path().join("task")).map_or(1, |tasks| tasks.count() as u64))
        .sum()
}
