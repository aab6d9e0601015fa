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

#[test]
fn with_a_plan_a_repository_that_is_there_is_used_as_it_is() {
    let env = TestEnv::new();
    env.write("app/server.py", "PORT = 8123\n");
    let before = fs::read(env.path("repo/repository.json")).unwrap();
    let run = env.run(["init", "--plan", "app"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    check!(env, run.stderr, @r"
    the plan does not say where the repository is: LIFEBOAT_REPOSITORY does
    wrote [DIR]/app/lifeboat.toml: look through it
    the repository at [DIR]/repo is used as it is
    ");
    assert_eq!(fs::read(env.path("repo/repository.json")).unwrap(), before);
    assert!(fs::read_to_string(env.path("app/lifeboat.toml")).unwrap().contains("\n# location = "));
    env.write("more/server.py", "PORT = 8123\n");
    let answer = env.json(["init", "--plan", "more"]);
    assert_eq!(answer["plan"], env.arg("more/lifeboat.toml"));
}

#[test]
fn a_repository_that_is_named_stands_in_the_plan_and_not_in_the_tree() {
    let env = TestEnv::empty();
    env.write("app/server.py", "PORT = 8123\n");
    let init = |repository: &str| {
        let mut command = env.command();
        command.env_remove("LIFEBOAT_REPOSITORY").args(["init", "--plan", "app", "-r", repository]);
        let done = command.output().unwrap();
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    let (code, said) = init("app/backups");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("would lie in the application's tree"), "{said}");
    assert!(!env.path("app/backups").exists() && !env.path("app/lifeboat.toml").exists());
    let (code, said) = init("store");
    assert_eq!(code, Some(0), "{said}");
    let text = fs::read_to_string(env.path("app/lifeboat.toml")).unwrap();
    assert!(text.contains(&format!("\nlocation = \"{}\"\n", env.arg("store"))), "{text}");
    let mut command = env.command();
    let done =
        command.env_remove("LIFEBOAT_REPOSITORY").current_dir(env.path("app")).arg("snapshot").output();
    assert!(done.unwrap().status.success());
}
