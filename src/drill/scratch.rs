//! The directory of a drill: the copy and all that it writes, with a lease by which anybody sees whether it is in use.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

use super::DrillError;
use crate::base::time::Timestamp;
use crate::sys::host::random_hex;
use crate::tree::remove::remove_tree;

/// What the names of these directories begin with.
pub const PREFIX: &str = "lifeboat-drill-";
/// What the names of the directories of a trial begin with.
pub const TRIAL: &str = "lifeboat-try-";
// what has no lease yet
const MAKING: &str = ".lifeboat-making-";
const LEASE: &str = "lease.json";

/// Who uses a directory.
#[derive(Debug, Serialize, Deserialize)]
struct Lease {
    run: String,
    pid: i32,
    // of the process, in clock ticks since the machine started: a number may be given to another process
    began: u64,
    at: Timestamp,
    // somebody wants to look at it: it is not removed with what was left behind
    #[serde(default)]
    kept: bool,
}

/// A drill's directory. Dropped, it is removed, unless it is to be kept.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// The drill's id.
    pub run: String,
    at: Timestamp,
    keep: bool,
    gone: bool,
}

impl Lease {
    // Of this process.
    fn of_this(run: &str, at: Timestamp) -> Self {
        let pid = std::process::id().cast_signed();
        let began = start_of(pid).unwrap_or_default();
        Self { run: run.to_owned(), pid, began, at, kept: false }
    }
}

fn write_lease(directory: &Path, lease: &Lease) -> Result<(), DrillError> {
    let file = directory.join(LEASE);
    let text = serde_json::to_vec(lease).unwrap_or_default();
    let written = File::create(&file).and_then(|mut f| f.write_all(&text));
    let path = file.display().to_string();
    written.map_err(|source| DrillError::Io { act: "write", path, source })
}

/// Gives a directory that another command made for itself a lease of this process, so that [`reap`] takes it away if
/// the process is killed. Its name must begin with [`TRIAL`].
///
/// # Errors
/// If the lease cannot be written.
pub fn lease(directory: &Path, run: &str, at: Timestamp) -> Result<(), DrillError> {
    write_lease(directory, &Lease::of_this(run, at))
}

impl Scratch {
    /// Makes one in `place`, with a lease of this process.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn make(place: &Path, at: Timestamp) -> Result<Self, DrillError> {
        let bad = |act: &'static str, path: &Path| {
            let path = path.display().to_string();
            move |source: io::Error| DrillError::Io { act, path, source }
        };
        let run = random_hex().map_err(bad("make a name below", place))?;
        let path = place.join(format!("{PREFIX}{run}"));
        // under another name until it has its lease: one killed in between leaves nothing that looks like a drill's without one
        let making = place.join(format!("{MAKING}{run}"));
        fs::DirBuilder::new().mode(0o700).create(&making).map_err(bad("make", &making))?;
        let made = write_lease(&making, &Lease::of_this(&run, at))
            .and_then(|()| fs::rename(&making, &path).map_err(bad("rename", &making)));
        if let Err(error) = made {
            let _ = remove_tree(&making);
            return Err(error);
        }
        let scratch = Self { path, run, at, keep: false, gone: false };
        for name in ["tree", "scratch"] {
            let path = scratch.path.join(name);
            // others must come through to the copy when the application's user is another
            fs::DirBuilder::new().mode(0o755).create(&path).map_err(bad("make", &path))?;
        }
        Ok(scratch)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the copy goes.
    pub fn tree(&self) -> PathBuf {
        self.path.join("tree")
    }

    /// For what the sandbox writes beside the copy.
    pub fn sandbox(&self) -> PathBuf {
        self.path.join("scratch")
    }

    /// Leaves it behind for people to look at.
    ///
    /// # Errors
    /// If its lease cannot be written.
    pub fn keep(&mut self) -> Result<(), DrillError> {
        self.keep = true;
        let lease = Lease { kept: true, ..Lease::of_this(&self.run, self.at) };
        write_lease(&self.path, &lease)
    }

    /// Removes it now; what could not be removed is named.
    pub fn remove(&mut self) -> Vec<String> {
        if self.keep {
            return Vec::new();
        }
        self.gone = true;
        match remove_tree(&self.path) {
            Ok(()) => Vec::new(),
            Err(error) => vec![format!("{}: {error}", self.path.display())],
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.gone {
            let _ = self.remove();
        }
    }
}

/// A directory that a drill left, and what became of it.
#[derive(Debug, Serialize)]
pub struct Reaped {
    /// Where it is or was.
    pub path: PathBuf,
    /// True: nobody used it, and it is gone.
    pub removed: bool,
    /// Why it is still there.
    pub why: String,
}

/// Removes what drills that were killed left in `place`. Only directories with a lease, and only those
/// whose process is not there any more; what was kept to be looked at only with `kept`. With `dry_run` nothing is removed.
///
/// # Errors
/// If the place cannot be read.
pub fn reap(place: &Path, kept: bool, dry_run: bool) -> io::Result<Vec<Reaped>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(place)? {
        let path = entry?.path();
        let is_ours = |name: &str| [PREFIX, TRIAL, MAKING].iter().any(|prefix| name.starts_with(prefix));
        let named = path.file_name().and_then(|n| n.to_str()).is_some_and(is_ours);
        let owner = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_dir).map(|m| m.uid());
        if !named || owner != Some(rustix::process::geteuid().as_raw()) {
            continue;
        }
        let lease = fs::read(path.join(LEASE)).ok().and_then(|b| serde_json::from_slice::<Lease>(&b).ok());
        let why = match lease {
            None => "it has no lease that can be read; look at it, and remove it by hand".to_owned(),
            Some(lease) if is_alive(&lease) => {
                format!("the drill {} still runs (process {})", lease.run, lease.pid)
            }
            Some(lease) if lease.kept && !kept => {
                "it was kept to be looked at; gc --kept removes it".to_owned()
            }
            Some(_) if dry_run => "it would be removed".to_owned(),
            Some(_) => remove_tree(&path).err().map_or_else(String::new, |error| error.to_string()),
        };
        found.push(Reaped { removed: why.is_empty(), path, why });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn is_alive(lease: &Lease) -> bool {
    let there = Pid::from_raw(lease.pid).is_some_and(|pid| {
        // somebody else's process is a process too
        !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH))
    });
    there && start_of(lease.pid).is_none_or(|began| began == lease.began)
}

// Field 22 of /proc/PID/stat, counted after the name in brackets, which may hold anything.
fn start_of(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Clock;

    #[test]
    fn only_what_nobody_uses_is_reaped() {
        let place = tempfile::tempdir().unwrap();
        let used = Scratch::make(place.path(), Clock::System.now()).unwrap();
        let left = place.path().join(format!("{PREFIX}left"));
        fs::create_dir_all(left.join("tree/closed")).unwrap();
        let lease =
            Lease { run: "left".into(), pid: used_pid(), began: 1, at: Clock::System.now(), kept: false };
        fs::write(left.join(LEASE), serde_json::to_vec(&lease).unwrap()).unwrap();
        let strange = place.path().join(format!("{PREFIX}strange"));
        fs::create_dir(&strange).unwrap();
        fs::create_dir(place.path().join("other")).unwrap();

        assert_eq!(reap(place.path(), false, true).unwrap().iter().filter(|r| r.removed).count(), 0);
        let found = reap(place.path(), false, false).unwrap();
        let removed: Vec<_> = found.iter().filter(|r| r.removed).map(|r| r.path.clone()).collect();
        assert_eq!((removed, found.len()), (vec![left.clone()], 3));
        assert!(!left.exists() && used.path().exists() && strange.exists());
    }

    // This process's number with another start: given to it after somebody else ended.
    fn used_pid() -> i32 {
        std::process::id().cast_signed()
    }
}
