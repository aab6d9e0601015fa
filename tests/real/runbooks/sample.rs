//! Every runbook of the sample application, against its running server.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{App, step};
use crate::env::{TestEnv, have, run, skip};

/// The sample application at work, on a port of its own.
pub struct Aura<'e> {
    pub app: App<'e>,
}

impl<'e> Aura<'e> {
    /// Installed, started and saved, with watches of seconds instead of hours.
    pub fn start(env: &'e TestEnv) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = env.path("aura");
        let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/aura/install.sh");
        run(Command::new(install).args(["--port", &port.to_string()]).arg(&dir)).ok();
        let aura = Self { app: App { env, dir } };
        aura.replace("--interval 60", "--interval 0.05");
        aura.replace("--samples 60", "--samples 5");
        aura.replace("--samples 15", "--samples 5");
        aura.replace("watch = \"30m\"", "watch = \"2s\"");
        aura.replace("watch = \"15m\"", "watch = \"2s\"\ninterval = \"500ms\"");
        run(&mut Command::new(aura.path("start_aura.sh"))).ok();
        aura.app.lifeboat(&["snapshot", "-q"]).ok();
        aura
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.app.dir.join(name)
    }

    pub fn replace(&self, from: &str, to: &str) {
        let path = self.path("lifeboat.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(path, text.replace(from, to)).unwrap();
    }
}

impl Drop for Aura<'_> {
    fn drop(&mut self) {
        let _ = Command::new(self.path("stop_aura.sh")).status();
    }
}

/// Whether the program has these commands; says it where not.
pub fn have_commands(env: &TestEnv, words: &[&str]) -> bool {
    let help = env.lifeboat(&["--help"]).ok().stdout;
    let is_there = |word: &&&str| help.lines().any(|line| line.trim_start().starts_with(&format!("{word} ")));
    let missing = words.iter().find(|word| !is_there(word));
    if let Some(word) = missing {
        skip(&format!("lifeboat has no command {word}"));
    }
    missing.is_none()
}

const ANSWERS: [(&str, &[&str]); 6] = [
    ("emergency", &["change=yes"]),
    ("monthly", &["updates=n/a", "guide=yes"]),
    ("quarterly", &["architecture=yes", "access=yes: reviewed", "incident response=yes"]),
    ("tests-failing", &["resolved=yes"]),
    ("high-memory", &["leaks=yes"]),
    ("slow", &["resolved=yes"]),
];

#[test]
fn every_runbook_of_the_sample_runs_against_its_server() {
    let env = TestEnv::new();
    if !have(&["python3", "sh"]) || !have_commands(&env, &["rotate", "capacity", "security", "rollback"]) {
        return;
    }
    let aura = Aura::start(&env);
    let app = &aura.app;
    if app.lifeboat(&["drill"]).code == 22 {
        skip("this host allows no sandbox");
        return;
    }
    let (list, _) = app.json(&["run", "--list"]);
    let names: Vec<&str> =
        list["runbooks"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["daily", "emergency", "high-memory", "monthly", "quarterly", "slow", "tests-failing", "weekly"]
    );
    for name in names {
        let mut args = vec!["run", name];
        let answers = ANSWERS.iter().find(|(of, _)| *of == name).map_or(&[][..], |(_, answers)| answers);
        for answer in answers {
            args.extend(["--answer", answer]);
        }
        let (run, code) = app.json(&args);
        assert_eq!((code, run["verdict"].as_str()), (0, Some("pass")), "{name}: {:#}", run["reasons"]);
        // what audits packages is not on every host, and asks a registry: that alone may stay unjudged, and is said
        let steps = run["steps"].as_array().unwrap();
        for step in steps.iter().filter(|step| step["result"] != "pass") {
            assert_eq!(step["name"], "security packages", "{name}: {step:#}");
            let is_named = |list: &str| run[list].to_string().contains("security packages");
            assert!(is_named("reasons") && is_named("not_tested"), "{name}: {:#}", run["not_tested"]);
        }
    }
    let (list, _) = app.json(&["run", "--list"]);
    for row in list["runbooks"].as_array().unwrap() {
        assert_eq!(row["last_verdict"], "passed", "{row}");
        assert_eq!(row["due"], false, "{row}");
    }
    app.lifeboat(&["log", "verify"]).ok();

    // and red where it must be: the server down, a test broken
    run(&mut Command::new(aura.path("stop_aura.sh"))).ok();
    fs::remove_file(aura.path("frontend/style.css")).unwrap();
    let (run, code) = app.json(&["run", "daily"]);
    assert_eq!(code, 1);
    assert_eq!(step(&run, "health").0, "fail");
    assert_eq!(step(&run, "all nine tests").0, "fail");
    assert_eq!(step(&run, "resource usage").0, "pass");
    let told = fs::read_to_string(aura.path("logs/notifications.jsonl")).unwrap();
    let told: Vec<&str> = told.lines().collect();
    assert!(told.len() == 1 && told[0].contains("\"operation\":\"run daily\""), "{told:?}");
}
