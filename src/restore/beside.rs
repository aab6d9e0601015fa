//! What SQLite keeps beside a database: log, journal, shared index. With another database in that place they are worse than
//! nothing, as SQLite merges them in. So they go with the database that they belong to, at the moment when another comes in its
//! place, and not if none comes.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{AtFlags, OFlags};

use super::attributes::Powers;
use super::directory::{Directory, stat_in};
use super::report::Collector;
use super::seal;
use super::tree::{Run, split};
use super::worker::temporary_name;
use crate::base::name::shown;
use crate::database::locks::Guest;
use crate::database::sqlite::{MAGIC, PAGE, SIDE_FILES, log_written, owner_of};
use crate::format::manifest::{Entry, Time, Type};
use crate::repo::reader::ChunkReader;
use crate::tree::live::open_in;
use crate::tree::walk::{Visit, join};

/// How a log, a journal and a shared index begin (<https://www.sqlite.org/fileformat.html>, 3 and 4.1; the last in the byte
/// order of the machine).
pub const BEGINNINGS: [&[u8]; 5] = [
    &[0x37, 0x7f, 0x06, 0x82],
    &[0x37, 0x7f, 0x06, 0x83],
    &[0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7],
    &[0x18, 0xe2, 0x2d, 0x00],
    &[0x00, 0x2d, 0xe2, 0x18],
];

/// A device and inode number.
pub type Inode = (u64, u64);

/// What becomes of a file in whose place the snapshot has one.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    /// It is as the snapshot has it; whether it is known there to be a database.
    Same { database: bool },
    /// It is written, where `before` was if anything. `clears`: what SQLite had beside that goes.
    Put { clears: bool, before: Option<Inode> },
    /// It stays, because of the overwrite mode.
    Kept,
    /// It is not selected.
    Left,
}

/// The files that a merge came past by whose names others may begin: all that lies between a database and its log in the
/// order of paths begins by the name of the database.
#[derive(Default)]
pub struct Owners(Vec<(Vec<u8>, Fate)>);

impl Owners {
    /// Notes what becomes of a file.
    pub fn add(&mut self, path: &[u8], fate: Fate) {
        while self.0.last().is_some_and(|(last, _)| last == path || !path.starts_with(last)) {
            self.0.pop();
        }
        self.0.push((path.to_vec(), fate));
    }

    /// What becomes of it, if the snapshot has it.
    pub fn fate(&self, path: &[u8]) -> Option<Fate> {
        self.0.iter().rev().find(|(known, _)| known == path).map(|(_, fate)| *fate)
    }
}

/// What lies beside a name that SQLite could have put there: regular files. The log is first.
fn side_files(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    for suffix in SIDE_FILES {
        let beside = [name, suffix].concat();
        let there = match stat_in(dir, &beside) {
            Err(e) if e.kind() == io::ErrorKind::InvalidFilename => continue, // nothing can have a name that long
            there => there?,
        };
        if there.is_some_and(|live| live.stat.kind == Type::File) {
            found.push(beside);
        }
    }
    Ok(found)
}

/// Puts something in the place of a database. What lay beside that goes, but not if the exchange fails: till then it has
/// another name.
///
/// # Errors
/// As the exchange, and if what lies beside it cannot be moved: then nothing is exchanged.
pub fn exchange<E: From<io::Error>>(
    dir: &Directory<'_>,
    name: &[u8],
    powers: &Powers,
    collector: &Collector<'_>,
    put: impl FnOnce() -> Result<(), E>,
) -> Result<(), E> {
    let within = dir.fd()?;
    let mut moved = Vec::new();
    let result = match set_aside(dir, name, powers, &mut moved) {
        Ok(()) => put(),
        Err(e) => Err(e.into()),
    };
    for (beside, aside) in moved {
        let (code, done) = match &result {
            Ok(()) => ("not-removed", rustix::fs::unlinkat(within, &aside[..], AtFlags::empty())),
            Err(_) => ("not-put-back", rustix::fs::renameat(within, &aside[..], within, &beside[..])),
        };
        match done {
            Ok(()) => collector.report().deleted += u64::from(result.is_ok()),
            Err(e) => {
                let why = format!("it is {} now: {e}", shown(&aside));
                collector.problem(&path_in(dir, &beside), code, why);
            }
        }
    }
    result
}

// The log goes first: what cannot be moved is found out before anything is.
fn set_aside(
    dir: &Directory<'_>,
    name: &[u8],
    powers: &Powers,
    moved: &mut Vec<(Vec<u8>, Vec<u8>)>,
) -> io::Result<()> {
    let within = dir.fd()?;
    for beside in side_files(within, name)? {
        dir.open_up()?;
        let aside = temporary_name()?;
        let rename = || rustix::fs::renameat(within, &beside[..], within, &aside[..]);
        match seal::insist(within, &beside, powers, rename) {
            // its database was closed meanwhile
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => {
                let why = format!("{}, which must not lie beside it, cannot be removed: {e}", shown(&beside));
                return Err(io::Error::other(why));
            }
            Ok(()) => moved.push((beside, aside)),
        }
    }
    Ok(())
}

fn path_in(dir: &Directory<'_>, name: &[u8]) -> Vec<u8> {
    if dir.path.is_empty() { name.to_vec() } else { join(&dir.path, name) }
}

/// True if a living file begins like one of these.
pub fn begins(dir: BorrowedFd<'_>, name: &[u8], beginnings: &[&[u8]]) -> bool {
    let read = || -> io::Result<bool> {
        // some things do not bear being opened
        if stat_in(dir, name)?.is_none_or(|live| live.stat.kind != Type::File) {
            return Ok(false);
        }
        let file = Guest::new(open_in(dir, name, OFlags::RDONLY)?);
        let mut have = [0; MAGIC.len()];
        let read = file.get().map_or(Ok(0), |fd| rustix::io::pread(fd, &mut have, 0))?;
        Ok(beginnings.iter().any(|beginning| have[..read].starts_with(beginning)))
    };
    read().unwrap_or(false)
}

/// True if the log or journal of a living database was written to after this.
pub fn is_newer((dir, name): (BorrowedFd<'_>, &[u8]), time: Time) -> bool {
    let is_one = |suffix: &&[u8]| is_database(dir, name, &[name, suffix].concat());
    log_written(dir, name).is_some_and(|(seconds, nanos)| Time(seconds, nanos) > time)
        && SIDE_FILES.iter().any(is_one)
}

// True for a living database, as far as it or what lies beside it tells: one that is encrypted does not.
fn is_database(dir: BorrowedFd<'_>, name: &[u8], beside: &[u8]) -> bool {
    let is_there = || matches!(stat_in(dir, name), Ok(Some(live)) if live.stat.kind == Type::File);
    begins(dir, name, &[MAGIC]) || begins(dir, beside, &BEGINNINGS) && is_there()
}

impl<'o> Run<'o, '_> {
    /// True if what SQLite has beside a name must go when this entry comes there. Nothing but a database costs a look, and
    /// nothing is read where nothing lies beside it.
    pub(super) fn clears_beside(&self, dir: &Directory<'o>, name: &[u8], entry: &Entry) -> bool {
        // where nothing was, what lies beside it is the snapshot's
        if entry.stat.kind != Type::File || dir.fresh || !self.merges {
            return false;
        }
        if entry.database {
            return true;
        }
        let size = entry.stat.size;
        // a torn one may end anywhere
        if size < PAGE || !size.is_multiple_of(PAGE) && !entry.torn {
            return false;
        }
        let Ok(within) = dir.fd() else { return false };
        let beside = side_files(within, name).unwrap_or_default();
        !beside.is_empty()
            && (self.entry_begins(entry, &[MAGIC])
                || beside.iter().any(|beside| begins(within, beside, &BEGINNINGS)))
    }

    /// True if the content of a file of the snapshot begins like one of these.
    pub(super) fn entry_begins(&self, entry: &Entry, beginnings: &[&[u8]]) -> bool {
        let Some(first) = entry.chunks.first() else { return false };
        if entry.holes.first().is_some_and(|(offset, _)| *offset == 0) {
            return false;
        }
        let have = ChunkReader::new(self.workers.store, self.index, 1).and_then(|mut reader| {
            reader.with_chunk(*first, |have| beginnings.iter().any(|beginning| have.starts_with(beginning)))
        });
        // what cannot be read is told by whoever restores it
        have.unwrap_or(false)
    }

    /// Counts what goes with a database in a dry run.
    pub(super) fn imagine_clearing(&self, dir: &Directory<'o>, name: &[u8]) {
        let beside = dir.fd().and_then(|within| side_files(within, name)).unwrap_or_default();
        self.shared.collector.report().deleted += beside.len() as u64;
    }

    /// Removes what lies beside a database that is by itself as the snapshot has it. `alone`: the snapshot has nothing beside it.
    pub(super) fn clear_beside(&self, dir: &Directory<'o>, name: &[u8], entry: &Entry, alone: bool) {
        let is_one = |within| {
            let beside = side_files(within, name).unwrap_or_default();
            alone && beside.iter().any(|beside| is_database(within, name, beside))
        };
        if entry.stat.kind != Type::File || !(entry.database || dir.fd().is_ok_and(is_one)) {
            return;
        }
        if self.options.dry_run {
            return self.imagine_clearing(dir, name);
        }
        let nothing = || Ok::<(), io::Error>(());
        if let Err(e) = exchange(dir, name, &self.shared.powers, self.shared.collector, nothing) {
            self.shared.collector.problem(&entry.path, "not-removed", e);
        }
    }

    // All that is noted behind it and not in it begins by its name.
    fn is_doomed(&self, path: &[u8]) -> bool {
        let mut last = self.doomed.iter().rev().map(|doomed| &doomed.path);
        last.find(|last| !last.starts_with(path) || *last == path).is_some_and(|last| last == path)
    }

    /// What is done with something that the snapshot does not have, and that lies beside a database by its name.
    pub(super) fn meet_beside(&self, owners: &Owners, newer: bool, visit: &Visit<'_>) -> Extra {
        let Some(owner) = owner_of(visit.path).filter(|_| visit.item.live.stat.kind == Type::File) else {
            return Extra::Other;
        };
        let is_one = || is_database(visit.dir.as_fd(), split(owner).1, &visit.item.name);
        match owners.fate(owner) {
            Some(Fate::Put { clears: true, .. }) => Extra::Goes,
            Some(Fate::Same { database: true }) => Extra::Remove,
            // what is in the log is newer than anything that the snapshot has
            Some(Fate::Same { .. }) if is_one() => {
                if newer {
                    Extra::Stays
                } else {
                    Extra::Remove
                }
            }
            Some(Fate::Kept | Fate::Left) if is_one() => Extra::Stays,
            // it was left out, and nothing of what it wrote since is the snapshot's to remove
            None if !self.is_doomed(owner) && is_one() => Extra::Stays,
            _ => Extra::Other,
        }
    }
}

/// What is done with something that lies beside a database, and that the snapshot does not have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// It goes when its database is replaced.
    Goes,
    /// It goes at once: its database is as it should be without it.
    Remove,
    /// It belongs to what stays.
    Stays,
    /// It is as any other.
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_may_come_between_a_database_and_its_log() {
        let mut owners = Owners::default();
        for path in ["a/app.db", "a/app.db-backup", "a/app.db-old/x.db", "a/app.db-old/y/z.db"] {
            owners.add(path.as_bytes(), Fate::Kept);
        }
        assert!(owners.fate(b"a/app.db-old/y/z.db").is_some() && owners.fate(b"a/app.db").is_some());
        assert!(owners.fate(b"a/app.db-backup").is_none(), "its log would have come before");
        owners.add(b"a/app.db-wal", Fate::Left);
        assert!(matches!(owners.fate(b"a/app.db"), Some(Fate::Kept)));
        owners.add(b"a/b", Fate::Same { database: true });
        assert!(owners.fate(b"a/app.db").is_none() && owners.0.len() == 1);
    }
}
