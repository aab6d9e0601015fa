//! A folder of the local file system.
//!
//! Durability (format.md, section 9): a file is written under `tmp/`, synced, renamed to its name
//! without ever replacing, and its directory is synced by [`Store::sync`], once for many files.
//! A sync that failed is never tried again: the file's writer fails.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FlockOperation, RenameFlags};

use super::{Key, Kind, Lock, LockMode, ObjectInfo, Published, Result, Staged, Store, StoreError};

const TMP: &str = "tmp";

/// A repository's folder.
pub struct LocalStore {
    root: PathBuf,
    unsynced: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl LocalStore {
    /// The store in an existing folder.
    pub fn open(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), unsynced: Arc::default() }
    }

    /// Makes the folder, if it is missing, with nobody else allowed in.
    ///
    /// # Errors
    /// If it cannot be made or is not empty.
    pub fn create(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let shown = root.display();
        private_dir(true).create(&root).map_err(StoreError::io("make the directory", &shown))?;
        let mut entries = fs::read_dir(&root).map_err(StoreError::io("list", &shown))?;
        if entries.next().is_some() {
            let source = io::Error::new(io::ErrorKind::DirectoryNotEmpty, "it is not empty");
            return Err(StoreError::Io { act: "make a repository in", what: shown.to_string(), source });
        }
        fs::set_permissions(&root, fs::Permissions::from_mode(0o700))
            .map_err(StoreError::io("set the mode of", &shown))?;
        let store = Self::open(root);
        store.make_dir(&store.root.join(TMP))?;
        if let Some(parent) = store.root.parent() {
            store.touched(parent);
        }
        Ok(store)
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }

    fn missing_or(&self, key: &Key, error: io::Error) -> StoreError {
        if error.kind() == io::ErrorKind::NotFound {
            return StoreError::Missing { key: key.clone() };
        }
        self.unreadable_or("open", key, error)
    }

    fn unreadable_or(&self, act: &'static str, key: &Key, error: io::Error) -> StoreError {
        if is_of_the_medium(&error) && !self.is_out_of_reach() {
            return StoreError::Unreadable { key: key.clone(), source: error };
        }
        StoreError::io(act, self.path(key).display())(error)
    }

    // A disk that was pulled fails as one with a bad sector does, but for all objects: a small one is asked for
    // from the disk itself, not from what the kernel has kept of it.
    fn is_out_of_reach(&self) -> bool {
        let asked = File::open(self.path(&Key::repository())).and_then(|file| {
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
            file.read_at(&mut [0], 0)
        });
        asked.is_err_and(|error| is_of_the_medium(&error))
    }

    fn touched(&self, dir: &Path) {
        touched(&self.unsynced, dir);
    }

    fn make_dir(&self, dir: &Path) -> Result<()> {
        make_dir(&self.root, &self.unsynced, dir)
    }

    // Every file of a kind that has the name of an object.
    fn walk(&self, kind: Kind, mut found: impl FnMut(Key, &walkdir::DirEntry) -> Result<()>) -> Result<()> {
        let top = self.root.join(kind.folder());
        for entry in walkdir::WalkDir::new(&top).follow_links(false) {
            let entry = match entry {
                Ok(entry) => entry,
                // a folder is made with its first object
                Err(e) if e.depth() == 0 && is_missing(e.io_error()) => return Ok(()),
                // deleted by another process since the directory was read
                Err(e) if is_missing(e.io_error()) => continue,
                Err(e) => return Err(StoreError::io("list", top.display())(e.into())),
            };
            if !entry.file_type().is_file() {
                continue;
            }
            let name = entry.path().strip_prefix(&self.root).ok().and_then(Path::to_str);
            if let Some(key) = name.and_then(Key::from_listing) {
                found(key, &entry)?;
            }
        }
        Ok(())
    }
}

fn private_dir(recursive: bool) -> fs::DirBuilder {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(recursive).mode(0o700);
    builder
}

fn touched(unsynced: &Mutex<BTreeSet<PathBuf>>, dir: &Path) {
    unsynced.lock().unwrap_or_else(PoisonError::into_inner).insert(dir.to_owned());
}

// Makes a directory below `root` and those above it; each one made is owed a sync of its parent.
fn make_dir(root: &Path, unsynced: &Mutex<BTreeSet<PathBuf>>, dir: &Path) -> Result<()> {
    match private_dir(false).create(dir) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound && dir != root => {
            let parent = dir.parent().unwrap_or(root);
            make_dir(root, unsynced, parent)?;
            return make_dir(root, unsynced, dir);
        }
        Err(e) => return Err(StoreError::io("make the directory", dir.display())(e)),
    }
    touched(unsynced, dir.parent().unwrap_or(root));
    Ok(())
}

fn sync_dir(dir: &Path) -> Result<()> {
    let synced = File::open(dir).and_then(|d| d.sync_all());
    synced.map_err(StoreError::io("sync the directory", dir.display()))
}

impl Store for LocalStore {
    fn directory(&self) -> Option<&Path> {
        Some(&self.root)
    }

    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn read_at(&self, key: &Key, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let file = File::open(self.path(key)).map_err(|e| self.missing_or(key, e))?;
        match file.read_exact_at(buffer, offset) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                let end = offset.saturating_add(buffer.len() as u64);
                let have = file.metadata().map_err(StoreError::io("read", self.path(key).display()))?.len();
                Err(StoreError::Short { key: key.clone(), end, have })
            }
            Err(e) => Err(self.unreadable_or("read", key, e)),
        }
    }

    fn size(&self, key: &Key) -> Result<u64> {
        let metadata = fs::symlink_metadata(self.path(key)).map_err(|e| self.missing_or(key, e))?;
        if metadata.is_file() {
            return Ok(metadata.len());
        }
        let source = io::Error::other("it is not a regular file");
        Err(StoreError::Unreadable { key: key.clone(), source })
    }

    fn stage(&self) -> Result<Box<dyn Staged>> {
        let tmp = self.root.join(TMP);
        self.make_dir(&tmp)?;
        let file = tempfile::Builder::new().prefix("new-").tempfile_in(&tmp);
        let file = file.map_err(StoreError::io("write in", tmp.display()))?;
        Ok(Box::new(LocalStaged { root: self.root.clone(), unsynced: Arc::clone(&self.unsynced), file }))
    }

    fn list(&self, kind: Kind) -> Result<Vec<ObjectInfo>> {
        let mut found = Vec::new();
        self.walk(kind, |key, entry| {
            match entry.metadata() {
                Ok(m) => found.push(ObjectInfo {
                    key,
                    bytes: m.size(),
                    modified: m.modified().unwrap_or(std::time::UNIX_EPOCH),
                }),
                Err(e) if is_missing(e.io_error()) => {}
                Err(e) => {
                    return Err(StoreError::io("list", self.root.join(kind.folder()).display())(e.into()));
                }
            }
            Ok(())
        })?;
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    fn names(&self, kind: Kind) -> Result<Vec<Key>> {
        let mut found = Vec::new();
        self.walk(kind, |key, _| {
            found.push(key);
            Ok(())
        })?;
        found.sort_unstable();
        Ok(found)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(StoreError::io("delete", path.display())(e)),
        }
        self.touched(path.parent().unwrap_or(&self.root));
        Ok(())
    }

    fn rename(&self, from: &Key, to: &Key) -> Result<()> {
        let (old, new) = (self.path(from), self.path(to));
        let parent = new.parent().unwrap_or(&self.root);
        self.make_dir(parent)?;
        rename_noreplace(&old, &new).map_err(|e| self.missing_or(from, e))?;
        self.touched(parent);
        self.touched(old.parent().unwrap_or(&self.root));
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let dirs = std::mem::take(&mut *self.unsynced.lock().unwrap_or_else(PoisonError::into_inner));
        dirs.iter().try_for_each(|dir| sync_dir(dir))
    }

    fn lock(&self, mode: LockMode) -> Result<Lock> {
        let key = Key::repository();
        let file = File::open(self.path(&key)).map_err(|e| self.missing_or(&key, e))?;
        let operation = match mode {
            LockMode::Shared => FlockOperation::NonBlockingLockShared,
            LockMode::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        match rustix::fs::flock(&file, operation) {
            Ok(()) => Ok(Lock::Held(Box::new(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(Lock::Busy),
            // some network file systems have no locks
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOLCK | rustix::io::Errno::NOSYS) => {
                Ok(Lock::Unsupported)
            }
            Err(e) => Err(StoreError::io("lock", self.path(&key).display())(e.into())),
        }
    }

    fn clear_staged(&self) -> Result<u64> {
        let tmp = self.root.join(TMP);
        let entries = match fs::read_dir(&tmp) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(e) => return Err(StoreError::io("list", tmp.display())(e)),
        };
        let mut removed = 0;
        for entry in entries {
            let path = entry.map_err(StoreError::io("list", tmp.display()))?.path();
            let bytes = fs::symlink_metadata(&path).map_or(0, |m| m.len());
            fs::remove_file(&path).map_err(StoreError::io("delete", path.display()))?;
            removed += bytes;
        }
        Ok(removed)
    }
}

fn is_missing(error: Option<&io::Error>) -> bool {
    error.is_some_and(|e| e.kind() == io::ErrorKind::NotFound)
}

// What a disk or a file system says of bytes that it has lost, as against a refusal.
fn is_of_the_medium(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let told = Errno::from_io_error(error);
    told.is_some_and(|errno| {
        [Errno::IO, Errno::BADMSG, Errno::UCLEAN, Errno::NODATA, Errno::REMOTEIO].contains(&errno)
    })
}

// EINVAL: file systems that cannot promise it in one step (some network ones); link and unlink can
fn rename_noreplace(old: &Path, new: &Path) -> io::Result<()> {
    let cwd = rustix::fs::CWD;
    match rustix::fs::renameat_with(cwd, old, cwd, new, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::hard_link(old, new)?;
            fs::remove_file(old)
        }
        other => Ok(other?),
    }
}

struct LocalStaged {
    root: PathBuf,
    unsynced: Arc<Mutex<BTreeSet<PathBuf>>>,
    file: tempfile::NamedTempFile,
}

impl Staged for LocalStaged {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let path = self.file.path().display().to_string();
        self.file.as_file_mut().write_all(bytes).map_err(StoreError::io("write", path))
    }

    fn publish(self: Box<Self>, key: &Key) -> Result<Published> {
        let Self { root, unsynced, file } = *self;
        let read_only = fs::Permissions::from_mode(0o400);
        file.as_file().set_permissions(read_only).map_err(StoreError::io("set the mode of", key))?;
        file.as_file().sync_all().map_err(StoreError::io("sync", key))?;
        let target = root.join(key.as_str());
        let dir = target.parent().unwrap_or(&root);
        make_dir(&root, &unsynced, dir)?;
        let published = match rename_noreplace(file.path(), &target) {
            // the temporary's name is gone: there is nothing left to clean up
            Ok(()) => file.into_temp_path().keep().map(|_| Published::Created).map_err(|e| e.error),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(Published::Existed),
            Err(e) => Err(e),
        };
        touched(&unsynced, dir);
        published.map_err(StoreError::io("name", key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::create(dir.path().join("repo")).unwrap();
        super::super::conformance::check(&store).unwrap();
        assert_eq!(fs::metadata(store.root()).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(LocalStore::create(store.root()).is_err(), "a folder that holds something");
    }

    #[test]
    fn a_dropped_object_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::create(dir.path().join("repo")).unwrap();
        store.stage().unwrap().write(b"half").unwrap();
        assert_eq!(fs::read_dir(store.root().join(TMP)).unwrap().count(), 0);
    }
}
