//! What a step does, and what its failure does.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{App, output, step};
use crate::env::{TestEnv, finish, have, run, tool};

#[test]
fn each_kind_of_step_comes_out_as_it_should() {
    let env = TestEnv::new();
    let app = App::new(
        &env,
        r#"
[drill]
env_file = "secrets"

[runbook.all]
on_failure = "continue"
steps = [
  "check rows",
  "snapshot --tag 'two words'",
  "verify",
  { command = "exit 3", exit = 3, name = "as expected" },
  { command = "exit 4", exit = 3, name = "another status" },
  { command = "echo one; echo 2 of 2 >&2", stdout = "2 of 2", name = "not on stdout" },
  { command = "seq 100000; echo 9/9 passed", stdout = "9/9 passed", name = "a long output" },
  { command = ["grep", "-c", "rows", "data.txt"], name = "a list" },
  { command = "sleep 60", timeout = "300ms", name = "too slow" },
  { command = "there-is-no-such-command", name = "not there" },
  { command = ["/there/is/no/such/program"], name = "not a program" },
  { command = "echo the password is hunter22", name = "secret" },
  "drill --in /nowhere/at/all",
]
"#,
    );
    fs::write(app.dir.join("secrets"), "PASSWORD=hunter22\n").unwrap();
    let (run, code) = app.json(&["run", "all"]);
    assert_eq!((code, run["verdict"].as_str()), (1, Some("fail")));
    for name in
        ["check rows", "snapshot --tag \"two words\"", "verify", "as expected", "a long output", "a list"]
    {
        assert_eq!(step(&run, name).0, "pass", "{name}: {run:#}");
    }
    assert_eq!(step(&run, "another status"), ("fail", "exited with 4, not with 3"));
    assert_eq!(step(&run, "not on stdout"), ("fail", "nothing that it printed on stdout matches 2 of 2"));
    let (result, why) = step(&run, "too slow");
    assert!(result == "fail" && why.contains("did not end in time"), "{why}");
    let (result, why) = step(&run, "not there");
    assert!(result == "error" && why.contains("127"), "{why}");
    let (result, why) = step(&run, "not a program");
    assert!(result == "error" && why.contains("could not be started"), "{why}");
    let (result, why) = step(&run, "drill --in /nowhere/at/all");
    assert!(result == "error" && why.contains("inconclusive"), "{why}");
    // bounded, and what is said of it is true
    let long = run["steps"].as_array().unwrap().iter().find(|s| s["name"] == "a long output").unwrap();
    let text = long["output"]["text"].as_str().unwrap();
    assert!(text.len() < 70_000 && text.starts_with("1\n2\n") && text.ends_with("9/9 passed\n"));
    assert_eq!(long["output"]["bytes"], 588_895 + 11);
    assert!(output(&run, "secret").contains("[masked]"));
    let records = app.records();
    assert_eq!(records.len(), 1);
    assert!(!records[0].to_string().contains("hunter22"));
    assert_eq!(records[0]["scenario"], "runbook all");
    let tags = app.json(&["snapshots"]).0.to_string();
    assert!(tags.contains("two words"), "{tags}");
    app.lifeboat(&["log", "verify"]).ok();
}

#[test]
fn a_failure_stops_or_is_passed_over_and_an_error_is_no_failure() {
    let env = TestEnv::new();
    let steps =
        r#"steps = ["$ true", { command = "false", name = "bad" }, "$ touch went-on", "manual: seen?"]"#;
    let app = App::new(&env, &format!("[runbook.stops]\n{steps}\n"));
    let (run, code) = app.json(&["run", "stops", "--answer", "seen?=yes"]);
    assert_eq!(code, 1);
    assert_eq!(step(&run, "$ touch went-on"), ("skip", "not done: bad failed"));
    assert_eq!(step(&run, "seen?").0, "skip");
    assert!(!app.dir.join("went-on").exists());

    app.plan(&format!("[runbook.stops]\non_failure = \"continue\"\n{steps}\n"));
    let (run, code) = app.json(&["run", "stops"]);
    assert_eq!((code, step(&run, "$ touch went-on").0), (1, "pass"));
    assert!(app.dir.join("went-on").exists());
    // a failure is worse than an open question, and both are told
    let reasons = run["reasons"].to_string();
    assert!(reasons.contains("steps failed: bad") && reasons.contains("not answered: seen?"), "{reasons}");

    app.plan("[runbook.stops]\nsteps = [\"$ no-such-command-here\", \"$ true\"]\n");
    let (run, code) = app.json(&["run", "stops"]);
    assert_eq!((code, run["verdict"].as_str()), (22, Some("inconclusive")));
    assert_eq!(step(&run, "$ true").0, "skip");
}

#[test]
fn questions_are_answered_beforehand_or_stay_open() {
    let env = TestEnv::new();
    let app = App::new(
        &env,
        "[runbook.ask]\non_failure = \"continue\"\nsteps = [{ manual = \"Is it well?\", name = \"well\" }, \"manual: Is a=b?\", \"$ true\"]\n",
    );
    let (run, code) = app.json(&["run", "ask", "--answer", "well=yes: looked twice", "--by", "Ada"]);
    assert_eq!((code, run["verdict"].as_str()), (3, Some("inconclusive")));
    assert_eq!(run["reasons"], json!(["not answered: Is a=b?"]));
    let said = output(&run, "Is it well?");
    assert!(
        said.starts_with("yes: looked twice\nby Ada at 20") && said.ends_with("given beforehand\n"),
        "{said}"
    );
    assert_eq!(run["participants"], json!(["Ada"]));
    let shown = app.lifeboat(&["run", "ask", "--answer", "well=y"]).exits(3);
    assert!(shown.stdout.contains("runbook ask: OPEN"), "{}", shown.stdout);
    assert!(app.lifeboat(&["log", "show"]).ok().stdout.contains("small, runbook ask: OPEN"));

    let (_, code) = app.json(&["run", "ask", "--answer", "well=y", "--answer", "Is a=b?=n/a"]);
    assert_eq!(code, 0);
    let (run, code) = app.json(&["run", "ask", "--answer", "well=no: it smokes", "--answer", "Is a=yes"]);
    assert_eq!(code, 1);
    assert!(step(&run, "Is it well?").1.starts_with("no: it smokes, says "));

    let before = app.records().len();
    for (answer, says) in [("nothing=yes", "there is no question"), ("well=perhaps", "begins with yes, no")] {
        let done = app.lifeboat(&["run", "ask", "--answer", answer]).exits(2);
        assert!(done.stderr.contains(says), "{}", done.stderr);
    }
    assert_eq!(app.records().len(), before);
    let done = app.lifeboat(&["run", "nothing"]).exits(2);
    assert!(done.stderr.contains("use one of ask"), "{}", done.stderr);
}

#[test]
fn somebody_at_a_terminal_is_asked() {
    if !have(&["python3"]) {
        return;
    }
    let env = TestEnv::new();
    let app = App::new(
        &env,
        "[runbook.ask]\nsteps = [\"manual: Is it well?\", \"manual: Surely?\", \"manual: Quickly?\"]\ntimeout = \"20s\"\n",
    );
    let typed = |answers: serde_json::Value| {
        let mut command = Command::new("python3");
        env.set(&mut command);
        command
            .arg(tool("terminal.py"))
            .arg(answers.to_string())
            .arg(crate::env::LIFEBOAT)
            .args(["run", "ask"]);
        run(command.current_dir(&app.dir))
    };
    let done = typed(json!([
        ["Is it well?", "perhaps"],
        ["begins with", "yes: I looked"],
        ["Surely?", ""],
        ["Quickly?", "n/a"]
    ]))
    .exits(3);
    assert!(!done.stdout.contains("it hangs"), "{}", done.stdout);
    let records = app.records();
    let run = records.last().unwrap();
    assert!(
        output(run, "Is it well?").starts_with("yes: I looked\n")
            && output(run, "Is it well?").contains("asked")
    );
    assert_eq!(step(run, "Surely?").0, "skip");
    assert_eq!(step(run, "Quickly?").0, "pass");
    // Ctrl-C while it waits for an answer
    typed(json!([["Is it well?", "^C"]])).exits(130);
    assert_eq!(app.records().last().unwrap()["faults"], json!(["interrupted before the end"]));
}

#[test]
fn a_runbook_within_a_runbook_has_its_own_record() {
    let env = TestEnv::new();
    let app = App::new(
        &env,
        "[runbook.outer]\nevery = \"1d\"\nsteps = [{ do = \"run inner\", timeout = \"2s\" }, \"$ true\"]\n\
         [runbook.inner]\nevery = \"1d\"\nsteps = [\"$ true\", \"manual: well?\"]\n",
    );
    let (run, code) = app.json(&["run", "outer"]);
    assert_eq!(code, 3, "{run:#}");
    let names: Vec<_> = app.records().iter().map(|r| r["scenario"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, ["runbook inner", "runbook outer"]);
    assert_eq!(app.json(&["run", "outer", "--answer", "well?=yes"]).1, 0);
    // its time is that of the step
    app.plan("[runbook.outer]\nsteps = [{ do = \"run inner\", timeout = \"1s\" }]\n[runbook.inner]\nsteps = [\"$ sleep 30\"]\n");
    let began = Instant::now();
    let (run, code) = app.json(&["run", "outer"]);
    assert_eq!(code, 1);
    assert!(began.elapsed() < Duration::from_secs(20), "{run:#}");
    // and one that comes to itself is no plan
    app.plan("[runbook.a]\nsteps = [\"run b\"]\n[runbook.b]\nsteps = [\"run a\"]\n");
    let done = app.lifeboat(&["validate"]).exits(2);
    assert!(
        done.stderr.contains("comes to itself") || done.stdout.contains("comes to itself"),
        "{}",
        done.stderr
    );
}

#[test]
fn what_is_due_is_run_once() {
    let env = TestEnv::new();
    let app = App::new(
        &env,
        "[runbook.a]\nevery = \"1d\"\nsteps = [\"$ echo a >> ran\", \"run b\"]\n[runbook.b]\nschedule = \"yearly\"\nsteps = [\"$ echo b >> ran\"]\n\
         [runbook.c]\nsteps = [\"$ echo c >> ran\"]\n",
    );
    let (list, _) = app.json(&["run", "--list"]);
    let due: Vec<bool> =
        list["runbooks"].as_array().unwrap().iter().map(|r| r["due"].as_bool().unwrap()).collect();
    assert_eq!(due, [true, true, false]);
    app.lifeboat(&["run", "--due"]).ok();
    // b ran as a step of a
    assert_eq!(fs::read_to_string(app.dir.join("ran")).unwrap(), "a\nb\n");
    app.lifeboat(&["run", "--due"]).ok();
    let done = app.lifeboat(&["run", "a", "--if-due"]).ok();
    assert!(done.stderr.contains("a is not due"), "{}", done.stderr);
    assert_eq!(fs::read_to_string(app.dir.join("ran")).unwrap(), "a\nb\n");
    let shown = app.lifeboat(&["run", "--list"]).ok().stdout;
    assert!(shown.contains("passed") && shown.contains("when it is needed"), "{shown}");
    // a schedule is of the host's own zone
    app.plan("[runbook.a]\nschedule = \"03:00\"\nsteps = [\"$ true\"]\n");
    let done = run(app.command(&["run", "--list", "--json"]).env("TZ", "XXX-5:30")).ok();
    assert!(done.stdout.contains("T21:30:00Z\""), "{}", done.stdout);
    // the time of no file has a say
    run(Command::new("find").arg(env.path("state")).args(["-exec", "touch", "-d", "2000-01-01", "{}", "+"]))
        .ok();
    assert!(!app.json(&["run", "--list"]).0["runbooks"][0]["due"].as_bool().unwrap());
}

#[test]
fn one_run_at_a_time_and_ctrl_c_ends_it_with_a_record() {
    let env = TestEnv::new();
    let app = App::new(
        &env,
        "[runbook.long]\nevery = \"1d\"\nsteps = [\"$ echo $$ > pid; sleep 300\", \"$ touch never\"]\n[runbook.short]\nsteps = [\"$ true\"]\n",
    );
    let mut command = app.command(&["run", "long"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let signalled = rustix::process::Pid::from_child(&child);
    let began = Instant::now();
    let pid = loop {
        let pid =
            fs::read_to_string(app.dir.join("pid")).ok().and_then(|text| text.trim().parse::<i32>().ok());
        if let Some(pid) = pid {
            break pid;
        }
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    };
    let done = app.lifeboat(&["run", "short"]).exits(11);
    assert!(done.stderr.contains("under way") && done.stderr.contains("--wait"), "{}", done.stderr);
    let mut waiting = app.command(&["run", "short", "--wait", "60s"]);
    let waiting = waiting.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    rustix::process::kill_process(signalled, rustix::process::Signal::INT).unwrap();
    let done = finish(child, Duration::from_secs(60)).exits(130);
    assert!(done.stdout.contains("INTERRUPTED"), "{}", done.stdout);
    finish(waiting, Duration::from_secs(60)).ok();
    let child = rustix::process::Pid::from_raw(pid).unwrap();
    assert!(rustix::process::test_kill_process(child).is_err(), "what the step started lives on");
    let records = app.records();
    assert_eq!(records[0]["faults"], json!(["interrupted before the end"]));
    assert_eq!(step(&records[0], "$ touch never"), ("skip", "not done: interrupted"));
    assert!(!app.dir.join("never").exists());
    // one that was broken off does not count
    assert!(app.json(&["run", "--list"]).0["runbooks"][0]["due"].as_bool().unwrap());
}

#[test]
fn without_a_repository_it_runs_only_if_that_is_wanted() {
    let env = TestEnv::new();
    let app = App::new(&env, "[runbook.a]\nsteps = [\"$ echo a >> ran\"]\n");
    fs::rename(env.repo(), env.path("gone")).unwrap();
    app.lifeboat(&["run", "a"]).exits(10);
    assert!(!app.dir.join("ran").exists());
    let done = app.lifeboat(&["run", "a", "--no-record"]).ok();
    assert!(done.stdout.contains("no record was kept") && app.dir.join("ran").exists());
}

#[test]
fn nothing_that_a_plan_or_a_command_says_commands_the_terminal() {
    let env = TestEnv::new();
    let app = App::new(
        &env,
        "[runbook.\"b\\u001b[31m\"]\ndescription = \"d\\u001b]0;x\\u0007\"\non_failure = \"continue\"\n\
         steps = [{ command = \"printf '\\\\033[2J'; exit 1\", name = \"n\\u001b[1m\" }, \"manual: q\\u202e?\"]\n\
         [maintenance]\nconfiguration = [\"lifeboat.toml\"]\n",
    );
    let name = "b\u{1b}[31m";
    let mut all = Vec::new();
    all.push(app.lifeboat(&["run", name]).exits(1));
    all.push(app.lifeboat(&["run", name, "--answer", "\u{1b}=yes"]).exits(2));
    all.push(app.lifeboat(&["run", "\u{1b}[0m"]).exits(2));
    all.push(app.lifeboat(&["run", "--list"]).ok());
    all.push(app.lifeboat(&["log", "show"]).ok());
    all.push(app.lifeboat(&["log", "export", "--format", "markdown"]).ok());
    for done in all {
        for text in [&done.stdout, &done.stderr] {
            assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{text:?}");
        }
    }
}
