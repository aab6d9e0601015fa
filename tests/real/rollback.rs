//! Rollbacks of the sample application and of small trees: there and back, refused, taken back, cut off anywhere.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::env::{Done, TestEnv, have, have_root, long, run, say};

/// An application with a plan of its own.
pub struct App {
    pub env: TestEnv,
    pub dir: PathBuf,
}

impl App {
    /// A tree of small files without a service.
    fn small() -> Self {
        let env = TestEnv::new();
        let dir = env.path("app");
        Self::small_in(env, dir)
    }

    /// The same at this place.
    pub fn small_at(dir: &Path) -> Self {
        Self::small_in(TestEnv::new(), dir.to_owned())
    }

    /// What lies there, with its plan.
    pub fn of(dir: &Path) -> Self {
        Self { env: TestEnv::new(), dir: dir.to_owned() }
    }

    fn small_in(env: TestEnv, dir: PathBuf) -> Self {
        fs::create_dir_all(dir.join("code/deep")).unwrap();
        fs::create_dir_all(dir.join("logs")).unwrap();
        for number in 0..60 {
            fs::write(
                dir.join(format!("code/{number}.txt")),
                format!("version one of {number}\n").repeat(200),
            )
            .unwrap();
        }
        fs::write(dir.join("code/deep/only-before"), "here before\n").unwrap();
        fs::write(dir.join("logs/app.log"), "line 1\n").unwrap();
        fs::write(
            dir.join("lifeboat.toml"),
            "[app]\nname = \"small\"\nexclude = [\"logs/\", \"cache/\"]\nkeep_on_rollback = [\"logs/\"]\nrebuild = [\"cache/\"]\n",
        )
        .unwrap();
        let app = Self { env, dir };
        app.lifeboat(&["snapshot", "-q"]).ok();
        app
    }

    /// The sample application, running.
    fn sample() -> Option<Self> {
        if !have(&["python3", "sh", "setsid"]) {
            return None;
        }
        let env = TestEnv::new();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = env.path("aura");
        let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/aura/install.sh");
        run(Command::new(install).args(["--port", &port.to_string()]).arg(&dir)).ok();
        let app = Self { env, dir };
        run(Command::new("./start_aura.sh").current_dir(&app.dir)).ok();
        app.lifeboat(&["snapshot", "-q"]).ok();
        Some(app)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.env.command(args);
        command.arg("-c").arg(self.dir.join("lifeboat.toml"));
        command.env("LIFEBOAT_STATE_DIR", self.env.path("state")).stdin(Stdio::null());
        command
    }

    pub fn lifeboat(&self, args: &[&str]) -> Done {
        let done = run(&mut self.command(args));
        assert!(done.code != 101 && !done.stderr.contains("panicked"), "{}", done.stderr);
        done
    }

    /// What a bad change does to it.
    pub fn change(&self) {
        for number in (0..60).step_by(2) {
            fs::write(
                self.dir.join(format!("code/{number}.txt")),
                format!("VERSION TWO of {number}\n").repeat(190),
            )
            .unwrap();
        }
        let _ = fs::remove_dir_all(self.dir.join("code/deep"));
        fs::write(self.dir.join("code/only-after"), "here after\n").unwrap();
    }

    /// A hash over names, contents and modes of everything but live data, and databases: those are asked for their rows.
    pub fn print(&self) -> String {
        let mut all = Vec::new();
        let walk = walkdir::WalkDir::new(self.dir.canonicalize().unwrap()).min_depth(1).sort_by_file_name();
        for entry in walk.into_iter().map(Result::unwrap) {
            let path = entry.path().strip_prefix(self.dir.canonicalize().unwrap()).unwrap();
            if path.starts_with("logs")
                || path.starts_with("run")
                || path.starts_with("data")
                || path.ends_with("__pycache__")
            {
                continue;
            }
            let meta = entry.path().symlink_metadata().unwrap();
            let content = if meta.is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
            all.extend(format!("{} {:o} {}\n", path.display(), meta.mode(), content.len()).into_bytes());
            all.extend(content);
        }
        use sha2::Digest as _;
        hex::encode(sha2::Sha256::digest(all))
    }

    fn record(&self) -> Value {
        let done = self.lifeboat(&["log", "show", "--kind", "rollback", "--json"]).ok();
        let all: Value = serde_json::from_str(&done.stdout).unwrap();
        let list = all.as_array().cloned().or_else(|| all["records"].as_array().cloned()).unwrap();
        list.last().cloned().unwrap_or_default()
    }

    fn beside(&self) -> usize {
        let around = fs::read_dir(self.dir.parent().unwrap()).unwrap();
        around.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with(".lifeboat-")).count()
    }

    fn is_healthy(&self) -> bool {
        self.lifeboat(&["health", "health", "--json"]).code == 0
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let stop = self.dir.join("stop_aura.sh");
        if stop.exists() {
            let _ = Command::new(stop).stderr(Stdio::null()).status();
        }
    }
}

#[test]
fn files_database_and_service_go_back_and_forward_again() {
    let Some(app) = App::sample() else { return };
    let before = app.print();
    let sql =
        "import sqlite3,sys; c=sqlite3.connect(sys.argv[1]); c.execute('create table marker(x)'); c.commit()";
    let data = app.dir.join("data/aura.db");
    run(Command::new("python3").args(["-c", sql]).arg(&data)).ok();
    fs::write(app.dir.join("frontend/new.txt"), "a new file").unwrap();
    fs::write(app.dir.join("config/extra.json"), "{}").unwrap();
    fs::write(app.dir.join("logs/kept.txt"), "written since").unwrap();
    let rows = "import sqlite3,sys; print(sqlite3.connect(sys.argv[1]).execute(\"select count(*) from sqlite_master where name='marker'\").fetchone()[0])";
    let rows = || run(Command::new("python3").args(["-c", rows]).arg(&data)).ok().stdout;
    assert_eq!(rows(), "1\n");

    let dry = app.lifeboat(&["rollback", "--dry-run", "--json"]).ok();
    let dry: Value = serde_json::from_str(&dry.stdout).unwrap();
    assert_eq!(dry["possible"], true, "{dry}");
    assert_eq!(app.beside(), 0, "a dry run left something");
    assert!(app.dir.join("frontend/new.txt").exists());

    let done = app.lifeboat(&["rollback", "--reason", "a bad change", "--json"]).ok();
    let done: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(done["ended"]["verdict"], "done");
    assert!(done["downtime"].as_f64().unwrap() < 30.0);
    assert_eq!(app.print(), before);
    assert_eq!(rows(), "0\n");
    assert!(app.is_healthy());
    assert_eq!(fs::read_to_string(app.dir.join("logs/kept.txt")).unwrap(), "written since");
    let record = app.record();
    assert_eq!(record["body"]["verdict"], "pass", "{record}");
    assert!(record["body"]["scenario"].as_str().unwrap().contains("a bad change"));

    fs::write(app.dir.join("logs/later.txt"), "written after it").unwrap();
    app.lifeboat(&["undo"]).ok();
    assert!(app.is_healthy());
    assert_eq!(rows(), "1\n");
    assert!(app.dir.join("frontend/new.txt").exists());
    assert_eq!(fs::read_to_string(app.dir.join("logs/later.txt")).unwrap(), "written after it");
    // and the undo can be undone
    app.lifeboat(&["undo"]).ok();
    assert_eq!((app.print(), rows()), (before, "0\n".to_owned()));
    assert_eq!(app.beside(), 1);
    app.lifeboat(&["undo", "--drop"]).ok();
    assert_eq!(app.beside(), 0);
    let none = app.lifeboat(&["undo"]).exits(1);
    assert!(
        none.stderr.contains("nothing to undo") || none.stderr.contains("no rollback to undo"),
        "{}",
        none.stderr
    );
    app.lifeboat(&["log", "verify"]).ok();
}

#[test]
fn logs_that_have_their_name_in_both_trees_are_rotated_and_an_undo_finds_them() {
    for method in ["copytruncate", "rename"] {
        let app = App::small();
        let plan = fs::read_to_string(app.dir.join("lifeboat.toml")).unwrap();
        let rule = format!("{plan}[[rotate]]\nlog = \"logs/*.log\"\nmethod = \"{method}\"\n");
        fs::write(app.dir.join("lifeboat.toml"), rule).unwrap();
        app.lifeboat(&["snapshot", "-q"]).ok();
        app.change();
        app.lifeboat(&["rollback", "--yes"]).ok();
        let log = app.dir.join("logs/app.log");
        assert_eq!(fs::metadata(&log).unwrap().nlink(), 2);
        app.lifeboat(&["rotate", "--force", "--dry-run"]).ok();
        app.lifeboat(&["rotate", "--force"]).ok();
        assert_eq!(fs::read_to_string(&log).unwrap(), "");
        fs::write(&log, "line 2\n").unwrap();
        app.lifeboat(&["undo", "--yes"]).ok();
        assert!(app.dir.join("code/only-after").exists());
        assert_eq!(fs::read_to_string(&log).unwrap(), "line 2\n");
        let aside = fs::read_dir(app.dir.join("logs")).unwrap().map(|entry| entry.unwrap().path());
        let aside: Vec<_> = aside.filter(|path| *path != log).collect();
        assert_eq!(aside.len(), 1);
        let mut text = String::new();
        let mut file = fs::File::open(&aside[0]).unwrap();
        if aside[0].extension() == Some("gz".as_ref()) {
            flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
        } else {
            file.read_to_string(&mut text).unwrap();
        }
        assert_eq!(text, "line 1\n");
        // another name is one that nobody knows
        fs::hard_link(&log, app.env.path("elsewhere")).unwrap();
        app.lifeboat(&["rotate", "--force", "--dry-run"]).exits(1);
        app.lifeboat(&["rotate", "--force"]).exits(1);
        assert_eq!(fs::read_to_string(&log).unwrap(), "line 2\n");
    }
}

#[test]
fn a_service_that_does_not_come_up_takes_the_rollback_back() {
    let Some(app) = App::sample() else { return };
    // the snapshot that is gone to holds a server that cannot start
    let server = app.dir.join("backend/server.py");
    let good = fs::read_to_string(&server).unwrap();
    fs::write(&server, "raise SystemExit(3)\n").unwrap();
    app.lifeboat(&["snapshot", "-q", "--tag", "bad"]).ok();
    fs::write(&server, good).unwrap();
    let before = app.print();
    let done = app.lifeboat(&["rollback", "@bad"]).exits(30);
    assert!(done.stdout.contains("TAKEN BACK"), "{}", done.stdout);
    assert_eq!(app.print(), before);
    assert!(app.is_healthy());
    assert_eq!(app.beside(), 0);
    assert_eq!(app.record()["body"]["verdict"], "fail");
    let listed = app.lifeboat(&["log", "show", "--kind", "rollback"]).ok().stdout;
    assert!(listed.contains("FAILED") && !listed.contains("healthy after"), "{listed}");
    let none = app.lifeboat(&["rollback", "--resume"]).exits(1);
    assert!(none.stderr.contains("no rollback"), "{}", none.stderr);
}

#[test]
fn a_state_that_is_not_well_can_be_gone_to_if_that_is_accepted() {
    let Some(app) = App::sample() else { return };
    let plan = fs::read_to_string(app.dir.join("lifeboat.toml")).unwrap();
    let quick =
        plan.replacen("[service]\n", "[service]\nready_timeout = \"3s\"\nstart_timeout = \"3s\"\n", 1);
    fs::write(app.dir.join("lifeboat.toml"), quick).unwrap();
    app.lifeboat(&["snapshot", "-q"]).ok();
    // the first runs and says that it is not well; the second ends at once
    let server = app.dir.join("backend/server.py");
    let good = fs::read_to_string(&server).unwrap();
    let sick = good.replacen("\"healthy\"", "\"sick\"", 1);
    for bad in [sick, "raise SystemExit(3)\n".to_owned()] {
        fs::write(&server, &bad).unwrap();
        app.lifeboat(&["rollback", "--yes"]).ok();
        assert!(app.is_healthy());
        let done = app.lifeboat(&["undo", "--yes"]).exits(30);
        assert!(
            done.stdout.contains("next      the same command with --accept-unhealthy"),
            "{}",
            done.stdout
        );
        assert!(app.is_healthy());
        let done = app.lifeboat(&["undo", "--yes", "--accept-unhealthy"]).ok();
        assert!(
            done.stdout.contains("DONE") && done.stdout.contains("which was accepted"),
            "{}",
            done.stdout
        );
        assert_eq!(fs::read_to_string(&server).unwrap(), bad);
        assert!(!app.is_healthy());
        assert_eq!(app.record()["body"]["verdict"], "pass");
        // and back, from a state that is not well
        app.lifeboat(&["undo", "--yes"]).ok();
        assert!(app.is_healthy());
    }
}

#[test]
fn an_interrupt_after_the_stop_is_answered_and_it_goes_on_to_its_end() {
    let Some(app) = App::sample() else { return };
    let plan = fs::read_to_string(app.dir.join("lifeboat.toml")).unwrap();
    let slow = plan.replacen("\"./start_aura.sh\"", "\"sleep 2; exec ./start_aura.sh\"", 1);
    fs::write(app.dir.join("lifeboat.toml"), slow).unwrap();
    app.lifeboat(&["snapshot", "-q"]).ok();
    fs::write(app.dir.join("frontend/new.txt"), "a new file").unwrap();
    let child =
        app.command(&["rollback", "--yes"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let began = std::time::Instant::now();
    let starts = || {
        let states = fs::read_dir(app.env.path("state")).unwrap();
        let mut journals = states.map(|state| state.unwrap().path().join("rollback.json"));
        journals.any(|journal| fs::read_to_string(journal).is_ok_and(|text| text.contains("\"starting\"")))
    };
    while !starts() {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not come to the start");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let done = crate::env::finish(child, Duration::from_secs(60)).ok();
    assert_eq!(done.stderr.matches("interrupted, and it goes on to its end").count(), 1, "{}", done.stderr);
    assert!(!app.dir.join("frontend/new.txt").exists() && app.is_healthy());
}

#[test]
fn what_could_not_succeed_is_refused_before_anything_is_touched() {
    let app = App::small();
    app.change();
    let changed = app.print();
    let plan = app.dir.join("lifeboat.toml");
    let text = fs::read_to_string(&plan).unwrap();
    let with = |from: &str, to: &str| fs::write(&plan, text.replace(from, to)).unwrap();

    // data that no snapshot holds and nobody speaks of
    with("keep_on_rollback = [\"logs/\"]", "");
    let done = app.lifeboat(&["rollback"]).exits(1);
    assert!(done.stderr.contains("logs") && done.stderr.contains("keep_on_rollback"), "{}", done.stderr);
    // a service that cannot be stopped or started
    with("[app]", "[service]\nready_timeout = \"1s\"\n[app]");
    let done = app.lifeboat(&["rollback"]);
    assert!(matches!(done.code, 1 | 2), "{}", done.stderr);
    // a database elsewhere
    with(
        "[app]",
        "[[database]]\nkind = \"command\"\nname = \"far\"\ndump = \"true\"\nrestore = \"true\"\n[app]",
    );
    let done = app.lifeboat(&["rollback"]).exits(1);
    assert!(done.stderr.contains("far") && done.stderr.contains("--keep-databases"), "{}", done.stderr);
    fs::write(&plan, &text).unwrap();

    // a damaged repository
    let pack = walkdir::WalkDir::new(app.env.path("repo").join("packs")).into_iter().map(Result::unwrap);
    let packs: Vec<_> = pack.filter(|e| e.file_type().is_file()).map(|e| e.into_path()).collect();
    let away = app.env.path("away");
    fs::create_dir(&away).unwrap();
    for pack in &packs {
        fs::rename(pack, away.join(pack.file_name().unwrap())).unwrap();
    }
    let done = app.lifeboat(&["rollback"]);
    assert!(done.code != 0, "{}", done.stdout);
    assert_eq!((app.print(), app.beside()), (changed.clone(), 0));
    for pack in &packs {
        fs::rename(away.join(pack.file_name().unwrap()), pack).unwrap();
    }

    // the repository in the tree
    let (repo, inside) = (app.env.path("repo"), app.dir.join("repo"));
    fs::rename(&repo, &inside).unwrap();
    std::os::unix::fs::symlink(&inside, &repo).unwrap();
    let done = app.lifeboat(&["rollback"]).exits(1);
    assert!(done.stderr.contains("lies in the tree that would be exchanged"), "{}", done.stderr);
    assert_eq!(app.beside(), 0);
    fs::remove_file(&repo).unwrap();
    fs::rename(&inside, &repo).unwrap();

    if have_root("a mount point in the tree") && have(&["mount", "umount"]) {
        let point = app.dir.join("mnt");
        fs::create_dir(&point).unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&point)).ok();
        let done = app.lifeboat(&["rollback"]);
        run(Command::new("umount").arg(&point)).ok();
        fs::remove_dir(&point).unwrap();
        let done = done.exits(1);
        assert!(done.stderr.contains("is a mount point"), "{}", done.stderr);
    }
    app.lifeboat(&["rollback"]).ok();
    assert_ne!(app.print(), changed);
}

#[test]
fn in_place_goes_back_where_names_cannot_be_exchanged() {
    let app = App::small();
    let before = app.print();
    app.change();
    fs::create_dir(app.dir.join("cache")).unwrap();
    fs::write(app.dir.join("logs/app.log"), "line 1\nline 2\n").unwrap();
    let done = app.lifeboat(&["rollback", "--in-place"]).ok();
    assert!(done.stdout.contains("in-place"), "{}", done.stdout);
    fs::remove_dir(app.dir.join("cache")).unwrap();
    assert_eq!(app.print(), before);
    assert_eq!(fs::read_to_string(app.dir.join("logs/app.log")).unwrap(), "line 1\nline 2\n");
}

/// Runs SQL on the sample's database, or on that of a tree put aside; the first value of the last statement.
pub fn sql(database: &Path, text: &str) -> String {
    let code = "import sqlite3,sys\nc=sqlite3.connect(sys.argv[1])\nfor s in sys.argv[2].split(';'): r=c.execute(s).fetchone()\nc.commit()\nprint(r[0] if r else '')";
    run(Command::new("python3").args(["-c", code]).arg(database).arg(text)).ok().stdout.trim().to_owned()
}

#[test]
fn databases_that_stay_keep_every_row_in_place_and_exchanged() {
    let Some(app) = App::sample() else { return };
    let data = app.dir.join("data/aura.db");
    let count = || sql(&data, "select count(*) from readings");
    let add = || {
        sql(&data, "insert into readings select * from readings limit 0; select 1");
        sql(
            &data,
            "create table if not exists kept(x); insert into kept values (1); select count(*) from kept",
        )
    };
    // the table is of both: only rows differ
    assert_eq!(add(), "1");
    let before = count();
    app.lifeboat(&["snapshot", "-q"]).ok();
    for (round, way) in [&["--in-place"][..], &[], &["--in-place"]].iter().enumerate() {
        fs::write(app.dir.join("frontend/new.txt"), "a new file").unwrap();
        let rows = add();
        assert_eq!(rows, (round + 2).to_string());
        let args = [&["rollback", "--keep-databases", "--newest"], *way].concat();
        let done = app.lifeboat(&args).ok();
        assert!(!app.dir.join("frontend/new.txt").exists(), "{}", done.stdout);
        assert_eq!(sql(&data, "select count(*) from kept"), rows, "{way:?}: a row is lost");
        assert_eq!(sql(&data, "pragma integrity_check"), "ok");
        assert_eq!(count(), before);
        assert!(app.is_healthy());
    }
    // the way forward again keeps them too
    fs::write(app.dir.join("frontend/new.txt"), "a new file").unwrap();
    app.lifeboat(&["rollback", "--keep-databases", "--newest"]).ok();
    let rows = add();
    app.lifeboat(&["undo"]).ok();
    assert!(app.dir.join("frontend/new.txt").exists());
    assert_eq!(sql(&data, "select count(*) from kept"), rows);
    assert_eq!(sql(&data, "pragma integrity_check"), "ok");
    // without the flag they go back
    app.lifeboat(&["rollback", "--in-place", "--newest"]).ok();
    assert_eq!(sql(&data, "select count(*) from kept"), "1");
}

#[test]
fn a_rollback_that_is_taken_back_loses_nothing_that_the_new_service_wrote() {
    let Some(app) = App::sample() else { return };
    // the snapshot that is gone to holds a server that writes live data and a row, and ends
    let server = app.dir.join("backend/server.py");
    let good = fs::read_to_string(&server).unwrap();
    let data = app.dir.join("data/aura.db");
    sql(&data, "create table kept(x); select 1");
    let bad = "import os,sqlite3,sys\nopen('logs/new.log','w').write('new')\nc=sqlite3.connect('data/aura.db')\nc.execute('pragma journal_mode=wal')\nc.execute('insert into kept values (2)')\nc.commit()\nos._exit(3)\n";
    fs::write(&server, bad).unwrap();
    app.lifeboat(&["snapshot", "-q", "--tag", "bad"]).ok();
    fs::write(&server, good).unwrap();
    let done = app.lifeboat(&["rollback", "@bad", "--keep-databases"]).exits(30);
    assert!(app.dir.join("logs/new.log").exists(), "{}", done.stdout);
    assert_eq!(sql(&data, "select count(*) from kept"), "1", "a committed row is lost");
    assert_eq!(sql(&data, "pragma integrity_check"), "ok");
    assert!(app.is_healthy());
}

#[test]
fn a_repository_from_before_a_rollback_is_noticed_by_the_next_command() {
    let app = App::small();
    let (repo, old) = (app.env.path("repo"), app.env.path("old"));
    run(Command::new("cp").arg("-a").arg(&repo).arg(&old)).ok();
    app.change();
    app.lifeboat(&["rollback"]).ok();
    fs::remove_dir_all(&repo).unwrap();
    fs::rename(&old, &repo).unwrap();
    let done = app.lifeboat(&["snapshots"]).ok();
    assert!(done.stderr.contains("older-repository"), "{}", done.stderr);
}

#[test]
fn killed_at_any_moment_it_is_the_old_tree_or_the_new_one() {
    killed_at_any_moment(&App::small(), if long() { 500 } else { 24 });
}

/// So many rollbacks, and every fourth time an undo, killed at random instants and brought to an end.
pub fn killed_at_any_moment(app: &App, rounds: u64) {
    let new = app.print();
    let (mut olds, mut news, mut state) = (0, 0, 7u64);
    for round in 0..rounds {
        app.change();
        let old = app.print();
        fs::write(app.dir.join("logs/app.log"), format!("line 1\nround {round}\n")).unwrap();
        let mut child = app.command(&["rollback", "--no-safety", "-q"]);
        let child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut kill = |mut child: std::process::Child| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            std::thread::sleep(Duration::from_micros((state >> 33) % 400_000));
            child.kill().unwrap();
            child.wait().unwrap();
        };
        kill(child);
        let found = app.print();
        assert!(found == old || found == new, "round {round}: a mixed tree");
        let log = fs::read_to_string(app.dir.join("logs/app.log")).unwrap();
        assert_eq!(log, format!("line 1\nround {round}\n"), "live data is lost");
        if app.lifeboat(&["rollback", "--resume"]).code == 1 {
            // nothing had begun, or all was over
            assert!(found == app.print());
        }
        let found = app.print();
        assert!(found == old || found == new, "round {round}: a mixed tree after it was brought to an end");
        let quiet = app.lifeboat(&["snapshots", "-q"]).ok();
        assert!(!quiet.stderr.contains("cut off"), "{}", quiet.stderr);
        if found == new {
            news += 1
        } else {
            olds += 1
        }
        app.lifeboat(&["rollback", "--no-safety", "-q"]).ok();
        assert_eq!(app.print(), new, "round {round}");
        assert!(app.beside() <= 1, "{} trees are left", app.beside());
        if round % 4 != 3 {
            continue;
        }
        // an undo of a tree of which the service wrote to files that both trees have
        for number in [1, 3, 5] {
            let file = fs::OpenOptions::new().append(true).open(app.dir.join(format!("code/{number}.txt")));
            file.unwrap().write_all(format!("in round {round}\n").as_bytes()).unwrap();
        }
        let written = app.print();
        let mut child = app.command(&["undo", "-q"]);
        kill(child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let ends = [found.clone(), written];
        assert!(ends.contains(&app.print()), "round {round}: a mixed tree");
        app.lifeboat(&["rollback", "--resume"]);
        let ended = app.print();
        assert!(ends.contains(&ended), "round {round}: a mixed tree after it was brought to an end");
        for _ in 0..2 {
            app.lifeboat(&["undo", "-q"]).ok();
            assert!(ends.contains(&app.print()), "round {round}: a mixed tree on the way back");
        }
        assert_eq!(app.print(), ended, "round {round}");
        app.lifeboat(&["rollback", "--no-safety", "-q"]).ok();
        assert_eq!(app.print(), new, "round {round}");
    }
    say(&format!(
        "{rounds} rollbacks killed: {olds} were the old tree afterwards, {news} the new one, 0 mixed"
    ));
}
