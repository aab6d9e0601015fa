//! What the snapshot says each database held must hold in the copy.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::recorder::{Recorder, Result};
use crate::base::event::Observer;
use crate::base::name::Name;
use crate::database::sqlite::{self, SqliteError};
use crate::database::{Facts, examine};
use crate::evidence::Outcome;
use crate::format::snapshot::Database;

/// The databases of a copy, on their way to a verdict.
pub struct Databases<'d> {
    // in the order of the snapshot's document
    all: Vec<One<'d>>,
    // numbers of those that may be looked at beside the comparison, the largest first: it takes longest
    order: Vec<usize>,
    next: AtomicUsize,
}

struct One<'d> {
    recorded: &'d Database,
    below: PathBuf,
    copy: PathBuf,
    found: Mutex<Option<Found>>,
}

struct Found {
    result: Result,
    rows: u64,
    took: Duration,
}

impl<'d> Databases<'d> {
    /// Those of a snapshot that lie below `root`, whose copy is at `copy`.
    pub fn new(recorded: &'d [Database], root: &Path, copy: &Path) -> Self {
        let one = |recorded: &'d Database| {
            let path = PathBuf::from(recorded.path.as_os_str().to_owned());
            let below = path.strip_prefix(root).ok()?.to_owned();
            let copy = copy.join(&below);
            Some(One { recorded, below, copy, found: Mutex::new(None) })
        };
        let all: Vec<One<'d>> = recorded.iter().filter_map(one).collect();
        let size =
            |number: &usize| std::fs::symlink_metadata(&all[*number].copy).map_or(0, |about| about.len());
        // Reading one with a log or a journal beside it may change what lies there, and the comparison would see that. None
        // should have any: a snapshot has databases without.
        let alone = (0..all.len()).filter(|&number| sqlite::is_alone(&all[number].copy));
        let mut order: Vec<usize> = alone.collect();
        order.sort_by_key(|number| std::cmp::Reverse(size(number)));
        Self { all, order, next: AtomicUsize::new(0) }
    }

    /// Looks at one after the other until all are taken, or somebody wants an end; for several threads. Changes nothing in
    /// the copy.
    pub fn look(&self, observer: &dyn Observer) {
        while !observer.interrupted()
            && let Some(&number) = self.order.get(self.next.fetch_add(1, Ordering::Relaxed))
        {
            self.all[number].look(observer);
        }
    }

    /// Notes what was found, and what is found now of those that were not looked at; true if all are as they were.
    pub fn note(self, recorder: &mut Recorder, observer: &dyn Observer) -> bool {
        let mut all = true;
        for one in self.all {
            let is_known = one.found.lock().unwrap_or_else(PoisonError::into_inner).is_some();
            if !is_known && !observer.interrupted() {
                one.look(observer);
            }
            let found = one.found.into_inner().unwrap_or_else(PoisonError::into_inner);
            let Some(Found { result, rows, took }) = found else { return false };
            let shown = Name::from(one.below.as_os_str()).shown();
            // an empty database is whole as well, and proves no data
            all &= recorder.own_check(format!("database {shown} is whole"), "sqlite", rows > 0, took, result);
        }
        all
    }
}

/// Databases that the plan names.
pub struct Planned<'p> {
    /// Their files, absolute.
    pub paths: &'p [PathBuf],
    /// The tree.
    pub root: &'p Path,
    /// Where its copy is.
    pub copy: &'p Path,
}

impl Planned<'_> {
    /// Notes those that the snapshot does not describe: what is in the copy must be sound, what is not fails the drill. False if
    /// one is not there.
    pub fn note(&self, recorded: &[Database], recorder: &mut Recorder, observer: &dyn Observer) -> bool {
        let mut all = true;
        for path in self.paths {
            if observer.interrupted() {
                return false;
            }
            let began = Instant::now();
            let Some(result) = self.look(path, recorded, observer) else { continue };
            let name = Name::from(path.strip_prefix(self.root).unwrap_or(path).as_os_str()).shown();
            let id = format!("database {name} of the plan is there");
            all &= recorder.own_check(id, "sqlite", false, began.elapsed(), result);
        }
        all
    }

    // Nothing if it is described, or somebody wants an end meanwhile.
    fn look(&self, path: &Path, recorded: &[Database], observer: &dyn Observer) -> Option<Result> {
        let bad = |why: &str| Some(Result::of(Outcome::Fail, why));
        let Some(below) = leads_to(path, self.root, self.copy) else {
            return bad("the snapshot does not hold it: it lies outside of the tree");
        };
        let copy = self.copy.join(&below);
        let about = match copy.symlink_metadata() {
            Ok(about) => about,
            Err(error) => return bad(&format!("the snapshot does not hold it: {error}")),
        };
        let file = |about: &std::fs::Metadata| (about.dev(), about.ino());
        let is_it = |one: &Database| {
            let one = PathBuf::from(one.path.as_os_str().to_owned());
            let one = one.strip_prefix(self.root).ok().map(|below| self.copy.join(below).symlink_metadata());
            one.is_some_and(|one| one.is_ok_and(|one| file(&one) == file(&about)))
        };
        if recorded.iter().any(is_it) {
            return None;
        }
        let is_one = || File::open(&copy).and_then(|file| sqlite::is_database(file, about.len()));
        if !about.is_file() || !is_one().unwrap_or(false) {
            return bad("what the snapshot holds there is no SQLite database");
        }
        match examine(&copy, &|| observer.interrupted()) {
            Err(SqliteError::Interrupted) => None,
            Err(error) => bad(&format!("it cannot be read: {error}")),
            Ok(found) => match found.unsound.first() {
                Some(first) => bad(&format!("{first} ({} findings)", found.unsound.len())),
                None => Some(Result {
                    reason: format!("it is sound; the snapshot does not say what it held{}", found.but()),
                    ..Result::pass()
                }),
            },
        }
    }
}

// Where a path of the tree leads, below its root, by the links of the copy: those of the host could lead to production. Nothing if
// it leads out of the tree.
fn leads_to(path: &Path, root: &Path, copy: &Path) -> Option<PathBuf> {
    const LINKS: usize = 40;
    let parts = |path: &Path| -> Vec<OsString> {
        let named = path.components().filter(|part| !matches!(part, Component::RootDir | Component::CurDir));
        named.map(|part| part.as_os_str().to_owned()).collect()
    };
    let real = root.canonicalize().ok();
    let below = |path: &Path| {
        let by_real = || path.strip_prefix(real.as_ref()?).ok();
        path.strip_prefix(root).ok().or_else(by_real).map(Path::to_owned)
    };
    // a link on the way to the tree is the host's
    let by_parent = || below(&path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    let mut rest = VecDeque::from(parts(&below(path).or_else(by_parent)?));
    let (mut at, mut links) = (PathBuf::new(), 0);
    while let Some(part) = rest.pop_front() {
        if part == ".." {
            if !at.pop() {
                return None;
            }
            continue;
        }
        let next = at.join(&part);
        let Ok(to) = copy.join(&next).read_link() else {
            at = next;
            continue;
        };
        links += 1;
        if links > LINKS {
            return None;
        }
        let to = if to.is_absolute() {
            at = PathBuf::new();
            below(&to)?
        } else {
            to
        };
        parts(&to).into_iter().rev().for_each(|part| rest.push_front(part));
    }
    Some(at)
}

impl One<'_> {
    // Nothing is found if somebody wants an end meanwhile.
    fn look(&self, observer: &dyn Observer) {
        let began = Instant::now();
        let Some((result, rows)) = check(self.recorded, &self.copy, observer) else { return };
        let found = Found { result, rows, took: began.elapsed() };
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
    }
}

// The verdict, and how many rows there are; none if somebody wants an end.
fn check(database: &Database, copy: &Path, observer: &dyn Observer) -> Option<(Result, u64)> {
    let bad = |why: String| Some((Result::of(Outcome::Fail, why), 0));
    let examined = match examine(copy, &|| observer.interrupted()) {
        Ok(found) => found,
        Err(SqliteError::Interrupted) => return None,
        Err(error) => return bad(format!("it cannot be read: {error}")),
    };
    if let Some(first) = examined.unsound.first() {
        return bad(format!("{first} ({} findings)", examined.unsound.len()));
    }
    let found = &examined.facts;
    let recorded = Facts {
        schema: database.schema.clone(),
        user_version: database.user_version,
        tables: database.tables.clone(),
        uncounted: database.uncounted,
    };
    let differences = recorded.differences(found);
    if differences.is_empty() {
        let rows: u64 = found.tables.values().fold(0, |sum, rows| sum.saturating_add(*rows));
        let text = format!(
            "integrity_check and foreign_key_check found nothing; schema and {rows} rows in {} tables are as recorded{}",
            found.tables.len(),
            examined.but()
        );
        return Some((Result { reason: text, ..Result::pass() }, rows));
    }
    bad(format!("it is not as it was when it was saved: {}", differences.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::event::Quiet;
    use crate::base::time::Clock;

    fn recorded(path: &Path) -> Database {
        let Facts { schema, user_version, tables, uncounted } = crate::database::look(path).unwrap();
        let (path, kind, at) = (Name::from(path.as_os_str()), "sqlite".to_owned(), Clock::System.now());
        Database { path, kind, at, schema, user_version, tables, uncounted }
    }

    fn names(dir: &Path) -> Vec<std::ffi::OsString> {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn each_database_has_its_verdict_and_none_is_changed_by_it() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, rows: usize, mode: &str| {
            let db = rusqlite::Connection::open(dir.path().join(name)).unwrap();
            let fill = "INSERT INTO t (y) VALUES ('x');".repeat(rows);
            db.execute_batch(&format!(
                "PRAGMA journal_mode={mode}; CREATE TABLE t (x INTEGER PRIMARY KEY, y);"
            ))
            .unwrap();
            db.execute_batch(&fill).unwrap();
            db
        };
        for (name, rows, mode) in
            [("empty", 0, "delete"), ("large", 3000, "wal"), ("less", 7, "wal"), ("torn", 2000, "delete")]
        {
            make(name, rows, mode).close().unwrap();
        }
        // one that somebody has open, which no copy should be
        let open = make("open", 5, "wal");
        let all = ["empty", "large", "less", "open", "torn"].map(|name| recorded(&dir.path().join(name)));
        let less = rusqlite::Connection::open(dir.path().join("less")).unwrap();
        less.execute_batch("DELETE FROM t WHERE x = 3").unwrap();
        less.close().unwrap();
        let torn = dir.path().join("torn");
        let mut bytes = std::fs::read(&torn).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 2000].fill(0xff);
        std::fs::write(&torn, bytes).unwrap();

        let before = names(dir.path());
        let databases = Databases::new(&all, dir.path(), dir.path());
        let order: Vec<_> =
            databases.order.iter().map(|number| databases.all[*number].below.clone()).collect();
        assert_eq!(order.len(), 4, "the open one waits");
        assert_eq!(order[0], Path::new("large"));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| databases.look(&Quiet));
            }
        });
        assert_eq!(names(dir.path()), before);
        let mut recorder = Recorder::new(Vec::new());
        assert!(!databases.note(&mut recorder, &Quiet));
        let found: Vec<_> =
            recorder.checks.iter().map(|check| (check.result == Outcome::Pass, check.data_proving)).collect();
        assert_eq!(found, [(true, false), (true, true), (false, false), (true, true), (false, false)]);
        assert!(recorder.checks[2].reason.contains("6 rows, not 7"), "{}", recorder.checks[2].reason);
        drop(open);
    }

    #[test]
    fn a_database_of_the_plan_is_in_the_copy_or_fails() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let (root, copy) = (dir.join("app"), dir.join("copy"));
        std::fs::create_dir_all(copy.join("data")).unwrap();
        std::fs::create_dir(&root).unwrap();
        let make = |path: PathBuf| {
            let db = rusqlite::Connection::open(path).unwrap();
            db.execute_batch("CREATE TABLE t (x)").unwrap();
        };
        [copy.join("data/a"), copy.join("b"), root.join("gone")].into_iter().for_each(make);
        std::fs::write(copy.join("text"), "no database").unwrap();
        std::fs::hard_link(copy.join("data/a"), copy.join("second")).unwrap();
        for (to, from) in [
            ("data/a", "near"),
            ("../second", "data/up"),
            ("../app/gone", "out"),
            ("loop", "loop"),
            (root.join("data").to_str().unwrap(), "whole"),
            (root.join("gone").to_str().unwrap(), "live"),
        ] {
            std::os::unix::fs::symlink(to, copy.join(from)).unwrap();
        }
        let recorded = [Database {
            path: Name::from(root.join("data/a").as_os_str()),
            ..recorded(&copy.join("data/a"))
        }];
        let named = |path: &str| {
            let paths = [root.join(path)];
            let mut recorder = Recorder::new(Vec::new());
            let planned = Planned { paths: &paths, root: &root, copy: &copy };
            let all = planned.note(&recorded, &mut recorder, &Quiet);
            assert_eq!(all, recorder.checks.iter().all(|check| check.result == Outcome::Pass));
            recorder.checks.pop().map(|check| (check.result == Outcome::Pass, check.id, check.reason))
        };
        for path in ["data/a", "near", "data/up", "second", "whole/a"] {
            assert_eq!(named(path), None, "{path} is looked at already");
        }
        assert!(named("b").unwrap().0, "one that is not described must be sound");
        for (path, why) in [
            ("none", "the snapshot does not hold it: No such file"),
            ("live", "the snapshot does not hold it: No such file"),
            ("out", "outside of the tree"),
            ("loop", "outside of the tree"),
            ("../far", "outside of the tree"),
            ("text", "no SQLite database"),
            ("data", "no SQLite database"),
        ] {
            let (passed, id, reason) = named(path).unwrap();
            assert!(!passed && reason.contains(why), "{path}: {reason}");
            assert!(id.contains(path.trim_start_matches("../")), "{id}");
        }
    }

    // An end that is wanted while SQLite is at it, after the look at whether there is one to check.
    struct AfterAWhile(AtomicUsize);

    impl Observer for AfterAWhile {
        fn event(&self, _: crate::base::event::Event<'_>) {}
        fn interrupted(&self) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed) > 0
        }
    }

    #[test]
    fn a_check_that_takes_long_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large");
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute_batch(
            "CREATE TABLE t (x INTEGER PRIMARY KEY, y); CREATE INDEX i ON t (y);
             WITH RECURSIVE n (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n LIMIT 400000)
             INSERT INTO t SELECT x, (x * 7919) % 400009 FROM n",
        )
        .unwrap();
        db.close().unwrap();
        let all = [recorded(&path)];
        let databases = Databases::new(&all, dir.path(), dir.path());
        let observer = AfterAWhile(AtomicUsize::new(0));
        databases.look(&observer);
        assert!(databases.all[0].found.lock().unwrap().is_none());
        let mut recorder = Recorder::new(Vec::new());
        assert!(!databases.note(&mut recorder, &observer));
        assert!(recorder.checks.is_empty());
    }
}
