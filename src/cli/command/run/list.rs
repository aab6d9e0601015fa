//! `run --list`: when each runbook ran last, and when it is due.

use serde::Serialize;

use super::{past, warn_of_future};
use crate::base::Exit;
use crate::base::name::shown;
use crate::base::size;
use crate::base::time::Timestamp;
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::cli::table::{Kind, Table};
use crate::plan::Plan;
use crate::runbook::due;

/// A runbook. Fields are added, never renamed.
#[derive(Serialize)]
struct Row<'p> {
    name: &'p str,
    description: Option<&'p str>,
    schedule: Option<&'p str>,
    every: Option<String>,
    last_run: Option<Timestamp>,
    last_verdict: Option<String>,
    last_run_id: Option<String>,
    next_due: Option<Timestamp>,
    due: bool,
    overdue_seconds: Option<u64>,
}

/// Shows the runbooks of a plan.
///
/// # Errors
/// If the logbook cannot be read.
pub fn run(plan: &Plan, context: &Context) -> Result<Exit, CommandError> {
    let runs = past(&context.open_repo()?)?;
    let now = context.clock().now();
    let mut rows = Vec::new();
    for (name, runbook) in &plan.runbook {
        let last = due::last(name, &runs, now);
        if last.in_future > 0 {
            warn_of_future(name, last.in_future, context);
        }
        let started = last.run.map(|run| run.started);
        let found = due::due(runbook, started, &now.0.with_timezone(&chrono::Local));
        let found = found.map_err(CommandError::usage)?;
        let overdue = found.at.filter(|at| found.is_due && started.is_some() && *at < now);
        rows.push(Row {
            name,
            description: runbook.description.as_deref(),
            schedule: runbook.schedule.as_deref(),
            every: runbook.every.map(|span| span.to_string()),
            last_run: started,
            last_verdict: last.run.map(|run| run.headline().to_lowercase()),
            last_run_id: last.run.map(|run| run.run_id.clone()),
            next_due: found.at.filter(|_| started.is_some()),
            due: found.is_due,
            overdue_seconds: overdue.map(|at| now.since(at).as_secs()),
        });
    }
    if context.json() {
        context.document(&serde_json::json!({ "runbooks": rows }))?;
    } else if rows.is_empty() {
        context.say("the plan has no runbook; docs/runbooks.md has examples");
    } else {
        context.print(&table(&rows, now).render(context.width()))?;
    }
    Ok(Exit::Done)
}

fn table(rows: &[Row<'_>], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        ("runbook", Kind::Word),
        ("last run (UTC)", Kind::Word),
        ("verdict", Kind::Word),
        ("due (UTC)", Kind::Word),
        ("", Kind::Word),
        ("what it is for", Kind::Text),
    ]);
    let dash = || "-".to_owned();
    for row in rows {
        let state = match (row.due, row.next_due) {
            (true, Some(at)) => format!("DUE for {}", size::duration(now.since(at))),
            (true, None) => "DUE, never run".to_owned(),
            (false, Some(at)) => format!("in {}", size::duration(at.since(now))),
            (false, None) => "when it is needed".to_owned(),
        };
        table.row([
            shown(row.name.as_bytes()),
            row.last_run.map_or_else(dash, Timestamp::shown),
            row.last_verdict.clone().unwrap_or_else(dash),
            row.next_due.map_or_else(dash, Timestamp::shown),
            state,
            shown(row.description.unwrap_or_default().as_bytes()),
        ]);
    }
    table
}
