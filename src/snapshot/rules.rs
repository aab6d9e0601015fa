//! What a walk takes of a tree: not what the options leave out, and never the repository that is written to, which would grow by
//! itself with every snapshot.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::{Options, SnapshotError};
use crate::format::manifest::{MAX_NAME, ROOT, Type};
use crate::repo::Repo;
use crate::tree::exclude::{Excludes, LeftOut};
use crate::tree::live::LiveStat;
use crate::tree::walk::{Choice, Filter, Item};

/// The repository's directory, known by what it is: its path may go through links, and be another one than the walk's. Nothing
/// where the repository is no directory of this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Own(Option<(u64, u64)>);

impl Own {
    /// Of the repository that is written to.
    ///
    /// # Errors
    /// If its directory cannot be looked at.
    pub fn of(repo: &Repo) -> io::Result<Self> {
        let live = repo.store().directory().map(rustix::fs::stat).transpose()?;
        Ok(Self(live.map(|raw| LiveStat::new(&raw)).map(|live| (live.dev, live.stat.inode))))
    }

    fn is(self, live: &LiveStat) -> bool {
        self.0 == Some((live.dev, live.stat.inode))
    }
}

/// The code of a problem: no snapshot can hold an entry of this name, nor what lies below it.
pub const TOO_LONG: &str = "name-too-long";

/// Why no snapshot can hold an entry with this name. Some file systems allow longer names than the format and most others.
pub fn too_long(name: &[u8]) -> Option<String> {
    (name.len() > MAX_NAME).then(|| {
        format!(
            "its name has {} bytes, and a snapshot can hold {MAX_NAME}; give it a shorter name",
            name.len()
        )
    })
}

/// Leaves out what the options say, and the repository.
pub struct Rules {
    excludes: Excludes,
    device: Option<u64>,
    own: Own,
    own_paths: Mutex<Vec<Vec<u8>>>,
}

impl Rules {
    /// Those for the root at `path`, which lies on this device.
    ///
    /// # Errors
    /// If an exclude makes no sense.
    pub fn new(path: &Path, options: &Options, device: u64, own: Own) -> Result<Self, SnapshotError> {
        let excludes = Excludes::build(path, &options.excludes)?;
        let device = options.one_file_system.then_some(device);
        Ok(Self { excludes, device, own, own_paths: Mutex::default() })
    }

    /// Where the walk met the repository, below the root.
    pub fn own_paths(self) -> Vec<Vec<u8>> {
        self.own_paths.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Filter for Rules {
    fn choose(&self, path: &[u8], item: &Item) -> Choice {
        let is_dir = item.live.stat.kind == Type::Dir;
        if self.excludes.matches(path, is_dir) {
            return Choice::Skip;
        }
        if is_dir && self.own.is(&item.live) {
            self.own_paths.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_vec());
            return Choice::Skip;
        }
        // it is visited and told, and what lies in it would have its name in its path
        if is_dir && item.name.len() > MAX_NAME {
            return Choice::TakeOnly;
        }
        match self.device {
            // the mount point itself is kept, so that the other file system finds its place again
            Some(device) if is_dir && item.live.dev != device => Choice::TakeOnly,
            _ => Choice::Take,
        }
    }

    fn only(&self, path: &[u8], dir: BorrowedFd<'_>) -> Option<Vec<Vec<u8>>> {
        // the root was named by somebody and is never left out
        if path == ROOT {
            return None;
        }
        self.excludes.left_out(dir).map(|why| match why {
            LeftOut::Cache => vec![b"CACHEDIR.TAG".to_vec()],
            LeftOut::Marked => Vec::new(),
        })
    }
}
