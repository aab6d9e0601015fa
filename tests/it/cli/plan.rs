use std::process::Stdio;

use crate::checks::application;
use crate::env::{TestEnv, check};

#[test]
fn a_good_plan_is_told_so() {
    let env = application();
    let text = env.ok(["validate", "-c", "app/lifeboat.toml"]);
    check!(env, text, @"[DIR]/app/lifeboat.toml is a good plan for aura: 11 checks, 0 databases, 0 runbooks");
    let schema = env.ok(["validate", "--schema"]);
    assert!(serde_json::from_str::<serde_json::Value>(&schema).unwrap()["properties"]["drill"].is_object());
}

#[test]
fn a_wrong_plan_is_told_with_its_places() {
    let env = TestEnv::empty();
    env.write("lifeboat.toml", "[drill]\ntets = [\"x\"]\n\n[[check]]\nname = \"a\"\nhtpp = \"http://x\"\n");
    let run = env.run(["validate"]);
    assert_eq!(run.code, 2);
    check!(env, run.stderr, @r"
    error: [DIR]/lifeboat.toml:2:1: unknown key tets
    [DIR]/lifeboat.toml:6:1: htpp is no kind of check
    next: tests is meant?
    ");
    let run = env.run(["validate", "--json"]);
    assert_eq!(run.code, 2);
    let answer: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(answer["problems"][1]["line"], 6);
    assert_eq!(answer["problems"][1]["hint"], "http is meant?");
}

#[test]
fn without_a_plan_it_says_how_to_get_one() {
    let env = TestEnv::empty();
    let run = env.run(["health"]);
    assert_eq!(run.code, 2);
    check!(env, run.stderr, @r"
    error: there is no lifeboat.toml in [DIR] or a directory above it
    next: name a plan with --config FILE; lifeboat init --plan DIRECTORY writes a first one
    ");
}

#[test]
fn settings_are_shown_with_their_sources() {
    let env = TestEnv::empty();
    env.write("lifeboat.toml", "[repository]\nlocation = \"store\"\n\n[drill]\nserver = \"./s\"\nenvironment = { API_TOKEN = \"hush\" }\n[[notify]]\nwebhook = \"https://x/hush\"\n");
    let find = |args: &[&str], key: &str| {
        let answer = env.json(args);
        let settings = answer["settings"].as_array().unwrap();
        let found =
            settings.iter().find(|one| one["key"] == key).unwrap_or_else(|| panic!("{key}: {answer:#}"));
        (found["value"].clone(), found["source"].clone(), found["line"].clone())
    };
    let config = ["show-config"];
    assert_eq!(find(&config, "drill.server"), ("./s".into(), "lifeboat.toml".into(), 5.into()));
    assert_eq!(find(&config, "hotfix.watch"), ("15m".into(), "default".into(), serde_json::Value::Null));
    assert_eq!(find(&config, "repository.location").1, "LIFEBOAT_REPOSITORY");
    assert_eq!(find(&["show-config", "-r", "/x"], "repository.location").1, "--repo");
    assert!(!env.ok(["show-config"]).contains("hush"));
}

#[test]
fn the_plan_says_where_the_repository_is() {
    let env = TestEnv::empty();
    env.write("app/lifeboat.toml", "[repository]\nlocation = \"../store\"\n");
    let run = env
        .command()
        .env_remove("LIFEBOAT_REPOSITORY")
        .args(["-c", "app/lifeboat.toml", "init"])
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert!(env.path("store/repository.json").exists());
    let run = env
        .command()
        .env_remove("LIFEBOAT_REPOSITORY")
        .current_dir(env.path("app"))
        .arg("snapshots")
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn a_first_plan_is_written_once() {
    let env = TestEnv::empty();
    env.write("app/server.py", "PORT = 8123\n");
    env.ok(["init", "--plan", "app"]);
    env.ok(["validate", "-c", "app/lifeboat.toml"]);
    let run = env
        .command()
        .env("LIFEBOAT_REPOSITORY", env.path("other"))
        .args(["init", "--plan", "app"])
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(1));
    assert!(!env.path("other").exists());
}

#[test]
fn one_check_is_run_by_itself() {
    use std::io::Write as _;
    let env = TestEnv::empty();
    let run = |question: &str| {
        let mut command = env.command();
        command.arg("__check").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(question.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let question = format!(
        r#"{{"check": {{"name": "x", "command": "pwd; echo $A"}}, "context": {{"directory": "{}", "environment": {{"A": "1"}}}}}}"#,
        env.arg("home")
    );
    let output = run(&question);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let verdict: lifeboat::check::Verdict = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdict.outcome, lifeboat::check::Outcome::Pass);
    assert_eq!(verdict.observed, format!("{}\n1", env.arg("home")));
    assert_eq!(run("{}").status.code(), Some(2));
}

#[test]
fn health_is_a_table() {
    let env = TestEnv::empty();
    env.write("lifeboat.toml", "[[check]]\nname = \"a\"\nfile = \"lifeboat.toml\"\n[[check]]\nname = \"b\"\nfile = \"none\"\nrequired = false\n");
    let text = env.ok(["health"]);
    assert!(text.contains("fail (optional)") && text.contains("none does not exist"), "{text}");
    env.write("lifeboat.toml", "[[check]]\nname = \"a\"\nlog = \".\"\nforbid = \"x\"\n");
    assert_eq!(env.run(["health"]).code, 22);
    assert_eq!(env.run(["health", "c"]).code, 2);
}

#[test]
fn what_would_break_a_sandbox_or_leads_nowhere_is_told() {
    let env = TestEnv::empty();
    let wrong = |text: &str, words: &str| {
        env.write("app/lifeboat.toml", text);
        let run = env.run(["validate", "-c", "app/lifeboat.toml"]);
        assert_eq!(run.code, 2, "{text}: {}", run.stderr);
        assert!(run.stderr.contains(words), "{words} is not in\n{}", run.stderr);
    };
    wrong("[drill]\nwritable = [\"/\"]\n", ":2:13: the whole system cannot be writable");
    wrong("[drill]\nwritable = [\"/opt/x\", \"var/x\"]\n", "var/x is no absolute path");
    wrong("[drill]\nhide = [\"/opt/../etc\"]\n", "/opt/../etc is no absolute path");
    wrong(&format!("[drill]\nwritable = [{:?}]\n", env.arg("app")), "is the application's tree");
    for above in [env.arg("").trim_end_matches('/'), "/", &env.arg("app")] {
        wrong(&format!("[drill]\nhide = [{above:?}]\n"), "holds the application's tree");
    }
    wrong("[[check]]\nname = \"p\"\nport = 99999\n", "99999 is no port: ports go from 1 to 65535");
    wrong("[[check]]\nname = \"p\"\nport = 0\n", "0 is no port");
    wrong("[[check]]\nname = \"p\"\nport = \"db:99999\"\n", "db:99999 is no host:port");
    wrong(
        "[runbook.a]\nsteps = [{ command = \"true\", may_be_unjudged = true }]\n",
        "one of Lifeboat's operations",
    );
    let good = "[drill]\nwritable = [\"/opt/x\"]\nhide = [\"/etc/secret\"]\n[[check]]\nname = \"p\"\nport = \"db:5432\"\n";
    env.write("app/lifeboat.toml", good);
    env.ok(["validate", "-c", "app/lifeboat.toml"]);

    env.write("app/lifeboat.toml", "[app]\nroot = \"nowhere\"\nuser = \"nobody-like-this\"\n");
    let run = env.run(["validate", "-c", "app/lifeboat.toml"]);
    assert_eq!(run.code, 0, "a plan may be written for another host");
    for words in
        ["app.root: ", "nowhere is no directory of this host", "this host knows no user nobody-like-this"]
    {
        assert!(run.stderr.contains(words), "{}", run.stderr);
    }
    assert_eq!(env.json(["validate", "-c", "app/lifeboat.toml"])["not_here"].as_array().unwrap().len(), 2);
}

#[test]
fn a_plan_is_written_without_a_repository() {
    let env = TestEnv::empty();
    env.write("app/run_tests.sh", "exit 0\n");
    let init = |words: &[&str]| {
        let mut command = env.command();
        command.env_remove("LIFEBOAT_REPOSITORY").arg("init").args(words);
        let done = command.output().unwrap();
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    let (code, said) = init(&["--plan", "app"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("no repository was named, so none was made"), "{said}");
    assert!(env.path("app/lifeboat.toml").is_file() && !env.path("keys/writer").exists());
    assert_eq!(init(&["--plan", "app"]).0, Some(1), "it is never overwritten");
    assert_eq!(init(&[]).0, Some(2));
}

#[test]
fn what_no_snapshot_will_hold_is_a_warning() {
    let env = TestEnv::empty();
    for path in ["app/a.db", "app/cache/b.db", "far.db"] {
        env.write(path, "");
        let db = rusqlite::Connection::open(env.path(path)).unwrap();
        db.execute_batch("CREATE TABLE t (x)").unwrap();
    }
    let validate = |tables: &str| {
        env.write("app/lifeboat.toml", format!("[app]\nexclude = [\"cache/\"]\n{tables}"));
        let run = env.run(["validate", "-c", "app/lifeboat.toml"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        (run, env.json(["validate", "-c", "app/lifeboat.toml"]))
    };
    let sqlite = |path: &str| format!("[[database]]\nkind = \"sqlite\"\npath = \"{path}\"\n");
    let (run, answer) = validate(&sqlite("a.db"));
    assert!(run.stderr.is_empty() && run.stdout.contains("is a good plan"), "{}", run.stderr);
    assert_eq!(answer["warnings"], serde_json::json!([]));
    let other = "[[database]]\nkind = \"postgres\"\ndatabase = \"shop\"\n";
    let (run, answer) = validate(&[&sqlite("cache/b.db"), &sqlite("../far.db"), other].concat());
    check!(env, run.stderr, @r"
    warning[plan]: [DIR]/app/lifeboat.toml:5:1: no snapshot will hold the database cache/b.db: it is excluded
      next: take it out of what is excluded, or out of the plan
    warning[plan]: [DIR]/app/lifeboat.toml:8:1: no snapshot will hold the database ../far.db: it lies outside of what is saved
      next: let app.root hold it, or leave it out of the plan and save it by a snapshot of its own
    warning[plan]: [DIR]/app/lifeboat.toml:10:1: this version cannot save shop, and takes no snapshot by this plan: it saves files and SQLite databases
      next: lifeboat snapshot --stdin-from-command NAME -- DUMP-COMMAND saves a dump; give the paths besides
    ");
    assert!(run.stdout.contains("is a plan with 3 warnings for app"), "{}", run.stdout);
    assert_eq!(answer["warnings"][0]["line"], 5);
    let (run, answer) = validate(&sqlite("none.db"));
    assert!(run.stderr.contains("warning[not-here]: database[0].path: "), "{}", run.stderr);
    assert!(run.stdout.contains("is a plan with 1 warning for app"), "{}", run.stdout);
    assert_eq!(answer["not_here"].as_array().unwrap().len(), 1);
}

#[test]
fn nothing_is_copied_to_replicas_and_that_is_said() {
    let env = TestEnv::empty();
    env.write("lifeboat.toml", "[repository]\nreplicas = [\"/mnt/second\"]\n");
    let run = env.run(["validate"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains(":2:1: this version does not copy snapshots to replicas"), "{}", run.stderr);
    env.write("lifeboat.toml", "[runbook.a]\nsteps = [\"copy\"]\n");
    let run = env.run(["validate"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("is none of Lifeboat's operations"), "{}", run.stderr);
}

#[test]
fn a_step_that_no_command_takes_is_told_with_its_place() {
    let env = TestEnv::empty();
    env.write(
        "lifeboat.toml",
        "[runbook.weekly]\nsteps = [\"verify --budget 10m\", \"verify --budgett 3\", \"health --help\"]\n\n\
         [maintenance]\nend = [{ do = \"forget --keep-lst 3\" }, \"log add\"]\n",
    );
    let run = env.run(["validate"]);
    assert_eq!(run.code, 2);
    for words in [
        "lifeboat.toml:2:33: the step `verify --budgett 3` cannot be run: unexpected argument '--budgett' found",
        "lifeboat.toml:5:8: the step `forget --keep-lst 3` cannot be run: unexpected argument '--keep-lst' found",
    ] {
        assert!(run.stderr.contains(words), "{words} is not in\n{}", run.stderr);
    }
    let run = env.run(["validate", "--json"]);
    let answer: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&answer["valid"], &answer["problems"][0]["line"]), (&false.into(), &2.into()));
}

#[test]
fn a_detected_application_can_be_rolled_back() {
    let env = TestEnv::new();
    env.write("app/server.py", "PORT = 8123\n");
    env.ok(["init", "--plan", "app", "-r", &env.arg("store")]);
    let in_app = |args: &[&str]| {
        let mut command = env.command();
        let output = command
            .env("LIFEBOAT_REPOSITORY", env.path("store"))
            .args(["-c", "app/lifeboat.toml"])
            .args(args);
        let output = output.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(in_app(&["snapshot"]).0, Some(0));
    env.write("app/__pycache__/server.pyc", "made by Python");
    env.write("app/server.py", "PORT = 8124\n");
    let (code, said) = in_app(&["rollback", "--dry-run"]);
    assert_eq!(code, Some(0), "{said}");
}
