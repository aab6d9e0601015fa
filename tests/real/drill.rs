//! Drills of the sample application and of small ones: what passes, what must not, what is left, and that the copy
//! and production never meet.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::env::{Done, TestEnv, have, is_root, long, run, skip};

/// Whether a copy can be kept apart from production here.
pub fn have_sandbox() -> bool {
    let env = TestEnv::new();
    let app = App::small(&env, "");
    let done = app.drill(&[]);
    if done.code == 22 {
        skip(&format!("this host allows no sandbox: {}", done.stderr));
    }
    done.code != 22
}

/// An application with a plan beside it.
struct App<'e> {
    env: &'e TestEnv,
    dir: PathBuf,
}

impl<'e> App<'e> {
    /// One file, one test that looks at it, and what else the plan is to say of the drill.
    fn small(env: &'e TestEnv, drill: &str) -> Self {
        let dir = env.path("app");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("data.txt"), "42 rows\n").unwrap();
        let plan = format!(
            "[app]\nname = \"small\"\n\n[[check]]\nname = \"rows\"\ncommand = \"grep -q '42 rows' data.txt\"\n\
             data_proving = true\n\n[drill]\n{drill}\n"
        );
        fs::write(dir.join("lifeboat.toml"), plan).unwrap();
        let app = Self { env, dir };
        app.snapshot();
        app
    }

    /// The sample application on a free port.
    fn sample(env: &'e TestEnv) -> (Self, u16) {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = env.path("aura");
        let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/aura/install.sh");
        run(Command::new(install).args(["--port", &port.to_string()]).arg(&dir)).ok();
        let app = Self { env, dir };
        app.snapshot();
        (app, port)
    }

    fn snapshot(&self) -> String {
        let done = self.lifeboat(&["snapshot", "-q"]).ok();
        done.stdout.trim().to_owned()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.env.command(args);
        command.current_dir(&self.dir);
        command
    }

    fn lifeboat(&self, args: &[&str]) -> Done {
        let done = run(&mut self.command(args));
        assert!(done.code != 101 && !done.stderr.contains("panicked"), "{}", done.stderr);
        done
    }

    /// Where copies are made.
    fn place(&self) -> PathBuf {
        let place = self.env.path("copies");
        fs::create_dir_all(&place).unwrap();
        place
    }

    fn drill(&self, args: &[&str]) -> Done {
        let place = self.place();
        let mut all = vec!["drill", "--json", "--in", place.to_str().unwrap()];
        all.extend(args);
        self.lifeboat(&all)
    }

    /// What lies in the place for copies.
    fn left(&self) -> Vec<PathBuf> {
        fs::read_dir(self.place()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    fn replace_in_plan(&self, from: &str, to: &str) {
        let path = self.dir.join("lifeboat.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from));
        fs::write(path, text.replace(from, to)).unwrap();
    }
}

// What a command that takes long says of its progress comes before.
fn record(done: &Done) -> Value {
    let last = done.stdout.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {}{}", done.stdout, done.stderr))
}

fn text<'v>(record: &'v Value, key: &str) -> &'v str {
    record[key].as_str().unwrap_or_default()
}

/// The sample application's server at its own place, as production.
struct Production(Child);

impl Production {
    fn start(app: &App<'_>, port: u16) -> Self {
        let server = Command::new("python3")
            .args(["-B", "backend/server.py"])
            .current_dir(&app.dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let production = Self(server);
        let began = Instant::now();
        while !is_healthy(port) {
            assert!(began.elapsed() < Duration::from_secs(30), "production does not come up");
            std::thread::sleep(Duration::from_millis(50));
        }
        production
    }
}

impl Drop for Production {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_healthy(port: u16) -> bool {
    let url = format!("http://127.0.0.1:{port}/health");
    let asked = Command::new("python3")
        .args(["-c", "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)", &url])
        .stderr(Stdio::null())
        .status();
    asked.unwrap().success()
}

#[test]
fn the_sample_application_passes_and_its_record_is_complete() {
    if !have(&["python3", "ssh-keygen"]) || !have_sandbox() {
        return;
    }
    let env = TestEnv::new();
    let (app, _) = App::sample(&env);
    // the newest in the repository is of something else
    let other = env.path("other");
    fs::create_dir(&other).unwrap();
    env.snapshot(&other);
    let (page, junit) = (env.path("page.html"), env.path("junit.xml"));
    let forms = ["--html", page.to_str().unwrap(), "--junit", junit.to_str().unwrap()];
    let run = record(&app.drill(&forms).ok());
    assert_eq!((text(&run, "verdict"), text(&run["isolation"], "active")), ("pass", "full"));
    let phases: Vec<_> =
        run["measured"]["phases"].as_array().unwrap().iter().map(|p| text(p, "name")).collect();
    let expected =
        ["preflight", "restore", "verify", "silence", "tests", "server", "checks", "stop", "clean up"];
    assert_eq!(phases, expected);
    assert_no_overlap(&run);
    assert_eq!(run["cleanup"]["proved"], true);
    assert_eq!(run["production"]["fingerprint_unchanged"], true);
    assert!(
        run["checks"].as_array().unwrap().iter().any(|c| text(c, "id") == "database data/aura.db is whole")
    );
    assert_eq!(app.left(), [] as [PathBuf; 0]);
    app.lifeboat(&["log", "verify"]).ok();
    assert!(app.lifeboat(&["snapshots"]).ok().stdout.contains("(drilled "));
    assert!(fs::read_to_string(page).unwrap().contains("PASSED"));
    assert!(fs::read_to_string(junit).unwrap().contains("<testsuites"));
    // nothing can remove the one snapshot that is known to come back
    let kept = app.lifeboat(&["forget", "--keep-last", "1", "--dry-run"]).ok();
    assert!(kept.stdout.contains("last that passed a drill"), "{}", kept.stdout);
}

#[test]
fn a_broken_copy_fails_although_production_is_whole() {
    if !have(&["python3"]) || !have_sandbox() {
        return;
    }
    let env = TestEnv::new();
    let (app, port) = App::sample(&env);
    let model = app.dir.join("backend/aura_glm.py");
    let aside = env.path("aura_glm.py");
    fs::rename(&model, &aside).unwrap();
    app.snapshot();
    fs::rename(&aside, &model).unwrap();
    let _production = Production::start(&app, port);
    // at a temporary path, with production reachable, the application's own tests are green
    let copy = env.path("elsewhere");
    env.restore(&app.dir, &copy, &[]).ok();
    let elsewhere = run(Command::new("./run_tests.sh").current_dir(&copy)).ok();
    assert!(elsewhere.stdout.contains("9/9 passed"), "{}", elsewhere.stdout);
    // in a drill they are red
    let run = record(&app.drill(&[]).exits(20));
    assert_eq!(text(&run, "verdict"), "fail");
    assert!(run["reasons"].to_string().contains("run_tests.sh"), "{}", run["reasons"]);
    assert_eq!(run["production"]["healthy_after"], true);
}

#[test]
fn production_and_the_copy_never_meet() {
    if !have(&["python3"]) || !have_sandbox() {
        return;
    }
    let env = TestEnv::new();
    let (app, port) = App::sample(&env);
    let canary = env.path("canary");
    fs::write(&canary, "alive").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let canary_port = listener.local_addr().unwrap().port();
    let socket = env.path("canary.sock");
    let local = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    local.set_nonblocking(true).unwrap();
    // a test of the application that tries everything it knows, and writes to its own path
    let attempt = format!(
        "import socket, os\n\
         def tries(name, act):\n    try:\n        act(); print('REACHED', name)\n    except OSError as error: print('refused', name, error)\n\
         tries('canary file', lambda: open({canary:?}).read())\n\
         tries('canary port', lambda: socket.create_connection(('127.0.0.1', {canary_port}), 2))\n\
         tries('production port', lambda: socket.create_connection(('127.0.0.1', {port}), 2))\n\
         tries('canary socket', lambda: socket.socket(socket.AF_UNIX).connect({socket:?}))\n\
         tries('production process', lambda: os.kill({pid}, 9))\n\
         open('written-by-the-copy', 'w').write('x')\n",
        pid = std::process::id(),
    );
    fs::write(app.dir.join("attempt.py"), attempt).unwrap();
    run(Command::new("python3").args(["-B", "validate_integration.py", "--record"]).current_dir(&app.dir))
        .ok();
    app.replace_in_plan("tests = [", "tests = [\"python3 attempt.py\", ");
    app.snapshot();
    let _production = Production::start(&app, port);
    // asked all the time while the drill runs
    let drill = app.command(&["drill", "--json", "--in", app.place().to_str().unwrap()]);
    let (mut asked, mut drill) =
        (0, { drill }.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    while drill.try_wait().unwrap().is_none() {
        assert!(is_healthy(port), "production did not answer while the drill ran");
        asked += 1;
    }
    let output = drill.wait_with_output().unwrap();
    let run: Value =
        serde_json::from_str(String::from_utf8_lossy(&output.stdout).lines().last().unwrap()).unwrap();
    let steps = run["steps"].to_string();
    assert_eq!(output.status.code(), Some(0), "{steps} {}", run["reasons"]);
    assert!(asked > 3);
    assert!(!steps.contains("REACHED") && steps.matches("refused").count() >= 5, "{steps}");
    assert_eq!(fs::read_to_string(&canary).unwrap(), "alive");
    assert!(listener.accept().is_err() && local.accept().is_err());
    assert!(!app.dir.join("written-by-the-copy").exists());
    assert_eq!(run["production"]["fingerprint_unchanged"], true);
}

#[test]
fn each_verdict_has_its_status() {
    if !have_sandbox() {
        return;
    }
    let env = TestEnv::new();
    let app = App::small(&env, "objectives = { rto = \"1ms\" }");
    let run = record(&app.drill(&[]).exits(21));
    assert_eq!((text(&run, "verdict"), &run["objectives_met"]), ("objective_missed", &Value::Bool(false)));
    app.replace_in_plan(
        "objectives = { rto = \"1ms\" }",
        "on_objective_missed = \"warn\"\nobjectives = { rto = \"1ms\" }",
    );
    app.drill(&[]).ok();

    let no_proof = TestEnv::new();
    let app = App::small(&no_proof, "");
    app.replace_in_plan("data_proving = true\n", "");
    let run = record(&app.drill(&[]).exits(22));
    assert!(run["reasons"].to_string().contains("proves the data"), "{}", run["reasons"]);

    let failing = TestEnv::new();
    let app = App::small(&failing, "tests = [\"echo before; echo the reason; exit 3\"]");
    let run = record(&app.drill(&[]).exits(20));
    assert!(run["steps"].to_string().contains("the reason"));
    let said = app.lifeboat(&["drill", "--in", app.place().to_str().unwrap()]).exits(20);
    assert!(said.stdout.contains("the reason") && said.stdout.contains("it ended with 3"), "{}", said.stdout);
    let slow = TestEnv::new();
    let app = App::small(&slow, "tests = [\"sleep 600\"]\ntest_timeout = \"1s\"");
    let run = record(&app.drill(&[]).exits(20));
    assert!(run["reasons"].to_string().contains("time was over"), "{}", run["reasons"]);
    let late = TestEnv::new();
    let app = App::small(&late, "tests = [\"sleep 600\"]\nlimits = { time = \"2s\" }");
    app.drill(&[]).exits(20);
}

/// One phase ends before the next begins: only so do they add up. Times have six digits.
fn assert_no_overlap(run: &Value) {
    let phases = run["measured"]["phases"].as_array().unwrap();
    let at = |phase: &Value, key: &str| phase[key].as_f64().unwrap();
    for pair in phases.windows(2) {
        let end = at(&pair[0], "start_s") + at(&pair[0], "took_s");
        assert!(end <= at(&pair[1], "start_s") + 0.001, "{pair:?}");
    }
}

#[test]
fn several_databases_are_looked_at_beside_the_comparison_and_leave_no_trace() {
    if !have(&["python3"]) || !have_sandbox() {
        return;
    }
    let env = TestEnv::new();
    let app = planned(&env, "[drill]\ntests = [\"test -f data.txt\"]");
    fs::create_dir(app.dir.join("data")).unwrap();
    let make = "import sqlite3, sys\n\
                for n, mode in enumerate(['delete', 'wal', 'wal', 'truncate', 'delete']):\n\
                \x20   db = sqlite3.connect(f'data/{n}.db')\n\
                \x20   db.execute(f'PRAGMA journal_mode={mode}')\n\
                \x20   db.execute('CREATE TABLE t (x UNIQUE)')\n\
                \x20   db.executemany('INSERT INTO t VALUES (?)', ((i,) for i in range(1000 * n)))\n\
                \x20   db.commit(); db.close()\n";
    run(Command::new("python3").args(["-c", make]).current_dir(&app.dir)).ok();
    app.snapshot();
    let run = record(&app.drill(&["--keep"]).ok());
    assert_no_overlap(&run);
    let whole: Vec<_> = run["checks"].as_array().unwrap().iter().map(|check| text(check, "id")).collect();
    let databases = (0..5).map(|n| format!("database data/{n}.db is whole"));
    let expected: Vec<_> = ["the copy is the snapshot".to_owned()].into_iter().chain(databases).collect();
    assert_eq!(whole, expected);
    let [kept] = &app.left()[..] else { panic!("{:?}", app.left()) };
    let mut names: Vec<_> =
        fs::read_dir(kept.join("tree/data")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, (0..5).map(|n| format!("{n}.db").into()).collect::<Vec<std::ffi::OsString>>());
    app.lifeboat(&["gc", "--kept", "--in", app.place().to_str().unwrap()]).ok();
}

#[test]
fn an_ordinary_user_gets_rid_of_a_copy_whose_directories_are_closed() {
    if (is_root() && !have(&["setpriv"])) || !have_sandbox() {
        return;
    }
    let env = TestEnv::of_a_user();
    let app = App::small(&env, "");
    let dir = app.dir.join("read-only/inside");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("file"), "x").unwrap();
    for dir in [dir.as_path(), dir.parent().unwrap()] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o555)).unwrap();
    }
    let place = app.place();
    std::os::unix::fs::chown(&place, env.user(), env.user()).unwrap();
    app.snapshot();
    let done = app.drill(&[]);
    if done.code == 22 && done.stdout.is_empty() {
        return skip(&format!("this host allows an ordinary user no sandbox: {}", done.stderr));
    }
    let run = record(&done);
    assert_eq!(run["cleanup"]["proved"], true, "{}", reasons(&run));
    assert_eq!(app.left(), [] as [PathBuf; 0]);
    // so that this test can be cleaned up by whoever runs it
    fs::set_permissions(app.dir.join("read-only"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
}

fn reasons(run: &Value) -> String {
    run["reasons"].to_string()
}

/// A plan of its own in a fresh application with one file of 42 rows.
fn planned<'e>(env: &'e TestEnv, rest: &str) -> App<'e> {
    let app = App::small(env, "");
    fs::write(app.dir.join("lifeboat.toml"), format!("[app]\nname = \"small\"\n{rest}\n")).unwrap();
    app.snapshot();
    app
}

const ROWS: &str =
    "[[check]]\nname = \"rows\"\ncommand = \"grep -q '42 rows' data.txt\"\ndata_proving = true\n";

// found by review: the comparison looked for the copy at another place
#[test]
fn a_tree_that_is_a_part_of_what_the_snapshot_holds_can_be_drilled() {
    if !have_sandbox() {
        return;
    }
    let env = TestEnv::new();
    let app = App::small(&env, "tests = [\"true\"]");
    let around = app.dir.parent().unwrap().join("around");
    fs::create_dir(&around).unwrap();
    fs::rename(&app.dir, around.join("app")).unwrap();
    let app = App { env: &env, dir: around.join("app") };
    env.snapshot(&around);
    let run = record(&app.drill(&[]).ok());
    assert_eq!(text(&run, "verdict"), "pass");
    fs::write(app.dir.join("data.txt"), "other rows\n").unwrap();
    env.snapshot(&around);
    app.drill(&[]).exits(20);
}

#[test]
fn a_server_that_no_check_knows_does_not_pass() {
    if !have_sandbox() {
        return;
    }
    let env = TestEnv::new();
    let app = planned(&env, &format!("{ROWS}[drill]\nserver = \"exec sleep 1000\""));
    let run = record(&app.drill(&[]).exits(22));
    assert!(reasons(&run).contains("no check of the plan says when it is ready"), "{}", reasons(&run));
    assert_eq!(run["measured"]["recovery_s"], Value::Null);
    // that nobody answers on a port is true before the server starts
    let closed = "[[check]]\nname = \"closed\"\nport = 1\nclosed = true\n";
    let env = TestEnv::new();
    let app =
        planned(&env, &format!("{ROWS}{closed}[drill]\nserver = \"exec sleep 1000\"\nready = [\"closed\"]"));
    app.drill(&[]).exits(22);
}

#[test]
fn an_empty_database_and_a_plan_that_asks_nothing_prove_nothing() {
    if !have(&["python3"]) || !have_sandbox() {
        return;
    }
    let env = TestEnv::new();
    let app = planned(&env, "[drill]\nchecks = []");
    let make = |sql: &str| {
        let script =
            "import sqlite3, sys; c = sqlite3.connect('a.db'); c.executescript(sys.argv[1]); c.commit()";
        run(Command::new("python3").args(["-c", script, sql]).current_dir(&app.dir)).ok();
        app.snapshot();
    };
    make("CREATE TABLE t (x)");
    let run = record(&app.drill(&[]).exits(22));
    assert!(
        reasons(&run).contains("proves the data") && reasons(&run).contains("nothing of the plan"),
        "{run}"
    );
    // rows prove data, but still nobody has asked for anything
    make("INSERT INTO t VALUES (1)");
    let run = record(&app.drill(&[]).exits(22));
    assert!(
        !reasons(&run).contains("proves the data") && reasons(&run).contains("nothing of the plan"),
        "{run}"
    );
    app.replace_in_plan("checks = []", "tests = [\"test -f data.txt\"]");
    let run = record(&app.drill(&[]).ok());
    assert!(reasons(&run).contains("no server was started") && !reasons(&run).contains("healthy"), "{run}");
}

#[test]
fn a_database_of_the_plan_that_is_not_in_the_snapshot_fails() {
    if !have_sandbox() {
        return;
    }
    let env = TestEnv::new();
    let app = planned(&env, &format!("{ROWS}[drill]\ntests = [\"test -f data.txt\"]"));
    app.drill(&[]).ok();
    let plan = app.dir.join("lifeboat.toml");
    let text = fs::read_to_string(&plan).unwrap();
    let planned = "\n[[database]]\nkind = \"sqlite\"\npath = \"data.txt\"\n\n[[database]]\nkind = \"sqlite\"\npath = \"gone.db\"\n";
    fs::write(&plan, text + planned).unwrap();
    app.lifeboat(&["snapshot", "-q"]).exits(3);
    let run = record(&app.drill(&[]).exits(20));
    for why in ["database gone.db of the plan is there", "database data.txt of the plan is there"] {
        assert!(run.to_string().contains(why), "{run:#}");
    }
}

#[test]
fn a_disaster_is_answered_by_what_was_there_before_it() {
    if !have_sandbox() {
        return;
    }
    let env = TestEnv::new();
    let app = App::small(&env, "");
    fs::write(app.dir.join("earlier"), "x").unwrap();
    let first = app.snapshot();
    std::thread::sleep(Duration::from_millis(1100));
    let disaster = run(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"])).ok().stdout;
    std::thread::sleep(Duration::from_millis(1100));
    fs::write(app.dir.join("later"), "x").unwrap();
    let second = app.snapshot();
    let run = record(&app.drill(&["--disaster-at", disaster.trim()]).ok());
    assert_eq!(text(&run["snapshot"], "id"), first);
    assert!(run["measured"]["snapshot_age_s"].as_f64().unwrap() > 0.0, "{}", run["measured"]);
    let named = app.drill(&[&second, "--disaster-at", disaster.trim()]).exits(2);
    assert!(named.stderr.contains("after the disaster"), "{}", named.stderr);
    app.drill(&["--disaster-at", "2001-01-01T00:00:00Z"]).exits(22);
    app.drill(&["--disaster-at", "2999-01-01T00:00:00Z"]).exits(2);
}

#[test]
fn the_disk_of_others_is_not_held_against_the_copy() {
    if !have_sandbox() {
        return;
    }
    let env = TestEnv::new();
    let app = App::small(&env, "tests = [\"sleep 5\"]\nlimits = { disk = \"8M\" }");
    let drill = app.command(&["drill", "--json", "--in", app.place().to_str().unwrap()]);
    let drill = { drill }.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // once the test runs, somebody else takes what is left
    let began = Instant::now();
    while traces(&app).is_empty() && began.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(700));
    let other = env.path("somebody-else");
    fs::write(&other, vec![7; 64 << 20]).unwrap();
    let done = crate::env::finish(drill, Duration::from_secs(60)).exits(22);
    fs::remove_file(other).unwrap();
    let steps = record(&done)["steps"].to_string();
    assert!(steps.contains("limits.disk") && steps.contains("something else fills the disk"), "{steps}");
    // its own writing is its own fault
    let greedy = TestEnv::new();
    let fill = "for i in 1 2 3 4 5 6 7 8; do head -c 4000000 /dev/zero > f$i; done; sleep 5";
    let app = App::small(&greedy, &format!("tests = [\"{fill}\"]\nlimits = {{ disk = \"8M\" }}"));
    let run = record(&app.drill(&[]).exits(20));
    assert!(reasons(&run).contains("limits.disk"), "{}", reasons(&run));
}

#[test]
fn an_ordinary_user_may_drill_what_belongs_to_others_too() {
    if !have(&["setpriv", "chown"]) || !rustix::process::geteuid().is_root() || !have_sandbox() {
        return;
    }
    let env = TestEnv::new();
    let app = App::small(&env, "");
    fs::write(app.dir.join("of-another"), "x").unwrap();
    run(Command::new("chown").arg("-R").arg("4242:4242").arg(env.path("."))).ok();
    run(Command::new("chown").arg("4343:4343").arg(app.dir.join("of-another"))).ok();
    let as_user = |args: &[&str]| {
        let inner = app.command(args);
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "4242", "--regid", "4242", "--clear-groups"]);
        command.arg(inner.get_program()).args(inner.get_args()).current_dir(&app.dir);
        env.set(&mut command);
        run(&mut command)
    };
    let place = app.place();
    run(Command::new("chown").arg("4242:4242").arg(&place)).ok();
    let taken = as_user(&["snapshot", "-q"]);
    let done = as_user(&["drill", "--json", "--in", place.to_str().unwrap()]);
    if taken.code != 0 || done.code == 22 && done.stdout.is_empty() {
        skip(&format!("no ordinary user can run it here: {}{}", taken.stderr, done.stderr));
        return;
    }
    let run = record(&done.ok());
    assert!(run["deviations"].to_string().contains("1 entry"), "{}", run["deviations"]);
    assert!(run["not_tested"].to_string().contains("owners of files"), "{}", run["not_tested"]);
}

#[test]
fn what_the_set_up_left_running_is_not_taken_for_the_server() {
    if !have(&["python3"]) || !have_sandbox() {
        return;
    }
    let env = TestEnv::new();
    let answers = "import socket, time; s = socket.create_server(('127.0.0.1', 8123)); time.sleep(1000)";
    let check = "[[check]]\nname = \"up\"\nport = 8123\n";
    let app = planned(
        &env,
        &format!(
            "{ROWS}{check}[drill]\nsetup = [\"setsid python3 daemon.py >/dev/null 2>&1 & sleep 1\"]\n\
             server = \"exec sleep 1000\""
        ),
    );
    fs::write(app.dir.join("daemon.py"), answers).unwrap();
    app.snapshot();
    let run = record(&app.drill(&[]).exits(22));
    assert!(reasons(&run).contains("something else answered"), "{}", reasons(&run));
    // a server that its command leaves behind, and that does not live through the checks
    let env = TestEnv::new();
    let dies = "import socket, time; s = socket.create_server(('127.0.0.1', 8123)); time.sleep(2)";
    let slow = "[[check]]\nname = \"slow\"\ncommand = \"sleep 4\"\n";
    let app = planned(
        &env,
        &format!(
            "{ROWS}{check}{slow}[drill]\nchecks = [\"rows\", \"slow\"]\nready = [\"up\"]\n\
             server = \"python3 daemon.py >/dev/null 2>&1 &\""
        ),
    );
    fs::write(app.dir.join("daemon.py"), dies).unwrap();
    app.snapshot();
    let run = record(&app.drill(&[]).exits(20));
    assert!(reasons(&run).contains("did not live through the checks"), "{}", reasons(&run));
}

#[test]
fn the_plans_way_of_stopping_is_gone_too() {
    if !have(&["python3"]) || !have_sandbox() {
        return;
    }
    let env = TestEnv::new();
    let check = "[[check]]\nname = \"up\"\nport = 8123\n";
    let server = "import socket, os, time\ns = socket.create_server(('127.0.0.1', 8123))\n\
                  while not os.path.exists('stop'): time.sleep(0.05)\nprint('went by itself', flush=True)\n";
    let app = planned(
        &env,
        &format!("{ROWS}{check}[drill]\nserver = \"exec python3 server.py\"\nstop = \"touch stop\""),
    );
    fs::write(app.dir.join("server.py"), server).unwrap();
    app.snapshot();
    let run = record(&app.drill(&[]).ok());
    let steps = run["steps"].as_array().unwrap();
    let of = |phase: &str| steps.iter().find(|step| text(step, "phase") == phase).unwrap();
    assert_eq!((text(of("stop"), "name"), text(of("stop"), "result")), ("touch stop", "pass"));
    assert!(of("server").to_string().contains("went by itself"), "{steps:?}");
    app.replace_in_plan("touch stop", "false");
    app.snapshot();
    app.drill(&[]).exits(20);
}

#[test]
fn the_time_of_a_drill_holds_for_its_checks() {
    if !have_sandbox() {
        return;
    }
    let env = TestEnv::new();
    let app = planned(
        &env,
        "[[check]]\nname = \"long\"\ncommand = \"sleep 100\"\ntimeout = \"100s\"\n[drill]\nlimits = { time = \"3s\" }",
    );
    let began = Instant::now();
    let run = record(&app.drill(&[]).exits(20));
    assert!(reasons(&run).contains("limits.time") && began.elapsed() < Duration::from_secs(40), "{run}");
}

#[test]
fn a_tool_that_is_not_there_is_named_before_anything_is_restored() {
    if !have_sandbox() {
        return;
    }
    let env = TestEnv::new();
    let app = App::small(&env, "tests = [\"no-such-tool-1f2e --version\"]");
    let done = app.lifeboat(&["drill", "--in", app.place().to_str().unwrap()]).exits(22);
    assert!(done.stderr.contains("no-such-tool-1f2e") && done.stderr.contains("next: "), "{}", done.stderr);
    // that it was tried is in the logbook
    let kept = app.lifeboat(&["log", "export", "--record", "latest", "--format", "json"]).ok();
    assert!(
        kept.stdout.contains("inconclusive") && kept.stdout.contains("no-such-tool-1f2e"),
        "{}",
        kept.stdout
    );
}

#[test]
fn without_isolation_it_is_refused_or_nothing_passes() {
    if !have(&["unshare", "setpriv"]) || !have_sandbox() {
        return;
    }
    let env = TestEnv::new();
    let app = App::small(&env, "tests = [\"touch written\"]");
    // a host that allows no namespaces, and a user who may not make them otherwise
    let forbidden = |args: &[&str]| {
        let inner = app.command(args);
        let take = "echo 0 > /proc/sys/user/max_user_namespaces; \
                    exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c", take, "sh"]);
        command.arg(inner.get_program()).args(inner.get_args()).current_dir(&app.dir);
        env.set(&mut command);
        run(&mut command)
    };
    let place = app.place();
    let refused = forbidden(&["drill", "--in", place.to_str().unwrap()]).exits(22);
    assert!(
        refused.stderr.contains("--allow-unisolated") && refused.stderr.contains("next: "),
        "{}",
        refused.stderr
    );
    assert_eq!(app.left(), [] as [PathBuf; 0]);
    let capped = forbidden(&["drill", "--allow-unisolated", "--in", place.to_str().unwrap()]).exits(22);
    assert!(capped.stdout.contains("INCONCLUSIVE (UNISOLATED)"), "{}", capped.stdout);
    assert!(capped.stdout.contains("isolation: none"), "{}", capped.stdout);
    assert!(!app.dir.join("written").exists(), "a relative path led to production");
    // what goes wrong is told all the same
    app.replace_in_plan("touch written", "exit 3");
    app.snapshot();
    let failed = forbidden(&["drill", "--allow-unisolated", "--in", place.to_str().unwrap()]).exits(20);
    assert!(failed.stdout.contains("FAILED (UNISOLATED)"), "{}", failed.stdout);
    assert!(failed.stdout.contains("it ended with 3"), "{}", failed.stdout);
    assert_eq!(app.left(), [] as [PathBuf; 0]);
}

#[test]
fn a_plan_that_notices_nothing_has_no_score() {
    if !have(&["python3"]) || !have_sandbox() {
        return;
    }
    let env = TestEnv::new();
    let app = App::small(&env, "");
    fs::write(app.dir.join("other.txt"), "nobody looks at this\n").unwrap();
    fs::write(app.dir.join("settings.ini"), "level = 3\n").unwrap();
    app.snapshot();
    let done = app.lifeboat(&["drill", "--self-test", "--in", app.place().to_str().unwrap()]).exits(20);
    assert!(done.stdout.contains("a wrong setting") && done.stdout.contains("MISSED"), "{}", done.stdout);
    assert!(done.stdout.contains("nothing noticed it: "), "{}", done.stdout);
    assert_eq!(app.left(), [] as [PathBuf; 0]);
}

#[test]
fn the_sample_application_notices_every_sabotage() {
    if !have(&["python3"]) || !have_sandbox() {
        return;
    }
    let env = TestEnv::new();
    let (app, _) = App::sample(&env);
    let run = record(&app.drill(&["--self-test"]).ok());
    let tried = run["self_test"].as_array().unwrap();
    assert_eq!(tried.len(), 7);
    assert!(tried.iter().all(|t| !t["noticed_by"].as_array().unwrap().is_empty()), "{tried:#?}");
    assert!(!run["not_tested"].to_string().contains("self-test"));
}

#[test]
fn secrets_are_in_the_environment_and_in_no_record() {
    if !have_sandbox() {
        return;
    }
    let env = TestEnv::new();
    let app = App::small(
        &env,
        "env_file = \"secret.env\"\ntests = [\"echo token is $TOKEN, home is $HOME, $LEAK.\"]",
    );
    fs::write(app.dir.join("secret.env"), "TOKEN=hunter2hunter2\n").unwrap();
    let done =
        run(app.command(&["drill", "--json", "--in", app.place().to_str().unwrap()]).env("LEAK", "leaked"))
            .ok();
    assert!(!done.stdout.contains("hunter2") && !done.stdout.contains("leaked"), "{}", done.stdout);
    let steps = record(&done)["steps"].to_string();
    assert!(steps.contains("token is [masked]") && steps.contains("home is /tmp, ."), "{steps}");
}

#[test]
fn a_kept_copy_can_be_looked_at() {
    if !have_sandbox() {
        return;
    }
    let env = TestEnv::new();
    let app = App::small(&env, "tests = [\"false\"]");
    app.drill(&["--keep"]).exits(20);
    let [left] = &app.left()[..] else { panic!("{:?}", app.left()) };
    assert_eq!(fs::read_to_string(left.join("tree/data.txt")).unwrap(), "42 rows\n");
    // whoever cleans up leaves it, until he is told that it is done with
    let place = app.place();
    let gc = |more: &[&str]| {
        let mut args = vec!["gc", "--in", place.to_str().unwrap()];
        args.extend(more);
        app.lifeboat(&args).ok()
    };
    let said = gc(&[]).stdout;
    assert!(left.exists() && said.contains("--kept"), "{said}");
    gc(&["--kept"]);
    assert!(!left.exists());
    // where it is is said, and without it how to look around
    let said = app.lifeboat(&["drill", "--keep", "--in", place.to_str().unwrap()]).exits(20);
    assert!(said.stdout.contains("the copy was kept at "), "{}", said.stdout);
    let said = app.lifeboat(&["drill", "--in", place.to_str().unwrap()]).exits(20);
    assert!(said.stdout.contains("next: lifeboat drill --keep"), "{}", said.stdout);
}

#[test]
fn the_last_snapshot_that_passes_is_found() {
    if !have_sandbox() {
        return;
    }
    let env = TestEnv::new();
    let app = App::small(&env, "");
    let mut ids = Vec::new();
    for version in 1..=6 {
        fs::write(app.dir.join("version"), version.to_string()).unwrap();
        ids.push(app.snapshot());
    }
    let bisect = |test: &str| {
        app.lifeboat(&["bisect", "--json", "--test", test, "--in", app.place().to_str().unwrap()])
    };
    let found = record(&bisect("test ! -f version || test $(cat version) -lt 4").ok());
    assert_eq!((text(&found, "last_good"), text(&found, "first_bad")), (&ids[2][..8], &ids[3][..8]));
    assert!(found["tried"].as_u64().unwrap() <= 5);
    assert_eq!(text(&record(&bisect("true").ok()), "last_good"), &ids[5][..8]);
    // nothing is said of snapshots that were not tried
    let ends = bisect("test $(cat version) = 3").exits(20);
    assert!(record(&ends)["between_untried"].as_bool().unwrap() && record(&ends)["tried"] == 2);
    // a command that is not there is no verdict on a snapshot
    for command in ["no-such-command", "./version"] {
        let done = bisect(command).exits(22);
        assert!(done.stderr.contains("cannot be run there"), "{}", done.stderr);
    }
    let place = app.place();
    let told = app.lifeboat(&["bisect", "--test", "false", "--in", place.to_str().unwrap()]).exits(20);
    assert!(told.stdout.contains("neither in the newest nor in the oldest"), "{}", told.stdout);
    let between = |good: &str, bad: &str, test: &str| {
        let place = place.to_str().unwrap();
        app.lifeboat(&["bisect", "--json", "--good", good, "--bad", bad, "--test", test, "--in", place])
    };
    between(&ids[2], &ids[2], "true").exits(2);
    // one that was called good and is not is found out
    between(&ids[0], &ids[3], "false").exits(20);
    assert_eq!(text(&record(&between(&ids[0], &ids[3], "true").ok()), "last_good"), &ids[3][..8]);
    // the newest two, one of which has lost its data
    fs::write(app.dir.join("data.txt"), "").unwrap();
    app.snapshot();
    let table =
        app.lifeboat(&["drill", "--matrix", "--last", "2", "--in", app.place().to_str().unwrap()]).exits(20);
    let rows: Vec<_> =
        table.stdout.lines().filter(|line| line.contains("fail") || line.contains("pass")).collect();
    // the status is that of the newest
    app.replace_in_plan("[drill]", "[drill]\nobjectives = { rto = \"1ms\" }");
    fs::write(app.dir.join("data.txt"), "42 rows\n").unwrap();
    app.snapshot();
    let place = app.place();
    app.lifeboat(&["drill", "--matrix", "--last", "1", "--in", place.to_str().unwrap()]).exits(21);
    app.lifeboat(&["drill", "--matrix", "--html", "x"]).exits(2);
    assert!(rows.len() == 2 && rows[0].contains("fail") && rows[1].contains("pass"), "{}", table.stdout);
    assert_eq!(app.left(), [] as [PathBuf; 0]);
}

/// Processes of this test's drills that are still there: they carry the environment's directory in their command line
/// or their mounts.
fn traces(app: &App<'_>) -> Vec<String> {
    let place = app.env.path("copies").to_str().unwrap().to_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if pid.parse::<u32>().is_err() || pid == std::process::id().to_string() {
            continue;
        }
        for what in ["cmdline", "mountinfo"] {
            let bytes = fs::read(entry.path().join(what)).unwrap_or_default();
            if String::from_utf8_lossy(&bytes).contains(&place) {
                found.push(format!("{pid} {what}"));
            }
        }
    }
    found
}

#[test]
fn drills_leave_nothing_even_killed() {
    if !have_sandbox() {
        return;
    }
    let env = TestEnv::new();
    let app = App::small(&env, "server = \"sleep 1000 & exec sleep 1000\"\ntests = [\"sleep 0.2\"]");
    app.replace_in_plan(
        "[drill]",
        "[[check]]\nname = \"up\"\ncommand = \"true\"\n\n[drill]\nready = [\"up\"]",
    );
    app.snapshot();
    let place = app.place();
    let args = ["drill", "-q", "--json", "--in", place.to_str().unwrap()];
    let rounds = if long() { 100 } else { 10 };
    for round in 1..=rounds {
        if round % 10 != 0 {
            run(&mut app.command(&args)).ok();
            continue;
        }
        let mut drill = app.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(100 + 37 * (round / 10)));
        drill.kill().unwrap();
        drill.wait().unwrap();
        // everything inside dies with it, at once
        let began = Instant::now();
        while !traces(&app).is_empty() && began.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(traces(&app), [] as [String; 0]);
        app.lifeboat(&["gc", "--in", place.to_str().unwrap()]).ok();
    }
    assert_eq!((app.left(), traces(&app)), (Vec::new(), Vec::new()));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(place.to_str().unwrap()));
    app.lifeboat(&["log", "verify"]).ok();
}

#[test]
fn an_interrupted_drill_cleans_up_and_says_so() {
    if !have_sandbox() {
        return;
    }
    let env = TestEnv::new();
    let app = App::small(&env, "tests = [\"sleep 1000\"]");
    let mut command = app.command(&["drill", "--json", "--in", app.place().to_str().unwrap()]);
    let drill = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while traces(&app).is_empty() && began.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    rustix::process::kill_process(rustix::process::Pid::from_child(&drill), rustix::process::Signal::INT)
        .unwrap();
    let done = crate::env::finish(drill, Duration::from_secs(60)).exits(130);
    let run = record(&done);
    assert_eq!((text(&run, "verdict"), &run["cleanup"]["proved"]), ("inconclusive", &Value::Bool(true)));
    assert_eq!((app.left(), traces(&app)), (Vec::new(), Vec::new()));
}
