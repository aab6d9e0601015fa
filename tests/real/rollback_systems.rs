//! Rollbacks on file systems of their own: those that share blocks and those that do not, mounts, links, and a database that is
//! written to meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::env::{Done, have, have_root, long, run, tool};
use crate::rollback::{App, killed_at_any_moment};

/// A file system in an image, mounted; gone when it is dropped.
struct Mounted {
    dir: tempfile::TempDir,
    point: PathBuf,
}

impl Mounted {
    fn image(kind: &str) -> Self {
        let mounted = Self::nowhere();
        let image = mounted.dir.path().join("image");
        fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
        run(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image)).ok();
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&mounted.point)).ok();
        mounted
    }

    fn nowhere() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let point = dir.path().join("point");
        fs::create_dir(&point).unwrap();
        Self { dir, point }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.point).status();
    }
}

fn json(done: &Done) -> Value {
    let last = done.stdout.lines().last().unwrap_or_default();
    serde_json::from_str(&done.stdout).or_else(|_| serde_json::from_str(last)).unwrap()
}

/// There and forward again, with live data, and what the proposal says of sharing blocks.
fn there_and_back(app: &App, shares: bool) {
    let before = app.print();
    app.change();
    let changed = app.print();
    fs::write(app.dir.join("logs/app.log"), "line 1\nline 2\n").unwrap();
    let dry = json(&app.lifeboat(&["rollback", "--dry-run", "--json"]).ok());
    assert_eq!(dry["proposal"]["reflink"], shares, "{dry}");
    let done = json(&app.lifeboat(&["rollback", "--json"]).ok());
    assert_eq!(app.print(), before);
    let steps = done["record"]["steps"].to_string();
    // all but what was changed is the live tree's own
    assert!(steps.contains("are those of the live tree") && !steps.contains("files 0 are"), "{steps}");
    app.lifeboat(&["undo"]).ok();
    assert_eq!(app.print(), changed);
    assert_eq!(fs::read_to_string(app.dir.join("logs/app.log")).unwrap(), "line 1\nline 2\n");
}

#[test]
fn a_rollback_is_exact_on_each_file_system() {
    if !have_root("mounting") {
        return;
    }
    for (kind, shares) in [("xfs", true), ("btrfs", true), ("ext4", false)] {
        let program = format!("mkfs.{kind}");
        if !have(&["mount", &program]) {
            continue;
        }
        let mounted = Mounted::image(kind);
        there_and_back(&App::small_at(&mounted.point.join("app")), shares);
    }
}

fn subvolume(path: &Path) {
    run(Command::new("btrfs").args(["subvolume", "create"]).arg(path)).ok();
}

#[test]
fn a_subvolume_is_copied_in_one_step_and_exchanged() {
    if !have_root("mounting") || !have(&["mount", "mkfs.btrfs", "btrfs", "setfattr", "getfattr"]) {
        return;
    }
    let mounted = Mounted::image("btrfs");
    let root = mounted.point.join("app");
    subvolume(&root);
    let app = App::small_at(&root);
    // times that are younger are not trusted
    std::thread::sleep(Duration::from_millis(2_100));
    app.lifeboat(&["snapshot", "-q"]).ok();
    let before = app.print();
    app.change();
    fs::create_dir_all(root.join("cache/deep")).unwrap();
    fs::write(root.join("cache/deep/made"), "again").unwrap();
    // with its size and its old time
    let sly = root.join("code/7.txt");
    let time = fs::metadata(&sly).unwrap().modified().unwrap();
    fs::write(&sly, "VERSION ONE of 7\n".repeat(200)).unwrap();
    fs::File::options().append(true).open(&sly).unwrap().set_modified(time).unwrap();
    let changed = app.print();
    // live data of every kind
    let logs = root.join("logs");
    fs::write(logs.join("app.log"), "line 1\nline 2\n").unwrap();
    fs::hard_link(logs.join("app.log"), logs.join("second.log")).unwrap();
    std::os::unix::fs::symlink("app.log", logs.join("current")).unwrap();
    run(Command::new("mkfifo").arg(logs.join("pipe"))).ok();
    run(Command::new("setfattr").args(["-n", "user.kind", "-v", "log"]).arg(logs.join("app.log"))).ok();
    let live = |dir: &Path| {
        let list = Command::new("find")
            .args([".", "-printf", "%p %y %l %m %U %G %s %n %T@\\n"])
            .current_dir(dir)
            .output();
        let attributes = Command::new("getfattr").args(["-d", "app.log"]).current_dir(dir).output();
        let (mut list, attributes) = (list.unwrap().stdout, attributes.unwrap().stdout);
        list.extend(attributes);
        String::from_utf8(list)
            .unwrap()
            .lines()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let written = live(&logs);
    let dry = app.lifeboat(&["rollback", "--dry-run"]).ok().stdout;
    assert!(dry.contains("begins as a copy of it"), "{dry}");
    let done = json(&app.lifeboat(&["rollback", "--json"]).ok());
    let steps = done["record"]["steps"].to_string();
    assert!(steps.contains("a copy of the subvolume, in which 32 files were brought back"), "{steps}");
    assert_eq!(app.print(), before);
    assert_eq!(live(&logs), written);
    assert!(!root.join("cache").exists(), "programs make it again");
    fs::write(logs.join("app.log"), "line 3\n").unwrap();
    fs::remove_file(logs.join("pipe")).unwrap();
    let written = live(&logs);
    app.lifeboat(&["undo"]).ok();
    assert_eq!(app.print(), changed);
    assert_eq!(live(&logs), written);
    assert!(root.join("cache/deep/made").exists());
    app.lifeboat(&["undo"]).ok();
    assert_eq!(app.print(), before);
    assert_eq!(live(&logs), written);
    app.lifeboat(&["undo", "--drop"]).ok();
    let list = run(Command::new("btrfs").args(["subvolume", "list"]).arg(&mounted.point)).ok().stdout;
    assert_eq!(list.lines().count(), 1, "{list}");

    killed_at_any_moment(&app, if long() { 100 } else { 8 });

    subvolume(&root.join("code/inner"));
    let done = app.lifeboat(&["rollback"]).exits(1);
    assert!(done.stderr.contains("others in it") && done.stderr.contains("--in-place"), "{}", done.stderr);
}

#[test]
fn a_mounted_tree_goes_back_in_place_only() {
    if !have_root("mounting") || !have(&["mount", "mkfs.ext4"]) {
        return;
    }
    let mounted = Mounted::image("ext4");
    let bound = Mounted::nowhere();
    let real = bound.dir.path().join("real");
    fs::create_dir(&real).unwrap();
    run(Command::new("mount").arg("--bind").arg(&real).arg(&bound.point)).ok();
    let overlaid = Mounted::nowhere();
    let mut layers = Vec::new();
    for name in ["lower/app", "upper", "work"] {
        let path = overlaid.dir.path().join(name);
        fs::create_dir_all(&path).unwrap();
        layers.push(path);
    }
    let lower = App::small_at(&layers[0]);
    let options =
        format!("lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work", overlaid.dir.path().display());
    let overlay =
        run(Command::new("mount").args(["-t", "overlay", "none", "-o", &options]).arg(&overlaid.point));
    drop(lower);
    let mut cases =
        vec![(mounted.point.clone(), "is a mount point"), (bound.point.clone(), "is a mount point")];
    // where the temporary files lie on an overlay themselves, there is no other on top of it
    if overlay.code == 0 {
        cases.push((overlaid.point.join("app"), "overlay"));
    }
    for (root, words) in cases {
        let app = App::small_at(&root);
        let before = app.print();
        app.change();
        let changed = app.print();
        let done = app.lifeboat(&["rollback"]).exits(1);
        assert!(
            done.stderr.contains(words) && done.stderr.contains("--in-place"),
            "{words}: {}",
            done.stderr
        );
        assert_eq!(app.print(), changed);
        app.lifeboat(&["rollback", "--in-place"]).ok();
        assert_eq!(app.print(), before, "{words}");
    }
}

#[test]
fn a_link_stays_and_what_it_leads_to_goes_back() {
    let real = tempfile::tempdir().unwrap();
    let releases = real.path().join("releases");
    fs::create_dir_all(releases.join("42")).unwrap();
    let link = real.path().join("current");
    std::os::unix::fs::symlink("releases/42", &link).unwrap();
    let app = App::small_at(&link);
    let before = app.print();
    app.change();
    let changed = app.print();
    let done = app.lifeboat(&["rollback"]).ok();
    assert!(done.stdout.contains("DONE"), "{}", done.stdout);
    assert_eq!(app.print(), before);
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("releases/42"));
    app.lifeboat(&["undo"]).ok();
    assert_eq!(app.print(), changed);
    app.lifeboat(&["rollback"]).ok();
    // another release since: the tree that was put aside is not of this one
    run(Command::new("cp").arg("-a").arg(releases.join("42")).arg(releases.join("43"))).ok();
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("releases/43", &link).unwrap();
    let done = app.lifeboat(&["undo"]).exits(1);
    assert!(done.stderr.contains("was put aside for"), "{}", done.stderr);
    // a link that leads nowhere
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("releases/44", &link).unwrap();
    let plan = releases.join("43/lifeboat.toml");
    let text = fs::read_to_string(&plan).unwrap().replace("[app]", &format!("[app]\nroot = {link:?}"));
    fs::write(&plan, text).unwrap();
    let done =
        run(app.env.command(&["rollback", "-c"]).arg(&plan).env("LIFEBOAT_STATE_DIR", app.env.path("state")));
    assert_eq!(done.code, 1, "{}", done.stderr);
}

#[test]
fn a_database_is_never_torn_by_a_rollback_under_its_writer() {
    if !have(&["python3", "setsid"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("app");
    fs::create_dir_all(root.join("data")).unwrap();
    fs::copy(tool("sqlite_writer.py"), root.join("writer.py")).unwrap();
    let start =
        "setsid python3 writer.py write data/app.db </dev/null >writer.log 2>&1 &\necho $! >writer.pid\n";
    fs::write(root.join("start.sh"), start).unwrap();
    let more = "[[database]]\nkind = \"sqlite\"\npath = \"data/app.db\"\n[service]\nstart = \"sh start.sh\"\npidfile = \"writer.pid\"\nready = [\"up\"]\nready_count = 1\n[[check]]\nname = \"up\"\nfile = \"writer.pid\"\n";
    let plan = format!(
        "[app]\nname = \"writer\"\nexclude = [\"writer.log\", \"writer.pid\"]\nrebuild = [\"writer.log\", \"writer.pid\"]\n{more}"
    );
    fs::write(root.join("lifeboat.toml"), plan).unwrap();
    let app = App::of(&root);
    let data = root.join("data/app.db");
    let judge = || run(Command::new("python3").arg(tool("sqlite_writer.py")).arg("judge").arg(&data)).ok();
    let highest = || crate::rollback::sql(&data, "select max(id) from entry").parse::<u64>().unwrap();
    run(Command::new("sh").arg("start.sh").current_dir(&root).stdout(Stdio::null())).ok();
    let wait = |least: u64| {
        for _ in 0..400 {
            std::thread::sleep(Duration::from_millis(50));
            let found = std::panic::catch_unwind(highest).unwrap_or_default();
            if found >= least {
                return found;
            }
        }
        panic!("the writer does not write");
    };
    wait(40);
    app.lifeboat(&["snapshot", "-q"]).ok();
    for (flags, keeps) in [
        (&[][..], false),
        (&["--keep-databases"], true),
        (&["--in-place", "--keep-databases"], true),
        (&["--in-place"], false),
    ] {
        let then = wait(highest() + 2000);
        app.lifeboat(&[&["rollback", "--newest", "-q"], flags].concat()).ok();
        judge();
        let now = highest();
        // it is written to again: those that stayed have all that was there, and those that went back start from the snapshot
        assert!(if keeps { now >= then } else { now < then + 100_000 }, "{flags:?}: {then}, then {now}");
        wait(now + 40);
        judge();
    }
    // the writer's own log of a tree put aside is no danger either
    app.lifeboat(&["rollback", "--newest", "-q"]).ok();
    app.lifeboat(&["undo", "-q"]).ok();
    judge();
    let pid = fs::read_to_string(root.join("writer.pid")).unwrap();
    run(Command::new("kill").arg(pid.trim())).ok();
}
