//! Notifications: to a real server that answers well, badly, slowly or not at all.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::env::{Done, TestEnv, have, run, tool};

/// The server, and what it was told.
struct Hooks {
    child: Child,
    port: u16,
    file: std::path::PathBuf,
}

impl Hooks {
    fn start(env: &TestEnv) -> Self {
        let file = env.path("told");
        let mut child =
            Command::new("python3").arg(tool("hooks.py")).arg(&file).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().unwrap(), file }
    }

    /// What it was told since the last time.
    fn told(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        let _ = fs::remove_file(&self.file);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn paths(&self) -> Vec<String> {
        self.told()
            .iter()
            .map(|one| format!("{} {}", one["method"].as_str().unwrap(), one["path"].as_str().unwrap()))
            .collect()
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An application whose one check and one runbook are well as long as its file is.
fn app(env: &TestEnv, notify: &str) {
    let dir = env.path("app");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("data.txt"), "42 rows\n").unwrap();
    let plan = format!(
        "[app]\nname = \"small\"\n[[check]]\nname = \"rows\"\ncommand = \"grep -q '42 rows' data.txt\"\n\
         [runbook.daily]\nsteps = [\"health\"]\n[runbook.other]\nsteps = [\"$ true\"]\n{notify}\n"
    );
    fs::write(dir.join("lifeboat.toml"), plan).unwrap();
}

#[track_caller]
fn lifeboat(env: &TestEnv, args: &[&str]) -> Done {
    let done = run(env.command(args).current_dir(env.path("app")));
    assert!(done.code != 101 && !done.stderr.contains("panicked"), "{}", done.stderr);
    done
}

fn break_it(env: &TestEnv) {
    fs::write(env.path("app/data.txt"), "no rows\n").unwrap();
}

fn mend_it(env: &TestEnv) {
    fs::write(env.path("app/data.txt"), "42 rows\n").unwrap();
}

fn memory(env: &TestEnv) -> Value {
    let states = fs::read_dir(env.path("state")).unwrap();
    let mut files = states.map(|state| state.unwrap().path().join("notify.json"));
    let file = files.find(|file| file.exists()).expect("nothing is remembered");
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

#[test]
fn a_failure_is_told_once_and_its_end_too_and_a_ping_everything() {
    if !have(&["python3"]) {
        return;
    }
    let env = TestEnv::new();
    let hooks = Hooks::start(&env);
    let at = |path: &str| format!("http://127.0.0.1:{}/{path}", hooks.port);
    app(
        &env,
        &format!(
            "[[notify]]\nwebhook = \"{}\"\noperations = [\"run daily\"]\n[[notify]]\nping = \"{}\"\noperations = [\"health\"]\n",
            at("ok/hook"),
            at("ok/ping/4b9e-secret")
        ),
    );
    lifeboat(&env, &["run", "daily"]).ok();
    // the step is named by the ping, so it is told although it is a step
    assert_eq!(hooks.paths(), ["GET /ok/ping/4b9e-secret/start", "POST /ok/ping/4b9e-secret"]);
    break_it(&env);
    lifeboat(&env, &["run", "daily"]).exits(1);
    let told = hooks.told();
    let hook = told.iter().find(|one| one["path"] == "/ok/hook").expect("the failure");
    assert_eq!(hook["type"], "application/json");
    let document: Value = serde_json::from_str(hook["body"].as_str().unwrap()).unwrap();
    assert_eq!((&document["event"], &document["operation"]), (&"failure".into(), &"run daily".into()));
    assert_eq!(document["exit"]["code"], 1);
    // which check it was, not only that one was
    let detail = document["details"][0].as_str().unwrap();
    assert!(detail.starts_with("steps failed: health: exited with 1 (failed): rows: "), "{detail}");
    let pings: Vec<_> = told.iter().filter(|one| one["path"] != "/ok/hook").map(|one| &one["path"]).collect();
    assert_eq!(pings, ["/ok/ping/4b9e-secret/start", "/ok/ping/4b9e-secret/fail"]);
    // the same again: only the ping
    lifeboat(&env, &["run", "daily"]).exits(1);
    assert_eq!(hooks.paths(), ["GET /ok/ping/4b9e-secret/start", "POST /ok/ping/4b9e-secret/fail"]);
    assert!(memory(&env)["failing"]["run daily"]["since"].is_string());
    mend_it(&env);
    lifeboat(&env, &["run", "daily"]).ok();
    let told = hooks.told();
    let hook = told.iter().find(|one| one["path"] == "/ok/hook").expect("the end");
    let document: Value = serde_json::from_str(hook["body"].as_str().unwrap()).unwrap();
    assert_eq!((&document["event"], &document["told_before"]), (&"recovered".into(), &1.into()));
    assert_eq!(memory(&env)["failing"], serde_json::json!({}));
    // the other runbook is nobody's
    lifeboat(&env, &["run", "other"]).ok();
    assert!(hooks.paths().is_empty());
}

#[test]
fn whatever_the_other_side_does_the_operation_is_as_it_was() {
    if !have(&["python3"]) {
        return;
    }
    let env = TestEnv::new();
    let hooks = Hooks::start(&env);
    let way =
        |path: &str| format!("[[notify]]\nwebhook = \"http://127.0.0.1:{}/{path}/hush-hush\"\n", hooks.port);
    let refused = "[[notify]]\nwebhook = \"http://127.0.0.1:9/refused/hush-hush\"\n";
    let file = "[[notify]]\nwebhook_file = \"secret-url\"\n";
    let command = "[[notify]]\ncommand = \"cat > heard; echo it broke >&2; exit 7\"\n[[notify]]\ncommand = \"sleep 300\"\n";
    let ways = ["slow", "500", "flaky", "redirect", "404"].map(way).concat();
    app(&env, &format!("{ways}{refused}{file}{command}"));
    break_it(&env);
    let began = Instant::now();
    let done = lifeboat(&env, &["health"]).exits(1);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(22), "telling took {took:?}");
    assert!(done.stdout.contains("rows"), "{}", done.stdout);
    for why in [
        "notify[0] webhook 127.0.0.1 could not be told: no answer in time",
        "notify[1] webhook 127.0.0.1 could not be told: status 500",
        "notify[3] webhook 127.0.0.1 could not be told: status 302: a redirect is not followed",
        "notify[4] webhook 127.0.0.1 could not be told: status 404",
        "notify[5] webhook 127.0.0.1 could not be told: ",
        "secret-url cannot be read",
        "the command exited with 7: it broke",
        "the command did not end in time",
    ] {
        assert!(done.stderr.contains(why), "{why}: {}", done.stderr);
    }
    // tried again where that may help, and never where a redirect leads
    let paths = hooks.paths();
    let count = |word: &str| paths.iter().filter(|path| path.contains(&format!("/{word}/"))).count();
    assert_eq!((count("500"), count("flaky"), count("404"), count("redirect")), (3, 3, 1, 1), "{paths:?}");
    assert!(!paths.iter().any(|path| path.contains("stolen")));
    let heard: Value = serde_json::from_slice(&fs::read(env.path("app/heard")).unwrap()).unwrap();
    assert_eq!(heard["operation"], "health");
    // remembered for status, without the secret part
    let memory = memory(&env);
    assert_eq!(memory["ways"].as_object().unwrap().len(), 8, "{memory:#}");
    assert!(memory["ways"].get("notify[2] webhook 127.0.0.1").is_none());
    assert!(
        !memory.to_string().contains("hush")
            && !done.stderr.contains("hush")
            && !done.stdout.contains("hush")
    );
    // who was told is not told again, who was not is
    let told_flaky = |done: &Done| done.stderr.contains("notify[2]");
    assert!(!told_flaky(&done));
}

#[test]
fn a_message_is_sent_in_the_form_that_is_read_and_secrets_are_masked() {
    if !have(&["python3"]) {
        return;
    }
    let env = TestEnv::new();
    let hooks = Hooks::start(&env);
    app(
        &env,
        "[drill]\nenv_file = \"secrets\"\n[[notify]]\nwebhook_file = \"secret-url\"\nformat = \"slack\"\n",
    );
    fs::write(env.path("app/secrets"), "PASSWORD=hunter22\n").unwrap();
    fs::write(env.path("app/secret-url"), format!("http://127.0.0.1:{}/ok/T0/B0/hush\n", hooks.port))
        .unwrap();
    let done = lifeboat(&env, &["notify", "<!channel>", "hunter22", "&", "done"]).ok();
    assert!(done.stdout.contains("told: notify[0] webhook_file 127.0.0.1") && !done.stdout.contains("hush"));
    let told = hooks.told();
    let document: Value = serde_json::from_str(told[0]["body"].as_str().unwrap()).unwrap();
    let text = document["text"].as_str().unwrap();
    assert!(text.ends_with(": &lt;!channel&gt; [masked] &amp; done"), "{text}");
    drop(hooks);
    let done = lifeboat(&env, &["notify", "--test"]).exits(1);
    assert!(done.stdout.contains("NOT told: notify[0] webhook_file 127.0.0.1"), "{}", done.stdout);
}
