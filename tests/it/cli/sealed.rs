//! In place over what is immutable or append-only (`chattr`). Needs root and a file system with inode flags.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::env::{Run, TestEnv};

fn chattr(flags: &str, path: &Path) -> bool {
    Command::new("chattr").arg(flags).arg(path).output().is_ok_and(|output| output.status.success())
}

fn flags(path: &Path) -> String {
    let output = Command::new("lsattr").arg("-d").arg(path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().next().unwrap_or_default().chars().filter(|c| "ia".contains(*c)).collect()
}

// Whatever a test leaves must be removable again.
struct Unsealed(std::path::PathBuf);
impl Drop for Unsealed {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-R").arg("-ia").arg(&self.0).output();
    }
}

fn sealed() -> Option<(TestEnv, Unsealed)> {
    let env = TestEnv::with_tree();
    env.write("tree/mode", "mode\n");
    env.write("tree/linked", "linked\n");
    env.write("tree/log", "log\n");
    env.write("tree/only/log", "a\n");
    env.write("tree/shut/file", "shut\n");
    fs::hard_link(env.path("tree/linked"), env.path("tree/other name")).unwrap();
    let unsealed = Unsealed(env.path("tree"));
    if !chattr("+i", &env.path("tree/a/one")) {
        assert!(std::env::var_os("CI").is_none(), "SKIPPED where nothing may be: no inode flags here");
        eprintln!("SKIPPED: no inode flags here");
        return None;
    }
    for (flag, path) in [("+i", "mode"), ("+a", "log"), ("+i", "linked"), ("+a", "only"), ("+i", "shut")] {
        assert!(chattr(flag, &env.path("tree").join(path)));
    }
    env.snapshot(&[]);
    Some((env, unsealed))
}

// Changes what was sealed, and seals it again.
fn change(env: &TestEnv) {
    let tree = env.path("tree");
    let _ = Command::new("chattr").args(["-R", "-ia"]).arg(&tree).output();
    for path in ["a/one", "linked", "log", "only/log", "shut/file"] {
        fs::write(tree.join(path), "changed").unwrap();
    }
    Command::new("chmod").arg("600").arg(tree.join("mode")).status().unwrap();
    for (flag, path) in
        [("+i", "a/one"), ("+i", "mode"), ("+a", "log"), ("+i", "linked"), ("+a", "only"), ("+i", "shut")]
    {
        assert!(chattr(flag, &tree.join(path)));
    }
}

fn in_place(env: &TestEnv, more: &[&str]) -> Run {
    let (tree, what) = (env.arg("tree"), format!("latest:{}", env.arg("tree")));
    env.run([&["restore", &what, "--target", &tree, "--in-place", "--delete"], more].concat())
}

fn temporaries(tree: &Path) -> usize {
    let names = walkdir::WalkDir::new(tree).into_iter().map(|entry| entry.unwrap());
    names.filter(|entry| entry.file_name().to_string_lossy().starts_with(".lifeboat-")).count()
}

#[test]
fn with_flags_what_is_sealed_is_replaced_and_sealed_again() {
    let Some((env, _unsealed)) = sealed() else { return };
    let tree = env.path("tree");
    change(&env);
    let run = in_place(&env, &["--flags"]);
    assert_eq!((run.code, temporaries(&tree)), (0, 0), "{}", run.stderr);
    let text = |path: &str| fs::read_to_string(tree.join(path)).unwrap();
    assert_eq!(
        (text("a/one"), text("log"), text("only/log")),
        ("one\n".into(), "log\n".into(), "a\n".into())
    );
    assert_eq!(
        (text("linked"), text("other name"), text("shut/file")),
        ("linked\n".into(), "linked\n".into(), "shut\n".into())
    );
    for (path, flag) in [
        ("a/one", "i"),
        ("mode", "i"),
        ("log", "a"),
        ("linked", "i"),
        ("only", "a"),
        ("shut", "i"),
        ("b.conf", ""),
    ] {
        assert_eq!(flags(&tree.join(path)), flag, "{path}");
    }
    assert_eq!(env.run(["diff", "latest", "--live", &env.arg("tree")]).code, 0);
    // the second time there is nothing to do; flags that are lost come back, those that are too much go
    let answer = |env: &TestEnv| in_place(env, &["--flags", "--json"]);
    assert_eq!(answer(&env).code, 0);
    assert!(chattr("-i", &tree.join("a/one")) && chattr("+i", &tree.join("b.conf")));
    assert_eq!(answer(&env).code, 0);
    assert_eq!((flags(&tree.join("a/one")), flags(&tree.join("b.conf"))), ("i".into(), String::new()));
}

#[test]
fn without_flags_what_is_sealed_stays_and_is_named() {
    let Some((env, _unsealed)) = sealed() else { return };
    let tree = env.path("tree");
    change(&env);
    let run = in_place(&env, &[]);
    assert_eq!((run.code, temporaries(&tree)), (3, 0), "{}", run.stderr);
    for path in ["a/one", "log", "only/log", "shut/file", "mode"] {
        let named = run.stderr.lines().any(|line| line.contains(path) && line.contains("chattr"));
        assert!(named, "{path}: {}", run.stderr);
    }
    assert_eq!(fs::read_to_string(tree.join("a/one")).unwrap(), "changed");
    assert_eq!(flags(&tree.join("a/one")), "i");
}

#[test]
fn an_immutable_file_with_two_names_comes_back_whole() {
    let Some((env, _unsealed)) = sealed() else { return };
    let out = env.path("out");
    let _out = Unsealed(out.clone());
    let run = env.run(["restore", "latest", "--flags", "--target", out.to_str().unwrap()]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let restored = out.join(env.arg("tree").trim_start_matches('/'));
    for name in ["linked", "other name"] {
        assert_eq!(flags(&restored.join(name)), "i", "{name}");
        assert_eq!(fs::read_to_string(restored.join(name)).unwrap(), "linked\n");
    }
}
