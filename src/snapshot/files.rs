//! Reading one file: open it without following links, read it, and see that it held still.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::OFlags;

use super::content::{Chunks, ContentError, ContentWriter, FileSource, TOO_LONG};
use super::databases::{self, Databases};
use crate::base::Name;
use crate::base::id::ChunkId;
use crate::base::time::Clock;
use crate::format::manifest::{Entry, MAX_LINE, ROOT, Stat, Type};
use crate::format::snapshot::Database;
use crate::repo::RepoError;
use crate::sys::attributes::{Handle, flags, holes, xattrs};
use crate::sys::names::Names;
use crate::sys::pages::begin_write_back;
use crate::tree::live::{LiveStat, add_names, open_in};

/// How often a file that changes while it is read is read again.
const TRIES: usize = 4;
/// The code of a problem: a file has more chunks than its line can hold.
const TOO_LARGE: &str = "file-too-large";
/// By now the system has written changed pages back, in seconds: it begins after 30 (`vm.dirty_expire_centisecs`).
const WRITTEN_BACK: i64 = 600;

/// A file to read.
pub struct FileJob {
    /// Relative to the root.
    pub path: Vec<u8>,
    /// The directory that holds it.
    pub dir: Arc<OwnedFd>,
    /// Its name there.
    pub name: Box<[u8]>,
    /// What the walk saw.
    pub live: LiveStat,
}

/// What came of it.
pub struct FileDone {
    /// Relative to the root.
    pub path: Vec<u8>,
    /// Its line in the manifest; empty if it could not be read.
    pub line: Vec<u8>,
    /// Size as it was read.
    pub size: u64,
    /// It never held still, or is a database that could not be copied.
    pub torn: bool,
    /// Why it could not be read, or only torn.
    pub problem: Option<(&'static str, String)>,
    /// What it held, if it is a database; its path is relative to the root.
    pub database: Option<Box<Database>>,
}

/// A file that was read, whose line may wait for the id of its content.
pub struct FileRead {
    done: FileDone,
    waiting: Option<Box<Entry>>,
}

impl FileRead {
    /// Its size.
    pub fn size(&self) -> u64 {
        self.done.size
    }

    /// What came of it. `ids` are those of the chunks that were held, in order.
    ///
    /// # Errors
    /// If there are fewer than were held.
    pub fn finish(mut self, ids: &mut impl Iterator<Item = ChunkId>) -> Result<FileDone, RepoError> {
        if let Some(mut entry) = self.waiting {
            entry.chunks = vec![ids.next().ok_or(RepoError::SelfCheck)?];
            self.done.describe(&entry);
        }
        Ok(self.done)
    }
}

impl FileDone {
    fn describe(&mut self, entry: &Entry) {
        entry.write_line(&mut self.line);
        if self.line.len() as u64 > MAX_LINE {
            self.line = Vec::new();
            self.problem = Some((TOO_LARGE, TOO_LONG.to_owned()));
        }
    }
}

/// Reads a file and stores its content.
///
/// # Errors
/// If the repository cannot be written. What is wrong with the file is in the result.
pub fn store_file(
    job: FileJob,
    content: &mut ContentWriter<'_>,
    names: &mut Names,
    databases: Option<&Databases<'_>>,
) -> Result<FileRead, RepoError> {
    let mut done =
        FileDone { path: job.path, line: Vec::new(), size: 0, torn: false, problem: None, database: None };
    let mut before = job.live;
    if let Some(databases) = databases.filter(|_| databases::may_be(&before))
        && let Some(copied) = databases.try_copy(&job.dir, &job.name, content)?
    {
        match copied {
            Ok((mut entry, database)) => {
                entry.path.clone_from(&done.path);
                add_names(&mut entry, names);
                done.size = entry.stat.size;
                done.database = Some(Box::new(database));
                done.describe(&entry);
                return Ok(FileRead { done, waiting: None });
            }
            Err(problem) => done.problem = Some(problem),
        }
    }
    for attempt in 1..=TRIES {
        let last = attempt == TRIES;
        match read_once(&job.dir, &job.name, &mut before, last, content) {
            Ok(Some((mut entry, chunks))) => {
                entry.path.clone_from(&done.path);
                add_names(&mut entry, names);
                done.size = entry.stat.size;
                // a database that could not be copied may be torn although its file held still, and is tried again
                entry.torn |= done.problem.is_some();
                done.torn = entry.torn;
                if entry.torn && done.problem.is_none() {
                    let why = "it changed each time it was read; what was read last is kept";
                    done.problem = Some(("file-torn", why.to_owned()));
                }
                let waiting = match chunks {
                    Chunks::Held => Some(Box::new(entry)),
                    Chunks::Known(chunks) => {
                        entry.chunks = chunks;
                        done.describe(&entry);
                        None
                    }
                };
                return Ok(FileRead { done, waiting });
            }
            Ok(None) => {}
            Err(ContentError::Source(e)) => {
                let code =
                    if e.kind() == io::ErrorKind::NotFound { "file-vanished" } else { "file-unreadable" };
                done.problem = Some((code, e.to_string()));
                break;
            }
            Err(ContentError::TooLong) => {
                done.problem = Some((TOO_LARGE, TOO_LONG.to_owned()));
                break;
            }
            Err(ContentError::Repo(e)) => return Err(e),
        }
    }
    Ok(FileRead { done, waiting: None })
}

// One try. `None`: the file changed while it was read; `before` is then what it is now.
fn read_once(
    dir: &OwnedFd,
    name: &[u8],
    before: &mut LiveStat,
    last: bool,
    content: &mut ContentWriter<'_>,
) -> Result<Option<(Entry, Chunks)>, ContentError> {
    let fd = open_in(dir.as_fd(), name, OFlags::RDONLY)?;
    if last {
        *before = LiveStat::of(fd.as_fd()).map_err(ContentError::Source)?;
    }
    if before.stat.kind != Type::File {
        return Err(ContentError::Source(io::Error::other(
            "it was replaced by something that is no regular file",
        )));
    }
    if is_recent(&before.stat) {
        begin_write_back(fd.as_fd());
    }
    let mut entry = Entry::new(Vec::new(), before.stat);
    entry.xattrs = xattrs(Handle::Open(fd.as_fd())).map_err(ContentError::Source)?;
    entry.flags = flags(fd.as_fd());
    let (read, chunks) = read_content(&fd, before, &mut entry, content)?;
    let after = match LiveStat::of(fd.as_fd()) {
        Ok(after) => after,
        Err(e) => {
            content.forget(chunks);
            return Err(ContentError::Source(e));
        }
    };
    if read == entry.stream_len() && after.same_as(before) {
        return Ok(Some((entry, chunks)));
    }
    *before = after;
    if !last {
        content.forget(chunks);
        return Ok(None);
    }
    entry.torn = true;
    Ok(Some((entry, chunks)))
}

// What was written to longer ago, the system has written back by itself, so that a further write shows in its times.
fn is_recent(stat: &Stat) -> bool {
    let (now, _) = Clock::System.now().parts();
    stat.ctime.0 >= now.saturating_sub(WRITTEN_BACK)
}

// Returns how many bytes of content there were. A file that ended early gets that size.
fn read_content(
    fd: &OwnedFd,
    before: &LiveStat,
    entry: &mut Entry,
    content: &mut ContentWriter<'_>,
) -> Result<(u64, Chunks), ContentError> {
    let size = before.stat.size;
    if size == 0 && has_content(fd)? {
        return read_unsized(fd, entry, content);
    }
    if before.may_have_holes() {
        entry.holes = holes(fd.as_fd(), size).map_err(ContentError::Source)?;
    }
    if entry.holes.is_empty() && size <= content.small() as u64 {
        let (read, chunks) = content.store_small(fd.as_fd(), size as usize)?;
        entry.stat.size = read;
        return Ok((if read == size { read } else { u64::MAX }, chunks));
    }
    let mut source = FileSource::new(fd.as_fd(), entry.segments().collect());
    let (read, chunks) = content.store_stream(&mut source, Some(entry.stream_len()))?;
    if let Some(end) = source.ended_early {
        entry.stat.size = end;
        entry.holes.retain_mut(|(offset, length)| {
            *length = (*length).min(end.saturating_sub(*offset));
            *length > 0
        });
        return Ok((u64::MAX, Chunks::Known(chunks)));
    }
    Ok((read, Chunks::Known(chunks)))
}

fn has_content(fd: &OwnedFd) -> Result<bool, ContentError> {
    let mut byte = [0; 1];
    let read = rustix::io::retry_on_intr(|| rustix::io::pread(fd, &mut byte[..], 0));
    read.map(|read| read > 0).map_err(|e| ContentError::Source(e.into()))
}

// A file of the kernel (`/proc`), whose size is given as nothing; or one that just got its first bytes, which is read again.
fn read_unsized(
    fd: &OwnedFd,
    entry: &mut Entry,
    content: &mut ContentWriter<'_>,
) -> Result<(u64, Chunks), ContentError> {
    let now = LiveStat::of(fd.as_fd()).map_err(ContentError::Source)?;
    if now.stat.size > 0 {
        return Ok((u64::MAX, Chunks::Known(Vec::new())));
    }
    let mut source = FileSource::new(fd.as_fd(), vec![(0, u64::MAX)]);
    let (read, chunks) = content.store_stream(&mut source, None)?;
    entry.stat.size = read;
    Ok((read, Chunks::Known(chunks)))
}

/// An absolute path of an entry, for people.
pub fn absolute(root: &Name, path: &[u8]) -> Name {
    if path == ROOT {
        return root.clone();
    }
    Name(crate::tree::walk::join(if root.0 == b"/" { b"" } else { &root.0 }, path))
}
