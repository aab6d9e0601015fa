//! Next actions: recorded, listed, closed; and the filters of the logbook.

use serde_json::Value;

use crate::env::{TestEnv, check};

fn ids(env: &TestEnv, all: bool) -> Vec<(String, String)> {
    let mut args = vec!["log", "actions"];
    args.extend(all.then_some("--all"));
    let answer = env.json(args);
    let actions = answer["actions"].as_array().unwrap().iter();
    actions.map(|a| (a["id"].as_str().unwrap().to_owned(), a["text"].as_str().unwrap().to_owned())).collect()
}

fn recorded() -> TestEnv {
    let env = TestEnv::with_tree();
    env.snapshot(&[]);
    env.ok([
        "log",
        "add",
        "--issue",
        "slow disk",
        "--next-action",
        "replace it",
        "--owner",
        "Ada",
        "--due",
        "2020-01-31",
    ]);
    env.ok([
        "log",
        "add",
        "--next-action",
        "buy spares",
        "--next-action",
        "tell Grace",
        "--due",
        "2999-12-31",
    ]);
    env.ok(["log", "add", "--next-action", "some day"]);
    env
}

#[test]
fn actions_are_listed_by_their_day_and_closed_by_their_id() {
    let env = recorded();
    let texts: Vec<String> = ids(&env, false).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["replace it", "buy spares", "tell Grace", "some day"]);
    let table = env.ok(["log", "actions"]);
    let line = table.lines().find(|line| line.contains("replace it")).unwrap();
    assert!(line.contains("2020-01-31 OVERDUE") && line.contains("Ada"), "{table}");
    assert_eq!(table.matches("OVERDUE").count(), 1, "{table}");
    assert_eq!(env.json(["log", "actions"])["actions"][0]["overdue"], true);

    let id = &ids(&env, false)[0].0;
    let said = env.ok(["log", "close", &id[..8], "--note", "new disk in bay 2"]);
    assert_eq!(said, "done: replace it\n");
    env.ok(["log", "close", &ids(&env, false)[0].0, "--dropped", "--note", "they are there"]);
    let texts: Vec<String> = ids(&env, false).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["tell Grace", "some day"]);
    let all = env.ok(["log", "actions", "--all"]);
    assert!(
        all.contains("new disk in bay 2") && all.contains("dropped") && !all.contains("OVERDUE"),
        "{all}"
    );
    assert_eq!(ids(&env, true).len(), 4);

    let log = env.ok(["log", "export", "--format", "markdown"]);
    for line in [
        "- [x] replace it, Ada, 2020\\-01\\-31 \\(done&#58; new disk in bay 2\\)",
        "- [ ] tell Grace, 2999\\-12\\-31",
    ] {
        assert!(log.contains(line), "{line} is not in\n{log}");
    }
    assert!(env.ok(["log", "show", "--kind", "follow-up"]).contains("done (new disk in bay 2)"));
    env.ok(["log", "verify"]);
    let end = TestEnv::new();
    assert_eq!(end.run(["log", "actions"]).stderr, "no open actions\n");
}

#[test]
fn what_cannot_be_closed_is_refused_in_words() {
    let env = recorded();
    let id = ids(&env, false)[0].0.clone();
    env.ok(["log", "close", &id]);
    let records = || env.json(["log", "show"])["records"].as_array().unwrap().len();
    let before = records();
    let run = env.run(["log", "close", &id, "--note", "again"]);
    assert_eq!(run.code, 1);
    assert!(
        run.stderr.contains("is done already: replace it") && run.stderr.contains("UTC, by "),
        "{}",
        run.stderr
    );
    let run = env.run(["log", "close", "0123456789"]);
    assert_eq!(run.code, 1);
    check!(env, run.stderr, @r"
    error: no action is 0123456789
    next: lifeboat log actions lists them; give at least 4 digits of the id
    ");
    assert_eq!(
        env.run(["log", "close", &id[..3]]).code,
        1,
        "three digits are too few, even of one that is there"
    );
    let run = env.run(["log", "close", &ids(&env, false)[0].0, "--dropped"]);
    assert_eq!(run.code, 2, "whoever drops something says why");
    for done in ["replace it", "nothing like it"] {
        let run = env.run(["log", "add", "--done", done]);
        assert_eq!(run.code, 1, "{}", run.stderr);
        assert!(run.stderr.contains(&format!("the record has no open action {done}")), "{}", run.stderr);
    }
    let run = env.run(["log", "add", "--next-action", "x", "--due", "next week"]);
    assert_eq!(run.code, 2);
    check!(env, run.stderr, @r"
    error: next week is no day for --due
    next: write year, month and day, such as 2026-12-01
    ");
    assert_eq!(env.run(["log", "add", "--next-action", "x", "--due", "2026-02-30"]).code, 2);
    assert_eq!(records(), before, "what is refused leaves no record");
}

#[test]
fn what_people_did_stands_alone_in_the_maintenance_log() {
    let env = recorded();
    env.ok([
        "log",
        "add",
        "--activity",
        "restarted the cache",
        "--occasion",
        "weekly",
        "--observation",
        "it was cold",
    ]);
    assert!(env.ok(["log", "show"]).contains("by hand: restarted the cache"));
    let log = env.ok(["log", "export", "--format", "markdown"]);
    for line in [". restarted the cache", "**Type**: Weekly", "- it was cold"] {
        assert!(log.contains(line), "{line} is not in\n{log}");
    }
    let html = env.ok(["log", "export", "--format", "html"]);
    assert!(html.contains("<li>restarted the cache</li>"), "{html}");
    assert_eq!(env.run(["log", "add", "--occasion", "weekly", "--issue", "x"]).code, 2);
    assert_eq!(env.run(["log", "add", "latest", "--occasion", "weekly", "--activity", "x"]).code, 2);
}

#[test]
fn records_are_filtered_by_what_they_say() {
    let env = TestEnv::with_tree();
    let first = env.snapshot(&["--host", "web"]);
    env.snapshot(&["--host", "db"]);
    env.ok(["log", "add", "--issue", "slow disk on Mars", "--next-action", "replace it"]);
    let shown = |args: &[&str]| -> Vec<Value> {
        let answer = env.json(["log", "show"].iter().chain(args));
        answer["records"].as_array().unwrap().clone()
    };
    let count = |args: &[&str]| shown(args).len();
    assert_eq!(count(&[]), 4);
    assert_eq!(count(&["--limit", "2"]), 2);
    assert_eq!(count(&["--snapshot", &first[..8]]), 1);
    assert_eq!(count(&["--snapshot", "00000000"]), 0);
    assert_eq!(count(&["--grep", "[Dd]isk on M"]), 1);
    assert_eq!(count(&["--grep", "issues"]), 0, "names of fields are no text");
    let all = shown(&[]);
    let (host, user) = (all[0]["host"].as_str().unwrap(), all[0]["user"].as_str().unwrap());
    assert_eq!(count(&["--host", host, "--user", user]), 4);
    assert_eq!((count(&["--host", "nowhere"]), count(&["--user", "nobody2"])), (0, 0));
    assert_eq!((count(&["--verdict", "pass"]), count(&["--app", "aura"])), (0, 0));
    assert_eq!((count(&["--until", "2000-01-01"]), count(&["--until", "2999-01-01"])), (0, 4));
    assert_eq!(count(&["--until", &all[0]["at"].as_str().unwrap()[..10], "--since", "2000-01-01"]), 4);
    for (args, word) in [
        (["--until", "soon"], "--until"),
        (["--grep", "("], "regular expression"),
        (["--snapshot", "abc"], "no snapshot id"),
        (["--verdict", "good"], "pass, fail, objective_missed, inconclusive"),
    ] {
        let run = env.run(["log", "show"].iter().chain(&args));
        assert_eq!(run.code, 2, "{}", run.stderr);
        assert!(run.stderr.contains(word), "{}", run.stderr);
    }
}
