//! The directories of a repository's folder, gone through by descriptor and never through a link: what somebody planted
//! in a repository must not make whoever writes or prunes there touch files elsewhere. The folder itself may be reached
//! through links; its user named it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{Key, Result, StoreError};

/// So many bytes of two files are held against each other in one go.
const COMPARED_AT_ONCE: usize = 64 << 10;

/// Directories below one, and what of them is owed a sync.
pub(super) struct Folders {
    root: PathBuf,
    owed: Mutex<Owed>,
}

#[derive(Default)]
struct Owed {
    unsynced: BTreeSet<PathBuf>,
    // directories whose own name was made durable by this process, or will be by its next sync
    named: BTreeSet<PathBuf>,
}

impl Folders {
    /// Those of this folder.
    pub(super) fn of(root: PathBuf) -> Self {
        Self { root, owed: Mutex::default() }
    }

    /// The folder.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where an object or a directory lies.
    pub(super) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    fn owed(&self) -> MutexGuard<'_, Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that names in this directory changed.
    pub(super) fn touched(&self, dir: &Path) {
        self.owed().unsynced.insert(dir.to_owned());
    }

    /// Makes the names in all directories that were touched durable.
    ///
    /// # Errors
    /// If that fails for one.
    pub(super) fn sync(&self) -> Result<()> {
        let dirs = std::mem::take(&mut self.owed().unsynced);
        dirs.iter().try_for_each(|dir| {
            let synced = File::open(dir).and_then(|d| d.sync_all());
            synced.map_err(StoreError::io("sync the directory", dir.display()))
        })
    }

    fn open_root(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(&self.root, flags, Mode::empty())?)
    }

    /// A directory below the folder; the folder itself if `dir` is empty.
    ///
    /// # Errors
    /// If it is missing, or it or one above it is a link.
    pub(super) fn open(&self, dir: &str) -> io::Result<OwnedFd> {
        components(dir).try_fold(self.open_root()?, |at, name| step(&at, name))
    }

    /// The same; what is missing of it is made, with nobody else allowed in.
    ///
    /// # Errors
    /// If it cannot be made, or it or one above it is a link.
    pub(super) fn make(&self, dir: &str) -> Result<OwnedFd> {
        let failed = |path: &Path, e| StoreError::io("make the directory", path.display())(e);
        let mut at = self.open_root().map_err(|e| failed(&self.root, e))?;
        let mut path = self.root.clone();
        for name in components(dir) {
            let above = path.clone();
            path.push(name);
            at = step_or_make(&at, name).map_err(|e| failed(&path, e))?;
            self.owe_name(above, &path);
        }
        Ok(at)
    }

    // Whoever made a directory may have been killed before it was synced: each process that relies on it makes its name
    // durable once.
    fn owe_name(&self, above: PathBuf, dir: &Path) {
        let mut owed = self.owed();
        if !owed.named.contains(dir) {
            owed.named.insert(dir.to_owned());
            owed.unsynced.insert(above);
        }
    }

    /// Deletes an object's file. What it should lie in is not followed if it is a link.
    ///
    /// # Errors
    /// If it is missing or cannot be deleted.
    pub(super) fn delete(&self, key: &Key) -> io::Result<()> {
        let (dir, name) = split(key);
        rustix::fs::unlinkat(self.open(dir)?, name, AtFlags::empty())?;
        self.touched(&self.path(dir));
        Ok(())
    }
}

/// The directory that an object lies in, and its name there.
pub(super) fn split(key: &Key) -> (&str, &str) {
    key.as_str().rsplit_once('/').unwrap_or(("", key.as_str()))
}

fn components(dir: &str) -> impl Iterator<Item = &str> {
    dir.split('/').filter(|name| !name.is_empty())
}

fn step(at: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(at, name, flags, Mode::empty()) {
        Err(Errno::NOTDIR | Errno::LOOP) => {
            let why = format!(
                "`{name}` is a link or a file where a directory belongs, and nothing is written or deleted through it: \
                 put the directory itself there"
            );
            Err(io::Error::new(io::ErrorKind::NotADirectory, why))
        }
        other => Ok(other?),
    }
}

fn step_or_make(at: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    match step(at, name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    match rustix::fs::mkdirat(at, name, Mode::RWXU) {
        // another process was faster
        Ok(()) | Err(Errno::EXIST) => step(at, name),
        Err(e) => Err(e.into()),
    }
}

/// Gives a file another name, which nothing has yet.
///
/// # Errors
/// If the name is taken, or it cannot be renamed.
pub(super) fn rename_noreplace(from: (&OwnedFd, &str), to: (&OwnedFd, &str)) -> io::Result<()> {
    match rustix::fs::renameat_with(from.0, from.1, to.0, to.1, RenameFlags::NOREPLACE) {
        // file systems that cannot promise it in one step (some network ones); link and unlink can
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::linkat(from.0, from.1, to.0, to.1, AtFlags::empty())?;
            Ok(rustix::fs::unlinkat(from.0, from.1, AtFlags::empty())?)
        }
        other => Ok(other?),
    }
}

/// Gives a file another name, in place of what has it, in one step.
///
/// # Errors
/// If it cannot be renamed.
pub(super) fn replace(from: (&OwnedFd, &str), to: (&OwnedFd, &str)) -> io::Result<()> {
    Ok(rustix::fs::renameat(from.0, from.1, to.0, to.1)?)
}

/// True if the named file is a regular one with exactly the bytes of this one. What cannot be read is not the same.
pub(super) fn same_bytes(file: &File, named: (&OwnedFd, &str)) -> bool {
    compare(file, named).unwrap_or(false)
}

fn compare(file: &File, named: (&OwnedFd, &str)) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let other = File::from(rustix::fs::openat(named.0, named.1, flags, Mode::empty())?);
    let (wanted, found) = (file.metadata()?, other.metadata()?);
    if !found.is_file() || found.len() != wanted.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; COMPARED_AT_ONCE], vec![0; COMPARED_AT_ONCE]);
    let mut at = 0;
    while at < wanted.len() {
        let len = (wanted.len() - at).min(COMPARED_AT_ONCE as u64) as usize;
        file.read_exact_at(&mut left[..len], at)?;
        other.read_exact_at(&mut right[..len], at)?;
        if left[..len] != right[..len] {
            return Ok(false);
        }
        at += len as u64;
    }
    Ok(true)
}

/// Deletes the regular files of a directory whose names begin so, and nothing else. Returns their bytes.
///
/// # Errors
/// If the directory cannot be listed, or one cannot be deleted.
pub(super) fn clear(dir: &OwnedFd, prefix: &str) -> io::Result<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listed = rustix::fs::openat(dir, ".", flags, Mode::empty())?;
    let mut removed = 0;
    for entry in Dir::read_from(&listed)? {
        let entry = entry?;
        let name = entry.file_name();
        if !name.to_bytes().starts_with(prefix.as_bytes()) {
            continue;
        }
        let cleared = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).and_then(|stat| {
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Ok(0);
            }
            rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
            Ok(stat.st_size.cast_unsigned())
        });
        match cleared {
            Ok(bytes) => removed += bytes,
            // its writer ended meanwhile
            Err(Errno::NOENT) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_somebody_else_made_is_owed_a_sync_of_its_parent_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("packs/ab")).unwrap();
        let folders = Folders::of(dir.path().to_owned());
        let owed = || folders.owed().unsynced.clone();
        folders.make("packs/ab").unwrap();
        assert_eq!(owed(), BTreeSet::from([dir.path().to_owned(), dir.path().join("packs")]));
        folders.sync().unwrap();
        folders.make("packs/ab").unwrap();
        assert_eq!(owed(), BTreeSet::new());
        folders.make("packs/cd").unwrap();
        assert_eq!(owed(), BTreeSet::from([dir.path().join("packs")]));
    }
}
