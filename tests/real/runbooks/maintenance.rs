//! Maintenance of the sample application: begun, ended, given up.

use std::fs;

use super::sample::{Aura, have_commands};
use super::{output, step};
use crate::env::{TestEnv, have};

const BEGIN: [&str; 4] = ["--answer", "window=yes", "--answer", "stakeholders=yes"];
const END: [&str; 6] =
    ["--answer", "procedures=yes", "--answer", "functionality=yes", "--answer", "stakeholders=yes"];

fn with<'a>(words: &[&'a str], rest: &[&'a str]) -> Vec<&'a str> {
    [words, rest].concat()
}

#[test]
fn a_maintenance_begins_is_seen_and_ends_with_what_has_changed() {
    let env = TestEnv::new();
    if !have(&["python3", "sh"]) || !have_commands(&env, &["rollback"]) {
        return;
    }
    let aura = Aura::start(&env);
    let app = &aura.app;
    app.lifeboat(&["maintenance", "end"]).exits(1);
    let (begun, code) = app.json(&with(&["maintenance", "begin", "--reason", "new alerts"], &BEGIN));
    assert_eq!(code, 0, "{:#}", begun["reasons"]);
    assert!(output(&begun, "record the configuration").contains("config/alerts.json"));
    let done = app.lifeboat(&["maintenance", "begin"]).exits(1);
    assert!(done.stderr.contains("under way since"), "{}", done.stderr);

    fs::write(
        aura.path("config/alerts.json"),
        "{\"cpu_percent\": 70, \"memory_percent\": 80, \"disk_usage_percent\": 80}\n",
    )
    .unwrap();
    fs::write(aura.path("docs/NEW.md"), "new\n").unwrap();
    let shown = app.lifeboat(&["maintenance", "status"]).ok().stdout;
    for text in ["reason: new alerts", "C config/alerts.json", "docs/NEW.md"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    // integrity of the files is a check of its own: what was meant is recorded anew
    let failed = app.json(&with(&["maintenance", "end"], &END));
    assert_eq!(failed.1, 1, "{:#}", failed.0["reasons"]);
    assert_eq!(app.json(&["maintenance", "status"]).0["under_way"], true);
    let record = std::process::Command::new("python3")
        .arg(aura.path("validate_integration.py"))
        .arg("--record")
        .status();
    assert!(record.unwrap().success());
    let (ended, code) = app.json(&with(&["maintenance", "end"], &END));
    assert_eq!(code, 0, "{:#}", ended["reasons"]);
    let changes = ended["steps"].as_array().unwrap().iter().rfind(|step| step["phase"] == "changes").unwrap();
    let changes = changes["output"]["text"].as_str().unwrap();
    assert!(changes.contains("docs/NEW.md") && changes.contains("config/alerts.json"), "{changes}");
    assert_eq!(step(&ended, "watch the checks for 2s").0, "pass");
    assert_eq!(app.json(&["maintenance", "status"]).0["under_way"], false);
    let scenarios: Vec<String> =
        app.records().iter().map(|r| r["scenario"].as_str().unwrap().to_owned()).collect();
    assert_eq!(scenarios, ["maintenance begin", "maintenance end", "maintenance end"]);

    // the log has it as one session, with both ends of which one failed, and what was done between
    let log = app.lifeboat(&["log", "export", "--format", "markdown"]).ok().stdout;
    let mut sessions =
        log.split("## Maintenance Session: ").filter(|text| text.contains("maintenance begin"));
    let session = sessions.next().unwrap();
    assert!(sessions.next().is_none(), "{log}");
    assert_eq!(session.matches("aura, maintenance end").count(), 2, "{log}");
    assert!(session.contains("**Type**: Maintenance\n") && session.contains("**Status**: Partial"), "{log}");
}

#[test]
fn a_maintenance_is_given_up_and_rolled_back() {
    let env = TestEnv::new();
    if !have(&["python3", "sh"]) || !have_commands(&env, &["rollback"]) {
        return;
    }
    let aura = Aura::start(&env);
    let app = &aura.app;
    let (begun, code) = app.json(&with(&["maintenance", "begin"], &BEGIN));
    assert_eq!(code, 0, "{:#}", begun["reasons"]);
    fs::remove_file(aura.path("frontend/style.css")).unwrap();
    let (end, code) = app.json(&with(&["maintenance", "end"], &END));
    assert_eq!(code, 1, "{:#}", end["reasons"]);
    // to go back was asked for: that it did is no failure
    let done = app.lifeboat(&["maintenance", "abort", "--rollback", "--reason", "it does not work"]).ok();
    assert!(done.stdout.contains(": ROLLED BACK") && !done.stdout.contains("FAILED"), "{}", done.stdout);
    assert!(aura.path("frontend/style.css").exists());
    app.lifeboat(&["health", "health"]).ok();
    assert_eq!(app.json(&["maintenance", "status"]).0["under_way"], false);

    // a runbook that rolls back by itself, to how it was when it began
    aura.replace("[runbook.daily]", "[runbook.breaks]\non_failure = \"rollback\"\nsteps = [\"$ rm frontend/style.css\", \"check pages\"]\n\n[runbook.daily]");
    let (run, code) = app.json(&["run", "breaks"]);
    assert_eq!(code, 30, "{:#}", run["steps"]);
    assert!(aura.path("frontend/style.css").exists());
    app.lifeboat(&["health", "health"]).ok();
}
