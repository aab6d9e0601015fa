use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn run(&self, check: serde_json::Value) -> Verdict {
        parse(check).run(&Context::new(self.path()))
    }

    fn says(&self, check: serde_json::Value) -> (Outcome, String) {
        let verdict = self.run(check);
        (verdict.outcome, verdict.reason)
    }
}

fn parse(mut check: serde_json::Value) -> Check {
    check.as_object_mut().unwrap().entry("name").or_insert("x".into());
    serde_json::from_value(check).unwrap()
}

// Answers every connection by the same bytes, after a while, and closes it.
fn server(answer: impl Into<Vec<u8>>, wait: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = answer.into();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            std::thread::sleep(wait);
            let _ = stream.write_all(&answer);
        }
    });
    port
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Kind: test\r\n\r\n{body}", body.len()).into_bytes()
}

const NOW: Duration = Duration::ZERO;

#[test]
fn http_judges_status_json_body_and_headers() {
    let place = Place::new();
    let port = server(ok(r#"{"status":"healthy","data":{"rows":[7,8]},"version":"1.2"}"#), NOW);
    let url = format!("http://127.0.0.1:{port}/health");
    let outcome = |expect: serde_json::Value| place.says(json!({"http": url, "expect": expect}));
    assert_eq!(
        outcome(json!({"status": 200, "json": {"status": "healthy", "data.rows.1": 8}})).0,
        Outcome::Pass
    );
    assert_eq!(
        outcome(json!({"json": {"/data/rows/0": {"min": 7, "max": 7}, "version": {"matches": "^1\\."}}})).0,
        Outcome::Pass
    );
    assert_eq!(
        outcome(json!({"status": [201, 204]})),
        (Outcome::Fail, "the status is 200, not 201 or 204".to_owned())
    );
    let wrong = outcome(json!({"json": {"status": "ill"}}));
    assert_eq!(wrong, (Outcome::Fail, "status is \"healthy\", not = \"ill\"".to_owned()));
    assert_eq!(outcome(json!({"json": {"nothing": 1}})).1, "there is no nothing");
    assert_eq!(outcome(json!({"body": "heal+thy"})).0, Outcome::Pass);
    assert_eq!(outcome(json!({"body": "sick"})).0, Outcome::Fail);
    assert_eq!(outcome(json!({"header": {"x-kind": "^test$"}})).0, Outcome::Pass);
    assert_eq!(outcome(json!({"header": {"x-other": "."}})).0, Outcome::Fail);
    assert_eq!(outcome(json!({"body": "("})).0, Outcome::Error);
}

#[test]
fn http_that_is_slow_breaks_off_or_is_not_there_fails() {
    let place = Place::new();
    let says = |port: u16, more: serde_json::Value| {
        let mut check = json!({"http": format!("http://127.0.0.1:{port}/"), "timeout": "300ms"});
        check.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        place.says(check)
    };
    let began = Instant::now();
    let slow = says(server(ok("late"), Duration::from_secs(20)), json!({}));
    assert_eq!(slow, (Outcome::Fail, "no answer within 0.30 s".to_owned()));
    assert!(began.elapsed() < Duration::from_secs(5));
    let late = says(server(ok("x"), Duration::from_millis(100)), json!({"expect": {"latency": "10ms"}}));
    assert_eq!(late.0, Outcome::Fail, "{late:?}");
    let early = says(server("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", NOW), json!({}));
    assert!(early.0 == Outcome::Fail && early.1.starts_with("the answer breaks off after 4 B"), "{early:?}");
    let nothing = says(server("", NOW), json!({}));
    assert_eq!(nothing.0, Outcome::Fail, "{nothing:?}");
    let no_json = says(server(ok("<html>"), NOW), json!({"expect": {"json": {"a": 1}}}));
    assert!(no_json.0 == Outcome::Fail && no_json.1.starts_with("the body is not JSON"), "{no_json:?}");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let gone = says(free, json!({}));
    assert!(gone.0 == Outcome::Fail && gone.1.starts_with("no connection"), "{gone:?}");
}

#[test]
fn a_huge_body_is_bounded() {
    let place = Place::new();
    let huge = ok(&"x".repeat(6 << 20));
    let url = format!("http://127.0.0.1:{}/", server(huge, NOW));
    let verdict = place.run(json!({"http": url}));
    assert_eq!(verdict.outcome, Outcome::Pass);
    assert!(verdict.observed.len() <= verdict::EVIDENCE);
    let verdict = place.run(json!({"http": url, "expect": {"json": {"a": 1}}}));
    assert_eq!(verdict.outcome, Outcome::Error, "{}", verdict.reason);
}

#[test]
fn it_is_tried_again_until_it_passes() {
    let place = Place::new();
    let check =
        json!({"command": "echo x >> tries; test $(wc -l < tries) -ge 3", "retries": 5, "interval": "10ms"});
    let verdict = place.run(check);
    assert_eq!((verdict.outcome, verdict.attempts), (Outcome::Pass, 3));
    let verdict = place.run(json!({"command": "false", "retries": 2, "interval": "1ms"}));
    assert_eq!((verdict.outcome, verdict.attempts), (Outcome::Fail, 3));
}

#[test]
fn commands_are_judged_by_status_and_output() {
    let place = Place::new();
    let outcome = |check: serde_json::Value| place.says(check).0;
    assert_eq!(outcome(json!({"command": ["true"]})), Outcome::Pass);
    assert_eq!(outcome(json!({"command": "exit 3", "exit": 3})), Outcome::Pass);
    assert_eq!(
        place.says(json!({"command": "echo why >&2; exit 3"})).1,
        "echo why >&2; exit 3 exited with 3: why"
    );
    assert_eq!(
        outcome(json!({"command": "echo 9 tests passed", "stdout": "^9 tests", "contains": "passed"})),
        Outcome::Pass
    );
    assert_eq!(outcome(json!({"command": "echo no", "contains": "yes"})), Outcome::Fail);
    assert_eq!(outcome(json!({"command": "echo '{\"a\": 2}'", "json": {"a": {"max": 2}}})), Outcome::Pass);
    assert_eq!(outcome(json!({"command": "echo '{\"a\": 2}'", "json": {"a": 3}})), Outcome::Fail);
    assert_eq!(outcome(json!({"command": ["/no/such/program"]})), Outcome::Fail);
    let began = Instant::now();
    assert_eq!(outcome(json!({"command": "sleep 70 & sleep 71", "timeout": "200ms"})), Outcome::Fail);
    assert!(began.elapsed() < Duration::from_secs(8));
    let verdict = place.run(json!({"command": "yes '\u{1b}[31mred'", "timeout": "100ms"}));
    assert!(verdict.observed.len() <= verdict::EVIDENCE && !verdict.observed.contains('\u{1b}'));
}

#[test]
fn ports_are_open_or_closed() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(place.says(json!({"port": port})).0, Outcome::Pass);
    assert_eq!(place.says(json!({"port": format!("localhost:{port}"), "closed": true})).0, Outcome::Fail);
    drop(listener);
    assert_eq!(place.says(json!({"port": port})).0, Outcome::Fail);
    assert_eq!(place.says(json!({"port": port, "closed": true})).0, Outcome::Pass);
    let _socket = std::os::unix::net::UnixListener::bind(place.path().join("s")).unwrap();
    assert_eq!(place.says(json!({"port": "./s"})).0, Outcome::Pass);
    assert_eq!(place.says(json!({"port": "./t"})).0, Outcome::Fail);
}

#[test]
fn files_are_counted_weighed_and_hashed() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    for name in ["b/one.py", "b/two.py", "b/c/three.py", "b/x.txt"] {
        place.write(name, "abc");
    }
    fs::set_permissions(place.path().join("b/x.txt"), fs::Permissions::from_mode(0o640)).unwrap();
    let outcome = |check: serde_json::Value| place.says(check).0;
    assert_eq!(outcome(json!({"file": "b/*.py", "min_count": 2, "max_count": 2})), Outcome::Pass);
    assert_eq!(outcome(json!({"file": "b/**/*.py", "min_count": 3})), Outcome::Pass);
    assert_eq!(outcome(json!({"file": "b/*.py", "min_count": 3})), Outcome::Fail);
    assert_eq!(outcome(json!({"file": "b/none"})), Outcome::Fail);
    assert_eq!(outcome(json!({"file": "b/none", "exists": false})), Outcome::Pass);
    assert_eq!(outcome(json!({"file": "b/*.txt", "exists": false})), Outcome::Fail);
    assert_eq!(
        outcome(json!({"file": "b/x.txt", "min_size": 3, "mode": "0640", "max_age": "1h"})),
        Outcome::Pass
    );
    assert_eq!(outcome(json!({"file": "b/x.txt", "min_size": "1K"})), Outcome::Fail);
    assert_eq!(outcome(json!({"file": "b/x.txt", "mode": "0644"})), Outcome::Fail);
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(outcome(json!({"file": "b/x.txt", "sha256": hash})), Outcome::Pass);
    place.write("b/x.txt", "abd");
    assert_eq!(outcome(json!({"file": "b/x.txt", "sha256": hash})), Outcome::Fail);
    let later =
        crate::base::time::Timestamp(crate::base::time::Clock::System.now().0 + chrono::Duration::days(2));
    let context = Context { now: Some(later), ..Context::new(place.path()) };
    assert_eq!(parse(json!({"file": "b/*.py", "max_age": "1d"})).run(&context).outcome, Outcome::Fail);
}

#[test]
fn json_values_are_judged() {
    let place = Place::new();
    place.write("c.json", r#"{"port": 8000, "list": ["a"], "deep": {"x": 1.5}}"#);
    let outcome = |check: serde_json::Value| place.says(check).0;
    assert_eq!(outcome(json!({"json": "c.json", "pointer": "/port", "equals": 8000})), Outcome::Pass);
    assert_eq!(outcome(json!({"json": "c.json", "pointer": "/port", "equals": 8000.0})), Outcome::Pass);
    assert_eq!(outcome(json!({"json": "c.json", "pointer": "port", "equals": "8000"})), Outcome::Fail);
    assert_eq!(outcome(json!({"json": "c.json", "pointer": "deep.x", "min": 1, "max": 2})), Outcome::Pass);
    assert_eq!(outcome(json!({"json": "c.json", "pointer": "list.0", "matches": "^a$"})), Outcome::Pass);
    assert_eq!(outcome(json!({"json": "c.json", "pointer": "/none"})), Outcome::Fail);
    place.write("bad.json", "{");
    assert_eq!(outcome(json!({"json": "bad.json"})), Outcome::Fail);
    assert_eq!(outcome(json!({"json": "none.json"})), Outcome::Fail);
    place.write("deep.json", "[".repeat(1_000_000));
    assert_eq!(outcome(json!({"json": "deep.json"})), Outcome::Fail);
}

#[test]
fn databases_are_asked_and_never_written() {
    let place = Place::new();
    let path = place.path().join("a.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    let rows = "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE r (x, p REFERENCES p (id));\
                WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) INSERT INTO r SELECT i, NULL FROM n;";
    connection.execute_batch(&format!("PRAGMA journal_mode = DELETE; {rows}")).unwrap();
    let count = |more: serde_json::Value| {
        let mut check = json!({"sql": "a.db", "query": "SELECT count(*) FROM r"});
        check.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        place.says(check)
    };
    assert_eq!(count(json!({"equals": 5000, "integrity": true})).0, Outcome::Pass);
    assert_eq!(
        count(json!({"min": 5001})),
        (Outcome::Fail, "the answer is 5000, expected ≥ 5001".to_owned())
    );
    assert_eq!(count(json!({})).0, Outcome::Error);
    let ask = |query: &str| place.says(json!({"sql": "a.db", "query": query, "min": 0}));
    assert_eq!(ask("SELECT count(*) FROM gone").0, Outcome::Fail);
    assert_eq!(ask("SELEC 1").0, Outcome::Error);
    assert_eq!(ask("SELECT 1 WHERE 0").0, Outcome::Fail);
    assert_eq!(ask("DELETE FROM r RETURNING 1").0, Outcome::Error);
    assert_eq!(count(json!({"equals": 5000})).0, Outcome::Pass);
    let began = Instant::now();
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let slow = place.says(json!({"sql": "a.db", "query": endless, "min": 0, "timeout": "200ms"}));
    assert_eq!(slow, (Outcome::Fail, "the query did not end in time".to_owned()));
    assert!(began.elapsed() < Duration::from_secs(5));
    connection.execute_batch("PRAGMA foreign_keys = OFF; INSERT INTO r VALUES (1, 99)").unwrap();
    let orphan = place.says(json!({"sql": "a.db", "integrity": true}));
    assert!(
        orphan.0 == Outcome::Fail && orphan.1.contains("refers to a row that p does not have"),
        "{orphan:?}"
    );
    drop(connection);
    // cut in the middle, as a torn copy is
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(place.says(json!({"sql": "a.db", "integrity": true})).0, Outcome::Fail);
    place.write("a.db", "not a database, but long enough to look like one at a first glance");
    assert_eq!(place.says(json!({"sql": "a.db", "integrity": true})).0, Outcome::Fail);
    place.write("a.db", "");
    assert_eq!(place.says(json!({"sql": "a.db", "integrity": true})).0, Outcome::Fail);
}

#[test]
fn logs_are_read_on_across_rotation() {
    let place = Place::new();
    let check = parse(json!({"log": "a.log", "forbid": "ERROR"}));
    let mut context = Context::new(place.path());
    let look = |context: &mut Context| {
        let verdict = check.run(context);
        context.marks.insert("x".to_owned(), verdict.mark.clone().unwrap());
        (verdict.outcome, verdict.reason)
    };
    let append = |name: &str, text: &str| {
        let file = fs::OpenOptions::new().append(true).create(true).open(place.path().join(name));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    };
    append("a.log", "one\nERROR two\nthree\nERR");
    assert_eq!(
        look(&mut context),
        (Outcome::Fail, "1 forbidden line of 3 lines in the log: ERROR two".to_owned())
    );
    assert_eq!(look(&mut context).1, "0 forbidden lines of 0 lines since the last look");
    // the half line is judged when it is whole
    append("a.log", "OR four\n");
    assert_eq!(look(&mut context).1, "1 forbidden line of 1 line since the last look: ERROR four");
    // renamed
    append("a.log", "ERROR five\n");
    fs::rename(place.path().join("a.log"), place.path().join("a.log.1")).unwrap();
    append("a.log", "six\n");
    assert_eq!(look(&mut context).1, "1 forbidden line of 2 lines since the last look: ERROR five");
    // copied and emptied
    append("a.log", "ERROR seven\n");
    fs::copy(place.path().join("a.log"), place.path().join("a.log-2026")).unwrap();
    fs::write(place.path().join("a.log"), "eight\n").unwrap();
    assert_eq!(look(&mut context).1, "1 forbidden line of 2 lines since the last look: ERROR seven");
    // gone: said, and what there is is read
    fs::write(place.path().join("a.log"), "ERROR nine and more than before\n").unwrap();
    let (outcome, reason) = look(&mut context);
    assert!(outcome == Outcome::Fail && reason.ends_with("not to be found"), "{reason}");
}

#[test]
fn logs_may_be_required_to_say_something() {
    let place = Place::new();
    place.write("a.log", "started\nbad \u{1b}[2J line");
    let says = |more: serde_json::Value| {
        let mut check = json!({"log": "a.log", "since": "start"});
        check.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        place.run(check)
    };
    assert_eq!(says(json!({"require": "^started$"})).outcome, Outcome::Pass);
    assert_eq!(says(json!({"require": ["started", "ready"]})).outcome, Outcome::Fail);
    assert_eq!(says(json!({"forbid": "bad", "max": 1})).outcome, Outcome::Pass);
    let verdict = says(json!({"forbid": "bad"}));
    assert_eq!((verdict.outcome, verdict.observed.as_str()), (Outcome::Fail, "bad \\x1b[2J line"));
    assert_eq!(says(json!({})).outcome, Outcome::Error);
    assert_eq!(place.says(json!({"log": "none.log", "forbid": "x"})).0, Outcome::Fail);
    assert_eq!(place.says(json!({"log": ".", "forbid": "x"})).0, Outcome::Error);
}

#[test]
fn the_machine_is_measured() {
    let place = Place::new();
    let outcome = |check: serde_json::Value| place.says(check).0;
    assert_eq!(outcome(json!({"disk": ".", "min_free": 1, "min_inodes": 1})), Outcome::Pass);
    assert_eq!(outcome(json!({"disk": ".", "min_free": "100%"})), Outcome::Fail);
    assert_eq!(outcome(json!({"disk": "none", "min_free": "1%"})), Outcome::Fail);
    assert_eq!(outcome(json!({"memory": "system", "min_free": 1, "max": "100%"})), Outcome::Pass);
    assert_eq!(outcome(json!({"memory": "system", "max": 1})), Outcome::Fail);
    assert_eq!(outcome(json!({"cpu": "system", "max": "100%", "over": "50ms"})), Outcome::Pass);
    let own = std::process::id();
    assert_eq!(outcome(json!({"memory": own, "max": 1})), Outcome::Fail);
    let mut busy = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    assert_eq!(outcome(json!({"cpu": busy.id(), "max": "1%", "over": "300ms"})), Outcome::Fail);
    busy.kill().unwrap();
    // dead a moment later, and seen so although nobody has reaped it
    let gone = json!({"process": busy.id(), "absent": true, "retries": 50, "interval": "20ms"});
    assert_eq!(outcome(gone), Outcome::Pass);
    busy.wait().unwrap();
    assert_eq!(outcome(json!({"process": own})), Outcome::Pass);
    place.write("run/a.pid", format!("{own}\n"));
    assert_eq!(outcome(json!({"process": "run/a.pid", "matches": "lifeboat"})), Outcome::Pass);
    assert_eq!(outcome(json!({"process": "run/a.pid", "matches": "nginx"})), Outcome::Fail);
    assert_eq!(outcome(json!({"process": "run/a.pid", "absent": true})), Outcome::Fail);
    assert_eq!(outcome(json!({"process": "run/b.pid", "absent": true})), Outcome::Pass);
    place.write("run/c.pid", "no number");
    assert_eq!(outcome(json!({"process": "run/c.pid"})), Outcome::Fail);
}

#[test]
fn what_proves_data_is_known() {
    let proves = |check: serde_json::Value| parse(check).is_data_proving();
    assert!(proves(json!({"sql": "a", "integrity": true})));
    assert!(proves(json!({"http": "http://a", "expect": {"json": {"a": 1}}})));
    assert!(!proves(json!({"http": "http://a"})));
    assert!(!proves(json!({"file": "a"})));
    assert!(proves(json!({"file": "a", "data_proving": true})));
}

#[test]
fn evidence_is_bounded_for_any_bytes() {
    for bytes in [vec![0xff; 100_000], vec![b'\n'; 100_000], "é".repeat(50_000).into_bytes(), vec![27; 5000]]
    {
        let text = verdict::evidence(&bytes);
        assert!(text.len() <= verdict::EVIDENCE && !text.contains('\u{1b}'));
    }
}
