//! The repository that is read must outlive the restore, wherever its directory lies.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::tree::live::LiveStat;

/// Device and inode of a directory.
pub type Identity = (u64, u64);

/// The repository's directory and those it lies in, known by what they are and not by their names. Empty where
/// the repository is no directory of this host.
#[derive(Clone, Debug, Default)]
pub struct Own {
    repository: Option<Identity>,
    above: Vec<Identity>,
}

/// Device and inode of what is open.
pub fn identity(fd: BorrowedFd<'_>) -> std::io::Result<Identity> {
    LiveStat::of(fd).map(|live| (live.dev, live.stat.inode))
}

fn open_at(dir: BorrowedFd<'_>, path: &OsStr) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(dir, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

// From a directory up to the root of everything, itself first.
fn upwards(start: OwnedFd) -> std::io::Result<Vec<Identity>> {
    let mut found = vec![identity(start.as_fd())?];
    let mut dir = start;
    loop {
        dir = open_at(dir.as_fd(), OsStr::new(".."))?;
        let here = identity(dir.as_fd())?;
        if found.last() == Some(&here) {
            return Ok(found);
        }
        found.push(here);
    }
}

impl Own {
    /// Of the repository in this directory.
    ///
    /// # Errors
    /// If it cannot be looked at: then nothing can be protected.
    pub fn of(directory: Option<&Path>) -> std::io::Result<Self> {
        let Some(directory) = directory else { return Ok(Self::default()) };
        let mut above = upwards(open_at(rustix::fs::CWD, directory.as_os_str())?)?;
        let repository = Some(above.remove(0));
        Ok(Self { repository, above })
    }

    /// True if this is the repository itself.
    pub fn is(&self, directory: Identity) -> bool {
        self.repository == Some(directory)
    }

    /// True if this is a directory that the repository lies in.
    pub fn lies_in(&self, directory: Identity) -> bool {
        self.above.contains(&directory)
    }

    /// True if this path, or what would be made there, is the repository or lies in it.
    ///
    /// # Errors
    /// If that cannot be found out.
    pub fn holds(&self, path: &Path) -> std::io::Result<bool> {
        let Some(repository) = self.repository else { return Ok(false) };
        for part in path.ancestors().filter(|part| !part.as_os_str().is_empty()) {
            match open_at(rustix::fs::CWD, part.as_os_str()) {
                Ok(fd) => return Ok(upwards(fd)?.contains(&repository)),
                // what is not there yet will lie in what is
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_known_by_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("a/repo/packs")).unwrap();
        std::os::unix::fs::symlink("a/repo", at("link")).unwrap();
        let own = Own::of(Some(&at("a/repo"))).unwrap();
        for (path, inside) in [
            ("a/repo", true),
            ("a/repo/packs", true),
            ("a/repo/new/deep", true),
            ("link", true),
            ("link/new", true),
            ("a", false),
            ("a/other", false),
        ] {
            assert_eq!(own.holds(&at(path)).unwrap(), inside, "{path}");
        }
        let of =
            |path: &str| identity(open_at(rustix::fs::CWD, at(path).as_os_str()).unwrap().as_fd()).unwrap();
        assert!(own.is(of("link")) && !own.is(of("a")));
        assert!(own.lies_in(of("a")) && own.lies_in(of("")) && !own.lies_in(of("a/repo/packs")));
        assert!(!Own::default().is(of("a/repo")) && !Own::default().holds(&at("a/repo")).unwrap());
    }
}
