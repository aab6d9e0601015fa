//! SQLite (<https://www.sqlite.org/fileformat.html>).
//!
//! A database that somebody writes to is up to four files, and copying them one after the other gives a torn
//! database now and then. So it is copied inside one read transaction. What has a write-ahead log goes through the online
//! backup API: one file comes out that holds one moment, with the log merged into it. What has none is its file and nothing else, and
//! that does not change while SQLite's read lock is held: it is copied byte for byte, so that whoever compares the
//! two later sees that they are the same (<https://www.sqlite.org/lockingv3.html>, section 3).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{AtFlags, Mode, OFlags};

use super::Facts;
use super::examine::{facts, facts_of_copy};
use super::locks::{self, Copying};
use crate::base::name::Name;

/// The first bytes of every SQLite database.
pub const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// What SQLite puts beside a database: log, its shared index, rollback journal.
pub const SIDE_FILES: [&[u8]; 3] = [b"-wal", b"-shm", b"-journal"];
// Of those, the log and the journal: what is in them may not be in the database's own file.
const LOGS: [&[u8]; 2] = [b"-wal", b"-journal"];
/// A database has at least this many bytes, and a multiple of them: the smallest page.
pub const PAGE: u64 = 512;
/// So long a writer that holds the database alone is waited for.
const BUSY: Duration = Duration::from_secs(10);
/// How often it is asked whether the writer has gone.
const GAP: Duration = Duration::from_millis(2);
/// How often a database that nobody had open is copied again because somebody came meanwhile.
const TRIES: usize = 4;
/// Pages copied between two looks whether somebody wants an end.
const STEP: i32 = 4096;
/// Bytes copied between two such looks.
const STRETCH: u64 = 16 << 20;
/// How long a check or a count goes on after that.
const LOOK: Duration = Duration::from_millis(50);

/// Says whether somebody wants an end.
pub type Interrupted<'a> = &'a (dyn Fn() -> bool + Sync);

/// Why a database could not be copied or asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SqliteError {
    /// SQLite says that it is no sound database: there is nothing to be consistent.
    #[error("it is no sound database: {0}")]
    Unsound(String),
    /// It could not be opened, read or locked in time.
    #[error("{0}")]
    Busy(String),
    /// SQLite does not understand it without what its application adds: a collation, a function.
    #[error("{0}")]
    Foreign(String),
    /// There is no place for a copy.
    #[error("no copy of it can be made in {}: {source}", place.shown())]
    NoPlace {
        /// Where it should go.
        place: Name,
        /// Why it does not.
        source: io::Error,
    },
    /// The copy could not be written or read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Somebody wanted an end.
    #[error("interrupted")]
    Interrupted,
}

impl From<rusqlite::Error> for SqliteError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::Unsound(error.to_string()),
            Some(ErrorCode::OperationInterrupted) => Self::Interrupted,
            Some(ErrorCode::DiskFull) => Self::Io(io::ErrorKind::StorageFull.into()),
            _ if is_plain(&error) => Self::Foreign(error.to_string()),
            _ => Self::Busy(error.to_string()),
        }
    }
}

// SQLITE_ERROR, with whatever detail: the statement makes no sense to it.
fn is_plain(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code & 0xff == rusqlite::ffi::SQLITE_ERROR)
}

/// A whole copy of a database.
#[derive(Debug)]
pub struct Copy {
    /// The copy; it has no name any more and goes when it is closed.
    pub file: File,
    /// What it holds.
    pub facts: Facts,
    /// It has the bytes of the database's own file, which had no log.
    pub exact: bool,
}

/// If `name` is that of a side file, the name of the database it would belong to.
pub fn owner_of(name: &[u8]) -> Option<&[u8]> {
    SIDE_FILES.iter().find_map(|suffix| name.strip_suffix(*suffix)).filter(|name| !name.is_empty())
}

/// True if an open regular file of this size is a database.
///
/// # Errors
/// If it cannot be read.
pub fn is_database(file: impl AsFd, size: u64) -> io::Result<bool> {
    if size < PAGE || !size.is_multiple_of(PAGE) {
        return Ok(false);
    }
    let mut beginning = [0; MAGIC.len()];
    let read = rustix::io::pread(file, &mut beginning, 0)?;
    Ok(beginning[..read] == MAGIC[..])
}

/// True for the name of a log or a journal, which hold what may not be in the database's own file.
pub fn is_log(path: &[u8]) -> bool {
    LOGS.iter().any(|suffix| path.ends_with(suffix))
}

/// When the log or journal of a database in an open directory was written to last, if something is in it: then the
/// database's own file does not tell whether it changed. Seconds since 1970 and nanoseconds.
pub fn log_written(dir: impl AsFd, name: &[u8]) -> Option<(i64, u32)> {
    let written = |suffix: &&[u8]| {
        let beside = [name, *suffix].concat();
        let found = rustix::fs::statat(dir.as_fd(), &beside[..], AtFlags::SYMLINK_NOFOLLOW).ok()?;
        (found.st_size > 0).then_some((found.st_mtime, found.st_mtime_nsec as u32)) // below 10^9
    };
    LOGS.iter().filter_map(written).max()
}

/// The path by which SQLite can open `name` in an open directory.
///
/// # Errors
/// If the directory has no path any more.
pub fn path_in(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", dir.as_raw_fd());
    let mut path = std::fs::read_link(link)?;
    path.push(OsString::from_vec(name.to_vec()));
    Ok(path)
}

/// Copies a live database, whoever writes to it meanwhile, to a file without a name in `scratch`.
/// The writers of a write-ahead log are never held up.
///
/// # Errors
/// If it is no sound database, could not be locked for ten seconds, or there is no room.
pub fn copy(path: &Path, scratch: &Path, interrupted: Interrupted<'_>) -> Result<Copy, SqliteError> {
    let no_place = |source| SqliteError::NoPlace { place: Name::from(scratch.as_os_str()), source };
    let place = tempfile::Builder::new().prefix("lifeboat-sqlite-").tempdir_in(scratch).map_err(no_place)?;
    for attempt in 0..TRIES {
        let to = place.path().join(attempt.to_string());
        let (before, way) = (state(path)?, way(path)?);
        let copying = Copying::of((before.0, before.1));
        let copied = copy_once(path, way, &to, interrupted);
        drop(copying);
        let copied = copied.map_err(|error| match error {
            SqliteError::Io(source) if has_no_room(&source) => no_place(source),
            other => other,
        });
        let Some((facts, exact)) = copied? else { continue };
        let (after, is_alone) = (state(path)?, !beside(path, b"-wal"));
        // another file may have been put in its place, without SQLite's locks
        let held = match way {
            Way::Shared => (before.0, before.1) == (after.0, after.1),
            Way::Alone => before == after && is_alone,
        };
        if held {
            return Ok(Copy { file: File::open(&to)?, facts, exact });
        }
    }
    let why = "it was opened and closed, or replaced, each time it was copied";
    Err(SqliteError::Busy(why.to_owned()))
}

// Nothing is written but the copy.
fn has_no_room(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

// What it holds, and whether its bytes are the file's; `None` if somebody wrote to it who does not honour SQLite's lock.
fn copy_once(
    path: &Path,
    way: Way,
    to: &Path,
    interrupted: Interrupted<'_>,
) -> Result<Option<(Facts, bool)>, SqliteError> {
    let source = open_in_way(path, way)?;
    // one read transaction around all steps: without it each step could see another state and start again
    source.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema;")?;
    if way == Way::Shared && has_log(&source, path)? {
        return Ok(Some((back_up(&source, to, interrupted)?, false)));
    }
    let locked = state(path)?;
    // closing this descriptor drops the lock, as SQLite's are POSIX locks of the whole process: not before all is copied
    let mut file = open_file(path)?;
    copy_bytes(&mut file, &mut File::create_new(to)?, interrupted)?;
    let held = state(path)? == locked;
    locks::close(file);
    drop(source);
    if !held {
        return Ok(None);
    }
    let copy = open_in_way(to, Way::Alone)?;
    Ok(Some((until(interrupted, &copy, || facts_of_copy(&copy))?, true)))
}

// True if what was written last may not be in the database's own file. Asked inside a read transaction.
fn has_log(db: &Connection, path: &Path) -> Result<bool, SqliteError> {
    let mode: String = db.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    // as long as this transaction reads beside an empty log, nothing that is written to it gets into the file: section 3.1 of
    // <https://www.sqlite.org/wal.html>
    Ok(mode.eq_ignore_ascii_case("wal") && size_beside(path, b"-wal").is_none_or(|size| size > 0))
}

fn copy_bytes(from: &mut File, to: &mut File, interrupted: Interrupted<'_>) -> Result<(), SqliteError> {
    while !interrupted() {
        if io::copy(&mut from.by_ref().take(STRETCH), to)? == 0 {
            return Ok(());
        }
    }
    Err(SqliteError::Interrupted)
}

fn back_up(source: &Connection, to: &Path, interrupted: Interrupted<'_>) -> Result<Facts, SqliteError> {
    let mut copy = Connection::open(to)?;
    copy.execute_batch("PRAGMA synchronous=OFF")?;
    let backup = Backup::new(source, &mut copy)?;
    loop {
        if interrupted() {
            return Err(SqliteError::Interrupted);
        }
        match backup.step(STEP)? {
            StepResult::Done => break,
            StepResult::More => {}
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    drop(backup);
    let facts = until(interrupted, &copy, || facts_of_copy(&copy))?;
    copy.close().map_err(|(_, e)| e)?;
    Ok(facts)
}

// Device, inode, size, times.
fn state(path: &Path) -> io::Result<(u64, u64, u64, i64, i64, i64, i64)> {
    let m = std::fs::symlink_metadata(path)?;
    Ok((m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()))
}

// Has SQLite give up what it does, however long that would take, soon after somebody wants an end. It gives up nothing that
// is begun later: so it is told again and again.
pub(super) fn until<T>(
    interrupted: Interrupted<'_>,
    db: &Connection,
    work: impl FnOnce() -> Result<T, SqliteError>,
) -> Result<T, SqliteError> {
    let handle = db.get_interrupt_handle();
    let (done, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while ended.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout) {
                if interrupted() {
                    handle.interrupt();
                }
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// True if nothing lies beside the database that belongs to it: no log, no journal.
pub fn is_alone(path: &Path) -> bool {
    SIDE_FILES.iter().all(|suffix| !beside(path, suffix))
}

/// Removes the newer half of the rows of every table, as if the database were an old one. Triggers of the schema do not
/// run. Returns how many rows went. For copies that are thrown away.
///
/// # Errors
/// If it cannot be opened or written.
pub fn age(path: &Path) -> Result<u64, SqliteError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let db = Connection::open_with_flags(path, flags)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false)?;
    let mut gone = 0;
    for table in facts(&db)?.tables.keys() {
        let name = format!("\"{}\"", table.replace('"', "\"\""));
        let query = format!(
            "DELETE FROM {name} WHERE rowid IN \
             (SELECT rowid FROM {name} ORDER BY rowid DESC LIMIT (SELECT count(*) / 2 FROM {name}))"
        );
        // a table WITHOUT ROWID has no order of age, and stays
        gone += db.execute(&query, []).unwrap_or_default() as u64;
    }
    db.close().map_err(|(_, e)| e)?;
    Ok(gone)
}

/// How a database is opened, so that nothing beside it is made or removed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// As its users do, with their locks.
    Shared,
    /// Without locks: it expects a write-ahead log and has none, so nobody has it open. Opening it with locks would
    /// make one. Whoever reads this way must look afterwards whether somebody came.
    Alone,
}

pub(super) fn way(path: &Path) -> Result<Way, SqliteError> {
    let mut header = [0; 20];
    let file = open_file(path)?;
    let read = file.read_exact_at(&mut header, 0);
    locks::close(file);
    read?;
    // bytes 18 and 19: the versions needed to write and to read; 2 is a write-ahead log (section 1.3.3)
    let log = header[18] == 2 || header[19] == 2;
    if !log {
        return Ok(Way::Shared);
    }
    if !beside(path, b"-wal") {
        return Ok(Way::Alone);
    }
    // SQLite would make the index of the log with this user as its owner, and the database's own could not write to it
    let is_owner = |about: std::fs::Metadata| {
        let user = rustix::process::geteuid();
        user.is_root() || about.uid() == user.as_raw()
    };
    if !beside(path, b"-shm") && !is_owner(std::fs::symlink_metadata(path)?) {
        let why = "a log lies beside it without its index (-shm), which only the owner or root may make";
        return Err(SqliteError::Busy(why.to_owned()));
    }
    Ok(Way::Shared)
}

// Never through a link, as SQLite itself is told.
fn open_file(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

fn beside(path: &Path, suffix: &[u8]) -> bool {
    size_beside(path, suffix).is_some()
}

fn size_beside(path: &Path, suffix: &[u8]) -> Option<u64> {
    let name = [path.as_os_str().as_bytes(), suffix].concat();
    std::fs::symlink_metadata(OsStr::from_bytes(&name)).ok().map(|found| found.len())
}

// SQLite's own way of waiting sleeps for up to a tenth of a second, and sleeps through the gaps that a busy writer leaves.
fn wait_for_a_gap(times: i32) -> bool {
    std::thread::sleep(GAP);
    GAP.saturating_mul(u32::try_from(times).unwrap_or(u32::MAX)) < BUSY
}

pub(super) fn open(path: &Path) -> Result<Connection, SqliteError> {
    open_in_way(path, way(path)?)
}

pub(super) fn open_in_way(path: &Path, way: Way) -> Result<Connection, SqliteError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_URI;
    let mut db = Connection::open_with_flags(uri(path, way), flags)?;
    db.busy_handler(Some(wait_for_a_gap))?;
    // what is in the schema is not run: it may come from anybody
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    Ok(db)
}

// <https://www.sqlite.org/uri.html>; any byte may be written as % and two digits
fn uri(path: &Path, way: Way) -> String {
    let mut out = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02x}")),
        }
    }
    if way == Way::Alone {
        out.push_str("?immutable=1");
    }
    out
}
