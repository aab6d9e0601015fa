//! A dry run: the walk and the comparison, nothing stored, nothing read but names and inodes.

use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::changes::Parent;
use super::files::absolute;
use super::planned::{foretell_unsaved, without_side_files};
use super::rules::{Own, Rules, TOO_LONG, too_long};
use super::take::tell_lost_parent;
use super::{Options, Outcome, SnapshotError, databases};
use crate::base::Name;
use crate::base::event::{Event, Notice, Observer};
use crate::format::manifest::{ROOT, Stat, Type, write_stat};
use crate::format::pack::Kind;
use crate::format::snapshot::Statistics;
use crate::repo::documents::Snapshot;
use crate::repo::load::Condemned;
use crate::repo::reader::ChunkReader;
use crate::repo::{Repo, RepoError};
use crate::tree::live::LiveStat;
use crate::tree::walk::{Visit, WalkProblem, walk};

/// Counts what a snapshot would read. `stored_bytes` are the bytes that would be read.
pub fn count(
    repo: &Repo,
    parent: Option<&Snapshot>,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Outcome, SnapshotError> {
    let index = match parent {
        Some(_) => repo.load(Condemned::Use)?.index.of_kind(Kind::Manifest),
        None => Default::default(),
    };
    let mut statistics = Statistics::default();
    let (own, mut own_paths) = (Own::of(repo)?, Vec::new());
    let mut missing = 0;
    let (roots, beside) = without_side_files(options)?;
    beside.iter().for_each(|file| file.tell(observer));
    for root in roots {
        let name = Name::from(root.as_os_str());
        let same = parent.and_then(|p| Some((p, p.document.roots.iter().find(|r| r.path == name)?)));
        let mut chunks = ChunkReader::new(repo.store(), &index, 4)?;
        let parent = match same {
            Some((p, r)) => {
                let root = name.clone();
                let on_loss = move |error: &RepoError| tell_lost_parent(observer, p.id, &root, error);
                Parent::new(&mut chunks, &r.manifest, p.document.started, Box::new(on_loss))?
            }
            None => Parent::none(),
        };
        let count =
            Count { statistics: &mut statistics, parent, name, options, expected: Vec::new(), observer };
        match count.root(root, own) {
            Ok(met) => {
                let name = Name::from(root.as_os_str());
                own_paths.extend(met.iter().map(|path| absolute(&name, path)));
            }
            Err(SnapshotError::Root { path, source }) if missing + 1 < options.roots.len() => {
                missing += 1;
                statistics.skipped += 1;
                let text = format!("{path}: {source}");
                let notice = Notice { code: "root-unreadable", subject: Some(path), text };
                observer.event(Event::Notice(&notice));
            }
            Err(other) => return Err(other),
        }
    }
    let unsaved = foretell_unsaved(options, observer)?;
    statistics.skipped += unsaved.len() as u64;
    Ok(Outcome { id: None, parent: parent.map(|p| p.id), statistics, unsaved, own_paths })
}

struct Count<'c, 'p, 'r> {
    statistics: &'c mut Statistics,
    parent: Parent<'p, 'r>,
    name: Name,
    options: &'c Options,
    expected: Vec<u8>,
    observer: &'c dyn Observer,
}

impl Count<'_, '_, '_> {
    // Where it met the repository.
    fn root(mut self, root: &Path, own: Own) -> Result<Vec<Vec<u8>>, SnapshotError> {
        let bad = |source: rustix::io::Errno| SnapshotError::Root {
            path: Name::from(root.as_os_str()),
            source: source.into(),
        };
        let live = LiveStat::new(&rustix::fs::stat(root).map_err(bad)?);
        if live.stat.kind != Type::Dir {
            return self.entry(ROOT, &live.stat).map(|()| Vec::new());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(root, flags, Mode::empty()).map_err(bad)?;
        let rules = Rules::new(root, self.options, live.dev, own)?;
        walk(opened, &rules, self.options.workers, &mut |visit| self.visit(&visit))?;
        Ok(rules.own_paths())
    }

    fn visit(&mut self, visit: &Visit<'_>) -> Result<(), SnapshotError> {
        if self.observer.interrupted() {
            return Err(SnapshotError::Interrupted);
        }
        if visit.opened.is_none() && visit.problems.iter().any(WalkProblem::has_vanished) {
            return Ok(());
        }
        for problem in visit.problems.iter().filter(|problem| !problem.has_vanished()) {
            self.statistics.skipped += 1;
            let subject = absolute(&self.name, &problem.path);
            let text = format!("{subject}: {}", problem.error);
            let notice = Notice { code: "directory-unreadable", subject: Some(subject), text };
            self.observer.event(Event::Notice(&notice));
        }
        if let Some(why) = too_long(&visit.item.name).filter(|_| visit.path != ROOT) {
            self.statistics.skipped += 1;
            let subject = absolute(&self.name, visit.path);
            let text = format!("{subject}: {why}");
            self.observer.event(Event::Notice(&Notice { code: TOO_LONG, subject: Some(subject), text }));
            return Ok(());
        }
        // as a run does, if each database can be copied
        let is_beside = visit.path != ROOT && !self.options.plain_databases;
        if is_beside && databases::belongs_to_one(visit.dir, visit.item) {
            let known = self.parent.seek(visit.path)?;
            return if known { Ok(self.parent.pass()?) } else { Ok(()) };
        }
        self.entry(visit.path, &visit.item.live.stat)
    }

    fn entry(&mut self, path: &[u8], stat: &Stat) -> Result<(), SnapshotError> {
        let known = self.parent.seek(path)?;
        self.expected.clear();
        write_stat(&mut self.expected, path, stat);
        let unchanged = known && !self.options.rehash && self.parent.says(&self.expected, stat);
        let s = &mut *self.statistics;
        match stat.kind {
            Type::Dir => s.directories += 1,
            Type::File => {
                s.files += 1;
                s.bytes += stat.size;
                s.stored_bytes += if unchanged { 0 } else { stat.size };
                *match (unchanged, known) {
                    (true, _) => &mut s.unchanged_files,
                    (false, true) => &mut s.changed_files,
                    (false, false) => &mut s.new_files,
                } += 1;
            }
            _ => s.others += 1,
        }
        self.observer.event(Event::Advanced { entries: 1, bytes: stat.size_of_file() });
        if known { Ok(self.parent.pass()?) } else { Ok(()) }
    }
}
