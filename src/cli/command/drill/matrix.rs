//! `drill --matrix`: how far back does the application come up?

use serde::Serialize;

use super::{DrillArgs, hash_of, of_tree, options, refused};
use crate::base::Exit;
use crate::cli::context::Context;
use crate::cli::env;
use crate::cli::error::CommandError;
use crate::cli::table::{Kind, Table};
use crate::drill::{Subject, rehearse};
use crate::evidence::{Evidence, Outcome, Verdict};
use crate::plan::{OnMiss, Plan};
use crate::repo::Repo;
use crate::repo::documents::Snapshot;

/// One snapshot. Fields are added, never renamed.
#[derive(Serialize)]
struct Row {
    snapshot: String,
    taken_at: crate::base::time::Timestamp,
    verdict: &'static str,
    /// In the order of the plan's test commands; a word each, `-` if it was not run.
    tests: Vec<&'static str>,
    /// Whether the server became ready.
    server: &'static str,
    /// How many of the required checks passed, and of how many that were run.
    checks: (usize, usize),
    reasons: Vec<String>,
}

/// Rehearses the snapshots one after the other, newest first.
///
/// # Errors
/// If a rehearsal could not begin.
pub fn run(args: &DrillArgs, plan: &Plan, repo: &Repo, context: &Context) -> Result<Exit, CommandError> {
    let snapshots = context.snapshots(repo)?;
    let options = options(args, plan, repo, context)?;
    let plan_sha256 = hash_of(plan.file())?;
    let most = args.last.map_or(usize::MAX, usize::from);
    let (mut rows, mut newest, mut interrupted) = (Vec::new(), None, false);
    for snapshot in of_tree(&plan.root(), &snapshots).into_iter().rev().take(most) {
        let plan_sha256 = plan_sha256.clone();
        let subject =
            Subject { repo, snapshot, kept: &snapshots, plan, plan_sha256, same_as_last_drill: false };
        let observer = context.observer();
        let run = rehearse(&subject, &options, env::sudo_user(), &*observer).map_err(refused)?;
        let run = run.judged();
        newest.get_or_insert(run.verdict);
        rows.push(row(snapshot, plan, &run));
        if observer.interrupted() {
            interrupted = true;
            break;
        }
    }
    if rows.is_empty() {
        let text = format!("no snapshot that is kept holds {}", plan.root().display());
        return Err(CommandError::new(Exit::Inconclusive, text)
            .next("lifeboat snapshot, next to the plan, takes one"));
    }
    if context.json() {
        context.document(&rows)?;
    } else {
        context.print(&table(&rows, plan, context))?;
    }
    // the newest is the one that counts; older ones fail because the tests have grown
    Ok(match newest.unwrap_or_default().exit() {
        _ if interrupted => Exit::Interrupted,
        Exit::ObjectiveMissed if plan.drill.on_objective_missed == OnMiss::Warn => Exit::Done,
        exit => exit,
    })
}

fn row(snapshot: &Snapshot, plan: &Plan, run: &Evidence) -> Row {
    let word = |result: Option<Outcome>| match result {
        None => "-",
        Some(Outcome::Pass) => "pass",
        Some(Outcome::Fail) => "FAIL",
        Some(Outcome::Skip) => "skip",
        Some(Outcome::Error) => "ERROR",
    };
    let of_phase = |phase: &str| {
        run.steps.iter().filter(move |s| s.phase == phase).map(|s| s.result).collect::<Vec<_>>()
    };
    let tests = of_phase("tests");
    let required: Vec<_> = run.checks.iter().filter(|check| check.required).collect();
    let passed = required.iter().filter(|check| check.result == Outcome::Pass).count();
    Row {
        snapshot: snapshot.id.short(),
        taken_at: snapshot.document.started,
        verdict: run.verdict.word(),
        tests: (0..plan.drill.tests.len()).map(|at| word(tests.get(at).copied())).collect(),
        server: if run.measured.recovery_s.is_some() { "ready" } else { "-" },
        checks: (passed, required.len()),
        reasons: if run.verdict == Verdict::Pass { Vec::new() } else { run.reasons.clone() },
    }
}

fn table(rows: &[Row], plan: &Plan, context: &Context) -> String {
    let names: Vec<String> = (1..=plan.drill.tests.len()).map(|number| format!("test {number}")).collect();
    let mut columns = vec![("snapshot", Kind::Word), ("taken", Kind::Word)];
    columns.extend(names.iter().map(|name| (name.as_str(), Kind::Word)));
    columns.extend([
        ("server", Kind::Word),
        ("checks", Kind::Number),
        ("verdict", Kind::Word),
        ("why", Kind::Text),
    ]);
    let mut table = Table::new(&columns);
    for row in rows {
        let (taken, checks) = (row.taken_at.shown(), format!("{}/{}", row.checks.0, row.checks.1));
        let why = row.reasons.first().cloned().unwrap_or_default();
        let mut cells = vec![row.snapshot.as_str(), &taken];
        cells.extend(&row.tests);
        cells.extend([row.server, &checks, row.verdict, &why]);
        table.row(cells);
    }
    let mut text = table.render(context.width());
    for (name, line) in names.iter().zip(&plan.drill.tests) {
        text.push_str(&format!("{name}: {line}\n"));
    }
    text
}
