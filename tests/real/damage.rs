//! Damage to a repository is found, named, and never handed out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::env::{Done, LIFEBOAT, TestEnv, have, long, python, run, say};

/// P14, P15: every object deleted, cut, with bytes turned over; some of each kind, or all of them.
#[test]
fn no_damage_is_silent_and_none_spreads() {
    if !have(&["python3"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().to_str().unwrap();
    let mut words = vec!["--lifeboat", LIFEBOAT, "--work", work, "--timeout", "300"];
    if !long() {
        words.extend(["--kinds", "delete,flip", "--flips", "30", "--minutes", "2"]);
    }
    say(&python("campaign_damage.py", &words).ok().stdout);
}

/// The objects below a folder of the repository.
fn objects(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries.into_iter().flat_map(|path| if path.is_dir() { objects(&path) } else { vec![path] }).collect()
}

/// The program, every read of these files failing as on bad sectors, from the n-th on.
fn on_bad_sectors(env: &TestEnv, paths: &[PathBuf], from: u32, args: &[&str]) -> Done {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=pread64", "-e"]);
    command.arg(format!("inject=pread64:error=EIO:when={from}+"));
    for path in paths {
        command.arg("-P").arg(path);
    }
    env.set(command.arg(LIFEBOAT));
    run(command.args(args))
}

#[test]
fn a_bad_sector_costs_the_object_it_lies_in_and_a_lost_disk_is_no_damage() {
    if !have(&["strace"]) {
        return;
    }
    let env = TestEnv::new();
    let tree = env.path("source");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), "content").unwrap();
    env.snapshot(&tree);
    let (index, target) = (objects(&env.repo().join("index")), env.path("target"));
    let restore = |to: &Path, paths: &[PathBuf], from| {
        on_bad_sectors(&env, paths, from, &["restore", "-q", "latest", "--target", to.to_str().unwrap()])
    };
    // the index is a cache
    restore(&target, &index, 1).ok();
    on_bad_sectors(&env, &index, 1, &["verify"]).exits(40);
    let proposed = on_bad_sectors(&env, &index, 1, &["repair", "--dry-run"]).ok();
    assert!(proposed.stdout.contains("make the index again"), "{}", proposed.stdout);
    // where nothing can be read any more, no object is to blame
    let all = [index, vec![env.repo().join("repository.json")]].concat();
    let done = restore(&env.path("other"), &all, 2).exits(1);
    assert!(done.stderr.contains("Input/output error"), "{}", done.stderr);
    on_bad_sectors(&env, &all, 2, &["repair", "--dry-run"]).exits(1);

    let oversized = env.repo().join(format!("writers/{}.pub", "a".repeat(64)));
    fs::write(&oversized, vec![0; 100_000]).unwrap();
    let commands: [(&[&str], i32); 4] =
        [(&["verify"], 40), (&["log", "verify"], 0), (&["show", "latest"], 0), (&["repair", "--dry-run"], 0)];
    for (words, code) in commands {
        env.lifeboat(words).exits(code);
    }
    fs::remove_file(oversized).unwrap();
    for (folder, words, code) in [
        ("records", &["verify"] as &[&str], 40),
        ("records", &["log", "show"], 0),
        ("records", &["snapshots"], 0),
        ("writers", &["verify"], 40),
        ("writers", &["show", "latest"], 0),
        ("packs", &["verify"], 40),
        ("packs", &["ls", "latest"], 40),
    ] {
        on_bad_sectors(&env, &objects(&env.repo().join(folder)), 1, words).exits(code);
    }
}
