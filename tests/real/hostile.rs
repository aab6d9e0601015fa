//! A restore never leaves its target, whatever a repository says, and whoever moves the target meanwhile.
//!
//! The repositories are made by `forge.py`, a second writer of the format, each with one fault. Beside each
//! target lies a canary; after each restore it is compared with what it was.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::env::{Done, TestEnv, finish, have, is_root, long, python, run};

/// Repositories with one fault each, and a canary.
struct Forged {
    env: TestEnv,
}

impl Forged {
    fn new(cases: &[&str]) -> Option<Self> {
        if !have(&["python3", "zstd"]) {
            return None;
        }
        let env = TestEnv::new();
        let place = env.path("cases");
        python("forge.py", &[&[OsStr::new("hostile"), place.as_ref()], &*os(cases)].concat()).ok();
        Some(Self { env })
    }

    fn of(&self, case: &str, name: &str) -> PathBuf {
        self.env.path("cases").join(case).join(name)
    }

    /// Restores the newest snapshot of a case, and looks at the canary afterwards.
    fn restore(&self, case: &str, options: &[&str]) -> Done {
        let (repo, target) = (self.of(case, "repo"), self.of(case, "target"));
        let before = snapshot_of(&self.env.path("cases/canary"));
        let mut args = vec![OsStr::new("restore"), "-q".as_ref(), "-r".as_ref(), repo.as_ref()];
        args.extend(["latest".as_ref(), "--target".as_ref(), target.as_os_str()]);
        args.extend(os(options));
        let done = self.env.lifeboat(&args);
        assert_eq!(before, snapshot_of(&self.env.path("cases/canary")), "{case}: outside the target");
        done
    }

    /// Exports the newest snapshot of a case, unpacks the archive with the stock tar, and looks at the canary afterwards.
    fn export(&self, case: &str) -> (Done, PathBuf) {
        let before = snapshot_of(&self.env.path("cases/canary"));
        let (archive, into) = (self.of(case, "x.tar"), self.of(case, "unpacked"));
        let words = [OsStr::new("export"), "-q".as_ref(), "-r".as_ref(), self.of(case, "repo").as_ref()]
            .map(OsStr::to_owned);
        let more = [OsStr::new("latest"), "-o".as_ref(), archive.as_ref()].map(OsStr::to_owned);
        let done = self.env.lifeboat(&[&words[..], &more[..]].concat());
        fs::create_dir(&into).unwrap();
        run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&into)).ok();
        assert_eq!(before, snapshot_of(&self.env.path("cases/canary")), "{case}: outside the target");
        (done, into)
    }

    /// Restores a case that has a fault: how it ends, a word of what is said, and what must be there all the same.
    #[track_caller]
    fn refuses(&self, case: &str, code: i32, word: &str) {
        let done = self.restore(case, &[]);
        assert_eq!(done.code, code, "{case}: {}", done.stderr);
        assert!(done.stderr.contains(word), "{case} does not say `{word}`: {}", done.stderr);
        let top = self.of(case, "target").join("r");
        assert_eq!(fs::read(top.join("good/one")).unwrap(), b"the file good/one\n", "{case}");
        assert_eq!(fs::read(top.join("zgood/last")).unwrap(), b"the file zgood/last\n", "{case}");
    }
}

fn os<'a>(words: &[&'a str]) -> Vec<&'a OsStr> {
    words.iter().map(|word| OsStr::new(*word)).collect()
}

/// Everything below a directory that an escape could change.
fn snapshot_of(dir: &Path) -> Vec<String> {
    let entry = |e: walkdir::DirEntry| {
        let info = e.path().symlink_metadata().unwrap();
        let content = if info.is_file() { fs::read(e.path()).unwrap() } else { Vec::new() };
        let times = (info.mtime(), info.mtime_nsec(), info.nlink());
        format!("{:?} {:o} {}:{} {times:?} {content:?}", e.path(), info.mode(), info.uid(), info.gid())
    };
    walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().map(|e| entry(e.unwrap())).collect()
}

#[test]
fn paths_that_leave_the_target_are_refused() {
    let cases = [
        ("path-dotdot", "a path has no component . or .."),
        ("path-dotdot-deep", "a path has no component . or .."),
        ("path-dotdot-middle", "a path has no component . or .."),
        ("path-dotdot-inside", "a path has no component . or .."),
        ("path-absolute", "a path is relative"),
        ("path-slash", "a path is relative"),
        ("path-double-slash", "no empty component"),
        ("path-nul", "a name has no NUL"),
        ("path-256", "at most 255 bytes"),
        ("surrogate-slash", "manifest"),
        ("surrogate-dots", "manifest"),
    ];
    let Some(forged) = Forged::new(&cases.map(|(case, _)| case)) else { return };
    for (case, word) in cases {
        forged.refuses(case, 40, word);
    }
}

#[test]
fn a_name_that_comes_twice_never_leads_through_a_link() {
    let order = "its entries are not in order";
    let cases = [
        ("twice-file", 40, order),
        ("twice-directory", 40, order),
        ("twice-symlink-file", 40, order),
        ("twice-symlink-directory", 40, order),
        ("twice-directory-symlink", 40, order),
        ("twice-file-directory", 40, order),
        ("twice-fifo-file", 40, order),
        ("order-child-first", 40, order),
    ];
    let Some(forged) = Forged::new(&cases.map(|(case, ..)| case)) else { return };
    for (case, code, word) in cases {
        if case == "order-child-first" {
            let done = forged.restore(case, &[]);
            assert!(
                done.code == code && done.stderr.contains(word),
                "{case}: {}: {}",
                done.code,
                done.stderr
            );
        } else {
            forged.refuses(case, code, word);
        }
    }
}

#[test]
fn nothing_is_restored_below_what_is_no_directory() {
    let word = "the directory that holds it is not in the manifest or could not be made";
    let cases = [
        "below-symlink-absolute",
        "below-symlink-relative",
        "below-symlink-inside",
        "below-symlink-chain",
        "below-symlink-proc",
        "below-file",
        "below-fifo",
        "path-orphan",
        "path-orphan-deep",
    ];
    let Some(forged) = Forged::new(&cases) else { return };
    for case in cases {
        forged.refuses(case, 3, word);
        assert!(!forged.of(case, "target/r/good/x/evil").exists(), "{case}");
        let (done, unpacked) = forged.export(case);
        assert_eq!(done.code, 3, "{case}: {}", done.stderr);
        let word = "left out: the directory that holds it is n";
        assert!(done.stderr.contains(word), "{case} does not say `{word}`: {}", done.stderr);
        let names = walkdir::WalkDir::new(&unpacked).into_iter().map(|entry| entry.unwrap().into_path());
        let evil: Vec<_> = names.filter(|path| path.ends_with("evil") || path.ends_with("x/file")).collect();
        assert!(evil.is_empty(), "{case}: {evil:?}");
        assert_eq!(fs::read(unpacked.join("r/zgood/last")).unwrap(), b"the file zgood/last\n", "{case}");
    }
}

#[test]
fn a_second_name_of_something_else_stays_by_itself() {
    let cases = ["hardlink-symlink", "hardlink-fifo", "hardlink-other-content", "hardlink-through-symlink"];
    let Some(forged) = Forged::new(&[&cases[..], &["hardlink-dotdot", "hardlink-absolute"]].concat()) else {
        return;
    };
    for case in cases {
        forged.restore(case, &[]).ok();
        let restored = forged.of(case, "target/r/good/x");
        assert!(restored.symlink_metadata().unwrap().is_file(), "{case}");
        assert_eq!(fs::read(restored).unwrap(), b"evil", "{case}: the content of its own entry");
        let (done, unpacked) = forged.export(case);
        done.ok();
        let exported = unpacked.join("r/good/x");
        assert!(exported.symlink_metadata().unwrap().is_file(), "{case}");
        assert_eq!(fs::read(exported).unwrap(), b"evil", "{case}: the content of its own entry");
    }
    forged.refuses("hardlink-dotdot", 40, "a path has no component . or ..");
    forged.refuses("hardlink-absolute", 40, "a path is relative");
}

#[test]
fn devices_are_made_only_if_asked_for_and_by_root() {
    let Some(forged) = Forged::new(&["device-null"]) else { return };
    forged.refuses("device-null", 3, "devices were not made: give --devices, as root");
    let made = forged.of("device-null", "target/r/good/x");
    assert!(!made.exists());
    // an ordinary user gets none, even if he asks
    let user = TestEnv::of_a_user();
    let (repo, target) = (user.path("forged"), user.path("target"));
    run(Command::new("cp").arg("-r").args([forged.of("device-null", "repo"), repo.clone()])).ok();
    if let Some(number) = user.user() {
        run(Command::new("chown").args(["-R", &number.to_string()]).arg(&repo)).ok();
    }
    let words = [OsStr::new("restore"), "-q".as_ref(), "-r".as_ref(), repo.as_ref(), "latest".as_ref()];
    let more = [OsStr::new("--devices"), "--target".as_ref(), target.as_ref()];
    let done = user.lifeboat(&[&words[..], &more[..]].concat()).exits(3);
    assert!(done.stderr.contains("devices were not made"), "{}", done.stderr);
    assert!(!target.join("r/good/x").exists());
    if is_root() {
        fs::remove_dir_all(forged.of("device-null", "target")).unwrap();
        forged.restore("device-null", &["--devices"]);
        assert!(made.symlink_metadata().unwrap().file_type().is_char_device());
    }
}

#[test]
fn bombs_are_bounded_by_the_index_and_end_at_once() {
    let cases = [
        "pack-bomb",
        "pack-bomb-declared",
        "pack-bomb-last",
        "pack-bomb-seek",
        "pack-window",
        "pack-table-bomb",
        "pack-seek-2-32",
        "pack-table-frames-1e9",
        "index-bomb",
        "index-packs-bomb",
    ];
    if !have(&["python3", "zstd"]) {
        return;
    }
    // the program of the tests is not optimised, and the machine may be busy: the long run allows 5 seconds
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().to_str().unwrap();
    let words = ["--lifeboat", crate::env::LIFEBOAT, "--work", work, "--seconds", "30", "--memory", "256"];
    python("campaign_hostile.py", &[&words[..], &cases[..]].concat()).ok();
}

/// P23, P27, P29, P32: all cases, or some of each kind.
#[test]
fn hostile_repositories_do_nothing_outside_and_lose_nothing_good() {
    if !have(&["python3", "zstd"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().to_str().unwrap();
    let mut words = vec!["--lifeboat", crate::env::LIFEBOAT, "--work", work, "--seconds", "30"];
    if !long() {
        words.extend([
            "root-*",
            "name-*",
            "setuid*",
            "document-c*",
            "manifest-cycle*",
            "holes-o*",
            "xattr-n*",
        ]);
        words.extend(["line-key-twice", "line-nested", "pack-dev-zero", "pack-fifo", "repository-version-2"]);
    }
    let done = python("campaign_hostile.py", &words).ok();
    crate::env::say(&done.stdout);
}

#[test]
fn names_and_tags_cannot_command_the_terminal() {
    let Some(forged) = Forged::new(&["name-newline", "document-control"]) else { return };
    for (case, commands) in [
        ("name-newline", &[&["ls", "latest"][..], &["find", "*"], &["history", "/r/good/one"]][..]),
        ("document-control", &[&["snapshots"], &["show", "latest"], &["ls", "latest"]]),
    ] {
        let repo = forged.of(case, "repo");
        for command in commands {
            let mut args = os(command);
            args.splice(1..1, [OsStr::new("-r"), repo.as_ref()]);
            let done = forged.env.lifeboat(&args);
            let shown = done.stdout + &done.stderr;
            let bad = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
            assert!(!shown.contains(bad), "{case}: {command:?}: {shown:?}");
        }
    }
}

#[test]
fn a_repositorys_directories_are_for_its_owner_alone() {
    let env = TestEnv::new();
    let source = env.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), vec![1; 300_000]).unwrap();
    env.snapshot(&source);
    env.lifeboat(&["forget", "latest", "-q"]);
    env.lifeboat(&["prune", "-q"]);
    for entry in walkdir::WalkDir::new(env.repo()) {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
        let right = if entry.file_type().is_dir() { mode == 0o700 } else { mode == 0o600 || mode == 0o400 };
        assert!(right, "{}: {mode:o}", entry.path().display());
    }
}

/// P24: links planted in the target at every component are replaced or left, never followed.
#[test]
fn links_planted_in_the_target_are_never_followed() {
    let env = TestEnv::new();
    let (source, target, outside) = (env.path("source"), env.path("target"), env.path("outside"));
    fs::create_dir_all(source.join("a/b/c")).unwrap();
    for name in ["top", "a/one", "a/b/two", "a/b/c/three"] {
        fs::write(source.join(name), name).unwrap();
    }
    fs::create_dir_all(outside.join("b/c")).unwrap();
    fs::write(outside.join("file"), "canary").unwrap();
    let id = env.snapshot(&source);
    let before = snapshot_of(&outside);
    for planted in ["top", "a", "a/one", "a/b", "a/b/two", "a/b/c", "a/b/c/three"] {
        for aim in [outside.clone(), outside.join("file"), outside.join("missing")] {
            for how in [&["--in-place"][..], &["--in-place", "--delete", "--delete-most"]] {
                let _ = fs::remove_dir_all(&target);
                let place = target.join(planted);
                fs::create_dir_all(place.parent().unwrap()).unwrap();
                symlink(&aim, &place).unwrap();
                env.restore(&source, &target, how).ok();
                assert_eq!(before, snapshot_of(&outside), "{planted} -> {}", aim.display());
                crate::env::assert_same(&source, &target, "");
            }
        }
    }
    // a fresh restore does not even begin
    let place = target.to_str().unwrap();
    let done = env.lifeboat(&["restore", &id, "--target", place]).exits(1);
    assert!(done.stderr.contains("it is not empty"), "{}", done.stderr);
}

/// P25: somebody swaps directories for links to outside while a restore runs.
#[test]
fn directories_swapped_for_links_meanwhile_lead_nowhere() {
    let env = TestEnv::new();
    let (source, target, outside) = (env.path("source"), env.path("target"), env.path("outside"));
    for dir in 0..40 {
        for below in 0..5 {
            let dir = source.join(format!("d{dir:02}/e{below}"));
            fs::create_dir_all(&dir).unwrap();
            for file in 0..6 {
                fs::write(dir.join(format!("f{file}")), vec![file; 2000]).unwrap();
            }
        }
    }
    fs::create_dir(&outside).unwrap();
    for name in ["f0", "f1", "e0", "canary"] {
        fs::write(outside.join(name), "canary").unwrap();
    }
    env.snapshot(&source);
    let before = snapshot_of(&outside);
    let wanted = if long() { 100_000 } else { 2_000 };
    let (stop, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| swap_until(&stop, &swaps, &target, &outside));
        let _end = RaiseOnDrop(&stop);
        while swaps.load(Ordering::Relaxed) < wanted {
            let mut args = vec![OsStr::new("restore"), "-q".as_ref()];
            let what = format!("latest:{}", source.display());
            args.extend([OsStr::new(&what), "--target".as_ref(), target.as_ref()]);
            args.extend(os(&[
                "--in-place",
                "--overwrite",
                "always",
                "--delete",
                "--delete-most",
                "--no-sync",
            ]));
            let mut command = env.command(&args);
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let done = finish(child, Duration::from_secs(120));
            assert!(matches!(done.code, 0 | 1 | 3), "{}: {}", done.code, done.stderr);
            assert_eq!(before, snapshot_of(&outside), "after {} swaps", swaps.load(Ordering::Relaxed));
        }
    });
    // when it is left alone, it comes back whole
    env.restore(&source, &target, &["--in-place", "--overwrite", "always", "--delete", "--delete-most"]).ok();
    crate::env::assert_same(&source, &target, "");
}

struct RaiseOnDrop<'f>(&'f AtomicBool);

impl Drop for RaiseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

// Exchanges directories of the target with links to outside, and back.
fn swap_until(stop: &AtomicBool, swaps: &AtomicU64, target: &Path, outside: &Path) {
    let link = target.with_extension("link");
    let _ = symlink(outside, &link);
    let exchange = |place: &Path| {
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(rustix::fs::CWD, &link, rustix::fs::CWD, place, flags).is_ok()
    };
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let dir = target.join(format!("d{:02}", turn * 7 % 40));
        let place = if turn % 3 == 0 { dir } else { dir.join(format!("e{}", turn % 5)) };
        if exchange(&place) {
            std::thread::yield_now();
            exchange(&place);
            swaps.fetch_add(1, Ordering::Relaxed);
        }
        // it may have been removed or replaced meanwhile
        if !link.is_symlink() {
            let _ = fs::remove_dir_all(&link).or_else(|_| fs::remove_file(&link));
            let _ = symlink(outside, &link);
        }
    }
}
