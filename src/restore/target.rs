//! The place to restore into.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode as Bits, OFlags};
use rustix::io::Errno;

use super::directory::names_of;
use super::own::Own;
use super::{Mode, Options, RestoreError};
use crate::base::Name;
use crate::repo::Repo;

/// A failure at the target itself.
pub fn target_error(options: &Options, act: &'static str, error: Errno) -> RestoreError {
    RestoreError::Io { act, path: Name::from(options.target.as_os_str()), source: error.into() }
}

/// The repository, which a target may hold but not lie in.
///
/// # Errors
/// If it does, or that cannot be found out.
pub fn own(repo: &Repo, options: &Options) -> Result<Own, RestoreError> {
    let looked = |source| RestoreError::Io {
        act: "find out where the repository lies beside",
        path: Name::from(options.target.as_os_str()),
        source,
    };
    let own = Own::of(repo.store().directory()).map_err(looked)?;
    if own.holds(&options.target).map_err(looked)? {
        return Err(in_repository(Name::from(options.target.as_os_str())));
    }
    Ok(own)
}

/// A target that is the repository, or lies in it.
pub fn in_repository(target: Name) -> RestoreError {
    let why = "it is the repository, or lies in it; nothing is restored there".to_owned();
    RestoreError::Target { target, why }
}

/// Opens the target, made if it is not there; `None` if nothing is to be done and it is not there. The directories that were made
/// for it are added to `made`, the outermost first.
///
/// # Errors
/// If it is no directory, or not empty where it must be.
pub fn open_target(options: &Options, made: &mut Vec<PathBuf>) -> Result<Option<Arc<OwnedFd>>, RestoreError> {
    let bad = |why: &str| {
        let target = Name::from(options.target.as_os_str());
        Err(RestoreError::Target { target, why: why.to_owned() })
    };
    if !options.dry_run {
        made.extend(missing(&options.target));
        std::fs::create_dir_all(&options.target).map_err(|source| RestoreError::Io {
            act: "make the directory",
            path: Name::from(options.target.as_os_str()),
            source,
        })?;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = match rustix::fs::open(&options.target, flags, Bits::empty()) {
        Err(Errno::NOENT) if options.dry_run => return Ok(None),
        Err(Errno::NOTDIR) => return bad("it is not a directory"),
        other => other.map_err(|e| target_error(options, "open", e))?,
    };
    if options.mode == Mode::Fresh {
        let names = names_of(fd.as_fd()).map_err(|source| RestoreError::Io {
            act: "list",
            path: Name::from(options.target.as_os_str()),
            source,
        })?;
        // what mkfs leaves at the top of a file system
        if names.iter().any(|name| name != b"lost+found") {
            return bad(
                "it is not empty; choose another directory, or --in-place to bring it to the snapshot's state",
            );
        }
    }
    Ok(Some(Arc::new(fd)))
}

// The directories of a path that are not there, the outermost first.
fn missing(path: &Path) -> Vec<PathBuf> {
    let is_missing =
        |part: &&Path| part.symlink_metadata().is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
    let mut found: Vec<PathBuf> = path.ancestors().take_while(is_missing).map(Path::to_owned).collect();
    found.reverse();
    found
}

/// Removes the directories that were made for a target that nothing went into. One in which something lies by now stays.
pub fn remove_made(made: &[PathBuf]) {
    for path in made.iter().rev() {
        let _ = std::fs::remove_dir(path);
    }
}
