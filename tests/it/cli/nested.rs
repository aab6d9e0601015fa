//! Roots that lie in other roots of the same snapshot.

use std::fs;
use std::path::Path;

use crate::env::{Run, TestEnv};

// A restore of `latest:w/TREE` over that tree itself.
fn back(env: &TestEnv, tree: &str, more: &[&str]) -> Run {
    let (what, target) = (format!("latest:{}", env.arg(tree)), env.arg(tree));
    env.run([&["restore", &what, "--target", &target, "--in-place"], more].concat())
}

fn fill(env: &TestEnv, dir: &str, files: usize) {
    for n in 0..files {
        env.write(&format!("{dir}/f{n}"), format!("{n}"));
    }
}

fn count(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn what_one_root_left_out_and_another_has_stays() {
    // by a marker, by a pattern that means something in one of them only: the outer one's, and the inner one's
    let ways = [["--exclude-if-present", ".nobackup"], ["-e", "b/x"], ["-e", "/x"]];
    for way in ways {
        let env = TestEnv::new();
        fill(&env, "w/a", 20);
        for path in ["w/a/b/.nobackup", "w/a/b/x", "w/a/b/c/y"] {
            env.write(path, "keep");
        }
        let (outer, inner) = (env.arg("w/a"), env.arg("w/a/b"));
        env.ok([&["snapshot"], &way[..], &[&outer, &inner]].concat());
        env.write("w/a/new", "x");
        env.write("w/a/b/new", "x");
        let told = back(&env, "w", &["--delete", "--delete-excluded", "--dry-run"]);
        let run = back(&env, "w", &["--delete", "--delete-excluded"]);
        assert_eq!(run.code, 0, "{way:?} {}", run.stderr);
        for path in ["w/a/b/.nobackup", "w/a/b/x", "w/a/b/c/y"] {
            assert!(env.path(path).exists(), "{way:?} {path}");
        }
        assert!(!env.path("w/a/new").exists() && !env.path("w/a/b/new").exists(), "{way:?}");
        assert!(
            told.stderr.contains("2: would be removed") && run.stderr.contains("2: removed"),
            "{} {}",
            told.stderr,
            run.stderr
        );
    }
}

#[test]
fn a_root_that_is_not_there_yet_is_made_in_what_goes() {
    let env = TestEnv::new();
    fill(&env, "w/a", 20);
    fill(&env, "w/a/x/b", 3);
    env.ok(["snapshot", "-e", "/x", &env.arg("w/a"), &env.arg("w/a/x/b")]);
    fs::remove_dir_all(env.path("w/a/x/b")).unwrap();
    env.write("w/a/x/other", "x");
    let run = back(&env, "w", &["--delete", "--delete-excluded"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(count(&env.path("w/a/x/b")), 3);
    assert!(!env.path("w/a/x/other").exists());
    assert!(run.stderr.contains("1: removed"), "{}", run.stderr);
}

// found by review: it was an end of everything, with nothing said of what was restored and what was not
#[test]
fn a_root_behind_a_link_in_another_costs_the_others_nothing() {
    let env = TestEnv::new();
    for (path, content) in [("w/x/f", "1"), ("w/d/g", "2"), ("w/y/h", "3")] {
        env.write(path, content);
    }
    std::os::unix::fs::symlink("../d", env.path("w/x/l")).unwrap();
    env.ok(["snapshot", &env.arg("w/x"), &env.arg("w/x/l"), &env.arg("w/y")]);
    let run = env.run(["restore", &format!("latest:{}", env.arg("w")), "--target", &env.arg("out")]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert!(run.stderr.contains("by itself to another directory"), "{}", run.stderr);
    assert_eq!(fs::read(env.path("out/y/h")).unwrap(), b"3");
    assert!(env.path("out/x/l").is_symlink() && !env.path("out/d").exists());
    // an archive cannot hold both either
    let tar = env.run(["export", "latest"]);
    let has = |name: &[u8]| tar.raw.windows(name.len()).any(|bytes| bytes == name);
    assert_eq!(tar.code, 3, "{}", tar.stderr);
    assert!(has(b"w/x/l") && has(b"w/y/h") && !has(b"w/x/l/g"), "{}", tar.stderr);
    let by_itself = format!("latest:{}", env.arg("w/x/l"));
    env.ok(["restore", &by_itself, "--target", &env.arg("alone")]);
    assert_eq!(fs::read(env.path("alone/g")).unwrap(), b"2");
}

#[test]
fn a_root_in_another_waits_for_what_is_being_written() {
    let env = TestEnv::new();
    let noise =
        |seed: usize| (0..1_500_000usize).map(|n| (((n * 7 + seed) * 2_654_435_761) >> 13) as u8).collect();
    for n in 0..12 {
        let content: Vec<u8> = noise(n * 1_000_003);
        env.write(&format!("w/b/f{n}"), content);
    }
    env.ok(["snapshot", &env.arg("w"), &env.arg("w/b")]);
    fs::remove_dir_all(env.path("w/b")).unwrap();
    let told = back(&env, "w", &["--dry-run"]);
    assert!(told.stderr.contains("would write 12 files"), "{}", told.stderr);
    let run = back(&env, "w", &[]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(count(&env.path("w/b")), 12);
    let fresh = env.run(["restore", "latest", "--target", &env.arg("out"), "--dry-run"]);
    assert!(fresh.stderr.contains("would write 12 files"), "{}", fresh.stderr);
}
