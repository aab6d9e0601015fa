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
fn recover_py_brings_back_what_a_command_wrote() {
    let env = TestEnv::new();
    for (name, file) in
        [("dump.sql", "dump.sql"), ("sub/dump.sql", "sub/dump.sql"), ("/abs/dump.sql", "abs/dump.sql")]
    {
        let command = ["snapshot", "--stdin-from-command", name, "-q", "--", "sh", "-c", "echo the rows"];
        let id = env.lifeboat(&command).ok().stdout.trim().to_owned();
        let target = env.path(&format!("recovered/{}", &id[..8]));
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        run(Command::new("python3").arg(env.repo().join("recover.py")).args(["restore", &id]).arg(&target))
            .ok();
        assert_eq!(fs::read_to_string(target.join(file)).unwrap(), "the rows\n");
    }
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

/// P35: every reader of archives sees the same names and sizes in a pack, and none makes anything of it but plain files
/// named by their hash.
#[test]
fn packs_are_the_same_to_every_reader_of_archives() {
    if !have(&["zstd", "tar", "bsdtar", "python3"]) {
        return;
    }
    let env = TestEnv::new();
    let source = env.path("source");
    make_tree(&source, "portable");
    fs::write(source.join("large"), vec![7; 5_000_000]).unwrap();
    env.snapshot(&source);
    fs::write(source.join("one more"), "one more").unwrap();
    env.snapshot(&source);
    let bash = |script: &str, pack: &std::path::Path| {
        let script = format!("set -o pipefail; zstd -q -dc \"$1\" | {script}");
        run(Command::new("bash").args(["-c", &script, "-"]).arg(pack)).ok().stdout
    };
    let python = "python3 -c 'import sys, tarfile\nfor m in tarfile.open(fileobj=sys.stdin.buffer, mode=\"r|\"): print(m.name, m.size, m.isreg(), oct(m.mode), m.uid, m.gid, int(m.mtime))'";
    let mut members = 0;
    for pack in files_below(env.repo().join("packs")) {
        let plain = zstd::decode_all(fs::File::open(&pack).unwrap()).unwrap();
        let mut expected = Vec::new();
        let mut archive = tar::Archive::new(&plain[..]);
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert!(header.entry_type().is_file() && header.as_ustar().is_some());
            assert_eq!(
                (header.mode().unwrap(), header.uid().unwrap(), header.mtime().unwrap()),
                (0o400, 0, 0)
            );
            let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            assert!(
                name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
            );
            expected.push((name, entry.size()));
        }
        // GNU tar: mode, owner, size, date, time, name; bsdtar: mode, links, owner, group, size, date, name
        let columns = |text: String, name: usize, size: usize| -> Vec<(String, u64)> {
            let line = |line: &str| {
                let words: Vec<&str> = line.split_whitespace().collect();
                (words[name].to_owned(), words[size].parse().unwrap())
            };
            text.lines().map(line).collect()
        };
        assert_eq!(columns(bash("tar --numeric-owner -tvf -", &pack), 5, 2), expected, "GNU tar");
        assert_eq!(columns(bash("bsdtar --numeric-owner -tvf -", &pack), 8, 4), expected, "bsdtar");
        let listed = bash(python, &pack);
        assert!(listed.lines().all(|line| line.ends_with("True 0o400 0 0 0")), "{listed}");
        assert_eq!(columns(listed, 0, 1), expected, "Python");
        members += expected.len();
    }
    assert!(members > 100, "{members}");
}
