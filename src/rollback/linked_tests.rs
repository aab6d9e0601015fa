//! Files that both trees have: each tree stays what it is, whoever writes to them, and wherever it is cut off.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use super::journal::{Journal, Kept};
use super::moment::testing::crash_after;
use super::tests::{Print, World, print_of, unlocked};
use super::*;
use crate::base::event::Quiet;

impl World {
    fn roll_back(&self) {
        assert_eq!(self.go(&self.options(Goal::Snapshot(self.to), Way::Exchange)), Ended::Done);
    }

    fn undo(&self) {
        assert_eq!(self.go(&self.options(Goal::Undo, Way::Exchange)), Ended::Done);
    }

    fn kept(&self) -> PathBuf {
        Kept::read(&self.state).unwrap().expect("a tree to go to").path.as_os_str().into()
    }

    fn append(&self, path: &str, text: &str) {
        let file = OpenOptions::new().append(true).open(self.root().join(path));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// What a service does that writes to files where they are, and gives one of them its old time again.
    fn spoil(&self) {
        self.append("code/1", "more");
        fs::set_permissions(self.root().join("code/3"), Permissions::from_mode(0o600)).unwrap();
        let same_size = self.root().join("code/5");
        let times = fs::metadata(&same_size).unwrap();
        fs::write(&same_size, "ONE 5").unwrap();
        let file = OpenOptions::new().write(true).open(&same_size).unwrap();
        file.set_modified(times.modified().unwrap()).unwrap();
    }

    fn inodes(&self, path: &str) -> (u64, u64) {
        let of = |tree: PathBuf| fs::metadata(tree.join(path)).unwrap().ino();
        (of(self.root()), of(self.kept()))
    }
}

#[test]
fn what_did_not_change_has_a_name_in_both_trees() {
    let world = World::new(false);
    world.change(0);
    world.roll_back();
    let (live, kept) = world.inodes("code/1");
    assert_eq!(live, kept);
    let (live, kept) = world.inodes("code/2");
    assert_ne!(live, kept);
    // a further rollback knows the names in the tree that was put aside
    world.change(1);
    world.roll_back();
    let (live, kept) = world.inodes("code/1");
    assert_eq!(live, kept);
    drop_kept(&world.state).unwrap();
    let left: Vec<_> =
        fs::read_dir(world.state.directory()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("linked")), "{left:?}");
}

#[test]
fn names_that_the_snapshot_does_not_know_are_not_shared() {
    let world = World::new(false);
    world.change(0);
    fs::hard_link(world.root().join("code/1"), world.root().join("code/alias")).unwrap();
    let old = world.print();
    world.roll_back();
    let (live, kept) = world.inodes("code/1");
    assert_ne!(live, kept);
    world.append("code/1", "more");
    world.undo();
    assert_eq!(world.print(), old);
}

#[test]
fn files_that_have_two_names_have_them_again() {
    let mut world = World::new(false);
    fs::hard_link(world.root().join("code/1"), world.root().join("code/second")).unwrap();
    world.to = save(&world.subject(), "good", "for a test", &Quiet).unwrap();
    // one of them becomes a file of its own
    fs::remove_file(world.root().join("code/second")).unwrap();
    fs::write(world.root().join("code/second"), "of its own").unwrap();
    let old = world.print();
    world.roll_back();
    let inode = |path: &str| fs::metadata(world.root().join(path)).unwrap().ino();
    assert_eq!(inode("code/1"), inode("code/second"));
    world.append("code/second", "more");
    let new = world.print();
    world.undo();
    assert_eq!(world.print(), old);
    world.append("code/1", "more of the other");
    let old = world.print();
    world.undo();
    assert_eq!(world.print(), new);
    world.undo();
    assert_eq!(world.print(), old);
}

#[test]
fn what_the_new_service_writes_is_not_in_the_tree_from_before() {
    let world = World::new(false);
    world.change(0);
    let old = world.print();
    world.roll_back();
    world.spoil();
    let new = world.print();
    assert_ne!(print_of(&world.kept()), old, "nothing was spoiled");
    world.undo();
    assert_eq!(world.print(), old);
    world.undo();
    assert_eq!(world.print(), new);
}

#[test]
fn what_the_old_service_writes_at_its_end_is_not_in_the_new_tree() {
    let world = World::new(true);
    let stop = world.root().join("stop.sh");
    let text = fs::read_to_string(&stop).unwrap();
    fs::write(&stop, format!("echo late >>code/1\n{text}")).unwrap();
    let mut old = world.print();
    world.roll_back();
    assert_eq!(world.print(), world.good);
    world.undo();
    old.get_mut("code/1").unwrap().1.extend(b"late\n");
    assert_eq!(world.print(), old);
}

#[test]
fn a_service_that_fails_leaves_nothing_in_the_tree_from_before() {
    let mut world = World::new(true);
    let start = world.root().join("start.sh");
    let text = fs::read_to_string(&start).unwrap();
    fs::write(&start, "echo broken >>code/1\nexit 3\n").unwrap();
    world.to = save(&world.subject(), "bad", "for a test", &Quiet).unwrap();
    fs::write(&start, text).unwrap();
    let old = world.print();
    let ended = world.go(&world.options(Goal::Snapshot(world.to), Way::Exchange));
    assert!(matches!(ended, Ended::Reverted { .. }), "{ended:?}");
    assert_eq!((world.print(), world.beside()), (old, 0));
}

// found by review: the tree from before had the file under a name that was not noted, and got what was written to it here
#[test]
fn a_file_that_gets_another_name_in_one_tree_is_shared_no_more() {
    let world = World::new(false);
    let (root, append) = (world.root().join("code"), |path: &str| world.append(path, "more"));
    world.change(0);
    world.roll_back();
    for rename in [true, false] {
        let (from, to) = if rename { ("1", "1.old") } else { ("3", "3.too") };
        let act = if rename {
            fs::rename(root.join(from), root.join(to))
        } else {
            fs::hard_link(root.join(from), root.join(to))
        };
        act.unwrap();
        let new = world.print();
        world.undo();
        append(&format!("code/{from}"));
        let old = world.print();
        world.undo();
        assert_eq!(world.print(), new, "{from}");
        append(&format!("code/{to}"));
        let new = world.print();
        world.undo();
        assert_eq!(world.print(), old, "{from}");
        world.undo();
        assert_eq!(world.print(), new, "{from}");
    }
}

#[test]
fn what_the_old_service_renames_at_its_end_is_not_written_to_by_the_new_one() {
    let mut world = World::new(true);
    let root = world.root();
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    let (start, stop) = (read("start.sh"), read("stop.sh"));
    let write = |name: &str, text: &str| fs::write(root.join(name), text).unwrap();
    write("start.sh", "echo broken >>code/1\nexit 3\n");
    world.to = save(&world.subject(), "bad", "for a test", &Quiet).unwrap();
    write("start.sh", &start);
    write("stop.sh", &format!("mv code/1 code/1.old 2>/dev/null\n{stop}"));
    let mut old = world.print();
    let ended = world.go(&world.options(Goal::Snapshot(world.to), Way::Exchange));
    assert!(matches!(ended, Ended::Reverted { .. }), "{ended:?}");
    let renamed = old.remove("code/1").unwrap();
    old.insert("code/1.old".to_owned(), renamed);
    assert_eq!(world.print(), old);
}

#[test]
fn the_tree_of_an_undo_is_not_dropped_under_one() {
    let world = World::new(false);
    world.change(0);
    world.roll_back();
    let held = journal::lock(&world.state).unwrap().unwrap();
    assert!(matches!(drop_kept(&world.state), Err(RollbackError::Locked)));
    drop(held);
    let (done, _) = crash_after(3, || world.go(&world.options(Goal::Undo, Way::Exchange)));
    assert!(done.is_none());
    assert!(matches!(drop_kept(&world.state), Err(RollbackError::UnfinishedRun(_))));
    unlocked(|| resume(&world.subject(), Direction::Revert, &Quiet));
    // cut off in the middle, nobody goes to what is left, and it can be dropped still
    let (done, seen) = crash_after(1, || drop_kept(&world.state));
    assert!(done.is_none(), "{seen:?}");
    assert!(Kept::read(&world.state).unwrap().is_none());
    assert!(drop_kept(&world.state).unwrap().is_some());
    assert_eq!((world.beside(), drop_kept(&world.state).unwrap()), (0, None));
}

#[test]
fn an_undo_that_cannot_have_its_files_is_refused() {
    let world = World::new(false);
    world.change(0);
    world.roll_back();
    world.spoil();
    let before = world.print();
    let found = walkdir::WalkDir::new(world.root().with_file_name("repo").join("snapshots"));
    for entry in found.into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file()) {
        fs::remove_file(entry.path()).unwrap();
    }
    let proposal = propose(&world.subject(), &world.options(Goal::Undo, Way::Exchange), &Quiet).unwrap();
    let why: Vec<_> = proposal.obstacles().iter().map(|obstacle| obstacle.what.as_str()).collect();
    assert!(why.iter().any(|why| why.contains("were written to since")), "{why:?}");
    assert_eq!(world.print(), before);
}

#[test]
fn cut_off_at_any_step_both_trees_stay_what_they_are() {
    let world = World::new(false);
    for (direction, step) in [(Direction::Finish, 1), (Direction::Revert, 3)] {
        let mut cuts = (0..).step_by(step);
        let seen = cuts.find_map(|moments| there_and_back(&world, direction, moments)).unwrap();
        for step in ["a file is brought back", "what both trees have is noted", "the exchange"] {
            assert!(seen.contains(&step), "{seen:?}");
        }
    }
}

/// An undo of files that were written to, cut off after so many moments; what was reached, if it was not.
fn there_and_back(world: &World, direction: Direction, moments: usize) -> Option<Vec<&'static str>> {
    // what was written to the last time comes back, and is shared again
    world.roll_back();
    world.change(moments);
    let old = world.print();
    world.roll_back();
    world.spoil();
    let new = world.print();
    let undo = world.options(Goal::Undo, Way::Exchange);
    let (done, seen) = crash_after(moments, || world.go(&undo));
    let when = format!("{direction:?} cut off after {:?}", seen.last());
    let is_one = |found: &Print| *found == old || *found == new;
    assert!(is_one(&world.print()), "{when}: a mixed tree");
    if pending(&world.state).unwrap().is_some() {
        let outcome = unlocked(|| resume(&world.subject(), direction, &Quiet));
        assert!(!matches!(outcome.ended, Ended::Broken { .. }), "{when}: {:?}", outcome.ended);
    }
    assert!(Journal::open(&world.state).unwrap().is_none(), "{when}: the journal is there");
    let ended = world.print();
    assert!(is_one(&ended), "{when}: a mixed tree after it was brought to an end");
    assert!(world.beside() <= 1, "{when}: {} trees are left", world.beside());
    // the other one is whole too
    let other = if ended == old { &new } else { &old };
    world.undo();
    assert_eq!(world.print(), *other, "{when}");
    world.undo();
    assert_eq!(world.print(), ended, "{when}");
    done.map(|_| seen)
}

#[test]
fn a_database_is_taken_over_from_the_live_tree_byte_for_byte() {
    let mut world = World::new(false);
    let db = rusqlite::Connection::open(world.root().join("data.db")).unwrap();
    db.execute_batch("create table t(x); insert into t values (1)").unwrap();
    drop(db);
    // so old that its times tell that it did not change
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    world.to = save(&world.subject(), "good", "for a test", &Quiet).unwrap();
    let chosen = choose::choose(&world.subject(), Goal::Snapshot(world.to)).unwrap();
    let built = world.root().with_file_name("built");
    let (taken, linked) = build::build(&world.subject(), &chosen, &built, &Quiet).unwrap();
    assert!(linked.iter().all(|file| file.0.0 != b"data.db"));
    assert_eq!(taken.files, taken.linked + 1, "of the files only the database is copied from there");
    fs::remove_dir_all(&built).unwrap();
    world.change(0);
    world.roll_back();
    let options = build::whole(&world.root());
    let wanted = std::collections::BTreeSet::from([b"data.db".to_vec()]);
    let unlike = crate::restore::unlike(&world.repo, &chosen.snapshot, &chosen.placement, &options, &wanted);
    assert_eq!(unlike.unwrap(), []);
    let (live, kept) = world.inodes("data.db");
    assert_ne!(live, kept);
}
