//! One root: the walk, step by step against the parent's manifest.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::assemble::{Assembler, Compared};
use super::changes::Parent;
use super::files::{FileJob, absolute};
use super::links::{Further, Inode};
use super::rules::{Own, Rules, TOO_LONG, too_long};
use super::{Options, SnapshotError, databases};
use crate::base::Name;
use crate::base::event::{Event, Observer};
use crate::database::sqlite;
use crate::format::manifest::{Entry, ROOT, Stat, Type, line_is_database, line_is_merged, write_stat};
use crate::repo::RepoError;
use crate::sys::names::Names;
use crate::tree::live::{LiveStat, add_dir, add_names, add_special};
use crate::tree::walk::{Item, Visit, WalkProblem, walk};

/// Walks one root into an assembler.
pub struct TreeWalk<'t, 'a, 'w, 'p, 'r> {
    /// Where entries go.
    pub assembler: Assembler<'a, 'w>,
    /// What they are compared with.
    pub parent: Parent<'p, 'r>,
    /// Who listens.
    pub observer: &'t dyn Observer,
    /// Read every file.
    pub rehash: bool,
    /// The root's path.
    pub root: Name,
    /// Databases that are as they were, by their absolute paths.
    pub kept_databases: HashSet<Name>,
    plain_databases: bool,
    names: Names,
    expected: Vec<u8>,
    seen: u64,
}

impl<'t, 'a, 'w, 'p, 'r> TreeWalk<'t, 'a, 'w, 'p, 'r> {
    /// A walk of this root.
    pub fn new(
        assembler: Assembler<'a, 'w>,
        parent: Parent<'p, 'r>,
        observer: &'t dyn Observer,
        options: &Options,
        root: Name,
    ) -> Self {
        Self {
            assembler,
            parent,
            observer,
            rehash: options.rehash,
            root,
            kept_databases: HashSet::new(),
            plain_databases: options.plain_databases,
            names: Names::default(),
            expected: Vec::new(),
            seen: 0,
        }
    }

    /// Does it, but for the repository that is written to.
    ///
    /// # Errors
    /// If the root cannot be opened, or the repository cannot be written.
    pub fn run(&mut self, path: &Path, options: &Options, own: Own) -> Result<(), SnapshotError> {
        let bad = |source: io::Error| SnapshotError::Root { path: Name::from(path.as_os_str()), source };
        // the path was named by a person: here, and only here, a link is followed
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let metadata = rustix::fs::stat(path).map_err(|e| bad(e.into()))?;
        let live = LiveStat::new(&metadata);
        if live.stat.kind != Type::Dir {
            return self.single(path, live).map_err(|e| match e {
                SnapshotError::Io { source, .. } => bad(source),
                other => other,
            });
        }
        let root =
            rustix::fs::open(path, flags | OFlags::DIRECTORY, Mode::empty()).map_err(|e| bad(e.into()))?;
        let rules = Rules::new(path, options, live.dev, own)?;
        walk(root, &rules, options.workers, &mut |visit| self.visit(visit))?;
        let met = rules.own_paths().into_iter().map(|met| (self.root.clone(), met));
        self.assembler.totals().own_paths.extend(met);
        Ok(())
    }

    // A root that is a file, device or the like, or a link to one: one entry.
    fn single(&mut self, path: &Path, live: LiveStat) -> Result<(), SnapshotError> {
        // whoever reads it follows no links
        let path = &path.canonicalize()?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        let name = path.file_name().map(|n| Name::from(n).0).unwrap_or_default();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(parent, flags, Mode::empty()).map_err(io::Error::from)?;
        let item = Item { name: name.into(), live };
        let visit =
            Visit { path: ROOT, item: &item, dir: &Arc::new(dir), problems: Vec::new(), opened: None };
        self.visit(visit)
    }

    fn visit(&mut self, visit: Visit<'_>) -> Result<(), SnapshotError> {
        self.seen += 1;
        if self.seen.is_multiple_of(256) {
            self.observer.event(Event::Advanced { entries: 0, bytes: 0 });
            if self.observer.interrupted() {
                return Err(SnapshotError::Interrupted);
            }
        }
        for problem in visit.problems.iter().filter(|problem| !problem.has_vanished()) {
            let path = absolute(&self.root, &problem.path);
            let text = problem.error.to_string();
            let totals = self.assembler.totals();
            totals.statistics.skipped += 1;
            totals.problem(self.observer, path, "directory-unreadable", &text);
        }
        if let Some(why) = too_long(&visit.item.name).filter(|_| visit.path != ROOT) {
            let path = absolute(&self.root, visit.path);
            let totals = self.assembler.totals();
            totals.statistics.skipped += 1;
            totals.problem(self.observer, path, TOO_LONG, &why);
            return Ok(());
        }
        if visit.opened.is_none() && visit.problems.iter().any(WalkProblem::has_vanished) {
            return Ok(());
        }
        let stat = visit.item.live.stat;
        let known = self.parent.seek(visit.path)?;
        // one that was named itself, and is in no copy, is wanted as it lies
        let is_beside = visit.path != ROOT && !self.plain_databases;
        if is_beside && databases::belongs_to_one(visit.dir, visit.item) {
            return self.beside(&visit, known);
        }
        self.expected.clear();
        write_stat(&mut self.expected, visit.path, &stat);
        let done = known && self.keep_unchanged(&visit, &stat)?;
        if !done {
            let compared = if known { Compared::Changed } else { Compared::New };
            self.store(&visit, stat, compared)?;
        }
        if known {
            self.parent.pass()?;
        }
        Ok(())
    }

    // What lies beside a database waits for what becomes of that.
    fn beside(&mut self, visit: &Visit<'_>, known: bool) -> Result<(), SnapshotError> {
        let owner = sqlite::owner_of(visit.path).map(|owner| absolute(&self.root, owner));
        if !owner.is_some_and(|owner| self.kept_databases.contains(&owner)) {
            let compared = if known { Compared::Changed } else { Compared::New };
            self.assembler.add_beside(job(visit), compared)?;
        }
        if known {
            self.parent.pass()?;
        }
        Ok(())
    }

    fn keep_unchanged(&mut self, visit: &Visit<'_>, stat: &Stat) -> Result<bool, RepoError> {
        if (self.rehash && stat.kind == Type::File) || !self.parent.says(&self.expected, stat) {
            return Ok(false);
        }
        let (line, chunk) = self.parent.line();
        let several = Inode::of_several(&visit.item.live);
        let further = several.filter(|&inode| self.assembler.links.knows(inode));
        if several.is_some() {
            let Some(entry) = self.parent.entry() else { return Ok(false) };
            let first = further.and_then(|inode| self.assembler.links.kept_path(inode));
            // a first name that is read again may turn out to be of another inode
            if entry.hardlink.as_deref() != first.as_deref() || further.is_some() != first.is_some() {
                return Ok(false);
            }
        }
        let database = databases::may_be(&visit.item.live) && line_is_database(line);
        // its own file does not tell whether one with a log changed, now or then
        let has_log = || line_is_merged(line) || sqlite::log_written(visit.dir, &visit.item.name).is_some();
        if database && (self.plain_databases || has_log()) {
            return Ok(false);
        }
        // what was read as it lay lacks the log that is left out now: it is copied as a database
        let may_be = !database && !self.plain_databases && databases::may_be(&visit.item.live);
        if may_be && databases::is_one(visit.dir, &visit.item.name) {
            return Ok(false);
        }
        if stat.kind == Type::File && stat.size > 0 {
            let writer = self.assembler.writer();
            if !self.assembler.totals().need_line(line, writer)? {
                return Ok(false);
            }
        }
        self.assembler.count(stat, Compared::Unchanged);
        if database {
            self.kept_databases.insert(absolute(&self.root, visit.path));
        }
        match (several, further) {
            (_, Some(inode)) => self.assembler.links.seen(inode),
            (Some(inode), None) => {
                self.assembler.links.expect(inode, &visit.item.live);
                self.assembler.links.stored(inode, line, true);
            }
            (None, None) => {}
        }
        self.assembler.add_line(visit.path, line, stat.size_of_file(), chunk)?;
        Ok(true)
    }

    fn store(&mut self, visit: &Visit<'_>, stat: Stat, compared: Compared) -> Result<(), RepoError> {
        let several = Inode::of_several(&visit.item.live);
        let further = several.filter(|&inode| self.assembler.links.knows(inode));
        if stat.kind == Type::File {
            return match further {
                Some(inode) => self.assembler.add_name(job(visit), inode, compared),
                None => self.assembler.add_file(job(visit), compared),
            };
        }
        if let Some(inode) = further
            && let Further::Name(entry) = self.assembler.links.further(inode, visit.path, &visit.item.live)?
        {
            self.assembler.links.seen(inode);
            return self.add_entry(&entry, None, compared);
        }
        let mut entry = Entry::new(visit.path.to_vec(), stat);
        let read = match (stat.kind, visit.opened) {
            (Type::Dir, Some(dir)) => add_dir(&mut entry, dir.as_fd()),
            (Type::Dir, None) => open_and_add(&mut entry, visit.dir, &visit.item.name),
            _ => add_special(&mut entry, visit.dir.as_fd(), &visit.item.name),
        };
        add_names(&mut entry, &mut self.names);
        if let Err(e) = read {
            return self.unreadable(visit, &entry, &e, compared);
        }
        if let Some(inode) = several {
            self.assembler.links.expect(inode, &visit.item.live);
        }
        self.add_entry(&entry, several, compared)
    }

    // `several`: it is the first name of this inode.
    fn add_entry(
        &mut self,
        entry: &Entry,
        several: Option<Inode>,
        compared: Compared,
    ) -> Result<(), RepoError> {
        let mut line = Vec::new();
        entry.write_line(&mut line);
        if let Some(inode) = several {
            self.assembler.links.stored(inode, &line, false);
        }
        self.assembler.count(&entry.stat, compared);
        self.assembler.add_line(&entry.path, &line, 0, None)
    }

    // A directory is kept even if its attributes cannot be read: entries below it need it.
    fn unreadable(
        &mut self,
        visit: &Visit<'_>,
        entry: &Entry,
        error: &io::Error,
        compared: Compared,
    ) -> Result<(), RepoError> {
        if error.kind() == io::ErrorKind::NotFound {
            return Ok(());
        }
        let is_dir = entry.stat.kind == Type::Dir;
        // the walk has reported a directory that cannot be opened
        if !is_dir || visit.opened.is_some() {
            let path = absolute(&self.root, visit.path);
            let totals = self.assembler.totals();
            totals.statistics.skipped += 1;
            totals.problem(self.observer, path, "entry-unreadable", &error.to_string());
        }
        if is_dir { self.add_entry(entry, None, compared) } else { Ok(()) }
    }
}

fn job(visit: &Visit<'_>) -> FileJob {
    let (path, name) = (visit.path.to_vec(), visit.item.name.clone());
    FileJob { path, dir: Arc::clone(visit.dir), name, live: visit.item.live }
}

fn open_and_add(entry: &mut Entry, dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let fd = crate::tree::live::open_dir(dir.as_fd(), name)?;
    add_dir(entry, fd.as_fd())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::base::event::Quiet;
    use crate::format::pack::Kind;
    use crate::repo::pack_writer::PackWriter;
    use crate::repo::writer::Writer;
    use crate::snapshot::assemble::Totals;
    use crate::tree::walk::{Choice, Filter as _};
    use crate::verify::tests::{empty, open_repo};

    // No file system at hand has such names.
    #[test]
    fn what_is_too_long_is_told_and_what_vanished_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let fd = Arc::new(OwnedFd::from(std::fs::File::open(dir.path()).unwrap()));
        let live = LiveStat::of(fd.as_fd()).unwrap();
        let item = |length: usize| Item { name: vec![b'n'; length].into(), live };
        let rules = Rules::new(dir.path(), &Options::default(), live.dev, Own::default()).unwrap();
        assert_eq!(rules.choose(&[b'n'; 255], &item(255)), Choice::Take);
        assert_eq!(rules.choose(&[b'n'; 256], &item(256)), Choice::TakeOnly);

        let repo = open_repo(empty().0);
        let writer = Writer::begin(&repo, 1).unwrap();
        let mut packs = PackWriter::new(&writer, Kind::Manifest);
        let (runs, _taken) = crossbeam_channel::unbounded();
        let (_done, finished) = crossbeam_channel::unbounded();
        let (stopped, mut totals) = (AtomicBool::new(false), Totals::default());
        let root = Name::from("/srv");
        let channels = (&runs, &finished, &stopped);
        let assembler = Assembler::new(&writer, &Quiet, &mut packs, root.clone(), channels, &mut totals);
        let mut walk = TreeWalk::new(assembler, Parent::none(), &Quiet, &Options::default(), root);
        for length in [255, 256] {
            let item = item(length);
            let (path, opened) = (&item.name, Some(&fd));
            walk.visit(Visit { path, item: &item, dir: &fd, problems: Vec::new(), opened }).unwrap();
        }
        let gone = || WalkProblem { path: b"o".to_vec(), error: io::ErrorKind::NotFound.into() };
        let item = Item { name: b"o".as_slice().into(), live };
        let visit = Visit { path: b"o", item: &item, dir: &fd, problems: vec![gone()], opened: None };
        walk.visit(visit).unwrap();
        assert_eq!(walk.assembler.finish().unwrap().entries, 1);
        assert_eq!((totals.statistics.skipped, totals.statistics.directories), (1, 1));
        let told = &totals.problems[0];
        assert_eq!((&told.code[..], told.path.0.len()), (TOO_LONG, "/srv/".len() + 256));
    }
}
