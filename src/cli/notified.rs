//! Around an operation: whoever the plan names is told that it begins and how it ended.

use std::time::{Duration, Instant};

use super::command::{drill, hotfix};
use super::context::{Context, Said, whoami};
use super::env;
use super::error::CommandError;
use crate::base::Exit;
use crate::evidence::mask_text;
use crate::notify::{Happened, Notifier, Report, secrets};
use crate::plan::{Plan, TOLD};

/// What people are told of a command line as, if they are. A dry run is nothing that happened, and parts of a command
/// (`hotfix status`) are not the operation. `run` and `maintenance` tell by themselves, `notify` is what it says.
pub fn told_as(matches: &clap::ArgMatches) -> Option<&'static str> {
    let (name, inner) = matches.subcommand()?;
    if word_on_hotfix(matches).is_some() {
        return Some("hotfix");
    }
    let is_dry = inner.try_get_one::<bool>("dry_run").is_ok_and(|flag| flag == Some(&true));
    if is_dry || inner.subcommand().is_some() || ["run", "maintenance", "notify"].contains(&name) {
        return None;
    }
    TOLD.iter().copied().find(|operation| *operation == name)
}

/// The word that a command line gives on a change that is armed: whoever sees the change to its end tells of it.
fn word_on_hotfix(matches: &clap::ArgMatches) -> Option<Word> {
    match matches.subcommand()? {
        ("confirm", _) => Some(Word::Confirm),
        ("hotfix", inner) => match inner.subcommand_name()? {
            "confirm" => Some(Word::Confirm),
            "abort" => Some(Word::Abort),
            _ => None,
        },
        _ => None,
    }
}

/// True if another process tells how this ends: the one that watches the change, and is given a word on it.
pub fn another_tells(matches: &clap::ArgMatches, context: &Context) -> bool {
    let Some(word) = word_on_hotfix(matches) else { return false };
    let state = context.load_plan().ok().and_then(|plan| context.state(&plan).ok());
    state.is_some_and(|state| hotfix::watcher_ends_it(&state, word == Word::Confirm))
}

/// The exit status of a command line: that a change went back is what was asked for, if it was. Whoever is told hears that it went back.
pub fn as_asked(matches: &clap::ArgMatches, exit: Exit) -> Exit {
    match (word_on_hotfix(matches), exit) {
        (Some(Word::Abort), Exit::RolledBack) => Exit::Done,
        _ => exit,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Confirm,
    Abort,
}

/// Does it, and tells of it. Telling changes nothing of how it ended.
///
/// # Errors
/// Those of the operation.
pub fn around(
    operation: &str,
    context: &Context,
    act: impl FnOnce() -> Result<Exit, CommandError>,
) -> Result<Exit, CommandError> {
    // without a plan nobody is named, and one that is wrong is the command's own error
    let Some(plan) = context.load_plan().ok().filter(|plan| !plan.notify.is_empty()) else { return act() };
    let notifier = Notifier::new(&plan, context.state(&plan).ok(), context.clock());
    let mut happened = beginning(operation, &plan, context);
    if notifier.is_silent(operation, happened.is_step) {
        return act();
    }
    let began = Instant::now();
    let begun = notifier.begin(&happened);
    context.forget_outcome();
    let result = act();
    happened.took = began.elapsed();
    (happened.exit, happened.summary, happened.details) = ending(operation, &result, context.said());
    mask(&mut happened, &plan);
    warn(&notifier.end(begun, &happened), context);
    result
}

/// Leaves what a command has to say of how it ended where the runbook that it is a step of will look for it.
pub fn leave(context: &Context) {
    if let (Some(file), Some(said)) = (env::outcome(), context.said())
        && let Ok(text) = serde_json::to_vec(&said)
    {
        // the exit status says it too, in fewer words
        let _ = std::fs::write(file, text);
    }
}

/// An operation that begins now.
pub fn beginning(operation: &str, plan: &Plan, context: &Context) -> Happened {
    let (host, user) = whoami();
    Happened {
        application: plan.name(),
        operation: operation.to_owned(),
        is_step: env::within().is_some(),
        host: host.shown(),
        user: user.shown(),
        started: context.clock().now(),
        took: Duration::ZERO,
        exit: Exit::Done,
        summary: String::new(),
        details: Vec::new(),
    }
}

fn ending(
    operation: &str,
    result: &Result<Exit, CommandError>,
    said: Option<Said>,
) -> (Exit, String, Vec<String>) {
    match (result, said) {
        (Ok(exit), Some(said)) => (*exit, said.summary, said.details),
        (Ok(exit), None) => (*exit, format!("{operation}: {}", exit.meaning()), Vec::new()),
        (Err(error), _) => {
            let summary = format!("{operation}: {}", error.message());
            (error.exit(), summary, error.causes().to_vec())
        }
    }
}

/// Takes out what must not be seen.
pub fn mask(happened: &mut Happened, plan: &Plan) {
    let mut hidden = secrets(plan);
    hidden.extend(drill::secrets(plan).unwrap_or_default());
    happened.summary = mask_text(&happened.summary, &hidden);
    for detail in &mut happened.details {
        *detail = mask_text(detail, &hidden);
    }
}

/// Says which ways did not work. The operation is done all the same.
pub fn warn(report: &Report, context: &Context) {
    for (way, result) in report {
        if let Err(why) = result {
            context.warn("not-told", &format!("{way} could not be told: {why}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_told_of_and_dry_runs_are_not() {
        let told = |line: &str| {
            let words = std::iter::once("lifeboat").chain(line.split(' '));
            told_as(&crate::cli::command_line().try_get_matches_from(words).unwrap())
        };
        assert_eq!(told("snapshot /srv"), Some("snapshot"));
        assert_eq!(told("backup /srv"), Some("snapshot"));
        assert_eq!(told("check"), Some("verify"));
        assert_eq!(told("health"), Some("health"));
        assert_eq!(told("hotfix abort"), Some("hotfix"));
        assert_eq!(told("confirm"), Some("hotfix"));
        assert_eq!(told("hotfix status"), None);
        for line in
            ["snapshot --dry-run /srv", "prune --dry-run", "run daily", "maintenance end", "ls latest"]
        {
            assert_eq!(told(line), None, "{line}");
        }
    }
}
