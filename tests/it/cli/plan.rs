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
