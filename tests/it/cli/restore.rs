//! What a restore in place must never take away.

use std::fs;

use crate::env::{Run, TestEnv};

fn app(env: &TestEnv, files: usize) {
    for n in 0..files {
        env.write(&format!("app/f{n}"), format!("{n}"));
    }
}

/// Brings the application back over itself.
fn back(env: &TestEnv, more: &[&str]) -> Run {
    let (app, what) = (env.arg("app"), format!("latest:{}", env.arg("app")));
    let mut args = vec!["restore", &what, "--target", &app, "--in-place", "--delete"];
    args.extend(more);
    env.run(args)
}

#[test]
fn the_repository_in_the_target_outlives_a_restore() {
    let env = TestEnv::empty();
    app(&env, 60);
    let repo = env.arg("app/deep/.backup");
    env.ok(["--repo", &repo, "init"]);
    env.ok(["--repo", &repo, "snapshot", &env.arg("app")]);
    env.write("app/deep/new", "x");
    let of = |more: &[&str]| back(&env, &[&["--repo", &repo], more].concat());
    assert_eq!(of(&[]).code, 0);
    assert!(!env.path("app/deep/new").exists());
    env.ok(["--repo", &repo, "verify"]);
    // from a snapshot that has nothing at all of what it lies in
    env.write("small/one", "1");
    env.ok(["--repo", &repo, "snapshot", &env.arg("small")]);
    let what = format!("latest:{}", env.arg("small"));
    let args = [
        "--repo",
        &repo,
        "restore",
        &what,
        "-t",
        &env.arg("app"),
        "--in-place",
        "--delete",
        "--delete-most",
        "--delete-excluded",
    ];
    let run = env.run(args);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(env.path("app/one").exists() && !env.path("app/f1").exists());
    env.ok(["--repo", &repo, "verify", "--deep"]);
}

#[test]
fn nothing_is_restored_over_the_repository() {
    let env = TestEnv::with_tree();
    // a snapshot that has something at the repository's place, a file at what it lies in, or a file of its own
    env.write("app/x/repo/packs", "not a pack");
    env.write("flat/x", "a file where a directory will be");
    env.ok(["snapshot", &env.arg("app")]);
    let repo = env.arg("app/x/repo");
    fs::remove_dir_all(env.path("app/x/repo")).unwrap();
    fs::rename(env.path("repo"), &repo).unwrap();
    let run = back(&env, &["--repo", &repo, "--delete-most"]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert!(run.stderr.contains("the repository that is read from lies there"), "{}", run.stderr);
    env.ok(["--repo", &repo, "verify", "--deep"]);
    env.ok(["--repo", &repo, "snapshot", &env.arg("flat")]);
    let what = format!("latest:{}", env.arg("flat"));
    let run = env.run(["--repo", &repo, "restore", &what, "-t", &env.arg("app"), "--in-place"]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    env.ok(["--repo", &repo, "verify", "--deep"]);
    for target in [repo.clone(), format!("{repo}/sub"), format!("{repo}/packs")] {
        for mode in [&[][..], &["--in-place"]] {
            let run = env.run([&["--repo", &repo, "restore", "latest", "-t", &target], mode].concat());
            assert_eq!(run.code, 1, "{target}: {}", run.stderr);
            assert!(run.stderr.contains("it is the repository, or lies in it"), "{}", run.stderr);
        }
    }
    assert!(!env.path("app/x/repo/sub").exists());
    env.ok(["--repo", &repo, "verify", "--deep"]);
}

#[test]
fn a_repository_is_not_saved_into_itself() {
    let env = TestEnv::with_tree();
    for root in ["repo", "repo/packs"] {
        let run = env.run(["snapshot", &env.arg(root)]);
        assert_eq!(run.code, 2, "{root}: {}", run.stderr);
        assert!(run.stderr.contains("the repository itself"), "{}", run.stderr);
    }
}

#[test]
fn what_was_left_out_is_not_removed() {
    let env = TestEnv::new();
    app(&env, 60);
    for path in ["logs/today", "a.tmp", "kept/b.tmp", "cache/big", "marked/x"] {
        env.write(&format!("app/{path}"), "left out");
    }
    env.write("app/cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55");
    env.write("app/marked/.nobackup", "");
    env.write("rules", "# those of a file\n*.tmp\n");
    let rules = [
        "-e",
        "logs/",
        "--exclude-file",
        &env.arg("rules"),
        "--exclude-caches",
        "--exclude-if-present",
        ".nobackup",
    ];
    env.ok([&["snapshot", &env.arg("app")], &rules[..]].concat());
    for path in ["extra", "newdir/inside", "newdir/c.tmp"] {
        env.write(&format!("app/{path}"), "came later");
    }
    let run = back(&env, &["--dry-run"]);
    assert!(run.stderr.contains("2: would be removed"), "{}", run.stderr);
    let run = back(&env, &[]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    for path in
        ["logs/today", "a.tmp", "kept/b.tmp", "cache/big", "marked/x", "marked/.nobackup", "newdir/c.tmp"]
    {
        assert!(env.path(&format!("app/{path}")).exists(), "{path}: {}", run.stderr);
    }
    assert!(run.stderr.contains("2: removed"), "{}", run.stderr);
    assert!(!env.path("app/extra").exists() && !env.path("app/newdir/inside").exists());
    let run = back(&env, &["--delete-excluded"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    for path in ["logs", "a.tmp", "kept/b.tmp", "cache/big", "marked/x", "newdir"] {
        assert!(!env.path(&format!("app/{path}")).exists(), "{path}: {}", run.stderr);
    }
}

#[test]
fn a_part_spares_what_the_whole_left_out() {
    let env = TestEnv::new();
    for n in 0..9 {
        env.write(&format!("app/sub/f{n}"), "x");
    }
    env.write("app/sub/logs/today", "left out");
    env.ok(["snapshot", &env.arg("app"), "-e", "/sub/logs/"]);
    env.write("app/sub/extra", "came later");
    let (what, target) = (format!("latest:{}", env.arg("app/sub")), env.arg("app/sub"));
    env.ok(["restore", &what, "-t", &target, "--in-place", "--delete"]);
    assert!(env.path("app/sub/logs/today").exists() && !env.path("app/sub/extra").exists());
}

#[test]
fn too_much_is_refused_before_anything_is_changed() {
    let env = TestEnv::new();
    app(&env, 3);
    env.ok(["snapshot", &env.arg("app")]);
    app(&env, 30);
    env.write("app/f1", "changed since");
    let run = back(&env, &[]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(
        run.stderr.contains("27 of 31 entries in the target would be removed; nothing was changed"),
        "{}",
        run.stderr
    );
    assert_eq!(fs::read(env.path("app/f1")).unwrap(), b"changed since");
    assert!(back(&env, &["--dry-run"]).stderr.contains("nothing was changed"));
    assert_eq!(back(&env, &["--delete-most"]).code, 0);
    assert!(!env.path("app/f20").exists());
}

#[test]
fn what_is_not_selected_stays_as_it_is() {
    let env = TestEnv::new();
    for path in ["data/live.db", "data/[x].db", "code/a", "link"] {
        env.write(&format!("app/{path}"), "of the snapshot");
    }
    env.ok(["snapshot", &env.arg("app")]);
    for path in ["data/live.db", "data/[x].db", "code/a"] {
        env.write(&format!("app/{path}"), "written since then");
    }
    // a file where the snapshot has a directory, and the other way round
    fs::remove_file(env.path("app/link")).unwrap();
    env.write("app/link/inside", "written since then");
    let (what, target) = (format!("latest:{}", env.arg("app")), env.arg("app"));
    let args = ["restore", &what, "-t", &target, "--in-place", "-e", "/data/", "-e", "/link"];
    for more in [&["--dry-run"][..], &[], &["--overwrite", "always"]] {
        let run = env.run([&args[..], more].concat());
        assert_eq!(run.code, 0, "{more:?}: {}", run.stderr);
        for path in ["data/live.db", "data/[x].db", "link/inside"] {
            let found = fs::read_to_string(env.path(&format!("app/{path}"))).unwrap();
            assert_eq!(found, "written since then", "{path} with {more:?}");
        }
    }
    assert_eq!(fs::read_to_string(env.path("app/code/a")).unwrap(), "of the snapshot");
    let one = format!("latest:{}", env.arg("app/data/live.db"));
    let run = env.run(["restore", &one, "-t", &env.arg("app/data"), "--in-place", "-e", "live.db"]);
    assert!(run.code != 0 && run.stderr.contains("nothing in the snapshot is selected"), "{}", run.stderr);
    assert_eq!(fs::read_to_string(env.path("app/data/live.db")).unwrap(), "written since then");
}

#[test]
fn modes_come_back_whatever_the_mask_of_the_process() {
    use std::os::unix::fs::PermissionsExt as _;
    let env = TestEnv::new();
    let modes = [("a", 0o664), ("b", 0o644), ("c", 0o666), ("d", 0o400), ("e", 0o755), ("f", 0o777)];
    for (name, mode) in modes {
        env.write(&format!("app/in/{name}"), name);
        fs::set_permissions(env.path(&format!("app/in/{name}")), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(env.path("app/in"), fs::Permissions::from_mode(0o775)).unwrap();
    env.ok(["snapshot", &env.arg("app")]);
    let what = format!("latest:{}", env.arg("app"));
    for mask in ["0", "022", "077", "0277", "0777"] {
        let target = env.path(&format!("back{mask}"));
        fs::create_dir(&target).unwrap();
        let program = env.command().get_program().to_owned();
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &format!("umask {mask}; exec \"$0\" restore -q \"$1\" -t \"$2\"")]);
        command.arg(program).args([&what, target.to_str().unwrap()]);
        for (name, value) in env.command().get_envs() {
            value.map(|value| command.env(name, value));
        }
        let done = Run::from(command.output().unwrap());
        assert_eq!(done.code, 0, "{}", done.stderr);
        let mode = |path: &str| fs::metadata(target.join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode("in"), 0o775, "umask {mask}");
        for (name, wanted) in modes {
            assert_eq!(mode(&format!("in/{name}")), wanted, "{name} with umask {mask}");
        }
    }
}

// A snapshot with a file, a link and a hard link where the directory `live` has directories, two of which are not empty.
fn directories_in_the_way() -> TestEnv {
    let env = TestEnv::new();
    app(&env, 9);
    for name in ["x", "empty", "z"] {
        env.write(&format!("app/{name}"), "of the snapshot");
    }
    std::os::unix::fs::symlink("f1", env.path("app/l")).unwrap();
    fs::hard_link(env.path("app/f1"), env.path("app/y")).unwrap();
    env.ok(["snapshot", &env.arg("app")]);
    for name in ["x", "empty", "l", "y"] {
        fs::remove_file(env.path(&format!("app/{name}"))).unwrap();
        fs::create_dir(env.path(&format!("app/{name}"))).unwrap();
    }
    for path in ["x/precious/data", "l/data", "y/data"] {
        env.write(&format!("app/{path}"), "gold");
    }
    env
}

#[test]
fn a_directory_with_something_in_it_makes_no_room_unless_told() {
    let env = directories_in_the_way();
    let (what, target) = (format!("latest:{}", env.arg("app")), env.arg("app"));
    for more in [&["--dry-run"][..], &[]] {
        fs::write(env.path("app/z"), "changed").unwrap();
        let run = env.run([&["restore", &what, "-t", &target, "--in-place"], more].concat());
        assert_eq!(run.code, 3, "{}", run.stderr);
        for name in ["x", "l", "y"] {
            let said =
                format!("{name}: a directory that is not empty is there and stays: --delete removes it");
            assert!(run.stderr.contains(&said), "{}", run.stderr);
        }
        assert!(run.stderr.contains("3: NOT RESTORED"), "{}", run.stderr);
        for path in ["x/precious/data", "l/data", "y/data"] {
            assert_eq!(fs::read(env.path(&format!("app/{path}"))).unwrap(), b"gold");
        }
    }
    assert_eq!(fs::read(env.path("app/empty")).unwrap(), b"of the snapshot");
    assert_eq!(fs::read(env.path("app/z")).unwrap(), b"of the snapshot");
    let one = format!("latest:{}", env.arg("app/x"));
    let run = env.run(["restore", &one, "-t", &target, "--in-place", "--dry-run"]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert!(run.stderr.contains("x: a directory that is not empty is there"), "{}", run.stderr);
    env.ok(["restore", &what, "-t", &target, "--in-place", "--overwrite", "never", "--delete"]);
    assert!(env.path("app/x/precious/data").exists());
}

// found by review: a directory restored there spared it, a file did not
#[test]
fn what_was_left_out_is_not_removed_for_a_file_by_itself() {
    let env = TestEnv::new();
    env.write("t/f", "file");
    env.ok(["snapshot", "-e", "*.log", &env.arg("t")]);
    fs::remove_file(env.path("t/f")).unwrap();
    env.write("t/f/i.log", "kept");
    let what = format!("latest:{}", env.arg("t/f"));
    let target = env.arg("t");
    let run = env.run(["restore", &what, "--target", &target, "--in-place", "--delete", "--delete-most"]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert!(env.path("t/f/i.log").exists());
    env.ok([
        "restore",
        &what,
        "--target",
        &target,
        "--in-place",
        "--delete",
        "--delete-most",
        "--delete-excluded",
    ]);
    assert_eq!(fs::read(env.path("t/f")).unwrap(), b"file");
}

// found by review: a name that led to a file outside the target had that file changed, or given more names
#[test]
fn a_file_outside_the_target_is_not_changed_through_a_link() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let env = TestEnv::new();
    env.write("h/a", "one");
    env.write("out/keep", "x");
    fs::hard_link(env.path("h/a"), env.path("h/b")).unwrap();
    fs::hard_link(env.path("h/a"), env.path("h/c")).unwrap();
    env.ok(["snapshot", &env.arg("h")]);
    let (a, outside) = (env.path("h/a"), env.path("out/x"));
    let written = fs::metadata(&a).unwrap().modified().unwrap();
    for (content, mode) in [("ONE", 0o600), ("one", 0o644), ("two", 0o644)] {
        for name in ["h/a", "h/b", "h/c", "out/x"] {
            let _ = fs::remove_file(env.path(name));
        }
        fs::write(&outside, content).unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(mode)).unwrap();
        fs::File::open(&outside).unwrap().set_modified(written).unwrap();
        fs::hard_link(&outside, &a).unwrap();
        let before = fs::metadata(&outside).unwrap();
        let what = format!("latest:{}", env.arg("h"));
        let run =
            env.run(["restore", &what, "--target", &env.arg("h"), "--in-place", "--overwrite", "always"]);
        assert!(run.code == 0 || run.code == 3, "{}", run.stderr);
        let after = fs::metadata(&outside).unwrap();
        assert_eq!(
            (after.mode(), after.uid(), after.mtime_nsec()),
            (before.mode(), before.uid(), before.mtime_nsec())
        );
        assert_eq!(fs::read_to_string(&outside).unwrap(), content);
        assert!(after.nlink() <= before.nlink(), "{content}: it has more names");
        for name in ["h/a", "h/b", "h/c"] {
            assert_eq!(fs::read_to_string(env.path(name)).unwrap(), "one", "{content} {name}");
        }
        assert_eq!(
            fs::metadata(env.path("h/b")).unwrap().ino(),
            fs::metadata(env.path("h/c")).unwrap().ino()
        );
    }
}

#[test]
fn what_makes_room_is_counted_as_removed() {
    let env = directories_in_the_way();
    let run = back(&env, &["--dry-run"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("8: would be removed"), "{}", run.stderr);
    let run = back(&env, &[]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("8: removed"), "{}", run.stderr);
    assert_eq!(fs::read(env.path("app/x")).unwrap(), b"of the snapshot");
    assert_eq!(fs::read_link(env.path("app/l")).unwrap().to_str(), Some("f1"));
    // more than half of what is there
    fs::remove_file(env.path("app/x")).unwrap();
    for n in 0..20 {
        env.write(&format!("app/x/{n}"), "gold");
    }
    env.write("app/f2", "changed since");
    for more in [&["--dry-run"][..], &[]] {
        let run = back(&env, more);
        assert_eq!(run.code, 1, "{}", run.stderr);
        assert!(run.stderr.contains("21 of 35 entries in the target would be removed"), "{}", run.stderr);
    }
    assert_eq!(fs::read(env.path("app/f2")).unwrap(), b"changed since");
    assert_eq!(fs::read(env.path("app/x/3")).unwrap(), b"gold");
    assert_eq!(back(&env, &["--delete-most"]).code, 0);
    assert!(env.path("app/x").is_file());
}

#[test]
fn what_was_left_out_keeps_the_directory_it_lies_in() {
    let env = TestEnv::new();
    app(&env, 9);
    env.write("app/x", "a file");
    env.ok(["snapshot", &env.arg("app"), "-e", "*.tmp"]);
    fs::remove_file(env.path("app/x")).unwrap();
    env.write("app/x/kept.tmp", "left out");
    let run = back(&env, &[]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert!(run.stderr.contains("something in it is not the restore's to remove"), "{}", run.stderr);
    assert!(env.path("app/x/kept.tmp").exists());
    assert_eq!(back(&env, &["--delete-excluded"]).code, 0);
    assert!(env.path("app/x").is_file());
}

#[test]
fn where_nothing_is_selected_nothing_is_left() {
    let env = TestEnv::new();
    app(&env, 2);
    env.ok(["snapshot", &env.arg("app")]);
    fs::create_dir(env.path("empty")).unwrap();
    let part = format!("latest:{}", env.arg("app"));
    for target in ["new", "deep/er/new", "empty"] {
        for what in ["latest", &part] {
            let run = env.run(["restore", what, "-t", &env.arg(target), "--include", "nosuch"]);
            assert_eq!(run.code, 1, "{}", run.stderr);
            assert!(run.stderr.contains("nothing in the snapshot is selected by nosuch"), "{}", run.stderr);
        }
    }
    assert!(!env.path("new").exists() && !env.path("deep").exists());
    assert_eq!(fs::read_dir(env.path("empty")).unwrap().count(), 0);
    let nothing = format!("latest:{}/nosuch", env.arg("app"));
    assert_eq!(env.run(["restore", &nothing, "-t", &env.arg("new")]).code, 1);
    assert!(!env.path("new").exists());
}

#[test]
fn a_relative_path_is_the_same_to_restore_as_to_ls_and_cat() {
    let env = TestEnv::with_tree();
    env.snapshot(&[]);
    for (what, found) in [("b.conf", "b.conf"), ("a", "one"), ("./a/../a/one", "one"), (".", "a/one")] {
        let (what, target) = (format!("latest:{what}"), env.arg("out"));
        assert!(env.ok(["ls", &what]).contains(found));
        env.ok(["restore", &what, "-t", &target]);
        assert!(env.path("out").join(found).exists(), "{what}");
        fs::remove_dir_all(env.path("out")).unwrap();
    }
    let tree = env.arg("tree");
    for path in ["//a/./one", "/x/../a//", "/a/../b.conf", "/"] {
        let (what, target) = (format!("latest:/{tree}{path}"), env.arg("out"));
        env.ok(["restore", &what, "-t", &target]);
        fs::remove_dir_all(&target).unwrap();
    }
    env.ok(["snapshot", &env.arg("tree/a"), &env.arg("tree/b.conf")]);
    for command in [&["ls", "latest:one"][..], &["restore", "latest:one", "-t", "out"]] {
        let run = env.run(command);
        assert_eq!(run.code, 1, "{}", run.stderr);
        assert!(run.stderr.contains("the snapshot does not cover one; it covers"), "{}", run.stderr);
    }
    assert!(!env.path("out").exists());
}

// A snapshot of 2020 with a file, a directory and a mode; since then something newer of another kind has come in their place.
fn newer_things_of_another_kind() -> TestEnv {
    use std::os::unix::fs::PermissionsExt as _;
    let env = TestEnv::new();
    for path in ["f", "h", "d/x", "d/y", "open/old"] {
        env.write(&format!("app/{path}"), "of the snapshot");
    }
    let touched = std::process::Command::new("find")
        .arg(env.path("app"))
        .args(["-exec", "touch", "-h", "-d", "2020-01-01", "{}", "+"])
        .status();
    assert!(touched.unwrap().success());
    env.ok(["snapshot", &env.arg("app")]);
    for file in ["f", "h"] {
        fs::remove_file(env.path(&format!("app/{file}"))).unwrap();
    }
    std::os::unix::fs::symlink("elsewhere", env.path("app/f")).unwrap();
    env.write("app/h/precious", "newer");
    fs::remove_dir_all(env.path("app/d")).unwrap();
    env.write("app/d", "newer");
    fs::remove_file(env.path("app/open/old")).unwrap();
    fs::set_permissions(env.path("app/open"), fs::Permissions::from_mode(0o700)).unwrap();
    env
}

#[test]
fn what_is_newer_stays_whatever_it_is() {
    use std::os::unix::fs::PermissionsExt as _;
    for overwrite in ["if-newer", "never"] {
        let env = newer_things_of_another_kind();
        let (what, target) = (format!("latest:{}", env.arg("app")), env.arg("app"));
        let args = ["restore", &what, "-t", &target, "--in-place", "--overwrite", overwrite, "--delete"];
        for more in [&["--dry-run"][..], &[]] {
            let run = env.run([&args[..], more].concat());
            assert_eq!(run.code, 0, "{overwrite}: {}", run.stderr);
            assert!(run.stderr.contains("5: kept because of --overwrite"), "{overwrite}: {}", run.stderr);
        }
        assert_eq!(fs::read_link(env.path("app/f")).unwrap().to_str(), Some("elsewhere"));
        assert_eq!(fs::read(env.path("app/h/precious")).unwrap(), b"newer");
        assert_eq!(fs::read(env.path("app/d")).unwrap(), b"newer");
        assert_eq!(fs::read(env.path("app/open/old")).unwrap(), b"of the snapshot");
        assert_eq!(fs::metadata(env.path("app/open")).unwrap().permissions().mode() & 0o777, 0o700);
    }
    // otherwise all of it is brought back
    let env = newer_things_of_another_kind();
    assert_eq!(back(&env, &["--delete-most"]).code, 0);
    for path in ["f", "h", "d/x", "d/y", "open/old"] {
        assert_eq!(fs::read(env.path(&format!("app/{path}"))).unwrap(), b"of the snapshot");
    }
}

#[test]
fn a_root_in_another_comes_back_with_it() {
    let env = TestEnv::new();
    for path in ["a", "n/b", "n/deep/c"] {
        env.write(&format!("app/{path}"), "of the snapshot");
    }
    fs::hard_link(env.path("app/n/b"), env.path("app/n/linked")).unwrap();
    env.ok(["snapshot", &env.arg("app/n"), &env.arg("app"), &env.arg("app/n/deep/c"), "-e", "deep/"]);
    let below = |target: &str| env.path(target).join(env.path("app").strip_prefix("/").unwrap());
    env.ok(["restore", "latest", "-t", &env.arg("whole")]);
    env.ok(["restore", &format!("latest:{}", env.arg("app")), "-t", &env.arg("part")]);
    for top in [below("whole"), env.path("part")] {
        for path in ["a", "n/b", "n/linked", "n/deep/c"] {
            assert_eq!(fs::read(top.join(path)).unwrap(), b"of the snapshot", "{path}");
        }
    }
}

#[test]
fn two_dots_behind_a_link_are_those_of_what_it_leads_to() {
    let env = TestEnv::new();
    env.write("real/dir/x", "x");
    env.write("real/f", "the right one");
    env.write("f", "the wrong one");
    std::os::unix::fs::symlink("real/dir", env.path("link")).unwrap();
    env.ok(["snapshot", &format!("{}/../f", env.arg("link"))]);
    env.ok(["restore", "latest", "-t", &env.arg("out")]);
    let found = env.path("out").join(env.path("real/f").strip_prefix("/").unwrap());
    assert_eq!(fs::read(found).unwrap(), b"the right one");
}

#[test]
fn a_link_on_the_way_is_named_with_the_way_around_it() {
    let env = TestEnv::new();
    env.write("app/f", "f");
    env.ok(["snapshot", &env.arg("app")]);
    fs::create_dir(env.path("out")).unwrap();
    let first = env.path("app").components().nth(1).unwrap().as_os_str().to_owned();
    std::os::unix::fs::symlink("/elsewhere", env.path("out").join(&first)).unwrap();
    let run = env.run(["restore", "latest", "-t", &env.arg("out"), "--in-place"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(
        run.stderr.contains(first.to_str().unwrap()) && run.stderr.contains("or a link"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("SNAPSHOT:PATH"), "{}", run.stderr);
}
