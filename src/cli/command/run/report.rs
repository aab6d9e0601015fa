//! A runbook's record, as people see it.

use crate::base::name::shown;
use crate::base::size;
use crate::cli::command::hotfix::Stand;
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::cli::table::{Kind, Table};
use crate::evidence::{Outcome as Result, Step};
use crate::runbook::{End, Outcome};

/// Shows a run that is over.
///
/// # Errors
/// If it cannot be written.
pub fn show(outcome: &Outcome, stand: &Stand, context: &Context) -> std::result::Result<(), CommandError> {
    show_as(outcome, headline(outcome), stand, context)
}

/// The same, with this headline.
///
/// # Errors
/// As there.
pub fn show_as(
    outcome: &Outcome,
    headline: &str,
    stand: &Stand,
    context: &Context,
) -> std::result::Result<(), CommandError> {
    if context.json() {
        return context.document(&outcome.run);
    }
    context.print(&(text(outcome, headline, context) + &stand.advice()))
}

/// How a step came out, in a word.
pub fn mark(step: &Step) -> &'static str {
    match step.result {
        Result::Pass => "pass",
        Result::Fail => "FAIL",
        Result::Skip if step.is_open() => "open",
        Result::Skip if step.is_excused() => "unknown",
        Result::Skip => "skip",
        Result::Error => "ERROR",
    }
}

fn text(outcome: &Outcome, headline: &str, context: &Context) -> String {
    let run = &outcome.run;
    let mut table =
        Table::new(&[("step", Kind::Text), ("", Kind::Word), ("time", Kind::Number), ("why", Kind::Text)]);
    let safe = |text: &str| shown(text.as_bytes()).replace("\\\\", "\\");
    for step in &run.steps {
        let time = size::duration(step.took_s.duration());
        table.row([safe(&step.name), mark(step).to_owned(), time, safe(&step.reason)]);
    }
    let mut text = table.render(context.width());
    for step in run.steps.iter().filter(|step| is_told(step)) {
        text.push_str(&format!("\nlast lines of `{}`:\n", safe(&step.name)));
        for line in step.output.last_lines(20).lines() {
            text.push_str(&format!("  {}\n", safe(line)));
        }
    }
    text.push_str(&format!("\n{}, {}: {}\n", safe(&run.app), safe(&run.scenario), headline));
    for line in run.deviations.iter().chain(&run.reasons) {
        text.push_str(&format!("  {}\n", safe(line)));
    }
    match &run.seal {
        Some(seal) => text.push_str(&format!(
            "record {} (lifeboat log export --format html --record {0})\n",
            &seal.record[..8]
        )),
        None => text.push_str("no record was kept\n"),
    }
    text
}

// What is asked for next after a failure, and what maintenance is for.
fn is_told(step: &Step) -> bool {
    let is_bad = matches!(step.result, Result::Fail | Result::Error);
    !step.output.is_empty() && (is_bad || step.phase == "changes")
}

fn headline(outcome: &Outcome) -> &'static str {
    match outcome.end {
        End::RolledBack => "FAILED, ROLLED BACK",
        End::RollbackFailed => "FAILED, AND SO DID THE ROLLBACK",
        End::Interrupted => "INTERRUPTED",
        _ => outcome.run.headline(),
    }
}
