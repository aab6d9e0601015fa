//! Processes below this one, from /proc.

use std::collections::{BTreeMap, BTreeSet};

use rustix::process::{Pid, Signal};

/// How often processes that are new are looked for before all are killed.
const ROUNDS: u32 = 32;

/// A process below this one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    /// As /proc calls it.
    shown: i32,
    parent: i32,
    /// As this process calls it. Another number where /proc is the host's.
    inner: i32,
    /// Memory of its own, in bytes.
    memory: u64,
}

/// All processes below this one.
pub(super) fn all() -> Vec<Process> {
    let Some(own) = std::fs::read_link("/proc/self").ok().and_then(|link| link.to_str()?.parse().ok()) else {
        return Vec::new();
    };
    let found: Vec<Process> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| process(entry.file_name().to_str()?.parse().ok()?))
        .collect();
    below(&found, own)
}

/// The processes of a job, its supervisor left out.
pub(super) fn of(all: &[Process], supervisor: Pid) -> Vec<Process> {
    let inner = supervisor.as_raw_nonzero().get();
    all.iter().find(|p| p.inner == inner).map(|p| below(all, p.shown)).unwrap_or_default()
}

/// Bytes of memory of all.
pub(super) fn memory(processes: &[Process]) -> u64 {
    processes.iter().map(|process| process.memory).sum()
}

/// Sends a signal to each; those that have gone meanwhile do not matter.
pub(super) fn signal(processes: &[Process], signal: Signal) {
    for process in processes {
        if let Some(pid) = Pid::from_raw(process.inner) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

/// Kills the processes of a job: all are stopped before the first is killed, so that none can fork in between.
pub(super) fn kill(supervisor: Pid) {
    let mut stopped = BTreeSet::new();
    for _ in 0..ROUNDS {
        let mut found = of(&all(), supervisor);
        found.retain(|process| stopped.insert(process.inner));
        if found.is_empty() {
            break;
        }
        signal(&found, Signal::STOP);
    }
    signal(&of(&all(), supervisor), Signal::KILL);
}

fn below(all: &[Process], top: i32) -> Vec<Process> {
    let mut children: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(*process);
    }
    let (mut found, mut next) = (Vec::new(), vec![top]);
    while let Some(parent) = next.pop() {
        for process in children.remove(&parent).unwrap_or_default() {
            next.push(process.shown);
            found.push(process);
        }
    }
    found
}

fn process(shown: i32) -> Option<Process> {
    let text = std::fs::read_to_string(format!("/proc/{shown}/status")).ok()?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = |name: &str| -> u64 {
        field(name).and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    Some(Process {
        shown,
        parent: field("PPid:")?.trim().parse().ok()?,
        inner: field("NSpid:").and_then(|list| list.split_whitespace().last()?.parse().ok()).unwrap_or(shown),
        memory: (kilobytes("RssAnon:") + kilobytes("RssShmem:")) * 1024,
    })
}
