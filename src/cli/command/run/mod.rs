//! `run`: a runbook of the plan.

pub mod console;
mod list;
pub mod report;

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::base::Exit;
use crate::base::name::shown;
use crate::cli::command::hotfix::Stand;
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::cli::notified;
use crate::evidence::Evidence;
use crate::evidence::logged::runs;
use crate::logbook;
use crate::plan::{Plan, Step};
use crate::repo::Repo;
use crate::runbook::answer::{Answers, questions, read};
use crate::runbook::{self, Outcome, due};
use crate::state::{Lock, State};

use console::{Desk, People};

/// Run a procedure of the plan, a runbook, step by step
///
/// Exits with 0 if every step passed, 1 if one failed, 22 if none failed but one could not be judged, 3 if only
/// questions are open, 30 if a step failed and the application was rolled back. The record goes into the logbook.
#[derive(clap::Args)]
pub struct RunArgs {
    /// Which runbook
    #[arg(value_name = "NAME", required_unless_present_any = ["list", "due"], conflicts_with_all = ["list", "due"])]
    name: Option<String>,
    /// List the runbooks: when each ran last, how it ended, when it is due
    #[arg(long, conflicts_with_all = ["due", "if_due", "answers", "by", "no_ask", "wait", "no_record"])]
    list: bool,
    /// Run all that are due, one after the other
    #[arg(long, conflicts_with = "no_record")]
    due: bool,
    /// Do nothing if it is not due
    #[arg(long, conflicts_with_all = ["due", "no_record"])]
    if_due: bool,
    #[command(flatten)]
    people: PeopleArgs,
    /// Wait so long for another run of the application to end
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
    /// Run without a repository or a key, and leave no record
    #[arg(long)]
    no_record: bool,
}

/// Who answers questions, and how.
#[derive(clap::Args)]
pub struct PeopleArgs {
    /// Answer a question: the question, its step's name or the beginning of one, then yes, no, n/a or open
    #[arg(long = "answer", value_name = "QUESTION=ANSWER")]
    answers: Vec<String>,
    /// Who gives the answers [default: the user]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Ask nobody: questions without an answer stay open
    #[arg(long)]
    no_ask: bool,
}

impl PeopleArgs {
    /// The answers to questions of these steps, and who gives them.
    ///
    /// # Errors
    /// If one answers no question.
    pub fn people(&self, plan: &Plan, steps: &[&Step]) -> Result<People, CommandError> {
        let answers: Answers = read(&self.answers, &questions(plan, steps)).map_err(CommandError::usage)?;
        Ok(People { answers, by: self.by.clone(), may_ask: !self.no_ask })
    }
}

/// Runs the command.
///
/// # Errors
/// If there is no such runbook, or it could not begin.
pub fn run(args: &RunArgs, context: &Context) -> Result<Exit, CommandError> {
    let plan = context.plan()?;
    if args.list {
        return list::run(&plan, context);
    }
    let names: Vec<&str> = match &args.name {
        Some(name) => vec![named(name, &plan)?],
        None => plan.runbook.keys().map(String::as_str).collect(),
    };
    let steps: Vec<&Step> = names.iter().flat_map(|name| &plan.runbook[*name].steps).collect();
    let people = args.people.people(&plan, &steps)?;
    let state = context.state(&plan)?;
    let desk = Desk::open(args.no_record, context)?;
    let _lock = locked(&state, args.wait, context)?;
    let mut worst = Exit::Done;
    let mut any = false;
    for name in names {
        // the one before it may have run this one too
        if (args.due || args.if_due) && !is_due(name, &plan, desk.repo(), context)? {
            continue;
        }
        any = true;
        let exit = one(name, &plan, &people, &desk, context)?;
        worst = worse(worst, exit);
        if exit == Exit::Interrupted {
            break;
        }
    }
    if !any {
        nothing(args, context)?;
    }
    Ok(worst)
}

fn nothing(args: &RunArgs, context: &Context) -> Result<(), CommandError> {
    if context.json() {
        return context
            .document(&serde_json::json!({"message_type": "summary", "due": Value::Array(Vec::new())}));
    }
    context.say(args.name.as_ref().map_or_else(
        || "no runbook is due; lifeboat run --list says when one will be".to_owned(),
        |name| format!("{} is not due; lifeboat run --list says when it will be", shown(name.as_bytes())),
    ));
    Ok(())
}

fn one(
    name: &str,
    plan: &Plan,
    people: &People,
    desk: &Desk<'_>,
    context: &Context,
) -> Result<Exit, CommandError> {
    let operation = format!("run {name}");
    notified::around(&operation, context, || {
        let stand = Stand::now(plan);
        let outcome = desk.with(plan, people, context, |setting| runbook::run(name, setting))?;
        told(&operation, &outcome, context);
        report::show(&outcome, &stand, context)?;
        Ok(outcome.end.exit())
    })
}

/// Says how a run went, for whoever is told.
pub fn told(operation: &str, outcome: &Outcome, context: &Context) {
    let run = &outcome.run;
    context.outcome(
        format!("{operation}: {}", run.headline()),
        if run.verdict == crate::evidence::Verdict::Pass { Vec::new() } else { run.reasons.clone() },
    );
}

fn named<'p>(name: &str, plan: &'p Plan) -> Result<&'p str, CommandError> {
    if let Some((name, _)) = plan.runbook.get_key_value(name) {
        return Ok(name);
    }
    let names: Vec<String> = plan.runbook.keys().map(|name| shown(name.as_bytes())).collect();
    let next = match &names[..] {
        [] => "write one into the plan; docs/runbooks.md has examples".to_owned(),
        names => format!("use one of {}", names.join(", ")),
    };
    Err(CommandError::usage(format!("the plan has no runbook called {}", shown(name.as_bytes()))).next(next))
}

/// The one run that an application may have at a time.
///
/// # Errors
/// If another has it for longer than the wait.
pub fn locked(state: &State, wait: Option<Duration>, context: &Context) -> Result<Lock, CommandError> {
    const PIECE: Duration = Duration::from_millis(100);
    let end = Instant::now() + wait.unwrap_or_default();
    let stop = context.stop();
    loop {
        let lock = state.lock("run.lock").map_err(|error| CommandError::of(Exit::Failed, &error))?;
        if let Some(lock) = lock {
            return Ok(lock);
        }
        if stop.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(CommandError::new(Exit::Interrupted, "interrupted while it waited for another run"));
        }
        if Instant::now() >= end {
            let text = "another runbook or maintenance of this application is under way";
            return Err(CommandError::new(Exit::Locked, text)
                .next("wait until it has ended, or give --wait TIME to lifeboat run"));
        }
        std::thread::sleep(PIECE);
    }
}

/// The runs of the logbook, oldest first.
///
/// # Errors
/// If it cannot be read.
pub fn past(repo: &Repo) -> Result<Vec<Evidence>, CommandError> {
    Ok(runs(&logbook::read(repo)?))
}

fn is_due(name: &str, plan: &Plan, repo: Option<&Repo>, context: &Context) -> Result<bool, CommandError> {
    // --no-record goes with neither --due nor --if-due
    let Some(repo) = repo else { return Ok(true) };
    let runs = past(repo)?;
    let now = context.clock().now();
    let last = due::last(name, &runs, now);
    if last.in_future > 0 {
        warn_of_future(name, last.in_future, context);
    }
    let started = last.run.map(|run| run.started);
    let found = due::due(&plan.runbook[name], started, &now.0.with_timezone(&chrono::Local));
    Ok(found.map_err(CommandError::usage)?.is_due)
}

/// Says that a clock was moved.
pub fn warn_of_future(name: &str, count: usize, context: &Context) {
    let runs = crate::base::size::plural(count as u64, "run");
    let text = format!(
        "{runs} of {} are recorded as of the future: the clock was moved; they are not counted",
        shown(name.as_bytes())
    );
    context.warn("clock-moved", &text);
}

// Of several runs the one that matters most.
fn worse(a: Exit, b: Exit) -> Exit {
    const ORDER: [Exit; 7] = [
        Exit::Done,
        Exit::Partial,
        Exit::Inconclusive,
        Exit::Failed,
        Exit::RolledBack,
        Exit::RollbackFailed,
        Exit::Interrupted,
    ];
    let rank = |exit: Exit| ORDER.iter().position(|other| *other == exit).unwrap_or(ORDER.len());
    if rank(b) > rank(a) { b } else { a }
}
