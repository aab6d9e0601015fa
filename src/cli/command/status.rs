//! `status`: could we recover now?

use crate::base::Exit;
use crate::base::error::causes;
use crate::base::name::shown;
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::cli::table::{Kind, Table};
use crate::plan::{Plan, PlanError};
use crate::readiness::{Facts, Overall, Readiness, Sources, Unopened, gather, judge};
use crate::repo::{Repo, RepoError};

use super::drill::hash_of;

/// Say whether a recovery would go well now, why, and what to do about it
///
/// Nothing is run, restored or hashed: it rests on what the repository and this host remember, and says how old that is.
/// Exits with 0 if ready, 3 if degraded (a recovery is possible, and something about it is wrong or unknown), and 1 if
/// not ready.
#[derive(clap::Args)]
pub struct StatusArgs {
    /// Only what is wrong
    #[arg(long)]
    wrong: bool,
}

/// Runs the command.
///
/// # Errors
/// If no repository is named, or the plan is wrong.
pub fn run(args: &StatusArgs, context: &Context) -> Result<Exit, CommandError> {
    let found = judge(&facts(context)?);
    if context.json() {
        context.document(&found)?;
    } else {
        context.print(&text(&found, args.wrong, context))?;
    }
    let wrong = found.wrong().map(|line| format!("{}: {}", line.name, line.reason)).collect();
    context.outcome(format!("status: {}", found.verdict.words()), wrong);
    Ok(exit(found.verdict))
}

/// What the program ends with.
pub fn exit(verdict: Overall) -> Exit {
    match verdict {
        Overall::Ready => Exit::Done,
        Overall::Degraded => Exit::Partial,
        Overall::NotReady => Exit::Failed,
    }
}

/// The application and its verdict.
pub fn line_of(found: &Readiness) -> String {
    let name = found
        .application
        .as_deref()
        .map_or_else(|| "the repository".to_owned(), |name| shown(name.as_bytes()));
    format!("{name}: {}", found.verdict.words())
}

/// What is known, here and now.
///
/// # Errors
/// If no repository is named, or the plan is wrong.
pub fn facts(context: &Context) -> Result<Facts, CommandError> {
    let plan = match context.load_plan() {
        Err(PlanError::NotFound(_)) => None,
        other => Some(other?),
    };
    let location = context.location()?;
    let repo = Repo::open(context.store()?, context.clock());
    let state = plan.as_ref().and_then(|plan| context.state(plan).ok());
    let memory = repo.as_ref().ok().and_then(|repo| context.seen_of(repo));
    let plan: Option<(&Plan, String)> = match &plan {
        None => None,
        Some(plan) => Some((plan, hash_of(plan.file())?)),
    };
    Ok(gather(&Sources {
        repo: repo.as_ref().map_err(|error| Unopened {
            why: causes(error),
            is_missing: matches!(error, RepoError::NotFound(_)),
        }),
        location: &location,
        plan,
        state: state.as_ref(),
        memory: memory.as_ref(),
        clock: context.clock(),
    }))
}

fn text(found: &Readiness, only_wrong: bool, context: &Context) -> String {
    let mut text = line_of(found) + "\n";
    let lines: Vec<_> = found.lines.iter().filter(|line| !only_wrong || line.verdict.is_wrong()).collect();
    if !lines.is_empty() {
        let mut table = Table::new(&[("what", Kind::Word), ("verdict", Kind::Word), ("why", Kind::Text)]);
        for line in &lines {
            table.row([line.name, line.verdict.word(), line.reason.as_str()]);
        }
        text.push('\n');
        text.push_str(&table.render(context.width()));
    }
    let mends: Vec<_> = lines.iter().filter_map(|line| Some((line.name, line.mend.as_deref()?))).collect();
    if !mends.is_empty() {
        let mut table = Table::new(&[("to mend", Kind::Word), ("do", Kind::Text)]);
        for (name, mend) in mends {
            table.row([name, mend]);
        }
        text.push('\n');
        text.push_str(&table.render(context.width()));
    }
    text
}
