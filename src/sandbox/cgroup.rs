//! Limits by cgroup v2, where the host has handed one down that this process may divide.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::recipe::Limits;

/// A cgroup made for one sandbox. Removed by [`Group::remove`] when nobody is in it any more.
pub(super) struct Group {
    path: PathBuf,
    /// Where the helper came from, and goes back to.
    home: PathBuf,
}

impl Group {
    /// Makes one below this process's own or one above, and enters it; `None` if that is not possible here.
    pub fn enter(limits: &Limits) -> Option<Self> {
        if limits.memory.is_none() && limits.processes.is_none() {
            return None;
        }
        let top = top()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let home = top.join(own);
        let name = format!("lifeboat-{}", std::process::id());
        home.ancestors().take_while(|place| place.starts_with(&top)).find_map(|place| {
            let handed = fs::read_to_string(place.join("cgroup.subtree_control")).ok()?;
            if !["memory", "pids"].iter().all(|word| handed.split_whitespace().any(|w| w == *word)) {
                return None;
            }
            let path = place.join(&name);
            fs::create_dir(&path).ok()?;
            let group = Self { path, home: home.clone() };
            match group.fill(limits) {
                Ok(()) => Some(group),
                Err(_) => {
                    group.remove();
                    None
                }
            }
        })
    }

    fn fill(&self, limits: &Limits) -> io::Result<()> {
        if let Some(bytes) = limits.memory {
            fs::write(self.path.join("memory.max"), bytes.to_string())?;
            // without swap accounting this file is not there
            let _ = fs::write(self.path.join("memory.swap.max"), "0");
        }
        if let Some(count) = limits.processes {
            // the first process, and a supervisor or two
            fs::write(self.path.join("pids.max"), count.saturating_add(4).to_string())?;
        }
        fs::write(self.path.join("cgroup.procs"), "0")
    }

    /// The helper goes back to where it came from; its children stay.
    pub fn leave(&self) {
        let _ = fs::write(self.home.join("cgroup.procs"), "0");
    }

    /// Kills whoever is left, and removes the group.
    pub fn remove(&self) {
        self.leave();
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
        let _ = fs::remove_dir(&self.path);
    }
}

fn top() -> Option<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    table.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4).map(|p| Path::new(p).to_owned()))?
    })
}
