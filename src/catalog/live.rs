//! What changed between a snapshot and the living tree.
//!
//! An entry of which `lstat` says what the snapshot says is unchanged, unless it is a database and its log says otherwise. Of
//! any other the content is read and held against the hashes, unless its size tells already.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::compare::{self, Kind};
use super::cursor::Cursor;
use super::diff::{Change, Counts};
use super::paths::{Part, absolute};
use super::readers::{Asked, Difference, Found, Pair, serve};
use crate::base::event::{Event, Notice, Observer, Step};
use crate::base::name::Name;
use crate::database::{Beside, sqlite};
use crate::format::manifest::{
    Entry, ROOT, Time, Type, compare_entries, line_is_database, line_is_merged, line_says, write_stat,
};
use crate::repo::reader::ChunkReader;
use crate::repo::{RepoError, Result};
use crate::sys::names::Names;
use crate::tree::exclude::{self, Excludes, LeftOut};
use crate::tree::live::{LiveStat, add_dir, add_names, add_special};
use crate::tree::walk::{Choice, Filter, Item, Visit, join, walk};

/// More threads that read files are of no use: they wait for the disk, and each keeps directories open.
const READERS: usize = 8;

/// What of the living tree is looked at.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What to leave out, of either side.
    pub excludes: exclude::Options,
    /// Do not enter other file systems.
    pub one_file_system: bool,
    /// How many threads read directories ahead, and as many read files.
    pub threads: usize,
    /// Where what is compared lies now, if that is a copy somewhere else.
    pub at: Option<PathBuf>,
    /// What was written to the log of a database before this is in the snapshot, which had merged it.
    pub logged_before: Time,
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

// Is told of each change.
type Tell<'f> = &'f mut dyn FnMut(&Change<'_>) -> Result<()>;

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
    /// Entries that could not be read, and those of the snapshot that lie below them: nothing is known of them.
    pub unreadable: u64,
    /// Bytes of the snapshot's files that the tree does not have as they were, or of which nothing is known: what it takes
    /// to bring them back. A database counts whole, as its log may hold what it does not.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
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
    compare_all(chunks, parts, (options, leave_out, &|| ()), found, observer)
}

/// As [`diff_live`]. Each thread that reads files does `first` before: other work, which then goes on beside the comparison.
/// It has ended when this returns, whatever comes out.
///
/// # Errors
/// As there.
pub fn diff_live_beside(
    chunks: &mut ChunkReader<'_>,
    parts: &[Part<'_>],
    options: &Options,
    first: &(dyn Fn() + Sync),
    found: &mut dyn FnMut(&Change<'_>) -> Result<()>,
    observer: &dyn Observer,
) -> std::result::Result<Outcome, LiveError> {
    compare_all(chunks, parts, (options, &|_, _, _| false, first), found, observer)
}

fn compare_all(
    chunks: &mut ChunkReader<'_>,
    parts: &[Part<'_>],
    (options, leave_out, first): (&Options, LeaveOut<'_>, &(dyn Fn() + Sync)),
    found: &mut dyn FnMut(&Change<'_>) -> Result<()>,
    observer: &dyn Observer,
) -> std::result::Result<Outcome, LiveError> {
    observer.event(Event::Started { step: Step::Compare, bytes: None });
    let began = Instant::now();
    let (index, readers) = (chunks.index(), options.threads.clamp(1, READERS));
    let outcome = std::thread::scope(|scope| {
        let (mut asked, work) = Asked::new(index, readers);
        for _ in 0..readers {
            let work = work.clone();
            scope.spawn(move || {
                first();
                serve(&work, index);
            });
        }
        let mut outcome = Outcome::default();
        for part in parts.iter().filter(|part| part.root.command.is_none()) {
            compare_part(chunks, part, (options, leave_out), (&mut asked, found), &mut outcome, observer)?;
        }
        outcome.took = began.elapsed();
        Ok::<_, LiveError>(outcome)
    })?;
    observer.event(Event::Finished);
    Ok(outcome)
}

fn compare_part<'r>(
    chunks: &mut ChunkReader<'r>,
    part: &Part<'_>,
    (options, leave_out): (&Options, LeaveOut<'_>),
    (asked, found): (&mut Asked<'r>, Tell<'_>),
    outcome: &mut Outcome,
    observer: &dyn Observer,
) -> std::result::Result<(), LiveError> {
    let own_path = || PathBuf::from(OsString::from_vec(absolute(&part.root.path.0, &part.top)));
    let live_path = options.at.clone().unwrap_or_else(own_path);
    let excludes =
        Excludes::build(Path::new(std::ffi::OsStr::from_bytes(&part.root.path.0)), &options.excludes)?;
    let cursor = Cursor::new(chunks, part)?;
    let mut side = Side {
        cursor,
        asked,
        root: &part.root.path.0,
        top: &part.top,
        excludes: &excludes,
        leave_out,
        logged_before: options.logged_before,
        names: Names::default(),
        expected: Vec::new(),
        databases: Beside::default(),
        unread: HashSet::new(),
        found,
        outcome,
        observer,
    };
    let path = live_path.as_path();
    // the root may have been named through a link; what lies below is never followed
    let stat = if part.top == ROOT {
        rustix::fs::stat(path)
    } else {
        rustix::fs::statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW)
    };
    match stat.map(|raw| LiveStat::new(&raw)) {
        Ok(live) if live.stat.kind == Type::Dir => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            match rustix::fs::open(path, flags, Mode::empty()) {
                Ok(fd) => {
                    let device = options.one_file_system.then_some(live.dev);
                    let rules = Rules { excludes: &excludes, leave_out, device, top: &part.top };
                    walk::<LiveError>(fd, &rules, options.threads, &mut |visit| side.visit(visit))?;
                }
                Err(e) => side.not_looked_at(&part.top, &e.into()),
            }
        }
        Ok(live) => side.single(path, live)?,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
        Err(e) => side.not_looked_at(&part.top, &e.into()),
    }
    side.removed_until(None)?;
    Ok(side.take_found(true)?)
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

    fn only(&self, path: &[u8], dir: BorrowedFd<'_>) -> Option<Vec<Vec<u8>>> {
        // as a snapshot does
        if from_root(self.top, path) == ROOT {
            return None;
        }
        self.excludes.left_out(dir).map(|why| match why {
            LeftOut::Cache => vec![exclude::CACHE_TAG.as_bytes().to_vec()],
            LeftOut::Marked => Vec::new(),
        })
    }
}

// The snapshot's side of the comparison, in step with the walk.
struct Side<'s, 'a, 'r> {
    cursor: Cursor<'a, 'r>,
    asked: &'s mut Asked<'r>,
    root: &'s [u8],
    top: &'s [u8],
    excludes: &'s Excludes,
    leave_out: LeaveOut<'s>,
    logged_before: Time,
    names: Names,
    expected: Vec<u8>,
    // the databases that both sides have
    databases: Beside,
    // what could not be looked at: what the snapshot has there or below may be there or not
    unread: HashSet<Vec<u8>>,
    found: Tell<'s>,
    outcome: &'s mut Outcome,
    observer: &'s dyn Observer,
}

impl Side<'_, '_, '_> {
    // Now, or after the files before it that are still being read.
    fn tell(&mut self, kind: Kind, path: &[u8], what: Vec<&'static str>) -> Result<()> {
        if self.asked.is_idle() {
            return self.tell_now((kind, what), path);
        }
        self.asked.say(path.to_vec(), (kind, what)).map_err(reading)
    }

    fn tell_now(&mut self, (kind, what): Difference, path: &[u8]) -> Result<()> {
        self.outcome.counts.add(kind);
        (self.found)(&Change { kind, root: self.root, path, what })
    }

    // Tells what the readers have found, as far as it is known; at the `end`, all.
    fn take_found(&mut self, end: bool) -> Result<()> {
        while let Some(found) = self.asked.next(end).map_err(reading)? {
            for found in found {
                match found {
                    Found::Known(path, difference) => self.tell_now(difference, &path)?,
                    Found::File(old, Ok(differs)) => self.differs(&old, differs)?,
                    Found::File(old, Err(error)) => {
                        self.outcome.bytes += bytes_of(&old);
                        self.problem(&old.path, &error);
                    }
                }
            }
        }
        Ok(())
    }

    fn differs(&mut self, old: &Entry, differs: Option<Difference>) -> Result<()> {
        let Some((kind, what)) = differs else { return Ok(()) };
        if kind != Kind::Metadata || old.database {
            self.outcome.bytes += bytes_of(old);
        }
        self.tell_now((kind, what), &old.path)
    }

    // Neither it nor what lies below it could be looked at.
    fn not_looked_at(&mut self, path: &[u8], error: &io::Error) {
        self.unread.insert(path.to_vec());
        self.problem(path, error);
    }

    fn problem(&mut self, path: &[u8], error: &io::Error) {
        self.outcome.unreadable += 1;
        let subject = Some(Name(absolute(self.root, path)));
        let text = format!("could not be compared: {error}");
        self.observer.event(Event::Notice(&Notice { code: "entry-unreadable", subject, text }));
    }

    // True for what could not be looked at, and for all below it.
    fn is_unread(&self, path: &[u8]) -> bool {
        let above = memchr::memchr_iter(b'/', path).map(|at| &path[..at]);
        !self.unread.is_empty() && above.chain([ROOT, path]).any(|path| self.unread.contains(path))
    }

    // What the snapshot has before `path`, or to its end, is gone, unless nobody could look.
    fn removed_until(&mut self, path: Option<&[u8]>) -> Result<()> {
        while let Some(at) = self.cursor.path() {
            if path.is_some_and(|path| compare_entries(at, path) != Ordering::Less) {
                break;
            }
            let at = at.to_vec();
            if !self.is_excluded(&at) {
                let gone = Entry::read_line(self.cursor.line()?).map_err(RepoError::from)?;
                self.outcome.bytes += bytes_of(&gone);
                if !self.is_unread(&at) {
                    self.tell(Kind::Removed, &at, Vec::new())?;
                } else if !self.unread.contains(&at) {
                    self.outcome.unreadable += 1;
                }
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
        // what it holds besides is of no interest, and may be nobody's to read
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
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
            self.not_looked_at(&from_root(self.top, &problem.path), &problem.error);
        }
        let path = from_root(self.top, visit.path);
        self.removed_until(Some(&path))?;
        if self.cursor.path() != Some(&path[..]) {
            if self.databases.is_of_one(&path) {
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
            self.databases.add(&path);
        }
        if !line_says(line, &self.expected) {
            let old = Entry::read_line(line).map_err(RepoError::from)?;
            self.compare(old, &visit, path)?;
        } else if is_database {
            let is_merged = line_is_merged(line);
            let log =
                sqlite::log_written(visit.dir, &visit.item.name).map(|(seconds, nanos)| Time(seconds, nanos));
            let has_changed =
                if is_merged { log.is_none_or(|at| at >= self.logged_before) } else { log.is_some() };
            if is_merged || has_changed {
                self.outcome.bytes += visit.item.live.stat.size;
            }
            if has_changed {
                self.tell(Kind::Content, &path, vec!["log"])?;
            }
        }
        self.cursor.pass()?;
        Ok(self.take_found(false)?)
    }

    fn compare(&mut self, old: Entry, visit: &Visit<'_>, path: Vec<u8>) -> Result<()> {
        let mut new = Entry::new(path, visit.item.live.stat);
        if old.stat.kind == new.stat.kind {
            self.complete(&mut new, &old);
            let dir = visit.dir.as_fd();
            let completed = match (new.stat.kind, visit.opened) {
                (Type::File, _) => {
                    let (dir, name) = (Arc::clone(visit.dir), visit.item.name.clone());
                    return self.asked.ask(Pair { old, new, dir, name }).map_err(reading);
                }
                (Type::Dir, Some(opened)) => add_dir(&mut new, opened.as_fd()),
                // the walk has said why it could not be opened
                (Type::Dir, None) => {
                    new.xattrs.clone_from(&old.xattrs);
                    new.flags.clone_from(&old.flags);
                    Ok(())
                }
                _ => add_special(&mut new, dir, &visit.item.name),
            };
            if let Err(error) = completed {
                self.problem(&old.path, &error);
                return Ok(());
            }
        }
        let Some((kind, what)) = compare::entries(&old, &new) else { return Ok(()) };
        if kind != Kind::Metadata {
            self.outcome.bytes += bytes_of(&old);
        }
        self.tell(kind, &old.path, what)
    }

    // Fills in what `lstat` does not say and needs no look. Which name of an inode counts as the first is no change.
    fn complete(&mut self, new: &mut Entry, old: &Entry) {
        add_names(new, &mut self.names);
        new.hardlink.clone_from(&old.hardlink);
        (new.torn, new.database, new.exact) = (old.torn, old.database, old.exact);
    }
}

// Only a fault of the program can end a thread that reads.
fn reading(source: io::Error) -> RepoError {
    RepoError::io("read the files of the tree")(source)
}

// Another name of a file takes no bytes.
fn bytes_of(entry: &Entry) -> u64 {
    let is_file = entry.stat.kind == Type::File && entry.hardlink.is_none();
    if is_file { entry.stat.size } else { 0 }
}
