//! Manifests of several levels, of which a list is lost or is not what it must be.

use std::path::Path;

use super::stretch_tests::{Notices, taken};
use super::tests::open_repo;
use super::*;
use crate::base::Name;
use crate::base::event::{Event, Observer, Quiet, Stopper};
use crate::base::id::ChunkId;
use crate::catalog::paths::{Part, parts};
use crate::catalog::pattern::{Letters, Pattern};
use crate::catalog::{export, ls, versions};
use crate::format::manifest::{ChunkRef, Entry, List, ROOT, Type};
use crate::format::pack::Kind;
use crate::repo::ChunkIndex;
use crate::repo::documents::Snapshot;
use crate::repo::pack_writer::PackWriter;
use crate::repo::reader::ChunkReader;
use crate::repo::writer::Writer;
use crate::restore::{
    Options as RestoreOptions, Placement, Report as Restored, RestoreError, place, restore,
};
use crate::store::testing::MemoryStore;

// Where a stretch begins, and how many entries it has.
type Begin = (Vec<u8>, u64);

struct Listed {
    _tree: tempfile::TempDir,
    memory: MemoryStore,
    snapshot: Snapshot,
    // by the list above them
    entries: Vec<Vec<Entry>>,
}

fn reference(of: &[ChunkRef], chunk: ChunkId) -> ChunkRef {
    let entries = of.iter().map(|r| r.entries).fold(0, u64::saturating_add);
    ChunkRef { first: of[0].first.clone(), chunk, entries }
}

fn store(memory: &MemoryStore, lists: &[&[ChunkRef]]) -> Vec<ChunkRef> {
    let repo = open_repo(memory.clone());
    let writer = Writer::with_index(&repo, 1, ChunkIndex::default());
    let mut pack = PackWriter::new(&writer, Kind::Manifest);
    let mut stored = Vec::new();
    for list in lists {
        let mut lines = Vec::new();
        list.iter().for_each(|of| of.write_line(&mut lines));
        stored.push(reference(list, pack.add(&lines).unwrap()));
    }
    pack.finish().unwrap();
    writer.finish_index().unwrap();
    stored
}

impl Listed {
    // A snapshot whose manifest has three lists of chunks.
    fn new() -> Self {
        let tree = tempfile::tempdir().unwrap();
        let (memory, _) = taken(tree.path(), 1);
        let repo = open_repo(memory.clone());
        let mut snapshot = repo.snapshots().unwrap().0.remove(0);
        let list = snapshot.document.roots[0].manifest.clone();
        let loaded = repo.load(Condemned::Use).unwrap();
        let mut chunks = ChunkReader::new(repo.store(), &loaded.index, 4).unwrap();
        let third = list.chunks.len() / 3;
        let (first, rest) = list.chunks.split_at(third);
        let (second, last) = rest.split_at(third);
        let mut entries = Vec::new();
        for part in [first, second, last] {
            let mut of_part = Vec::new();
            for of in part {
                let read = |bytes: &[u8]| -> Vec<Entry> {
                    let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
                    lines.map(|line| Entry::read_line(line).unwrap()).collect()
                };
                of_part.extend(chunks.with_chunk(of.chunk, read).unwrap());
            }
            entries.push(of_part);
        }
        let stored = store(&memory, &[first, second, last]);
        snapshot.document.roots[0].manifest = List { level: 1, entries: list.entries, chunks: stored };
        Self { _tree: tree, memory, snapshot, entries }
    }

    // The same with these of its lists in no pack.
    fn without(mut self, which: &[usize]) -> Self {
        for &number in which {
            self.snapshot.document.roots[0].manifest.chunks[number].chunk = ChunkId::of(&[number as u8]);
        }
        self
    }

    fn root(&self) -> &Name {
        &self.snapshot.document.roots[0].path
    }

    fn restore(&self, path: Option<&[u8]>, target: &Path) -> Restored {
        let at = path.map_or_else(|| self.root().clone(), |path| absolute(self.root(), path));
        let placements: Vec<Placement> = place(&self.snapshot.document, Some(&at));
        let repo = open_repo(self.memory.clone());
        restore(&repo, &self.snapshot, &placements, &RestoreOptions::fresh(target), &Quiet).unwrap()
    }

    fn with_parts<T>(
        &self,
        path: Option<&[u8]>,
        what: impl FnOnce(&ChunkIndex, &Repo, &[Part<'_>]) -> T,
    ) -> T {
        let repo = open_repo(self.memory.clone());
        let loaded = repo.load(Condemned::Use).unwrap();
        let path = path.map(|path| absolute(self.root(), path));
        what(&loaded.index, &repo, &parts(&self.snapshot.document, path.as_ref()).unwrap())
    }

    // The paths that `ls` lists, and where it says that something is missing: from where and how many.
    fn list(&self, path: Option<&[u8]>) -> (Vec<Vec<u8>>, Vec<Begin>) {
        self.with_parts(path, |index, repo, parts| {
            let (mut found, mut lost) = (Vec::new(), Vec::new());
            let mut chunks = ChunkReader::new(repo.store(), index, 4).unwrap();
            let found_one = |path: &[u8], _: &[u8]| {
                found.push(path.to_vec());
                Ok(())
            };
            let counts = ls::for_each_line(&mut chunks, &parts[0], found_one, |gap| {
                lost.push((gap.from.clone(), gap.entries));
            });
            assert_eq!(counts.unwrap(), (found.len() as u64, lost.len() as u64));
            (found, lost)
        })
    }

    fn export(&self, path: Option<&[u8]>) -> export::Outcome {
        self.with_parts(path, |index, repo, parts| {
            let chunks = || ChunkReader::new(repo.store(), index, 4).unwrap();
            let mut readers = export::Readers { manifests: chunks(), content: chunks() };
            export::export(&mut readers, parts, &mut std::io::sink(), &Notices::default()).unwrap()
        })
    }

    // The first directory of a list whose entries all lie in that list.
    fn directory_within(&self, list: usize) -> Vec<u8> {
        let is_dir = |entry: &&Entry| entry.stat.kind == Type::Dir && entry.path != ROOT;
        self.entries[list].iter().find(is_dir).unwrap().path.clone()
    }
}

fn absolute(root: &Name, path: &[u8]) -> Name {
    Name([&root.0[..], b"/", path].concat())
}

fn paths(entries: &[Entry]) -> Vec<Vec<u8>> {
    entries.iter().map(|entry| entry.path.clone()).collect()
}

#[test]
fn a_lost_list_costs_what_is_in_it_wherever_it_stands() {
    for which in [&[0][..], &[1], &[2], &[0, 1]] {
        let listed = Listed::new().without(which);
        let lost: Vec<&Vec<Entry>> = which.iter().map(|&number| &listed.entries[number]).collect();
        let lost_entries = lost.iter().map(|entries| entries.len() as u64).sum::<u64>();
        let kept: Vec<Entry> =
            (0..3).filter(|number| !which.contains(number)).flat_map(|n| listed.entries[n].clone()).collect();

        let target = tempfile::tempdir().unwrap();
        let report = listed.restore(None, target.path());
        for entry in &kept {
            let at = target.path().join(Name(entry.path.clone()).as_os_str());
            assert!(at.symlink_metadata().is_ok(), "{which:?} {}", at.display());
        }
        let gaps: Vec<_> = report.problems.iter().filter(|p| p.code == "manifest-damaged").collect();
        let begins = if which[0] == 0 { b"" } else { &lost[0][0].path[..] };
        assert!(gaps.len() == 1 && gaps[0].path.0 == begins, "{which:?} {gaps:?}");
        assert!(gaps[0].text.contains(&format!(" {lost_entries} entries are missing")) || lost_entries > 999);
        let stand_ins = report.problems.iter().filter(|p| p.code == "directory-lost").count() as u64;
        assert_eq!(report.failed, lost_entries + stand_ins, "{which:?}");
        assert!(report.damage);

        assert_eq!(
            listed.list(None),
            (paths(&kept), vec![(lost[0][0].path.clone(), lost_entries)]),
            "{which:?}"
        );
        let exported = listed.export(None);
        assert_eq!((exported.entries, exported.stretches), (kept.len() as u64, which.len() as u64));
    }
}

#[test]
fn of_a_part_only_its_own_damage_counts() {
    let listed = Listed::new().without(&[1]);
    for (list, is_whole) in [(0, true), (1, false)] {
        let path = listed.directory_within(list);
        let target = tempfile::tempdir().unwrap();
        let report = listed.restore(Some(&path), target.path());
        assert_eq!(report.is_complete() && !report.damage, is_whole, "{list}: {:?}", report.problems);
        let (found, lost) = listed.list(Some(&path));
        assert_eq!((found.is_empty(), lost.is_empty()), (!is_whole, is_whole), "{list}");
        assert_eq!(listed.export(Some(&path)).stretches == 0, is_whole, "{list}");
        if !is_whole {
            assert!(report.problems[0].text.contains("at most"), "{:?}", report.problems);
            assert_eq!(report.problems[0].path.0, b"");
        }
    }
    // what ends where the lost list begins is whole too
    let last = listed.entries[0].last().unwrap().path.clone();
    let report = listed.restore(Some(&last), tempfile::tempdir().unwrap().path());
    assert!(report.is_complete() && !report.damage, "{:?}", report.problems);
    assert_eq!(listed.list(Some(&last)), (vec![last.clone()], vec![]));
}

#[test]
fn lists_that_overlap_end_soon() {
    for same in [true, false] {
        let mut listed = Listed::new();
        let mut level = listed.snapshot.document.roots[0].manifest.chunks.clone();
        for _ in 0..7 {
            // equal ones, or each with the rest of the others
            let lists: Vec<Vec<ChunkRef>> = match same {
                true => vec![vec![level[0].clone(); 300]; 1],
                false => (0..level.len()).map(|from| level[from..].to_vec()).collect(),
            };
            let lists: Vec<&[ChunkRef]> = lists.iter().map(|list| &list[..]).collect();
            level = store(&listed.memory, &lists);
        }
        let entries = level.iter().map(|of| of.entries).fold(0, u64::saturating_add);
        listed.snapshot.document.roots[0].manifest = List { level: 8, entries, chunks: level };
        let report = listed.restore(None, tempfile::tempdir().unwrap().path());
        assert!(report.damage && report.directories > 0, "{same}");
        let (found, lost) = listed.list(None);
        assert!(!found.is_empty() && !lost.is_empty(), "{same}");
        let repo = open_repo(listed.memory.clone());
        let loaded = repo.load(Condemned::Use).unwrap();
        let mut chunks = ChunkReader::new(repo.store(), &loaded.index, 4).unwrap();
        let pattern = Pattern::parse("f00", Letters::Exact).unwrap();
        let answer = versions::find(&mut chunks, &[&listed.snapshot], &pattern, &|| false).unwrap();
        assert_eq!(answer.unread.len(), 1, "{same}");
    }
}

// Asked so often, it wants an end.
struct Patient(std::sync::atomic::AtomicU32);

impl Observer for Patient {
    fn event(&self, _: Event<'_>) {}

    fn interrupted(&self) -> bool {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 10_000
    }
}

// Each list is in order by itself, and leads to one that is not the one it is listed as.
#[test]
fn what_damage_costs_is_found_out_soon_where_lists_lead_to_one_another() {
    let mut listed = Listed::new();
    let mut below = listed.snapshot.document.roots[0].manifest.chunks[0].clone();
    for level in 0..8 {
        let name = |n: u32| Name(format!("{}{n:04}", char::from(b'a' + level)).into_bytes());
        let list: Vec<ChunkRef> = (0..128).map(|n| ChunkRef { first: name(n), ..below.clone() }).collect();
        below = store(&listed.memory, &[&list]).remove(0);
    }
    let entries = below.entries;
    listed.snapshot.document.roots[0].manifest = List { level: 8, entries, chunks: vec![below] };
    let repo = open_repo(listed.memory.clone());
    let loaded = repo.load(Condemned::Use).unwrap();
    let bad = [(ChunkId::of(b"lost"), 0)].into();
    let documents = [(listed.snapshot.id, listed.snapshot.document.clone())];
    let found = impact::trace(&repo, &loaded.index, &bad, &documents, &Patient(0.into()));
    assert!(found.is_ok(), "{found:?}");
    let found = impact::trace(&repo, &loaded.index, &bad, &documents, &Stopper(true.into()));
    assert!(matches!(found, Err(crate::repo::RepoError::Interrupted)), "{found:?}");
}

#[test]
fn who_passes_over_a_manifest_can_be_interrupted() {
    let listed = Listed::new().without(&[0, 1, 2]);
    let repo = open_repo(listed.memory.clone());
    let loaded = repo.load(Condemned::Use).unwrap();
    let mut chunks = ChunkReader::new(repo.store(), &loaded.index, 4).unwrap();
    let asked = std::cell::Cell::new(0);
    let interrupted = || {
        asked.set(asked.get() + 1);
        asked.get() > 2
    };
    let pattern = Pattern::parse("f00", Letters::Exact).unwrap();
    let found = versions::find(&mut chunks, &[&listed.snapshot], &pattern, &interrupted);
    assert!(matches!(found, Err(crate::repo::RepoError::Interrupted)), "{found:?}");
    let target = tempfile::tempdir().unwrap();
    let placements = place(&listed.snapshot.document, None);
    let stopped = Stopper(true.into());
    let report =
        restore(&repo, &listed.snapshot, &placements, &RestoreOptions::fresh(target.path()), &stopped);
    assert!(matches!(report, Err(RestoreError::Interrupted)), "{report:?}");
}
