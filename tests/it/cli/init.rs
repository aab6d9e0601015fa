use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::env::{TestEnv, check};

#[test]
fn a_repository_is_made_once() {
    let env = TestEnv::empty();
    let run = env.run(["init"]);
    assert_eq!(run.code, 0);
    assert_eq!(run.stdout.trim().len(), 32);
    check!(env, run.stderr, @r"
    made repository [SHORT] at [DIR]/repo
    writer key [FINGERPRINT]
      [DIR]/keys/writer
    Keep that file safe and secret: it signs what this host writes. Reading and restoring need no key.
    ");
    let again = env.run(["init"]);
    assert_eq!(again.code, 1);
    check!(env, again.stderr, @r"
    error: [DIR]/repo is a repository already
    next: use it as it is, or name another directory
    ");
}

#[test]
fn nobody_else_may_look() {
    let env = TestEnv::new();
    let mode = |path: &str| fs::metadata(env.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("repo"), 0o700);
    assert_eq!(mode("keys/writer"), 0o600);
}

#[test]
fn a_directory_that_holds_something_is_refused() {
    let env = TestEnv::empty();
    env.write("repo/precious", "");
    let run = env.run(["init"]);
    assert_eq!(run.code, 1);
    check!(env, run.stderr, @r"
    error: could not make a repository in [DIR]/repo
      because: it is not empty
    next: name a directory that is empty or does not exist
    ");
}

#[test]
fn another_host_is_let_in_by_its_key() {
    let env = TestEnv::with_tree();
    let other =
        env.command().env("LIFEBOAT_WRITER_KEY", env.path("keys/other")).args(["key", "add"]).output();
    assert!(other.unwrap().status.success());
    let keys = env.json(["key", "list"]);
    let keys = keys["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys.iter().filter(|key| key["mine"] == true).count(), 1);
}

#[test]
fn doctor_finds_what_is_wrong() {
    let env = TestEnv::new();
    let answer = env.json(["doctor"]);
    let verdict = |answer: &serde_json::Value, name: &str| {
        let checks = answer["checks"].as_array().unwrap();
        let found = checks.iter().find(|check| check["name"] == name).unwrap();
        found["verdict"].as_str().unwrap().to_owned()
    };
    for name in ["repository", "permissions", "store", "locks", "writer key", "clock"] {
        assert_eq!(verdict(&answer, name), "pass", "{name}");
    }
    fs::set_permissions(env.path("repo"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(env.path("keys/writer"), fs::Permissions::from_mode(0o644)).unwrap();
    let run = env.run(["doctor", "--json"]);
    assert_eq!(run.code, 1);
    let answer = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(verdict(&answer, "permissions"), "fail");
    assert_eq!(verdict(&answer, "writer key"), "fail");
}
