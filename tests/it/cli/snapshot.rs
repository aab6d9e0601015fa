use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::env::{TestEnv, check};

#[test]
fn the_id_comes_last_and_a_summary_on_stderr() {
    let env = TestEnv::with_tree();
    let run = env.run(["snapshot", &env.arg("tree")]);
    assert_eq!(run.code, 0);
    assert_eq!(run.stdout.len(), 65);
    assert!(
        run.stderr.starts_with(&format!("snapshot {}: 3 files, 2 directories, 14 B in", &run.stdout[..8]))
    );
    let quiet = env.run(["snapshot", "-q", &env.arg("tree")]);
    assert_eq!(quiet.stderr, "");
}

#[test]
fn all_that_is_said_of_a_snapshot_is_kept() {
    let env = TestEnv::with_tree();
    let tree = env.arg("tree");
    env.ok(["backup", &tree, "--tag", "x,y", "--tag", "z", "--reason", "a test", "--host", "web"]);
    let answer = env.json(["snapshots"]);
    let one = &answer["snapshots"][0];
    assert_eq!(one["tags"], serde_json::json!(["x", "y", "z"]));
    assert_eq!((&one["reason"], &one["host"]), (&"a test".into(), &"web".into()));
    assert_eq!(one["roots"], serde_json::json!([tree]));
    assert_eq!(one["statistics"]["files"], 3);
}

#[test]
fn excludes_and_relative_paths() {
    let env = TestEnv::with_tree();
    env.write("tree/cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55");
    env.write("tree/cache/big", "x");
    env.write("tree/no/.nobackup", "");
    env.write("tree/no/x", "x");
    env.write("rules", "# a comment\n*.conf\n");
    env.ok([
        "snapshot",
        "./x/../tree",
        "-e",
        "two",
        "--exclude-file",
        "rules",
        "--exclude-caches",
        "--exclude-if-present",
        ".nobackup",
    ]);
    check!(env, env.ok(["ls", "latest"]), @r"
    [DIR]/tree
    [DIR]/tree/a
    [DIR]/tree/a/one
    [DIR]/tree/cache
    [DIR]/tree/cache/CACHEDIR.TAG
    [DIR]/tree/link
    [DIR]/tree/no
    ");
}

#[test]
fn what_is_named_is_never_left_out_whatever_marks_it() {
    let env = TestEnv::with_tree();
    env.write("tree/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55");
    env.write("tree/.nobackup", "");
    for rule in [&["--exclude-caches"][..], &["--exclude-if-present", ".nobackup"]] {
        for args in [&["--dry-run"][..], &[]] {
            let run = env.run([&["snapshot", &env.arg("tree")], rule, args].concat());
            assert!(run.code == 0 && run.stderr.contains("5 files"), "{rule:?}: {}", run.stderr);
        }
        assert_eq!(env.ok(["cat", &format!("latest:{}", env.arg("tree/a/one"))]), "one\n");
        let diff = env.run([&["diff", "latest", "--live"], rule].concat());
        assert_eq!((diff.code, diff.stdout.as_str()), (0, ""), "{rule:?}: {}", diff.stderr);
        env.write("tree/later", "later");
        let latest = format!("latest:{}", env.arg("tree"));
        env.ok(["restore", &latest, "--in-place", "--delete", "--target", &env.arg("tree")]);
        assert!(!env.path("tree/later").exists(), "{rule:?}");
    }
}

#[test]
fn nothing_changed_nothing_taken() {
    let env = TestEnv::with_tree();
    env.snapshot(&[]);
    let run = env.run(["snapshot", "--skip-if-unchanged", &env.arg("tree")]);
    assert_eq!((run.code, run.stdout.as_str()), (0, ""));
    assert!(run.stderr.starts_with("nothing has changed since snapshot "), "{}", run.stderr);
    let answer = env.json(["snapshot", "--skip-if-unchanged", &env.arg("tree")]);
    assert_eq!((&answer["skipped"], answer["id"].is_null()), (&true.into(), true));
    assert_eq!(answer["parent"], env.json(["snapshots"])["snapshots"][0]["id"]);
    env.write("tree/new", "new");
    let answer = env.json(["snapshot", "--skip-if-unchanged", &env.arg("tree")]);
    assert_eq!((&answer["skipped"], answer["id"].is_string()), (&false.into(), true));
    // the first of its paths is taken, whatever is asked
    let run = env.run(["snapshot", "--skip-if-unchanged", &env.arg("tree/a")]);
    assert_eq!((run.code, run.stdout.trim().len()), (0, 64));
}

#[test]
fn a_dry_run_leaves_nothing() {
    let env = TestEnv::with_tree();
    let run = env.run(["snapshot", "--dry-run", &env.arg("tree")]);
    assert_eq!((run.code, run.stdout.as_str()), (0, ""));
    check!(env, run.stderr, @r"
    dry run: 3 files, 2 directories, 14 B in [TOOK]
      3 new, 0 changed, 0 unchanged; 14 B would be read
    ");
    assert_eq!(env.json(["snapshots"])["snapshots"], serde_json::json!([]));
    assert!(!env.path("repo/packs").exists());
}

#[test]
fn a_file_that_cannot_be_read_makes_it_partial() {
    let env = TestEnv::with_tree();
    // root can read everything, so only an ordinary user can meet this
    fs::set_permissions(env.path("tree/a/one"), fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(env.path("tree/a/one")).is_ok() {
        return;
    }
    let run = env.run(["snapshot", &env.arg("tree")]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert_eq!(env.json(["snapshots"])["snapshots"][0]["partial"], true);
}

#[test]
fn a_commands_output_counts_only_if_the_command_succeeds() {
    let env = TestEnv::new();
    env.ok(["snapshot", "--stdin-from-command", "dump.sql", "--", "printf", "a\\nb"]);
    assert_eq!(env.ok(["cat", "latest"]), "a\nb");
    assert_eq!(env.ok(["ls", "latest"]), "dump.sql\n");
    let run = env.run(["snapshot", "--stdin-from-command", "dump.sql", "--", "sh", "-c", "echo x; exit 3"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("no snapshot was taken"), "{}", run.stderr);
    assert_eq!(env.json(["snapshots"])["snapshots"].as_array().unwrap().len(), 1);
}

#[test]
fn a_commands_output_that_is_the_same_again_needs_no_snapshot() {
    let env = TestEnv::new();
    let taken = || env.json(["snapshots"])["snapshots"].as_array().unwrap().len();
    for (text, after) in [("a", 1), ("a", 1), ("b", 2), ("b", 2)] {
        env.ok(["snapshot", "--skip-if-unchanged", "--stdin-from-command", "dump", "--", "printf", text]);
        assert_eq!(taken(), after, "{text}");
    }
    // where nobody asks for less, each is taken
    env.ok(["snapshot", "--stdin-from-command", "dump", "--", "printf", "b"]);
    assert_eq!(taken(), 3);
}

// found by review: the list of chunks grew with the stream, beyond what a reader takes
#[test]
fn a_long_output_is_cut_into_larger_chunks_and_most_of_it_again_in_the_same() {
    let env = TestEnv::new();
    // the smallest chunks, so that 16 MB are long
    let about = env.path("repo/repository.json");
    let mut text: serde_json::Value = serde_json::from_slice(&fs::read(&about).unwrap()).unwrap();
    text["chunking"] =
        serde_json::json!({"method": "fastcdc-2020", "minimum": 64, "average": 256, "maximum": 1024});
    fs::remove_file(&about).unwrap();
    fs::write(&about, serde_json::to_vec(&text).unwrap()).unwrap();
    let mut x = 88_172_645_463_325_252u64;
    let mut digits = String::new();
    while digits.len() < 16 << 20 {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        digits.push_str(&format!("{x:016x}"));
    }
    let mut stored = Vec::new();
    for before in ["", "some lines more"] {
        let dump = format!("{before}{digits}");
        env.write("dump", &dump);
        env.ok(["snapshot", "--stdin-from-command", "dump", "--", "cat", &env.arg("dump")]);
        assert!(env.ok(["cat", "latest"]) == dump);
        let shown = env.json(["snapshots"]);
        let all = shown["snapshots"].as_array().unwrap();
        stored.push(all[all.len() - 1]["statistics"]["stored_bytes"].as_u64().unwrap());
    }
    assert!(stored[1] * 4 < stored[0], "{stored:?}");
}

#[test]
fn a_commands_output_needs_a_name_that_can_be_restored() {
    let env = TestEnv::new();
    for name in ["..", ".", "", "/", "a/../b", "../a"] {
        let run = env.run(["snapshot", "--stdin-from-command", name, "--", "echo", "x"]);
        assert_eq!(run.code, 2, "{name}: {}", run.stderr);
    }
    env.ok(["snapshot", "--stdin-from-command", "/var/dump", "--", "printf", "x"]);
    assert_eq!(env.ok(["cat", "latest:/var/dump"]), "x");
}

#[test]
fn a_repository_does_not_save_itself() {
    let env = TestEnv::with_tree();
    let dir = env.arg("");
    let run = env.run(["snapshot", &dir, "-e", "keys"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("is left out"), "{}", run.stderr);
    assert!(!env.ok(["ls", "latest"]).contains("repo"), "the repository is in its own snapshot");
}

#[test]
fn a_repository_does_not_save_itself_wherever_it_lies_and_however_it_is_named() {
    let env = TestEnv::empty();
    let name = "my app [1]*?\\!#/{a,b} backup";
    env.write("my app [1]*?\\!#/file", "x");
    let root = env.arg("my app [1]*?\\!#");
    std::os::unix::fs::symlink(&root, env.path("root-link")).unwrap();
    std::os::unix::fs::symlink(env.path(name), env.path("repo-link")).unwrap();
    env.ok(["-r", &env.arg(name), "init"]);
    for (location, root) in [
        (env.arg(name), root.clone()),
        (env.arg("repo-link"), root.clone()),
        (env.arg(name), env.arg("root-link")),
        (env.arg("root-link/{a,b} backup"), root),
    ] {
        let with = |args: &[&str]| env.run([&["-r", &location], args].concat());
        for args in [&["--dry-run"][..], &[]] {
            let run = with(&[&["snapshot", &root], args].concat());
            assert_eq!(run.code, 0, "{}", run.stderr);
            let shown = root.replace('\\', "\\\\");
            let line = format!("the repository itself, {shown}/{{a,b}} backup, is left out");
            assert!(run.stderr.contains("1 file, 1 directory,"), "{root} in {location}: {}", run.stderr);
            assert!(run.stderr.contains(&line), "{line} is not in {}", run.stderr);
        }
        assert_eq!(with(&["ls", "latest"]).stdout.lines().count(), 2);
        // what a snapshot was told to leave out is nothing that a restore removes
        env.write("my app [1]*?\\!#/later", "x");
        let latest = format!("latest:{root}");
        let run = with(&["restore", &latest, "--in-place", "--delete", "--target", &root]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(env.path(name).join("repository.json").exists() || env.path(name).join("packs").exists());
        assert!(!env.path("my app [1]*?\\!#/later").exists());
    }
}

#[test]
fn programs_get_json_lines() {
    let env = TestEnv::with_tree();
    let summary = env.json(["snapshot", &env.arg("tree")]);
    assert_eq!(summary["message_type"], "summary");
    assert_eq!(summary["statistics"]["new_files"], 3);
    assert_eq!(summary["id"].as_str().unwrap().len(), 64);
}

#[test]
fn one_root_that_is_missing_does_not_cost_the_others() {
    let env = TestEnv::with_tree();
    env.write("second/x", "x");
    let (tree, gone, second) = (env.arg("tree"), env.arg("gone"), env.arg("second"));
    let dry = env.run(["snapshot", "--dry-run", &tree, &gone, &second]);
    assert!(dry.code == 3 && dry.stderr.contains("gone"), "{}: {}", dry.code, dry.stderr);
    let run = env.run(["snapshot", &tree, &gone, &second]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert!(run.stderr.contains(&gone), "{}", run.stderr);
    let one = &env.json(["snapshots"])["snapshots"][0];
    assert_eq!((&one["roots"], &one["partial"]), (&serde_json::json!([tree, second]), &true.into()));
    assert_eq!(env.ok(["cat", &format!("latest:{second}/x")]), "x");
    let run = env.run(["snapshot", &gone, &env.arg("gone too")]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert_eq!(env.run(["snapshot", &gone]).code, 1);
    assert_eq!(env.json(["snapshots"])["snapshots"].as_array().unwrap().len(), 1);
}

#[test]
fn many_directories_where_few_files_may_be_open() {
    let env = TestEnv::new();
    // it is still being read when all else has been seen
    let big: Vec<u8> = (0..24_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    env.write("tree/0big", big);
    for n in 0..3000 {
        env.write(&format!("tree/d{n}/file"), format!("{n}"));
        fs::create_dir(env.path(&format!("tree/e{n}"))).unwrap();
    }
    let program = env.command().get_program().to_owned();
    let mut command = env.command();
    let envs: Vec<_> =
        command.get_envs().map(|(k, v)| (k.to_owned(), v.unwrap_or_default().to_owned())).collect();
    command = std::process::Command::new("sh");
    command.env_clear().envs(envs).current_dir(env.path(""));
    command
        .args(["-c", "ulimit -n 192; exec \"$@\"", "sh"])
        .arg(program)
        .args(["snapshot", &env.arg("tree")]);
    let run = crate::env::Run::from(command.output().unwrap());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("3,001 files, 6,001 directories"), "{}", run.stderr);
}

#[test]
fn two_at_once_are_no_damage() {
    let env = TestEnv::with_tree();
    for n in 0..300 {
        env.write(&format!("many/d{}/f{n}", n % 7), format!("{n}"));
        env.write(&format!("more/d{}/f{n}", n % 5), format!("{n} of more"));
    }
    for round in 0..4 {
        let start = |root: &str| env.command().args(["snapshot", "-q", &env.arg(root)]).spawn().unwrap();
        let both = [start("many"), start("more")];
        for mut child in both {
            assert!(child.wait().unwrap().success());
        }
        let run = env.run(["verify", "--deep"]);
        assert_eq!(run.code, 0, "round {round}: {}{}", run.stdout, run.stderr);
    }
    assert_eq!(env.json(["snapshots"])["snapshots"].as_array().unwrap().len(), 8);
}

#[test]
fn what_could_not_be_meant_is_refused() {
    let env = TestEnv::with_tree();
    let tree = env.arg("tree");
    for (args, word) in [(["-e", "["], "exclude pattern `[`"), (["--tag", "a:b"], "has a colon")] {
        let run = env.run([&["snapshot", &tree], &args[..]].concat());
        assert_eq!(run.code, 2, "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(word), "{args:?}: {}", run.stderr);
    }
    assert_eq!(env.json(["snapshots"])["snapshots"], serde_json::json!([]));
}

#[test]
fn what_is_a_file_by_itself_comes_back_under_its_own_path() {
    let env = TestEnv::with_tree();
    let text = |path: &str| std::fs::read_to_string(env.path(path)).unwrap();
    for (name, place) in [("d/x", "d/x"), ("dump.sql", "dump.sql"), ("/var/dump", "var/dump")] {
        env.ok(["snapshot", "--stdin-from-command", name, "--", "printf", "out"]);
        let target = format!("to {}", name.replace('/', "_"));
        env.ok(["restore", "latest", "--target", &env.arg(&target)]);
        assert_eq!(text(&format!("{target}/{place}")), "out", "{name}");
        // named, it goes straight into the target
        env.ok(["restore", &format!("latest:{name}"), "--target", &env.arg(&format!("{target} straight"))]);
        let last = name.rsplit('/').next().unwrap();
        assert_eq!(text(&format!("{target} straight/{last}")), "out", "{name}");
    }
    env.ok(["snapshot", &env.arg("tree/b.conf"), &env.arg("tree/a")]);
    env.ok(["restore", "latest", "--target", &env.arg("both")]);
    let below = env.arg("both") + &env.arg("tree");
    assert_eq!(std::fs::read_to_string(format!("{below}/b.conf")).unwrap(), "x = 1\n");
    assert_eq!(std::fs::read_to_string(format!("{below}/a/one")).unwrap(), "one\n");
    env.write("tree/b.conf", "x = 2, and more\n");
    env.ok(["restore", "latest", "--in-place", "--target", "/"]);
    assert_eq!(text("tree/b.conf"), "x = 1\n");
}

fn database(env: &TestEnv, path: &str) {
    let path = env.path(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let db = rusqlite::Connection::open(path).unwrap();
    db.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
}

#[test]
fn a_database_of_the_plan_that_is_not_saved_is_a_problem() {
    let env = TestEnv::new();
    database(&env, "far/a.db");
    database(&env, "app/cache/b.db");
    database(&env, "app/data/c.db");
    env.write("app/text.db", "no database");
    std::os::unix::fs::symlink("data/c.db", env.path("app/link.db")).unwrap();
    std::fs::hard_link(env.path("app/data/c.db"), env.path("app/second.db")).unwrap();
    let plan = |paths: &[&str]| {
        let tables = paths.iter().map(|path| format!("[[database]]\nkind = \"sqlite\"\npath = \"{path}\"\n"));
        let text = format!("[app]\nexclude = [\"cache/\"]\n{}", tables.collect::<String>());
        env.write("app/lifeboat.toml", text);
    };
    let snapshot = |args: &[&str]| env.run([&["-c", "app/lifeboat.toml", "snapshot"], args].concat());
    let cases = [
        ("../far/a.db", "it lies outside of what is saved"),
        ("cache/b.db", "it is excluded"),
        ("none.db", "there is no such file"),
        ("text.db", "the file is no SQLite database"),
    ];
    for (path, why) in cases {
        plan(&[path, "data/c.db", "link.db", "second.db"]);
        let whole =
            env.arg("app/x").replace("app/x", path.strip_prefix("../").unwrap_or(&format!("app/{path}")));
        for args in [&[][..], &["--plain-databases"], &["--dry-run"], &["--skip-if-unchanged"]] {
            let run = snapshot(args);
            assert_eq!(run.code, 3, "{path} {args:?}: {}", run.stderr);
            let line =
                format!("warning[database-not-saved]: {whole}: a database of the plan is not saved: {why}");
            assert!(run.stderr.contains(&line), "{line} is not in\n{}", run.stderr);
            assert!(
                run.stderr.contains("1: named as a database in the plan and not saved as one"),
                "{}",
                run.stderr
            );
            assert!(!run.stderr.contains("could not be read"), "{}", run.stderr);
        }
        let run = snapshot(&["--json"]);
        assert_eq!(run.code, 3);
        let answer: serde_json::Value = serde_json::from_str(run.stdout.lines().last().unwrap()).unwrap();
        assert_eq!(answer["databases_not_saved"], serde_json::json!([whole]));
        let shown = env.json(["show", "latest"]);
        assert!(shown.to_string().contains("database-not-saved"), "{shown:#}");
    }
    plan(&["data/c.db", "link.db", "second.db"]);
    for args in [&[][..], &["--plain-databases"], &[], &["--dry-run"], &[]] {
        let run = snapshot(args);
        assert_eq!(run.code, 0, "{args:?}: {}", run.stderr);
    }
    let shown = env.json(["show", "latest"]);
    assert!(shown.to_string().contains("data/c.db"), "{shown:#}");
}

#[test]
fn a_damaged_database_of_the_plan_is_a_problem_each_time() {
    let env = TestEnv::new();
    database(&env, "app/a.db");
    let path = env.path("app/a.db");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100..].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    env.write("app/lifeboat.toml", "[[database]]\nkind = \"sqlite\"\npath = \"a.db\"\n");
    for _ in 0..2 {
        let run = env.run(["-c", "app/lifeboat.toml", "snapshot"]);
        assert_eq!(run.code, 3, "{}", run.stderr);
        assert!(run.stderr.contains("read like any other file"), "{}", run.stderr);
        assert!(run.stderr.contains("[database-unsound]"), "{}", run.stderr);
    }
}

#[test]
fn the_parent_is_one_that_has_all_the_roots() {
    let env = TestEnv::new();
    env.write("a/x", "x");
    env.write("b/y", "y");
    let (a, b) = (env.arg("a"), env.arg("b"));
    // what changed within the last moments is read again
    std::thread::sleep(std::time::Duration::from_millis(2500));
    env.ok(["snapshot", &a, &b]);
    env.ok(["snapshot", &a]);
    let run = env.run(["snapshot", &a, &b, "--skip-if-unchanged"]);
    assert!(run.code == 0 && run.stdout.is_empty(), "{}{}", run.stdout, run.stderr);
    env.write("b/z", "z");
    let run = env.run(["snapshot", &a, &b]);
    assert!(run.stderr.contains("1 new, 0 changed, 2 unchanged"), "{}", run.stderr);
}

// The packs of the repository, the largest last.
fn packs(env: &TestEnv) -> Vec<std::path::PathBuf> {
    let folders = fs::read_dir(env.path("repo/packs")).unwrap().map(|entry| entry.unwrap().path());
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    let mut found: Vec<_> = files.collect();
    found.sort_by_key(|path| fs::metadata(path).unwrap().len());
    found
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 7u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..bytes).map(next).collect()
}

#[test]
fn a_pack_that_was_cut_off_is_replaced_by_the_next_snapshot() {
    let env = TestEnv::with_tree();
    env.write("tree/noise", noise(3 << 20));
    let take = || env.ok(["snapshot", "--jobs", "1", &env.arg("tree")]);
    take();
    for left in [1 << 20, 0] {
        let pack = packs(&env).pop().unwrap();
        fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
        fs::OpenOptions::new().write(true).open(&pack).unwrap().set_len(left).unwrap();
        take();
        env.ok(["verify", "--read-data"]);
        env.ok([
            "restore",
            &format!("latest:{}", env.arg("tree")),
            "--target",
            &env.arg(&format!("out{left}")),
        ]);
        assert!(fs::read(env.path(&format!("out{left}/noise"))).unwrap() == noise(3 << 20));
    }
}

#[test]
fn a_damaged_manifest_of_the_newest_snapshot_is_no_obstacle_to_the_next() {
    let damages: [fn(&std::path::Path); 3] = [
        |pack| fs::remove_file(pack).unwrap(),
        |pack| fs::write(pack, "").unwrap(),
        |pack| {
            let mut bytes = fs::read(pack).unwrap();
            bytes[20..60].iter_mut().for_each(|byte| *byte ^= 0xff);
            fs::write(pack, bytes).unwrap();
        },
    ];
    for damage in damages {
        let env = TestEnv::with_tree();
        env.write("tree/noise", noise(1 << 20));
        env.snapshot(&[]);
        // of two packs, the smaller one is that of the manifest
        let pack = packs(&env).remove(0);
        fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
        damage(&pack);
        assert_eq!(env.run(["verify", "--read-data"]).code, 40);
        let dry = env.run(["snapshot", "--dry-run", &env.arg("tree")]);
        assert_eq!((dry.code, dry.stderr.contains("is damaged")), (0, true), "{}", dry.stderr);
        let run = env.run(["snapshot", &env.arg("tree")]);
        assert_eq!((run.code, run.stderr.matches("parent-damaged").count()), (0, 1), "{}", run.stderr);
        // the same tree makes the same manifest: it must have been stored again
        env.ok(["restore", &format!("latest:{}", env.arg("tree")), "--target", &env.arg("out")]);
        assert!(fs::read(env.path("out/noise")).unwrap() == noise(1 << 20));
        let run = env.run(["snapshot", &env.arg("tree")]);
        assert_eq!((run.code, run.stderr.contains("is damaged")), (0, false), "{}", run.stderr);
    }
}

#[test]
fn the_log_of_a_database_that_is_named_itself() {
    let env = TestEnv::new();
    std::fs::create_dir(env.path("t")).unwrap();
    let db = rusqlite::Connection::open(env.path("t/app.db")).unwrap();
    db.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    let (database, log) = (env.arg("t/app.db"), env.arg("t/app.db-wal"));
    let size = fs::metadata(&log).unwrap().len();
    // alone it is what was asked for
    let run = env.run(["snapshot", &log]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    env.ok(["restore", "latest", "--target", &env.arg("alone")]);
    assert_eq!(fs::metadata(env.path("alone").join(&log[1..])).unwrap().len(), size);
    // with its database it is in the copy
    for args in [["--dry-run"], ["--rehash"]] {
        for root in [&database, &env.arg("t")] {
            let run = env.run([&["snapshot", root, &log], &args[..]].concat());
            assert_eq!(run.code, 0, "{}", run.stderr);
            assert!(run.stderr.contains("is in the copy of its database"), "{}", run.stderr);
        }
    }
    env.ok(["restore", "latest", "--target", &env.arg("both")]);
    let restored = env.path("both").join(&database[1..]);
    assert!(!env.path("both").join(&log[1..]).exists());
    let count: u32 = rusqlite::Connection::open(restored)
        .unwrap()
        .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
        .unwrap();
    assert_eq!(count, 1);
    // of a file that is a root there is one path
    env.ok(["snapshot", &database]);
    let shown = env.json(["show", "latest"]);
    assert_eq!(shown["databases"][0]["path"], database.as_str(), "{shown:#}");
}

// found by review: nothing of it was read, and nothing said
#[test]
fn a_file_of_the_kernel_has_content_though_no_size() {
    let env = TestEnv::with_tree();
    env.ok(["snapshot", "/proc/sys/kernel/ostype"]);
    assert_eq!(env.ok(["cat", "latest:/proc/sys/kernel/ostype"]), "Linux\n");
    env.ok(["verify", "--deep"]);
}

#[test]
fn a_dry_run_leaves_out_what_is_in_the_copy_of_a_database() {
    let env = TestEnv::new();
    fs::create_dir(env.path("t")).unwrap();
    let db = rusqlite::Connection::open(env.path("t/app.db")).unwrap();
    db.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    let files = |args: &[&str]| {
        env.json([&["snapshot", &env.arg("t")], args].concat())["statistics"]["files"].clone()
    };
    assert_eq!(files(&["--dry-run"]), files(&[]));
    assert_eq!(files(&["--dry-run", "--plain-databases"]), 3);
}

#[test]
fn a_root_that_is_a_link_to_a_file_is_that_file() {
    let env = TestEnv::with_tree();
    std::os::unix::fs::symlink("../b.conf", env.path("tree/a/conf")).unwrap();
    let run = env.run(["snapshot", &env.arg("tree/a/conf")]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(env.ok(["cat", &format!("latest:{}", env.arg("tree/a/conf"))]), "x = 1\n");
    // and one that leads nowhere is none
    std::os::unix::fs::symlink("gone", env.path("tree/a/gone")).unwrap();
    let run = env.run(["snapshot", &env.arg("tree/a/gone")]);
    assert!(run.code == 1 && run.stderr.contains("tree/a/gone"), "{}: {}", run.code, run.stderr);
}
