//! What the application does between the walk and the reading, or while the walk lasts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use super::{Options, Outcome, take};
use crate::base::event::{Event, Observer};
use crate::format::manifest::Entry;
use crate::logbook;
use crate::repo::keys::WriterKey;
use crate::repo::load::Condemned;
use crate::repo::manifest_reader::ManifestReader;
use crate::repo::reader::ChunkReader;
use crate::store::testing::MemoryStore;
use crate::verify::tests::{deep, empty, open_repo, restorable};

// Does something once, when the first file has been read.
struct Meanwhile<F>(Mutex<Option<F>>);

impl<F: FnOnce() + Send> Observer for Meanwhile<F> {
    fn event(&self, event: Event<'_>) {
        if matches!(event, Event::Advanced { entries: 1, .. })
            && let Some(act) = self.0.lock().unwrap().take()
        {
            act();
        }
    }
}

struct World {
    memory: MemoryStore,
    key: WriterKey,
    tree: tempfile::TempDir,
}

impl World {
    // `0` is read first, and by one worker; so everything else was seen by then and is not read yet.
    fn new() -> Self {
        let (memory, key) = empty();
        let tree = tempfile::tempdir().unwrap();
        fs::write(tree.path().join("0"), "read first").unwrap();
        Self { memory, key, tree }
    }

    fn save(&self, meanwhile: impl FnOnce(&Path) + Send) -> Outcome {
        let repo = open_repo(self.memory.clone());
        let options = Options {
            roots: vec![self.tree.path().to_owned()],
            host: "h".into(),
            user: "u".into(),
            level: 1,
            workers: 1,
            ..Options::default()
        };
        let observer = Meanwhile(Mutex::new(Some(|| meanwhile(self.tree.path()))));
        let outcome = take(&repo, &self.key, logbook::head(&repo).unwrap(), &options, &observer).unwrap();
        assert!(observer.0.lock().unwrap().is_none(), "nothing was read");
        outcome
    }

    // The content of each file, and the first name of its inode.
    fn saved(&self, outcome: &Outcome) -> BTreeMap<String, (String, Option<String>)> {
        let id = outcome.id.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let content = restorable(&self.memory);
        let repo = open_repo(self.memory.clone());
        let (snapshots, _) = repo.snapshots().unwrap();
        let document = &snapshots.iter().find(|snapshot| snapshot.id == id).unwrap().document;
        let loaded = repo.load(Condemned::Use).unwrap();
        let mut chunks = ChunkReader::new(repo.store(), &loaded.index, 4).unwrap();
        let mut reader = ManifestReader::new(&mut chunks, &document.roots[0].manifest);
        let mut found = BTreeMap::new();
        while let Some(Entry { path, hardlink, .. }) = reader.next_entry().unwrap() {
            let content = text(&content[&(id, path.clone())]);
            found.insert(text(&path), (content, hardlink.as_deref().map(text)));
        }
        assert!(deep(&self.memory).is_clean());
        found
    }
}

fn names(tree: &Path, of: &str, names: &[&str]) {
    names.iter().for_each(|name| fs::hard_link(tree.join(of), tree.join(name)).unwrap());
}

fn file(content: &str, first: Option<&str>) -> (String, Option<String>) {
    (content.to_owned(), first.map(str::to_owned))
}

#[test]
fn a_first_name_that_was_replaced_gives_its_content_to_no_other_name() {
    let world = World::new();
    fs::write(world.tree.path().join("a"), "old").unwrap();
    names(world.tree.path(), "a", &["b", "c"]);
    let outcome = world.save(|tree| {
        fs::write(tree.join("0"), "new").unwrap();
        fs::rename(tree.join("0"), tree.join("a")).unwrap();
    });
    assert_eq!(outcome.statistics.skipped, 0);
    let saved = world.saved(&outcome);
    assert_eq!(saved["a"], file("new", None));
    assert_eq!((&saved["b"], &saved["c"]), (&file("old", None), &file("old", Some("b"))));
}

#[test]
fn a_first_name_that_vanished_costs_no_other_name() {
    let world = World::new();
    fs::write(world.tree.path().join("a"), "there").unwrap();
    names(world.tree.path(), "a", &["b", "c"]);
    let outcome = world.save(|tree| fs::remove_file(tree.join("a")).unwrap());
    assert_eq!((outcome.statistics.skipped, outcome.statistics.files), (0, 3));
    let saved = world.saved(&outcome);
    assert!(!saved.contains_key("a"));
    assert_eq!((&saved["b"], &saved["c"]), (&file("there", None), &file("there", Some("b"))));
}

#[test]
fn names_of_a_file_that_was_written_to_stay_together() {
    let world = World::new();
    fs::write(world.tree.path().join("a"), "old").unwrap();
    names(world.tree.path(), "a", &["b"]);
    let saved = world.saved(&world.save(|tree| fs::write(tree.join("b"), "and new").unwrap()));
    assert_eq!((&saved["a"], &saved["b"]), (&file("and new", None), &file("and new", Some("a"))));
    // the same with a parent that has them
    fs::write(world.tree.path().join("0"), "read first, again").unwrap();
    fs::write(world.tree.path().join("a"), "other").unwrap();
    let saved = world.saved(&world.save(|tree| fs::write(tree.join("b"), "again").unwrap()));
    assert_eq!((&saved["a"], &saved["b"]), (&file("again", None), &file("again", Some("a"))));
}
