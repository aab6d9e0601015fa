//! What changed between a snapshot and the living tree.
//!
//! An entry of which `lstat` says what the snapshot says is unchanged. Of any other the content is
//! read and held against the hashes, unless its size tells already.

use std::cmp::Ordering;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::compare::{self, Kind};
use super::cursor::Cursor;
use super::diff::{Change, Counts};
use super::paths::{Part, absolute};
use crate::base::event::{Event, Notice, Observer, Step};
use crate::base::name::Name;
use crate::database::sqlite;
use crate::format::manifest::{Entry, ROOT, Type, compare_entries, line_is_database, write_stat};
use crate::repo::chunk_index::ChunkIndex;
use crate::repo::content::same_stream;
use crate::repo::reader::ChunkReader;
use crate::repo::{RepoError, Result};
use crate::sys::attributes::{Handle, flags, holes, xattrs};
use crate::sys::names::Names;
use crate::tree::exclude::{self, Excludes, LeftOut};
use crate::tree::live::{LiveStat, add_dir, add_names, add_special, open_in};
use crate::tree::walk::{Choice, Filter, Item, Visit, join, walk};

/// What of the living tree is looked at.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What to leave out, of either side.
    pub excludes: exclude::Options,
    /// Do not enter other file systems.
    pub one_file_system: bool,
    /// How many threads read directories ahead.
    pub threads: usize,
}

/// Which side of the comparison an entry is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// The living tree.
    Tree,
    /// The snapshot.
    Snapshot,
}

/// What is left out besides: told the path, relative to the root, whether it is a directory, and which side it is of.
/// Asked from several threads.
pub type LeaveOut<'l> = &'l (dyn Fn(&[u8], bool, Of) -> bool + Sync);

/// Why the trees could not be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LiveError {
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// An exclude rule makes no sense.
    #[error(transparent)]
    Exclude(#[from] exclude::ExcludeError),
    /// The walk failed.
    #[error("could not walk the tree")]
    Walk(#[from] io::Error),
}

/// What was found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// The changes.
    pub counts: Counts,
    /// Entries that could not be read, so nothing is known of them.
    pub unreadable: u64,
    /// Bytes of the snapshot's files that the tree does not have as they were: what it takes to bring them back. A
    /// database counts whole, as its log may hold what it does not.
    pub bytes: u64,
}

/// Calls `found` with each change since the snapshot, root by root in the order of paths.
///
/// # Errors
/// If the manifest cannot be read, or `found` fails.
pub fn diff_live(
    chunks: &mut ChunkReader<'_>,
    parts: &[Part<'_>],
    options: &Options,
    found: &mut dyn FnMut(&Change<'_>) -> Result<()>,
    observer: &dyn Observer,
) -> std::result::Result<Outcome, LiveError> {
    diff_live_but(chunks, parts, options, &|_, _, _| false, found, observer)
}

/// As [`diff_live`], but for what is left out besides.
///
/// # Errors
/// As there.
pub fn diff_live_but(
    chunks: &mut ChunkReader<'_>,
    parts: &[Part<'_>],
    options: &Options,
    leave_out: LeaveOut<'_>,
    found: &mut dyn FnMut(&Change<'_>) -> Result<()>,
    observer: &dyn Observer,
) -> std::result::Result<Outcome, LiveError> {
    observer.event(Event::Started { step: Step::Compare, bytes: None });
    let mut outcome = Outcome::default();
    for part in parts.iter().filter(|part| part.root.command.is_none()) {
        compare_part(chunks, part, (options, leave_out), found, &mut outcome, observer)?;
    }
    observer.event(Event::Finished);
    Ok(outcome)
}

fn compare_part(
    chunks: &mut ChunkReader<'_>,
    part: &Part<'_>,
    (options, leave_out): (&Options, LeaveOut<'_>),
    found: &mut dyn FnMut(&Change<'_>) -> Result<()>,
    outcome: &mut Outcome,
    observer: &dyn Observer,
) -> std::result::Result<(), LiveError> {
    let live_path = absolute(&part.root.path.0, &part.top);
    let excludes =
        Excludes::build(Path::new(std::ffi::OsStr::from_bytes(&part.root.path.0)), &options.excludes)?;
    let index = chunks.index();
    let cursor = Cursor::new(chunks, part)?;
    let mut side = Side {
        cursor,
        index,
        root: &part.root.path.0,
        top: &part.top,
        excludes: &excludes,
        leave_out,
        names: Names::default(),
        expected: Vec::new(),
        database: None,
        found,
        outcome,
        observer,
    };
    let path = std::ffi::OsStr::from_bytes(&live_path);
    // the root may have been named through a link; what lies below is never followed
    let stat = if part.top == ROOT {
        rustix::fs::stat(path)
    } else {
        rustix::fs::statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW)
    };
    match stat.map(|raw| LiveStat::new(&raw)) {
        Ok(live) if live.stat.kind == Type::Dir => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from)?;
            let device = options.one_file_system.then_some(live.dev);
            let rules = Rules { excludes: &excludes, leave_out, device, top: &part.top };
            walk::<LiveError>(fd, &rules, options.threads, &mut |visit| side.visit(visit))?;
        }
        Ok(live) => side.single(Path::new(path), live)?,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
        Err(e) => side.problem(&part.top, &e.into()),
    }
    Ok(side.removed_until(None)?)
}

struct Rules<'e> {
    excludes: &'e Excludes,
    leave_out: LeaveOut<'e>,
    device: Option<u64>,
    top: &'e [u8],
}

// The walk begins at `top`; excludes count from the root.
fn from_root(top: &[u8], path: &[u8]) -> Vec<u8> {
    if path == ROOT { top.to_vec() } else { join(top, path) }
}

impl Filter for Rules<'_> {
    fn choose(&self, path: &[u8], item: &Item) -> Choice {
        let is_dir = item.live.stat.kind == Type::Dir;
        let path = from_root(self.top, path);
        if self.excludes.matches(&path, is_dir) || (self.leave_out)(&path, is_dir, Of::Tree) {
            return Choice::Skip;
        }
        match self.device {
            Some(device) if is_dir && item.live.dev != device => Choice::TakeOnly,
            _ => Choice::Take,
        }
    }

    fn only(&self, dir: BorrowedFd<'_>) -> Option<Vec<Vec<u8>>> {
        self.excludes.left_out(dir).map(|why| match why {
            LeftOut::Cache => vec![exclude::CACHE_TAG.as_bytes().to_vec()],
            LeftOut::Marked => Vec::new(),
        })
    }
}

// The snapshot's side of the comparison, in step with the walk.
struct Side<'s, 'a, 'r> {
    cursor: Cursor<'a, 'r>,
    index: &'r ChunkIndex,
    root: &'s [u8],
    top: &'s [u8],
    excludes: &'s Excludes,
    leave_out: LeaveOut<'s>,
    names: Names,
    expected: Vec<u8>,
    // the last database that both sides have
    database: Option<Vec<u8>>,
    found: &'s mut dyn FnMut(&Change<'_>) -> Result<()>,
    outcome: &'s mut Outcome,
    observer: &'s dyn Observer,
}

impl Side<'_, '_, '_> {
    fn tell(&mut self, kind: Kind, path: &[u8], what: Vec<&'static str>) -> Result<()> {
        self.outcome.counts.add(kind);
        (self.found)(&Change { kind, root: self.root, path, what })
    }

    fn problem(&mut self, path: &[u8], error: &io::Error) {
        self.outcome.unreadable += 1;
        let subject = Some(Name(absolute(self.root, path)));
        let text = format!("could not be compared: {error}");
        self.observer.event(Event::Notice(&Notice { code: "entry-unreadable", subject, text }));
    }

    // What the snapshot has before `path`, or to its end, is gone.
    fn removed_until(&mut self, path: Option<&[u8]>) -> Result<()> {
        while let Some(at) = self.cursor.path() {
            if path.is_some_and(|path| compare_entries(at, path) != Ordering::Less) {
                break;
            }
            let at = at.to_vec();
            if !self.is_excluded(&at) {
                let gone = Entry::read_line(self.cursor.line()?).map_err(RepoError::from)?;
                self.outcome.bytes += bytes_of(&gone);
                self.tell(Kind::Removed, &at, Vec::new())?;
            }
            self.cursor.pass()?;
        }
        Ok(())
    }

    fn is_excluded(&self, path: &[u8]) -> bool {
        let leaves = |path: &[u8], is_dir: bool| {
            self.excludes.matches(path, is_dir) || (self.leave_out)(path, is_dir, Of::Snapshot)
        };
        let parents = memchr::memchr_iter(b'/', path).any(|at| leaves(&path[..at], true));
        parents || leaves(path, false) || leaves(path, true)
    }

    fn single(&mut self, path: &Path, live: LiveStat) -> std::result::Result<(), LiveError> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let name = path.file_name().map(|n| n.as_bytes().to_vec()).unwrap_or_default();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = Arc::new(rustix::fs::open(parent, flags, Mode::empty()).map_err(io::Error::from)?);
        let item = Item { name: name.into(), live };
        self.visit(Visit { path: ROOT, item: &item, dir: &dir, problems: Vec::new(), opened: None })
    }

    fn visit(&mut self, visit: Visit<'_>) -> std::result::Result<(), LiveError> {
        self.observer.event(Event::Advanced { entries: 1, bytes: 0 });
        if self.observer.interrupted() {
            return Err(RepoError::Interrupted.into());
        }
        for problem in &visit.problems {
            self.problem(&from_root(self.top, &problem.path), &problem.error);
        }
        let path = from_root(self.top, visit.path);
        self.removed_until(Some(&path))?;
        if self.cursor.path() != Some(&path[..]) {
            let owner = sqlite::owner_of(&path).filter(|owner| self.database.as_deref() == Some(*owner));
            if owner.is_some() {
                // what a database keeps beside itself is never part of a snapshot
                return Ok(());
            }
            return Ok(self.tell(Kind::Added, &path, Vec::new())?);
        }
        self.expected.clear();
        write_stat(&mut self.expected, &path, &visit.item.live.stat);
        let line = self.cursor.line()?;
        let is_database = visit.item.live.stat.size.is_multiple_of(sqlite::PAGE) && line_is_database(line);
        if is_database {
            self.database = Some(path.clone());
        }
        let rest = line.strip_prefix(&self.expected[..]).and_then(|rest| rest.first());
        if !matches!(rest, Some(b',' | b'}')) {
            let old = Entry::read_line(line).map_err(RepoError::from)?;
            self.compare(&old, &visit, path)?;
        } else if is_database {
            self.outcome.bytes += visit.item.live.stat.size;
        }
        Ok(self.cursor.pass()?)
    }

    fn compare(&mut self, old: &Entry, visit: &Visit<'_>, path: Vec<u8>) -> Result<()> {
        let mut new = Entry::new(path.clone(), visit.item.live.stat);
        if old.stat.kind == new.stat.kind
            && let Err(error) = self.complete(&mut new, old, visit)
        {
            self.problem(&path, &error);
            return Ok(());
        }
        match compare::entries(old, &new) {
            Some((kind, what)) => {
                if kind != Kind::Metadata || old.database {
                    self.outcome.bytes += bytes_of(old);
                }
                self.tell(kind, &path, what)
            }
            None => Ok(()),
        }
    }

    // Fills in what `lstat` does not say. Which name of an inode counts as the first is no change.
    fn complete(&mut self, new: &mut Entry, old: &Entry, visit: &Visit<'_>) -> io::Result<()> {
        add_names(new, &mut self.names);
        new.hardlink.clone_from(&old.hardlink);
        (new.torn, new.database) = (old.torn, old.database);
        let dir = visit.dir.as_fd();
        match (new.stat.kind, visit.opened) {
            (Type::Dir, Some(opened)) => add_dir(new, opened.as_fd()),
            // the walk has said why it could not be opened
            (Type::Dir, None) => {
                new.xattrs.clone_from(&old.xattrs);
                new.flags.clone_from(&old.flags);
                Ok(())
            }
            (Type::File, _) => {
                let opened = open_in(dir, &visit.item.name, OFlags::RDONLY)?;
                add_file(new, old, opened, self.index)
            }
            _ => add_special(new, dir, &visit.item.name),
        }
    }
}

// Another name of a file takes no bytes.
fn bytes_of(entry: &Entry) -> u64 {
    let is_file = entry.stat.kind == Type::File && entry.hardlink.is_none();
    if is_file { entry.stat.size } else { 0 }
}

fn add_file(new: &mut Entry, old: &Entry, opened: OwnedFd, index: &ChunkIndex) -> io::Result<()> {
    new.xattrs = xattrs(Handle::Open(opened.as_fd()))?;
    new.flags = flags(opened.as_fd());
    if new.stat.size == old.stat.size {
        let same_holes = holes(opened.as_fd(), new.stat.size)? == old.holes;
        if same_bytes(&File::from(opened), old, same_holes, index)? {
            // where zeros are stored and where they are holes is no change of content
            new.holes.clone_from(&old.holes);
            new.chunks.clone_from(&old.chunks);
        }
    }
    Ok(())
}

// True if the file has the bytes that the entry's chunks had.
fn same_bytes(file: &File, entry: &Entry, same_holes: bool, index: &ChunkIndex) -> io::Result<bool> {
    if !same_holes
        && !entry.holes.iter().try_fold(true, |all, &hole| Ok::<_, io::Error>(all && is_zero(file, hole)?))?
    {
        return Ok(false);
    }
    same_stream(file, entry, index)
}

fn is_zero(file: &File, (offset, length): (u64, u64)) -> io::Result<bool> {
    let mut buffer = [0; 64 << 10];
    let mut done = 0;
    while done < length {
        let now = (length - done).min(buffer.len() as u64) as usize;
        match file.read_exact_at(&mut buffer[..now], offset + done) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            other => other?,
        }
        if buffer[..now].iter().any(|&b| b != 0) {
            return Ok(false);
        }
        done += now as u64;
    }
    Ok(true)
}
