//! The directory of one application.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::Serialize;
use serde::de::DeserializeOwned;

use sha2::{Digest as _, Sha256};

use crate::base::Name;

/// The largest file that is read, in bytes: more is not what Lifeboat wrote.
const MAX_BYTES: u64 = 64 << 20;
/// The most that is unpacked of one, in bytes.
const MAX_UNPACKED: u64 = 4 << 30;
/// Where what is remembered of repositories lies, beside the applications, whose directories end with a hash.
const REPOSITORIES: &str = "seen";

/// Why something could not be remembered or recalled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The file system failed.
    #[error("could not {act} {}", path.shown())]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: Name,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The file is not what Lifeboat writes.
    #[error("{} is damaged: {why}", path.shown())]
    Damaged {
        /// Which file.
        path: Name,
        /// What is wrong with it.
        why: String,
    },
}

impl StateError {
    /// True if nothing can be written there by whoever runs this, as on a system that is read-only.
    pub fn is_no_place(&self) -> bool {
        let kinds = [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem];
        matches!(self, Self::Io { source, .. } if kinds.contains(&source.kind()))
    }
}

/// What is remembered of one application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    directory: PathBuf,
}

/// Held while it lives; the kernel lets it go when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl State {
    /// Of the application whose tree is at `root`, below `base`. Nothing is made until something is written.
    pub fn of(base: &Path, root: &Path) -> Self {
        let hash = Sha256::digest(root.as_os_str().as_bytes());
        let last = root.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let last: String = last.chars().take(40).map(plain).collect();
        Self { directory: base.join(format!("{last}-{}", hex::encode(&hash[..8]))) }
    }

    /// Of the repository with this id, below `base`. Nothing is made until something is written.
    pub fn of_repository(base: &Path, id: &str) -> Self {
        Self { directory: base.join(REPOSITORIES).join(id) }
    }

    /// Of every application below `base` of which something is remembered.
    pub fn all(base: &Path) -> Vec<Self> {
        let entries = fs::read_dir(base).into_iter().flatten().flatten();
        let directories = entries.map(|entry| entry.path());
        let directories = directories.filter(|path| path.is_dir() && !path.ends_with(REPOSITORIES));
        directories.map(|directory| Self { directory }).collect()
    }

    /// Its directory, which need not exist.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file of this name.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What was written under this name; `None` if nothing was.
    ///
    /// # Errors
    /// If it cannot be read or is damaged.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        let path = self.path(name);
        let Some(file) = open(&path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed("read", &path))?;
        let damaged = |why: String| StateError::Damaged { path: Name::from(path.as_os_str()), why };
        if bytes.len() as u64 > MAX_BYTES {
            return Err(damaged("it is too large".to_owned()));
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|error| damaged(error.to_string()))
    }

    /// Remembers this under this name. When it returns, a power loss does not take it back.
    ///
    /// # Errors
    /// If it cannot be written; what was there before is there still.
    pub fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StateError> {
        let path = self.path(name);
        let bytes = serde_json::to_vec(value)
            .map_err(|error| failed("write", &path)(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        self.write_bytes(&path, &bytes)
    }

    fn write_bytes(&self, path: &Path, bytes: &[u8]) -> Result<(), StateError> {
        self.make()?;
        let staged = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.directory);
        let mut staged = staged.map_err(failed("write in", &self.directory))?;
        staged.write_all(bytes).map_err(failed("write", path))?;
        staged.as_file().sync_all().map_err(failed("sync", path))?;
        staged.persist(path).map_err(|error| failed("rename to", path)(error.error))?;
        self.sync()
    }

    /// As [`Self::read`], of what [`Self::write_packed`] wrote.
    ///
    /// # Errors
    /// As there.
    pub fn read_packed<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        let path = self.path(name);
        let Some(file) = open(&path)? else { return Ok(None) };
        let unpacked = zstd::Decoder::new(file).map_err(failed("read", &path))?;
        let damaged = |error: serde_json::Error| StateError::Damaged {
            path: Name::from(path.as_os_str()),
            why: error.to_string(),
        };
        serde_json::from_reader(io::BufReader::new(unpacked.take(MAX_UNPACKED))).map(Some).map_err(damaged)
    }

    /// As [`Self::write`], compressed: for what is long.
    ///
    /// # Errors
    /// As there.
    pub fn write_packed<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StateError> {
        let path = self.path(name);
        let packed = || -> io::Result<Vec<u8>> {
            let mut out = zstd::Encoder::new(Vec::new(), 1)?;
            serde_json::to_writer(&mut out, value)?;
            out.finish()
        };
        self.write_bytes(&path, &packed().map_err(failed("write", &path))?)
    }

    /// Forgets what was written under this name, if anything was.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), StateError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("remove", &path)(error)),
            Ok(()) => self.sync(),
        }
    }

    /// Takes the lock of this name; `None` if somebody else has it.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn lock(&self, name: &str) -> Result<Option<Lock>, StateError> {
        self.make()?;
        let path = self.path(name);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600).custom_flags(nofollow());
        let file = options.open(&path).map_err(failed("open", &path))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(failed("lock", &path)(error.into())),
        }
    }

    fn make(&self) -> Result<(), StateError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
        made.map_err(failed("make the directory", &self.directory))
    }

    fn sync(&self) -> Result<(), StateError> {
        let synced = File::open(&self.directory).and_then(|directory| directory.sync_all());
        synced.map_err(failed("sync the directory", &self.directory))
    }
}

fn nofollow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = Name::from(path.as_os_str());
    move |source| StateError::Io { act, path, source }
}

// `None` if it is not there.
fn open(path: &Path) -> Result<Option<File>, StateError> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).map_err(failed("open", path)),
    }
}
