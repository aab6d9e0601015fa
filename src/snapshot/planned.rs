//! Databases that a plan names: what a snapshot does not hold as a database must not look saved.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::assemble::Totals;
use super::{Options, SnapshotError};
use crate::base::Name;
use crate::base::event::{Event, Notice, Observer};
use crate::database::sqlite;
use crate::format::snapshot::UNSAVED;
use crate::tree::exclude::{ExcludeError, Excludes};

/// Why a database is not saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsaved {
    /// There is no such file.
    Missing,
    /// It cannot be looked at.
    Unreadable(io::ErrorKind),
    /// The file is none that SQLite made.
    NoDatabase,
    /// It lies in none of the trees that are saved.
    Outside,
    /// It lies in one, and is left out of it.
    LeftOut,
    /// It was read like any other file.
    Plain,
}

impl Unsaved {
    /// What to do about it.
    pub fn next(self) -> &'static str {
        match self {
            Self::Missing | Self::Unreadable(_) | Self::NoDatabase => {
                "correct its path, or leave it out of the plan"
            }
            Self::Outside => {
                "let app.root hold it, or leave it out of the plan and save it by a snapshot of its own"
            }
            Self::LeftOut => "take it out of what is excluded, or out of the plan",
            Self::Plain => "lifeboat show names what was wrong with it; the next snapshot tries again",
        }
    }
}

impl fmt::Display for Unsaved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no such file"),
            Self::Unreadable(why) => write!(f, "it cannot be read: {why}"),
            Self::NoDatabase => f.write_str("the file is no SQLite database"),
            Self::Outside => f.write_str("it lies outside of what is saved"),
            Self::LeftOut => f.write_str("it is excluded"),
            Self::Plain => f.write_str("it was read like any other file, not copied as a database"),
        }
    }
}

/// Why a snapshot with these options cannot hold this database, as far as that can be seen before it is taken.
///
/// # Errors
/// If an exclude rule makes no sense.
pub fn unsaved(path: &Path, options: &Options) -> Result<Option<Unsaved>, ExcludeError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Unsaved::Missing,
        other => Unsaved::Unreadable(other),
    };
    // a link is saved as a link: what counts is where it leads
    let real = match path.canonicalize() {
        Ok(real) => real,
        Err(error) => return Ok(Some(failed(error))),
    };
    let mut found = Unsaved::Outside;
    for root in &options.roots {
        let Ok(real_root) = root.canonicalize() else { continue };
        let Ok(below) = real.strip_prefix(&real_root) else { continue };
        if !is_left_out(&real_root, below, &Excludes::build(root, &options.excludes)?, options) {
            return Ok(match is_database(&real) {
                Ok(true) => None,
                Ok(false) => Some(Unsaved::NoDatabase),
                Err(error) => Some(failed(error)),
            });
        }
        found = Unsaved::LeftOut;
    }
    Ok(Some(found))
}

/// A root that is the log or journal of a database which the snapshot holds too.
pub struct BesideDatabase<'o> {
    /// The root.
    pub root: &'o Path,
    /// The database.
    pub owner: &'o Path,
}

impl BesideDatabase<'_> {
    /// Says why it is not in the snapshot.
    pub fn tell(&self, observer: &dyn Observer) {
        let name = Name::from(self.root.as_os_str());
        let text =
            format!("{name}: it is not saved by itself, for what is in it is in the copy of its database");
        observer.event(Event::Notice(&Notice { code: "beside-database", subject: Some(name), text }));
    }
}

/// The roots, and apart from them those that are the log or journal of a database among the rest: what is in them is in its copy, and
/// whoever put them beside it would break it. Where the database cannot be copied, they are saved as they lie.
///
/// # Errors
/// If an exclude rule makes no sense.
pub fn without_side_files(options: &Options) -> Result<(Vec<&Path>, Vec<BesideDatabase<'_>>), SnapshotError> {
    let (mut roots, mut beside) = (Vec::new(), Vec::new());
    for root in &options.roots {
        let owner =
            sqlite::owner_of(root.as_os_str().as_bytes()).map(|path| Path::new(OsStr::from_bytes(path)));
        match owner.filter(|_| options.roots.len() > 1 && !options.plain_databases && root.is_file()) {
            Some(owner) if unsaved(owner, options)?.is_none() => beside.push(BesideDatabase { root, owner }),
            _ => roots.push(&**root),
        }
    }
    Ok((roots, beside))
}

fn is_left_out(root: &Path, below: &Path, excludes: &Excludes, options: &Options) -> bool {
    let device = |path: &Path| path.symlink_metadata().map(|about| about.dev()).ok();
    let is_far = |path: &Path| options.one_file_system && device(path) != device(root);
    let is_marked = |path: &Path| File::open(path).is_ok_and(|dir| excludes.left_out(dir.as_fd()).is_some());
    let relative = |path: &Path| Name::from(path.as_os_str()).0;
    let above = below.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty());
    excludes.matches(&relative(below), false)
        || is_far(&root.join(below))
        || above.clone().any(|path| excludes.matches(&relative(path), true) || is_marked(&root.join(path)))
}

// Asked while no database is copied: closing any descriptor of a file drops SQLite's locks on it.
fn is_database(path: &Path) -> io::Result<bool> {
    let about = path.metadata()?;
    Ok(about.is_file() && sqlite::is_database(File::open(path)?, about.len())?)
}

/// Counts and tells each database of the options that was to be saved and is not.
///
/// # Errors
/// If an exclude rule makes no sense.
pub fn tell_unsaved(
    options: &Options,
    totals: &mut Totals,
    observer: &dyn Observer,
) -> Result<Vec<Name>, SnapshotError> {
    let mut found = Vec::new();
    for path in &options.databases {
        let name = Name::from(path.as_os_str());
        if totals.holds(&name) {
            continue;
        }
        // as it lies, with its log, is what was asked for
        let why = unsaved(path, options)?.or((!options.plain_databases).then_some(Unsaved::Plain));
        if let Some(why) = why {
            totals.statistics.skipped += 1;
            totals.problem(observer, name.clone(), UNSAVED, &text(why));
            found.push(name);
        }
    }
    Ok(found)
}

/// The same before a snapshot is taken: told, not noted.
///
/// # Errors
/// If an exclude rule makes no sense.
pub fn foretell_unsaved(options: &Options, observer: &dyn Observer) -> Result<Vec<Name>, SnapshotError> {
    let mut found = Vec::new();
    for path in &options.databases {
        let Some(why) = unsaved(path, options)? else { continue };
        let name = Name::from(path.as_os_str());
        let text = format!("{name}: {}", text(why));
        observer.event(Event::Notice(&Notice { code: UNSAVED, subject: Some(name.clone()), text }));
        found.push(name);
    }
    Ok(found)
}

fn text(why: Unsaved) -> String {
    format!("a database of the plan is not saved: {why}; {}", why.next())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;
    use crate::tree::exclude;

    fn options(root: PathBuf, patterns: &[&str]) -> Options {
        let patterns = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let excludes =
            exclude::Options { patterns, markers: vec![".nobackup".into()], ..exclude::Options::default() };
        Options { roots: vec![root], excludes, ..Options::default() }
    }

    #[test]
    fn what_no_snapshot_will_hold_is_known_before() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let make = |path: &str| {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let db = rusqlite::Connection::open(&path).unwrap();
            db.execute_batch("CREATE TABLE t (x)").unwrap();
        };
        ["app/a.db", "app/cache/b.db", "app/marked/c.db", "d.db"].into_iter().for_each(make);
        fs::write(dir.join("app/marked/.nobackup"), "").unwrap();
        fs::write(dir.join("app/text.db"), "no database").unwrap();
        fs::write(dir.join("app/empty.db"), "").unwrap();
        fs::create_dir(dir.join("app/dir.db")).unwrap();
        symlink("a.db", dir.join("app/link.db")).unwrap();
        symlink("../d.db", dir.join("app/far.db")).unwrap();
        symlink("app", dir.join("way")).unwrap();
        let of = |path: &str| unsaved(&dir.join(path), &options(dir.join("app"), &["cache/"])).unwrap();
        assert_eq!(of("app/a.db"), None);
        assert_eq!(of("app/link.db"), None);
        assert_eq!(of("way/a.db"), None);
        assert_eq!(of("app/none.db"), Some(Unsaved::Missing));
        assert_eq!(of("app/a.db/none.db"), Some(Unsaved::Missing));
        assert_eq!(of("app/cache/b.db"), Some(Unsaved::LeftOut));
        assert_eq!(of("app/marked/c.db"), Some(Unsaved::LeftOut));
        assert_eq!(of("d.db"), Some(Unsaved::Outside));
        assert_eq!(of("app/far.db"), Some(Unsaved::Outside));
        for path in ["app/text.db", "app/empty.db", "app/dir.db"] {
            assert_eq!(of(path), Some(Unsaved::NoDatabase), "{path}");
        }
        let one = unsaved(&dir.join("d.db"), &options(dir.join("d.db"), &["*.db"])).unwrap();
        assert_eq!(one, None, "what is named itself is never left out");
    }
}
