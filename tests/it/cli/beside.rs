//! A restore in place and what SQLite has beside a living database: it goes with the database, and not without it.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::env::TestEnv;

const LOG: [&str; 2] = ["-shm", "-wal"];

fn rows(database: &Path) -> u32 {
    let db = Connection::open(database).unwrap();
    db.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

// A closed database with two rows.
fn made(env: &TestEnv, relative: &str) -> PathBuf {
    env.write(relative, "");
    let path = env.path(relative);
    fs::remove_file(&path).unwrap();
    let db = Connection::open(&path).unwrap();
    db.execute_batch(
        "PRAGMA journal_mode=WAL; CREATE TABLE t (x, y); INSERT INTO t VALUES (1, randomblob(90000)), (2, 2)",
    )
    .unwrap();
    path
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

// A third row that is in the log alone, whose writer died: size and time of the database's own file are as they were.
fn logged(database: &Path) {
    let time = fs::metadata(database).unwrap().modified().unwrap();
    let db = Connection::open(database).unwrap();
    db.execute_batch("PRAGMA wal_autocheckpoint=0; INSERT INTO t VALUES (3, 3)").unwrap();
    let names: Vec<_> = ["", "-shm", "-wal"].iter().map(|suffix| beside(database, suffix)).collect();
    let contents: Vec<_> = names.iter().map(|name| fs::read(name).unwrap()).collect();
    drop(db);
    for (name, content) in names.iter().zip(contents) {
        fs::write(name, content).unwrap();
    }
    fs::File::options().write(true).open(database).unwrap().set_modified(time).unwrap();
}

// Another time, so that the database's own file counts as changed.
fn touched(database: &Path, seconds: u64) {
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    fs::File::options().write(true).open(database).unwrap().set_modified(time).unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let mut all: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    all
}

fn removed(env: &TestEnv, args: &[&str]) -> u64 {
    env.json(args)["deleted"].as_u64().unwrap()
}

#[test]
fn a_log_goes_when_its_database_is_replaced_and_not_before() {
    let env = TestEnv::new();
    let database = made(&env, "t/app.db");
    env.write("t/other", "x");
    env.ok(["snapshot", &env.arg("t")]);
    logged(&database);
    touched(&database, 1_000_000_000);
    let before = fs::read(beside(&database, "-wal")).unwrap();
    // the content is nowhere: the database stays, and what was committed to it
    let packs = env.path("repo/packs");
    let biggest = walk(&packs).into_iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    let whole = fs::read(&biggest).unwrap();
    fs::remove_file(&biggest).unwrap();
    for more in [&[][..], &["--delete"]] {
        let what = format!("latest:{}", env.arg("t"));
        let target = env.arg("t");
        let run = env.run([&["restore", &what, "--target", &target, "--in-place"], more].concat());
        assert_eq!(run.code, 40, "{}", run.stderr);
        assert_eq!(fs::read(beside(&database, "-wal")).unwrap(), before);
        assert_eq!(names(&env.path("t")), ["app.db", "app.db-shm", "app.db-wal", "other"]);
    }
    fs::write(&biggest, whole).unwrap();
    let what = format!("latest:{}", env.arg("t"));
    let args = ["restore", &what, "--target", &env.arg("t"), "--in-place"];
    for more in [&["--dry-run"][..], &["--delete", "--dry-run"], &["--delete"]] {
        assert_eq!(removed(&env, &[&args[..], more].concat()), 2, "{more:?}");
    }
    assert_eq!(names(&env.path("t")), ["app.db", "other"]);
    assert_eq!(rows(&database), 2);
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(walk(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

#[test]
fn a_database_that_is_restored_by_itself_comes_without_the_living_log() {
    for plain in [&[][..], &["--plain-databases"]] {
        let env = TestEnv::new();
        let database = made(&env, "t/app.db");
        let (dir, file) = (env.arg("t"), env.arg("t/app.db"));
        for root in [&dir, &file] {
            env.ok([&["snapshot", root], plain].concat());
            let what = format!("latest:{file}");
            let args = ["restore", &what, "--target", &dir, "--in-place"];
            for (is_there, time) in [(true, None), (true, Some(1_000_000_000)), (false, None)] {
                logged(&database);
                let other =
                    if root == &file { &["restore", "latest", "-t", "/", "--in-place"] } else { &args };
                match (is_there, time) {
                    (false, _) => fs::remove_file(&database).unwrap(),
                    (true, Some(time)) => touched(&database, time),
                    (true, None) => {}
                }
                for args in [&args, other] {
                    assert_eq!(removed(&env, &[&args[..], &["--dry-run"]].concat()), 2);
                }
                assert_eq!(removed(&env, &args), 2, "{plain:?} {is_there} {time:?}");
                assert_eq!(names(&env.path("t")), ["app.db"]);
                assert_eq!(rows(&database), 2);
            }
        }
    }
}

#[test]
fn a_plain_database_comes_without_the_living_log_that_the_snapshot_does_not_have() {
    let env = TestEnv::new();
    let database = made(&env, "t/app.db");
    // by its name it could be one of SQLite's
    env.write("t/bank", "x".repeat(512));
    env.ok(["snapshot", "--plain-databases", &env.arg("t")]);
    env.write("t/bank", "y".repeat(512));
    env.write("t/bank-journal", "mine");
    let what = format!("latest:{}", env.arg("t"));
    let args = ["restore", &what, "--target", &env.arg("t"), "--in-place"];
    for (is_there, time) in [(true, None), (true, Some(1_000_000_000)), (false, None)] {
        logged(&database);
        match time {
            Some(time) => touched(&database, time),
            None if is_there => {}
            None => fs::remove_file(&database).unwrap(),
        }
        assert_eq!(removed(&env, &[&args[..], &["--dry-run"]].concat()), 2);
        assert_eq!(removed(&env, &args), 2);
        assert_eq!(names(&env.path("t")), ["app.db", "bank", "bank-journal"]);
        assert_eq!(rows(&database), 2);
    }
    // with a log in the snapshot it is the snapshot's
    logged(&database);
    env.ok(["snapshot", "--plain-databases", &env.arg("t")]);
    let log = fs::read(beside(&database, "-wal")).unwrap();
    let db = Connection::open(&database).unwrap();
    db.execute_batch("DELETE FROM t").unwrap();
    drop(db);
    assert_eq!(rows(&database), 0);
    fs::write(beside(&database, "-wal"), "old").unwrap();
    assert_eq!(removed(&env, &[&args[..], &["--dry-run"]].concat()), 0);
    assert_eq!(removed(&env, &args), 0);
    assert_eq!(fs::read(beside(&database, "-wal")).unwrap(), log);
    assert_eq!(rows(&database), 3);
}

#[test]
fn what_is_newer_by_its_log_alone_is_newer() {
    for plain in [&[][..], &["--plain-databases"]] {
        let env = TestEnv::new();
        let database = made(&env, "t/app.db");
        touched(&database, 1_000_000_000);
        env.ok([&["snapshot", &env.arg("t")], plain].concat());
        logged(&database);
        let to = ["--target", &env.arg("t"), "--in-place", "--overwrite", "if-newer"];
        for what in ["t", "t/app.db"] {
            let what = format!("latest:{}", env.arg(what));
            env.ok([&["restore", &what], &to[..]].concat());
            env.ok([&["restore", &what, "--delete"], &to[..]].concat());
            assert_eq!(names(&env.path("t")).len(), 1 + LOG.len());
        }
        assert_eq!(rows(&database), 3);
    }
}

#[test]
fn a_log_stays_with_the_database_that_stays() {
    let env = TestEnv::new();
    let database = made(&env, "t/app.db");
    env.ok(["snapshot", &env.arg("t")]);
    logged(&database);
    touched(&database, 4_000_000_000);
    let what = format!("latest:{}", env.arg("t"));
    for when in ["never", "if-newer"] {
        let args = ["restore", &what, "--target", &env.arg("t"), "--in-place", "--delete"];
        env.ok([&args[..], &["--overwrite", when, "--delete-most"]].concat());
        assert_eq!(names(&env.path("t")).len(), 1 + LOG.len());
    }
    // nor does the log go of one that the snapshot was told to leave out; one that came since goes with its own
    assert_eq!(rows(&database), 3, "which closes it");
    env.ok(["snapshot", "-e", "app.db", &env.arg("t")]);
    logged(&database);
    logged(&made(&env, "t/newer.db"));
    env.write("t/lost.db-wal", "log");
    env.ok(["restore", &what, "--target", &env.arg("t"), "--in-place", "--delete", "--delete-most"]);
    assert_eq!(names(&env.path("t")), ["app.db", "app.db-shm", "app.db-wal"]);
    assert_eq!(rows(&database), 4);
}

#[test]
fn a_database_whose_log_could_have_no_name_comes_back() {
    let env = TestEnv::new();
    let name = format!("t/{}", "n".repeat(250));
    fs::rename(made(&env, "t/app.db"), env.path(&name)).unwrap();
    env.ok(["snapshot", &env.arg("t")]);
    touched(&env.path(&name), 1_000_000_000);
    env.ok(["restore", &format!("latest:{}", env.arg("t")), "--target", &env.arg("t"), "--in-place"]);
    let time = fs::metadata(env.path(&name)).unwrap().modified().unwrap();
    assert!(time.elapsed().unwrap().as_secs() < 1000);
}

// A snapshot of a plain database with its log; since then the living one was closed and emptied.
fn plain_with_log(env: &TestEnv) -> PathBuf {
    let database = made(env, "t/app.db");
    env.ok(["snapshot", "--plain-databases", &env.arg("t")]);
    logged(&database);
    env.ok(["snapshot", "--plain-databases", &env.arg("t")]);
    emptied(&database);
    database
}

fn emptied(database: &Path) {
    let db = Connection::open(database).unwrap();
    db.execute_batch("DELETE FROM t; VACUUM").unwrap();
    drop(db);
    touched(database, 4_000_000_000);
}

#[test]
fn a_log_of_the_snapshot_does_not_come_beside_a_database_that_stays() {
    let env = TestEnv::new();
    let database = plain_with_log(&env);
    let (what, target) = (format!("latest:{}", env.arg("t")), env.arg("t"));
    let args = ["restore", &what, "--target", &target, "--in-place"];
    for more in [&["--overwrite", "never"][..], &["--overwrite", "if-newer"], &["-e", "app.db"]] {
        for dry in [&["--dry-run"][..], &[]] {
            let run = env.run([&args, more, dry].concat());
            assert_eq!(run.code, 0, "{}", run.stderr);
            assert_eq!(run.stderr.matches("log-kept-out").count(), 2, "{}", run.stderr);
            assert!(run.stderr.contains("2: not put beside a database that stays"), "{}", run.stderr);
        }
        let told = env.ok([&args, more, &["--json"]].concat());
        assert!(told.lines().last().unwrap().contains("\"withheld\":2,"), "{told}");
        assert_eq!(names(&env.path("t")), ["app.db"]);
        assert_eq!(rows(&database), 0);
    }
    // nor a log by itself
    let one = format!("{what}/app.db-wal");
    let run = env.run(["restore", &one, "--target", &target, "--in-place"]);
    assert_eq!((run.code, names(&env.path("t")).len()), (3, 1), "{}", run.stderr);
    // where there is none it is a file like any other
    fs::remove_file(&database).unwrap();
    env.ok(["restore", &one, "--target", &target, "--in-place"]);
    env.ok(args);
    assert_eq!(rows(&database), 3);
}

#[test]
fn a_log_of_the_snapshot_does_not_come_where_its_database_does_not() {
    let env = TestEnv::new();
    let database = plain_with_log(&env);
    let packs = walk(&env.path("repo/packs"));
    fs::remove_file(packs.into_iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap()).unwrap();
    let what = format!("latest:{}", env.arg("t"));
    let run = env.run(["restore", &what, "--target", &env.arg("t"), "--in-place"]);
    assert_eq!(run.code, 40, "{}", run.stderr);
    assert!(run.stderr.contains("which could not be restored"), "{}", run.stderr);
    assert_eq!(names(&env.path("t")), ["app.db"]);
    assert_eq!(rows(&database), 0);
}

#[test]
fn a_log_of_the_snapshot_does_not_come_beside_a_database_that_the_snapshot_does_not_have() {
    let env = TestEnv::new();
    let database = made(&env, "t/app.db");
    logged(&database);
    env.write("t/bank-journal", "mine");
    env.ok(["snapshot", "--plain-databases", "-e", "app.db", &env.arg("t")]);
    emptied(&database);
    env.write("t/bank", "yours");
    fs::remove_file(env.path("t/bank-journal")).unwrap();
    let what = format!("latest:{}", env.arg("t"));
    let run = env.run(["restore", &what, "--target", &env.arg("t"), "--in-place"]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert!(run.stderr.contains("which the snapshot does not have"), "{}", run.stderr);
    assert_eq!(names(&env.path("t")), ["app.db", "bank", "bank-journal"]);
    assert_eq!(rows(&database), 0);
}
