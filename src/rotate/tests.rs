//! With real writers: other processes, at full speed, appending or not, on the file systems at hand.

use std::collections::HashSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::{Child, Command, Stdio};

use super::*;
use crate::base::time::Clock;

fn rule(text: &str) -> Rotate {
    let mut table = serde_json::json!({"log": "a.log"});
    table.as_object_mut().unwrap().extend(serde_json::from_str::<serde_json::Map<_, _>>(text).unwrap());
    serde_json::from_value(table).unwrap()
}

fn force() -> Options<'static> {
    Options { force: true, ..Options::default() }
}

fn now(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_800_000_000 + seconds).unwrap()
}

// Everything that the log and what was set aside hold, oldest first.
fn all(dir: &Path) -> String {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort_by_key(|path| (path.file_name() == Some("a.log".as_ref()), path.clone()));
    let mut text = Vec::new();
    for path in names {
        let file = fs::File::open(&path).unwrap();
        if path.extension() == Some("gz".as_ref()) {
            flate2::read::MultiGzDecoder::new(file).read_to_end(&mut text).unwrap();
        } else {
            (&file).read_to_end(&mut text).unwrap();
        }
    }
    String::from_utf8(text).unwrap()
}

const WRITER: &str = r#"
import os, sys
flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if sys.argv[2] == "append" else 0)
file = os.open(sys.argv[1], flags, 0o640)
n = 0
sys.stdout.write("ready\n"); sys.stdout.flush()
import select, time
while not select.select([0], [], [], 0)[0]:
    for _ in range(50):
        os.write(file, b"line %d of the writer, as long as lines of logs are\n" % n)
        n += 1
    time.sleep(0.0005)
print(n)
"#;

fn writer(log: &Path, how: &str) -> Child {
    let mut child = Command::new("python3")
        .args(["-c", WRITER, log.to_str().unwrap(), how])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    child
}

fn end(mut child: Child) -> usize {
    drop(child.stdin.take());
    let mut text = String::new();
    child.stdout.as_mut().unwrap().read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    text.trim().parse().unwrap()
}

fn nothing_is_lost(parent: &Path, how: &str, rounds: i64) -> Option<Way> {
    let dir = tempfile::tempdir_in(parent).unwrap();
    let log = dir.path().join("a.log");
    let child = writer(&log, how);
    let rule = rule("{}");
    let mut way = None;
    for round in 0..rounds {
        std::thread::sleep(Duration::from_millis(20));
        way = rotate(&log, &rule, dir.path(), force(), now(round)).unwrap().way.or(way);
    }
    let wrote = end(child);
    let text = all(dir.path());
    let lines: Vec<&str> =
        text.lines().map(|l| l.trim_matches(['\0', ' '])).filter(|l| !l.is_empty()).collect();
    let expected = |n: usize| format!("line {n} of the writer, as long as lines of logs are");
    let distinct: HashSet<&str> = lines.iter().copied().collect();
    let lost: Vec<usize> = (0..wrote).filter(|n| !distinct.contains(expected(*n).as_str())).collect();
    if way != Some(Way::Truncated) {
        assert!(lost.is_empty(), "{how}: lost {} of {wrote}, first {:?}", lost.len(), lost.first());
        assert_eq!(lines.len(), wrote, "{how}: lines are there twice or broken");
    }
    way
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a switch for developers")]
fn no_line_is_lost_while_the_writer_writes() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let rounds = if std::env::var_os("LIFEBOAT_TEST_LONG").is_some() { 500 } else { 15 };
    let way = nothing_is_lost(&here, "append", rounds);
    let (file_system, _) = crate::sys::space::file_system(&here).unwrap();
    let expected = if ["ext4", "xfs"].contains(&file_system) { Way::Collapsed } else { Way::Truncated };
    assert!(way == Some(expected) || way == Some(Way::Collapsed), "{way:?} on {file_system}");
    // one that does not append is seen, and its file becomes a hole
    let way = nothing_is_lost(&here, "seek", rounds);
    assert_eq!(way, Some(Way::Punched));
    // where it can only be cut, that is said
    if Path::new("/dev/shm").is_dir() {
        assert_eq!(nothing_is_lost(Path::new("/dev/shm"), "append", 3), Some(Way::Truncated));
    }
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir_in(Path::new(env!("CARGO_MANIFEST_DIR")).join("target")).unwrap();
    let log = dir.path().join("a.log");
    (dir, log)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn it_is_rotated_when_it_is_large_and_kept_as_long_as_said() {
    let (dir, log) = place();
    let rule = rule(r#"{"size": "1K", "keep": "2h", "keep_count": 3}"#);
    let go = |seconds| rotate(&log, &rule, dir.path(), Options::default(), now(seconds)).unwrap();
    fs::write(&log, "small\n").unwrap();
    assert_eq!(go(0).set_aside, None);
    fs::set_permissions(&log, fs::Permissions::from_mode(0o604)).unwrap();
    for i in 0..5 {
        fs::write(&log, format!("{i}\n").repeat(5000)).unwrap();
        let dry =
            rotate(&log, &rule, dir.path(), Options { dry_run: true, ..Options::default() }, now(i)).unwrap();
        assert!(dry.set_aside.is_some() && fs::metadata(&log).unwrap().len() == 10_000);
        assert!(go(i).set_aside.is_some());
    }
    let found = names(dir.path());
    assert_eq!(
        found,
        ["a.log", "a_20270115_080002.log.gz", "a_20270115_080003.log.gz", "a_20270115_080004.log.gz"]
    );
    let metadata = fs::metadata(dir.path().join(&found[1])).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o604);
    // by age, and nothing that a rotation did not make
    fs::write(dir.path().join("a_backup.log"), "mine").unwrap();
    assert_eq!(go(7205).removed.len(), 3);
    assert!(dir.path().join("a_backup.log").exists());
}

#[test]
fn what_a_kill_left_is_finished() {
    let (dir, log) = place();
    let rule = rule(r#"{"compress": false}"#);
    let text = "one of the lines\n".repeat(2000);
    fs::write(&log, &text).unwrap();
    // killed after the copy had its name
    fs::write(dir.path().join("a_20270101_000000.log"), &text).unwrap();
    fs::write(dir.path().join(".lifeboat-rotate-0123"), "half").unwrap();
    let outcome = rotate(&log, &rule, dir.path(), Options::default(), now(0)).unwrap();
    assert_eq!(outcome.reason, "a rotation was cut short");
    let kept = all(dir.path());
    let lines = kept.lines().filter(|line| !line.trim().is_empty()).count();
    assert_eq!(
        (names(dir.path()), lines),
        (vec!["a.log".to_owned(), "a_20270101_000000.log".to_owned()], 2000)
    );
    // killed while renaming: the log has two names
    fs::write(&log, "x\n").unwrap();
    fs::hard_link(&log, dir.path().join("a_20270115_080000.log")).unwrap();
    let renaming = self::rule(r#"{"compress": false, "method": "rename"}"#);
    let outcome = rotate(&log, &renaming, dir.path(), force(), now(9)).unwrap();
    assert_eq!(outcome.way, Some(Way::Renamed));
    assert_eq!(names(dir.path()), ["a.log", "a_20270101_000000.log", "a_20270115_080009.log"]);
}

#[test]
fn links_and_files_that_are_no_logs_are_left_alone() {
    let (dir, log) = place();
    let victim = dir.path().join("victim");
    fs::write(&victim, "secret\n").unwrap();
    let refused = |why: &str| {
        let error = rotate(&log, &rule("{}"), dir.path(), force(), now(0)).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "secret\n");
        fs::remove_file(&log).unwrap();
    };
    symlink(&victim, &log).unwrap();
    refused("it is a link");
    fs::hard_link(&victim, &log).unwrap();
    refused("it has 2 names");
    assert!(Command::new("mkfifo").arg(&log).status().unwrap().success());
    refused("it is no regular file");
    // a directory on the way
    fs::create_dir(dir.path().join("real")).unwrap();
    fs::write(dir.path().join("real/a.log"), "x\n").unwrap();
    symlink("real", dir.path().join("logs")).unwrap();
    let error = rotate(&dir.path().join("logs/a.log"), &rule("{}"), dir.path(), force(), now(0)).unwrap_err();
    assert!(error.to_string().contains("a link is on the way"), "{error}");
}

#[test]
fn a_second_name_in_the_tree_that_was_put_aside_is_no_reason() {
    for method in ["copytruncate", "rename"] {
        let rule = rule(&format!(r#"{{"method": "{method}", "compress": false}}"#));
        let (dir, _) = place();
        let (live, tree) = (dir.path().join("app"), dir.path().join(".app.aside"));
        for part in [&live, &tree] {
            fs::create_dir_all(part.join("logs")).unwrap();
        }
        let log = live.join("logs/a.log");
        let put_aside = |options: Options<'static>| {
            let aside = Some(Aside { live: &live, tree: &tree });
            let options = Options { aside, ..options };
            rotate(&log, &rule, &live, options, now(0)).map_err(|error| error.to_string())
        };
        let dry = Options { dry_run: true, ..force() };
        let refused = || {
            for options in [dry, force()] {
                let why = put_aside(options).unwrap_err();
                assert!(why.contains("names (hard links)"), "{why}");
            }
            assert_eq!(fs::read_to_string(&log).unwrap(), "one\n");
        };
        // another's file, whatever leads to it
        let theirs = dir.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join("a.log"), "one\n").unwrap();
        fs::hard_link(theirs.join("a.log"), &log).unwrap();
        refused();
        fs::remove_dir(tree.join("logs")).unwrap();
        symlink(&theirs, tree.join("logs")).unwrap();
        refused();
        fs::remove_file(tree.join("logs")).unwrap();
        fs::create_dir(tree.join("logs")).unwrap();
        // with a name in both trees it has three
        fs::hard_link(&log, tree.join("logs/a.log")).unwrap();
        refused();
        fs::remove_file(theirs.join("a.log")).unwrap();
        assert!(put_aside(dry).unwrap().set_aside.is_some());
        assert!(rotate(&log, &rule, &live, force(), now(0)).is_err(), "nothing is known of the other tree");
        let outcome = put_aside(force()).unwrap();
        assert_eq!(all(&live.join("logs")), "one\n");
        assert!(outcome.set_aside.is_some() && fs::metadata(&log).unwrap().len() == 0);
    }
}

#[test]
fn a_renamed_log_is_packed_when_its_writer_has_let_go() {
    let (dir, log) = place();
    let mut file = fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
    writeln!(file, "one").unwrap();
    let rule = rule(r#"{"method": "rename", "reopen": "touch told"}"#);
    let outcome = rotate(&log, &rule, dir.path(), force(), now(0)).unwrap();
    assert!(outcome.packed.is_empty() && outcome.notes[0].contains("still written to"), "{outcome:?}");
    assert!(dir.path().join("told").exists());
    writeln!(file, "two").unwrap();
    drop(file);
    let outcome = rotate(&log, &rule, dir.path(), Options::default(), now(1)).unwrap();
    assert_eq!(outcome.packed.len(), 1);
    fs::remove_file(dir.path().join("told")).unwrap();
    assert_eq!(all(dir.path()), "one\ntwo\n");
}

#[test]
fn marks_of_readers_follow() {
    use crate::check::follow::{Begin, End, follow};
    for compress in [false, true] {
        let (dir, log) = place();
        let text: String = (0..1000).map(|i| format!("line {i}\n")).collect();
        fs::write(&log, &text).unwrap();
        let read = |mark: Option<&Mark>| {
            let mut lines = Vec::new();
            let begin = mark.map_or(Begin::Start, Begin::Mark);
            let found = follow(&log, begin, End::WholeLines, &mut |line| lines.push(line.to_vec())).unwrap();
            lines.retain(|line| !line.is_empty());
            (found, lines.len())
        };
        let (first, _) = read(None);
        let mut file = fs::OpenOptions::new().append(true).open(&log).unwrap();
        file.write_all(b"after the mark\n").unwrap();
        let outcome =
            rotate(&log, &rule(&format!(r#"{{"compress": {compress}}}"#)), dir.path(), force(), now(0))
                .unwrap();
        file.write_all(b"after the rotation\n").unwrap();
        let mark = outcome.moved.unwrap().follow(&first.mark).unwrap();
        for mark in [&mark, &first.mark] {
            let (second, lines) = read(Some(mark));
            assert!(!second.is_lost && lines == 2, "{lines} lines");
        }
    }
}

#[test]
fn logrotate_takes_what_is_printed() {
    let (dir, log) = place();
    fs::write(&log, "x\n").unwrap();
    let rules = [
        rule(r#"{"every": "1d", "keep_count": 5}"#),
        rule(
            r#"{"log": "b c.log", "method": "rename", "reopen": ["touch", "it's"], "pidfile": "run/a.pid"}"#,
        ),
    ];
    let text = logrotate::configuration(&rules, dir.path()).unwrap();
    for line in [
        "    daily\n",
        "    maxsize 10000000\n",
        "    rotate 5\n",
        "    copytruncate\n",
        "    size 10000000\n",
        "'it'\\''s'",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(logrotate::configuration(&[rule(r#"{"log": "a\nb"}"#)], dir.path()).is_err());
    let file = dir.path().join("conf");
    fs::write(&file, &text).unwrap();
    let state = dir.path().join("status");
    for program in ["logrotate", "/usr/sbin/logrotate"] {
        let Ok(done) = Command::new(program).args(["-d", "-s"]).arg(&state).arg(&file).output() else {
            continue;
        };
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success() && !said.contains("error:"), "{said}\n{text}");
        return;
    }
}

#[test]
fn clocks_are_read_in_utc() {
    let at = Clock::System.now();
    let name = name::dated(b"a.log", at, 2);
    let (read, packed) = name::read(b"a.log", &name).unwrap();
    assert_eq!((read.parts().0, packed), (at.parts().0, false));
    for other in
        ["a.log", "a_20261124.log", "a_20261124_101112_x.log", "a_backup.log", "b_20261124_101112.log"]
    {
        assert!(name::read(b"a.log", other.as_bytes()).is_none(), "{other}");
    }
}
