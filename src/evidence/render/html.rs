//! One page that needs nothing else: styles and drawings are in it, there is no script, and it prints.
//!
//! Every value goes through the template engine, which escapes it; the finished page goes once more through
//! `shown_text`, so that no control or direction character from outside is left in it wherever it came from.

use askama::Template;

use super::plot::{self, History, Timeline, WIDTH};
use super::{RenderError, account_of_check, account_of_step, line, short};
use crate::base::name::shown_text;
use crate::base::size;
use crate::evidence::follow_up::FollowUp;
use crate::evidence::measure::Seconds;
use crate::evidence::record::{Evidence, Kind};
use crate::evidence::step::Outcome;
use crate::evidence::verdict::Verdict;

// A step's output is kept up to 64 KiB; a page with hundreds of them would be no use to anybody.
const MAX_ACCOUNT: usize = 8 << 10;
const MAX_CELL: usize = 400;

/// The record as a page, with the drills before it as a plot.
///
/// # Errors
/// If the template cannot be filled.
pub fn html(run: &Evidence, past: &[Evidence]) -> Result<String, RenderError> {
    let page = Page {
        run,
        is_apart: run.kind != Kind::Runbook,
        title: format!("{} of {}: {}", run.kind.word(), line(&run.app), run.headline()),
        class: run.verdict.word(),
        sentence: sentence(run),
        cards: cards(run),
        checks: checks(run),
        steps: steps(run),
        timeline: plot::timeline(&run.measured.phases, run.measured.recovery_s),
        history: (run.kind == Kind::Drill).then(|| plot::history(run, past)),
        unnoticed: run.self_test.iter().filter(|s| s.noticed_by.is_empty()).count(),
        production: production(run),
        cleanup: cleanup(run),
        facts: facts(run),
        follow_ups: &run.follow_ups,
        width: WIDTH,
    };
    let text = page.render().map_err(|error| RenderError::new(run, "HTML", error))?;
    Ok(shown_text(&text))
}

#[derive(Template)]
#[template(path = "drill.html")]
struct Page<'a> {
    run: &'a Evidence,
    /// False: a procedure, which is done where the application lives.
    is_apart: bool,
    title: String,
    class: &'static str,
    sentence: String,
    cards: Vec<Card>,
    checks: Vec<Row>,
    steps: Vec<Row>,
    timeline: Option<Timeline>,
    history: Option<History>,
    unnoticed: usize,
    production: String,
    cleanup: String,
    facts: Vec<(&'static str, String)>,
    follow_ups: &'a [FollowUp],
    width: f64,
}

struct Card {
    name: &'static str,
    value: String,
    note: String,
    class: &'static str,
}

struct Row {
    result: &'static str,
    name: String,
    kind: String,
    tags: Vec<&'static str>,
    took: Seconds,
    account: String,
}

fn sentence(run: &Evidence) -> String {
    let what = match run.kind {
        Kind::Drill => "came back from its snapshot",
        Kind::Rollback => "was brought back",
        Kind::Hotfix => "was changed",
        Kind::Runbook => "went through its procedure",
    };
    let app = line(&run.app);
    match (run.verdict, run.measured.recovery_s) {
        (Verdict::Pass, Some(recovery)) if run.kind == Kind::Drill && !run.has_server() => {
            format!("{app} {what} in {recovery}; no server was started.")
        }
        (Verdict::Pass, Some(recovery)) => format!("{app} {what} and was healthy after {recovery}."),
        (Verdict::Pass, None) => format!("{app} {what}."),
        (Verdict::Fail, _) => {
            format!("It is shown that something does not work: do not rely on this {}.", subject(run))
        }
        (Verdict::ObjectiveMissed, _) => format!("{app} {what}, but not as its objectives demand."),
        (Verdict::Inconclusive, _) if run.is_open() => {
            format!("{app} {what}; nothing failed, and questions wait for their answers.")
        }
        (Verdict::Inconclusive, _) => {
            format!("This run shows neither that the {} is good nor that it is bad.", subject(run))
        }
    }
}

fn subject(run: &Evidence) -> &'static str {
    if run.kind == Kind::Drill { "snapshot" } else { "result" }
}

fn cards(run: &Evidence) -> Vec<Card> {
    if run.kind == Kind::Runbook {
        return of_steps(run);
    }
    let mut cards = vec![
        objective("Recovery time", run.measured.recovery_s, run.objectives.rto_s),
        objective("Possible loss", run.measured.loss(), run.objectives.rpo_s),
    ];
    let required: Vec<_> = run.checks.iter().filter(|check| check.required).collect();
    let passed = required.iter().filter(|check| check.result == Outcome::Pass).count();
    let proving = run.checks.iter().filter(|c| c.data_proving && c.result == Outcome::Pass).count();
    let all = passed == required.len() && proving > 0;
    cards.push(Card {
        name: "Required checks",
        value: format!("{passed} of {}", required.len()),
        note: format!("passed; {proving} of all prove that data came back"),
        class: if all { "pass" } else { "fail" },
    });
    let isolation = &run.isolation;
    let enough = isolation.active >= isolation.requested && run.cap.is_none();
    cards.push(Card {
        name: "Isolation",
        value: isolation.active.word().to_owned(),
        note: format!("really active; asked for: {}", isolation.requested.word()),
        class: if enough { "pass" } else { "fail" },
    });
    cards
}

// A procedure has neither a recovery time nor isolation.
fn of_steps(run: &Evidence) -> Vec<Card> {
    let count = |wanted: &dyn Fn(&&crate::evidence::Step) -> bool| run.steps.iter().filter(wanted).count();
    let passed = count(&|step| step.result == Outcome::Pass);
    let open = count(&|step| step.is_open());
    let all = run.steps.len();
    vec![
        Card {
            name: "Steps",
            value: format!("{passed} of {all}"),
            note: "passed".to_owned(),
            class: if passed == all { "pass" } else { "none" },
        },
        Card {
            name: "Failed",
            value: count(&|step| step.result == Outcome::Fail).to_string(),
            note: format!("{} could not be judged", count(&|step| step.result == Outcome::Error)),
            class: if run.verdict == Verdict::Fail { "fail" } else { "none" },
        },
        Card {
            name: "Open",
            value: open.to_string(),
            note: "questions without an answer".to_owned(),
            class: if open == 0 { "pass" } else { "none" },
        },
    ]
}

fn objective(name: &'static str, measured: Option<Seconds>, objective: Option<Seconds>) -> Card {
    let note = objective.map_or("no objective set".to_owned(), |o| format!("objective {o}"));
    let class = match (measured, objective) {
        (Some(measured), Some(objective)) if measured > objective => "fail",
        (Some(_), Some(_)) => "pass",
        _ => "none",
    };
    Card { name, value: measured.map_or("–".to_owned(), |m| m.to_string()), note, class }
}

fn checks(run: &Evidence) -> Vec<Row> {
    let row = |check: &crate::evidence::Check| {
        let mut tags = Vec::new();
        if check.required {
            tags.push("required");
        }
        if check.data_proving {
            tags.push("proves data");
        }
        Row {
            result: check.result.word(),
            name: short(&line(&check.id), MAX_CELL),
            kind: short(&line(&check.kind), MAX_CELL),
            tags,
            took: check.took_s,
            account: account_of_check(check, MAX_ACCOUNT),
        }
    };
    run.checks.iter().map(row).collect()
}

fn steps(run: &Evidence) -> Vec<Row> {
    let row = |step: &crate::evidence::Step| {
        let mut tags = Vec::new();
        if step.output.masked {
            tags.push("secrets masked");
        }
        Row {
            result: step.result.word(),
            name: short(&line(&step.name), MAX_CELL),
            kind: short(&line(&step.phase), MAX_CELL),
            tags,
            took: step.took_s,
            account: account_of_step(step, MAX_ACCOUNT),
        }
    };
    run.steps.iter().map(row).collect()
}

fn production(run: &Evidence) -> String {
    let Some(production) = &run.production else { return "not looked at".to_owned() };
    let health = |healthy: Option<bool>| match healthy {
        Some(true) => "healthy",
        Some(false) => "not healthy",
        None => "unknown",
    };
    let files = match production.fingerprint_unchanged {
        Some(true) => "its files unchanged",
        Some(false) => "its files changed",
        None => "its files not compared",
    };
    format!(
        "before: {}; after: {}; {files}",
        health(production.healthy_before),
        health(production.healthy_after)
    )
}

fn cleanup(run: &Evidence) -> String {
    match (run.cleanup.proved, run.cleanup.leftovers.is_empty()) {
        (true, true) => "proved: nothing was left over".to_owned(),
        (_, false) => format!("left over: {}", line(&run.cleanup.leftovers.join(", "))),
        (false, true) => "not proved".to_owned(),
    }
}

fn facts(run: &Evidence) -> Vec<(&'static str, String)> {
    let mut facts = vec![("Run", run.run_id.clone()), ("Scenario", run.scenario.clone())];
    let time = format!("{} to {} UTC", run.started.shown(), run.finished.shown());
    facts.push(("Time", time));
    if let Some(snapshot) = &run.snapshot {
        facts.push(("Snapshot", snapshot.id.clone()));
        let amount = format!("{}, {}", size::plural(snapshot.files, "file"), size::bytes(snapshot.bytes));
        facts.push(("", format!("taken {} UTC; {amount}", snapshot.taken_at.shown())));
        if snapshot.same_as_last_drill {
            facts.push(("", "the same one as in the last drill".to_owned()));
        }
        facts.push(("Repository", snapshot.repository.clone()));
    }
    facts.push(("Plan", format!("SHA-256 {}", run.config_sha256)));
    let sudo = run.operator.sudo_user.as_ref().map(|user| format!(", by sudo from {user}"));
    let role = run.operator.role.as_ref().map(|role| format!(" ({role})"));
    let operator = format!("{}{}{}", run.operator.user, sudo.unwrap_or_default(), role.unwrap_or_default());
    facts.push(("Operator", operator));
    if !run.participants.is_empty() {
        facts.push(("Participants", run.participants.join(", ")));
    }
    facts.extend(run.approver.iter().map(|approver| ("Approved by", approver.clone())));
    facts.push(("Host", format!("{}, {}, Linux {}", run.host.hostname, run.host.os, run.host.kernel)));
    let digest = run.tool.sha256.as_ref().map(|sha256| format!(", SHA-256 {sha256}"));
    facts.push(("Tool", format!("Lifeboat {}{}", run.tool.version, digest.unwrap_or_default())));
    if let Some(seal) = &run.seal {
        facts.push(("Logbook", format!("record {} of writer {}", seal.sequence, seal.writer)));
        facts.push(("", format!("SHA-256 {}", seal.record)));
        facts.extend(seal.previous.iter().map(|previous| ("after", format!("SHA-256 {previous}"))));
    }
    facts.into_iter().map(|(name, value)| (name, short(&line(&value), MAX_CELL))).collect()
}
