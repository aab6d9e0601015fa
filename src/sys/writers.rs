//! Who has a file open for writing.

use std::fs;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;

/// A process that has a file open for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    /// Its PID.
    pub pid: i32,
    /// True if each write goes to the file's end, wherever that is then (`O_APPEND`).
    pub appends: bool,
}

/// What is known of a file's writers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writers {
    /// Those that were seen.
    pub seen: Vec<Writer>,
    /// False if there may be others: of some process this one may not see the files.
    pub is_complete: bool,
}

/// The processes that have the file of this device and inode open for writing.
pub fn writers(device: u64, inode: u64) -> Writers {
    let mut found = Writers { seen: Vec::new(), is_complete: true };
    let Ok(processes) = fs::read_dir("/proc") else { return Writers::default() };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let files = match fs::read_dir(process.path().join("fd")) {
            Ok(files) => files,
            // it ended
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(_) => {
                found.is_complete = false;
                continue;
            }
        };
        for file in files.flatten() {
            let is_it = fs::metadata(file.path()).is_ok_and(|m| (m.dev(), m.ino()) == (device, inode));
            if !is_it {
                continue;
            }
            let info = process.path().join("fdinfo").join(file.file_name());
            let text = fs::read_to_string(info).unwrap_or_default();
            let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = flags.and_then(|octal| i32::from_str_radix(octal.trim(), 8).ok()).unwrap_or_default();
            if flags & libc::O_ACCMODE != libc::O_RDONLY {
                found.seen.push(Writer { pid, appends: flags & libc::O_APPEND != 0 });
            }
        }
    }
    found
}

/// Whether anybody has the file open for writing, as the kernel knows it; `None` where the file system or the
/// file's owner does not let one ask. The file must be open for reading only.
pub fn has_writer(file: BorrowedFd<'_>) -> Option<bool> {
    let lease = |kind: libc::c_int| {
        // SAFETY: a call with numbers only.
        #[allow(unsafe_code, reason = "no crate has leases")]
        let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) };
        if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().raw_os_error()) }
    };
    match lease(libc::F_RDLCK) {
        Ok(()) => {
            // given back at once: it would hold up the next writer
            let _ = lease(libc::F_UNLCK);
            Some(false)
        }
        Err(Some(libc::EAGAIN)) => Some(true),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn writers_are_seen_and_how_they_write() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let metadata = file.as_file().metadata().unwrap();
        let me = std::process::id().cast_signed();
        let mine = || {
            let all = writers(metadata.dev(), metadata.ino()).seen;
            all.into_iter().filter(|w| w.pid == me).map(|w| w.appends).collect::<Vec<_>>()
        };
        assert_eq!(mine(), [false]);
        let append = fs::OpenOptions::new().append(true).open(file.path()).unwrap();
        let mut both = mine();
        both.sort_unstable();
        assert_eq!(both, [false, true]);
        let reader = fs::File::open(file.path()).unwrap();
        assert_ne!(has_writer(reader.as_fd()), Some(false));
        let path = file.into_temp_path();
        drop(append);
        assert_ne!(has_writer(reader.as_fd()), Some(true));
        assert_eq!(mine(), [] as [bool; 0]);
        drop(path);
    }
}
