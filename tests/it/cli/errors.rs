use std::fs;

use crate::env::{TestEnv, check};

#[test]
fn statuses_tell_what_kind_of_failure() {
    let env = TestEnv::with_tree();
    let tree = env.arg("tree");
    let code = |args: &[&str]| env.run(args).code;
    assert_eq!(code(&["snapshot"]), 2, "usage");
    assert_eq!(code(&["ls", "no such form"]), 2, "usage");
    assert_eq!(code(&["--repo", "/does/not/exist", "snapshots"]), 10, "no repository");
    assert_eq!(code(&["--repo", "s3://bucket", "snapshots"]), 2, "an unknown kind of place");
    fs::remove_file(env.path("keys/writer")).unwrap();
    let run = env.run(["snapshot", &tree]);
    assert_eq!(run.code, 12);
    check!(env, run.stderr, @r"
    error: this host has no writer's key: [DIR]/keys/writer does not exist
    next: lifeboat key add makes one, or set LIFEBOAT_WRITER_KEY to the key's file
    ");
}

#[test]
fn a_repository_without_its_first_file_says_what_restores_it() {
    let env = TestEnv::with_tree();
    env.snapshot(&[]);
    let config = env.path("repo/repository.json");
    let bytes = fs::read(&config).unwrap();
    fs::remove_file(&config).unwrap();
    for command in ["snapshots", "verify", "repair"] {
        let run = env.run([command]);
        assert_eq!(run.code, 40, "{}", run.stderr);
        assert!(run.stderr.contains("has lost its repository.json"), "{}", run.stderr);
        assert!(run.stderr.contains("python3 recover.py"), "{}", run.stderr);
    }
    fs::write(&config, [b"{\"X", &bytes[3..]].concat()).unwrap();
    let run = env.run(["verify"]);
    assert_eq!(run.code, 40, "{}", run.stderr);
    assert!(run.stderr.contains("repository.json is damaged"), "{}", run.stderr);
    assert!(run.stderr.contains("python3 recover.py"), "{}", run.stderr);
    // what holds nothing of a repository is none
    let none = env.run(["--repo", &env.arg("tree"), "snapshots"]);
    assert_eq!(none.code, 10, "{}", none.stderr);
}

#[test]
fn a_strange_key_may_not_write() {
    let env = TestEnv::with_tree();
    fs::remove_dir_all(env.path("keys")).unwrap();
    let other = TestEnv::new();
    fs::create_dir(env.path("keys")).unwrap();
    fs::copy(other.path("keys/writer"), env.path("keys/writer")).unwrap();
    let run = env.run(["snapshot", &env.arg("tree")]);
    assert_eq!(run.code, 12);
    check!(env, run.stderr, @r"
    error: the key [DIR]/keys/writer is not one of the repository's writers
    next: lifeboat key add lets it write
    ");
    env.ok(["key", "add"]);
    env.snapshot(&[]);
}

#[test]
fn no_repository_named() {
    let env = TestEnv::empty();
    let output = env.command().env_remove("LIFEBOAT_REPOSITORY").arg("snapshots").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    check!(env, String::from_utf8(output.stderr).unwrap(), @r"
    error: no repository is named
    next: give --repo DIRECTORY, set LIFEBOAT_REPOSITORY, or write repository.location into the plan
    ");
}

#[test]
fn programs_get_the_error_as_a_line() {
    let env = TestEnv::empty();
    let run = env.run(["snapshots", "--json"]);
    assert_eq!((run.code, run.stdout.as_str()), (10, ""));
    let error: serde_json::Value = serde_json::from_str(&run.stderr).unwrap();
    assert_eq!(error["message_type"], "exit_error");
    assert_eq!((&error["code"], &error["id"]), (&10.into(), &"no-repository".into()));
}

#[test]
fn programs_get_the_status_as_a_line_whatever_was_answered() {
    let env = TestEnv::with_tree();
    env.snapshot(&[]);
    for args in [&["find", "nosuch"][..], &["history", "/nosuch"], &["status"], &["ls", "nosuch"]] {
        let run = env.run(args.iter().chain(&["--json"]));
        assert_ne!(run.code, 0, "{args:?}");
        let last = run.stderr.lines().last().unwrap_or_default();
        let line: serde_json::Value = serde_json::from_str(last).unwrap_or_else(|e| panic!("{args:?}: {e}"));
        assert_eq!(
            (&line["message_type"], &line["code"]),
            (&"exit_error".into(), &run.code.into()),
            "{args:?}"
        );
    }
    // one that succeeds has nothing to say there
    assert_eq!(env.run(["ls", "latest", "--json"]).stderr, "");
}

#[test]
fn without_a_command_those_for_people_are_listed() {
    let run = TestEnv::empty().run::<&str>([]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("snapshot") && !run.stderr.contains("__check"), "{}", run.stderr);
}

#[test]
fn damage_has_its_status() {
    let env = TestEnv::with_tree();
    env.snapshot(&[]);
    for entry in walk(&env.path("repo/packs")) {
        fs::remove_file(entry).unwrap();
    }
    let run = env.run(["ls", "latest"]);
    assert_eq!(run.code, 40, "{}", run.stderr);
    assert!(run.stderr.contains("6 entries are missing"), "{}", run.stderr);
    assert!(run.stderr.contains("lifeboat verify says what is damaged"), "{}", run.stderr);
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}

#[test]
fn a_reader_that_goes_away_is_no_scandal() {
    let env = TestEnv::with_tree();
    env.snapshot(&[]);
    let mut command = env.command();
    command.args(["ls", "latest"]).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn what_the_parser_repeats_commands_no_terminal() {
    let env = TestEnv::new();
    for args in [
        &["--x\u{1b}]0;t\u{7}"][..],
        &["\u{1b}[31m"],
        &["verify", "--sample", "\u{1b}[2J"],
        &["ls", "x", "\u{9b}1m"],
    ] {
        let run = env.run(args);
        assert_eq!(run.code, 2, "{args:?}: {}", run.stderr);
        let raw = run.stderr.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(raw, None, "{args:?}: {:?}", run.stderr);
        assert!(run.stderr.contains("error:"), "{}", run.stderr);
    }
    assert!(env.ok(["--help"]).contains("Usage"));
}

#[test]
fn a_newer_repository_is_named_as_such_and_left_alone() {
    let env = TestEnv::with_tree();
    env.snapshot(&[]);
    let file = env.path("repo/repository.json");
    let text = fs::read_to_string(&file).unwrap();
    let tree = env.arg("tree");
    for (from, to) in
        [("\"version\": 1", "\"version\": 2"), ("\"features\": []", "\"features\": [\"parity\"]")]
    {
        fs::remove_file(&file).unwrap();
        fs::write(&file, text.replace(from, to)).unwrap();
        let all = || -> Vec<_> {
            let mut files = walk(&env.path("repo"));
            files.sort();
            files.into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect()
        };
        let before = all();
        for args in [
            &["snapshot", &tree][..],
            &["snapshots"],
            &["restore", "latest", "-t", "out"],
            &["forget", "latest"],
            &["prune"],
            &["verify", "--deep"],
            &["repair"],
            &["key", "add"],
            &["log", "add", "--observation", "x"],
        ] {
            let run = env.run(args);
            assert_eq!(run.code, 1, "{args:?}: {}", run.stderr);
            assert!(run.stderr.contains("needs a newer lifeboat"), "{args:?}: {}", run.stderr);
            assert!(!run.stderr.contains("damaged"), "{args:?}: {}", run.stderr);
        }
        assert_ne!(env.run(["init"]).code, 0);
        assert_eq!(before, all());
        assert!(!env.path("out").exists());
    }
}

#[test]
fn a_wrong_command_line_is_json_where_programs_read() {
    let env = TestEnv::new();
    for args in [&["status", "--json", "--nosuch"][..], &["log", "show", "--json", "--verdict", "q"]] {
        let run = env.run(args);
        assert_eq!(run.code, 2, "{args:?}");
        let line: serde_json::Value = serde_json::from_str(run.stderr.lines().last().unwrap()).unwrap();
        assert_eq!(line["message_type"].as_str(), Some("exit_error"), "{line}");
    }
}

#[test]
fn a_tree_that_a_rollback_put_aside_is_not_the_application() {
    let env = TestEnv::new();
    env.write(".lifeboat-app.20261125T120000Z-0badcafe/lifeboat.toml", "[app]\nname = \"a\"\n");
    let aside = env.path(".lifeboat-app.20261125T120000Z-0badcafe");
    for args in [&["snapshot"][..], &["run", "--list"], &["status"]] {
        let run = crate::env::Run::from(env.command().current_dir(&aside).args(args).output().unwrap());
        assert!(run.code == 2 && run.stderr.contains("put aside"), "{args:?}: {} {}", run.code, run.stderr);
    }
}

#[test]
fn what_is_no_repository_is_named() {
    let env = TestEnv::with_tree();
    let file = env.arg("tree/b.conf");
    let run = env.run(["--repo", &file, "snapshots"]);
    assert_eq!(run.code, 10, "{}", run.stderr);
    check!(env, run.stderr, @r"
    error: there is no repository at [DIR]/tree/b.conf
    next: check --repo or LIFEBOAT_REPOSITORY; lifeboat init makes a repository
    ");
    assert!(env.run(["--repo", &file, "status"]).stdout.contains("there is no repository at"));
}

#[test]
fn a_repository_of_somebody_else_is_named_with_the_cause() {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    let env = TestEnv::with_tree();
    env.snapshot(&[]);
    fs::set_permissions(env.path("repo"), fs::Permissions::from_mode(0o000)).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    let run = |args: &[&str]| {
        if !is_root {
            return env.run(args);
        }
        // the program may lie where only root comes to
        let program = env.path("program");
        if !program.exists() {
            fs::copy(env.command().get_program(), &program).unwrap();
            chown(env.path(""), Some(65534), Some(65534)).unwrap();
        }
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program).args(args);
        command.env_clear().current_dir(env.path(""));
        for (name, value) in env.command().get_envs() {
            value.map(|value| command.env(name, value));
        }
        crate::env::Run::from(command.output().unwrap())
    };
    let ended = run(&["snapshots"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    check!(env, ended.stderr, @r"
    error: could not open [DIR]/repo/repository.json
      because: Permission denied (os error 13)
    next: run as the user that owns the repository
    ");
    let told = run(&["status", "--json"]).stdout;
    let line = format!("could not open {}: Permission denied", env.arg("repo/repository.json"));
    assert!(told.contains(&line), "{told}");
    fs::set_permissions(env.path("repo"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_path_where_a_whole_snapshot_is_wanted_is_refused() {
    let env = TestEnv::with_tree();
    let id = env.snapshot(&[]);
    env.ok(["verify", &id]);
    for args in [&["verify", "latest:/nonexistent"][..], &["show", "latest:/x"], &["forget", "latest:/x"]] {
        let run = env.run(args);
        assert_eq!(run.code, 2, "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains("names a path, a whole snapshot is wanted here"), "{}", run.stderr);
    }
}

fn damage_document(env: &TestEnv, id: &str) {
    let document = env.path(&format!("repo/snapshots/{id}.json"));
    let mut bytes = fs::read(&document).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&document).unwrap();
    fs::write(&document, bytes).unwrap();
}

#[test]
fn the_newest_is_not_guessed_where_a_newer_one_may_be_damaged() {
    let env = TestEnv::with_tree();
    env.write("tree/lifeboat.toml", "[app]\nname = \"tree\"\n");
    let plan = env.arg("tree/lifeboat.toml");
    let first = env.snapshot(&["--tag", "good"]);
    env.write("tree/new", "x");
    let second = env.snapshot(&["--tag", "good"]);
    env.write("tree/newer", "x");
    let third = env.snapshot(&[]);
    damage_document(&env, &second);
    // the newest names the damaged one as the one before it; which one has the tag cannot be known
    env.ok(["ls", "latest"]);
    let (target, whole) = (env.arg("tree"), format!("latest:{}", env.arg("tree")));
    damage_document(&env, &third);
    for args in [
        &["restore", "@good", "-t", "out"][..],
        &["restore", "latest", "-t", "out"],
        &["restore", &whole, "-t", &target, "--in-place", "--delete", "--dry-run"],
        &["ls", "latest"],
        &["cat", "latest:tree/a/two"],
        &["show"],
        &["drill", "-c", &plan],
    ] {
        let run = env.run(args);
        assert_eq!(run.code, 40, "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains("which snapshot is meant cannot be told"), "{}", run.stderr);
        assert!(run.stderr.contains(&format!("give an id, such as {}", &first[..8])), "{}", run.stderr);
        assert!(run.stderr.contains("cannot be read: ") && run.stderr.contains("damaged"), "{}", run.stderr);
    }
    let run = env.run(["restore", &first, "-t", &env.arg("out"), "--json"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains(&format!("\"snapshot\":\"{first}\"")), "{}", run.stdout);
}

#[test]
fn a_snapshot_that_nobody_signed_is_restored_with_a_warning() {
    let env = TestEnv::with_tree();
    let id = env.snapshot(&[]);
    let signature = env.path(&format!("repo/snapshots/{id}.sig"));
    let other = env.snapshot(&["--tag", "other"]);
    fs::copy(env.path(&format!("repo/snapshots/{other}.sig")), env.path("sig")).unwrap();
    fs::remove_file(&signature).unwrap();
    for (forged, said) in
        [(false, "is not signed"), (true, "is signed by nobody whose key the repository has")]
    {
        if forged {
            fs::copy(env.path("sig"), &signature).unwrap();
        }
        let run = env.run(["restore", &id, "-t", &env.arg(&format!("out{forged}"))]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(run.stderr.contains(said), "{}", run.stderr);
    }
    let run = env.run(["restore", &other, "-t", &env.arg("good")]);
    assert!(run.code == 0 && !run.stderr.contains("signed"), "{}", run.stderr);
}

#[test]
fn a_snapshot_whose_document_is_damaged_is_there_all_the_same() {
    let env = TestEnv::with_tree();
    let good = env.snapshot(&[]);
    env.write("tree/new", "x");
    let id = env.snapshot(&[]);
    damage_document(&env, &id);
    let short = &id[..8];
    for args in [
        &["restore", short, "-t", "out"][..],
        &["ls", short],
        &["show", &id],
        &["verify", short],
        &["forget", short],
    ] {
        let run = env.run(args);
        assert_eq!(run.code, 40, "{args:?}: {}", run.stderr);
        let said = format!("snapshot {short} is there, but its document is damaged and cannot be read");
        assert!(run.stderr.contains(&said), "{}", run.stderr);
    }
    assert_eq!(env.run(["ls", "0000"]).code, 1);
    env.ok(["ls", &good]);
    // where all snapshots are asked, those that can be read answer
    for args in [&["find", "two"][..], &["history", "tree/a/two"]] {
        let run = env.run(args);
        assert_eq!(run.code, 40, "{args:?}: {}", run.stderr);
        assert!(run.stdout.contains("/tree/a/two"), "{args:?}: {}", run.stdout);
        assert!(run.stderr.contains(&format!("snapshot {short} cannot be read")), "{}", run.stderr);
    }
    env.ok(["find", "two", &good]);
}
