//! A small application with one check of each kind, run for real: what `docs/checks.md` shows.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

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

/// An environment with the application, its plan and its running server.
pub fn application() -> TestEnv {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let body = r#"{"status": "healthy", "data": {"rows": 3}}"#;
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    let env = TestEnv::empty();
    env.write("app/backend/server.py", "");
    env.write("app/logs/aura.log", "INFO started\nERROR no answer from the model\n");
    env.write("app/run/aura.pid", "2147483647\n");
    env.write("app/config/aura.json", "{\"port\": 8080}\n");
    std::fs::create_dir(env.path("app/data")).unwrap();
    let connection = rusqlite::Connection::open(env.path("app/data/aura.db")).unwrap();
    connection.execute_batch("CREATE TABLE readings (x); INSERT INTO readings VALUES (1), (2), (3)").unwrap();
    let mut plan = String::from("[app]\nname = \"aura\"\n");
    for (kind, text) in EXAMPLES {
        plan.push_str(&format!("\n[[check]]\nname = \"{kind}\"\n{text}\n"));
    }
    env.write("app/lifeboat.toml", plan.replace("PORT", &port.to_string()));
    env
}

/// The example of a kind and what `health` says of it.
pub fn example(kind: &str) -> String {
    let env = application();
    let run = env.run(["--config", "app/lifeboat.toml", "health", kind]);
    let mut out = run.stdout.clone();
    let port = std::fs::read_to_string(env.path("app/lifeboat.toml")).unwrap();
    let port = port.split("127.0.0.1:").nth(1).unwrap().split('/').next().unwrap().to_owned();
    out = out.replace(&port, "8000").replace(env.arg("").trim_end_matches('/'), "/srv");
    // what differs from run to run
    for (pattern, stable) in [
        (r"\d+\.\d\d s", "0.01 s"),
        (r"\d+\.\d %", "12.3 %"),
        (r"\d+\.\d [KMGT]iB", "4.0 GiB"),
        (r" +\n", "\n"),
        (r"(?m)^-+$", "---"),
        (r"  +", "  "),
    ] {
        out = regex::Regex::new(pattern).unwrap().replace_all(&out, stable).into_owned();
    }
    let (_, text) = EXAMPLES.iter().find(|(name, _)| *name == kind).unwrap();
    let text = text.replace("PORT", "8000");
    format!(
        "\n```toml\n[[check]]\nname = \"{kind}\"\n{text}\n```\n\n```text\n{}\n```\nExit status {}.\n",
        out.trim_end(),
        run.code
    )
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
