//! `maintenance`: work with a beginning and an end.

use std::ffi::OsString;

use serde_json::{Value, json};

use super::run::console::{Desk, globals};
use super::run::{PeopleArgs, locked, report, told};
use crate::base::Exit;
use crate::base::name::shown;
use crate::base::size;
use crate::cli::command::hotfix::Stand;
use crate::cli::context::Context;
use crate::cli::env;
use crate::cli::error::CommandError;
use crate::cli::notified;
use crate::plan::{Plan, Step};
use crate::runbook::maintenance::{Begun, STATE, abort, begin, differences, end, recorded};
use crate::runbook::{End, Outcome, WITHIN};
use crate::state::State;
use crate::sys::process::{Program, Run};

/// Begin and end work on the application, so that it can be undone and is recorded
///
/// The exit statuses are those of `lifeboat run`.
#[derive(clap::Args)]
pub struct MaintenanceArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Take a snapshot, record the configuration, see that all is well and that a rollback is possible
    Begin(BeginArgs),
    /// Test, check and watch the application, list what has changed, and write it down
    End(EndArgs),
    /// Say whether a maintenance is under way, and what has changed so far
    Status,
    /// Give it up; what has changed is left as it is, unless it is rolled back
    Abort(AbortArgs),
}

#[derive(clap::Args)]
struct BeginArgs {
    /// What the work is for
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    people: PeopleArgs,
}

#[derive(clap::Args)]
struct EndArgs {
    #[command(flatten)]
    people: PeopleArgs,
}

#[derive(clap::Args)]
struct AbortArgs {
    /// Bring the application back to the snapshot of the beginning
    #[arg(long)]
    rollback: bool,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    people: PeopleArgs,
}

/// Runs the command.
///
/// # Errors
/// If it could not begin.
pub fn run(args: &MaintenanceArgs, context: &Context) -> Result<Exit, CommandError> {
    let plan = context.plan()?;
    let state = context.state(&plan)?;
    match &args.action {
        Action::Begin(args) => begins(args, &plan, &state, context),
        Action::End(args) => ends(args, &plan, &state, context),
        Action::Status => status(&plan, &state, context),
        Action::Abort(args) => aborts(args, &plan, &state, context),
    }
}

fn under_way(state: &State) -> Result<Option<Begun>, CommandError> {
    state.read(STATE).map_err(|error| {
        CommandError::of(Exit::Failed, &error)
            .next("lifeboat log show --kind runbook shows what has begun; remove the file to forget it")
    })
}

fn none() -> CommandError {
    CommandError::new(Exit::Failed, "no maintenance is under way").next(
        "lifeboat maintenance begin begins one; lifeboat log show --kind runbook shows those that have ended",
    )
}

fn begins(args: &BeginArgs, plan: &Plan, state: &State, context: &Context) -> Result<Exit, CommandError> {
    let steps: Vec<&Step> = plan.maintenance.begin.iter().collect();
    let people = args.people.people(plan, &steps)?;
    let desk = Desk::open(false, context)?;
    let _lock = locked(state, None, context)?;
    if let Some(begun) = under_way(state)? {
        let (at, by) = (begun.at.shown(), shown(begun.by.as_bytes()));
        let text = format!("a maintenance is under way since {at} UTC, begun by {by}");
        return Err(CommandError::new(Exit::Failed, text)
            .next("lifeboat maintenance end ends it, lifeboat maintenance abort gives it up"));
    }
    around("maintenance begin", context, || {
        let stand = Stand::now(plan);
        let (outcome, begun) = desk.with(plan, &people, context, |setting| begin(&args.reason, setting))?;
        if let Some(begun) = &begun {
            state.write(STATE, begun).map_err(|error| {
                CommandError::of(Exit::Failed, &error)
                    .next("the maintenance has not begun; nothing was changed")
            })?;
        }
        report::show(&outcome, &stand, context)?;
        context.say(match &begun {
            Some(begun) => format!(
                "the maintenance has begun; until lifeboat maintenance end, lifeboat maintenance abort --rollback goes back to {}",
                &begun.snapshot[..8]
            ),
            None => "the maintenance has NOT begun".to_owned(),
        });
        Ok(outcome)
    })
}

fn ends(args: &EndArgs, plan: &Plan, state: &State, context: &Context) -> Result<Exit, CommandError> {
    let steps: Vec<&Step> = plan.maintenance.end.iter().collect();
    let people = args.people.people(plan, &steps)?;
    let desk = Desk::open(false, context)?;
    let _lock = locked(state, None, context)?;
    let begun = under_way(state)?.ok_or_else(none)?;
    around("maintenance end", context, || {
        let stand = Stand::now(plan);
        let outcome = desk.with(plan, &people, context, |setting| end(&begun, setting))?;
        let is_over = matches!(outcome.end, End::Pass | End::Open | End::RolledBack);
        if is_over {
            forget(state)?;
        }
        report::show(&outcome, &stand, context)?;
        context.say(if is_over {
            "the maintenance is over".to_owned()
        } else {
            "the maintenance is NOT over: mend what failed and say lifeboat maintenance end again, or lifeboat maintenance abort --rollback".to_owned()
        });
        Ok(outcome)
    })
}

fn aborts(args: &AbortArgs, plan: &Plan, state: &State, context: &Context) -> Result<Exit, CommandError> {
    let people = args.people.people(plan, &[])?;
    let desk = Desk::open(false, context)?;
    let _lock = locked(state, None, context)?;
    let begun = under_way(state)?.ok_or_else(none)?;
    around("maintenance abort", context, || {
        let stand = Stand::now(plan);
        let outcome =
            desk.with(plan, &people, context, |setting| abort(&begun, &args.reason, args.rollback, setting))?;
        let is_over = matches!(outcome.end, End::Pass | End::RolledBack);
        if is_over {
            forget(state)?;
        }
        // it was asked for: that it went back is what is wanted
        match outcome.end {
            End::RolledBack => report::show_as(&outcome, "ROLLED BACK", &stand, context)?,
            _ => report::show(&outcome, &stand, context)?,
        }
        Ok(Outcome { end: if outcome.end == End::RolledBack { End::Pass } else { outcome.end }, ..outcome })
    })
}

fn forget(state: &State) -> Result<(), CommandError> {
    state.remove(STATE).map_err(|error| CommandError::of(Exit::Failed, &error))
}

fn around(
    operation: &str,
    context: &Context,
    act: impl FnOnce() -> Result<Outcome, CommandError>,
) -> Result<Exit, CommandError> {
    notified::around(operation, context, || {
        let outcome = act()?;
        told(operation, &outcome, context);
        Ok(outcome.end.exit())
    })
}

fn status(plan: &Plan, state: &State, context: &Context) -> Result<Exit, CommandError> {
    let Some(begun) = under_way(state)? else {
        if context.json() {
            context.document(&json!({"under_way": false}))?;
        } else {
            context.print("no maintenance is under way\n")?;
        }
        return Ok(Exit::Done);
    };
    let now = context.clock().now();
    let configuration = recorded(plan).map_or_else(
        |why| format!("the configuration cannot be compared: {why}\n"),
        |now| differences(&begun.configuration, &now),
    );
    let changes = changes(plan, &begun, context)?;
    if context.json() {
        let counts: Value =
            changes.lines().rev().find_map(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        context.document(&json!({
            "under_way": true,
            "maintenance": begun,
            "seconds": now.since(begun.at).as_secs(),
            "configuration": configuration.lines().collect::<Vec<_>>(),
            "changes": counts["counts"],
        }))?;
        return Ok(Exit::Done);
    }
    let mut text = format!(
        "a maintenance is under way for {}, since {} UTC, begun by {}\n",
        size::duration(now.since(begun.at)),
        begun.at.shown(),
        shown(begun.by.as_bytes())
    );
    if !begun.reason.is_empty() {
        text.push_str(&format!("reason: {}\n", shown(begun.reason.as_bytes())));
    }
    for question in &begun.open {
        text.push_str(&format!("not answered: {}\n", shown(question.as_bytes())));
    }
    text.push_str(&format!(
        "what has changed since snapshot {}:\n{configuration}{changes}",
        &begun.snapshot[..8]
    ));
    context.print(&text)?;
    Ok(Exit::Done)
}

// As `lifeboat diff --live` says it.
fn changes(plan: &Plan, begun: &Begun, context: &Context) -> Result<String, CommandError> {
    let program = env::program().map_err(|e| CommandError::of(Exit::Inconclusive, &e))?;
    let mut line: Vec<OsString> = vec![program.into_os_string()];
    line.extend(globals(plan, context));
    line.extend(["diff", "--live"].map(OsString::from));
    if context.json() {
        line.push("--json".into());
    }
    for pattern in &plan.app.exclude {
        line.extend(["--exclude".into(), OsString::from(pattern)]);
    }
    line.push(OsString::from(&begun.snapshot));
    let stop = context.stop();
    let run = Run {
        environment: vec![(WITHIN.into(), "maintenance status".into())],
        merge: !context.json(),
        ..Run::new(Program::Argv(line))
    };
    let ended = run
        .run(&|| stop.load(std::sync::atomic::Ordering::Relaxed))
        .map_err(|error| CommandError::of(Exit::Inconclusive, &error))?;
    Ok(String::from_utf8_lossy(&ended.stdout.text()).into_owned())
}
