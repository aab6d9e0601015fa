//! Markdown for the summary of a GitHub job, which has a hard limit of 1 MiB per step.

use std::fmt::Write as _;

use super::{account_of_check, account_of_step, line, short};
use crate::evidence::follow_up::FollowUp;
use crate::evidence::record::{Evidence, Kind};
use crate::evidence::step::{Outcome, QUESTION};
use crate::evidence::verdict::Verdict;

/// The text has at most this many bytes. GitHub's limit is 1,048,576.
pub const MAX_MARKDOWN: usize = 1_000_000;

const MAX_CELL: usize = 200;
const MAX_DETAIL: usize = 8 << 10;
const MAX_ROWS: usize = 120;
const MAX_ITEMS: usize = 30;

/// The record as Markdown: what matters most comes first, and what does not fit is counted.
pub fn markdown(run: &Evidence) -> String {
    let mut text = String::new();
    head(run, &mut text);
    checks(run, &mut text);
    if run.kind == Kind::Runbook {
        steps(run, &mut text);
    } else {
        phases(run, &mut text);
    }
    let mut rest = String::new();
    list(&mut rest, "What was not tested", &run.not_tested);
    if run.kind != Kind::Runbook {
        isolation(run, &mut rest);
    }
    self_test(run, &mut rest);
    follow_ups(&run.follow_ups, &mut rest);
    origin(run, &mut rest);
    details(run, &mut text, MAX_MARKDOWN.saturating_sub(rest.len() + 200));
    text.push_str(&rest);
    bounded(text)
}

fn head(run: &Evidence, text: &mut String) {
    let sign = match run.verdict {
        Verdict::Pass => "✅",
        Verdict::Fail => "❌",
        Verdict::ObjectiveMissed => "⏱️",
        Verdict::Inconclusive => "❔",
    };
    let _ = writeln!(text, "## {sign} {} of {}: {}\n", run.kind.word(), cell(&run.app), run.headline());
    let _ = writeln!(text, "{}\n", cell(&run.scenario));
    for reason in run.reasons.iter().take(MAX_ITEMS) {
        let _ = writeln!(text, "- {}", cell(reason));
    }
    if run.reasons.len() > MAX_ITEMS {
        let _ = writeln!(text, "- and {} more", run.reasons.len() - MAX_ITEMS);
    }
    if run.kind == Kind::Runbook {
        return;
    }
    let _ = writeln!(text, "\n| | measured | objective |\n|---|---:|---:|");
    let or_dash = |value: Option<crate::evidence::Seconds>| value.map_or("–".to_owned(), |v| v.to_string());
    let measured = &run.measured;
    for (what, value, objective) in [
        ("recovery time", measured.recovery_s, run.objectives.rto_s),
        ("age of the snapshot", measured.snapshot_age_s, run.objectives.rpo_s),
        ("worst gap between snapshots", measured.worst_gap_s, run.objectives.rpo_s),
    ] {
        let _ = writeln!(text, "| {what} | {} | {} |", or_dash(value), or_dash(objective));
    }
}

fn mark(result: Outcome) -> &'static str {
    match result {
        Outcome::Pass => "✅ pass",
        Outcome::Fail => "❌ fail",
        Outcome::Skip => "⏭️ skip",
        Outcome::Error => "❔ error",
    }
}

fn checks(run: &Evidence, text: &mut String) {
    if run.checks.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "\n### Checks\n\n| result | check | kind | required | took | |\n|---|---|---|---|---:|---|"
    );
    // what is not green must not be what is left out
    let (green, other): (Vec<_>, Vec<_>) = run.checks.iter().partition(|check| check.result == Outcome::Pass);
    for check in other.into_iter().chain(green).take(MAX_ROWS) {
        let required = if check.required { "yes" } else { "no" };
        let proves = if check.data_proving { "proves data. " } else { "" };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {required} | {} | {proves}{} |",
            mark(check.result),
            cell(&check.id),
            cell(&check.kind),
            check.took_s,
            cell(&check.reason),
        );
    }
    if run.checks.len() > MAX_ROWS {
        let _ = writeln!(text, "\nand {} more", run.checks.len() - MAX_ROWS);
    }
}

// What a procedure did; of a question, what was said.
fn steps(run: &Evidence, text: &mut String) {
    let _ = writeln!(text, "\n### Steps\n\n| result | step | took | |\n|---|---|---:|---|");
    for step in run.steps.iter().take(MAX_ROWS) {
        let said = match step.phase.as_str() {
            QUESTION => step.output.text.replace('\n', " "),
            _ => String::new(),
        };
        let said = if step.reason.is_empty() { said.as_str() } else { &step.reason };
        let (name, said) = (cell(&step.name), cell(said));
        let _ = writeln!(text, "| {} | {name} | {} | {said} |", mark(step.result), step.took_s);
    }
    if run.steps.len() > MAX_ROWS {
        let _ = writeln!(text, "\nand {} more", run.steps.len() - MAX_ROWS);
    }
}

fn phases(run: &Evidence, text: &mut String) {
    if run.measured.phases.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "\n### Phases\n\n| phase | began after | took | in the recovery time |\n|---|---:|---:|---|"
    );
    for phase in run.measured.phases.iter().take(MAX_ROWS) {
        let counted = if phase.counted { "yes" } else { "no" };
        let _ =
            writeln!(text, "| {} | {} | {} | {counted} |", cell(&phase.name), phase.start_s, phase.took_s);
    }
}

// What did not pass, with what it said, as long as there is room.
fn details(run: &Evidence, text: &mut String, limit: usize) {
    let steps = run.steps.iter().filter(|step| step.result != Outcome::Pass).map(|step| {
        (format!("{}: {}", step.phase, step.name), step.result, account_of_step(step, MAX_DETAIL))
    });
    let checks = run.checks.iter().filter(|check| check.result != Outcome::Pass);
    let checks = checks
        .map(|check| (format!("check: {}", check.id), check.result, account_of_check(check, MAX_DETAIL)));
    let mut left_out = 0;
    let mut any = false;
    for (name, result, account) in steps.chain(checks) {
        let section = format!(
            "<details><summary>{}: {}</summary>\n\n{}\n</details>\n\n",
            mark(result),
            cell(&name),
            fenced(&account)
        );
        if text.len() + section.len() > limit {
            left_out += 1;
            continue;
        }
        if !any {
            text.push_str("\n### What did not pass\n\n");
            any = true;
        }
        text.push_str(&section);
    }
    if left_out > 0 {
        let _ = writeln!(text, "{left_out} more did not fit here; the record has them.");
    }
}

fn isolation(run: &Evidence, text: &mut String) {
    let _ = writeln!(text, "\n### Isolation\n\n{}\n", cell(run.isolation.active.meaning()));
    let _ = writeln!(text, "Really active: {}.", cell(&run.isolation.mechanisms.join(", ")));
    list(text, "Not possible on this host", &run.isolation.downgrades);
}

fn self_test(run: &Evidence, text: &mut String) {
    if run.self_test.is_empty() {
        return;
    }
    let unnoticed: Vec<String> =
        run.self_test.iter().filter(|s| s.noticed_by.is_empty()).map(|s| s.name.clone()).collect();
    let noticed = run.self_test.len() - unnoticed.len();
    let _ = writeln!(text, "\n### Self-test\n\n{noticed} of {} sabotages were noticed.", run.self_test.len());
    list(text, "Unnoticed", &unnoticed);
}

fn follow_ups(follow_ups: &[FollowUp], text: &mut String) {
    let signed = follow_ups.iter().flat_map(|f| &f.signoff);
    let signed: Vec<_> = signed.map(|s| format!("{}, {}: {}", s.by, s.at.shown(), s.note)).collect();
    list(text, "Sign-off", &signed);
    list(text, "Issues", &follow_ups.iter().flat_map(|f| f.issues.clone()).collect::<Vec<_>>());
    list(text, "Observations", &follow_ups.iter().flat_map(|f| f.observations.clone()).collect::<Vec<_>>());
    list(text, "Lessons", &follow_ups.iter().flat_map(|f| f.lessons.clone()).collect::<Vec<_>>());
    let actions = follow_ups.iter().flat_map(|f| &f.actions);
    let actions: Vec<_> =
        actions.map(|a| format!("[{}] {} ({}, {})", a.status.word(), a.text, a.owner, a.due)).collect();
    list(text, "Actions", &actions);
}

fn origin(run: &Evidence, text: &mut String) {
    let _ = writeln!(text, "\n---\n\nRun {}, {} UTC", cell(&run.run_id), run.started.shown());
    if let Some(snapshot) = &run.snapshot {
        let _ = writeln!(text, "Snapshot {}, taken {} UTC", cell(&snapshot.id), snapshot.taken_at.shown());
    }
    if let Some(seal) = &run.seal {
        let _ = writeln!(
            text,
            "Logbook record {} of writer {}: {}",
            seal.sequence,
            cell(&seal.writer),
            cell(&seal.record)
        );
    }
    let _ = writeln!(text, "Lifeboat {} on {}", cell(&run.tool.version), cell(&run.host.hostname));
}

fn list(text: &mut String, title: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n### {title}\n");
    for item in items.iter().take(MAX_ITEMS) {
        let _ = writeln!(text, "- {}", cell(item));
    }
    if items.len() > MAX_ITEMS {
        let _ = writeln!(text, "- and {} more", items.len() - MAX_ITEMS);
    }
}

// Text from outside that is only text: one line, no markup, no link, no mention of a user.
pub(super) fn cell(text: &str) -> String {
    let mut out = String::new();
    for c in short(&line(text), MAX_CELL).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // as entities, since a backslash would not stop an automatic link or mention
            '@' => out.push_str("&#64;"),
            ':' => out.push_str("&#58;"),
            '|' => out.push_str("&#124;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '#' | '+' | '-' | '!' | '~'
            | '$' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

// A block of code, with a fence longer than any in it.
fn fenced(text: &str) -> String {
    let (mut longest, mut run) = (0, 0);
    for c in text.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let fence = "`".repeat((longest + 1).max(3));
    format!("{fence}text\n{text}\n{fence}\n")
}

// The last resort: every part is bounded by itself, so that their sum stays far below.
fn bounded(mut text: String) -> String {
    if text.len() > MAX_MARKDOWN {
        let cut = text.floor_char_boundary(MAX_MARKDOWN - 40);
        text.truncate(cut);
        text.push_str("\n\ncut: too long for a summary\n");
    }
    text
}
