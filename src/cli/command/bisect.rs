//! `bisect`: the last snapshot in which a command passes.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::json;

use super::drill::{hash_of, hidden, of_tree, plain_options, refused};
use crate::base::Exit;
use crate::catalog::select::Filters;
use crate::check::value::CommandLine;
use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::env;
use crate::cli::error::CommandError;
use crate::drill::{Options, Subject, rehearse};
use crate::evidence::{Outcome, Verdict};
use crate::plan::Plan;
use crate::repo::Repo;
use crate::repo::documents::Snapshot;

/// Find the last snapshot in which a command passes
///
/// Snapshots are restored one after the other as in a drill, the plan's set-up commands are run, and then the command. Halving
/// what is left each time assumes that it passes up to some snapshot and fails from then on. The exit status is 20 if it
/// passes neither in the newest nor in the oldest, and 22 if one could not be judged, as when the command cannot be run there
/// (126 or 127). Nothing is recorded.
#[derive(clap::Args)]
pub struct BisectArgs {
    /// The command, for sh; it passes if it ends with 0
    #[arg(long, value_name = "COMMAND")]
    test: String,
    /// The oldest that is tried, in which it passes [default: the oldest of all]
    #[arg(long, value_name = "SNAPSHOT")]
    good: Option<std::ffi::OsString>,
    /// The newest that is tried, in which it fails [default: the newest of all]
    #[arg(long, value_name = "SNAPSHOT")]
    bad: Option<std::ffi::OsString>,
    /// Run even if nothing keeps the copy apart from production
    #[arg(long)]
    allow_unisolated: bool,
    /// Where the copies are made [default: the system's place for large temporary files]
    #[arg(long = "in", value_name = "DIRECTORY", value_hint = clap::ValueHint::DirPath)]
    place: Option<PathBuf>,
}

/// What was found. Fields are added, never renamed.
#[derive(Serialize)]
struct Answer {
    /// The last in which it passes; absent if it passes in none.
    last_good: Option<String>,
    /// The first in which it fails; absent if it fails in none.
    first_bad: Option<String>,
    /// How many were tried.
    tried: usize,
    /// True if it passes neither in the newest nor in the oldest, so that those between were not tried.
    between_untried: bool,
}

struct Search<'a> {
    context: &'a Context,
    repo: &'a Repo,
    plan: &'a Plan,
    plan_sha256: String,
    snapshots: &'a [Snapshot],
    options: Options,
    tried: usize,
}

/// Runs the command.
///
/// # Errors
/// If a snapshot could not be judged.
pub fn run(args: &BisectArgs, context: &Context) -> Result<Exit, CommandError> {
    let plan = context.plan()?;
    let repo = context.open_repo()?;
    let snapshots = context.snapshots(&repo)?;
    let options = Options {
        only: Some(CommandLine::Shell(args.test.clone())),
        allow_unisolated: args.allow_unisolated,
        ..plain_options(&plan, args.place.as_deref(), hidden(context)?)?
    };
    let plan_sha256 = hash_of(plan.file())?;
    let mut search =
        Search { context, repo: &repo, plan: &plan, plan_sha256, snapshots: &snapshots, options, tried: 0 };
    let range = range(args, context, &plan, &snapshots)?;
    let answer = search.halve(&range)?;
    let body = json!({
        "last_good": answer.last_good, "first_bad": answer.first_bad, "tried": answer.tried,
        "between_untried": answer.between_untried, "test": args.test,
    });
    context.record_where_possible(&repo, "bisect", body);
    if context.json() {
        context.document(&answer)?;
    } else {
        context.print(&text(&answer))?;
    }
    Ok(if answer.last_good.is_some() { Exit::Done } else { Exit::DrillFailed })
}

// The snapshots of the plan's tree from the good to the bad one, oldest first.
fn range<'s>(
    args: &BisectArgs,
    context: &Context,
    plan: &Plan,
    snapshots: &'s [Snapshot],
) -> Result<Vec<&'s Snapshot>, CommandError> {
    let root = plan.root();
    let mut all = of_tree(&root, snapshots);
    let named = |text: &Option<std::ffi::OsString>| -> Result<Option<&Snapshot>, CommandError> {
        let Some(text) = text else { return Ok(None) };
        context.choose(&args::snapshot(text)?, snapshots, &Filters::default()).map(Some)
    };
    let (good, bad) = (named(&args.good)?, named(&args.bad)?);
    if let (Some(good), Some(bad)) = (good, bad)
        && good.document.started >= bad.document.started
    {
        let text = "--good must name a snapshot that is older than that of --bad";
        return Err(CommandError::usage(text).next("lifeboat snapshots shows them in their order"));
    }
    if let Some(good) = good {
        all.retain(|s| s.document.started >= good.document.started);
    }
    if let Some(bad) = bad {
        all.retain(|s| s.document.started <= bad.document.started);
    }
    if all.is_empty() {
        let text = format!("no snapshot in this range holds {}", root.display());
        return Err(
            CommandError::new(Exit::Inconclusive, text).next("lifeboat snapshots shows what there is")
        );
    }
    Ok(all)
}

impl Search<'_> {
    // Both ends are tried, also those that somebody named: what is not as he believes makes every answer between wrong.
    fn halve(&mut self, all: &[&Snapshot]) -> Result<Answer, CommandError> {
        let last = all.len() - 1;
        if self.passes(all[last])? {
            return Ok(self.answer(Some(all[last]), None));
        }
        if last == 0 || !self.passes(all[0])? {
            let between_untried = all.len() > self.tried;
            return Ok(Answer { between_untried, ..self.answer(None, Some(all[0])) });
        }
        let (mut good, mut bad) = (0, last);
        while bad - good > 1 {
            let middle = good.midpoint(bad);
            if self.passes(all[middle])? { good = middle } else { bad = middle }
        }
        Ok(self.answer(Some(all[good]), Some(all[bad])))
    }

    fn answer(&self, good: Option<&Snapshot>, bad: Option<&Snapshot>) -> Answer {
        let short = |snapshot: Option<&Snapshot>| snapshot.map(|s| s.id.short());
        Answer { last_good: short(good), first_bad: short(bad), tried: self.tried, between_untried: false }
    }

    fn passes(&mut self, snapshot: &Snapshot) -> Result<bool, CommandError> {
        self.tried += 1;
        let subject = Subject {
            repo: self.repo,
            snapshot,
            kept: self.snapshots,
            plan: self.plan,
            plan_sha256: self.plan_sha256.clone(),
            same_as_last_drill: false,
        };
        let observer = self.context.observer();
        let run = rehearse(&subject, &self.options, env::sudo_user(), &*observer).map_err(refused)?.judged();
        drop(observer);
        if self.tried == 1 && run.cap.is_some() {
            let text = "nothing keeps the copy apart from production (unisolated): the command may look at production";
            self.context.warn("unisolated", text);
        }
        let id = snapshot.id.short();
        let taken = snapshot.document.started.shown();
        let step = run.steps.iter().find(|step| step.phase == "tests");
        // what the shell ends with where a command is not there, or may not be executed
        if let Some(status @ (126 | 127)) = step.and_then(|step| step.exit) {
            let text = format!(
                "snapshot {id} of {taken} could not be judged: the command cannot be run there (exit status {status})"
            );
            return Err(CommandError::new(Exit::Inconclusive, text).next(
                "name a program that the copy or the host has; --good leaves out older snapshots that have none",
            ));
        }
        let passes = match step.map(|step| step.result) {
            // a faulty harness has judged nothing, whatever the command said
            Some(Outcome::Pass) if run.faults.is_empty() => true,
            Some(Outcome::Fail) if run.faults.is_empty() => false,
            _ => {
                let mut why = run.faults.clone();
                why.extend((run.verdict == Verdict::Fail).then(|| run.reasons.join("; ")));
                let text = format!("snapshot {id} of {taken} could not be judged: {}", why.join("; "));
                return Err(CommandError::new(Exit::Inconclusive, text)
                    .next("lifeboat drill shows it step by step; --good and --bad leave it out"));
            }
        };
        self.context.say(format!("{id}  {taken}  {}", if passes { "passes" } else { "fails" }));
        Ok(passes)
    }
}

fn text(answer: &Answer) -> String {
    match (&answer.last_good, &answer.first_bad) {
        (Some(good), Some(bad)) => {
            format!("last good: {good}\nfirst bad: {bad}\nwhat changed: lifeboat diff {good} {bad}\n")
        }
        (Some(good), None) => format!("last good: {good}, the newest\n"),
        _ if answer.between_untried => {
            "it passes neither in the newest nor in the oldest; those between were not tried\n\
             next: --good names a snapshot in which it passes, --bad a later one in which it fails\n"
                .to_owned()
        }
        _ => "it passes in none of them\n".to_owned(),
    }
}
