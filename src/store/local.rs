//! A folder of the local file system.
//!
//! Durability (format.md, section 9): a file is written under `tmp/`, synced, renamed to its name
//! without ever replacing what is whole, and its directory is synced by [`Store::sync`], once for many files.
//! A sync that failed is never tried again: the file's writer fails.
//!
//! Nothing is written or deleted through a link in the folder; reads follow them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::folders::{Folders, clear, rename_noreplace, replace, same_bytes, split};
use super::{Key, Kind, Lock, LockMode, ObjectInfo, Published, Result, Staged, Store, StoreError};
use crate::sys::host::random_hex;
use crate::sys::space::{Keeps, file_system};

const TMP: &str = "tmp";
/// What the names of files that are being written begin with.
const STAGED: &str = "new-";

/// A repository's folder.
pub struct LocalStore {
    folders: Arc<Folders>,
}

impl LocalStore {
    /// The store in an existing folder.
    pub fn open(root: impl Into<PathBuf>) -> Self {
        Self { folders: Arc::new(Folders::of(root.into())) }
    }

    /// Makes the folder, if it is missing, with nobody else allowed in.
    ///
    /// # Errors
    /// If it cannot be made or is not empty.
    pub fn create(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let shown = root.display();
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&root);
        made.map_err(StoreError::io("make the directory", &shown))?;
        let mut entries = fs::read_dir(&root).map_err(StoreError::io("list", &shown))?;
        if entries.next().is_some() {
            let source = io::Error::new(io::ErrorKind::DirectoryNotEmpty, "it is not empty");
            return Err(StoreError::Io { act: "make a repository in", what: shown.to_string(), source });
        }
        fs::set_permissions(&root, fs::Permissions::from_mode(0o700))
            .map_err(StoreError::io("set the mode of", &shown))?;
        let store = Self::open(root);
        store.folders.make(TMP)?;
        if let Some(parent) = store.root().parent() {
            store.folders.touched(parent);
        }
        Ok(store)
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        self.folders.root()
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.folders.path(key.as_str())
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

    // Every file of a kind that has the name of an object.
    fn walk(&self, kind: Kind, mut found: impl FnMut(Key, &walkdir::DirEntry) -> Result<()>) -> Result<()> {
        let top = self.folders.path(kind.folder());
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
            let name = entry.path().strip_prefix(self.root()).ok().and_then(Path::to_str);
            if let Some(key) = name.and_then(Key::from_listing) {
                found(key, &entry)?;
            }
        }
        Ok(())
    }
}

impl Store for LocalStore {
    fn directory(&self) -> Option<&Path> {
        Some(self.root())
    }

    fn location(&self) -> String {
        self.root().display().to_string()
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
        let dir = self.folders.make(TMP)?;
        let begun = random_hex().and_then(|random| {
            let name = format!("{STAGED}{random}");
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::openat(&dir, &name, flags, Mode::RUSR | Mode::WUSR)?);
            Ok((name, file))
        });
        let (name, file) = begun.map_err(StoreError::io("write in", self.folders.path(TMP).display()))?;
        Ok(Box::new(LocalStaged { folders: Arc::clone(&self.folders), dir, name, file }))
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
                    return Err(StoreError::io("list", self.folders.path(kind.folder()).display())(e.into()));
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
        match self.folders.delete(key) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("delete", self.path(key).display())(e))
            }
            _ => Ok(()),
        }
    }

    fn rename(&self, from: &Key, to: &Key) -> Result<()> {
        let ((old_dir, old), (new_dir, new)) = (split(from), split(to));
        let target = self.folders.make(new_dir)?;
        let renamed = self.folders.open(old_dir);
        let renamed = renamed.and_then(|source| rename_noreplace((&source, old), (&target, new)));
        renamed.map_err(|e| self.missing_or(from, e))?;
        for dir in [new_dir, old_dir] {
            self.folders.touched(&self.folders.path(dir));
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.folders.sync()
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
            Err(Errno::WOULDBLOCK) => Ok(Lock::Busy),
            Err(e) if has_no_locks(e) => Ok(Lock::Unsupported),
            Err(e) => Err(StoreError::io("lock", self.path(&key).display())(e.into())),
        }
    }

    fn locks_reach_everybody(&self) -> bool {
        // whether those of a network or FUSE file system do depends on how each host mounted it
        !matches!(file_system(self.root()), Ok((_, Keeps::Remote)))
    }

    fn clear_staged(&self) -> Result<u64> {
        match self.folders.open(TMP).and_then(|dir| clear(&dir, STAGED)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
            other => other.map_err(StoreError::io("clear", self.folders.path(TMP).display())),
        }
    }
}

// Some network file systems have no locks, or, as NFS, none that is exclusive for a file that is only open for reading.
fn has_no_locks(error: Errno) -> bool {
    matches!(error, Errno::OPNOTSUPP | Errno::NOLCK | Errno::NOSYS | Errno::BADF)
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

struct LocalStaged {
    folders: Arc<Folders>,
    // of the file that is being written
    dir: OwnedFd,
    name: String,
    file: File,
}

impl Drop for LocalStaged {
    fn drop(&mut self) {
        // what was published does not have this name any more
        let _ = rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::empty());
    }
}

impl LocalStaged {
    fn name_as(&self, key: &Key, mend: bool) -> Result<Published> {
        let read_only = fs::Permissions::from_mode(0o400);
        self.file.set_permissions(read_only).map_err(StoreError::io("set the mode of", key))?;
        self.file.sync_all().map_err(StoreError::io("sync", key))?;
        let (dir, name) = split(key);
        let target = self.folders.make(dir)?;
        let (from, to) = ((&self.dir, &*self.name), (&target, name));
        let published = match rename_noreplace(from, to) {
            Ok(()) => Ok(Published::Created),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => match mend && !same_bytes(&self.file, to) {
                // whoever else does this at the same time has the same bytes; whoever reads has the old file open
                true => replace(from, to).map(|()| Published::Mended),
                false => Ok(Published::Existed),
            },
            Err(e) => Err(e),
        };
        self.folders.touched(&self.folders.path(dir));
        published.map_err(StoreError::io("name", key))
    }
}

impl Staged for LocalStaged {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let path = || self.folders.path(TMP).join(&self.name);
        (&self.file).write_all(bytes).map_err(|e| StoreError::io("write", path().display())(e))
    }

    fn publish(self: Box<Self>, key: &Key) -> Result<Published> {
        self.name_as(key, false)
    }

    fn publish_hashed(self: Box<Self>, key: &Key) -> Result<Published> {
        self.name_as(key, true)
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
    fn links_in_the_folder_are_not_followed_by_what_writes_or_deletes() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::create(dir.path().join("repo")).unwrap();
        let victim = dir.path().join("victim");
        for kept in ["new-precious", "passwd", "0a.json"] {
            fs::create_dir_all(&victim).unwrap();
            fs::write(victim.join(kept), "precious").unwrap();
        }
        fs::remove_dir(store.root().join(TMP)).unwrap();
        for name in [TMP, "sessions", "packs", "quarantine"] {
            std::os::unix::fs::symlink(&victim, store.root().join(name)).unwrap();
        }
        let mine = Key::writer("mine");
        assert!(store.clear_staged().unwrap_err().to_string().contains("could not clear"));
        assert!(store.stage().is_err());
        fs::remove_file(store.root().join(TMP)).unwrap();
        store.create(&mine, b"x").unwrap();
        let listed = store.list(Kind::Sessions).unwrap();
        assert!(listed.iter().any(|o| o.key == Key::session("0a")), "a reader follows it: {listed:?}");
        assert!(store.delete(&Key::session("0a")).is_err());
        assert!(store.create(&Key::session("0b"), b"x").is_err());
        assert!(store.rename(&mine, &mine.below(Kind::Quarantine)).is_err());
        assert!(store.rename(&Key::session("0a"), &Key::writer("stolen")).is_err());
        let pack = Key::from_listing("packs/ab/abcd.tar.zst").unwrap();
        assert!(store.create(&pack, b"x").is_err());
        let mut left: Vec<_> = fs::read_dir(&victim).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["0a.json", "new-precious", "passwd"]);
        assert!(store.size(&mine).is_ok());
    }

    #[test]
    fn clearing_takes_only_what_writers_left() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::create(dir.path().join("repo")).unwrap();
        let tmp = store.root().join(TMP);
        fs::write(tmp.join("new-left"), "half").unwrap();
        fs::write(tmp.join("other"), "not ours").unwrap();
        fs::create_dir(tmp.join("new-directory")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", tmp.join("new-link")).unwrap();
        assert_eq!(store.clear_staged().unwrap(), 4);
        assert_eq!(fs::read_dir(&tmp).unwrap().count(), 3);
    }

    #[test]
    fn locks_that_nfs_refuses_are_no_failure() {
        assert!(has_no_locks(Errno::BADF) && has_no_locks(Errno::NOLCK) && !has_no_locks(Errno::IO));
    }

    #[test]
    fn a_dropped_object_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::create(dir.path().join("repo")).unwrap();
        store.stage().unwrap().write(b"half").unwrap();
        assert_eq!(fs::read_dir(store.root().join(TMP)).unwrap().count(), 0);
    }
}
