//! What goes wrong on the way: a run that is interrupted.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::store::testing::MemoryStore;
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
