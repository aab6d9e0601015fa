//! What goes wrong on the way: an index that lies, a run that is interrupted.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::base::event::Quiet;
use crate::base::id::{ChunkId, IndexId};
use crate::format::manifest::{ChunkRef, Entry, List, Type};
use crate::format::pack::Kind;
use crate::repo::ChunkIndex;
use crate::repo::manifest_reader::ManifestReader;
use crate::repo::pack_writer::PackWriter;
use crate::repo::writer::Writer;
use crate::store::testing::MemoryStore;
use crate::store::{Key, Store as _};
use crate::verify::tests::{empty, noise, open_repo, take};

// A snapshot of a tree.
fn taken(tree: &Path) -> (MemoryStore, Snapshot) {
    let (memory, key) = empty();
    let repo = open_repo(memory.clone());
    take(&repo, &key, tree);
    let snapshot = repo.snapshots().unwrap().0.remove(0);
    (memory, snapshot)
}

fn run(
    memory: &MemoryStore,
    snapshot: &Snapshot,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Report, RestoreError> {
    let placements = place(&snapshot.document, Some(&snapshot.document.roots[0].path));
    restore(&open_repo(memory.clone()), snapshot, &placements, options, observer)
}

// Stores these chunks in a pack of their own, and returns the lines of the index object that tells of it.
fn pack(memory: &MemoryStore, kind: Kind, chunks: &[&[u8]]) -> String {
    let repo = open_repo(memory.clone());
    let writer = Writer::with_index(&repo, 1, ChunkIndex::default());
    let mut pack = PackWriter::new(&writer, kind);
    for chunk in chunks {
        pack.add(chunk).unwrap();
    }
    pack.finish().unwrap();
    let key = Key::index(writer.finish_index().unwrap().unwrap());
    let lines = zstd::decode_all(&memory.objects()[&key][..]).unwrap();
    memory.tamper(&key, None);
    String::from_utf8(lines).unwrap()
}

fn index(memory: &MemoryStore, lines: &str) {
    let bytes = zstd::encode_all(lines.as_bytes(), 1).unwrap();
    memory.create(&Key::index(IndexId::of(&bytes)), &bytes).unwrap();
}

// A snapshot of a file `f` of 1,500 bytes in two chunks, of which there are two packs. The index says of the first pack what
// `lie` makes of it, and is right about the other.
fn lied_to(lie: impl Fn(&str, [ChunkId; 2]) -> String) -> (MemoryStore, Snapshot, Vec<u8>) {
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join("f"), b"something else").unwrap();
    let (memory, mut snapshot) = taken(tree.path());
    let (a, b) = (noise(1, 1000), noise(2, 500));
    let ids = [ChunkId::of(&a), ChunkId::of(&b)];
    let mut lines = Vec::new();
    {
        let repo = open_repo(memory.clone());
        let loaded = repo.load(Condemned::Use).unwrap();
        let mut chunks = ChunkReader::new(repo.store(), &loaded.index, 1).unwrap();
        let mut reader = ManifestReader::new(&mut chunks, &snapshot.document.roots[0].manifest);
        while let Some(mut entry) = reader.next_entry().unwrap() {
            if entry.stat.kind == Type::File {
                (entry.stat.size, entry.chunks) = (1500, ids.to_vec());
            }
            entry.write_line(&mut lines);
        }
    }
    let first = Entry::read_line(lines.split(|&b| b == b'\n').next().unwrap()).unwrap().path;
    let told = pack(&memory, Kind::Manifest, &[&lines]);
    index(&memory, &told);
    let chunks = vec![ChunkRef { first: Name(first), chunk: ChunkId::of(&lines), entries: 2 }];
    snapshot.document.roots[0].manifest = List { level: 0, entries: 2, chunks };
    let lies = lie(&pack(&memory, Kind::Content, &[&a, &b]), ids);
    let truth = pack(&memory, Kind::Content, &[&a, &b, b"other"]);
    index(&memory, &(lies + &truth));
    (memory, snapshot, [a, b].concat())
}

fn sized(lines: &str, ids: [ChunkId; 2], sizes: [u32; 2]) -> String {
    let size = |id: ChunkId, size: u32| format!("[\"{id}\",{size}]");
    let lied = lines
        .replace(&size(ids[0], 1000), &size(ids[0], sizes[0]))
        .replace(&size(ids[1], 500), &size(ids[1], sizes[1]));
    assert!(lied != lines || sizes == [1000, 500], "{lines}");
    lied
}

#[test]
fn an_index_that_lies_never_makes_wrong_content() {
    for sizes in [[1000, 500], [990, 510], [1010, 490], [500, 1000], [990, 500]] {
        let (memory, snapshot, content) = lied_to(|lines, ids| sized(lines, ids, sizes));
        for in_place in [false, true] {
            let target = tempfile::tempdir().unwrap();
            let file = target.path().join("f");
            let mut options = Options::fresh(target.path());
            if in_place {
                fs::write(&file, [&content[..1499], b"?"].concat()).unwrap();
                options.mode = Mode::InPlace { overwrite: Overwrite::Always, delete: false };
            }
            let report = run(&memory, &snapshot, &options, &Quiet).unwrap();
            if sizes == [1000, 500] {
                assert!(report.is_complete() && fs::read(&file).unwrap() == content);
                continue;
            }
            assert!(report.damage && report.files == 0, "{sizes:?}");
            let [problem] = &report.problems[..] else { panic!("{sizes:?} {:?}", report.problems) };
            assert_eq!((problem.code, &problem.path.0[..]), ("size-wrong", &b"f"[..]), "{sizes:?}");
            // what was there stays, and nothing lies beside it
            let names: Vec<_> =
                fs::read_dir(target.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(names.len(), usize::from(in_place), "{sizes:?} {names:?}");
            assert!(!in_place || fs::read(&file).unwrap().ends_with(b"?"), "{sizes:?}");
        }
    }
}

// Asks to stop once so many bytes were written.
struct StopAfter {
    bytes: u64,
    written: AtomicU64,
}

impl Observer for StopAfter {
    fn event(&self, event: Event<'_>) {
        if let Event::Advanced { bytes, .. } = event {
            self.written.fetch_add(bytes, Ordering::SeqCst);
        }
    }

    fn interrupted(&self) -> bool {
        self.written.load(Ordering::SeqCst) >= self.bytes
    }
}

#[test]
fn an_interrupted_run_leaves_no_half_files() {
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join("large"), noise(1, 24 << 20)).unwrap();
    let (memory, snapshot) = taken(tree.path());
    for bytes in [1, 9 << 20] {
        for in_place in [false, true] {
            let target = tempfile::tempdir().unwrap();
            let mut options = Options { workers: 1, ..Options::fresh(target.path()) };
            if in_place {
                fs::write(target.path().join("large"), "as it was").unwrap();
                options.mode = Mode::InPlace { overwrite: Overwrite::Always, delete: false };
            }
            let stop = StopAfter { bytes, written: AtomicU64::new(0) };
            let result = run(&memory, &snapshot, &options, &stop);
            assert!(matches!(result, Err(RestoreError::Interrupted)), "{result:?}");
            assert!(stop.written.load(Ordering::SeqCst) < 24 << 20);
            let names: Vec<_> =
                fs::read_dir(target.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
            if in_place {
                assert_eq!(names, ["large"]);
                assert_eq!(fs::read(target.path().join("large")).unwrap(), b"as it was");
            } else {
                assert!(names.is_empty(), "{names:?}");
            }
        }
    }
}
