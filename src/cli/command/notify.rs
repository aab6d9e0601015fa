//! `notify`: say something to whoever the plan names.

use serde_json::json;

use crate::base::Exit;
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::cli::notified::{beginning, mask};
use crate::notify::Notifier;

/// Send a message by the webhooks and commands of the plan
///
/// The exit status is 1 if it did not arrive by one of them.
#[derive(clap::Args)]
pub struct NotifyArgs {
    /// What to say
    #[arg(value_name = "TEXT", required_unless_present = "test")]
    text: Vec<String>,
    /// Send a message that says that it is a test, and say which ways work; a ping is asked for too
    #[arg(long, conflicts_with = "text")]
    test: bool,
}

/// Runs the command.
///
/// # Errors
/// If the plan names nobody, or somebody could not be told.
pub fn run(args: &NotifyArgs, context: &Context) -> Result<Exit, CommandError> {
    let plan = context.plan()?;
    let notifier = Notifier::new(&plan, context.state(&plan).ok(), context.clock());
    let mut happened = beginning("notify", &plan, context);
    happened.summary = match args.test {
        true => "a test of lifeboat's notifications".to_owned(),
        false => args.text.join(" "),
    };
    mask(&mut happened, &plan);
    let report = notifier.message(&happened, args.test);
    if report.is_empty() {
        return Err(CommandError::usage("the plan names nobody who can be told this")
            .next("add a [[notify]] with a webhook or a command; docs/notifications.md has examples"));
    }
    if context.json() {
        let ways: Vec<_> = report
            .iter()
            .map(|(way, result)| json!({"way": way, "told": result.is_ok(), "why": result.as_ref().err()}))
            .collect();
        context.document(&json!({ "ways": ways }))?;
    } else {
        for (way, result) in &report {
            context.print(&match result {
                Ok(()) => format!("told: {way}\n"),
                Err(why) => format!("NOT told: {way}: {why}\n"),
            })?;
        }
    }
    Ok(if report.iter().all(|(_, result)| result.is_ok()) { Exit::Done } else { Exit::Failed })
}
