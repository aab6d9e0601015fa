//! A host notices a repository that is older than it was (rule P34 of docs/reliability.md).

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::env::TestEnv;

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

fn change_and_save(env: &TestEnv, count: usize) -> Vec<String> {
    let save = |number| {
        env.write("tree/changing", format!("{number}\n"));
        env.snapshot(&[])
    };
    (0..count).map(save).collect()
}

// The repository as it was before the last `count` of six snapshots.
fn rolled_back(count: usize) -> (TestEnv, Vec<String>) {
    let env = TestEnv::with_tree();
    change_and_save(&env, 6 - count);
    copy(&env.path("repo"), &env.path("old"));
    let lost = change_and_save(&env, count);
    copy(&env.path("old"), &env.path("repo"));
    (env, lost)
}

fn listing(env: &TestEnv) -> Vec<String> {
    let entries = walkdir::WalkDir::new(env.path("repo")).sort_by_file_name();
    entries.into_iter().map(|entry| entry.unwrap().path().display().to_string()).collect()
}

#[test]
fn every_command_warns_and_nothing_is_deleted() {
    for count in [1, 5] {
        let (env, lost) = rolled_back(count);
        let first = env.json(["snapshots"])["snapshots"][0]["id"].as_str().unwrap().to_owned();
        for command in [
            vec!["snapshots"],
            vec!["ls", "latest"],
            vec!["show", "latest"],
            vec!["log", "show"],
            vec!["restore", "latest", "--dry-run", "--target", "out"],
            vec!["snapshot", "tree"],
        ] {
            let run = env.run(&command);
            assert_eq!(run.code, 0, "{command:?}: {}", run.stderr);
            assert!(run.stderr.contains("warning[older-repository]"), "{command:?}: {}", run.stderr);
            assert!(run.stderr.contains(&lost[0][..8]), "{command:?}: {}", run.stderr);
            assert!(run.stderr.contains("--accept-older"), "{command:?}: {}", run.stderr);
        }
        let before = listing(&env);
        for command in [
            vec!["prune"],
            vec!["prune", "--dry-run"],
            vec!["forget", &first],
            vec!["forget", "--keep-last", "1"],
        ] {
            let run = env.run(&command);
            assert_eq!(run.code, 1, "{command:?}: {}", run.stderr);
            assert!(run.stderr.contains("error: nothing was "), "{command:?}: {}", run.stderr);
            assert!(run.stderr.contains("--accept-older"), "{command:?}: {}", run.stderr);
        }
        assert_eq!(listing(&env), before);
        let run = env.run(["verify"]);
        assert_eq!(run.code, 40, "{}{}", run.stdout, run.stderr);
        assert!(run.stdout.contains("older-repository"), "{}", run.stdout);
        assert!(!run.stderr.contains("all is well"), "{}", run.stderr);

        // the way out: as it is
        env.ok(["prune", "--accept-older"]);
        for command in [vec!["snapshots"], vec!["verify"], vec!["prune"], vec!["forget", &first]] {
            let run = env.run(&command);
            assert_eq!((run.code, run.stderr.contains("warning")), (0, false), "{command:?}: {}", run.stderr);
        }
    }
}

#[test]
fn the_newer_state_put_back_ends_the_warning() {
    let env = TestEnv::with_tree();
    change_and_save(&env, 2);
    copy(&env.path("repo"), &env.path("old"));
    change_and_save(&env, 1);
    copy(&env.path("repo"), &env.path("new"));
    copy(&env.path("old"), &env.path("repo"));
    assert!(env.run(["snapshots"]).stderr.contains("older-repository"));
    copy(&env.path("new"), &env.path("repo"));
    let run = env.run(["snapshots"]);
    assert_eq!(run.stderr, "");
    env.ok(["prune"]);
}

#[test]
fn a_repository_without_its_documents_is_not_begun_again() {
    let (env, other) = (TestEnv::with_tree(), TestEnv::empty());
    let ids = change_and_save(&env, 2);
    fs::remove_dir_all(env.path("repo/snapshots")).unwrap();
    fs::create_dir(env.path("repo/snapshots")).unwrap();
    // a host that was never here knows it by the logbook alone
    for strange in [false, true] {
        let mut command = env.command();
        if strange {
            command.env("LIFEBOAT_STATE_DIR", other.path("state"));
        }
        let output = command.args(["snapshot", "tree"]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("no snapshot was taken") && stderr.contains(&ids[1][..8]), "{stderr}");
        assert!(stderr.contains("--accept-older"), "{stderr}");
    }
    env.ok(["snapshot", "tree", "--accept-older"]);
    assert_eq!(env.run(["snapshot", "tree"]).stderr.matches("older").count(), 0);
    env.ok(["verify", "--deep"]);
    env.ok(["prune"]);
}

#[test]
fn a_logbook_that_lost_its_end_is_noticed() {
    let env = TestEnv::with_tree();
    change_and_save(&env, 2);
    env.ok(["snapshots"]);
    let entries = walkdir::WalkDir::new(env.path("repo/records")).into_iter().map(|e| e.unwrap().into_path());
    let mut records: Vec<_> = entries.filter(|path| path.is_file()).collect();
    records.sort_by_key(|path| path.file_name().unwrap().to_owned());
    for path in records.iter().rev().take(2) {
        fs::remove_file(path).unwrap();
    }
    let run = env.run(["snapshots"]);
    assert!(run.stderr.contains("has lost its record 3"), "{}", run.stderr);
    assert_eq!(env.run(["prune"]).code, 1);
    assert_eq!(env.run(["verify"]).code, 40);
}

#[test]
fn what_goes_for_a_reason_is_not_missed() {
    let (env, other) = (TestEnv::with_tree(), TestEnv::empty());
    let ids = change_and_save(&env, 3);
    let elsewhere = |args: &[&str]| {
        let output =
            env.command().env("LIFEBOAT_STATE_DIR", other.path("state")).args(args).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(elsewhere(&["snapshots"]), (Some(0), String::new()));
    env.ok(["forget", &ids[0]]);
    env.ok(["forget", "--keep-last", "1"]);
    env.ok(["prune"]);
    env.ok(["prune"]);
    for args in [&["snapshots"][..], &["verify", "-q"], &["prune", "-q"]] {
        assert_eq!(elsewhere(args), (Some(0), String::new()), "{args:?}");
        assert_eq!(env.run(args).stderr, "", "{args:?}");
    }
}

#[test]
fn without_a_place_to_remember_nothing_is_said() {
    let (env, _) = rolled_back(1);
    let run = |args: &[&str]| {
        let mut command = env.command();
        command.env_remove("LIFEBOAT_STATE_DIR").env_remove("HOME").env("LIFEBOAT_STATE_DIR", "relative");
        command.args(args).output().unwrap()
    };
    let output = run(&["snapshots"]);
    assert!(output.status.success() && output.stderr.is_empty());
}
