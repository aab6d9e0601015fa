//! Rename, then tell the writer: nothing is copied and nothing can be lost. A new log with the old one's owner, mode and
//! attributes is in its place at every moment.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, OFlags, linkat, renameat, statat};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::place::{Log, Place};
use super::{Moved, Outcome, RotateError, Way};
use crate::base::name::shown;
use crate::plan::types::Rotate;
use crate::sys::process::Run;

/// A command that tells the writer may take so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Names that a run which was killed gave the log besides its own.
pub fn halves(place: &Place, log: &Log) -> Vec<Vec<u8>> {
    let is_log = |name: &[u8]| {
        statat(&place.dir, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (log.metadata.dev(), log.metadata.ino()))
    };
    place.rotated().into_iter().map(|(name, _)| name).filter(|name| is_log(name)).collect()
}

/// A run that was killed left the log under two names: takes the second away again.
pub fn undo_half(place: &Place, log: &Log) -> Result<(), RotateError> {
    for name in halves(place, log) {
        place.remove(&name).map_err(place.failed("remove", &name))?;
    }
    Ok(())
}

pub fn rotate(
    place: &Place,
    log: &Log,
    name: &[u8],
    rule: &Rotate,
    directory: &Path,
    outcome: &mut Outcome,
) -> Result<(), RotateError> {
    let failed = |act| place.failed(act, &place.name);
    let size = log.len();
    let (staged, _new) = place.create_like(log).map_err(failed("make a file beside"))?;
    let (from, to) = (OsStr::from_bytes(&place.name), OsStr::from_bytes(name));
    // a second name first, so that the log's own is never missing
    let renamed = match linkat(&place.dir, from, &place.dir, to, AtFlags::empty()) {
        Ok(()) => Ok(()),
        // some file systems have no second names
        Err(_) => place.rename(&place.name, name),
    };
    let renamed =
        renamed.and_then(|()| Ok(renameat(&place.dir, OsStr::from_bytes(&staged), &place.dir, from)?));
    if let Err(error) = renamed {
        let _ = place.remove(&staged);
        return Err(failed("rename")(error));
    }
    place.sync().map_err(failed("sync the directory of"))?;
    outcome.way = Some(Way::Renamed);
    let inode = log.metadata.ino();
    let path = place.path.join(from);
    outcome.moved = Some(Moved { log: path, inode, from: 0, to: size, taken: 0, aside: inode });
    tell(rule, directory).map_err(|why| RotateError::NotTold { path: place.full(&place.name), why })
}

fn tell(rule: &Rotate, directory: &Path) -> Result<(), String> {
    if let Some(command) = &rule.reopen {
        let run = Run {
            directory: Some(directory.to_owned()),
            limit: Some(PATIENCE),
            leave: true,
            ..Run::new(command.program())
        };
        let ended = run
            .run(&|| false)
            .map_err(|error| format!("{}: {error}", shown(command.to_string().as_bytes())))?;
        if !ended.is_success() {
            return Err(format!("{} {}", shown(command.to_string().as_bytes()), ended.how()));
        }
    }
    if let Some(pidfile) = &rule.pidfile {
        let signal = signal(&rule.signal).ok_or_else(|| format!("{:?} is not a signal", rule.signal))?;
        send(&directory.join(pidfile), signal)?;
    }
    Ok(())
}

/// The signal of a name, with or without `SIG`.
fn signal(name: &str) -> Option<Signal> {
    Some(match name.trim_start_matches("SIG") {
        "HUP" => Signal::HUP,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "WINCH" => Signal::WINCH,
        "TERM" => Signal::TERM,
        "INT" => Signal::INT,
        _ => return None,
    })
}

// A PID file says which process to signal: whoever may write it may name only a process of their own.
fn send(pidfile: &Path, signal: Signal) -> Result<(), String> {
    let shown_file = shown(pidfile.as_os_str().as_bytes());
    let file = rustix::fs::open(
        pidfile,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map(std::fs::File::from)
    .map_err(|error| format!("{shown_file}: {error}"))?;
    let owner = file.metadata().map_err(|error| format!("{shown_file}: {error}"))?.uid();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::io::Read::take(file, 64), &mut text)
        .map_err(|error| format!("{shown_file}: {error}"))?;
    let pid = text.trim().parse().ok().filter(|pid| *pid > 1).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| format!("{shown_file} holds no PID"))?;
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| format!("process {pid}: {error}"))?;
    let user =
        std::fs::metadata(format!("/proc/{pid}")).map_err(|error| format!("process {pid}: {error}"))?.uid();
    if owner != 0 && owner != user {
        return Err(format!("{shown_file} belongs to user {owner}, but process {pid} to user {user}"));
    }
    pidfd_send_signal(&process, signal).map_err(|error| format!("process {pid}: {error}"))
}
