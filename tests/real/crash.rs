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
