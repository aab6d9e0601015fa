//! Writing: one frame's parts at a time, each chunk compared with its hash before it is written.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::attributes::{Now, Powers, apply, apply_but_flags, apply_flags};
use super::batch::{FileTarget, Job, Part};
use super::beside::exchange;
use super::directory::Directory;
use super::living::{Around, Living};
use super::report::{Collector, Loss};
use super::seal;
use crate::base::event::Event;
use crate::format::manifest::{Entry, Type};
use crate::repo::reader::FrameReader;
use crate::repo::{ChunkIndex, RepoError};
use crate::store::Store;
use crate::sys::attributes::Handle;
use crate::sys::names::Names;
use crate::tree::live::{LiveStat, open_path};

/// What workers share.
pub struct Workers<'o> {
    /// Where packs are.
    pub store: &'o dyn Store,
    /// Where chunks are.
    pub index: &'o ChunkIndex,
    /// Receives counts and problems.
    pub collector: &'o Collector<'o>,
    /// What may be set.
    pub powers: Powers,
    /// Make devices too.
    pub devices: bool,
    /// Files with several names that were made: path in the target to (device, inode).
    pub linked: Mutex<HashMap<Vec<u8>, (u64, u64)>>,
    // files with several names of which the repository cannot give the content
    unreadable: Mutex<HashSet<Vec<u8>>>,
    /// The living tree.
    pub living: Option<Living>,
    busy: AtomicUsize,
    idle: Condvar,
    lock: Mutex<()>,
}

impl<'o> Workers<'o> {
    /// What workers of one restore share.
    pub fn new(
        store: &'o dyn Store,
        index: &'o ChunkIndex,
        collector: &'o Collector<'o>,
        powers: Powers,
        devices: bool,
        living: Option<Living>,
    ) -> Self {
        Self {
            store,
            index,
            collector,
            powers,
            devices,
            linked: Mutex::default(),
            unreadable: Mutex::default(),
            living,
            busy: AtomicUsize::new(0),
            idle: Condvar::new(),
            lock: Mutex::new(()),
        }
    }

    /// Forgets what is known of files with several names: the next paths are those of another tree.
    pub fn forget_links(&self) {
        self.linked.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// True if the content of the file at this path in the target, which has several names, could not be read.
    pub fn is_unreadable(&self, path: &[u8]) -> bool {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    /// Counts a job that is handed over.
    pub fn job_sent(&self) {
        self.busy.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until all jobs handed over are done.
    pub fn wait(&self) {
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while self.busy.load(Ordering::SeqCst) > 0 {
            guard = self.idle.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn job_done(&self) {
        if self.busy.fetch_sub(1, Ordering::SeqCst) == 1 {
            let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.idle.notify_all();
        }
    }

    /// One worker's life. What the living tree turns out not to have it gives back.
    pub fn work(&self, jobs: &Receiver<Job<'o>>, declined: &Sender<Arc<FileTarget<'o>>>) {
        let mut reader = FrameReader::new(self.store, self.index);
        let mut memory = Vec::new();
        let mut names = Names::default();
        let mut around = Around::default();
        for job in jobs {
            if self.collector.observer.interrupted() {
                self.give_up(job, &mut names);
            } else {
                match (job, &mut reader) {
                    (Job::Small(files), _) => {
                        files.iter().for_each(|file| self.finish_file(file, &mut names))
                    }
                    (Job::Take(files), _) => files.into_iter().for_each(|file| {
                        if let Some(file) = self.take(file, &mut names, &mut around) {
                            // nobody waits for it any more where the run has ended
                            let _ = declined.send(file);
                        }
                    }),
                    (Job::Frame { pack, frame, parts }, Ok(reader)) => {
                        memory = self.write_frame(reader, pack, frame, parts, memory, &mut names);
                    }
                    (Job::Frame { parts, .. }, Err(e)) => self.fail_parts(parts, e, &mut names),
                }
            }
            self.job_done();
        }
    }

    // What an interrupted run does not do any more. A file of which a part is there already goes with its last job.
    fn give_up(&self, job: Job<'o>, names: &mut Names) {
        let Job::Frame { parts, .. } = job else { return };
        for part in parts {
            part.file.failed.store(true, Ordering::SeqCst);
            self.part_done(&part, names);
        }
    }

    // From the living tree; the file comes back if that does not have it.
    fn take(
        &self,
        file: Arc<FileTarget<'o>>,
        names: &mut Names,
        around: &mut Around,
    ) -> Option<Arc<FileTarget<'o>>> {
        let Some(living) = &self.living else { return Some(file) };
        match living.link(&file, &self.powers, self.index, around) {
            Ok(None) => {}
            Ok(Some(made)) => {
                self.remember_as(&file, &made);
                self.count(&file.entry, file.entry.stat.size);
                return None;
            }
            Err(error) => {
                self.fail(&file, error);
                return None;
            }
        }
        let found = (!file.entry.chunks.is_empty())
            .then(|| living.find(&file.path, &file.entry, self.index))
            .flatten();
        let done = match found {
            None => Ok(false),
            Some(found) => self.opened(&file).and_then(|out| {
                let filled = living.fill(&found, &file.entry, out)?;
                if !filled {
                    rustix::fs::ftruncate(out, 0)?;
                }
                Ok(filled)
            }),
        };
        match done {
            Ok(true) => {
                self.collector.observer.event(Event::Advanced { entries: 0, bytes: file.entry.stat.size });
                self.finish_file(&file, names);
            }
            Ok(false) => return Some(file),
            Err(error) => {
                self.fail(&file, error);
                self.discard(&file);
            }
        }
        None
    }

    // One more file is there; of its bytes so many were not told yet.
    fn count(&self, entry: &Entry, bytes: u64) {
        let mut report = self.collector.report();
        report.files += 1;
        report.bytes += entry.stat.size;
        drop(report);
        self.collector.observer.event(Event::Advanced { entries: 1, bytes });
    }

    fn write_frame(
        &self,
        reader: &mut FrameReader<'_>,
        pack: u32,
        frame: u32,
        parts: Vec<Part<'o>>,
        memory: Vec<u8>,
        names: &mut Names,
    ) -> Vec<u8> {
        let end = parts.iter().map(|p| p.place.offset.saturating_add(p.place.size)).max().unwrap_or(u32::MAX);
        match reader.read_until(pack, frame, end, memory) {
            Ok(frame) => {
                let wanted: Vec<_> = parts.iter().map(|p| (p.chunk, p.place)).collect();
                for (part, content) in parts.into_iter().zip(frame.chunks(&wanted)) {
                    self.write_part(content, part, reader, names);
                }
                frame.into_memory()
            }
            Err(e) => {
                self.rescue_parts(parts, &e, reader, names);
                Vec::new()
            }
        }
    }

    fn write_part(
        &self,
        content: Result<&[u8], RepoError>,
        part: Part<'o>,
        reader: &mut FrameReader<'_>,
        names: &mut Names,
    ) {
        match content {
            Ok(content) => {
                self.write_content(&part, content);
                self.part_done(&part, names);
            }
            Err(e) => self.rescue_parts(vec![part], &e, reader, names),
        }
    }

    // The chunks of a damaged frame may be stored elsewhere too.
    fn rescue_parts(
        &self,
        parts: Vec<Part<'o>>,
        error: &RepoError,
        reader: &mut FrameReader<'_>,
        names: &mut Names,
    ) {
        let mut lost = Vec::new();
        for part in parts {
            let others: Vec<_> = self.index.places(&part.chunk).filter(|p| *p != part.place).collect();
            let found = others.into_iter().find_map(|place| {
                let frame = reader.read(place.pack, place.frame).ok()?;
                Some(frame.chunk(part.chunk, place).ok()?.to_vec())
            });
            match found {
                Some(content) => {
                    self.write_content(&part, &content);
                    self.part_done(&part, names);
                }
                None => lost.push(part),
            }
        }
        self.fail_parts(lost, error, names);
    }

    fn fail_parts(&self, parts: Vec<Part<'o>>, error: &RepoError, names: &mut Names) {
        for part in parts {
            if !part.file.failed.swap(true, Ordering::SeqCst) {
                self.collector.damaged(&part.file.path, error);
                if part.file.entry.stat.links > 1 {
                    let mut unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
                    unreadable.insert(part.file.path.clone());
                }
            }
            self.part_done(&part, names);
        }
    }

    fn write_content(&self, part: &Part<'o>, content: &[u8]) {
        if part.file.failed.load(Ordering::SeqCst) {
            return;
        }
        // all places were reckoned by the sizes that the index gave for one copy of each chunk, and another copy proves it wrong
        if content.len() as u64 != u64::from(part.place.size) {
            return self.fail_size(part, content.len());
        }
        let written =
            self.opened(&part.file).and_then(|fd| write_stream(fd, &part.file.entry, part.at, content));
        match written {
            Ok(()) => {
                self.collector.observer.event(Event::Advanced { entries: 0, bytes: content.len() as u64 })
            }
            Err(e) => self.fail(&part.file, e),
        }
    }

    fn fail(&self, file: &FileTarget<'_>, error: impl ToString) {
        if !file.failed.swap(true, Ordering::SeqCst) {
            self.collector.problem(&file.path, "not-written", error);
        }
    }

    fn fail_size(&self, part: &Part<'o>, have: usize) {
        if !part.file.failed.swap(true, Ordering::SeqCst) {
            let why = format!(
                "an index says that chunk {} has {} bytes, it has {have}: lifeboat repair makes the index again",
                part.chunk, part.place.size
            );
            self.collector.wrong_size(&part.file.path, why);
        }
    }

    fn opened<'f>(&self, file: &'f FileTarget<'_>) -> io::Result<BorrowedFd<'f>> {
        if file.open.get().is_none() {
            let _guard = file.opening.lock().unwrap_or_else(PoisonError::into_inner);
            file.open.get_or_init(|| self.create(file).map_err(|e| e.to_string()));
        }
        match file.open.get() {
            Some(Ok((fd, _))) => Ok(fd.as_fd()),
            Some(Err(why)) => Err(io::Error::other(why.clone())),
            None => Err(io::Error::other("it was not opened")),
        }
    }

    fn create(&self, file: &FileTarget<'_>) -> io::Result<(OwnedFd, Option<Vec<u8>>)> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = self.mode(file);
        let dir = file.dir.fd()?;
        if !file.replace {
            return match rustix::fs::openat(dir, &*file.name, flags, mode) {
                Err(Errno::PERM) => {
                    file.dir.open_up()?;
                    Ok((rustix::fs::openat(dir, &*file.name, flags, mode)?, None))
                }
                other => Ok((other?, None)),
            };
        }
        // what could not be renamed again must not be made
        file.dir.open_up()?;
        let name = temporary_name()?;
        Ok((rustix::fs::openat(dir, &*name, flags, mode)?, Some(name)))
    }

    fn mode(&self, file: &FileTarget<'_>) -> Mode {
        if file.dir.fresh { self.powers.first_mode(&file.entry) } else { Mode::from_raw_mode(0o600) }
    }

    fn part_done(&self, part: &Part<'o>, names: &mut Names) {
        if part.file.part_done() {
            self.finish_file(&part.file, names);
        }
    }

    // All content is written, or there is none: attributes, then the final name.
    fn finish_file(&self, file: &FileTarget<'_>, names: &mut Names) {
        let done = match file.entry.stat.kind {
            _ if file.failed.load(Ordering::SeqCst) => Ok(false),
            Type::File => self.finish_regular(file, names),
            _ => self.make_special(file, names),
        };
        match done {
            Ok(true) => {}
            Ok(false) => self.discard(file),
            Err(e) => {
                self.fail(file, e);
                self.discard(file);
            }
        }
    }

    fn finish_regular(&self, file: &FileTarget<'_>, names: &mut Names) -> io::Result<bool> {
        let fd = self.opened(file)?;
        let entry = &file.entry;
        if !entry.holes.is_empty() {
            rustix::fs::ftruncate(fd, entry.stat.size)?;
        }
        let mut now = Now::fresh(&self.powers, self.mode(file));
        if !file.dir.fresh {
            // a directory with setgid gives its group to what is made in it
            let live = LiveStat::of(fd)?;
            (now.uid, now.gid, now.mode, now.old) = (live.stat.uid, live.stat.gid, live.stat.mode, true);
        }
        apply_but_flags(Handle::Open(fd), entry, now, &self.powers, names, self.collector)?;
        self.remember(file, fd)?;
        if let Some(Ok((_, Some(temporary)))) = file.open.get() {
            let rename = || rename_over(file, temporary, &self.powers);
            match file.clears {
                true => exchange(&file.dir, &file.name, &self.powers, self.collector, rename)?,
                false => rename()?,
            }
        }
        apply_flags(Handle::Open(fd), entry, now, &self.powers, self.collector);
        self.count(entry, 0);
        Ok(true)
    }

    fn remember(&self, file: &FileTarget<'_>, fd: BorrowedFd<'_>) -> io::Result<()> {
        if file.entry.stat.links > 1 {
            self.remember_as(file, &LiveStat::of(fd)?);
        }
        Ok(())
    }

    fn remember_as(&self, file: &FileTarget<'_>, live: &LiveStat) {
        if file.entry.stat.links > 1 {
            let mut linked = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
            linked.insert(file.path.clone(), (live.dev, live.stat.inode));
        }
    }

    /// Whatever was written of a file that is not whole goes away again.
    pub(super) fn discard(&self, file: &FileTarget<'_>) {
        let (Some(Ok((_, temporary))), Ok(dir)) = (file.open.get(), file.dir.fd()) else { return };
        let name = temporary.as_ref().unwrap_or(&file.name);
        if let Err(e) = rustix::fs::unlinkat(dir, &**name, AtFlags::empty()) {
            self.collector.problem(
                &file.path,
                "not-removed",
                format!("what was written of it is still there: {e}"),
            );
        }
    }

    fn make_special(&self, file: &FileTarget<'_>, names: &mut Names) -> io::Result<bool> {
        let entry = &file.entry;
        let dir = file.dir.fd()?;
        if self.leaves_out(entry) {
            return Ok(true);
        }
        if file.replace {
            file.dir.open_up()?;
        }
        let name = if file.replace { temporary_name()? } else { file.name.clone() };
        if let Err(e) = make_node(dir, &name, entry) {
            let device = matches!(entry.stat.kind, Type::Char | Type::Block);
            if device && e == Errno::PERM {
                self.collector.loss(Loss::Device);
                return Ok(true);
            }
            return Err(e.into());
        }
        let fd = open_path(dir, &name)?;
        let live = LiveStat::of(fd.as_fd())?;
        if live.stat.kind != entry.stat.kind {
            return Err(io::Error::other("it was replaced by something else"));
        }
        let now = Now { mtime: None, ..Now::of(&live.stat) };
        apply(Handle::Path(fd.as_fd()), entry, now, &self.powers, names, self.collector)?;
        self.remember(file, fd.as_fd())?;
        if file.replace
            && let Err(e) = rename_over(file, &name, &self.powers)
        {
            let _ = rustix::fs::unlinkat(dir, &*name, AtFlags::empty());
            return Err(e);
        }
        self.collector.report().others += 1;
        Ok(true)
    }

    /// True for what is not made here, which is counted.
    pub(super) fn leaves_out(&self, entry: &Entry) -> bool {
        let loss = match entry.stat.kind {
            Type::Socket => Loss::Socket,
            Type::Char | Type::Block if !self.devices => Loss::Device,
            _ => return false,
        };
        self.collector.loss(loss);
        true
    }
}

fn make_node(dir: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(0o600);
    let node = |kind, device| rustix::fs::mknodat(dir, name, kind, mode, device);
    let device = entry.stat.device.map_or(0, |(major, minor)| rustix::fs::makedev(major, minor));
    match entry.stat.kind {
        Type::Symlink => rustix::fs::symlinkat(entry.target.as_deref().unwrap_or_default(), dir, name),
        Type::Fifo => node(FileType::Fifo, 0),
        Type::Char => node(FileType::CharacterDevice, device),
        Type::Block => node(FileType::BlockDevice, device),
        Type::File | Type::Dir | Type::Socket => Err(Errno::INVAL),
    }
}

/// A name that nothing has, beside what it will replace.
pub fn temporary_name() -> io::Result<Vec<u8>> {
    Ok(format!(".lifeboat-{}", crate::sys::host::random_hex()?).into_bytes())
}

/// Gives a temporary its final name, whatever is there.
pub fn rename_over(file: &FileTarget<'_>, temporary: &[u8], powers: &Powers) -> io::Result<()> {
    put_over(&file.dir, temporary, &file.name, powers)
}

/// Gives a temporary of a directory its final name there, whatever has it now.
pub fn put_over(within: &Directory<'_>, temporary: &[u8], name: &[u8], powers: &Powers) -> io::Result<()> {
    let dir = within.fd()?;
    let rename = || rustix::fs::renameat(dir, temporary, dir, name);
    match rename() {
        // a directory is in the way
        Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => {
            within.clear(name)?;
            Ok(rename()?)
        }
        Err(Errno::PERM) => {
            seal::open_up(dir, name, powers)?;
            Ok(rename()?)
        }
        other => Ok(other?),
    }
}

// Writes a piece of a stream to where it belongs between the holes.
fn write_stream(fd: BorrowedFd<'_>, entry: &Entry, at: u64, content: &[u8]) -> io::Result<()> {
    if entry.holes.is_empty() {
        return write_all(fd, content, at);
    }
    let (mut skip, mut rest) = (at, content);
    for (offset, length) in entry.segments() {
        if rest.is_empty() {
            break;
        }
        if skip >= length {
            skip -= length;
            continue;
        }
        let take = usize::try_from(length - skip).unwrap_or(usize::MAX).min(rest.len());
        let (now, later) = rest.split_at(take);
        write_all(fd, now, offset + skip)?;
        (skip, rest) = (0, later);
    }
    if rest.is_empty() { Ok(()) } else { Err(io::Error::other("its chunks are longer than it is")) }
}

/// Writes all of it at this place.
///
/// # Errors
/// If the system does not take it.
pub fn write_all(fd: BorrowedFd<'_>, mut content: &[u8], mut at: u64) -> io::Result<()> {
    while !content.is_empty() {
        match rustix::io::pwrite(fd, content, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                content = &content[written..];
                at += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
