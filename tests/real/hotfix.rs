//! Guarded changes of the sample application: kept, taken back, watched, confirmed, aborted, cut off in every state.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::env::{Done, TestEnv, finish, have, run, tail};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(90);

/// The sample application, running at its own place, with a quick plan.
struct Aura {
    env: TestEnv,
    dir: PathBuf,
    port: u16,
}

impl Aura {
    /// `None` where the host cannot run it.
    fn start() -> Option<Self> {
        if !have(&["python3", "sh", "setsid"]) {
            return None;
        }
        let env = TestEnv::new();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = env.path("aura");
        let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/aura/install.sh");
        run(Command::new(install).args(["--port", &port.to_string()]).arg(&dir)).ok();
        let aura = Self { env, dir, port };
        aura.plan(
            "[hotfix]\n",
            "[hotfix]\ninterval = \"200ms\"\nchecks = [\"health\", \"errors in the log\"]\n",
        );
        run(Command::new("./start_aura.sh").current_dir(&aura.dir)).ok();
        Some(aura)
    }

    fn plan(&self, from: &str, to: &str) {
        let path = self.dir.join("lifeboat.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.env.command(args);
        command.current_dir(&self.dir).env("LIFEBOAT_STATE_DIR", self.env.path("state"));
        command
    }

    fn lifeboat(&self, args: &[&str]) -> Done {
        let done = run(&mut self.command(args));
        assert!(done.code != 101 && !done.stderr.contains("panicked"), "{}", tail(&done.stderr));
        done
    }

    /// A hotfix with these options and this shell text, with hardly a baseline.
    fn hotfix(&self, options: &[&str], change: &str) -> Done {
        self.lifeboat(&words(options, change))
    }

    /// The same in the background.
    fn begin_hotfix(&self, options: &[&str], change: &str) -> Child {
        let mut command = self.command(&words(options, change));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    fn status(&self) -> Value {
        summary(&self.lifeboat(&["hotfix", "status", "--json"]).ok())
    }

    fn stage(&self) -> String {
        self.status()["armed"]["stage"].as_str().unwrap_or("none").to_owned()
    }

    fn wait_for(&self, stage: &str) {
        wait(stage, || self.stage() == stage);
    }

    fn is_healthy(&self) -> bool {
        let check = self.lifeboat(&["health", "health", "--json"]);
        check.code == 0
    }

    fn armed_file(&self) -> PathBuf {
        self.state_file("hotfix.json")
    }

    /// A file of what is remembered of the application.
    fn state_file(&self, name: &str) -> PathBuf {
        let states = fs::read_dir(self.env.path("state")).unwrap();
        let mut files = states.map(|state| state.unwrap().path().join(name));
        files.find(|file| file.exists()).unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// Changes what is remembered of the armed change.
    fn remember(&self, key: &str, value: Value) {
        let mut armed: Value = serde_json::from_slice(&fs::read(self.armed_file()).unwrap()).unwrap();
        armed[key] = value;
        fs::write(self.armed_file(), serde_json::to_vec(&armed).unwrap()).unwrap();
    }

    /// The last record of this kind.
    fn record(&self, kind: &str) -> Value {
        let done = self.lifeboat(&["log", "show", "--kind", kind, "--json"]).ok();
        let all: Value = serde_json::from_str(&done.stdout).unwrap();
        let list = all.as_array().cloned().or_else(|| all["records"].as_array().cloned()).unwrap();
        list.last().cloned().unwrap_or_default()
    }
}

impl Drop for Aura {
    fn drop(&mut self) {
        let _ = Command::new("./stop_aura.sh").current_dir(&self.dir).stderr(Stdio::null()).status();
    }
}

fn words<'w>(options: &[&'w str], change: &'w str) -> Vec<&'w str> {
    let mut words = vec!["hotfix", "--json"];
    if !options.contains(&"--baseline") {
        words.extend(["--baseline", "0s"]);
    }
    words.extend(options);
    words.extend(["--", "sh", "-c", change]);
    words
}

fn summary(done: &Done) -> Value {
    let last = done.stdout.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {}{}", tail(&done.stdout), tail(&done.stderr)))
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

#[track_caller]
fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < LONG, "it does not come to this: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
}

/// A good change: a new answer limit, with the list of checksums that goes with it.
const GOOD: &str = "sed -i 's/<title>Aura</<title>Aura</; s/$//' frontend/index.html && echo ok >docs/CHANGES \
                    && python3 validate_integration.py --record";
/// One whose tests fail: the model finds no answer any more.
const TESTS_FAIL: &str = "sed -i 's/max(1, len(asked) .. 2)/99/' backend/aura_glm.py";

/// One that passes its tests and dies so many seconds after its start.
fn dies_after(seconds: u32) -> String {
    format!(
        "sed -i 's/^    log.info(\"listening.*/&\\n    __import__(\"os\"), threading.Timer({seconds}, \
         __import__(\"os\")._exit, [1]).start()/' backend/server.py && python3 validate_integration.py --record"
    )
}

#[test]
fn a_good_change_is_kept() {
    let Some(aura) = Aura::start() else { return };
    let pid = aura.read("run/aura.pid");
    let done = aura.hotfix(&["--watch", "1s", "--baseline", "1s", "--restart"], GOOD).ok();
    let end = summary(&done);
    assert_eq!((text(&end, "end"), end["safety"].is_null()), ("kept", true));
    assert_ne!(text(&end, "before"), text(&end, "after"));
    assert_ne!(aura.read("run/aura.pid"), pid, "it was restarted");
    assert!(aura.is_healthy() && aura.read("docs/CHANGES") == "ok\n");
    assert_eq!(aura.stage(), "none");
    let record = aura.record("hotfix");
    let body = &record["body"];
    assert_eq!((text(body, "verdict"), text(body, "after")), ("pass", text(&end, "after")));
    assert_eq!(text(&body["snapshot"], "id"), text(&end, "before"));
    let touched = done.stdout.lines().find(|line| line.contains("\"event\":\"touched\"")).unwrap();
    assert!(touched.contains("docs/CHANGES") && touched.contains("\"added\":1"), "{touched}");
    let steps: Vec<&str> = body["steps"].as_array().unwrap().iter().map(|step| text(step, "phase")).collect();
    assert_eq!(steps, ["snapshot", "change", "service", "verify", "verify", "watch", "end"]);
}

#[test]
fn a_change_whose_tests_fail_is_taken_back_and_not_tried_again() {
    let Some(aura) = Aura::start() else { return };
    let before = aura.read("backend/aura_glm.py");
    let done = aura.hotfix(&["--watch", "1s"], TESTS_FAIL).exits(30);
    let end = summary(&done);
    assert_eq!(text(&end, "end"), "rolled-back");
    assert!(text(&end, "why").starts_with("./run_tests.sh exited with 1"), "{end}");
    assert!(
        done.stdout.contains("I do not know that yet") || done.stdout.contains("FAILED"),
        "{}",
        done.stdout
    );
    assert_eq!(aura.read("backend/aura_glm.py"), before);
    assert!(aura.is_healthy());
    assert_eq!(text(&aura.record("hotfix")["body"], "verdict"), "fail");
    // the same again is refused, and nothing is touched
    let again = aura.hotfix(&["--watch", "1s"], TESTS_FAIL).exits(1);
    assert!(again.stderr.contains("the same command was rolled back"), "{}", again.stderr);
    assert_eq!(aura.read("backend/aura_glm.py"), before);
    aura.hotfix(&["--watch", "0s", "--force"], TESTS_FAIL).exits(30);
    // another command is another matter, and so is a script that was mended
    fs::write(aura.env.path("fix.sh"), "exit 1\n").unwrap();
    let script = aura.env.path("fix.sh");
    let apply = |code| {
        let words = ["hotfix", "--baseline", "0s", "--watch", "0s", "--", "sh", script.to_str().unwrap()];
        aura.lifeboat(&words).exits(code)
    };
    apply(30);
    apply(1);
    fs::write(&script, "exit 0\n").unwrap();
    apply(0);
}

#[test]
fn one_that_passes_its_tests_and_dies_in_the_watch_is_taken_back() {
    let Some(aura) = Aura::start() else { return };
    let before = aura.read("backend/server.py");
    let began = Instant::now();
    let done = aura.hotfix(&["--watch", "10m", "--restart"], &dies_after(2)).exits(30);
    assert!(began.elapsed() < Duration::from_secs(60));
    let end = summary(&done);
    assert!(text(&end, "why").starts_with("the service has ended: its process"), "{end}");
    let verified =
        done.stdout.lines().filter(|l| l.contains("\"phase\":\"verify\"") && l.contains("\"passed\":true"));
    assert_eq!(verified.count(), 2, "its tests passed");
    assert_eq!(aura.read("backend/server.py"), before);
    assert!(aura.is_healthy());
}

#[test]
fn one_that_is_too_slow_is_taken_back_by_a_threshold() {
    let Some(aura) = Aura::start() else { return };
    aura.plan("verify = [\"./run_tests.sh\", \"python3 validate_integration.py\"]\n", "");
    aura.plan("[hotfix]\n", "[hotfix]\nthresholds = { latency = \"400ms\" }\n");
    let change =
        "sed -i 's/^    def do_GET.*/&\\n        __import__(\"time\").sleep(0.5)/' backend/server.py";
    let end = summary(&aura.hotfix(&["--watch", "10m", "--restart"], change).exits(30));
    assert!(text(&end, "why").contains("thresholds.latency is 0.400 s (2 rounds in a row)"), "{end}");
    assert!(aura.is_healthy());
}

#[test]
fn a_command_that_fails_or_hangs_is_taken_back() {
    let Some(aura) = Aura::start() else { return };
    let heard = aura.env.path("heard");
    let notify = format!("[[notify]]\ncommand = \"cat >>{}\"\n[hotfix]\n", heard.display());
    aura.plan("[hotfix]\n", &notify);
    let done = aura.hotfix(&["--watch", "1s"], "echo half >docs/HALF; echo no luck; exit 3").exits(30);
    assert!(text(&summary(&done), "why").ends_with("exited with 3") && done.stdout.contains("no luck"));
    assert!(!aura.file("docs/HALF").exists());
    aura.plan("[hotfix]\n", "[hotfix]\ncommand_timeout = \"500ms\"\n");
    let done = aura.hotfix(&["--watch", "1s"], "echo half >docs/HALF; sleep 307").exits(30);
    assert!(text(&summary(&done), "why").contains("did not end in time"));
    assert!(!aura.file("docs/HALF").exists() && aura.is_healthy());
    // who is named was told of the first, and that it goes on failing is no news
    let heard = fs::read_to_string(heard).unwrap();
    assert_eq!(heard.matches("\"operation\":\"hotfix\"").count(), 1, "{heard}");
    assert!(heard.contains("\"code\":30"), "{heard}");
}

#[test]
fn a_command_that_cannot_begin_costs_the_application_nothing() {
    let Some(aura) = Aura::start() else { return };
    let leader = aura.read("run/aura.pid");
    let hotfix = |word: &str| aura.lifeboat(&["hotfix", "--baseline", "0s", "--watch", "0s", "--", word]);
    for (word, why) in [
        ("no-such-command", "there is no such program"),
        ("./none.sh", "there is no such program"),
        ("./lifeboat.toml", "may execute"),
    ] {
        let done = hotfix(word).exits(2);
        assert!(done.stderr.contains(why) && done.stderr.contains("next: "), "{}", done.stderr);
        assert!(!done.stdout.contains("armed"), "{}", done.stdout);
    }
    // only the system finds out that its interpreter is not there
    let script = aura.env.path("fix.sh");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    run(Command::new("chmod").arg("755").arg(&script)).ok();
    let done = hotfix(script.to_str().unwrap()).exits(1);
    assert!(done.stdout.contains("DISARMED: "), "{}", done.stdout);
    assert!(done.stdout.contains("nothing was changed, and nothing is rolled back"), "{}", done.stdout);
    assert_eq!(aura.stage(), "none");
    assert_eq!(aura.record("rollback"), Value::Null);
    assert_eq!(aura.read("run/aura.pid"), leader);
    assert!(aura.is_healthy());
}

#[test]
fn confirm_keeps_it_and_silence_and_abort_take_it_back() {
    let Some(aura) = Aura::start() else { return };
    aura.plan("verify = [\"./run_tests.sh\", \"python3 validate_integration.py\"]\n", "");
    let child = aura.begin_hotfix(&["--watch", "10m", "--confirm-within", "9m"], "echo 1 >docs/ONE");
    aura.wait_for("watching");
    assert_eq!(aura.status()["watched"], true);
    let other = aura.hotfix(&["--watch", "0s"], "true").exits(1);
    assert!(other.stderr.contains("a hotfix of this application is armed already"), "{}", other.stderr);
    let before = text(&aura.status()["armed"], "before").to_owned();
    let kept = summary(&aura.lifeboat(&["forget", "--json", &before]).ok());
    assert_eq!(kept["kept"][0]["reasons"][0], "the way back of an armed hotfix");
    let confirmed = summary(&aura.lifeboat(&["confirm", "--json"]).ok());
    assert_eq!(text(&confirmed, "end"), "kept");
    let end = summary(&finish(child, LONG).ok());
    assert!(text(&end, "why").starts_with("confirmed by ") && aura.file("docs/ONE").exists(), "{end}");

    let done = aura.hotfix(&["--watch", "0s", "--confirm-within", "1s"], "echo 2 >docs/TWO").exits(30);
    assert_eq!(text(&summary(&done), "why"), "nobody confirmed within 1.00 s");
    assert!(!aura.file("docs/TWO").exists() && aura.file("docs/ONE").exists());

    let heard = aura.env.path("heard");
    // behind the plan's own, which knows of failures already
    let notify = format!("[[notify]]\ncommand = \"cat >>{}\"\n[metrics]\n", heard.display());
    aura.plan("[metrics]\n", &notify);
    let child = aura.begin_hotfix(&["--watch", "10m"], "echo 3 >docs/THREE");
    aura.wait_for("watching");
    aura.lifeboat(&["hotfix", "abort"]).ok();
    assert!(text(&summary(&finish(child, LONG).exits(30)), "why").starts_with("aborted by "));
    assert!(!aura.file("docs/THREE").exists() && aura.is_healthy());
    // whoever watched told of it, and nobody else
    let told = || fs::read_to_string(&heard).unwrap_or_default().matches("\"operation\":\"hotfix\"").count();
    assert_eq!(told(), 1);
    let nothing = aura.lifeboat(&["confirm"]).exits(1);
    assert!(nothing.stderr.contains("no hotfix of this application is armed"), "{}", nothing.stderr);
}

#[test]
fn a_change_by_hand_is_tested_kept_or_taken_back() {
    let Some(aura) = Aura::start() else { return };
    let begin = |more: &[&str]| {
        let mut words = vec!["hotfix", "begin", "--baseline", "0s", "--watch", "500ms"];
        words.extend(more);
        aura.lifeboat(&words).ok()
    };
    begin(&[]);
    assert_eq!(aura.stage(), "open");
    run(Command::new("sh").args(["-c", GOOD]).current_dir(&aura.dir)).ok();
    let done = aura.lifeboat(&["hotfix", "confirm"]).ok();
    assert!(done.stdout.starts_with("KEPT: ") && aura.file("docs/CHANGES").exists(), "{}", done.stdout);

    let before = aura.read("backend/aura_glm.py");
    begin(&[]);
    run(Command::new("sh").args(["-c", TESTS_FAIL]).current_dir(&aura.dir)).ok();
    let done = aura.lifeboat(&["confirm"]).exits(30);
    assert!(done.stdout.starts_with("ROLLED BACK: ./run_tests.sh"), "{}", done.stdout);
    assert_eq!(aura.read("backend/aura_glm.py"), before);

    // nobody watches it: whoever aborts it tells
    let heard = aura.env.path("heard");
    // behind the plan's own, which knows of failures already
    let notify = format!("[[notify]]\ncommand = \"cat >>{}\"\n[metrics]\n", heard.display());
    aura.plan("[metrics]\n", &notify);
    begin(&[]);
    fs::remove_file(aura.file("docs/CHANGES")).unwrap();
    aura.lifeboat(&["hotfix", "abort"]).ok();
    assert!(fs::read_to_string(&heard).unwrap().contains("\"code\":30"));
    assert!(aura.file("docs/CHANGES").exists());

    // nobody says a word: the watcher in the background takes it back
    begin(&["--confirm-within", "1s"]);
    assert_eq!(aura.status()["watched"], true);
    fs::remove_file(aura.file("docs/CHANGES")).unwrap();
    wait("taken back", || aura.stage() == "none");
    assert!(aura.file("docs/CHANGES").exists() && aura.is_healthy());
    // a word in time: the watcher hands over
    begin(&["--confirm-within", "5m"]);
    aura.lifeboat(&["confirm"]).ok();
    assert_eq!(aura.stage(), "none");
}

#[test]
fn what_is_killed_in_any_state_is_taken_up() {
    let Some(aura) = Aura::start() else { return };
    let kill = |mut child: Child| {
        child.kill().unwrap();
        child.wait().unwrap();
    };
    let resume = |code| summary(&aura.lifeboat(&["hotfix", "--resume", "--json"]).exits(code));
    assert_eq!(resume(0)["armed"], Value::Null);

    // the command runs: it is ended, and half a change is none
    let change = "echo half >docs/HALF; sleep 1; echo late >docs/LATE";
    let child = aura.begin_hotfix(&["--watch", "1s"], change);
    wait("half a change", || aura.file("docs/HALF").exists());
    kill(child);
    assert_eq!((aura.stage().as_str(), &aura.status()["watched"]), ("changing", &Value::Bool(false)));
    assert!(text(&resume(30), "why").starts_with("the command was cut off"));
    std::thread::sleep(Duration::from_secs(1));
    assert!(!aura.file("docs/HALF").exists() && !aura.file("docs/LATE").exists() && aura.is_healthy());

    // a change that breaks the plan, too
    let child = aura.begin_hotfix(&["--watch", "1s"], "echo broken >lifeboat.toml; sleep 309");
    wait("the plan is broken", || aura.read("lifeboat.toml") == "broken\n");
    kill(child);
    assert_eq!(text(&resume(30), "end"), "rolled-back");
    assert_ne!(aura.read("lifeboat.toml"), "broken\n");

    // it is watched: the rest of the watch, and kept
    let child =
        aura.begin_hotfix(&["--watch", "1s"], "echo 1 >docs/ONE; python3 validate_integration.py --record");
    aura.wait_for("watching");
    kill(child);
    assert_eq!(text(&resume(0), "end"), "kept");
    assert!(aura.file("docs/ONE").exists());
    assert_eq!(text(&aura.record("hotfix")["body"], "verdict"), "pass");

    // the tests run: they run again
    aura.plan("verify = [", "verify = [\"test -e ../go || sleep 308\", ");
    let child =
        aura.begin_hotfix(&["--watch", "0s"], "echo 2 >docs/TWO; python3 validate_integration.py --record");
    aura.wait_for("settling");
    kill(child);
    fs::write(aura.env.path("go"), "").unwrap();
    assert_eq!(text(&resume(0), "end"), "kept");

    // the command had not begun: nothing is taken back
    fs::remove_file(aura.env.path("go")).unwrap();
    let child = aura.begin_hotfix(&["--watch", "0s"], "true");
    aura.wait_for("settling");
    kill(child);
    aura.remember("stage", "armed".into());
    assert_eq!(text(&resume(1), "end"), "disarmed");
    assert_eq!(aura.stage(), "none");
}

#[test]
fn a_rollback_that_is_cut_off_is_brought_to_its_end() {
    let Some(aura) = Aura::start() else { return };
    aura.plan("verify = [\"./run_tests.sh\", \"python3 validate_integration.py\"]\n", "");
    aura.plan("stop = \"./stop_aura.sh\"", "stop = \"sleep 1; ./stop_aura.sh\"");
    // the earlier it is killed, the less of it was done
    for (after, name) in [(0, "ONE"), (1300, "TWO"), (2500, "THREE")] {
        let mut child = aura.begin_hotfix(&["--watch", "1s"], &format!("echo half >docs/{name}; exit 3"));
        aura.wait_for("rolling-back");
        std::thread::sleep(Duration::from_millis(after));
        child.kill().unwrap();
        child.wait().unwrap();
        // killed after its end there is nothing to take up
        let done = aura.lifeboat(&["hotfix", "--resume", "--json"]);
        let end = summary(&done);
        assert!(text(&end, "end") == "rolled-back" || end["armed"].is_null(), "{end}{}", done.stderr);
        assert!(!aura.file(&format!("docs/{name}")).exists() && aura.is_healthy(), "{end}");
        assert_eq!(aura.stage(), "none");
    }
}

#[test]
fn what_died_while_nobody_watched_is_taken_back_and_a_reboot_is_no_failure() {
    let Some(aura) = Aura::start() else { return };
    aura.plan("verify = [\"./run_tests.sh\", \"python3 validate_integration.py\"]\n", "");
    let arm = |change: &str| {
        let mut child = aura.begin_hotfix(&["--watch", "1s"], change);
        aura.wait_for("watching");
        child.kill().unwrap();
        child.wait().unwrap();
    };
    let resume = |code| summary(&aura.lifeboat(&["hotfix", "--resume", "--json"]).exits(code));
    let stop = || run(Command::new("./stop_aura.sh").current_dir(&aura.dir)).ok();
    arm("echo 1 >docs/ONE; python3 validate_integration.py --record");
    stop();
    let end = resume(30);
    assert!(text(&end, "why").contains("ended while nobody watched"), "{end}");
    assert!(!aura.file("docs/ONE").exists() && aura.is_healthy());
    // the host was started anew: the service is started, and judged then
    arm("echo 2 >docs/TWO; python3 validate_integration.py --record");
    stop();
    aura.remember("boot", "another".into());
    let end = resume(0);
    assert!(aura.file("docs/TWO").exists() && aura.is_healthy(), "{end}");
    // a deadline that passed meanwhile counts
    arm("echo 3 >docs/THREE; python3 validate_integration.py --record");
    aura.remember("confirm_within", serde_json::json!(1.0));
    aura.remember("confirm_until", "2026-01-01T00:00:00Z".into());
    assert_eq!(text(&resume(30), "why"), "nobody confirmed within 1.00 s");
    assert!(!aura.file("docs/THREE").exists());
}

#[test]
fn signals_mean_what_they_should() {
    use rustix::process::Signal;
    let Some(aura) = Aura::start() else { return };
    aura.plan("verify = [\"./run_tests.sh\", \"python3 validate_integration.py\"]\n", "");
    // before the change: nothing was changed
    let child = aura.begin_hotfix(&["--baseline", "5m", "--watch", "1s"], "echo 0 >docs/ZERO");
    std::thread::sleep(Duration::from_millis(500));
    signal(&child, Signal::INT);
    finish(child, LONG).exits(130);
    assert!(aura.stage() == "none" && !aura.file("docs/ZERO").exists());
    // without a terminal Ctrl-C takes it back
    let child = aura.begin_hotfix(&["--watch", "10m"], "echo 1 >docs/ONE");
    aura.wait_for("watching");
    signal(&child, Signal::INT);
    assert_eq!(text(&summary(&finish(child, LONG).exits(30)), "why"), "interrupted by hand");
    assert!(!aura.file("docs/ONE").exists());
    // the session is gone: the watch goes on, into a file
    let child = aura.begin_hotfix(&["--watch", "1s"], "echo 2 >docs/TWO");
    aura.wait_for("watching");
    signal(&child, Signal::HUP);
    assert_eq!(text(&summary(&finish(child, LONG).ok()), "end"), "kept");
    let log = fs::read_to_string(aura.state_file("hotfix.log")).unwrap();
    assert!(log.contains("  ok    watch: watched for"), "{log}");
    // the host shuts down: it stays armed
    let child = aura.begin_hotfix(&["--watch", "1s"], "echo 3 >docs/THREE");
    aura.wait_for("watching");
    signal(&child, Signal::TERM);
    assert_eq!(text(&summary(&finish(child, LONG).exits(130)), "end"), "left");
    assert_eq!(aura.stage(), "watching");
    aura.lifeboat(&["hotfix", "--resume"]).ok();
    assert!(aura.file("docs/THREE").exists());
    assert_eq!(text(&aura.record("hotfix")["body"], "verdict"), "pass");
}

// A terminal, by Python: Ctrl-C, `g`; then Ctrl-C, `k`.
const TERMINAL: &str = r#"
import os, pty, select, sys, time
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
seen = b""
def until(text):
    global seen
    end = time.time() + 60
    while text not in seen:
        assert time.time() < end, seen
        if select.select([fd], [], [], 0.1)[0]:
            seen += os.read(fd, 65536)
    seen = seen.split(text, 1)[1]
until(b"round 2")
os.write(fd, b"\x03"); until(b"go on [g]"); os.write(fd, b"g\n")
until(b"round 4")
os.write(fd, b"\x03"); until(b"go on [g]"); os.write(fd, sys.stdin.readline().encode())
try:
    while True:
        if not os.read(fd, 65536): break
except OSError:
    pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[test]
fn on_a_terminal_an_interrupt_asks() {
    let Some(aura) = Aura::start() else { return };
    aura.plan("verify = [\"./run_tests.sh\", \"python3 validate_integration.py\"]\n", "");
    for (answer, code, is_there) in [("k", 0, true), ("r", 30, false)] {
        let change = format!("echo {answer} >docs/ASKED-{answer}");
        let words = words(&["--watch", "10m"], &change);
        let words: Vec<&str> = words.into_iter().filter(|word| *word != "--json").collect();
        let lifeboat = aura.command(&words);
        let mut python = Command::new("python3");
        python.args(["-c", TERMINAL]).arg(lifeboat.get_program()).args(lifeboat.get_args());
        for (name, value) in lifeboat.get_envs().filter_map(|(name, value)| Some((name, value?))) {
            python.env(name, value);
        }
        let mut child = python
            .current_dir(&aura.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), format!("{answer}\n").as_bytes()).unwrap();
        finish(child, LONG).exits(code);
        assert_eq!(aura.file(&format!("docs/ASKED-{answer}")).exists(), is_there);
    }
}

#[test]
fn what_cannot_be_judged_follows_the_plan() {
    let Some(aura) = Aura::start() else { return };
    aura.plan("verify = [\"./run_tests.sh\", \"python3 validate_integration.py\"]\n", "");
    fs::write(aura.file("probe"), "#!/bin/sh\n").unwrap();
    run(Command::new("chmod").arg("755").arg(aura.file("probe"))).ok();
    aura.plan("[[check]]\n", "[[check]]\nname = \"probe\"\ncommand = [\"./probe\"]\n[[check]]\n");
    aura.plan("\"health\", \"errors", "\"probe\", \"health\", \"errors");
    let done = aura.hotfix(&["--watch", "10m"], "chmod 644 probe").exits(30);
    let end = summary(&done);
    assert!(text(&end, "why").starts_with("it could not be judged: probe:"), "{end}");
    assert_eq!(text(&aura.record("hotfix")["body"], "verdict"), "inconclusive");
    aura.plan("[hotfix]\n", "[hotfix]\non_inconclusive = \"keep\"\n");
    let end = summary(&aura.hotfix(&["--watch", "10m", "--force"], "chmod 644 probe").exits(22));
    assert_eq!(text(&end, "end"), "kept-unjudged");
    // and now it cannot be judged before a change either: refused
    aura.hotfix(&["--watch", "0s"], "true").exits(22);
}

#[test]
fn errors_in_a_log_are_found_across_its_rotation() {
    let Some(aura) = Aura::start() else { return };
    aura.plan("verify = [\"./run_tests.sh\", \"python3 validate_integration.py\"]\n", "");
    // old errors are none of the change's
    let log = aura.file("logs/aura.log");
    let append = |line: &str| {
        use std::io::Write as _;
        writeln!(fs::File::options().append(true).open(&log).unwrap(), "{line}").unwrap();
    };
    append("ERROR of yesterday");
    let child = aura.begin_hotfix(&["--watch", "10m"], "true");
    aura.wait_for("watching");
    append("CRITICAL: now it burns");
    fs::rename(&log, aura.file("logs/aura.log.1")).unwrap();
    fs::write(&log, "all quiet\n").unwrap();
    let end = summary(&finish(child, LONG).exits(30));
    assert!(text(&end, "why").contains("now it burns"), "{end}");
}

#[test]
fn what_could_not_end_well_is_refused_before_anything_is_changed() {
    let Some(aura) = Aura::start() else { return };
    let refused = |code: i32, says: &str| {
        let done = aura.hotfix(&["--watch", "0s"], "touch docs/CHANGED").exits(code);
        assert!(done.stderr.contains(says), "{}", done.stderr);
        assert!(!aura.file("docs/CHANGED").exists());
        assert_eq!(aura.stage(), "none");
    };
    // no way to stop the service
    let plan = aura.read("lifeboat.toml");
    aura.plan("start = \"./start_aura.sh\"\n", "");
    refused(1, "there would be no way back");
    fs::write(aura.file("lifeboat.toml"), &plan).unwrap();
    // not well before
    aura.plan("[[check]]\n", "[[check]]\nname = \"red\"\nfile = \"not-there\"\n[[check]]\n");
    aura.plan("\"health\", \"errors", "\"red\", \"health\", \"errors");
    refused(1, "before the change not all is well");
    fs::write(aura.file("lifeboat.toml"), &plan).unwrap();
    // no plan to judge by
    fs::write(aura.file("lifeboat.toml"), "[app]\nname = \"aura\"\n").unwrap();
    refused(2, "nothing that tells a good change from a bad one");
    fs::write(aura.file("lifeboat.toml"), &plan).unwrap();
    aura.lifeboat(&["hotfix"]).exits(2);
    let unit = aura.lifeboat(&["hotfix", "unit"]).ok().stdout;
    assert!(unit.contains("hotfix\" \"--resume\"") && unit.contains("ConditionPathExists="), "{unit}");
    if have(&["systemd-analyze"]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lifeboat-hotfix.service");
        fs::write(&path, &unit).unwrap();
        let verified = run(Command::new("systemd-analyze").arg("verify").arg(&path)).ok();
        assert!(!verified.stderr.contains("lifeboat-hotfix"), "{}", verified.stderr);
    }
    if !Path::new("/run/systemd/system").is_dir() {
        let done = aura.lifeboat(&["hotfix", "unit", "--install"]).exits(1);
        assert!(done.stderr.contains("systemd does not run this host"), "{}", done.stderr);
    }
}

#[test]
fn programs_read_lines_while_it_goes_on() {
    let Some(aura) = Aura::start() else { return };
    let mut child = aura.begin_hotfix(&["--watch", "1s"], "true");
    let lines: Vec<Value> = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    assert!(child.wait().unwrap().success());
    let events: Vec<&str> = lines
        .iter()
        .filter(|line| line["message_type"] == "status")
        .map(|line| text(line, "event"))
        .collect();
    for wanted in ["begins", "ended", "armed", "touched", "watching", "round"] {
        assert!(events.contains(&wanted), "{events:?}");
    }
    assert_eq!(lines.last().unwrap()["message_type"], "summary");
    let _ = aura.port;
}
