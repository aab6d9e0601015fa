use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;

use super::*;
use crate::base::Name;
use crate::base::event::Quiet;
use crate::base::id::ChunkId;
use crate::base::time::{Clock, Timestamp};
use crate::format::manifest::Entry;
use crate::format::snapshot::Document;
use crate::logbook::{Act, append};
use crate::repo::keys::WriterKey;
use crate::repo::manifest_reader::ManifestReader;
use crate::repo::open;
use crate::repo::reader::ChunkReader;
use crate::store::testing::{Fault, FaultyStore, MemoryStore};
use crate::store::{Key, Store};

/// A repository in memory with three snapshots of a small tree.
pub(crate) struct Fixture {
    pub memory: MemoryStore,
    pub key: WriterKey,
    tree: tempfile::TempDir,
}

pub(crate) fn clock() -> Clock {
    Clock::Fixed(Timestamp::from_seconds(1_800_000_000).unwrap().0)
}

pub(crate) fn open_repo(store: impl Store + 'static) -> Repo {
    Repo::open(Arc::new(store), clock()).unwrap()
}

pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn act(kind: &str, body: serde_json::Value) -> Act {
    Act { kind: kind.to_owned(), host: Name::from("h"), user: Name::from("u"), body }
}

pub(crate) fn take(repo: &Repo, key: &WriterKey, root: &std::path::Path) -> SnapshotId {
    let options = crate::snapshot::Options {
        roots: vec![root.to_owned()],
        host: Name::from("h"),
        user: Name::from("u"),
        level: 1,
        workers: 1,
        ..Default::default()
    };
    let head = logbook::head(repo).unwrap();
    let id = crate::snapshot::take(repo, key, head, &options, &Quiet).unwrap().id.unwrap();
    append(repo, key, act("snapshot", serde_json::json!({"snapshot": id}))).unwrap();
    id
}

/// A repository without snapshots, and who may write to it.
pub(crate) fn empty() -> (MemoryStore, WriterKey) {
    let (memory, key) = (MemoryStore::default(), WriterKey::generate("test").unwrap());
    let store: Arc<dyn Store> = Arc::new(memory.clone());
    open::create(&store, key.public(), clock()).unwrap();
    let repo = open_repo(memory.clone());
    let told = config_digest(&repo).unwrap();
    append(&repo, &key, act("init", serde_json::json!({ CONFIG_FIELD: told }))).unwrap();
    (memory, key)
}

impl Fixture {
    pub fn new() -> Self {
        let tree = tempfile::tempdir().unwrap();
        let (memory, key) = empty();
        let repo = open_repo(memory.clone());
        let file = |name: &str, content: &[u8]| fs::write(tree.path().join(name), content).unwrap();
        fs::create_dir(tree.path().join("dir")).unwrap();
        for n in 0..12u64 {
            file(&format!("dir/f{n}"), &noise(n, 3000 + 700 * n as usize));
        }
        file("large", &noise(99, 240_000));
        std::os::unix::fs::symlink("large", tree.path().join("link")).unwrap();
        take(&repo, &key, tree.path());
        file("dir/f3", &noise(203, 5000));
        file("new", &noise(204, 60_000));
        take(&repo, &key, tree.path());
        fs::remove_file(tree.path().join("dir/f5")).unwrap();
        file("dir/f7", b"short");
        take(&repo, &key, tree.path());
        drop(repo);
        Self { memory, key, tree }
    }

    pub fn tree(&self) -> &std::path::Path {
        self.tree.path()
    }
}

pub(crate) fn deep(store: &MemoryStore) -> Report {
    at_depth(store, Depth::Deep)
}

fn at_depth(store: &MemoryStore, depth: Depth) -> Report {
    let options = Options { depth, workers: 1, ..Default::default() };
    verify(&open_repo(store.clone()), &options, &Quiet).unwrap()
}

/// Every path of every snapshot with its content, as far as it can be read: judged by reading it.
pub(crate) type Restorable = BTreeMap<(SnapshotId, Vec<u8>), Vec<u8>>;

pub(crate) fn restorable(store: &MemoryStore) -> Restorable {
    let repo = open_repo(store.clone());
    let loaded = repo.load(Condemned::Use).unwrap();
    let mut all = Restorable::new();
    for snapshot in repo.snapshots().unwrap().0 {
        for root in &snapshot.document.roots {
            let mut entries = Vec::new();
            let mut chunks = ChunkReader::new(repo.store(), &loaded.index, 4).unwrap();
            let mut reader = ManifestReader::new(&mut chunks, &root.manifest);
            while let Ok(Some(entry)) = reader.next_entry() {
                entries.push(entry);
            }
            for entry in entries {
                if let Some(content) = content(&repo, &loaded.index, &entry) {
                    all.insert((snapshot.id, entry.path), content);
                }
            }
        }
    }
    all
}

fn content(repo: &Repo, index: &crate::repo::ChunkIndex, entry: &Entry) -> Option<Vec<u8>> {
    let mut chunks = ChunkReader::new(repo.store(), index, 4).unwrap();
    let mut content = Vec::new();
    for id in &entry.chunks {
        let bytes = chunks.with_chunk(*id, <[u8]>::to_vec).ok()?;
        assert_eq!(ChunkId::of(&bytes), *id);
        content.extend(bytes);
    }
    Some(content)
}

/// Damages of one object: what is done, and the bytes left (`None` where it is deleted).
fn damages(bytes: &[u8]) -> Vec<(String, Option<Vec<u8>>)> {
    let mut all = vec![("delete".to_owned(), None), ("append".to_owned(), Some([bytes, b"x"].concat()))];
    for (name, len) in [("empty", 0), ("half", bytes.len() / 2), ("shorter", bytes.len().saturating_sub(1))] {
        if len < bytes.len() {
            all.push((name.to_owned(), Some(bytes[..len].to_vec())));
        }
    }
    for start in (0..bytes.len()).step_by(4096) {
        let end = bytes.len().min(start + 4096);
        let mut zeroed = bytes.to_vec();
        zeroed[start..end].fill(0);
        all.push((format!("zero {start}"), Some(zeroed)));
        let mut flipped = bytes.to_vec();
        flipped[start + (start / 4096 * 1021) % (end - start)] ^= 0x10;
        all.push((format!("flip {start}"), Some(flipped)));
    }
    all
}

/// Every object with every damage, or on bad sectors, and pairs of one kind swapped.
pub(crate) fn campaign(memory: &MemoryStore, mut check: impl FnMut(&str, &MemoryStore)) {
    let objects = memory.objects();
    for (key, bytes) in &objects {
        if *key == Key::repository() {
            continue;
        }
        for (what, left) in damages(bytes) {
            let copy = memory.copy();
            copy.tamper(key, left);
            check(&format!("{what} {key}"), &copy);
        }
        let copy = memory.copy();
        copy.spoil(key);
        check(&format!("unreadable {key}"), &copy);
    }
    let folder = |key: &Key| key.as_str().split('/').next().unwrap_or_default().to_owned();
    let list: Vec<_> = objects.iter().collect();
    for pair in list.windows(2) {
        let [(a, x), (b, y)] = pair else { continue };
        if folder(a) == folder(b) && x != y {
            let copy = memory.copy();
            copy.tamper(a, Some(y.to_vec()));
            copy.tamper(b, Some(x.to_vec()));
            check(&format!("swap {a} {b}"), &copy);
        }
    }
}

fn lost_paths(report: &Report) -> BTreeSet<(SnapshotId, Vec<u8>)> {
    let lost = report.lost();
    lost.iter().flat_map(|(id, paths)| paths.iter().map(|p| (*id, p.path.clone()))).collect()
}

#[test]
fn an_undamaged_repository_is_silent() {
    let fixture = Fixture::new();
    for depth in [Depth::Structure, Depth::Stored, Depth::Deep] {
        let report = at_depth(&fixture.memory, depth);
        assert_eq!(report.problems, [], "{depth:?}");
        assert!(report.is_clean());
    }
    let report = deep(&fixture.memory);
    assert_eq!(report.proved.len() as u64, report.checked_packs);
    assert!((report.coverage.share() - 1.0).abs() < f64::EPSILON);
}

#[test]
fn every_damage_is_found_and_what_is_lost_is_named_exactly() {
    let fixture = Fixture::new();
    let before = restorable(&fixture.memory);
    let mut cases = 0;
    campaign(&fixture.memory, |what, damaged| {
        cases += 1;
        let report = deep(damaged);
        assert!(!report.problems.is_empty(), "{what}");
        let after = restorable(damaged);
        assert!(after.iter().all(|(path, content)| before[path] == *content), "{what}");
        check_exact(what, &before, &after, &report);
    });
    assert!(cases > 200, "{cases}");
}

/// The paths named are those that cannot be read, neither more nor fewer. What lies in a stretch of
/// a manifest that is gone is named by the stretch's ends.
fn check_exact(what: &str, before: &Restorable, after: &Restorable, report: &Report) {
    let gone: BTreeSet<_> = before.keys().filter(|path| !after.contains_key(path)).cloned().collect();
    let snapshots: BTreeSet<_> = gone.iter().map(|(id, _)| *id).collect();
    let lost = report.lost();
    let stretches = lost.values().flatten().any(|p| p.stretch.is_some());
    let documents = report
        .problems
        .iter()
        .any(|p| matches!(p, Problem::DocumentDamaged { .. } | Problem::DocumentMissing { .. }));
    assert_eq!(lost.keys().copied().collect::<BTreeSet<_>>(), snapshots, "{what} {:?}", report.problems);
    if !stretches && !documents {
        assert_eq!(lost_paths(report), gone, "{what} {:?}", report.problems);
    }
}

/// One bit of each byte, or in a short run of each so many, of every object of a very small repository.
#[test]
#[expect(clippy::disallowed_methods, reason = "a switch for developers")]
fn a_bit_that_is_wrong_anywhere_is_found() {
    let step = if std::env::var_os("LIFEBOAT_TEST_LONG").is_some() { 1 } else { 61 };
    let (memory, key) = empty();
    let tree = tempfile::tempdir().unwrap();
    for round in 0..2 {
        fs::write(tree.path().join("file"), noise(round, 3000)).unwrap();
        fs::write(tree.path().join("text"), format!("round {round}\n").repeat(200)).unwrap();
        take(&open_repo(memory.clone()), &key, tree.path());
    }
    let before = restorable(&memory);
    let mut cases = 0;
    for (object, bytes) in memory.objects() {
        for at in (0..bytes.len()).step_by(step) {
            let what = format!("bit {} of byte {at} of {object}", at % 8);
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1 << (at % 8);
            let copy = memory.copy();
            copy.tamper(&object, Some(flipped));
            cases += 1;
            let Ok(repo) = Repo::open(Arc::new(copy.clone()), clock()) else { continue };
            let options = Options { depth: Depth::Deep, workers: 1, ..Default::default() };
            // an error is found as well
            if let Ok(report) = verify(&repo, &options, &Quiet) {
                assert!(!report.problems.is_empty(), "{what}");
                assert!(restorable(&copy).iter().all(|(path, content)| before[path] == *content), "{what}");
            }
        }
    }
    assert!(cases * step > 15_000, "{cases}");
}

#[test]
fn reading_stored_bytes_finds_damage_of_every_object() {
    let fixture = Fixture::new();
    let before = restorable(&fixture.memory);
    campaign(&fixture.memory, |what, damaged| {
        let report = at_depth(damaged, Depth::Stored);
        assert!(!report.problems.is_empty(), "{what}");
        check_exact(what, &before, &restorable(damaged), &report);
    });
}

#[test]
fn a_changed_config_is_told_by_the_logbook() {
    let fixture = Fixture::new();
    let key = Key::repository();
    let text = String::from_utf8(fixture.memory.objects()[&key].to_vec()).unwrap();
    fixture.memory.tamper(&key, Some(text.replace("2027", "2026").into_bytes()));
    assert_eq!(deep(&fixture.memory).problems, [Problem::ConfigChanged]);
}

#[test]
fn a_chunk_with_another_good_copy_is_not_lost() {
    let fixture = Fixture::new();
    let repo = open_repo(fixture.memory.clone());
    let loaded = repo.load(Condemned::Use).unwrap();
    let large = loaded.index.packs().iter().max_by_key(|p| p.bytes).unwrap();
    let id = large.id.unwrap();
    let content = fixture.memory.objects()[&Key::pack(id)].to_vec();
    // the same chunks once more, in a pack with another order of frames
    let writer = crate::repo::writer::Writer::with_index(&repo, 5, crate::repo::ChunkIndex::default());
    let mut packs = crate::repo::pack_writer::PackWriter::new(&writer, large.kind);
    let mut chunks = ChunkReader::new(repo.store(), &loaded.index, 4).unwrap();
    let mut wanted: Vec<_> =
        loaded.index.iter().filter(|(_, p)| loaded.index.packs()[p.pack as usize].id == Some(id)).collect();
    wanted.reverse();
    for (chunk, _) in wanted {
        let bytes = chunks.with_chunk(*chunk, <[u8]>::to_vec).unwrap();
        packs.add(&bytes).unwrap();
    }
    packs.finish().unwrap();
    // a run that was killed here: its pack is in no index, and nobody needs it
    assert_eq!(
        deep(&fixture.memory).problems.iter().map(Problem::code).collect::<Vec<_>>(),
        ["pack-unindexed"]
    );
    assert!(deep(&fixture.memory).is_clean());
    writer.finish_index().unwrap();
    assert_eq!(deep(&fixture.memory).problems, []);
    let (spoiled, before) = (fixture.memory.copy(), restorable(&fixture.memory));
    spoiled.spoil(&Key::pack(id));
    assert_eq!(restorable(&spoiled), before);
    assert_eq!(deep(&spoiled).severity(), Some(Severity::Degraded));
    let mut flipped = content;
    flipped[100] ^= 1;
    fixture.memory.tamper(&Key::pack(id), Some(flipped));
    let report = deep(&fixture.memory);
    assert_eq!(report.problems.iter().map(Problem::code).collect::<Vec<_>>(), ["pack-damaged"]);
    assert_eq!(report.severity(), Some(Severity::Degraded));
    assert!(report.lost().is_empty());
}

#[test]
fn a_sample_goes_on_with_what_was_proved_longest_ago() {
    let fixture = Fixture::new();
    let repo = open_repo(fixture.memory.clone());
    let options = Options { depth: Depth::Deep, selection: Selection::Sample(1e-9), ..Default::default() };
    let (mut proved, mut runs) = (BTreeSet::new(), 0);
    loop {
        let report = verify(&repo, &options, &Quiet).unwrap();
        assert_eq!(report.problems, []);
        assert_eq!(report.proved.len(), 1);
        runs += 1;
        if !proved.insert(report.proved[0]) {
            break;
        }
        assert_eq!(report.record_body()["depth"], "deep");
        append(&repo, &fixture.key, act("verify", report.record_body())).unwrap();
        assert_eq!(report.coverage.share() == 1.0, proved.len() as u64 == report.checked_packs);
    }
    assert_eq!(runs - 1, repo.load(Condemned::Use).unwrap().index.packs().len());
}

#[test]
fn a_proof_from_the_future_proves_nothing() {
    let fixture = Fixture::new();
    let body = deep(&fixture.memory).record_body();
    for (later, share) in [(60, 1.0), (3600, 0.0), (365 * 24 * 3600, 0.0)] {
        let memory = fixture.memory.copy();
        let clock = Clock::Fixed(Timestamp::from_seconds(1_800_000_000 + later).unwrap().0);
        let ahead = Repo::open(Arc::new(memory.clone()), clock).unwrap();
        append(&ahead, &fixture.key, act("verify", body.clone())).unwrap();
        drop(ahead);
        let report = at_depth(&memory, Depth::Structure);
        assert!((report.coverage.share() - share).abs() < f64::EPSILON, "{later}");
    }
}

#[test]
fn only_the_snapshots_asked_for_are_looked_at() {
    let fixture = Fixture::new();
    let repo = open_repo(fixture.memory.clone());
    let (snapshots, _) = repo.snapshots().unwrap();
    let options =
        Options { depth: Depth::Deep, snapshots: Some(vec![snapshots[0].id]), ..Default::default() };
    let report = verify(&repo, &options, &Quiet).unwrap();
    assert_eq!(report.problems, []);
    assert_eq!(report.snapshots, [snapshots[0].id]);
    assert_eq!(report.proved, snapshots[0].document.packs);
}

#[test]
fn a_fault_at_any_write_of_verify_and_its_record_loses_nothing() {
    let fixture = Fixture::new();
    let before = restorable(&fixture.memory);
    let act_on = |store: FaultyStore<MemoryStore>| {
        let repo = open_repo(store);
        let report = verify(&repo, &Options { depth: Depth::Deep, ..Default::default() }, &Quiet)?;
        append(&repo, &fixture.key, act("verify", report.record_body()))
    };
    let counting = FaultyStore::new(fixture.memory.copy(), u64::MAX, Fault::Stop);
    act_on(counting.clone()).unwrap();
    for at in 0..counting.writes() {
        for fault in [Fault::Stop, Fault::NoSpace, Fault::Once, Fault::DoneButFailed, Fault::Torn] {
            let disk = fixture.memory.copy();
            // a full disk still syncs what is written
            let done = act_on(FaultyStore::new(disk.clone(), at, fault));
            assert!(done.is_err() || fault == Fault::NoSpace);
            for disk in [disk.copy(), disk.after_power_loss()] {
                assert_eq!(restorable(&disk), before);
                assert!(deep(&disk).is_clean(), "{at} {fault:?}");
                act_on(FaultyStore::new(disk.clone(), u64::MAX, fault)).unwrap();
                assert_eq!(deep(&disk).problems, [], "{at} {fault:?}");
            }
        }
    }
}

/// Puts a changed copy of the newest document beside it, signed by `key`.
fn forge(memory: &MemoryStore, key: &WriterKey, change: &dyn Fn(&mut Document)) -> Vec<&'static str> {
    let memory = memory.copy();
    let repo = open_repo(memory.clone());
    let mut document = repo.snapshots().unwrap().0.pop().unwrap().document;
    change(&mut document);
    let writer = crate::repo::writer::Writer::with_index(&repo, 1, crate::repo::ChunkIndex::default());
    writer.finish(&repo, &document, &BTreeSet::new(), key).unwrap();
    let mut codes: Vec<_> = deep(&memory).problems.iter().map(Problem::code).collect();
    codes.sort_unstable();
    codes
}

#[test]
fn documents_that_do_not_belong_are_found() {
    let fixture = Fixture::new();
    let next = |d: &mut Document, previous| {
        d.sequence += 1;
        d.previous = previous;
    };
    let newest = open_repo(fixture.memory.clone()).snapshots().unwrap().0.pop().unwrap().id;
    let codes = |change: &dyn Fn(&mut Document)| forge(&fixture.memory, &fixture.key, change);
    assert_eq!(codes(&|d| next(d, Some(newest))), [""; 0]);
    let again = |d: &mut Document, later: i64| {
        d.reason = Some(Name::from("again"));
        d.started = Timestamp::from_seconds(d.started.parts().0 + later).unwrap();
        d.finished = d.started;
    };
    // two that ran at the same time could not see each other; one that began later must have seen the first
    assert_eq!(codes(&|d| again(d, 5)), ["taken-together"]);
    assert_eq!(codes(&|d| again(d, 3600)), ["sequence-duplicate"]);
    let other = |d: &mut Document| {
        again(d, 5);
        d.previous = None;
    };
    assert_eq!(codes(&other), ["chain-broken", "sequence-duplicate"]);
    assert_eq!(codes(&|d| next(d, None)), ["chain-broken"]);
    assert_eq!(codes(&|d| next(d, Some(SnapshotId([7; 32])))), ["document-missing"]);
    let few = |d: &mut Document| {
        next(d, Some(newest));
        d.packs.pop();
    };
    assert_eq!(codes(&few), ["packs-inexact"]);
    let miscounted = |d: &mut Document| {
        next(d, Some(newest));
        d.roots[0].manifest.entries += 1;
    };
    assert!(codes(&miscounted).contains(&"manifest-damaged"));
    let unseen = |d: &mut Document| {
        next(d, Some(newest));
        d.logbook = Some(crate::base::id::RecordId([7; 32]));
    };
    assert_eq!(codes(&unseen), ["record-missing"]);
    let stranger = WriterKey::generate("stranger").unwrap();
    assert_eq!(forge(&fixture.memory, &stranger, &|d| next(d, Some(newest))), ["signature-invalid"]);
}

/// Puts a snapshot beside the others whose manifest is these lines.
fn with_manifest(fixture: &Fixture, lines: &[u8]) -> Vec<&'static str> {
    let memory = fixture.memory.copy();
    let repo = open_repo(memory.clone());
    let newest = repo.snapshots().unwrap().0.pop().unwrap();
    let writer = crate::repo::writer::Writer::begin(&repo, 1).unwrap();
    let mut packs = crate::repo::pack_writer::PackWriter::new(&writer, crate::format::pack::Kind::Manifest);
    let chunk = packs.add(lines).unwrap();
    packs.finish().unwrap();
    writer.finish_index().unwrap();
    let mut document = newest.document;
    document.sequence += 1;
    document.previous = Some(newest.id);
    let entries = lines.iter().filter(|b| **b == b'\n').count() as u64;
    let chunks = vec![crate::format::manifest::ChunkRef { first: ".".into(), chunk, entries }];
    document.roots[0].manifest = crate::format::manifest::List { level: 0, entries, chunks };
    document.packs = Vec::new();
    writer.finish(&repo, &document, &BTreeSet::new(), &fixture.key).unwrap();
    let report = deep(&memory);
    report.problems.iter().map(Problem::code).filter(|code| *code != "packs-inexact").collect()
}

#[test]
fn hostile_manifests_are_found() {
    use crate::format::manifest::{Stat, Time, Type};
    let fixture = Fixture::new();
    let repo = open_repo(fixture.memory.clone());
    let loaded = repo.load(Condemned::Use).unwrap();
    let (known, place) = *loaded.index.iter().next().unwrap();
    let line = |path: &str, kind: Type, size: u64, chunks: &[ChunkId]| {
        let time = Time(0, 0);
        let (mtime, ctime) = (time, time);
        let stat =
            Stat { kind, mode: 0, uid: 0, gid: 0, size, mtime, ctime, inode: 1, links: 1, device: None };
        let mut out = Vec::new();
        Entry { chunks: chunks.to_vec(), ..Entry::new(path.as_bytes().to_vec(), stat) }.write_line(&mut out);
        out
    };
    let root = line(".", Type::Dir, 0, &[]);
    let file = |path: &str| line(path, Type::File, u64::from(place.size), &[known]);
    let codes = |rest: &[Vec<u8>]| with_manifest(&fixture, &[root.clone(), rest.concat()].concat());
    assert_eq!(codes(&[file("a"), file("b")]), [""; 0]);
    for bad in [
        vec![file("b"), file("a")],
        vec![file("a"), file("a")],
        vec![file("a/b")],
        vec![file("a"), file("a/b")],
        vec![file("..")],
        vec![file("/etc")],
        vec![file("a"), b"{}\n".to_vec()],
    ] {
        assert_eq!(codes(&bad), ["manifest-damaged"], "{bad:?}");
    }
    let size = u64::from(place.size);
    assert_eq!(codes(&[line("a", Type::File, size + 1, &[known])]), ["size-differs"]);
    assert_eq!(codes(&[line("a", Type::File, 1, &[ChunkId([7; 32])])]), ["chunks-missing"]);
}
