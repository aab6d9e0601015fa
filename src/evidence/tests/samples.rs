//! Records as the harness would write them.

use chrono::{DateTime, TimeDelta};

use crate::base::time::Timestamp;
use crate::evidence::*;

/// A moment of 2026.
pub fn at(text: &str) -> Timestamp {
    Timestamp(DateTime::parse_from_rfc3339(text).unwrap().to_utc())
}

fn ms(millis: u64) -> Seconds {
    Seconds::new(std::time::Duration::from_millis(millis))
}

pub fn check(id: &str, kind: &str, data_proving: bool) -> Check {
    Check {
        id: id.to_owned(),
        kind: kind.to_owned(),
        required: true,
        data_proving,
        result: Outcome::Pass,
        reason: String::new(),
        observed: String::new(),
        expected: String::new(),
        attempts: 1,
        took_s: ms(14),
        log_sha256: None,
    }
}

pub fn step(phase: &str, name: &str, printed: &str) -> Step {
    let mut collector = Collector::new(OUTPUT_LIMIT);
    collector.push(printed.as_bytes());
    Step {
        phase: phase.to_owned(),
        name: name.to_owned(),
        result: Outcome::Pass,
        reason: String::new(),
        start_s: ms(900),
        took_s: ms(310),
        exit: Some(0),
        output: collector.finish(&[]),
    }
}

/// A drill of the sample application in which everything is as it should be. Not judged yet.
pub fn good() -> Evidence {
    let mut start = 0;
    let phases = [
        ("choose", 4, true),
        ("preflight", 11, true),
        ("fetch and restore", 212, true),
        ("verify", 48, true),
        ("sandbox", 31, true),
        ("databases", 64, true),
        ("set-up", 95, true),
        ("tests", 520, true),
        ("server", 18, true),
        ("readiness", 610, true),
        ("checks", 140, false),
        ("stop", 25, false),
        ("clean-up", 37, false),
    ];
    let phases = phases.map(|(name, took, counted)| {
        let phase = Phase { name: name.to_owned(), start_s: ms(start), took_s: ms(took), counted };
        start += took;
        phase
    });
    let hex = |byte: &str| byte.repeat(32);
    Evidence {
        schema: SCHEMA.to_owned(),
        run_id: "20261124T061500Z-7f3a".to_owned(),
        kind: Kind::Drill,
        app: "aura".to_owned(),
        scenario: "the host is lost; the newest snapshot is brought back".to_owned(),
        started: at("2026-11-24T06:15:00Z"),
        finished: at("2026-11-24T06:15:02Z"),
        tool: Tool { version: "0.1.0".to_owned(), sha256: Some(hex("a1")) },
        host: Host {
            hostname: "db7.example.org".to_owned(),
            machine_id_hash: Some(hex("b2")),
            kernel: "6.18.2".to_owned(),
            os: "Debian GNU/Linux 12".to_owned(),
        },
        operator: Operator { user: "root".to_owned(), sudo_user: Some("ada".to_owned()), role: None },
        participants: vec![],
        approver: None,
        config_sha256: hex("c3"),
        snapshot: Some(SnapshotFacts {
            id: hex("d4"),
            taken_at: at("2026-11-24T04:00:00Z"),
            consistent_at: Some(at("2026-11-24T04:00:00Z")),
            files: 27,
            bytes: 1_020_113,
            root_hash: Some(hex("e5")),
            repository: "0f9b8b1b".to_owned(),
            same_as_last_drill: false,
        }),
        after: None,
        objectives: Objectives {
            rto_s: Some(Seconds::from_secs(5)),
            rpo_s: Some(Seconds::from_secs(86_400)),
        },
        measured: Measured {
            recovery_s: Some(ms(1613)),
            phases: phases.into(),
            snapshot_age_s: Some(Seconds::from_secs(8100)),
            worst_gap_s: Some(Seconds::from_secs(43_260)),
            newest_record_at: Some(at("2026-11-24T03:59:41Z")),
        },
        isolation: Isolation {
            requested: Level::Full,
            active: Level::Full,
            mechanisms: ["mount", "PID", "network", "IPC"].map(|n| format!("{n} namespace")).into(),
            downgrades: vec!["no cgroup v2: limits by rlimit".to_owned()],
            masked_sockets: 3,
        },
        steps: vec![
            step("set-up", "pip install --no-index -r requirements.txt", "nothing to do\n"),
            step("tests", "./run_tests.sh", "ok    test_critical_files_are_there\n9/9 passed\n"),
            step("tests", "python3 validate_integration.py", "integration valid\n"),
        ],
        checks: vec![
            check("health", "http", false),
            check("rows", "sql", true),
            check("the newest row is less than 26 hours old", "sql", true),
            check("disk", "disk", false),
        ],
        faults: vec![],
        self_test: vec![],
        not_tested: vec!["e-mail delivery: no network".to_owned()],
        verdict: Verdict::default(),
        reasons: vec![],
        cap: None,
        objectives_met: None,
        deviations: vec![],
        production: Some(Production {
            healthy_before: Some(true),
            healthy_after: Some(true),
            fingerprint_unchanged: Some(true),
        }),
        cleanup: Cleanup { proved: true, leftovers: vec![] },
        follow_ups: vec![],
        seal: None,
    }
}

/// One in which a test and a check went red, with everything that a record may hold.
pub fn bad() -> Evidence {
    let mut run = good();
    run.run_id = "20261124T062000Z-11c0".to_owned();
    let printed = "ok    test_critical_files_are_there\nFAIL  test_model_answers: no such table: knowledge\n8/9 passed\n";
    run.steps[1] = step("tests", "./run_tests.sh", printed);
    run.steps[1].result = Outcome::Fail;
    run.steps[1].reason = "exit status 1".to_owned();
    run.steps[1].exit = Some(1);
    run.checks[1].result = Outcome::Fail;
    run.checks[1].reason = "the answer is too small".to_owned();
    run.checks[1].expected = "at least 4320".to_owned();
    run.checks[1].observed = "0".to_owned();
    run.checks[3].result = Outcome::Skip;
    run.checks[3].required = false;
    run.participants = vec!["Grace".to_owned()];
    run.approver = Some("Edsger".to_owned());
    run.deviations = vec!["the drill began ten minutes late".to_owned()];
    run.self_test = vec![
        Sabotage { name: "a file is missing".to_owned(), noticed_by: vec!["./run_tests.sh".to_owned()] },
        Sabotage { name: "old data".to_owned(), noticed_by: vec![] },
    ];
    run.follow_ups = vec![FollowUp {
        run_id: run.run_id.clone(),
        issues: vec!["the table was empty".to_owned()],
        observations: vec!["the export ran at the same time".to_owned()],
        signoff: vec![SignOff {
            by: "Grace".to_owned(),
            at: at("2026-11-25T09:00:00Z"),
            note: "seen, cause known".to_owned(),
        }],
        lessons: vec!["the export job truncates the table".to_owned()],
        actions: vec![Action {
            text: "take the snapshot before the export".to_owned(),
            owner: "Ada".to_owned(),
            due: "2026-12-01".to_owned(),
            status: ActionStatus::Open,
            note: String::new(),
        }],
        ..FollowUp::default()
    }];
    run.seal = Some(Seal {
        record: "f6".repeat(32),
        previous: Some("07".repeat(32)),
        writer: "9f8b1bff00112233".to_owned(),
        sequence: 41,
    });
    run
}

/// Drills of the three years before, one of each verdict among them.
pub fn past() -> Vec<Evidence> {
    (1..=12)
        .map(|number| {
            let mut run = good();
            run.run_id = format!("past-{number}");
            let ago = TimeDelta::days(91 * (13 - number));
            run.started = Timestamp(run.started.0 - ago);
            run.finished = Timestamp(run.finished.0 - ago);
            run.measured.recovery_s =
                Some(ms(1000 + 90 * number.unsigned_abs() + 700 * u64::from(number == 6)));
            match number {
                3 => run.measured.recovery_s = None,
                5 => run.checks[1].result = Outcome::Fail,
                8 => run.measured.recovery_s = Some(ms(5400)),
                10 => run.isolation.active = Level::Files,
                _ => {}
            }
            if number == 3 {
                run.steps[1].result = Outcome::Fail;
            }
            run.judged()
        })
        .collect()
}

/// A record in which every text from outside is `text`.
pub fn filled_with(text: &str) -> Evidence {
    let mut run = bad().judged();
    let t = || text.to_owned();
    run.app = t();
    run.scenario = t();
    run.run_id = t();
    run.tool.version = t();
    run.host = Host { hostname: t(), machine_id_hash: Some(t()), kernel: t(), os: t() };
    run.operator = Operator { user: t(), sudo_user: Some(t()), role: Some(t()) };
    run.participants = vec![t()];
    run.approver = Some(t());
    run.config_sha256 = t();
    let snapshot = run.snapshot.as_mut().unwrap();
    (snapshot.id, snapshot.root_hash, snapshot.repository) = (t(), Some(t()), t());
    run.measured.phases[0].name = t();
    run.isolation.mechanisms = vec![t()];
    run.isolation.downgrades = vec![t()];
    for (step, result) in run.steps.iter_mut().zip([Outcome::Pass, Outcome::Fail, Outcome::Error]) {
        (step.phase, step.name, step.reason, step.result) = (t(), t(), t(), result);
        step.output.text = t();
    }
    let results = [Outcome::Pass, Outcome::Fail, Outcome::Error, Outcome::Skip];
    for (check, result) in run.checks.iter_mut().zip(results) {
        (check.id, check.kind, check.reason, check.result) = (t(), t(), t(), result);
        (check.observed, check.expected) = (t(), t());
    }
    run.faults = vec![t()];
    run.self_test =
        vec![Sabotage { name: t(), noticed_by: vec![t(), t()] }, Sabotage { name: t(), noticed_by: vec![] }];
    run.not_tested = vec![t()];
    run.reasons = vec![t()];
    run.deviations = vec![t()];
    run.cleanup.leftovers = vec![t()];
    let follow_up = &mut run.follow_ups[0];
    follow_up.signoff[0].by = t();
    follow_up.signoff[0].note = t();
    follow_up.lessons = vec![t()];
    follow_up.issues = vec![t()];
    follow_up.observations = vec![t()];
    let action = &mut follow_up.actions[0];
    (action.text, action.owner, action.due) = (t(), t(), t());
    run.seal = Some(Seal { record: t(), previous: Some(t()), writer: t(), sequence: 1 });
    run
}
