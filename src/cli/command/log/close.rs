//! `log close`: a next action is done, or will not be done.

use serde_json::json;

use crate::base::Exit;
use crate::base::name::shown;
use crate::cli::context::{Context, whoami};
use crate::cli::error::CommandError;
use crate::evidence::actions::{self, Action, LEAST_DIGITS};
use crate::evidence::{ActionStatus, Closed, FollowUp, follow_up};
use crate::logbook;

/// Close a next action
///
/// The record that holds the action is never changed: that it is closed is a signed record of its own.
#[derive(clap::Args)]
pub struct CloseArgs {
    /// The action's id or its first digits, as lifeboat log actions shows them
    #[arg(value_name = "ACTION")]
    action: String,
    /// How it was done, or why not
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
    /// It was not done, and will not be
    #[arg(long, requires = "note")]
    dropped: bool,
}

/// Runs the command.
///
/// # Errors
/// If no open action is meant, or the logbook cannot be written.
pub fn run(args: &CloseArgs, context: &Context) -> Result<Exit, CommandError> {
    let repo = context.open_repo()?;
    let key = context.writer_key(&repo)?;
    let all = actions::all(&logbook::read(&repo)?);
    let action = open(&args.action, &all)?;
    let status = if args.dropped { ActionStatus::Dropped } else { ActionStatus::Done };
    let closed = Closed { action: action.id.clone(), status, note: args.note.clone() };
    let said = FollowUp { run_id: action.about.clone(), closed: vec![closed], ..FollowUp::default() };
    let record = follow_up(&repo, &key, whoami(), &said)?;
    if context.json() {
        context.document(&json!({ "record": record, "action": action.id, "status": status }))?;
    } else {
        context.print(&format!("{}: {}\n", status.word(), shown(action.text.as_bytes())))?;
    }
    Ok(Exit::Done)
}

// The one that is meant, if it is open.
fn open<'a>(wanted: &str, all: &'a [Action]) -> Result<&'a Action, CommandError> {
    let name = shown(wanted.as_bytes());
    let found: Vec<&Action> = match wanted.len() >= LEAST_DIGITS {
        true => all.iter().filter(|action| action.id.starts_with(wanted)).collect(),
        false => Vec::new(),
    };
    let action = match found.as_slice() {
        [action] => *action,
        [] => {
            let next =
                format!("lifeboat log actions lists them; give at least {LEAST_DIGITS} digits of the id");
            return Err(CommandError::new(Exit::Failed, format!("no action is {name}")).next(next));
        }
        more => {
            let text = format!("{name} may be any of {} actions", more.len());
            return Err(CommandError::usage(text).next("give more digits of the action's id"));
        }
    };
    let Some(closing) = &action.closed else { return Ok(action) };
    let mut text = format!(
        "action {name} is {} already: {}, {} UTC, by {}",
        action.status.word(),
        shown(action.text.as_bytes()),
        closing.at.shown(),
        shown(closing.by.as_bytes())
    );
    if !closing.note.is_empty() {
        text.push_str(&format!(": {}", shown(closing.note.as_bytes())));
    }
    Err(CommandError::new(Exit::Failed, text)
        .next("if it is to be done once more, record it again with lifeboat log add --next-action"))
}
