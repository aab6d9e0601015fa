//! Databases among the files: each is copied by its own means, so that the snapshot holds one moment of it
//! whoever writes to it meanwhile.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::content::{ContentError, ContentWriter, FileSource, TOO_LONG};
use crate::base::event::Observer;
use crate::base::name::Name;
use crate::base::time::Clock;
use crate::database::locks::{self, Guest};
use crate::database::sqlite::{self, SqliteError};
use crate::format::manifest::{Entry, Type};
use crate::format::snapshot::Database;
use crate::repo::RepoError;
use crate::sys::attributes::{Handle, flags, xattrs};
use crate::sys::host::{LARGE_TEMPORARY, large_temporary};
use crate::tree::live::{LiveStat, open_in};
use crate::tree::walk::Item;

// With each of these what lies beside the database is saved too, and its content is marked as torn.
/// The code of a problem: the database could not be locked, so that its file was read as it lay.
pub const LOCKED: &str = "database-locked";
/// The code of a problem: no copy of the database could be written or read, so that its file was read as it lay.
pub const UNCOPIED: &str = "database-not-copied";
/// The code of a problem: SQLite says that it is damaged, so that its file was read as it lay.
pub const UNSOUND: &str = "database-unsound";
/// The code of a problem: a database has several names, and its log lies beside another one than that by which it was copied.
pub const NAMED_AGAIN: &str = "database-named-again";

/// What copying databases needs.
pub struct Databases<'o> {
    clock: &'o Clock,
    observer: &'o dyn Observer,
    scratch: PathBuf,
}

/// A code and what happened, in words.
pub type Problem = (&'static str, String);

/// The entry of a database that was copied, and what it held; a problem if it must be read like any file.
pub type Copied = Result<(Entry, Database), Problem>;

impl<'o> Databases<'o> {
    /// Copies go to the system's directory for large temporary files.
    pub fn new(clock: &'o Clock, observer: &'o dyn Observer) -> Self {
        Self { clock, observer, scratch: large_temporary() }
    }

    /// Stores a file's content as SQLite gives it. `None` if it is no database; a problem if it must be
    /// read like any other file.
    ///
    /// # Errors
    /// If the repository cannot be written, or somebody wants an end.
    pub fn try_copy(
        &self,
        dir: &OwnedFd,
        name: &[u8],
        content: &mut ContentWriter<'_>,
    ) -> Result<Option<Copied>, RepoError> {
        // whatever is wrong with the file itself is met again, and told, by whoever reads it
        let Ok(fd) = open_in(dir.as_fd(), name, OFlags::RDONLY) else { return Ok(None) };
        // another name of the same database may be copied beside this one
        let guest = Guest::new(fd);
        let Some(fd) = guest.get() else { return Ok(None) };
        let Ok(before) = LiveStat::of(fd.as_fd()) else { return Ok(None) };
        if !is_database(fd, &before) {
            return Ok(None);
        }
        let path = match sqlite::path_in(dir.as_fd(), name) {
            Ok(path) => path,
            Err(e) => return Ok(Some(Err((LOCKED, e.to_string())))),
        };
        // `fd` stays open until the copy is made: closing any descriptor of a file drops SQLite's locks on it
        let copy = match sqlite::copy(&path, &self.scratch, &|| self.observer.interrupted()) {
            Ok(copy) => copy,
            Err(SqliteError::Interrupted) => return Err(RepoError::Interrupted),
            Err(error) => return Ok(Some(Err(self.problem(error)))),
        };
        let at = self.clock.now();
        let database = Database {
            path: Name(Vec::new()),
            kind: "sqlite".to_owned(),
            at,
            schema: copy.facts.schema,
            user_version: copy.facts.user_version,
            tables: copy.facts.tables,
            uncounted: copy.facts.uncounted,
        };
        match store(fd, before, &copy.file, content) {
            Ok(mut entry) => {
                // what the entry says of the file is true of its content only if it held still
                entry.exact = copy.exact && LiveStat::of(fd.as_fd()).is_ok_and(|now| now.same_as(&before));
                Ok(Some(Ok((entry, database))))
            }
            Err(ContentError::Source(e)) => Ok(Some(Err((LOCKED, e.to_string())))),
            Err(ContentError::TooLong) => Ok(Some(Err((UNCOPIED, TOO_LONG.to_owned())))),
            Err(ContentError::Repo(e)) => Err(e),
        }
    }

    // Why the file is read as it lies, with what lies beside it.
    fn problem(&self, error: SqliteError) -> Problem {
        match error {
            SqliteError::Unsound(why) => {
                (UNSOUND, format!("it is kept as it lies, with its log, for it is damaged: {why}"))
            }
            e @ SqliteError::NoPlace { .. } => {
                (UNCOPIED, format!("it may be torn: {e}; {}", way_out(&self.scratch)))
            }
            SqliteError::Io(e) => {
                let why = format!("it may be torn, since its copy could not be written or read: {e}");
                (UNCOPIED, why)
            }
            e => (LOCKED, format!("it may be torn, since it could not be copied by SQLite: {e}")),
        }
    }
}

// TMPDIR counts only where the usual place is closed.
fn way_out(scratch: &Path) -> String {
    match scratch == Path::new(LARGE_TEMPORARY) {
        true => "make room there for as much as the database and its log take".to_owned(),
        false => format!(
            "make room there, name another directory by TMPDIR, or let this user write in {LARGE_TEMPORARY}"
        ),
    }
}

// The entry is the live file's, its content the copy's.
fn store(
    fd: &OwnedFd,
    live: LiveStat,
    copy: &std::fs::File,
    content: &mut ContentWriter<'_>,
) -> Result<Entry, ContentError> {
    let mut entry = Entry::new(Vec::new(), live.stat);
    entry.xattrs = xattrs(Handle::Open(fd.as_fd())).map_err(ContentError::Source)?;
    entry.flags = flags(fd.as_fd());
    entry.database = true;
    entry.stat.size = copy.metadata().map_err(ContentError::Source)?.len();
    let mut source = FileSource::new(copy.as_fd(), vec![(0, entry.stat.size)]);
    let (read, chunks) = content.store_stream(&mut source, Some(entry.stat.size))?;
    if read != entry.stat.size {
        return Err(ContentError::Source(std::io::Error::other("the copy of the database was cut short")));
    }
    entry.chunks = chunks;
    Ok(entry)
}

/// True unless a file cannot be a database, by its size.
pub fn may_be(live: &LiveStat) -> bool {
    let size = live.stat.size;
    live.stat.kind == Type::File && size >= sqlite::PAGE && size.is_multiple_of(sqlite::PAGE)
}

fn is_database(fd: &OwnedFd, live: &LiveStat) -> bool {
    live.stat.kind == Type::File && sqlite::is_database(fd, live.stat.size).unwrap_or(false)
}

/// True if the file of this name is a database.
pub fn is_one(dir: &OwnedFd, name: &[u8]) -> bool {
    let Ok(fd) = open_in(dir.as_fd(), name, OFlags::RDONLY) else { return false };
    let is_one = LiveStat::of(fd.as_fd()).is_ok_and(|live| is_database(&fd, &live));
    // a worker may be copying it at this moment
    locks::close(fd);
    is_one
}

/// True if this is what a database keeps beside itself: a copy of the database has all that is in it.
pub fn belongs_to_one(dir: &OwnedFd, item: &Item) -> bool {
    let owner = sqlite::owner_of(&item.name).filter(|_| item.live.stat.kind == Type::File);
    owner.is_some_and(|owner| is_one(dir, owner))
}
