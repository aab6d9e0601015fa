use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;

use crate::env::{TestEnv, check};

// A tree with two snapshots: of what lies between them there is one change of each kind.
fn changed() -> TestEnv {
    let env = TestEnv::with_tree();
    fs::write(env.path("tree/gone"), "x").unwrap();
    env.snapshot(&["--host", "web", "--tag", "before"]);
    fs::remove_file(env.path("tree/gone")).unwrap();
    fs::remove_file(env.path("tree/link")).unwrap();
    env.write("tree/link", "now a file");
    env.write("tree/new", "");
    env.write("tree/a/two", "2\n");
    fs::set_permissions(env.path("tree/b.conf"), fs::Permissions::from_mode(0o600)).unwrap();
    env.snapshot(&["--host", "web"]);
    env
}

#[test]
fn snapshots_are_listed_oldest_first() {
    let env = changed();
    check!(env, env.ok(["snapshots", "--tag", "before"]), @r"
    id  time (UTC)  host  files  size  added  tags  paths
    [LINE]
    [SHORT]  [TIME]  web  4  15 B  [SIZE]  before  [DIR]/tree
    ");
    let ids = |args: &[&str]| {
        let answer = env.json(args);
        answer["snapshots"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s["sequence"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&["list"]), [1, 2]);
    assert_eq!(ids(&["list", "--tag", "before"]), [1]);
    assert_eq!(ids(&["list", "--host", "other"]), [0; 0]);
    assert_eq!(ids(&["list", "--since", "1h"]), [1, 2]);
}

#[test]
fn show_tells_everything() {
    let env = changed();
    let text = env.ok(["show", "@before"]);
    assert!(text.contains("tags       before\n"), "{text}");
    assert!(text.contains("signed     by SHA256:"), "{text}");
    let answer = env.json(["show"]);
    assert_eq!((&answer["sequence"], &answer["signed"]), (&2.into(), &"known".into()));
}

#[test]
fn ls_shows_paths_of_the_source() {
    let env = changed();
    let tree = env.arg("tree");
    check!(env, env.ok(["ls", &format!("latest:{tree}/a")]), @r"
    [DIR]/tree/a
    [DIR]/tree/a/one
    [DIR]/tree/a/two
    ");
    assert_eq!(env.ok(["ls", "latest:/"]), env.ok(["ls", "latest"]));
    assert_eq!(env.ok(["ls", "latest:a"]), env.ok(["ls", &format!("latest:{tree}/a/")]));
    let long = env.ok(["ls", "-l", &format!("@before:{tree}/link")]);
    assert!(long.starts_with("lrwxrwxrwx ") && long.ends_with("/tree/link -> a/one\n"), "{long}");
    let line: serde_json::Value = serde_json::from_str(&env.ok(["ls", "--json", "latest:b.conf"])).unwrap();
    assert_eq!((&line["type"], &line["mode"], &line["size"]), (&"file".into(), &"0600".into(), &6.into()));
    let run = env.run(["ls", &format!("latest:{tree}/nothing")]);
    assert_eq!(run.code, 1);
    check!(env, run.stderr, @r"
    error: [DIR]/tree/nothing is not in the snapshot
    next: lifeboat ls lists the paths; they are those of the host
    ");
}

#[test]
fn names_cannot_command_the_terminal() {
    let env = TestEnv::with_tree();
    let name = std::ffi::OsStr::from_bytes(b"\x1b[31m\n\xff");
    fs::write(env.path("tree/a").join(name), "").unwrap();
    env.snapshot(&[]);
    for args in
        [&["ls", "latest"][..], &["ls", "-l"], &["find", "*31m*"], &["diff", "latest", "--live", "--json"]]
    {
        let run = env.run(args);
        assert!(!run.raw.contains(&0x1b) && !run.raw.contains(&0xff), "{args:?}: {}", run.stdout);
    }
    assert!(env.ok(["ls"]).contains("/tree/a/\\x1b[31m\\x0a\\xff\n"));
    let exact = env.run(["ls", "-0"]);
    assert!(exact.raw.windows(9).any(|w| w == b"/\x1b[31m\n\xff\0"), "{}", exact.stdout);
}

#[test]
fn diff_names_each_change() {
    let env = changed();
    check!(env, env.ok(["diff", "@before", "latest"]), @r"
    M  [DIR]/tree  (mtime)
    C  [DIR]/tree/a/two  (mtime)
    M  [DIR]/tree/b.conf  (mode)
    -  [DIR]/tree/gone
    T  [DIR]/tree/link
    +  [DIR]/tree/new
    ");
    assert_eq!(env.ok(["diff", "latest"]), env.ok(["diff", "@before", "latest"]));
    check!(env, env.ok(["diff", "latest", "@before:a"]), @r"C  [DIR]/tree/a/two  (mtime)");
    check!(env, env.ok(["diff", "latest", "--summary"]), @"1 added, 1 removed, 1 with other content, 2 with other metadata, 1 of another type");
    let lines = env.ok(["diff", "latest", "--json", "--content"]);
    let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!((lines.lines().count(), &last["changes"]), (5, &6.into()));
    assert_eq!(env.ok(["diff", "latest", "latest"]), "");
    assert_eq!(env.run(["diff", "@before"]).code, 1, "there is none before the first");
}

#[test]
fn diff_with_the_living_tree_reads_what_lstat_cannot_tell() {
    let env = changed();
    assert_eq!(env.ok(["diff", "latest", "--live"]), "");
    // the same bytes written again, other bytes of the same size, other times, gone, new
    env.write("tree/a/one", "one\n");
    env.write("tree/a/two", "3\n");
    fs::remove_file(env.path("tree/new")).unwrap();
    env.write("tree/logs/x", "");
    check!(env, env.ok(["diff", "latest", "--live", "--content"]), @r"
    C  [DIR]/tree/a/two  (mtime)
    +  [DIR]/tree/logs
    +  [DIR]/tree/logs/x
    -  [DIR]/tree/new
    ");
    let tree = env.arg("tree/a");
    check!(env, env.ok(["diff", "latest", "--live", &tree]), @r"
    M  [DIR]/tree/a/one  (mtime)
    C  [DIR]/tree/a/two  (mtime)
    ");
    check!(env, env.ok(["diff", "latest", "--live", "--content", "-e", "logs/", "-e", "new"]), @"C  [DIR]/tree/a/two  (mtime)");
}

// Snapshots of `w/app` and of `w`, between which nothing of the first changed.
fn of_two_roots() -> TestEnv {
    let env = TestEnv::new();
    for path in ["app/sub/a", "app/b", "beside"] {
        env.write(&format!("w/{path}"), path);
    }
    fs::hard_link(env.path("w/app/b"), env.path("w/app/sub/other b")).unwrap();
    fs::hard_link(env.path("w/app/sub/a"), env.path("w/a with a name before")).unwrap();
    env.ok(["snapshot", &env.arg("w/app")]);
    env.ok(["snapshot", &env.arg("w")]);
    env
}

#[test]
fn diff_goes_by_the_path_whatever_root_it_is_of() {
    let env = of_two_roots();
    let ids = env.json(["snapshots"]);
    let [app, all] = [0, 1].map(|at| ids["snapshots"][at]["id"].as_str().unwrap().to_owned());
    let path = env.arg("w/app");
    let diff = |a: &str, b: &str| env.ok(["diff", &format!("{a}:{path}"), &format!("{b}:{path}")]);
    assert_eq!(diff(&app, &all), "");
    assert_eq!(diff(&all, &app), "");
    env.write("w/app/sub/new", "");
    env.write("w/app/b", "changed");
    env.ok(["snapshot", &env.arg("w")]);
    check!(env, diff(&app, "latest").replace("  (mtime)", ""), @r"
    C  [DIR]/w/app/b
    M  [DIR]/w/app/sub
    +  [DIR]/w/app/sub/new
    C  [DIR]/w/app/sub/other b
    ");
}

#[test]
fn a_path_above_a_root_is_not_the_root() {
    let env = of_two_roots();
    let history = |path: &str| env.json(["history", &env.arg(path)])["hosts"][0].clone();
    let above = history("w");
    assert_eq!(above["path"], env.arg("w"));
    assert_eq!(above["versions"].as_array().unwrap().len(), 1, "{above}");
    assert_eq!(above["versions"][0]["snapshots"], 1, "{above}");
    let both = history("w/app/b");
    assert_eq!(both["path"], env.arg("w/app/b"));
    assert_eq!(both["versions"].as_array().unwrap().len(), 1, "{both}");
    env.ok(["snapshot", &env.arg("w/beside"), "--tag", "file"]);
    assert_eq!(env.ok(["cat", &format!("@file:{}", env.arg("w/./beside"))]), "beside");
    let run = env.run(["cat", &format!("@file:{}", env.arg("w"))]);
    assert!(run.code == 1 && run.stdout.is_empty(), "{}", run.stdout);
    assert!(run.stderr.contains("is not in the snapshot"), "{}", run.stderr);
}

#[test]
fn diff_refuses_a_path_that_is_nowhere() {
    let env = changed();
    let path = |name: &str| env.arg(&format!("tree/{name}"));
    let (nope, gone, new) = (path("nope"), path("gone"), path("new"));
    for args in [
        &["diff", "latest", "--live", &nope][..],
        &["diff", &format!("latest:{nope}"), "--live"],
        &["diff", "@before:nope", "latest"],
        &["diff", &format!("latest:{nope}")],
    ] {
        let run = env.run(args);
        assert_eq!(run.code, 1, "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains("tree/nope is not in the snapshot"), "{args:?}: {}", run.stderr);
    }
    // on one side is enough
    assert!(env.ok(["diff", &format!("@before:{gone}"), "latest"]).starts_with("-  "));
    assert!(env.ok(["diff", &format!("@before:{new}"), "latest"]).starts_with("+  "));
    env.write("tree/later", "");
    assert!(env.ok(["diff", "latest", "--live", &path("later")]).starts_with("+  "));
    fs::remove_file(&new).unwrap();
    assert!(env.ok(["diff", "latest", "--live", &new]).starts_with("-  "));
}

#[test]
fn a_path_has_a_history() {
    let env = changed();
    env.snapshot(&["--host", "web"]);
    let answer = env.json(["history", &env.arg("tree/a/two")]);
    let versions = answer["hosts"][0]["versions"].as_array().unwrap();
    assert_eq!(versions.len(), 2);
    assert_eq!((&versions[0]["snapshots"], &versions[1]["snapshots"]), (&1.into(), &2.into()));
    let gone = env.json(["history", "tree/gone"]);
    assert_eq!(gone["hosts"][0]["versions"][1]["entry"], serde_json::Value::Null);
    let text = env.ok(["history", "tree/b.conf"]);
    assert!(text.lines().nth(3).unwrap().ends_with("first seen") && text.ends_with("mode\n"), "{text}");
    assert_eq!(env.run(["history", "/nowhere"]).code, 1);
}

#[test]
fn find_shows_versions_over_all_snapshots() {
    let env = changed();
    let found = |args: &[&str]| {
        let text = env.ok(args);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<serde_json::Value>>()
    };
    let two = found(&["find", "two", "--json"]);
    assert_eq!((two.len(), two[0]["versions"].as_array().unwrap().len()), (1, 2));
    assert_eq!(found(&["find", "ONE", "-i", "--json"])[0]["versions"][0]["snapshots"], 2);
    assert_eq!(found(&["find", "gone", "--json"])[0]["versions"].as_array().unwrap().len(), 1);
    assert_eq!(found(&["find", "a/*", "--json"]).len(), 2);
    assert_eq!(env.run(["find", "gone", "latest"]).code, 1);
}

#[test]
fn a_damaged_manifest_hides_only_itself() {
    let env = TestEnv::with_tree();
    let first = env.snapshot(&[]);
    let packs = || -> std::collections::BTreeSet<std::path::PathBuf> {
        let found = walkdir::WalkDir::new(env.path("repo/packs")).into_iter().map(Result::unwrap);
        found.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
    };
    let before = packs();
    // nothing but the manifest is new
    fs::set_permissions(env.path("tree/b.conf"), fs::Permissions::from_mode(0o600)).unwrap();
    let id = env.snapshot(&[]);
    for pack in packs().difference(&before) {
        let mut bytes = fs::read(pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 40].iter_mut().for_each(|byte| *byte ^= 0x55);
        fs::remove_file(pack).unwrap();
        fs::write(pack, bytes).unwrap();
    }
    env.write("tree/new", "x");
    env.snapshot(&["--host", "again"]);
    let named = format!("snapshot {} cannot be searched as a whole", &id[..8]);
    for args in [&["find", "two"][..], &["history", "tree/a/two"]] {
        let run = env.run(args);
        assert_eq!(run.code, 40, "{args:?}: {}", run.stderr);
        assert!(run.stdout.contains("/tree/a/two") && run.stdout.contains("again"), "{}", run.stdout);
        assert!(run.stderr.contains(&named), "{}", run.stderr);
    }
    let run = env.run(["find", "two", &id]);
    assert_eq!((run.code, run.stdout.as_str()), (40, ""), "{}", run.stderr);
    env.ok(["find", "two", &first]);
    for form in [&["ls", &id][..], &["ls", "-l", &id], &["ls", "--json", &id]] {
        let run = env.run(form);
        assert_eq!((run.code, run.stdout.as_str()), (40, ""), "{form:?}: {}", run.stderr);
        let said =
            "/tree: a stretch of the manifest that begins there cannot be read, 6 entries are missing: ";
        assert!(run.stderr.contains(said), "{form:?}: {}", run.stderr);
    }
    let run = env.run(["export", &id, "-o", "x.tar"]);
    assert_eq!(run.code, 40, "{}", run.stderr);
    assert!(run.stderr.contains("1: stretches of the manifest could not be read"), "{}", run.stderr);
}

#[test]
fn cat_writes_files_and_nothing_else() {
    let env = changed();
    let tree = env.arg("tree");
    assert_eq!(env.ok(["dump", &format!("@before:{tree}/a/two")]), "two\n");
    assert_eq!(env.ok(["cat", "latest:a/two"]), "2\n");
    let run = env.run(["cat", "@before:link"]);
    check!(env, run.stderr, @r"
    error: [DIR]/tree/link is a symlink, not a file
    next: it points to a/one; name that
    ");
}
