//! The daily looks: health, rotation, capacity, security.

use std::io::Write as _;

use crate::env::TestEnv;

const PLAN: &str = r#"
[app]
name = "aura"
[[check]]
name = "errors"
log = "a.log"
forbid = "ERROR"
[[rotate]]
log = "a.log"
[metrics]
file = "metrics.jsonl"
[capacity]
warn = { disk = 0.0 }
[security]
access_log = ["a.log"]
"#;

fn app() -> TestEnv {
    let env = TestEnv::empty();
    env.write("lifeboat.toml", PLAN);
    env.write("a.log", "one\nERROR two\n");
    env
}

#[test]
fn an_error_is_told_once_also_across_a_rotation() {
    let env = app();
    assert_eq!(env.run(["health"]).code, 1);
    assert_eq!(env.run(["health"]).code, 0, "a line is told once");
    assert_eq!(env.run(["health", "--all"]).code, 1);
    let run = env.run(["health", "--since", "1h", "--format", "nagios"]);
    assert!(
        run.code == 0 && run.stdout.starts_with("LIFEBOAT OK - aura 1 check passed | "),
        "{}",
        run.stdout
    );
    let mut log = std::fs::OpenOptions::new().append(true).open(env.path("a.log")).unwrap();
    log.write_all(b"ERROR three\n").unwrap();
    let rotated = env.json(["rotate", "--force"]);
    assert!(rotated["logs"][0]["packed"][0].as_str().unwrap().ends_with(".log.gz"), "{rotated}");
    let run = env.run(["health", "--format", "nagios"]);
    assert!(run.code == 2 && run.stdout.contains("ERROR three"), "{}", run.stdout);
    assert_eq!(env.run(["health", "errors", "--format", "prometheus"]).code, 0);
    let states = std::fs::read_dir(env.path("state")).unwrap();
    let mut files = states.map(|state| state.unwrap().path().join("checks.jsonl"));
    let history = files.find(|file| file.exists()).expect("nothing is kept");
    assert!(std::fs::read_to_string(history).unwrap().lines().count() >= 4);
    // without a plan it is unknown, not critical
    std::fs::remove_file(env.path("lifeboat.toml")).unwrap();
    let run = env.run(["health", "--format", "nagios"]);
    assert!(run.code == 3 && run.stdout.starts_with("LIFEBOAT UNKNOWN - "), "{}", run.stdout);
}

#[test]
fn what_is_measured_is_warned_of() {
    let env = app();
    for _ in 0..2 {
        env.ok(["metrics", "record"]);
    }
    let run = env.run(["capacity", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((run.code, report["metrics"]["lines"].as_u64()), (1, Some(2)));
    assert!(report["warnings"][0].as_str().unwrap().starts_with("disk is at "), "{report}");
    let run = env.run(["capacity"]);
    assert!(
        run.stdout.contains("not enough data") && run.stdout.lines().all(|l| l.chars().count() <= 160),
        "{}",
        run.stdout
    );
}

#[test]
fn security_says_what_it_found_and_hides_it() {
    let env = app();
    let key = format!("key: {}{}\n", "AKIA", "IOSFODNN7EXAMPLA");
    env.write("notes.txt", &key);
    let run = env.run(["security", "secrets"]);
    assert!(
        run.code == 1 && run.stdout.contains("notes.txt:1  AWS access key, 20 characters"),
        "{}",
        run.stdout
    );
    assert!(!run.stdout.contains(key[5..].trim()));
    assert_eq!(env.json(["security", "access"])["verdict"], "pass");
}
