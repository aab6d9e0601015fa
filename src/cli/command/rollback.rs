//! `rollback` and `undo`: the living application back to a snapshot, and forward again.

use std::ffi::OsString;
use std::io::{BufRead as _, IsTerminal as _, Write as _};

use serde_json::json;

use super::hotfix::Desk;
use crate::base::Exit;
use crate::base::size;
use crate::catalog::select::Filters;
use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::guard;
use crate::rollback::{
    self, Direction, Ended, Goal, Options, Outcome, Proposal, RollbackError, Subject, Way,
};

/// Bring the living application back to a snapshot: files, databases and service together
///
/// The new tree is built beside the live one while the service runs, then the two change their names in one step. Without a
/// snapshot, the newest that passed a drill is taken if it is not much older than the newest of all. What is live now is saved first, and
/// `undo` brings it again. A rollback that fails is taken back by itself. The exit status is 0 if it was done, 30 if it was taken
/// back, 31 if that failed too, and 1 if it was refused and nothing was touched. docs/rollback.md says what happens when.
#[derive(clap::Args)]
pub struct RollbackArgs {
    /// Where to: an id, `latest`, `latest~2` or `@tag`
    snapshot: Option<OsString>,
    /// Show what would happen and what would stop it; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Take the newest snapshot, drilled or not
    #[arg(long, conflicts_with = "snapshot")]
    newest: bool,
    /// Rewrite files in the live tree itself, where it cannot be exchanged; not atomic
    #[arg(long)]
    in_place: bool,
    /// Take no snapshot of what is live now
    #[arg(long, conflicts_with = "in_place")]
    no_safety: bool,
    /// Leave the plan's databases as they are
    #[arg(long)]
    keep_databases: bool,
    /// Take nothing back because of a service that does not start or is not ready, or of checks that fail: only tell it
    #[arg(long)]
    accept_unhealthy: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Bring a rollback that was cut off to an end: forward if the trees were exchanged, else back
    #[arg(long, conflicts_with_all = ["snapshot", "dry_run", "newest", "in_place", "no_safety", "keep_databases"])]
    resume: bool,
    /// Take a rollback that was cut off back
    #[arg(long, conflicts_with_all = ["resume", "snapshot", "dry_run", "newest", "in_place", "no_safety", "keep_databases", "accept_unhealthy"])]
    abort: bool,
}

/// Take the last rollback back: the tree it put aside, in one step
#[derive(clap::Args)]
pub struct UndoArgs {
    /// Show what would happen and what would stop it; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Take no snapshot of what is live now
    #[arg(long)]
    no_safety: bool,
    /// Take nothing back because of a service that does not start or is not ready, or of checks that fail: only tell it
    #[arg(long)]
    accept_unhealthy: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Remove the tree that the last rollback put aside: nothing can be undone then
    #[arg(long, conflicts_with_all = ["dry_run", "no_safety", "accept_unhealthy", "reason"])]
    drop: bool,
}

/// Runs `rollback`.
///
/// # Errors
/// If it was refused.
pub fn run(args: &RollbackArgs, context: &Context) -> Result<Exit, CommandError> {
    let desk = Desk::open(context)?;
    not_armed(&desk)?;
    let subject = desk.subject(context)?;
    if args.resume || args.abort {
        let direction = match (args.abort, args.accept_unhealthy) {
            (true, _) => Direction::Revert,
            (false, true) => Direction::FinishUnhealthy,
            (false, false) => Direction::Finish,
        };
        let outcome = rollback::resume(&subject, direction, &*context.observer()).map_err(refused)?;
        context.remember(&desk.repo);
        return told(&outcome, context);
    }
    let goal = match &args.snapshot {
        Some(text) => {
            let snapshots = context.snapshots(&desk.repo)?;
            Goal::Snapshot(context.choose(&args::snapshot(text)?, &snapshots, &Filters::default())?.id)
        }
        None if args.newest => Goal::Newest,
        None => Goal::Previous,
    };
    let options = Options {
        goal,
        way: if args.in_place { Way::InPlace } else { Way::Exchange },
        safety: !args.no_safety,
        keep_databases: args.keep_databases,
        accept_unhealthy: args.accept_unhealthy,
        reason: args.reason.clone(),
    };
    go(&subject, &options, (args.dry_run, args.yes), context)
}

/// Runs `undo`.
///
/// # Errors
/// If it was refused.
pub fn undo(args: &UndoArgs, context: &Context) -> Result<Exit, CommandError> {
    let desk = Desk::open(context)?;
    not_armed(&desk)?;
    if args.drop {
        let text = match rollback::drop_kept(&desk.state).map_err(refused)? {
            Some(path) => format!("removed {path}\n"),
            None => "no earlier tree is kept\n".to_owned(),
        };
        context.print(&text)?;
        return Ok(Exit::Done);
    }
    let options = Options {
        goal: Goal::Undo,
        safety: !args.no_safety,
        accept_unhealthy: args.accept_unhealthy,
        reason: args.reason.clone(),
        ..Options::default()
    };
    go(&desk.subject(context)?, &options, (args.dry_run, args.yes), context)
}

// What is armed has its own way back.
fn not_armed(desk: &Desk) -> Result<(), CommandError> {
    match guard::armed(&desk.state) {
        Ok(None) => Ok(()),
        Ok(Some(found)) => {
            let text = format!("a hotfix is in progress: {}", found.change.shown());
            Err(CommandError::new(Exit::Failed, text).next("lifeboat hotfix abort takes it back"))
        }
        Err(error) => Err(CommandError::of(Exit::Failed, &error)),
    }
}

fn go(
    subject: &Subject<'_>,
    options: &Options,
    (dry_run, yes): (bool, bool),
    context: &Context,
) -> Result<Exit, CommandError> {
    if let Some(pending) = rollback::pending(subject.state).map_err(|e| CommandError::of(Exit::Failed, &e))? {
        return Err(refused(RollbackError::UnfinishedRun(Box::new(pending))));
    }
    let observer = context.observer();
    let proposal = rollback::propose(subject, options, &*observer).map_err(refused)?;
    let is_possible = proposal.obstacles().is_empty();
    if dry_run || !is_possible {
        if context.json() {
            context.document(
                &json!({"message_type": "proposal", "possible": is_possible, "proposal": proposal}),
            )?;
        } else {
            context.print(&proposed(&proposal))?;
        }
    }
    if !is_possible {
        return Err(refused(RollbackError::Refused(proposal.obstacles().to_vec())));
    }
    if dry_run {
        return Ok(Exit::Done);
    }
    if !yes && !context.json() && std::io::stdin().is_terminal() && !asked(&proposal)? {
        return Err(CommandError::new(Exit::Failed, "nothing was touched"));
    }
    let outcome = rollback::perform(subject, &proposal, options, &*observer).map_err(refused)?;
    drop(observer);
    context.remember(subject.repo);
    let exit = told(&outcome, context)?;
    let stands_in_it = std::env::current_dir()
        .is_ok_and(|here| outcome.kept.as_ref().is_some_and(|kept| here.starts_with(kept)));
    if stands_in_it {
        context.say("your shell stands in the tree that was put aside: cd \"$PWD\"");
    }
    Ok(exit)
}

fn asked(proposal: &Proposal) -> Result<bool, CommandError> {
    let mut err = std::io::stderr();
    // a terminal that is gone cannot answer either
    let _ = write!(err, "{}go on? [y/N] ", proposed(proposal));
    let _ = err.flush();
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.map_err(CommandError::io("could not read the answer"))?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

fn proposed(proposal: &Proposal) -> String {
    let mut text = String::new();
    let mut line = |name: &str, what: String| text.push_str(&format!("{name:<11}{what}\n"));
    let goal = proposal.snapshot.map_or_else(String::new, |id| format!("{}, ", id.short()));
    let taken = proposal.taken.map_or_else(String::new, |at| format!(" of {}", at.shown()));
    let drilled = proposal.drilled.map_or_else(String::new, |at| format!("; passed a drill {}", at.shown()));
    let verb = if proposal.is_undo { "forward to" } else { "back to" };
    line(verb, format!("{goal}{}{taken}{drilled}", proposal.chosen));
    line("tree", proposal.root.shown());
    line(
        "how",
        match proposal.way {
            Way::Exchange => "built beside the tree, exchanged with it in one step".to_owned(),
            Way::InPlace => "in place, file by file: not atomic".to_owned(),
        },
    );
    if !proposal.is_undo {
        let c = proposal.changes;
        line(
            "changes",
            format!(
                "{} added, {} removed, {} with other content, {} with other metadata since then",
                c.added,
                c.removed,
                c.content + c.r#type,
                c.metadata
            ),
        );
        line(
            "fetched",
            format!(
                "{} of {} from the repository, room for {} beside the tree; unchanged files are not copied",
                size::bytes(proposal.fetched),
                size::bytes(proposal.bytes),
                size::bytes(proposal.room)
            ),
        );
    }
    let list =
        |names: &[crate::base::Name]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if !proposal.carried.is_empty() {
        line("kept live", list(&proposal.carried));
    }
    if !proposal.dropped.is_empty() {
        line("dropped", list(&proposal.dropped));
    }
    for database in &proposal.databases {
        let fate = if database.kept { "stays as it is" } else { "goes back" };
        let how = if database.differences.is_empty() {
            "nothing in it differs now".to_owned()
        } else {
            format!("now: {}", database.differences.join(", "))
        };
        line("database", format!("{} {fate}; {how}", database.path));
    }
    if let Some((all, gone)) = proposal.last_took {
        line(
            "last time",
            format!("{} in all, the service was gone for {}", size::duration(all), size::duration(gone)),
        );
    }
    for note in &proposal.notes {
        line("note", note.clone());
    }
    for obstacle in proposal.obstacles() {
        line("STOPS IT", format!("{}\n{:<11}{}", obstacle.what, "", obstacle.next));
    }
    for change in &proposal.listed {
        text.push_str(&format!("  {change}\n"));
    }
    let more = proposal.changes.total().saturating_sub(proposal.listed.len() as u64);
    if more > 0 {
        text.push_str(&format!("  and {more} more; lifeboat diff SNAPSHOT --live lists all\n"));
    }
    text
}

fn told(outcome: &Outcome, context: &Context) -> Result<Exit, CommandError> {
    if let Some(why) = &outcome.not_recorded {
        context.warn("not-recorded", &format!("the logbook could not be written: {why}"));
    }
    let (summary, details) = match &outcome.ended {
        Ended::Done => ("rollback: done".to_owned(), Vec::new()),
        Ended::Reverted { why } => ("rollback: taken back".to_owned(), vec![why.clone()]),
        Ended::Broken { why, .. } => ("rollback: BROKEN".to_owned(), vec![why.clone()]),
    };
    context.outcome(summary, details);
    context.advise(advice(outcome));
    if context.json() {
        context.document(&json!({
            "message_type": "summary",
            "ended": outcome.ended,
            "before": outcome.before,
            "after": outcome.after,
            "downtime": outcome.downtime.map(|d| d.as_secs_f64()),
            "next": advice(outcome),
            "kept": outcome.kept.as_ref().map(|path| crate::base::Name::from(path.as_os_str())),
            "record": outcome.evidence,
        }))?;
    } else {
        context.print(&ended(outcome))?;
    }
    Ok(outcome.ended.exit())
}

// What to do about one that was taken back because the application was not well there.
fn advice(outcome: &Outcome) -> Option<&'static str> {
    let Ended::Reverted { .. } = outcome.ended else { return None };
    let failed = crate::evidence::Outcome::Fail;
    let record = &outcome.evidence;
    let is_unwell = record.steps.iter().any(|step| step.phase == "start" && step.result == failed)
        || record.checks.iter().any(|check| check.result == failed);
    is_unwell.then_some("the same command with --accept-unhealthy goes there all the same")
}

fn ended(outcome: &Outcome) -> String {
    let mut text = match &outcome.ended {
        Ended::Done => format!("DONE: {}\n", outcome.evidence.scenario),
        Ended::Reverted { why } => format!("TAKEN BACK, the application is as it was: {why}\n"),
        Ended::Broken { why, .. } => format!("BROKEN: {why}\n"),
    };
    if let Some(gone) = outcome.downtime {
        text.push_str(&format!("  the service was gone for {}\n", size::duration(gone)));
    }
    if let Some(before) = outcome.before {
        text.push_str(&format!("  before    {} (snapshot of what was live)\n", before.short()));
    }
    if let Some(kept) = &outcome.kept {
        let kept = crate::base::Name::from(kept.as_os_str());
        text.push_str(&format!(
            "  put aside {kept}; lifeboat undo goes back to it, lifeboat undo --drop removes it\n"
        ));
    }
    for note in &outcome.evidence.deviations {
        text.push_str(&format!("  note      {}\n", crate::base::name::shown_text(note)));
    }
    if let Some(seal) = &outcome.evidence.seal {
        text.push_str(&format!(
            "  record    {} (run {})\n",
            seal.record.get(..8).unwrap_or_default(),
            outcome.evidence.run_id
        ));
    }
    if let Some(next) = advice(outcome) {
        text.push_str(&format!("  next      {next}\n"));
    }
    if let Ended::Broken { commands, .. } = &outcome.ended {
        text.push_str("  next, by hand:\n");
        commands.iter().for_each(|command| text.push_str(&format!("    {command}\n")));
    }
    text
}

fn refused(error: RollbackError) -> CommandError {
    let (exit, next) = match &error {
        RollbackError::Refused(obstacles) => {
            (Exit::Failed, obstacles.first().map(|o| o.next.clone()).unwrap_or_default())
        }
        RollbackError::NoSnapshot(_) => {
            (Exit::Failed, "lifeboat snapshots lists those that are there".to_owned())
        }
        RollbackError::NothingToUndo(_) => (
            Exit::Failed,
            "lifeboat rollback @before-rollback goes to the state before the last rollback".to_owned(),
        ),
        RollbackError::NothingPending => {
            (Exit::Failed, "lifeboat log show --kind rollback lists those that were".to_owned())
        }
        RollbackError::UnfinishedRun(pending) if pending.running => {
            (Exit::Locked, "wait for its end".to_owned())
        }
        RollbackError::UnfinishedRun(_) => {
            (Exit::Failed, "lifeboat rollback --resume brings it to an end, --abort takes it back".to_owned())
        }
        RollbackError::Locked => (Exit::Locked, "wait for its end".to_owned()),
        RollbackError::Interrupted => (Exit::Interrupted, String::new()),
        RollbackError::Strange(_) => {
            (Exit::RollbackFailed, "look at both directories before anything else is done".to_owned())
        }
        RollbackError::Inexact(_) => {
            (Exit::Failed, "run it as root, or choose another snapshot; nothing was touched".to_owned())
        }
        _ => (Exit::Failed, String::new()),
    };
    let error = match error {
        RollbackError::Repo(error) => return error.into(),
        other => CommandError::of(exit, &other),
    };
    if next.is_empty() { error } else { error.next(next) }
}
