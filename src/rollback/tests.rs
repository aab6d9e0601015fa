//! Cut off at each step: the tree is the old one or the new one, and whoever comes later brings it to an end.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::journal::{Journal, Kept};
use super::moment::testing::crash_after;
use super::*;
use crate::base::event::Quiet;
use crate::base::id::SnapshotId;
use crate::base::time::Clock;
use crate::plan::Plan;
use crate::repo::keys::WriterKey;
use crate::repo::{Repo, open};
use crate::service::Service;
use crate::store::Store;
use crate::store::local::LocalStore;

/// Mode and content by path.
pub type Print = BTreeMap<String, (u32, Vec<u8>)>;

const PLAN: &str = r#"[app]
name = "small"
exclude = ["logs/", "run/"]
keep_on_rollback = ["logs/"]
rebuild = ["run/"]
"#;
const SERVICE: &str = r#"[service]
start = "sh start.sh"
stop = "sh stop.sh"
ready = ["up"]
ready_count = 1
[[check]]
name = "up"
file = "run/pid"
"#;
const START: &str = "mkdir -p run\nsetsid sleep 1000 </dev/null >/dev/null 2>&1 &\necho $! >run/pid\n";
const STOP: &str = "[ -f run/pid ] || exit 0\nkill $(cat run/pid)\nrm run/pid\n";

/// An application with a service, a snapshot of it, and what a rollback needs.
pub struct World {
    pub dir: tempfile::TempDir,
    pub repo: Repo,
    pub key: WriterKey,
    pub plan: Plan,
    pub state: State,
    pub to: SnapshotId,
    pub good: Print,
    pub round: Cell<usize>,
}

#[expect(clippy::disallowed_methods, reason = "a switch for developers")]
fn is_subvolume() -> bool {
    std::env::var_os("LIFEBOAT_TEST_SUBVOLUME").is_some()
}

impl World {
    pub fn new(has_service: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("app");
        // with TMPDIR on a btrfs: docs/reliability.md
        if is_subvolume() {
            let made = std::process::Command::new("btrfs").args(["subvolume", "create"]).arg(&root).status();
            assert!(made.unwrap().success());
        }
        fs::create_dir_all(root.join("code/deep")).unwrap();
        fs::create_dir(root.join("logs")).unwrap();
        for number in 0..8 {
            fs::write(root.join(format!("code/{number}")), format!("one {number}")).unwrap();
        }
        fs::write(root.join("code/deep/before"), "before").unwrap();
        fs::write(root.join("logs/log"), "").unwrap();
        let plan = if has_service { format!("{PLAN}{SERVICE}") } else { PLAN.to_owned() };
        for (name, text) in [("start.sh", START), ("stop.sh", STOP), ("lifeboat.toml", &plan)] {
            fs::write(root.join(name), text).unwrap();
        }
        let key = WriterKey::generate("test").unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(dir.path().join("repo")).unwrap());
        open::create(&store, key.public(), Clock::System).unwrap();
        let repo = Repo::open(store, Clock::System).unwrap();
        let plan = Plan::load(&root.join("lifeboat.toml")).unwrap();
        let state = State::of(&dir.path().join("state"), &root);
        let good = print_of(&root);
        let mut world =
            Self { dir, repo, key, plan, state, to: SnapshotId([0; 32]), good, round: Cell::new(0) };
        world.to = save(&world.subject(), "good", "for a test", &Quiet).unwrap();
        if let Some(service) = world.service() {
            service.start(&Quiet).unwrap();
        }
        world
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("app")
    }

    pub fn subject(&self) -> Subject<'_> {
        Subject {
            repo: &self.repo,
            key: &self.key,
            plan: &self.plan,
            state: &self.state,
            plan_sha256: String::new(),
            program: PathBuf::from("/proc/self/exe"),
            sudo_user: None,
            outside: Vec::new(),
        }
    }

    pub fn service(&self) -> Option<Service> {
        Service::of(&self.plan).map(|service| service.remembering(self.state.clone()))
    }

    /// What a bad change does.
    pub fn change(&self, round: usize) {
        for number in (0..8).step_by(2) {
            fs::write(self.root().join(format!("code/{number}")), format!("two {number} {round}")).unwrap();
        }
        let _ = fs::remove_dir_all(self.root().join("code/deep"));
        fs::write(self.root().join("code/after"), "after").unwrap();
    }

    /// A line in the log, which is live data.
    pub fn log(&self, round: usize) {
        let path = self.root().join("logs/log");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{text}{round}\n")).unwrap();
        fs::write(self.root().join(format!("logs/of {round}")), "").unwrap();
    }

    pub fn assert_live_data(&self, rounds: usize, when: &str) {
        let text = fs::read_to_string(self.root().join("logs/log")).unwrap();
        let wanted: String = (0..=rounds).map(|round| format!("{round}\n")).collect();
        assert_eq!(text, wanted, "{when}");
        for round in 0..=rounds {
            assert!(self.root().join(format!("logs/of {round}")).exists(), "{when}: of {round}");
        }
    }

    pub fn print(&self) -> Print {
        print_of(&self.root())
    }

    pub fn go(&self, options: &Options) -> Ended {
        let subject = self.subject();
        let proposal = propose(&subject, options, &Quiet).unwrap();
        unlocked(|| perform(&subject, &proposal, options, &Quiet)).ended
    }

    pub fn options(&self, goal: Goal, way: Way) -> Options {
        let safety = way == Way::InPlace;
        Options { goal, way, safety, ..Options::default() }
    }

    pub fn beside(&self) -> usize {
        let around = fs::read_dir(self.dir.path()).unwrap();
        around.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with(".lifeboat-")).count()
    }

    /// Cuts a way off at each of its moments and has it brought to an end in this direction. Returns their names.
    pub fn cut(&self, (goal, way): (Goal, Way), direction: Direction, step: usize) -> Vec<&'static str> {
        // each round adds live data, and between subvolumes each file of it is a step of its own
        let step = if is_subvolume() { step * 7 } else { step };
        for moments in (0..).step_by(step) {
            let round = self.round.get();
            let new = match goal {
                Goal::Undo => {
                    let kept = Kept::read(&self.state).unwrap().expect("a tree to go to");
                    print_of(Path::new(kept.path.as_os_str()))
                }
                _ => {
                    self.change(round);
                    self.good.clone()
                }
            };
            self.log(round);
            self.round.set(round + 1);
            let old = self.print();
            assert_ne!(old, new);
            let (done, seen) = crash_after(moments, || self.go(&self.options(goal, way)));
            let when = format!("{goal:?} {way:?} {direction:?} cut off after {:?}", seen.last());
            self.assert_live_data(round, &when);
            if let Some(ended) = done {
                assert_eq!((ended, self.print()), (Ended::Done, new), "{when}");
                return seen;
            }
            let found = self.print();
            assert!(way == Way::InPlace || found == old || found == new, "{when}: a mixed tree");
            let was_pending = pending(&self.state).unwrap().is_some();
            if was_pending {
                let outcome = unlocked(|| resume(&self.subject(), direction, &Quiet));
                assert!(!matches!(outcome.ended, Ended::Broken { .. }), "{when}: {:?}", outcome.ended);
            }
            let ended = self.print();
            assert!(ended == old || ended == new, "{when}: a mixed tree after it was brought to an end");
            let taken_back = ended == old;
            assert!(!was_pending || direction == Direction::Finish || taken_back, "{when}: not taken back");
            assert!(Journal::open(&self.state).unwrap().is_none(), "{when}: the journal is there");
            assert!(self.beside() <= 1, "{when}: {} trees are left", self.beside());
            assert!(self.is_well(), "{when}: the service does not run");
            self.assert_live_data(round, &when);
        }
        unreachable!()
    }

    pub fn is_well(&self) -> bool {
        self.service().is_none_or(|service| service.state().is_running())
    }
}

/// What another test of this process starts has our lock too, until it has become another program.
pub fn unlocked(act: impl Fn() -> std::result::Result<Outcome, RollbackError>) -> Outcome {
    for _ in 0..500 {
        match act() {
            Err(RollbackError::Locked) => std::thread::sleep(std::time::Duration::from_millis(10)),
            other => return other.unwrap(),
        }
    }
    panic!("the lock is held");
}

/// All that is there but live data and what programs make again.
pub fn print_of(root: &Path) -> Print {
    let mut all = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).into_iter().map(Result::unwrap) {
        let path = entry.path().strip_prefix(root).unwrap().display().to_string();
        if path.starts_with("logs") || path.starts_with("run") {
            continue;
        }
        let meta = entry.metadata().unwrap();
        let content = if meta.is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
        all.insert(path, (meta.permissions().mode(), content));
    }
    all
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(service) = self.service() {
            let _ = service.stop(&Quiet);
        }
    }
}

#[test]
fn cut_off_at_any_step_an_exchange_is_the_old_tree_or_the_new_one() {
    let world = World::new(false);
    for direction in [Direction::Finish, Direction::Revert] {
        let seen = world.cut((Goal::Snapshot(world.to), Way::Exchange), direction, 1);
        for step in
            ["the new tree is built", "the exchange", "live data has its names", "the journal is removed"]
        {
            assert!(seen.contains(&step), "{seen:?}");
        }
    }
}

#[test]
fn cut_off_the_service_is_brought_up_again() {
    let world = World::new(true);
    for direction in [Direction::Finish, Direction::Revert] {
        // all of them without a service: here some will do, as it takes its time to start
        world.cut((Goal::Snapshot(world.to), Way::Exchange), direction, 6);
    }
}

#[test]
fn cut_off_at_any_step_an_undo_is_the_old_tree_or_the_new_one() {
    let world = World::new(false);
    world.change(0);
    world.go(&world.options(Goal::Snapshot(world.to), Way::Exchange));
    for direction in [Direction::Finish, Direction::Revert] {
        let seen = world.cut((Goal::Undo, Way::Exchange), direction, 1);
        assert!(seen.contains(&"the exchange"), "{seen:?}");
    }
}

#[test]
fn cut_off_at_any_step_a_rewriting_in_place_is_brought_to_an_end() {
    let world = World::new(false);
    for direction in [Direction::Finish, Direction::Revert] {
        let seen = world.cut((Goal::Snapshot(world.to), Way::InPlace), direction, 1);
        assert!(seen.contains(&"what differs is rewritten"), "{seen:?}");
    }
}

#[test]
fn a_name_in_the_tree_is_no_pattern() {
    let mut world = World::new(false);
    let plan = world.root().join("lifeboat.toml");
    let text = PLAN
        .replace("keep_on_rollback = [\"logs/\"]", "keep_on_rollback = [\"logs/\", \"/data/\\\\[x\\\\]*\"]");
    fs::write(&plan, text).unwrap();
    world.plan = Plan::load(&plan).unwrap();
    fs::create_dir(world.root().join("data")).unwrap();
    for name in ["[x]*", "x"] {
        fs::write(world.root().join("data").join(name), "then").unwrap();
    }
    let to = save(&world.subject(), "good", "for a test", &Quiet).unwrap();
    for name in ["[x]*", "x"] {
        fs::write(world.root().join("data").join(name), "since then").unwrap();
    }
    let ended = world.go(&world.options(Goal::Snapshot(to), Way::InPlace));
    assert_eq!(ended, Ended::Done);
    let read = |name: &str| fs::read_to_string(world.root().join("data").join(name)).unwrap();
    assert_eq!((read("[x]*"), read("x")), ("since then".to_owned(), "then".to_owned()));
}

// found by review: package managers give all files the same old time
#[test]
fn in_place_brings_back_what_size_and_time_do_not_tell() {
    let world = World::new(false);
    let path = world.root().join("code/1");
    let times = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "ONE 1").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();
    assert_eq!(world.go(&world.options(Goal::Snapshot(world.to), Way::InPlace)), Ended::Done);
    assert_eq!(fs::read_to_string(path).unwrap(), "one 1");
}

#[test]
fn live_data_that_was_removed_does_not_come_back() {
    for way in [Way::Exchange, Way::InPlace] {
        let mut world = World::new(false);
        let plan = world.root().join("lifeboat.toml");
        let text = PLAN.replace(
            "keep_on_rollback = [\"logs/\"]",
            "keep_on_rollback = [\"logs/\", \"*.pid\", \"/up/*.jpg\"]",
        );
        fs::write(&plan, text).unwrap();
        world.plan = Plan::load(&plan).unwrap();
        fs::create_dir(world.root().join("up")).unwrap();
        let pictures = ["up/gone.jpg", "up/stays.jpg", "x.pid"].map(|name| world.root().join(name));
        pictures.iter().for_each(|path| fs::write(path, "then").unwrap());
        world.to = save(&world.subject(), "good", "for a test", &Quiet).unwrap();
        for path in [&pictures[0], &pictures[2]] {
            fs::remove_file(path).unwrap();
        }
        fs::write(&pictures[1], "now").unwrap();
        let options = world.options(Goal::Snapshot(world.to), way);
        let proposal = propose(&world.subject(), &options, &Quiet).unwrap();
        assert!(proposal.notes.iter().any(|note| note.contains("up/gone.jpg")), "{:?}", proposal.notes);
        assert_eq!(world.go(&options), Ended::Done);
        let there = pictures.each_ref().map(|path| path.exists());
        assert_eq!(there, [false, true, false], "{way:?}");
        assert_eq!(fs::read_to_string(&pictures[1]).unwrap(), "now");
        if way == Way::Exchange {
            fs::remove_file(&pictures[1]).unwrap();
            assert_eq!(world.go(&world.options(Goal::Undo, way)), Ended::Done);
            assert!(
                pictures.iter().all(|path| !path.exists()),
                "{:?}",
                pictures.each_ref().map(|p| p.exists())
            );
        }
    }
}

// found by review: nothing can be carried into a link, and that was noticed when the service was stopped
#[test]
fn a_database_that_stays_may_lie_behind_a_link_of_the_tree() {
    let mut world = World::new(false);
    let root = world.root();
    fs::create_dir_all(root.join("shared/data")).unwrap();
    std::os::unix::fs::symlink("shared/data", root.join("data")).unwrap();
    let database = root.join("shared/data/app.db");
    let run = |sql: &str| rusqlite::Connection::open(&database).unwrap().execute_batch(sql).unwrap();
    run("CREATE TABLE t (x); INSERT INTO t VALUES (1);");
    let plan = root.join("lifeboat.toml");
    fs::write(&plan, format!("{PLAN}[[database]]\nkind = \"sqlite\"\npath = \"data/app.db\"\n")).unwrap();
    world.plan = Plan::load(&plan).unwrap();
    world.to = save(&world.subject(), "good", "for a test", &Quiet).unwrap();
    run("INSERT INTO t VALUES (2);");
    world.change(0);
    let options = Options { keep_databases: true, ..world.options(Goal::Snapshot(world.to), Way::Exchange) };
    assert_eq!(world.go(&options), Ended::Done);
    let count = || -> i64 {
        let db = rusqlite::Connection::open(&database).unwrap();
        db.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count(), 2);
    assert_eq!(fs::read_to_string(root.join("code/2")).unwrap(), "one 2");
    run("INSERT INTO t VALUES (3);");
    assert_eq!(world.go(&world.options(Goal::Undo, Way::Exchange)), Ended::Done);
    assert_eq!(count(), 3);
}

#[test]
fn a_database_that_no_snapshot_holds_stops_it_unless_databases_stay() {
    let mut world = World::new(false);
    let plan = world.root().join("lifeboat.toml");
    let database = world.root().with_file_name("far.db");
    rusqlite::Connection::open(&database).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    fs::write(&plan, format!("{PLAN}[[database]]\nkind = \"sqlite\"\npath = \"../far.db\"\n")).unwrap();
    world.plan = Plan::load(&plan).unwrap();
    let to = save(&world.subject(), "good", "for a test", &Quiet).unwrap();
    assert!(world.repo.document(to).unwrap().is_partial());
    world.change(0);
    let options = world.options(Goal::Previous, Way::Exchange);
    let proposal = propose(&world.subject(), &options, &Quiet).unwrap();
    assert_eq!(proposal.snapshot, Some(to), "an older one is not taken instead");
    let why: Vec<_> = proposal.obstacles().iter().map(|obstacle| obstacle.what.as_str()).collect();
    assert!(why.iter().any(|why| why.contains("far.db")), "{why:?}");
    assert_eq!(world.go(&Options { keep_databases: true, ..options }), Ended::Done);
    assert_eq!(fs::read_to_string(world.root().join("code/2")).unwrap(), "one 2");
}

// found by review: the application was down, and the status said that all was as before
#[test]
fn on_the_way_back_nothing_unhealthy_is_accepted() {
    let world = World::new(true);
    let options =
        Options { accept_unhealthy: true, ..world.options(Goal::Snapshot(world.to), Way::Exchange) };
    let (done, seen) = crash_after(1000, || world.go(&options));
    assert_eq!(done, Some(Ended::Done));
    let exchange = seen.iter().position(|moment| *moment == "before the exchange").unwrap();
    let (done, seen) = crash_after(exchange, || world.go(&options));
    assert!(done.is_none(), "{seen:?}");
    let start = world.root().join("start.sh");
    let text = fs::read_to_string(&start).unwrap();
    fs::write(&start, "exit 3\n").unwrap();
    let ended = unlocked(|| resume(&world.subject(), Direction::Revert, &Quiet)).ended;
    assert!(matches!(ended, Ended::Broken { .. }), "{ended:?}");
    fs::write(&start, text).unwrap();
    let ended = unlocked(|| resume(&world.subject(), Direction::Revert, &Quiet)).ended;
    assert!(matches!(ended, Ended::Reverted { .. }), "{ended:?}");
    assert!(world.is_well());
}

// The plan may have other rules by now than the snapshot was taken with.
#[test]
fn what_the_snapshot_was_told_to_leave_out_stops_it() {
    let mut world = World::new(false);
    let text = fs::read_to_string(world.root().join("lifeboat.toml")).unwrap();
    let excluding = text.replacen("exclude = [", "exclude = [\"/uploads/\", ", 1);
    assert_ne!(text, excluding);
    fs::write(world.root().join("lifeboat.toml"), &excluding).unwrap();
    world.plan = Plan::load(&world.root().join("lifeboat.toml")).unwrap();
    world.to = save(&world.subject(), "good", "for a test", &Quiet).unwrap();
    fs::write(world.root().join("lifeboat.toml"), &text).unwrap();
    world.plan = Plan::load(&world.root().join("lifeboat.toml")).unwrap();
    fs::create_dir(world.root().join("uploads")).unwrap();
    fs::write(world.root().join("uploads/picture"), "of a customer").unwrap();
    for way in [Way::Exchange, Way::InPlace] {
        let options = world.options(Goal::Snapshot(world.to), way);
        let proposal = propose(&world.subject(), &options, &Quiet).unwrap();
        let why: Vec<_> = proposal.obstacles().iter().map(|obstacle| obstacle.what.as_str()).collect();
        assert!(why.iter().any(|why| why.contains("uploads")), "{why:?}");
    }
}

#[test]
fn only_directories_in_which_nothing_changed_are_settled() {
    let mut world = World::new(false);
    let root = world.root();
    for path in ["a/deep/still", "b/changed", "c/more", "d/less", "e/inside", "f"] {
        fs::create_dir_all(root.join(path)).unwrap();
        fs::write(root.join(path).join("file"), "x").unwrap();
    }
    // so old that its times tell that it did not change
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    world.to = save(&world.subject(), "good", "for a test", &Quiet).unwrap();
    fs::write(root.join("b/changed/file"), "y").unwrap();
    fs::write(root.join("c/more/other"), "x").unwrap();
    fs::remove_file(root.join("d/less/file")).unwrap();
    fs::remove_dir_all(root.join("e/inside")).unwrap();
    fs::set_permissions(root.join("f"), fs::Permissions::from_mode(0o700)).unwrap();
    let chosen = choose::choose(&world.subject(), Goal::Snapshot(world.to)).unwrap();
    let settled = |before: i64| {
        let trusted_before = crate::format::manifest::Time(before, 0);
        let loaded = world.repo.load(crate::repo::load::Condemned::Use).unwrap();
        let store = world.repo.store();
        let mut chunks = crate::repo::reader::ChunkReader::new(store, &loaded.index, 4).unwrap();
        let manifest = &chosen.snapshot.document.roots[chosen.placement.root].manifest;
        let twin = crate::restore::Twin { tree: root.clone(), trusted_before };
        let found = crate::restore::settled(&mut chunks, manifest, &chosen.placement, &twin).unwrap();
        found.into_iter().map(|path| String::from_utf8(path).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(settled(i64::MAX), ["a", "code"]);
    assert_eq!(settled(0), [""; 0]);
}
