//! The real process dies at random instants, and what it asks of the system is in the right order.

use std::process::Command;

use crate::env::{TestEnv, have, long, make_tree, python, run};

#[test]
fn killed_at_random_instants_nothing_finished_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let kills = if long() { "200" } else { "10" };
    let work = dir.path().to_str().unwrap();
    let program = crate::env::LIFEBOAT;
    python("campaign_kill.py", &["--lifeboat", program, "--work", work, "--kills", kills, "--files", "600"])
        .ok();
}

#[test]
fn what_is_written_is_durable_before_what_refers_to_it() {
    if !have(&["strace"]) {
        return;
    }
    let env = TestEnv::new();
    let tree = env.path("source");
    make_tree(&tree, "portable");
    let log = env.path("log");
    let calls = "trace=openat,linkat,link,rename,renameat,renameat2,fsync,fdatasync,syncfs,write,pwrite64,close,mkdir,mkdirat";
    let mut command = Command::new("strace");
    command.args(["-f", "-yy", "-e", calls, "-o"]).arg(&log).arg(crate::env::LIFEBOAT);
    env.set(&mut command);
    run(command.args(["snapshot", "-q"]).arg(&tree)).ok();
    python("strace_order.py", &[log, env.repo()]).ok();
}

/// What the trace says of each sync, in order: the file, and whether it failed.
fn syncs(log: &std::path::Path) -> Vec<(String, bool)> {
    let text = std::fs::read_to_string(log).unwrap();
    let mut begun = std::collections::BTreeMap::new();
    let mut of = |line: &str| {
        let thread = line.split_once(' ')?.0.to_owned();
        let named = line.split_once("sync(").and_then(|(_, call)| call.split_once('<')?.1.split_once('>'));
        if let Some((file, _)) = named {
            begun.insert(thread.clone(), file.to_owned());
        }
        // a call that another thread interrupts stands on two lines
        if !line.contains("sync") || line.contains("<unfinished") {
            return None;
        }
        Some((begun.remove(&thread)?, line.contains("(INJECTED)")))
    };
    text.lines().filter_map(&mut of).collect()
}

#[test]
fn a_sync_that_fails_is_told_and_never_tried_again() {
    if !have(&["strace"]) {
        return;
    }
    let env = TestEnv::new();
    let tree = env.path("source");
    make_tree(&tree, "portable");
    let old = env.snapshot(&tree);
    let log = env.path("log");
    let mut injected = 0;
    for nth in 1.. {
        std::fs::write(tree.join("changed"), format!("before sync {nth}")).unwrap();
        let mut command = Command::new("strace");
        let inject = format!("inject=fsync,fdatasync,syncfs:error=EIO:when={nth}");
        command.args(["-f", "-y", "-e", "trace=fsync,fdatasync,syncfs", "-e", &inject, "-o"]).arg(&log);
        env.set(command.arg(crate::env::LIFEBOAT));
        let done = run(command.args(["snapshot", "-q", "--jobs", "1"]).arg(&tree));
        let syncs = syncs(&log);
        let Some(first) = syncs.iter().position(|(_, failed)| *failed) else {
            assert_eq!(done.code, 0, "{}", done.stderr);
            break;
        };
        injected += 1;
        // once the snapshot is there, what fails is its record in the logbook, or this host's memory of it, which is said
        let is_said = |word| done.stderr.contains(word);
        let told = done.code == 1 || done.code == 0 && (is_said("not-recorded") || is_said("not-remembered"));
        assert!(told, "sync {nth} of {}: {}: {}", syncs[first].0, done.code, done.stderr);
        for (at, (file, failed)) in syncs.iter().enumerate().filter(|(_, (_, failed))| *failed) {
            let again = syncs[at + 1..].iter().any(|(other, other_failed)| other == file && !other_failed);
            assert!(!again, "sync {nth} of {file} was tried again ({failed})");
        }
        let verified = env.lifeboat(&["verify", "--deep"]);
        assert_eq!(verified.code, 0, "after sync {nth} of {}: {}", syncs[first].0, verified.stdout);
    }
    assert!(injected >= 5, "only {injected} syncs were made to fail");
    let target = env.path("target");
    let what = format!("{old}:{}", tree.display());
    env.lifeboat(&["restore", "-q", &what, "--target", target.to_str().unwrap()]).ok();
    assert!(!target.join("changed").exists());
    env.snapshot(&tree);
    env.lifeboat(&["verify", "--deep"]).ok();
}
