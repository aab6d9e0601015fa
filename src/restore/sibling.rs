//! Content that a living tree has already: put beside it, so that only what differs comes from the repository.
//!
//! A file is taken over if `lstat` says of the living one what the manifest says: type, size, times, inode. If only size and
//! time of change agree, it is read and held against the hashes first. Everything else is left for the restore that follows.
//! The blocks are shared where the file system can (`FICLONE`), else copied.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{Mode as Bits, OFlags, ResolveFlags, Timespec, Timestamps};

use super::live::same_bytes;
use super::{Placement, RestoreError, Selection};
use crate::base::Name;
use crate::base::event::{Event, Observer, Step};
use crate::format::manifest::{Entry, ROOT, Type, is_within_subtree};
use crate::repo::documents::Snapshot;
use crate::repo::load::Condemned;
use crate::repo::manifest_reader::ManifestReader;
use crate::repo::reader::ChunkReader;
use crate::repo::{ChunkIndex, Repo};
use crate::tree::live::LiveStat;

/// What was taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that share their blocks with the living ones.
    pub shared: u64,
    /// Files that were read and compared with the hashes, as their times or inode were others.
    pub compared: u64,
}

/// Puts into `target`, which is empty, what of a snapshot the tree `live` has unchanged. Owners, modes and
/// attributes are left to the restore that follows.
///
/// # Errors
/// If the manifest cannot be read, the target cannot be written, or the observer interrupts.
pub fn take_over(
    repo: &Repo,
    snapshot: &Snapshot,
    placement: &Placement,
    selection: &Selection,
    (live, target): (&Path, &Path),
    (workers, observer): (usize, &dyn Observer),
) -> Result<Taken, RestoreError> {
    let loaded = repo.load(Condemned::Use)?;
    let Some(root) = snapshot.document.roots.get(placement.root) else { return Ok(Taken::default()) };
    let mut chunks = ChunkReader::new(repo.store(), &loaded.index, 4)?;
    let mut reader = ManifestReader::starting_at(&mut chunks, &root.manifest, &placement.subtree)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let live_dir =
        rustix::fs::open(live, flags, Bits::empty()).map_err(|e| failed("open", live)(e.into()))?;
    let job = Takeover {
        live: &live_dir,
        target,
        index: &loaded.index,
        counts: Default::default(),
        no_clone: AtomicBool::new(false),
    };
    observer.event(Event::Started { step: Step::Restore, bytes: None });
    let (sender, receiver) = crossbeam_channel::bounded::<(PathBuf, Entry)>(workers.max(1) * 64);
    let done = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers.max(1))
            .map(|_| {
                let (receiver, job) = (receiver.clone(), &job);
                scope.spawn(move || {
                    for (path, entry) in &receiver {
                        let bytes = job.take(&path, &entry)?;
                        observer.event(Event::Advanced { entries: 1, bytes });
                    }
                    Ok(())
                })
            })
            .collect();
        drop(receiver);
        let read = feed(&mut reader, placement, selection, &job, &sender, observer);
        drop(sender);
        let worked: Result<(), RestoreError> =
            threads.into_iter().try_for_each(|t| t.join().unwrap_or(Err(RestoreError::Interrupted)));
        read.and(worked)
    });
    observer.event(Event::Finished);
    done?;
    let count = |at: usize| job.counts[at].load(Ordering::Relaxed);
    Ok(Taken { files: count(0), bytes: count(1), shared: count(2), compared: count(3) })
}

fn feed(
    reader: &mut ManifestReader<'_, '_>,
    placement: &Placement,
    selection: &Selection,
    job: &Takeover<'_>,
    sender: &crossbeam_channel::Sender<(PathBuf, Entry)>,
    observer: &dyn Observer,
) -> Result<(), RestoreError> {
    let mut made = PathBuf::new();
    loop {
        if observer.interrupted() {
            return Err(RestoreError::Interrupted);
        }
        let entry = match reader.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => return Ok(()),
            // the restore that follows reads the same and says what is wrong
            Err(_) => return Ok(()),
        };
        if !is_within_subtree(&entry.path, &placement.subtree) {
            continue;
        }
        let is_whole = entry.stat.kind == Type::File && entry.hardlink.is_none() && !entry.database;
        if !is_whole || entry.stat.size == 0 || entry.torn {
            continue;
        }
        let Some(relative) = below(&entry.path, &placement.subtree) else { continue };
        if !selection.wants(relative, false) {
            continue;
        }
        let path = PathBuf::from(Name(relative.to_vec()).as_os_str());
        let parent = path.parent().unwrap_or(Path::new(""));
        if parent != made {
            let directory = job.target.join(parent);
            let made_now = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
            made_now.map_err(failed("make the directory", &directory))?;
            made = parent.to_owned();
        }
        if sender.send((path, entry)).is_err() {
            // the workers have ended: they say why
            return Ok(());
        }
    }
}

fn below<'p>(path: &'p [u8], subtree: &[u8]) -> Option<&'p [u8]> {
    if subtree == ROOT {
        return Some(path).filter(|path| *path != ROOT);
    }
    path.strip_prefix(subtree)?.strip_prefix(b"/")
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RestoreError {
    let path = Name::from(path.as_os_str());
    move |source| RestoreError::Io { act, path, source }
}

struct Takeover<'t> {
    live: &'t OwnedFd,
    target: &'t Path,
    index: &'t ChunkIndex,
    // files, bytes, shared, compared
    counts: [AtomicU64; 4],
    // set when the file system turned out not to share blocks
    no_clone: AtomicBool,
}

impl Takeover<'_> {
    // Takes one file over, if it is there unchanged; says how many bytes it has.
    fn take(&self, path: &Path, entry: &Entry) -> Result<u64, RestoreError> {
        // never through a link: what is not plainly there comes from the repository
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(fd) = rustix::fs::openat2(self.live, path, flags, Bits::empty(), resolve) else {
            return Ok(0);
        };
        let Ok(before) = LiveStat::of(fd.as_fd()) else { return Ok(0) };
        let (live, kept) = (&before.stat, &entry.stat);
        if live.kind != Type::File || live.size != kept.size || live.mtime != kept.mtime {
            return Ok(0);
        }
        let is_untouched = live.ctime == kept.ctime && live.inode == kept.inode;
        let file = File::from(fd);
        if !is_untouched && !self.compare(&file, entry) {
            return Ok(0);
        }
        let place = self.target.join(path);
        self.copy(&file, &place, entry)?;
        // a file that somebody writes at this moment is fetched
        if !LiveStat::of(file.as_fd()).is_ok_and(|after| after.same_as(&before)) {
            fs::remove_file(&place).map_err(failed("remove", &place))?;
            return Ok(0);
        }
        self.add(0, 1);
        self.add(1, kept.size);
        Ok(kept.size)
    }

    fn add(&self, at: usize, more: u64) {
        self.counts[at].fetch_add(more, Ordering::Relaxed);
    }

    fn compare(&self, file: &File, entry: &Entry) -> bool {
        self.add(3, 1);
        same_bytes(file, entry, self.index).unwrap_or(false)
    }

    fn copy(&self, file: &File, place: &Path, entry: &Entry) -> Result<(), RestoreError> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let out = options.open(place).map_err(failed("make", place))?;
        if !self.no_clone.load(Ordering::Relaxed) {
            match rustix::fs::ioctl_ficlone(&out, file) {
                Ok(()) => {
                    self.add(2, 1);
                    return set_time(&out, place, entry);
                }
                Err(_) => self.no_clone.store(true, Ordering::Relaxed),
            }
        }
        out.set_len(entry.stat.size).map_err(failed("write", place))?;
        for (offset, length) in entry.segments() {
            copy_range(file, &out, offset, length).map_err(failed("write", place))?;
        }
        set_time(&out, place, entry)
    }
}

fn copy_range(from: &File, to: &File, offset: u64, length: u64) -> io::Result<()> {
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
                let now = buffer.len().min(want);
                from.read_exact_at(&mut buffer[..now], offset + done)?;
                to.write_all_at(&buffer[..now], offset + done)?;
                done += now as u64;
            }
        }
    }
    Ok(())
}

// By which the restore knows that it has the content.
fn set_time(file: &File, place: &Path, entry: &Entry) -> Result<(), RestoreError> {
    let (seconds, nanoseconds) = (entry.stat.mtime.0, entry.stat.mtime.1);
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::futimens(file, &times).map_err(|e| failed("set the time of", place)(e.into()))
}
