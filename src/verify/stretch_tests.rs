//! Where a stretch of a manifest is lost, the report says how far it reaches and what is probably in it.

use std::collections::BTreeSet;
use std::fs;

use super::tests::{deep, open_repo, take};
use super::*;
use crate::base::Name;
use crate::base::event::{Event, Observer};
use crate::base::id::ChunkId;
use crate::catalog::export;
use crate::format::manifest::{Entry, Type};
use crate::repo::reader::ChunkReader;
use crate::restore::{self, Mode, Overwrite};
use crate::store::Key;
use crate::store::testing::MemoryStore;

// Snapshots of a tree of so many files that each manifest has several chunks; before each but the first one file is added.
pub(super) fn taken(dir: &std::path::Path, snapshots: usize) -> (MemoryStore, Vec<SnapshotId>) {
    let (memory, key) = super::tests::empty();
    for number in 0..40 {
        let sub = dir.join(format!("d{number:02}"));
        fs::create_dir(&sub).unwrap();
        for file in 0..40 {
            fs::write(sub.join(format!("f{file:02}")), b"").unwrap();
        }
    }
    let repo = open_repo(memory.clone());
    let mut ids = Vec::new();
    for number in 0..snapshots {
        if number > 0 {
            // one in each directory, so that no chunk of the manifest stays as it was
            (0..40).for_each(|d| fs::write(dir.join(format!("d{d:02}/f{number:02}b")), b"").unwrap());
        }
        ids.push(take(&repo, &key, dir));
    }
    (memory, ids)
}

// Takes away the middle of one chunk of the pack that holds this snapshot's entries.
fn damage(
    memory: &MemoryStore,
    snapshot: SnapshotId,
    which: impl Fn(usize) -> bool,
) -> (Vec<Entry>, Vec<Entry>) {
    let repo = open_repo(memory.clone());
    let loaded = repo.load(Condemned::Use).unwrap();
    let mut chunks = ChunkReader::new(repo.store(), &loaded.index, 4).unwrap();
    let found = repo.snapshots().unwrap().0.into_iter().find(|s| s.id == snapshot).unwrap();
    let list = &found.document.roots[0].manifest;
    assert!(list.level == 0 && list.chunks.len() > 6, "{}", list.chunks.len());
    let (mut kept, mut lost, mut gone) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (number, of) in list.chunks.iter().enumerate() {
        let read = |bytes: &[u8]| -> Vec<Entry> {
            let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
            lines.map(|line| Entry::read_line(line).unwrap()).collect()
        };
        let entries = chunks.with_chunk(of.chunk, read).unwrap();
        if which(number) {
            gone.insert(of.chunk);
            lost.extend(entries);
        } else {
            kept.extend(entries);
        }
    }
    rewrite_without(memory, &gone);
    (kept, lost)
}

// Every pack that has one of these chunks is written again without them.
fn rewrite_without(memory: &MemoryStore, gone: &BTreeSet<ChunkId>) {
    let repo = open_repo(memory.clone());
    let loaded = repo.load(Condemned::Use).unwrap();
    let writer = crate::repo::writer::Writer::with_index(&repo, 1, crate::repo::ChunkIndex::default());
    let mut chunks = ChunkReader::new(repo.store(), &loaded.index, 4).unwrap();
    let (indexes, packs): (Vec<_>, BTreeSet<_>) = (
        repo.store().list(crate::store::Kind::Index).unwrap(),
        loaded.index.packs().iter().filter_map(|p| p.id).collect(),
    );
    for kind in [crate::format::pack::Kind::Content, crate::format::pack::Kind::Manifest] {
        let mut again = crate::repo::pack_writer::PackWriter::new(&writer, kind);
        for (id, place) in loaded.index.iter() {
            if !gone.contains(id) && loaded.index.pack(place.pack).unwrap().kind == kind {
                chunks.with_chunk(*id, |bytes| again.add(bytes).map(|_| ())).unwrap().unwrap();
            }
        }
        again.finish().unwrap();
    }
    writer.finish_index().unwrap();
    let written = writer.written_packs();
    packs.difference(&written).for_each(|id| memory.tamper(&Key::pack(*id), None));
    indexes.into_iter().for_each(|listed| memory.tamper(&listed.key, None));
}

fn stretches(report: &Report, snapshot: SnapshotId) -> Vec<LostPath> {
    report.lost().remove(&snapshot).unwrap_or_default().into_iter().filter(|p| p.stretch.is_some()).collect()
}

#[test]
fn a_lost_stretch_is_named_from_end_to_end() {
    for (which, expected) in [(vec![2], 1), (vec![2, 3], 1), (vec![0], 1), (vec![1, 4], 2), (vec![5, 99], 2)]
    {
        let dir = tempfile::tempdir().unwrap();
        let (memory, ids) = taken(dir.path(), 1);
        let count = manifest_chunks(&memory);
        let last = |n: usize| which.contains(&99) && n == count - 1;
        let (kept, lost) = damage(&memory, ids[0], |n| which.contains(&n) || last(n));
        let found = stretches(&deep(&memory), ids[0]);
        assert_eq!(found.len(), expected, "{which:?} {found:?}");
        for entry in lost {
            assert!(found.iter().any(|p| p.covers(&p.root, &entry.path)), "{which:?} {:?}", entry.path);
        }
        for entry in kept {
            assert!(!found.iter().any(|p| p.covers(&p.root, &entry.path)), "{which:?} {:?}", entry.path);
        }
    }
}

fn manifest_chunks(memory: &MemoryStore) -> usize {
    open_repo(memory.clone()).snapshots().unwrap().0[0].document.roots[0].manifest.chunks.len()
}

#[test]
fn what_another_snapshot_has_there_is_named_as_probably_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, ids) = taken(dir.path(), 2);
    let (_, lost) = damage(&memory, ids[1], |number| number == 3);
    let report = deep(&memory);
    assert!(stretches(&report, ids[0]).is_empty());
    let found = stretches(&report, ids[1]);
    let [LostPath { stretch: Some(stretch), .. }] = &found[..] else { panic!("{found:?}") };
    assert_eq!(stretch.entries, lost.len() as u64);
    // what was added before the second snapshot is in no other
    let old: Vec<_> = lost.into_iter().map(|e| e.path).filter(|p| !p.ends_with(b"b")).collect();
    assert!(!old.is_empty());
    assert_eq!(stretch.likely.to_vec(), old);
}

#[test]
fn a_stretch_that_no_snapshot_has_whole_has_no_likely_names() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, ids) = taken(dir.path(), 1);
    damage(&memory, ids[0], |number| number == 3);
    let found = stretches(&deep(&memory), ids[0]);
    assert!(
        found.iter().all(|p| p.stretch.as_ref().is_some_and(|s| s.likely.is_empty())) && found.len() == 1
    );
}

#[test]
fn what_is_not_lost_comes_back_though_its_directory_is_lost() {
    for which in [vec![2], vec![0], vec![1, 4]] {
        let dir = tempfile::tempdir().unwrap();
        let (memory, ids) = taken(dir.path(), 1);
        let (kept, lost) = damage(&memory, ids[0], |number| which.contains(&number));
        assert!(lost.iter().any(|entry| entry.stat.kind == Type::Dir));
        let repo = open_repo(memory);
        let snapshot = repo.snapshots().unwrap().0.into_iter().find(|s| s.id == ids[0]).unwrap();
        let target = tempfile::tempdir().unwrap();
        let options = crate::restore::Options::fresh(target.path());
        let path = Name::from(dir.path().as_os_str());
        let placements = crate::restore::place(&snapshot.document, Some(&path));
        let quiet = crate::base::event::Quiet;
        let report = crate::restore::restore(&repo, &snapshot, &placements, &options, &quiet).unwrap();
        assert!(report.damage && report.failed > 0);
        for entry in kept {
            let at = target.path().join(Name(entry.path.clone()).as_os_str());
            assert!(at.symlink_metadata().is_ok(), "{which:?} {:?}", Name(entry.path));
        }
    }
}

#[test]
fn in_place_what_is_not_lost_comes_back_and_nothing_goes_that_may_be_in_what_is() {
    for (which, delete) in [(vec![2], false), (vec![0], true), (vec![1, 4], true), (vec![2, 99], true)] {
        let dir = tempfile::tempdir().unwrap();
        let (memory, ids) = taken(dir.path(), 1);
        let count = manifest_chunks(&memory);
        let is_lost = |n: usize| which.contains(&n) || which.contains(&99) && n == count - 1;
        let (kept, lost) = damage(&memory, ids[0], is_lost);
        let at = |entry: &Entry| dir.path().join(Name(entry.path.clone()).as_os_str());
        let (files, lost_files) = (
            kept.iter().filter(|e| e.stat.kind == Type::File).collect::<Vec<_>>(),
            lost.iter().filter(|e| e.stat.kind == Type::File).collect::<Vec<_>>(),
        );
        // of what is kept some is gone or changed, and so is a directory of which nothing is lost; some came since
        for entry in files.iter().step_by(3) {
            fs::remove_file(at(entry)).unwrap();
        }
        for entry in files.iter().skip(1).step_by(3) {
            fs::write(at(entry), b"changed since").unwrap();
        }
        for entry in &lost_files {
            fs::write(at(entry), b"newer").unwrap();
        }
        let inner = lost_files[lost_files.len() / 2];
        let beside = at(inner).with_extension("new");
        fs::write(&beside, b"may be of the snapshot").unwrap();
        let extra = at(files[files.len() / 2]).with_extension("new");
        fs::write(&extra, b"is not of the snapshot").unwrap();

        let repo = open_repo(memory);
        let snapshot = repo.snapshots().unwrap().0.into_iter().find(|s| s.id == ids[0]).unwrap();
        let mode = Mode::InPlace { overwrite: Overwrite::IfChanged, delete };
        let options = restore::Options { mode, ..restore::Options::fresh(dir.path()) };
        let placements = restore::place(&snapshot.document, Some(&Name::from(dir.path().as_os_str())));
        let quiet = crate::base::event::Quiet;
        let report = restore::restore(&repo, &snapshot, &placements, &options, &quiet).unwrap();
        assert!(report.damage, "{which:?}");
        assert!(
            report.problems.iter().all(|p| p.code == "manifest-damaged"),
            "{which:?} {:?}",
            report.problems
        );
        for entry in files {
            assert_eq!(fs::read(at(entry)).unwrap(), b"", "{which:?} {:?}", at(entry));
        }
        for entry in lost_files {
            assert_eq!(fs::read(at(entry)).unwrap(), b"newer", "{which:?} {:?}", at(entry));
        }
        assert!(beside.exists(), "{which:?}");
        assert_eq!(extra.exists(), !delete, "{which:?}");
    }
}

#[test]
fn an_archive_says_where_a_stretch_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, ids) = taken(dir.path(), 1);
    let (_, lost) = damage(&memory, ids[0], |number| number == 2);
    let repo = open_repo(memory);
    let loaded = repo.load(Condemned::Use).unwrap();
    let chunks = || ChunkReader::new(repo.store(), &loaded.index, 4).unwrap();
    let mut readers = export::Readers { manifests: chunks(), content: chunks() };
    let snapshot = repo.snapshots().unwrap().0.into_iter().find(|s| s.id == ids[0]).unwrap();
    let parts = crate::catalog::paths::parts(&snapshot.document, None).unwrap();
    let notices = Notices::default();
    let outcome = export::export(&mut readers, &parts, &mut std::io::sink(), &notices).unwrap();
    assert_eq!((outcome.damaged, outcome.stretches), (0, 1));
    let first = dir.path().join(Name(lost[0].path.clone()).as_os_str());
    let said = format!("{}: a stretch of the manifest that begins there cannot be read", first.display());
    let told = notices.0.into_inner().unwrap();
    assert!(told.len() == 1 && told[0].starts_with(&said), "{told:?}");
}

#[derive(Default)]
pub(super) struct Notices(std::sync::Mutex<Vec<String>>);

impl Observer for Notices {
    fn event(&self, event: Event<'_>) {
        if let Event::Notice(notice) = event {
            self.0.lock().unwrap().push(notice.text.clone());
        }
    }
}
