//! Files of the host through which its services are spoken to: sockets and named pipes. A read-only mount does not close them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

/// All of them, as far as this user can see them.
pub(super) fn doors() -> Vec<PathBuf> {
    let mut found = BTreeSet::new();
    let mut spaces = BTreeSet::new();
    sockets(Path::new("/proc/self"), &mut spaces, &mut found);
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if entry.file_name().as_bytes().first().is_some_and(u8::is_ascii_digit) {
            sockets(&entry.path(), &mut spaces, &mut found);
            pipes(&entry.path(), &mut found);
        }
    }
    found.into_iter().collect()
}

// What processes listen on or receive at in the network namespace of this one.
fn sockets(process: &Path, spaces: &mut BTreeSet<PathBuf>, found: &mut BTreeSet<PathBuf>) {
    let is_new = fs::read_link(process.join("ns/net")).is_ok_and(|space| spaces.insert(space));
    if !is_new {
        return;
    }
    let table = fs::read(process.join("net/unix")).unwrap_or_default();
    for line in table.split(|&b| b == b'\n').skip(1) {
        if let Some(start) = memchr::memmem::find(line, b" /") {
            let path = Path::new(OsStr::from_bytes(&line[start + 1..]));
            // the name as bound may lead through links; the file itself is what is covered
            found.insert(path.canonicalize().unwrap_or_else(|_| path.to_owned()));
        }
    }
}

// Named pipes that this process has open: one that nobody has open leads nowhere.
fn pipes(process: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
        let Ok(path) = fs::read_link(entry.path()) else { continue };
        if path.is_absolute() && path.symlink_metadata().is_ok_and(|about| about.file_type().is_fifo()) {
            found.insert(path);
        }
    }
}
