//! A small application with one check of each kind, run for real: what `docs/checks.md` shows.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;

use lifeboat::check::Context;
use lifeboat::plan::Plan;

use crate::env::TestEnv;

/// Each kind with a check of it, `PORT` being that of a server.
const EXAMPLES: [(&str, &str); 11] = [
    (
        "http",
        "http = \"http://127.0.0.1:PORT/health\"\nexpect = { status = 200, json = { status = \"healthy\", \"data.rows\" = { min = 5000 } } }",
    ),
    ("command", "command = \"echo 9 tests, 1 failed; exit 1\"\ntimeout = \"2m\""),
    ("port", "port = PORT"),
    ("file", "file = \"backend/*.py\"\nmin_count = 2"),
    ("log", "log = \"logs/aura.log\"\nforbid = [\"ERROR\", \"CRITICAL\"]"),
    ("disk", "disk = \".\"\nmin_free = \"1M\""),
    ("cpu", "cpu = \"system\"\nmax = \"100%\"\nover = \"100ms\""),
    ("memory", "memory = \"system\"\nmin_free = \"1M\""),
    ("process", "process = \"run/aura.pid\""),
    ("json", "json = \"config/aura.json\"\npointer = \"/port\"\nequals = 8000"),
    ("sql", "sql = \"data/aura.db\"\nquery = \"SELECT count(*) FROM readings\"\nmin = 3\nintegrity = true"),
];

/// Makes the application with its plan and its running server in a directory; returns the port.
fn application_in(dir: &Path) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let body = r#"{"status": "healthy", "data": {"rows": 3}}"#;
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    let mut plan = String::from("[app]\nname = \"aura\"\n");
    for (kind, text) in EXAMPLES {
        plan.push_str(&format!("\n[[check]]\nname = \"{kind}\"\n{text}\n"));
    }
    let plan = plan.replace("PORT", &port.to_string());
    for (path, text) in [
        ("backend/server.py", ""),
        ("logs/aura.log", "INFO started\nERROR no answer from the model\n"),
        ("run/aura.pid", "2147483647\n"),
        ("config/aura.json", "{\"port\": 8080}\n"),
        ("data/.keep", ""),
        ("lifeboat.toml", &plan),
    ] {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let connection = rusqlite::Connection::open(dir.join("data/aura.db")).unwrap();
    connection.execute_batch("CREATE TABLE readings (x); INSERT INTO readings VALUES (1), (2), (3)").unwrap();
    port
}

/// An environment with the application in `app`.
pub fn application() -> TestEnv {
    let env = TestEnv::empty();
    application_in(&env.path("app"));
    env
}

/// The example of a kind, and what it says when it is run.
pub fn example(kind: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let port = application_in(dir.path());
    let plan = Plan::load(&dir.path().join("lifeboat.toml")).unwrap();
    let verdict = plan.check_named(kind).unwrap().run(&Context::new(plan.directory()));
    let mut out = format!("{}: {}", verdict.outcome.word(), verdict.reason);
    out = out.replace(&port.to_string(), "8000").replace(dir.path().to_str().unwrap(), "/srv/aura");
    // what differs from run to run
    for (pattern, stable) in
        [(r"\d+\.\d\d s", "0.01 s"), (r"\d+\.\d %", "12.3 %"), (r"\d+\.\d [KMGT]iB", "4.0 GiB")]
    {
        out = regex::Regex::new(pattern).unwrap().replace_all(&out, stable).into_owned();
    }
    let (_, text) = EXAMPLES.iter().find(|(name, _)| *name == kind).unwrap();
    let text = text.replace("PORT", "8000");
    format!("\n```toml\n[[check]]\nname = \"{kind}\"\n{text}\n```\n\nsays here\n\n```text\n{out}\n```\n")
}

#[test]
fn every_kind_is_run_and_judged() {
    let env = application();
    let run = env.run(["--config", "app/lifeboat.toml", "health", "--json"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    let answer: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let outcome = |name: &str| {
        let checks = answer["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == name).unwrap()["outcome"].as_str().unwrap().to_owned()
    };
    for name in ["port", "disk", "cpu", "memory", "sql"] {
        assert_eq!(outcome(name), "pass", "{name}");
    }
    for name in ["http", "command", "file", "log", "process", "json"] {
        assert_eq!(outcome(name), "fail", "{name}");
    }
}
