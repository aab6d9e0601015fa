//! Content that a living tree has already: taken over from there, so that only what differs comes from the repository.
//!
//! A file is taken over if `fstat` says of the living one what the manifest says: type, size, times, inode. If only size and
//! time of change agree, it is read and held against the hashes first. Everything else is fetched.
//! Where that is asked for, it gets a second name in the new tree (a hard link), which costs nothing but the name; else its
//! blocks are shared where the file system can (`FICLONE`), else copied.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode as Bits, OFlags, ResolveFlags};
use serde::{Deserialize, Serialize};

use super::RestoreError;
use super::attributes::Powers;
use super::batch::FileTarget;
use super::directory::stat_in;
use super::live::{is_same_but_names, is_untouched};
use super::tree::split;
use crate::base::Name;
use crate::format::manifest::{Entry, ROOT, Stat, Time, Type};
use crate::repo::ChunkIndex;
use crate::repo::content::same_stream;
use crate::sys::host::worker_count;
use crate::tree::live::LiveStat;

/// What was taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that are the living ones, under a second name.
    pub linked: u64,
    /// Files that share their blocks with the living ones.
    pub shared: u64,
    /// Files that were read and compared with the hashes, as their times or inode were others.
    pub compared: u64,
}

/// A living tree that files are taken over from, and how.
#[derive(Clone, Debug)]
pub struct TakeFrom {
    /// The tree.
    pub tree: PathBuf,
    /// What changed later than this may have changed again since the snapshot read it, without a trace.
    pub trusted_before: Time,
    /// What changed later than this may change again while it is looked at, without a trace.
    pub still_since: Time,
    /// Files that did not change get a second name instead of a copy. Whoever writes to one writes to both.
    pub link: bool,
    /// Another tree, in which the files of the first may have a further name.
    pub kept: Option<PathBuf>,
}

/// A file that is the living one, under a second name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkedFile(
    /// Its path below the tree.
    pub Name,
    /// Its inode.
    pub u64,
    /// When the inode changed last: by the making of the name.
    pub Time,
    /// When the content changed last: what is written in the same tick of the clock as the name is made shows only here.
    pub Time,
);

impl LinkedFile {
    fn new(path: &[u8], stat: &Stat) -> Self {
        Self(Name(path.to_vec()), stat.inode, stat.ctime, stat.mtime)
    }
}

/// A living tree.
pub struct Living {
    dir: OwnedFd,
    // files, bytes, linked, shared, compared
    counts: [AtomicU64; 5],
    // set when the file system turned out not to share blocks
    no_clone: AtomicBool,
    trusted_before: Time,
    still_since: Time,
    linker: Option<Linker>,
}

// What is known of the second names.
struct Linker {
    kept: Option<OwnedFd>,
    // a file may have become a further name of another since: then only the first of them is taken over
    used: Mutex<HashSet<u64>>,
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    files: Vec<LinkedFile>,
    // where those are that the snapshot knows further names of
    leaders: HashMap<Vec<u8>, usize>,
}

/// The directory that files were looked for in last.
#[derive(Default)]
pub struct Around(Option<(Vec<u8>, OwnedFd)>);

impl Living {
    /// The tree at this path.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(from: &TakeFrom) -> Result<Self, RestoreError> {
        let linker = || -> Result<Linker, RestoreError> {
            let kept = from.kept.as_deref().map(open_tree).transpose()?;
            Ok(Linker { kept, used: Mutex::default(), made: Mutex::default() })
        };
        let linker = from.link.then(linker).transpose()?;
        Ok(Self {
            dir: open_tree(&from.tree)?,
            counts: Default::default(),
            no_clone: AtomicBool::new(false),
            trusted_before: from.trusted_before,
            still_since: from.still_since,
            linker,
        })
    }

    /// What was taken over so far.
    pub fn taken(&self) -> Taken {
        let count = |at: usize| self.counts[at].load(Ordering::Relaxed);
        Taken { files: count(0), bytes: count(1), linked: count(2), shared: count(3), compared: count(4) }
    }

    /// The files that got a second name, and forgets them.
    pub fn linked(&self) -> Vec<LinkedFile> {
        self.linker.as_ref().map(|linker| std::mem::take(&mut linker.made().files)).unwrap_or_default()
    }

    /// True if an entry may be there with all its content.
    pub fn may_have(&self, entry: &Entry) -> bool {
        let worth = self.linker.is_some() || !entry.chunks.is_empty();
        worth && entry.stat.kind == Type::File && !entry.torn
    }

    /// Gives the living file a second name in the new tree, if that is asked for and it is there unchanged, with its owner,
    /// mode and attributes, and has no other names that would come along. Where it lies now, or `None`.
    ///
    /// # Errors
    /// If a name that was made for what is not the file cannot be removed again.
    pub fn link(
        &self,
        file: &FileTarget<'_>,
        powers: &Powers,
        index: &ChunkIndex,
        around: &mut Around,
    ) -> io::Result<Option<LiveStat>> {
        // a database is not for two trees: each of them would have a log of its own beside it
        let Some(linker) = self.linker.as_ref().filter(|_| !file.entry.database) else { return Ok(None) };
        let (parent, name) = split(&file.path);
        let Some(from) = around.open(&self.dir, parent) else { return Ok(None) };
        let Some(before) = stat_in(from, name).ok().flatten() else { return Ok(None) };
        if !linker.is_alone(&file.path, &before)
            || !self.is_same(&file.entry, &before, (from, name), powers, index)
        {
            return Ok(None);
        }
        let into = file.dir.fd()?;
        // no rights to it, too many names, another file system: then it is copied
        if !linker.take(before.stat.inode)
            || rustix::fs::linkat(from, name, into, &*file.name, AtFlags::empty()).is_err()
        {
            return Ok(None);
        }
        let after = stat_in(into, &file.name)?.filter(|after| {
            let (have, want) = (&after.stat, &before.stat);
            let key =
                |stat: &Stat| (stat.inode, stat.kind, stat.size, stat.mtime, stat.mode, stat.uid, stat.gid);
            after.dev == before.dev && key(have) == key(want)
        });
        let Some(after) = after else {
            // somebody put something else there, or writes to it at this moment
            rustix::fs::unlinkat(into, &*file.name, AtFlags::empty())?;
            return Ok(None);
        };
        linker.made().add(file, &after);
        self.add(0, 1);
        self.add(1, file.entry.stat.size);
        self.add(2, 1);
        Ok(Some(after))
    }

    // Untouched by all that `lstat` says, or the same when it is looked at.
    fn is_same(
        &self,
        entry: &Entry,
        live: &LiveStat,
        at: (BorrowedFd<'_>, &[u8]),
        powers: &Powers,
        index: &ChunkIndex,
    ) -> bool {
        let (have, kept) = (&live.stat, &entry.stat);
        if have.kind != Type::File || have.size != kept.size || powers.attributes_differ(entry, have) {
            return false;
        }
        if is_untouched(entry, have, self.trusted_before) {
            return true;
        }
        self.add(4, 1);
        is_same_but_names(entry, have, at, powers, index)
    }

    /// Notes that a file that may be a living one got a further name in the new tree.
    ///
    /// # Errors
    /// If it cannot be looked at.
    pub fn linked_again(
        &self,
        leader: &[u8],
        path: &[u8],
        dir: BorrowedFd<'_>,
        name: &[u8],
    ) -> io::Result<()> {
        let Some(linker) = &self.linker else { return Ok(()) };
        let mut made = linker.made();
        let Some(&at) = made.leaders.get(leader) else { return Ok(()) };
        let now = stat_in(dir, name)?.ok_or(io::ErrorKind::NotFound)?.stat;
        made.files[at].2 = now.ctime;
        made.files.push(LinkedFile::new(path, &now));
        Ok(())
    }

    /// The file at a path below the tree, if it is there unchanged. Whether a database has a log now does not matter, as that
    /// stays where it is.
    pub fn find(&self, path: &[u8], entry: &Entry, index: &ChunkIndex) -> Option<Found> {
        let fd = open_plainly(&self.dir, path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK)?;
        let before = LiveStat::of(fd.as_fd()).ok()?;
        let (live, kept) = (&before.stat, &entry.stat);
        if live.kind != Type::File || live.size != kept.size || live.mtime != kept.mtime {
            return None;
        }
        // what was saved of a database with a log has other bytes, and who writes to one says nothing by its times at once
        if entry.database && (!entry.exact || live.ctime >= self.still_since) {
            return None;
        }
        let is_untouched = is_untouched(entry, live, self.trusted_before);
        let file = File::from(fd);
        if !is_untouched {
            self.add(4, 1);
            if !same_stream(&file, entry, index).unwrap_or(false) {
                return None;
            }
        }
        Some(Found { file, before })
    }

    /// Puts the content of what was found into a file that is empty; false if somebody writes to it at this moment.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn fill(&self, found: &Found, entry: &Entry, out: BorrowedFd<'_>) -> io::Result<bool> {
        let shared = !self.no_clone.load(Ordering::Relaxed) && {
            let cloned = rustix::fs::ioctl_ficlone(out, &found.file).is_ok();
            self.no_clone.fetch_or(!cloned, Ordering::Relaxed);
            cloned
        };
        if !shared {
            for (offset, length) in entry.segments() {
                copy_range(&found.file, out, offset, length)?;
            }
        }
        if !LiveStat::of(found.file.as_fd()).is_ok_and(|after| after.same_as(&found.before)) {
            return Ok(false);
        }
        self.add(0, 1);
        self.add(1, entry.stat.size);
        self.add(3, u64::from(shared));
        Ok(true)
    }

    fn add(&self, at: usize, more: u64) {
        self.counts[at].fetch_add(more, Ordering::Relaxed);
    }
}

// Never through a link: what is not plainly there comes from the repository.
fn open_plainly(top: &OwnedFd, path: &[u8], flags: OFlags) -> Option<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(top, path, flags | OFlags::CLOEXEC, Bits::empty(), resolve).ok()
}

/// Opens a tree as a place, whatever leads to it.
///
/// # Errors
/// If it is no directory or cannot be reached.
pub fn open_tree(path: &Path) -> Result<OwnedFd, RestoreError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Bits::empty()).map_err(|error| RestoreError::Io {
        act: "open",
        path: Name::from(path.as_os_str()),
        source: error.into(),
    })
}

/// A file that something was done to.
#[derive(Clone, Copy, Debug)]
pub struct Touched<'f> {
    /// The file.
    pub file: &'f LinkedFile,
    /// How many names its inode has now.
    pub links: u64,
}

/// Those of these files whose inode says that something was done to it since. What lies in the tree at such a path under
/// another inode is the tree's own.
///
/// # Errors
/// If the tree cannot be opened.
pub fn touched<'f>(tree: &Path, files: &'f [LinkedFile]) -> Result<Vec<Touched<'f>>, RestoreError> {
    let top = open_tree(tree)?;
    // nearly all of it is the system's look at each
    let threads = worker_count().min(files.len() / 1000 + 1);
    let part = |files: &'f [LinkedFile]| {
        let (mut around, mut found) = (Around::default(), Vec::new());
        for file in files {
            let LinkedFile(path, inode, ctime, mtime) = file;
            let (parent, name) = split(&path.0);
            let live = around.open(&top, parent).and_then(|dir| stat_in(dir, name).ok()?);
            let live = live.filter(|live| live.stat.inode == *inode);
            let touched = live.filter(|live| (live.stat.ctime, live.stat.mtime) != (*ctime, *mtime));
            found.extend(touched.map(|live| Touched { file, links: live.stat.links }));
        }
        found
    };
    std::thread::scope(|scope| {
        let parts = files.chunks(files.len().div_ceil(threads).max(1));
        let parts: Vec<_> = parts.map(|files| scope.spawn(|| part(files))).collect();
        let parts = parts
            .into_iter()
            .map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        Ok(parts.flatten().collect())
    })
}

impl Linker {
    fn made(&self) -> std::sync::MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // True if all names of the file are known: its own, and that in the other tree. One more would change with it.
    fn is_alone(&self, path: &[u8], live: &LiveStat) -> bool {
        let other = || {
            let kept = self.kept.as_ref()?;
            let (parent, name) = split(path);
            stat_in(Around::default().open(kept, parent)?, name).ok()?
        };
        match live.stat.links {
            0 | 1 => true,
            2 => other().is_some_and(|other| (other.dev, other.stat.inode) == (live.dev, live.stat.inode)),
            _ => false,
        }
    }

    fn take(&self, inode: u64) -> bool {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(inode)
    }
}

impl Made {
    fn add(&mut self, file: &FileTarget<'_>, live: &LiveStat) {
        if file.entry.stat.links > 1 {
            self.leaders.insert(file.path.clone(), self.files.len());
        }
        self.files.push(LinkedFile::new(&file.path, &live.stat));
    }
}

impl Around {
    /// The directory at a path below another one; `None` if it is not plainly there.
    pub fn open(&mut self, top: &OwnedFd, path: Option<&[u8]>) -> Option<BorrowedFd<'_>> {
        let path = path.unwrap_or(ROOT);
        if self.0.as_ref().is_none_or(|(last, _)| last != path) {
            let fd = open_plainly(top, path, OFlags::PATH | OFlags::DIRECTORY)?;
            self.0 = Some((path.to_vec(), fd));
        }
        self.0.as_ref().map(|(_, fd)| fd.as_fd())
    }
}

/// A living file that has what an entry says.
pub struct Found {
    file: File,
    before: LiveStat,
}

fn copy_range(from: &File, to: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<()> {
    let (mut done, mut buffer) = (0, Vec::new());
    while done < length {
        let (mut source, mut target) = (offset + done, offset + done);
        let want = usize::try_from(length - done).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), want) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(copied) => done += copied as u64,
            // a file system that cannot
            Err(_) => {
                buffer.resize(want.min(1 << 20), 0);
                from.read_exact_at(&mut buffer, offset + done)?;
                super::worker::write_all(to, &buffer, offset + done)?;
                done += buffer.len() as u64;
            }
        }
    }
    Ok(())
}
