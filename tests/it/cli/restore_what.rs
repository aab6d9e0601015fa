//! What a restore selects, and by which names.

use std::collections::BTreeSet;
use std::fs;

use walkdir::WalkDir;

use crate::env::TestEnv;

// A snapshot of `w/app`, which holds secrets and more.
fn with_secrets() -> TestEnv {
    let env = TestEnv::new();
    for path in ["secret", "data/secret", "data/keys/a", "data/keys/b", "code/main.py", "code/log"] {
        env.write(&format!("w/app/{path}"), path);
    }
    env.ok(["snapshot", &env.arg("w/app")]);
    env
}

// What is restored with these arguments: the files below the directory that the tree comes to.
fn restored(env: &TestEnv, what: &str, below: &str, args: &[&str]) -> BTreeSet<String> {
    let target = env.arg("out");
    let all = [&["restore", what, "-t", &target], args].concat();
    let told = env.run([&all[..], &["--dry-run"]].concat());
    let run = env.run(all);
    assert_eq!((run.code, told.code), (0, 0), "{what} {args:?}: {}", run.stderr);
    let top = env.path("out").join(below);
    let files: BTreeSet<String> = WalkDir::new(&top)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| entry.path().strip_prefix(&top).unwrap().to_str().unwrap().to_owned())
        .collect();
    let count = format!("would write {} file", files.len());
    assert!(told.stderr.contains(&count), "{what} {args:?}: {} for {files:?}", told.stderr);
    fs::remove_dir_all(env.path("out")).unwrap();
    files
}

fn set(paths: &[&str]) -> BTreeSet<String> {
    paths.iter().map(|&path| path.to_owned()).collect()
}

#[test]
fn patterns_mean_the_path_in_the_target_and_that_on_the_source() {
    let env = with_secrets();
    let app = env.arg("w/app");
    let (whole, below) = ("latest", app.trim_start_matches('/'));
    let part = format!("latest:{app}");
    let absolute = |path: &str| format!("{app}{path}");
    let kept = set(&["code/main.py", "code/log"]);
    let excluded = [absolute("/secret"), absolute("/data/")];
    let args = ["-e", &excluded[0], "-e", &excluded[1]];
    assert_eq!(restored(&env, whole, below, &args), kept);
    assert_eq!(restored(&env, &part, "", &args), kept);
    assert_eq!(restored(&env, &part, "", &["-e", "/secret", "-e", "/data"]), kept);
    // from above the root, what it goes by in the target is the part of its path that is left
    let above = format!("latest:{}", env.arg("w"));
    assert_eq!(restored(&env, &above, "app", &args), kept);
    assert_eq!(restored(&env, &above, "app", &["-e", "/app/secret", "-e", "app/data"]), kept);
    // without the slash at the front, and what is there under no such path
    let bare = absolute("/data").trim_start_matches('/').to_owned();
    assert_eq!(restored(&env, whole, below, &["-e", &bare, "-e", "secret"]), kept);
    assert_eq!(restored(&env, whole, below, &["-e", "/secret"]).len(), 6);
    let keys = set(&["data/keys/a", "data/keys/b"]);
    let include = absolute("/data/keys/");
    for (what, below) in [(whole, below), (&part, ""), (&above, "app")] {
        assert_eq!(restored(&env, what, below, &["-i", &include]), keys);
        let (data, back) = (absolute("/data"), format!("!{}", absolute("/data/keys/b")));
        let found = restored(&env, what, below, &["-e", &data, "-e", &back, "-e", "/code"]);
        assert!(found.contains("data/keys/b"), "{what}");
        assert!(!found.contains("data/keys/a"), "{what}");
    }
    let one = format!("latest:{}", absolute("/secret"));
    assert_eq!(restored(&env, &one, "", &["-i", &absolute("/secret")]), set(&["secret"]));
    let run = env.run(["restore", &one, "-t", &env.arg("out"), "-e", &absolute("/secret")]);
    assert!(run.code == 1 && run.stderr.contains("nothing in the snapshot is selected"), "{}", run.stderr);
}

#[test]
fn in_place_what_an_absolute_pattern_leaves_out_stays_as_it_is() {
    let env = with_secrets();
    let app = env.arg("w/app");
    for (what, target) in [("latest".to_owned(), "/".to_owned()), (format!("latest:{app}"), app.clone())] {
        for path in ["secret", "data/keys/a", "data/keys/new", "code/log"] {
            env.write(&format!("w/app/{path}"), "since then");
        }
        let (secret, data) = (format!("{app}/secret"), format!("{app}/data/"));
        env.ok(["restore", &what, "-t", &target, "--in-place", "-e", &secret, "-e", &data]);
        for path in ["secret", "data/keys/a", "data/keys/new"] {
            assert_eq!(
                fs::read(env.path(&format!("w/app/{path}"))).unwrap(),
                b"since then",
                "{what}: {path}"
            );
        }
        assert_eq!(fs::read(env.path("w/app/code/log")).unwrap(), b"code/log", "{what}");
    }
    let run = env.run(["restore", &format!("latest:{app}"), "-t", &app, "--in-place", "-i", "/nosuch"]);
    assert!(run.code == 1 && run.stderr.contains("nothing in the snapshot is selected"), "{}", run.stderr);
}

// The counts of a restore, by its own word.
fn counts(env: &TestEnv, args: &[&str], code: i32) -> serde_json::Value {
    let run = env.run([&["restore", "--json"], args].concat());
    assert_eq!(run.code, code, "{args:?}: {}", run.stderr);
    let mut counts: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    for key in ["seconds", "dry_run", "target"] {
        counts.as_object_mut().unwrap().remove(key);
    }
    counts
}

#[test]
fn a_dry_run_counts_what_a_run_does() {
    let env = TestEnv::new();
    env.write("w/app/one", vec![7; 90_000]);
    for n in 0..9 {
        fs::hard_link(env.path("w/app/one"), env.path(&format!("w/app/two {n}"))).unwrap();
    }
    env.write("w/app/other", "x");
    std::os::unix::fs::symlink("one", env.path("w/app/link")).unwrap();
    let _listens = std::os::unix::net::UnixListener::bind(env.path("w/app/socket")).unwrap();
    let null = rustix::fs::makedev(1, 3);
    let (character, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::from_raw_mode(0o600));
    let has_device =
        rustix::fs::mknodat(rustix::fs::CWD, env.path("w/app/null"), character, mode, null).is_ok();
    let code = if has_device { 3 } else { 0 };
    let app = env.arg("w/app");
    env.ok(["snapshot", &app]);
    let what = format!("latest:{app}");
    let same = |args: &[&str], code| {
        let told = counts(&env, &[args, &["--dry-run"]].concat(), code);
        let done = counts(&env, args, code);
        assert_eq!(told, done, "{args:?}");
        done
    };
    for (what, target) in [(&*what, "out"), ("latest", "whole")] {
        let target = env.arg(target);
        let done = same(&[what, "-t", &target], code);
        assert_eq!(
            (&done["files"], &done["bytes"], &done["others"]),
            (&2.into(), &90_001.into(), &10.into())
        );
        let losses = done["losses"].as_object().unwrap();
        assert_eq!(losses.get("device-not-restored").is_some(), has_device, "{done}");
        assert_eq!(losses["socket-not-restored"], 1, "{done}");
        // one name is missing, and one is a file of its own
        let below = if what == "latest" { app.trim_start_matches('/') } else { "" };
        let top = std::path::Path::new(&target).join(below);
        fs::remove_file(top.join("two 3")).unwrap();
        fs::remove_file(top.join("two 4")).unwrap();
        fs::copy(top.join("one"), top.join("two 4")).unwrap();
        let done = same(&[what, "-t", &target, "--in-place"], code);
        assert_eq!((&done["files"], &done["others"]), (&0.into(), &2.into()), "{done}");
    }
    // a dry run removes nothing either, where nothing is selected
    fs::create_dir_all(env.path("empty").join(app.trim_start_matches('/'))).unwrap();
    let run =
        env.run(["restore", "latest", "-t", &env.arg("empty"), "-i", "nosuch", "--in-place", "--dry-run"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(env.path("empty").join(app.trim_start_matches('/')).exists());
}
