//! `health`: the plan's checks, now.

use serde_json::json;

use crate::base::Exit;
use crate::base::name::shown;
use crate::check::{Check, Context as CheckContext, Outcome, Verdict, run_all};
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::cli::table::{Kind, Table};
use crate::plan::Plan;

/// Run the plan's checks now
///
/// Exits with 0 if every required check passed, with 1 if one failed, and with 22 if none failed but one could
/// not be judged.
#[derive(clap::Args)]
pub struct HealthArgs {
    /// Only these checks; all of the plan if none is named
    #[arg(value_name = "CHECK")]
    names: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// If there is no plan, or it has no such check.
pub fn run(args: &HealthArgs, context: &Context) -> Result<Exit, CommandError> {
    let plan = context.plan()?;
    let checks = chosen(args, &plan)?;
    let found =
        run_all(&checks, &CheckContext { stop: Some(context.stop()), ..CheckContext::new(plan.directory()) });
    let (verdict, exit) = judge(&found);
    let wrong = found.iter().filter(|one| one.required && one.outcome != Outcome::Pass);
    let wrong: Vec<String> = wrong.map(|one| format!("{}: {}", one.name, one.reason)).collect();
    context.outcome(format!("health: {}", verdict.word()), wrong);
    if context.json() {
        let answer = json!({"application": plan.name(), "verdict": verdict, "checks": found});
        context.document(&answer)?;
    } else {
        context.print(&table(&found).render(context.width()))?;
    }
    Ok(exit)
}

fn chosen<'p>(args: &HealthArgs, plan: &'p Plan) -> Result<Vec<&'p Check>, CommandError> {
    if plan.check.is_empty() {
        return Err(CommandError::usage("the plan has no check")
            .next("add a [[check]]; docs/checks.md has one of each kind"));
    }
    if args.names.is_empty() {
        return Ok(plan.check.iter().collect());
    }
    let find = |name: &String| {
        plan.check_named(name).ok_or_else(|| {
            let names: Vec<String> = plan.check.iter().map(|check| shown(check.name().as_bytes())).collect();
            CommandError::usage(format!("the plan has no check called {}", shown(name.as_bytes())))
                .next(format!("use one of {}", names.join(", ")))
        })
    };
    args.names.iter().map(find).collect()
}

fn judge(found: &[Verdict]) -> (Outcome, Exit) {
    let any = |outcome| found.iter().any(|verdict| verdict.required && verdict.outcome == outcome);
    if any(Outcome::Fail) {
        (Outcome::Fail, Exit::Failed)
    } else if any(Outcome::Error) {
        (Outcome::Error, Exit::Inconclusive)
    } else {
        (Outcome::Pass, Exit::Done)
    }
}

fn table(found: &[Verdict]) -> Table {
    let columns = [
        ("check", Kind::Text),
        ("kind", Kind::Word),
        ("verdict", Kind::Word),
        ("time", Kind::Number),
        ("found", Kind::Text),
    ];
    let mut table = Table::new(&columns);
    for verdict in found {
        let mut word = verdict.outcome.word().to_owned();
        if !verdict.required {
            word.push_str(" (optional)");
        }
        let time = format!("{:.2} s", verdict.took);
        table.row([&verdict.name, &verdict.kind, &word, &time, &verdict.reason.replace('\n', " ")]);
    }
    table
}

/// What `__check` reads.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    check: Check,
    context: CheckContext,
}

/// Run one check that is read from stdin
#[derive(clap::Args)]
pub struct OneArgs {}

/// Runs one check, so that it can be done inside of other namespaces: a JSON object of `check` and
/// `context` on stdin, the verdict on stdout.
///
/// # Errors
/// If what is read is no check.
pub fn one(_: &OneArgs, context: &Context) -> Result<Exit, CommandError> {
    let question: Question = serde_json::from_reader(std::io::stdin().lock())
        .map_err(|error| CommandError::usage(format!("there is no check on stdin: {error}")))?;
    let asked = CheckContext { stop: Some(context.stop()), ..question.context };
    context.document(&question.check.run(&asked))?;
    Ok(Exit::Done)
}
