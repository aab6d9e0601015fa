//! Without Lifeboat: `recover.py`, and the stock tools on packs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::env::{TestEnv, assert_same, have, make_tree, run};

fn files_below(dir: PathBuf) -> Vec<PathBuf> {
    let all = walkdir::WalkDir::new(dir).into_iter().map(|e| e.unwrap());
    all.filter(|e| e.file_type().is_file()).map(|e| e.into_path()).collect()
}

#[test]
fn recover_py_brings_everything_back_even_without_an_index() {
    let env = TestEnv::new();
    let source = env.path("source");
    make_tree(&source, "all");
    let id = env.snapshot(&source);
    for file in files_below(env.repo().join("index")) {
        fs::remove_file(file).unwrap();
    }
    let recover = env.repo().join("recover.py");
    let target = env.path("recovered");
    run(Command::new("python3").arg(&recover).arg("check")).ok();
    run(Command::new("python3").arg(&recover).args(["restore", &id]).arg(&target)).ok();
    let below = target.join(source.strip_prefix("/").unwrap());
    assert_same(&source, &below, "");
}

#[test]
fn packs_unpack_with_stock_tools_into_files_named_by_their_hash() {
    if !have(&["zstd", "tar", "sha256sum"]) {
        return;
    }
    let env = TestEnv::new();
    let source = env.path("source");
    make_tree(&source, "portable");
    env.snapshot(&source);
    let packs = files_below(env.repo().join("packs"));
    assert!(packs.len() >= 2, "content and manifests");
    let mut members = 0;
    for pack in packs {
        let out = env.path("unpacked");
        fs::create_dir_all(&out).unwrap();
        let script = "set -o pipefail; zstd -dc \"$1\" | tar -x -C \"$2\" && cd \"$2\" && sha256sum *";
        let done = run(Command::new("bash").args(["-c", script, "-"]).arg(&pack).arg(&out)).ok();
        for line in done.stdout.lines() {
            let (hash, name) = line.split_once("  ").unwrap();
            assert_eq!(hash, name);
            members += 1;
        }
        run(Command::new("chmod").args(["-R", "u+w"]).arg(&out)).ok();
        fs::remove_dir_all(out).unwrap();
    }
    assert!(members > 100, "{members}");
}

#[test]
fn stock_ssh_keygen_checks_the_signature_of_a_snapshot() {
    if !have(&["ssh-keygen"]) {
        return;
    }
    let env = TestEnv::new();
    fs::create_dir(env.path("source")).unwrap();
    let id = env.snapshot(&env.path("source"));
    let script = "cd \"$1\" && for key in writers/*.pub; do printf 'writer namespaces=\"lifeboat-snapshot,lifeboat-record\" %s\\n' \
                  \"$(cat \"$key\")\"; done > ../allowed && ssh-keygen -Y verify -f ../allowed -I writer -n lifeboat-snapshot \
                  -s snapshots/$2.sig < snapshots/$2.json";
    run(Command::new("bash").args(["-c", script, "-"]).arg(env.repo()).arg(&id)).ok();
}

#[test]
fn stock_ssh_keygen_checks_the_head_of_the_logbook() {
    if !have(&["ssh-keygen", "sha256sum"]) {
        return;
    }
    let env = TestEnv::new();
    fs::create_dir(env.path("source")).unwrap();
    env.snapshot(&env.path("source"));
    env.lifeboat(&["log", "add", "--sign-off", "Grace"]).ok();
    // as docs/evidence.md tells auditors
    let script = "cd \"$1\" && for key in writers/*.pub; do printf 'writer namespaces=\"lifeboat-record\" %s\\n' \"$(cat \"$key\")\"; \
                  done > ../allowed && head=$(ls records/*/*.json | tail -n 1) && echo \"$head\" && sha256sum < \"$head\" && \
                  ssh-keygen -Y verify -f ../allowed -I writer -n lifeboat-record -s \"${head%.json}.sig\" < \"$head\"";
    let verify = || run(Command::new("bash").args(["-c", script, "-"]).arg(env.repo()));
    let done = verify().ok();
    let mut lines = done.stdout.lines();
    let (head, hash) = (lines.next().unwrap(), lines.next().unwrap());
    assert!(head.contains(hash.split(' ').next().unwrap()), "{head} is not named by {hash}");
    let printed = env.lifeboat(&["log", "verify"]).ok().stdout;
    assert!(printed.contains(hash.split(' ').next().unwrap()), "{printed}");
    let file = env.repo().join(head);
    let altered = fs::read_to_string(&file).unwrap().replace("Grace", "Graze");
    run(Command::new("chmod").arg("u+w").arg(&file)).ok();
    fs::write(&file, altered).unwrap();
    assert_ne!(verify().code, 0, "what was altered is refused");
    env.lifeboat(&["log", "verify"]).exits(40);
}
