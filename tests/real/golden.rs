//! Repositories that earlier versions wrote are read by this one, and by `recover.py`, for ever.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::env::{TestEnv, have, python, run};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/repos/v1").join(name)
}

/// A copy, so that nothing is written beside what is committed, and the snapshots that it should hold.
fn golden() -> (TestEnv, PathBuf, String, Vec<String>) {
    let env = TestEnv::new();
    let repo = env.path("golden");
    run(Command::new("cp").arg("-r").arg(fixture("repo")).arg(&repo)).ok();
    let expected: Value = serde_json::from_slice(&std::fs::read(fixture("expect.json")).unwrap()).unwrap();
    let ids = expected["snapshots"].as_object().unwrap().keys().cloned().collect();
    (env, repo, expected["source"].as_str().unwrap().to_owned(), ids)
}

fn check(id: &str, tree: &Path) {
    let expected = fixture("expect.json");
    let args = [OsStr::new("check"), expected.as_ref(), id.as_ref(), tree.as_ref()];
    let done = python("golden.py", &args).ok();
    assert!(done.stdout.contains(" 0 differences"), "{}", done.stdout);
}

#[test]
fn the_first_version_of_the_format_is_read() {
    if !have(&["python3"]) {
        return;
    }
    let (env, repo, source, ids) = golden();
    assert!(ids.len() > 1);
    let repo = repo.to_str().unwrap();
    env.lifeboat(&["verify", "-r", repo, "--deep", "-q"]).ok();
    env.lifeboat(&["log", "verify", "-r", repo]).ok();
    for id in ids {
        let tree = env.path(&id);
        let what = format!("{id}:{source}");
        env.lifeboat(&["restore", "-q", "-r", repo, &what, "--target", tree.to_str().unwrap()]).ok();
        check(&id, &tree);
    }
}

#[test]
fn the_first_version_of_the_format_is_read_without_lifeboat() {
    if !have(&["python3", "zstd"]) {
        return;
    }
    let (env, repo, source, ids) = golden();
    for id in ids {
        let target = env.path(&id);
        let mut command = Command::new("python3");
        command.arg(repo.join("recover.py")).args(["restore", &id]).arg(&target).current_dir(&repo);
        run(&mut command).ok();
        check(&id, &target.join(source.trim_start_matches('/')));
    }
}
