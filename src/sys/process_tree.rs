//! Which processes belong to a run, and signals for all of them.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::process::MARK;

/// A process, told from others that had or will have its PID by when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
fn all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| stat(entry.ok()?.file_name().to_str()?.parse().ok()?)).collect()
}

/// The living processes of a run: its group, its leader's descendants, and those that carry its mark.
pub fn tree(leader: i32, mark: &OsStr) -> Vec<Member> {
    let all = all();
    let own = std::process::id() as i32;
    let mut wanted = MARK.as_bytes().to_vec();
    wanted.push(b'=');
    wanted.extend_from_slice(mark.as_bytes());
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    let mut open = vec![leader];
    for one in &all {
        children.entry(one.parent).or_default().push(one.member.pid);
        if one.group == leader || carries(one.member.pid, &wanted) {
            open.push(one.member.pid);
        }
    }
    let mut found = HashSet::new();
    while let Some(pid) = open.pop() {
        if pid != own && found.insert(pid) {
            open.extend(children.get(&pid).into_iter().flatten());
        }
    }
    all.iter().filter(|one| found.contains(&one.member.pid) && !one.is_dead()).map(|one| one.member).collect()
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
