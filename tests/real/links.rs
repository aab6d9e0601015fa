//! Names of one file (hard links) where they cannot all be made: what can be restored is, and is told apart.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use crate::env::{Done, TestEnv, have, have_root, run};

// A tree in which `adir/f`, `z/f` and `zz/f` are one file, and a snapshot of it.
fn linked() -> TestEnv {
    let env = TestEnv::new();
    let tree = env.path("tree");
    for dir in ["adir", "z", "zz"] {
        fs::create_dir_all(tree.join(dir)).unwrap();
    }
    fs::write(tree.join("adir/f"), "all of it").unwrap();
    for dir in ["z", "zz"] {
        fs::hard_link(tree.join("adir/f"), tree.join(dir).join("f")).unwrap();
    }
    env.snapshot(&tree);
    env
}

// A restore in place, in a mount namespace in which this is done before, and that after it.
fn restored_between(env: &TestEnv, before: &str, after: &str) -> Done {
    let mut command = Command::new("unshare");
    env.set(&mut command);
    let script = format!("{before} || exit 99; \"$0\" \"$@\"; code=$?; {after}; exit $code");
    command.args(["-m", "sh", "-c", &script]).arg(env!("CARGO_BIN_EXE_lifeboat"));
    command.arg("restore").arg(format!("latest:{}", env.path("tree").display()));
    run(command.arg("--target").arg(env.path("target")).arg("--in-place"))
}

fn are_one(a: &Path, b: &Path) -> bool {
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    inode(a) == inode(b)
}

#[test]
fn a_name_that_cannot_be_made_costs_the_others_nothing() {
    if !have_root("mounting") || !have(&["unshare", "mount"]) {
        return;
    }
    // the first name, one in the middle, and each on a file system of its own
    let cases = [
        ("mount --bind t/adir t/adir && mount -o remount,bind,ro t/adir", "adir", "adir/f", "z/f", "zz/f"),
        ("mount --bind t/z t/z && mount -o remount,bind,ro t/z", "z", "z/f", "adir/f", "zz/f"),
    ];
    for (script, dir, lost, one, other) in cases {
        for is_old in [false, true] {
            let env = linked();
            let target = env.path("target");
            fs::create_dir_all(target.join(dir)).unwrap();
            if is_old {
                for name in [one, other] {
                    fs::create_dir_all(target.join(name).parent().unwrap()).unwrap();
                    fs::write(target.join(name), "old").unwrap();
                }
            }
            let before = script.replace("t/", &format!("{}/", target.display()));
            let done = restored_between(&env, &before, "true").exits(3);
            assert!(done.stderr.contains(lost) && !done.stderr.contains("link-not-made"), "{}", done.stderr);
            assert!(!target.join(lost).exists());
            for name in [one, other] {
                assert_eq!(fs::read(target.join(name)).unwrap(), b"all of it", "{script} {name}");
            }
            assert!(are_one(&target.join(one), &target.join(other)), "{script}");
        }
    }
}

#[test]
fn names_on_several_file_systems_become_files_of_their_own() {
    if !have_root("mounting") || !have(&["unshare", "mount"]) {
        return;
    }
    for dir in ["adir", "z", "zz"] {
        let env = linked();
        let target = env.path("target");
        fs::create_dir_all(target.join(dir)).unwrap();
        let (mounted, copy) = (target.join(dir), env.path("copy"));
        // what is on the mount is gone with the namespace
        let before = format!("mount -t tmpfs none {}", mounted.display());
        let after = format!("cp -p {}/f {}", mounted.display(), copy.display());
        let done = restored_between(&env, &before, &after).exits(3);
        assert!(done.stderr.contains("warning[link-not-restored]: "), "{}", done.stderr);
        assert!(!done.stderr.contains("NOT RESTORED"), "{}", done.stderr);
        assert_eq!(fs::read(&copy).unwrap(), b"all of it", "{dir}");
        let others: Vec<_> = ["adir", "z", "zz"].into_iter().filter(|name| *name != dir).collect();
        for name in &others {
            assert_eq!(fs::read(target.join(name).join("f")).unwrap(), b"all of it", "{dir} {name}");
        }
        assert!(are_one(&target.join(others[0]).join("f"), &target.join(others[1]).join("f")), "{dir}");
    }
}
