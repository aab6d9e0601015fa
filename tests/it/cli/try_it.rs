use std::fs;

use crate::env::TestEnv;

#[test]
fn there_and_back_and_nothing_left() {
    let env = TestEnv::with_tree();
    fs::create_dir(env.path("place")).unwrap();
    let answer = env.json(["try", &env.arg("tree"), "--in", "place"]);
    assert_eq!(answer["verdict"], "pass");
    let steps: Vec<&str> =
        answer["steps"].as_array().unwrap().iter().map(|s| s["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["snapshot", "again", "verify", "restore", "compare"]);
    assert_eq!(fs::read_dir(env.path("place")).unwrap().count(), 0);
}

#[test]
fn what_a_killed_one_left_is_found_by_gc_alone() {
    let env = TestEnv::new();
    // as one that was killed leaves it: a lease of a process that is not there any more
    let mut ended = std::process::Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let lease =
        format!("{{\"run\":\"try\",\"pid\":{},\"began\":1,\"at\":\"2026-11-24T06:15:00Z\"}}", ended.id());
    env.write("tmp/lifeboat-try-left/lease.json", lease);
    env.write("tmp/lifeboat-try-left/tree/file", "x");
    // only said: in the host's own places others work
    let gc = || env.command().env("TMPDIR", env.path("tmp")).args(["gc", "--dry-run"]).output().unwrap();
    let said = String::from_utf8(gc().stdout).unwrap();
    let line = said.lines().find(|line| line.contains(&env.arg("tmp/lifeboat-try-left")));
    assert!(line.is_some_and(|line| line.ends_with("it would be removed")), "{said}");
    let done = env.ok(["gc", "--in", "tmp"]);
    assert!(done.contains("removed") && !env.path("tmp/lifeboat-try-left").exists(), "{done}");
}
