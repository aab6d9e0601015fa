//! `log add`: what people say of a record afterwards, as a record of its own.

use serde_json::json;

use super::{find, run_id};
use crate::base::Exit;
use crate::cli::context::{Context, whoami};
use crate::cli::error::CommandError;
use crate::evidence::logged::{FOLLOW_UP, run_in};
use crate::evidence::{Action, ActionStatus, FollowUp, SignOff, follow_up};
use crate::logbook;

/// Add issues, observations, next actions, lessons or a sign-off to a record
///
/// The record itself is never changed: what is added is a signed record of its own that refers to it.
#[derive(clap::Args)]
pub struct AddArgs {
    /// A run's id, a record's hash or its first digits, or latest
    #[arg(value_name = "RECORD", default_value = "latest")]
    record: String,
    /// What went wrong, and what was done about it
    #[arg(long = "issue", value_name = "TEXT")]
    issues: Vec<String>,
    /// What was noticed besides
    #[arg(long = "observation", value_name = "TEXT")]
    observations: Vec<String>,
    /// What is to be done
    #[arg(long = "next-action", value_name = "TEXT")]
    actions: Vec<String>,
    /// Who does the next actions
    #[arg(long, value_name = "NAME", requires = "actions")]
    owner: Option<String>,
    /// Until when the next actions are done
    #[arg(long, value_name = "DATE", requires = "actions")]
    due: Option<String>,
    /// That a next action is done; it is named by its text
    #[arg(long = "done", value_name = "TEXT")]
    done: Vec<String>,
    /// What was learned
    #[arg(long = "lesson", value_name = "TEXT")]
    lessons: Vec<String>,
    /// Who has looked at the record
    #[arg(long, value_name = "NAME")]
    sign_off: Option<String>,
    /// What they say of it
    #[arg(long, value_name = "TEXT", requires = "sign_off")]
    note: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// If there is no such record, or nothing to say of it.
pub fn run(args: &AddArgs, context: &Context) -> Result<Exit, CommandError> {
    let mut said = said(args, context);
    if said == FollowUp::default() {
        return Err(CommandError::usage("there is nothing to add")
            .next("give --issue, --observation, --next-action, --done, --lesson or --sign-off"));
    }
    let repo = context.open_repo()?;
    let key = context.writer_key(&repo)?;
    let logbook = logbook::read(&repo)?;
    let (logged, record) = find(&logbook, &args.record)?;
    if record.kind == FOLLOW_UP {
        let text = format!("record {} is itself a follow-up", logged.id.short());
        return Err(CommandError::usage(text).next("name the record that it speaks of"));
    }
    let run = run_in(&record.kind, &record.body).and_then(|_| run_id(record));
    said.run_id = run.map_or_else(|| logged.id.to_hex(), str::to_owned);
    let id = follow_up(&repo, &key, whoami(), &said)?;
    if context.json() {
        context.document(&json!({ "record": id, "about": logged.id, "follow_up": said }))?;
    } else {
        context.print(&format!("{}\n", id.to_hex()))?;
    }
    Ok(Exit::Done)
}

fn said(args: &AddArgs, context: &Context) -> FollowUp {
    let open = args.actions.iter().map(|text| Action {
        text: text.clone(),
        owner: args.owner.clone().unwrap_or_default(),
        due: args.due.clone().unwrap_or_default(),
        status: ActionStatus::Open,
        note: String::new(),
    });
    let done = args.done.iter().map(|text| Action {
        text: text.clone(),
        owner: String::new(),
        due: String::new(),
        status: ActionStatus::Done,
        note: String::new(),
    });
    let signoff = args.sign_off.iter().map(|by| SignOff {
        by: by.clone(),
        at: context.clock().now(),
        note: args.note.clone().unwrap_or_default(),
    });
    FollowUp {
        run_id: String::new(),
        issues: args.issues.clone(),
        observations: args.observations.clone(),
        signoff: signoff.collect(),
        lessons: args.lessons.clone(),
        actions: open.chain(done).collect(),
        closed: Vec::new(),
    }
}
