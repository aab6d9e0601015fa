//! A drill's record, as tables.

use crate::base::size;
use crate::cli::context::Context;
use crate::cli::table::{Kind, Table};
use crate::drill::self_test::Score;
use crate::evidence::{Evidence, Outcome, Seconds};

/// The record for people at a terminal.
pub fn text(run: &Evidence, context: &Context) -> String {
    let mut table =
        Table::new(&[("phase", Kind::Word), ("", Kind::Word), ("time", Kind::Number), ("what", Kind::Text)]);
    let time = |seconds: Seconds| size::duration(seconds.duration());
    for phase in &run.measured.phases {
        let counted = if phase.counted { "counts as recovery" } else { "" };
        table.row([phase.name.as_str(), "", &time(phase.took_s), counted]);
    }
    for step in &run.steps {
        let what = because(&step.name, &step.reason);
        table.row([step.phase.as_str(), mark(step.result), &time(step.took_s), &what]);
    }
    for check in &run.checks {
        // all that was seen is in the record
        let seen = check.observed.lines().next().unwrap_or_default();
        let what = because(&check.id, if check.reason.is_empty() { seen } else { &check.reason });
        table.row(["check", mark(check.result), &time(check.took_s), &what]);
    }
    let mut text = table.render(context.width());
    for step in run.steps.iter().filter(|step| step.result != Outcome::Pass && !step.output.is_empty()) {
        text.push_str(&format!("\nlast lines of `{}`:\n", step.name));
        for line in step.output.last_lines(20).lines() {
            text.push_str(&format!("  {}\n", crate::base::name::shown(line.as_bytes())));
        }
    }
    text.push_str(&format!("\n{}: {}\n", run.app, run.headline()));
    for reason in &run.reasons {
        text.push_str(&format!("  {reason}\n"));
    }
    text.push_str(&measured(run));
    for deviation in &run.deviations {
        text.push_str(&format!("otherwise than planned: {deviation}\n"));
    }
    text.push_str("not tested:\n");
    for item in &run.not_tested {
        text.push_str(&format!("  {item}\n"));
    }
    if let Some(seal) = &run.seal {
        text.push_str(&format!(
            "record {} (lifeboat log export --format html --record {0})\n",
            &seal.record[..8]
        ));
    }
    text
}

fn measured(run: &Evidence) -> String {
    let shown = |seconds: Option<Seconds>| {
        seconds.map_or_else(|| "not measured".to_owned(), |s| size::duration(s.duration()))
    };
    let against = |objective: Option<Seconds>| {
        objective.map(|s| format!(" (objective {})", size::duration(s.duration()))).unwrap_or_default()
    };
    format!(
        "recovery time {}{}; possible loss {}{}; isolation: {}\n",
        shown(run.measured.recovery_s),
        against(run.objectives.rto_s),
        shown(run.measured.loss()),
        against(run.objectives.rpo_s),
        run.isolation.active.meaning()
    )
}

fn because(what: &str, reason: &str) -> String {
    if reason.is_empty() { what.to_owned() } else { format!("{what}: {reason}") }
}

fn mark(result: Outcome) -> &'static str {
    match result {
        Outcome::Pass => "pass",
        Outcome::Fail => "FAIL",
        Outcome::Skip => "skip",
        Outcome::Error => "ERROR",
    }
}

/// The self-test as a table with its score.
pub fn scored(score: &Score, context: &Context) -> String {
    let mut table = Table::new(&[
        ("self-test", Kind::Text),
        ("", Kind::Word),
        ("what was done, what noticed it", Kind::Text),
    ]);
    for trial in &score.trials {
        let (mark, what) = match (&trial.done, &trial.noticed_by[..]) {
            (None, _) => ("-", trial.why.clone()),
            (Some(done), []) if !trial.why.is_empty() => {
                ("ERROR", format!("{done}; not judged: {}", trial.why))
            }
            (Some(done), []) => ("MISSED", format!("{done}; nothing noticed it: {} would", trial.advice)),
            (Some(done), [first, rest @ ..]) => {
                let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
                ("noticed", format!("{done}: {}{more}", cut(first)))
            }
        };
        table.row([trial.name, mark, &what]);
    }
    let percent = (score.noticed * 100).checked_div(score.done).unwrap_or_default();
    format!(
        "{}score: {} of {} noticed, {percent} %\n",
        table.render(context.width()),
        score.noticed,
        score.done
    )
}

// The beginning of a long command; all of it is in the record.
fn cut(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}
