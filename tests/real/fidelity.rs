//! What goes in comes out: every kind of entry, compared by `comparetrees.py`, which knows nothing of us.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::env::{
    TestEnv, assert_same, finish, have, have_root, is_root, long, make_tree, make_tree_as, run, skip,
};

/// Changes a fidelity tree in the ways that people and programs do.
fn mutate(dir: &Path) {
    let file = |name: &str| dir.join(name);
    fs::write(file("zz new"), b"new").unwrap();
    fs::create_dir(file("zz dir")).unwrap();
    fs::write(file("zz dir/below"), vec![7; 300_000]).unwrap();
    symlink("zz dir/below", file("zz link")).unwrap();
    fs::hard_link(file("zz new"), file("zz dir/again")).unwrap();
    let mut changed = [0; 3];
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    for path in names.iter().filter(|p| !p.to_string_lossy().contains("zz ")) {
        let info = path.symlink_metadata().unwrap();
        if info.is_file() && changed[0] < 2 {
            fs::write(path, b"other content").unwrap();
            changed[0] += 1;
        } else if info.is_file() && changed[1] < 2 {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
            changed[1] += 1;
        } else if info.is_symlink() && changed[2] < 2 {
            fs::remove_file(path).unwrap();
            fs::write(path, b"a file now").unwrap();
            changed[2] += 1;
        }
    }
}

/// Gives a tree to a user, where this process is root.
fn give_to(user: Option<u32>, dir: &Path) {
    if let Some(user) = user {
        run(Command::new("chown").args(["-hR", &format!("{user}:{user}")]).arg(dir)).ok();
    }
}

/// What its owner may not read, no snapshot of an ordinary user can hold.
fn make_readable(dir: &Path) {
    let shut = ["(", "-type", "f", "!", "-perm", "-0400", "-o", "-type", "d", "!", "-perm", "-0500", ")"];
    run(Command::new("find").arg(dir).args(shut).args(["-exec", "chmod", "u+rwX", "{}", ";"])).ok();
}

/// Snapshot, restore elsewhere, change, snapshot, restore in place: identical each time.
fn there_and_back(env: &TestEnv, kinds: &str, options: &[&str]) {
    let (source, target) = (env.path("source"), env.path("target"));
    make_tree_as(env.user(), &source, kinds);
    if env.user().is_some() || !is_root() {
        make_readable(&source);
    }
    env.snapshot(&source);
    env.restore(&source, &target, options).ok();
    assert_same(&source, &target, "");

    // the target goes its own way, and comes back
    mutate(&target);
    give_to(env.user(), &target);
    let in_place = [options, &["--in-place", "--delete"]].concat();
    env.restore(&source, &target, &in_place).ok();
    assert_same(&source, &target, "");

    // the source changes, and the target follows
    mutate(&source);
    give_to(env.user(), &source);
    env.snapshot(&source);
    env.restore(&source, &target, &in_place).ok();
    assert_same(&source, &target, "");
    env.lifeboat(&["verify", "--deep", "-q"]).ok();
}

#[test]
fn every_kind_of_entry_comes_back() {
    if !have(&["python3"]) || !have_root("every kind of entry") {
        return;
    }
    there_and_back(&TestEnv::new(), "all", &["--devices"]);
}

#[test]
fn an_ordinary_user_gets_everything_of_his_back() {
    if !have(if is_root() { &["python3", "setpriv"] } else { &["python3"] }) {
        return;
    }
    there_and_back(&TestEnv::of_a_user(), "portable", &[]);
}

/// Makes and mounts a file system in an image, for as long as the value lives.
struct Mounted {
    dir: tempfile::TempDir,
}

impl Mounted {
    fn new(kind: &str) -> Option<Self> {
        let programs: &[&str] = match kind {
            "tmpfs" => &["mount"],
            "xfs" => &["mount", "mkfs.xfs"],
            // with inodes of 128 bytes, in which times have whole seconds and end in 2038
            "ext4" => &["mount", "mkfs.ext4"],
            _ => &["mount", "mkfs.btrfs"],
        };
        if !have(programs) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let (image, point) = (dir.path().join("image"), dir.path().join("point"));
        fs::create_dir(&point).unwrap();
        let mut mount = Command::new("mount");
        if kind == "tmpfs" {
            mount.args(["-t", "tmpfs", "-o", "size=600m", "none"]);
        } else {
            fs::File::create(&image).unwrap().set_len(1 << 30).unwrap();
            let small: &[&str] = if kind == "ext4" { &["-I", "128"] } else { &[] };
            run(Command::new(format!("mkfs.{kind}")).arg("-q").args(small).arg(&image)).ok();
            mount.args(["-o", "loop"]).arg(&image);
        }
        let done = run(mount.arg(&point));
        if done.code != 0 {
            skip(&format!("{kind} cannot be mounted here: {}", done.stderr.trim()));
            return None;
        }
        Some(Self { dir })
    }

    fn point(&self) -> std::path::PathBuf {
        self.dir.path().join("point")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.point()).status();
    }
}

fn on(kind: &str) {
    if !have(&["python3"]) || !have_root(kind) {
        return;
    }
    if let Some(mounted) = Mounted::new(kind) {
        there_and_back(&TestEnv::at(&mounted.point()), "all", &["--devices"]);
    }
}

#[test]
fn on_xfs() {
    on("xfs");
}

#[test]
fn on_btrfs() {
    on("btrfs");
}

#[test]
fn on_tmpfs() {
    on("tmpfs");
}

#[test]
fn times_that_the_target_cannot_hold_are_counted() {
    if !have_root("a file system with coarse times") {
        return;
    }
    let Some(mounted) = Mounted::new("ext4") else { return };
    let env = TestEnv::new();
    let source = env.path("source");
    fs::create_dir(&source).unwrap();
    for (name, date) in
        [("whole", "2020-01-01 00:00:00"), ("fine", "2020-01-01 00:00:00.5"), ("late", "2100-01-01")]
    {
        fs::write(source.join(name), name).unwrap();
        run(Command::new("touch").args(["-d", date]).arg(source.join(name))).ok();
    }
    run(Command::new("touch").args(["-d", "2020-01-01"]).arg(&source)).ok();
    env.snapshot(&source);
    let done = env.restore(&source, &mounted.point().join("back"), &[]).exits(3);
    assert!(
        done.stderr.contains("2: times were not restored: the file system cannot hold them"),
        "{}",
        done.stderr
    );
    let done = env.restore(&source, &env.path("back"), &[]).ok();
    assert!(!done.stderr.contains("times"), "{}", done.stderr);
}

#[test]
fn a_tree_comes_back_where_few_files_may_be_open() {
    let env = TestEnv::new();
    let (source, target) = (env.path("source"), env.path("target"));
    for number in 0..3000 {
        let dir = source.join(format!("d{}", number % 300));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("f{number}")), number.to_string()).unwrap();
    }
    env.snapshot(&source);
    for most in [64, 256] {
        let what = format!("latest:{}", source.display());
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {most}; exec \"$0\" restore -q \"$1\" -t \"$2\"")]);
        command.arg(env.command::<&str>(&[]).get_program()).arg(what).arg(target.join(most.to_string()));
        env.set(&mut command);
        run(&mut command).ok();
        assert_same(&source, &target.join(most.to_string()), "");
    }
}

#[test]
fn a_very_large_directory() {
    if !have(&["python3"]) {
        return;
    }
    let env = TestEnv::new();
    let (source, target) = (env.path("source"), env.path("target"));
    fs::create_dir(&source).unwrap();
    let entries = if long() { 200_000 } else { 20_000 };
    for number in 0..entries {
        fs::write(source.join(format!("entry {number}")), number.to_string()).unwrap();
    }
    env.snapshot(&source);
    env.restore(&source, &target, &["--no-sync"]).ok();
    assert_same(&source, &target, "");
    for number in (0..entries).step_by(1000) {
        fs::write(source.join(format!("entry {number}")), "changed").unwrap();
        fs::remove_file(source.join(format!("entry {}", number + 1))).unwrap();
        fs::write(source.join(format!("other {number}")), "new").unwrap();
    }
    env.snapshot(&source);
    env.restore(&source, &target, &["--no-sync", "--in-place", "--delete"]).ok();
    assert_same(&source, &target, "");
}

/// Files that grow, shrink, vanish and turn into something else meanwhile: it ends, and each file that
/// comes back is one state that it had, or is said not to be.
struct RaiseOnDrop<'f>(&'f AtomicBool);

impl Drop for RaiseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn files_that_change_while_they_are_read() {
    let env = TestEnv::new();
    let source = env.path("source");
    fs::create_dir(&source).unwrap();
    for number in 0..200 {
        fs::write(source.join(format!("steady {number}")), vec![b's'; 20_000]).unwrap();
    }
    let whole = |byte: u8, length: usize| vec![byte; length];
    fs::write(source.join("replaced"), whole(b'a', 3_000_000)).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut turn = 0u8;
            while !stop.load(Ordering::Relaxed) {
                turn = turn.wrapping_add(1);
                let letter = b'a' + turn % 26;
                // one that is always whole, one that never is, and one that comes and goes in all shapes
                let _ = fs::write(env.path("next"), whole(letter, 3_000_000));
                let _ = fs::rename(env.path("next"), source.join("replaced"));
                let _ = fs::write(source.join("rewritten"), whole(letter, usize::from(turn) * 9000));
                let odd = source.join("odd");
                let _ = fs::remove_file(&odd).or_else(|_| fs::remove_dir(&odd));
                let _ = match turn % 4 {
                    0 => fs::write(&odd, b"a file"),
                    1 => symlink("/etc/passwd", &odd),
                    2 => fs::create_dir(&odd),
                    _ => rustix::fs::mknodat(
                        rustix::fs::CWD,
                        &odd,
                        rustix::fs::FileType::Fifo,
                        rustix::fs::Mode::RWXU,
                        0,
                    )
                    .map_err(Into::into),
                };
            }
        });
        // a failure below ends the thread above too
        let _end = RaiseOnDrop(&stop);
        for _ in 0..8 {
            let child = env.command(&["snapshot", "-q", source.to_str().unwrap()]);
            let mut child = child;
            let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let done = finish(child, Duration::from_secs(60));
            assert!(matches!(done.code, 0 | 3), "{}: {}", done.code, done.stderr);
            let target = env.path("target");
            env.restore(&source, &target, &["--no-sync"]).ok();
            for number in 0..200 {
                assert_eq!(fs::read(target.join(format!("steady {number}"))).unwrap(), whole(b's', 20_000));
            }
            if let Ok(found) = fs::read(target.join("replaced")) {
                assert_eq!(found.len(), 3_000_000);
                assert!(found.iter().all(|byte| *byte == found[0]), "a file that was always whole is mixed");
            }
            if let Ok(found) = fs::read(target.join("rewritten")) {
                let mixed = !found.iter().all(|byte| *byte == found[0]);
                let listed = env.lifeboat(&["show", "--json", "latest"]).ok().stdout;
                assert!(
                    !mixed || listed.contains("rewritten"),
                    "a torn file that nobody speaks of: {listed}"
                );
            }
            // only a plain file is read: it may have come back as a fifo
            let odd = target.join("odd");
            if odd.symlink_metadata().is_ok_and(|info| info.is_file()) {
                assert!(!fs::read(odd).unwrap().starts_with(b"root:"), "a link was followed");
            }
            fs::remove_dir_all(target).unwrap();
        }
    });
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_the_rest_kept() {
    if is_root() && !have(&["setpriv"]) {
        return;
    }
    let env = TestEnv::of_a_user();
    let source = env.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("good"), b"good").unwrap();
    fs::write(source.join("secret"), b"secret").unwrap();
    fs::set_permissions(source.join("secret"), fs::Permissions::from_mode(0o0)).unwrap();
    let done = env.lifeboat(&["snapshot", "-q", source.to_str().unwrap()]).exits(3);
    assert!(done.stderr.contains("secret"), "{}", done.stderr);
    let target = env.path("target");
    env.restore(&source, &target, &[]);
    assert_eq!(fs::read(target.join("good")).unwrap(), b"good");
    assert!(!target.join("secret").exists(), "content that was never read");
}

#[test]
fn what_nobody_may_look_at_is_not_called_removed() {
    if is_root() && !have(&["setpriv"]) {
        return;
    }
    let env = TestEnv::of_a_user();
    let source = env.path("source");
    fs::create_dir_all(source.join("none/deep")).unwrap();
    for path in ["good", "none/f", "none/deep/g", "z"] {
        fs::write(source.join(path), path).unwrap();
    }
    if let Some(user) = env.user() {
        run(Command::new("chown").args(["-R", &format!("{user}:{user}")]).arg(&source)).ok();
    }
    env.lifeboat(&["snapshot", "-q", source.to_str().unwrap()]).ok();
    let mode = |path: &str, mode| {
        fs::set_permissions(source.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    let diff =
        |what: &str| env.lifeboat(&["diff", &format!("latest:{}", source.join(what).display()), "--live"]);
    fs::remove_file(source.join("z")).unwrap();
    mode("none", 0);
    let done = diff("").exits(3);
    assert!(done.stdout.ends_with("/z\n") && !done.stdout.contains("none/"), "{}", done.stdout);
    assert!(done.stderr.contains("none: could not be compared: Permission denied"), "{}", done.stderr);
    assert!(
        done.stderr.contains("1 removed") && done.stderr.contains("4 could not be compared"),
        "{}",
        done.stderr
    );
    for (what, unread) in [("none", 4), ("none/f", 1), ("none/deep", 2)] {
        let done = diff(what).exits(3);
        assert_eq!(done.stdout, "", "{what}");
        assert!(
            done.stderr.contains(&format!("{what}: could not be compared: Permission denied")),
            "{}",
            done.stderr
        );
        let told = format!("no difference in what could be compared; {unread} could not be compared");
        assert!(done.stderr.contains(&told), "{what}: {}", done.stderr);
    }
    // names may be listed, and nothing can be asked about them
    mode("none", 0o400);
    let done = diff("none").exits(3);
    assert!(!done.stdout.contains("none/"), "{}", done.stdout);
    // a file may be looked at by its name where the directory's names are nobody's to read
    mode("none", 0o100);
    diff("none/f").ok();
    mode("none", 0o700);
}

#[test]
fn an_interrupt_ends_it_and_the_next_run_works() {
    if !have(&["python3"]) {
        return;
    }
    let env = TestEnv::new();
    let source = env.path("source");
    fs::create_dir(&source).unwrap();
    let mut state = 1u64;
    for number in 0..30 {
        let mut content = Vec::new();
        for _ in 0..1_000_000 / 8 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            content.extend_from_slice(&state.to_be_bytes());
        }
        fs::write(source.join(number.to_string()), content).unwrap();
    }
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        // it reads a fifo's worth of time: the command never ends by itself
        let args =
            ["snapshot", "--stdin-from-command", "dump", "--", "sh", "-c", "cat \"$0\"/*; exec sleep 1000"];
        let mut command = env.command(&args);
        let child = command.arg(&source).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        std::thread::sleep(Duration::from_millis(1500));
        rustix::process::kill_process(pid, signal).unwrap();
        finish(child, Duration::from_secs(30)).exits(130);
    }
    let none = env.lifeboat(&["snapshots", "--json"]).ok();
    assert!(!none.stdout.contains("dump"), "{}", none.stdout);
    env.snapshot(&source);
    env.restore(&source, &env.path("target"), &[]).ok();
    assert_same(&source, &env.path("target"), "");
    env.lifeboat(&["verify", "--deep", "-q"]).ok();
}

#[test]
fn a_command_that_fails_leaves_no_snapshot() {
    let env = TestEnv::new();
    let done =
        env.lifeboat(&["snapshot", "--stdin-from-command", "dump", "--", "sh", "-c", "echo half; exit 7"]);
    assert_ne!(done.code, 0, "{}", done.stdout);
    assert_eq!(env.lifeboat(&["snapshots", "-q", "--json"]).ok().stdout.matches("\"id\"").count(), 0);
    env.lifeboat(&["snapshot", "-q", "--stdin-from-command", "dump", "--", "echo", "whole"]).ok();
    assert_eq!(env.lifeboat(&["cat", "latest:dump"]).ok().stdout, "whole\n");
}

#[test]
fn make_tree_makes_something() {
    if have(&["python3"]) {
        let env = TestEnv::new();
        make_tree(&env.path("tree"), "portable");
        assert!(fs::read_dir(env.path("tree")).unwrap().count() > 10);
    }
}
