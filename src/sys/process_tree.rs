//! Which processes belong to a run, and signals for all of them.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid};

use super::process::MARK;

/// A process, told from others that had or will have its PID by when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    /// The PID.
    pub pid: i32,
    /// When it started, in ticks since boot.
    pub started: u64,
}

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Which process.
    pub member: Member,
    /// Its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its state, such as `R` or `Z`.
    pub state: u8,
    /// Processor time used, in ticks.
    pub ticks: u64,
}

impl Stat {
    /// True if it is dead and only not reaped yet.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }
}

/// What the system says of a process; `None` if there is none.
pub fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // the name stands in parentheses and may hold anything
    let rest = &text[memchr::memrchr(b')', &text)? + 1..];
    let fields: Vec<&str> = str::from_utf8(rest).ok()?.split_ascii_whitespace().collect();
    let number = |i: usize| fields.get(i)?.parse::<u64>().ok();
    Some(Stat {
        member: Member { pid, started: number(19)? },
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        state: *fields.first()?.as_bytes().first()?,
        ticks: number(11)? + number(12)?,
    })
}

/// Every process of the system.
pub fn all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| stat(entry.ok()?.file_name().to_str()?.parse().ok()?)).collect()
}

/// The living processes of a run: its group, its leader's descendants, and those that carry its mark.
pub fn tree(leader: i32, mark: &OsStr) -> Vec<Member> {
    let all = all();
    let marked = marked(&all, mark).map(|member| member.pid);
    let grouped = all.iter().filter(|one| one.group == leader).map(|one| one.member.pid);
    let seeds: Vec<i32> = std::iter::once(leader).chain(grouped).chain(marked).collect();
    with_descendants(&all, seeds)
}

/// Those of the system's processes that carry a mark.
pub fn marked<'a>(all: &'a [Stat], mark: &OsStr) -> impl Iterator<Item = Member> + 'a {
    let mut wanted = MARK.as_bytes().to_vec();
    wanted.push(b'=');
    wanted.extend_from_slice(mark.as_bytes());
    all.iter().map(|one| one.member).filter(move |member| carries(member.pid, &wanted))
}

/// Those of the system's processes that live and are one of these, descend from one, or are of a group that one leads.
/// This process is never among them.
pub fn with_descendants(all: &[Stat], mut open: Vec<i32>) -> Vec<Member> {
    let own = std::process::id() as i32;
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for one in all {
        children.entry(one.parent).or_default().push(one.member.pid);
        children.entry(one.group).or_default().push(one.member.pid);
    }
    let mut found = HashSet::new();
    while let Some(pid) = open.pop() {
        if pid != own && found.insert(pid) {
            open.extend(children.get(&pid).into_iter().flatten());
        }
    }
    all.iter().filter(|one| found.contains(&one.member.pid) && !one.is_dead()).map(|one| one.member).collect()
}

// Children of this process that nobody waits for.
static RELEASED: Mutex<Vec<i32>> = Mutex::new(Vec::new());

/// Takes charge of a child that nobody will wait for.
pub(super) fn released(pid: i32) {
    RELEASED.lock().unwrap_or_else(PoisonError::into_inner).push(pid);
}

// Only this process can, if it is one of those.
fn reap_released(pid: i32) {
    let mut all = RELEASED.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(at) = all.iter().position(|one| *one == pid) else { return };
    if Pid::from_raw(pid).is_some_and(|pid| !matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None))) {
        all.swap_remove(at);
    }
}

/// Waits until none of these is left as dead and not reaped, at most so long: for others, such a process is still there.
pub fn wait_until_reaped(members: &[Member], limit: Duration) {
    let began = Instant::now();
    let is_left = |member: &Member| {
        let is_dead = || stat(member.pid).is_some_and(|now| now.member == *member && now.is_dead());
        if is_dead() {
            reap_released(member.pid);
        }
        is_dead()
    };
    while members.iter().any(is_left) && began.elapsed() < limit {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// True if it lives, and is the process it was.
pub fn is_alive(member: Member) -> bool {
    stat(member.pid).is_some_and(|now| now.member == member && !now.is_dead())
}

fn carries(pid: i32, wanted: &[u8]) -> bool {
    fs::read(format!("/proc/{pid}/environ")).is_ok_and(|all| all.split(|&b| b == 0).any(|one| one == wanted))
}

/// Sends a signal to each that is still the process it was.
pub fn signal_all(members: &[Member], signal: Signal) {
    for member in members {
        let Some(pid) = Pid::from_raw(member.pid) else { continue };
        let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        // the descriptor holds whoever has the PID now: only now is it sure who that is
        if stat(member.pid).is_some_and(|now| now.member == *member) {
            // nobody left to tell is what is wanted
            let _ = pidfd_send_signal(&descriptor, signal);
        }
    }
}
