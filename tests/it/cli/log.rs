use std::sync::Arc;

use lifeboat::base::time::Clock;
use lifeboat::evidence::{self, Evidence};
use lifeboat::repo::Repo;
use lifeboat::repo::keys::WriterKey;
use lifeboat::store::local::LocalStore;
use serde_json::{Value, json};

use crate::env::{TestEnv, check};

/// Writes the record of a drill that passed, as the harness would, or of one whose check failed.
fn drill(env: &TestEnv, snapshot: &str, run_id: &str, passes: bool) {
    let result = if passes { "pass" } else { "fail" };
    let mut run: Evidence = serde_json::from_value(json!({
        "schema": "", "run_id": run_id, "kind": "drill", "app": "aura", "scenario": "the host is lost",
        "started": "2026-11-24T06:15:00Z", "finished": "2026-11-24T06:15:02Z",
        "tool": {"version": "0.1.0"}, "host": {"hostname": "db7", "kernel": "6.18", "os": "Debian"},
        "operator": {"user": "ada"}, "config_sha256": "c3".repeat(32),
        "snapshot": {
            "id": snapshot, "taken_at": "2026-11-24T04:00:00Z", "files": 3, "bytes": 12, "repository": "r",
            "same_as_last_drill": false
        },
        "objectives": {"rto_s": 5.0},
        "measured": {
            "recovery_s": 1.613, "phases": [
                {"name": "restore", "start_s": 0.0, "took_s": 1.6, "counted": true},
                {"name": "server", "start_s": 1.6, "took_s": 0.013, "counted": true}
            ]
        },
        "isolation": {
            "requested": "full", "active": "full", "mechanisms": ["mount namespace"], "downgrades": [], "masked_sockets": 0
        },
        "steps": [],
        "checks": [{
            "id": "rows", "kind": "sql", "required": true, "data_proving": true, "result": result,
            "reason": if passes { "" } else { "the answer is too small" }, "attempts": 1, "took_s": 0.014
        }],
        "not_tested": [], "verdict": "inconclusive", "reasons": [], "cleanup": {"proved": true}
    }))
    .unwrap();
    let repo = Repo::open(Arc::new(LocalStore::open(env.path("repo"))), Clock::System).unwrap();
    let key = WriterKey::load(&env.path("keys/writer")).unwrap();
    evidence::append(&repo, &key, &mut run).unwrap();
}

fn drilled() -> (TestEnv, String) {
    let env = TestEnv::with_tree();
    let id = env.snapshot(&["--host", "web"]);
    drill(&env, &id, "first", true);
    (env, id)
}

fn kinds(answer: &Value) -> Vec<&str> {
    answer["records"].as_array().unwrap().iter().map(|r| r["kind"].as_str().unwrap()).collect()
}

#[test]
fn the_logbook_is_shown_and_filtered() {
    let (env, _) = drilled();
    drill(&env, &"d4".repeat(32), "second", false);
    env.ok(["log", "add", "first", "--sign-off", "Grace", "--lesson", "keep a spare"]);
    assert_eq!(kinds(&env.json(["log", "show"])), ["init", "snapshot", "drill", "drill", "follow-up"]);
    assert_eq!(kinds(&env.json(["log", "show", "--kind", "drill", "--last", "1"])), ["drill"]);
    assert_eq!(
        kinds(&env.json(["log", "show", "--kind", "init", "--kind", "snapshot"])),
        ["init", "snapshot"]
    );
    assert_eq!(kinds(&env.json(["log", "show", "--since", "2100-01-01"])), Vec::<&str>::new());
    assert_eq!(kinds(&env.json(["log", "show", "--since", "1h"])).len(), 5);
    let text = env.ok(["log", "show"]);
    for line in
        ["aura: PASSED, healthy after 1.61 s", "aura: FAILED", "on first: signed off by Grace, 1 lesson"]
    {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert_eq!(env.run(["log", "show", "--since", "yesterday"]).code, 2);
}

#[test]
fn what_is_added_refers_to_a_record() {
    let (env, snapshot) = drilled();
    let added =
        env.json(["log", "add", "--issue", "slow disk", "--next-action", "replace it", "--owner", "Ada"]);
    assert_eq!(added["follow_up"]["run_id"], "first", "the latest that is no follow-up");
    let record = added["record"].as_str().unwrap();
    let run = env.run(["log", "add", record, "--issue", "x"]);
    assert_eq!(run.code, 2, "{}", run.stderr);
    let of_snapshot = env.json(["log", "show", "--kind", "snapshot"]);
    let id = of_snapshot["records"][0]["id"].as_str().unwrap();
    assert_eq!(of_snapshot["records"][0]["body"]["snapshot"], snapshot.as_str());
    env.ok(["log", "add", &id[..12], "--observation", "tree was small"]);
    env.ok(["log", "add", "first", "--done", "replace it"]);
    let text = env.ok(["log", "export", "--format", "markdown"]);
    for line in ["- tree was small", "- slow disk", "- [x] replace it, Ada", "**Status**: Completed"] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let run = env.run(["log", "add"]);
    check!(env, run.stderr, @r"
    error: there is nothing to add
    next: give --activity, --issue, --observation, --next-action, --done, --lesson or --sign-off
    ");
    let run = env.run(["log", "add", "nosuch", "--issue", "x"]);
    assert_eq!(run.code, 1);
    check!(env, run.stderr, @r"
    error: no record of the logbook is nosuch
    next: lifeboat log show lists them; a record that is damaged or not signed is not taken
    ");
}

#[test]
fn a_run_is_exported_in_every_form() {
    let (env, snapshot) = drilled();
    drill(&env, &snapshot, "second", false);
    let export = |form: &str, run: &str| env.ok(["log", "export", "--format", form, "--record", run]);
    for (form, first, latest) in [
        ("json", "\"verdict\": \"pass\"", "\"verdict\": \"fail\""),
        ("html", "PASSED", "FAILED"),
        ("junit", "<testsuites", "the answer is too small"),
        ("markdown", "## ✅ drill of aura: PASSED", "## ❌ drill of aura: FAILED"),
        ("prometheus", "first", "lifeboat"),
        ("in-toto", "\"result\": \"PASSED\"", "\"result\": \"FAILED\""),
    ] {
        if form != "prometheus" {
            assert!(export(form, "first").contains(first), "{form}");
        }
        assert!(export(form, "latest").contains(latest), "{form}");
    }
    let of_hash = env.json(["log", "show", "--kind", "drill"]);
    let hash = of_hash["records"][0]["id"].as_str().unwrap();
    assert_eq!(export("json", hash), export("json", "first"));
    let sealed: Value = serde_json::from_str(&export("json", "first")).unwrap();
    assert_eq!(sealed["seal"]["record"], hash);
    let page = env.ok(["log", "export", "--format", "html"]);
    assert!(page.contains("<title>Maintenance log</title>") && page.contains("aura: FAILED"), "{page}");
    let all: Value = serde_json::from_str(&env.ok(["log", "export", "--format", "json"])).unwrap();
    assert_eq!(kinds(&all), ["init", "snapshot", "drill", "drill"]);
    let init = env.json(["log", "show", "--kind", "init"]);
    let init = init["records"][0]["id"].as_str().unwrap();
    assert_eq!(env.run(["log", "export", "--format", "html", "--record", init]).code, 2);
    assert_eq!(env.run(["log", "export", "--format", "pdf"]).code, 2);
    let empty = TestEnv::new();
    let run = empty.run(["log", "export", "--format", "junit"]);
    assert_eq!(run.code, 1);
    check!(empty, run.stderr, @r"
    error: there is no drill in the logbook
    next: lifeboat drill makes one; --record names another run
    ");
}

fn record_files(env: &TestEnv) -> Vec<std::path::PathBuf> {
    let writers = std::fs::read_dir(env.path("repo/records")).unwrap();
    let mut found: Vec<_> = writers
        .flat_map(|writer| std::fs::read_dir(writer.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .collect();
    found.sort();
    found
}

#[test]
fn a_whole_logbook_is_whole_and_its_head_can_be_noted() {
    let (env, _) = drilled();
    let text = env.ok(["log", "verify"]);
    check!(env, &text, @r"
    writer [WRITER]: 3 records, head [ID], signed by [FINGERPRINT]
    the logbook is whole
    ");
    let answer = env.json(["log", "verify"]);
    assert_eq!((&answer["whole"], &answer["records"]), (&json!(true), &json!(3)));
    let head = answer["heads"][0]["head"].as_str().unwrap().to_owned();
    drill(&env, &"d4".repeat(32), "failed", false);
    env.ok(["log", "verify", "--head", &head]);
    let noted = env.json(["log", "verify"])["heads"][0]["head"].as_str().unwrap().to_owned();
    // the failure is cut off from the end, signature and all: only who has seen it, or noted the head, can tell
    let last = record_files(&env).pop().unwrap();
    std::fs::remove_file(last.with_extension("sig")).unwrap();
    std::fs::remove_file(last).unwrap();
    let run = env.run(["log", "verify"]);
    assert!(run.code == 40 && run.stdout.contains("this host has seen it"), "{}", run.stdout);
    std::fs::remove_dir_all(env.path("state")).unwrap();
    env.ok(["log", "verify"]);
    let run = env.run(["log", "verify", "--head", &noted]);
    assert_eq!(run.code, 40, "{}", run.stdout);
    assert!(run.stdout.contains("it was the head once"), "{}", run.stdout);
    assert_eq!(env.run(["log", "verify", "--head", "abc"]).code, 2);
}

#[test]
fn what_was_done_to_the_logbook_is_named() {
    let (env, _) = drilled();
    drill(&env, &"d4".repeat(32), "failed", false);
    drill(&env, &"d4".repeat(32), "again", true);
    let files = record_files(&env);
    let failed = &files[3];
    let kept = std::fs::read(failed).unwrap();
    std::fs::remove_file(failed).unwrap();
    let run = env.run(["log", "verify"]);
    assert_eq!(run.code, 40, "a failure that was removed shows");
    assert!(
        run.stdout.contains("DAMAGE: record 4 of writer") && run.stdout.contains("it is missing"),
        "{}",
        run.stdout
    );
    std::fs::write(failed, String::from_utf8(kept).unwrap().replace("fail", "pass")).unwrap();
    let run = env.run(["log", "verify"]);
    assert_eq!(run.code, 40);
    assert!(run.stdout.contains("its bytes do not have the hash"), "{}", run.stdout);
    let text = env.ok(["log", "show"]);
    assert!(text.contains("NOT TO BE TRUSTED"), "{text}");
    let all: Value = serde_json::from_str(&env.ok(["log", "export", "--format", "json"])).unwrap();
    assert_eq!(all["records"].as_array().unwrap().len(), 4, "what is altered is not exported");
}

#[test]
fn the_last_snapshot_that_passed_a_drill_is_marked_and_kept() {
    let (env, id) = drilled();
    let newer = env.snapshot(&["--host", "web"]);
    drill(&env, &newer, "second", false);
    assert!(env.ok(["snapshots"]).contains("(drilled 2026-11-24)"));
    assert!(env.ok(["show", &id]).contains("drilled    passed 2026-11-24 06:15:02 UTC, run first"));
    assert_eq!(env.json(["show", &id])["drilled"], "2026-11-24T06:15:02Z");
    assert_eq!(env.json(["show", &newer])["drilled"], Value::Null);
    let answer = env.json(["forget", "--keep-last", "1"]);
    assert_eq!(answer["forgotten"], json!([]));
    assert_eq!(answer["kept"][0]["reasons"], json!(["last that passed a drill"]));
    // it fails later: nothing speaks for it any more
    drill(&env, &id, "third", false);
    assert!(!env.ok(["snapshots"]).contains("drilled"));
    assert_eq!(env.json(["forget", "--keep-last", "1"])["forgotten"][0]["id"], id.as_str());
}
