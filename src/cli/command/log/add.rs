//! `log add`: what people say of a record afterwards, as a record of its own.

use serde_json::json;

use super::{find, run_id};
use crate::base::Exit;
use crate::base::id::RecordId;
use crate::base::name::shown;
use crate::cli::context::{Context, whoami};
use crate::cli::error::CommandError;
use crate::evidence::actions::{self, parse_due};
use crate::evidence::logged::{FOLLOW_UP, run_in};
use crate::evidence::{Action, ActionStatus, FollowUp, SignOff, follow_up};
use crate::logbook::{self, Logbook};

/// Record what people did, and issues, observations, next actions, lessons or a sign-off
///
/// What is said of a record never changes it: it is a signed record of its own that refers to it. What people did
/// by hand (--activity) stands alone, unless a record is named.
#[derive(clap::Args)]
pub struct AddArgs {
    /// A run's id, a record's hash or its first digits, or latest, which is the default
    #[arg(value_name = "RECORD")]
    record: Option<String>,
    /// What was done by hand
    #[arg(long = "activity", value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    activities: Vec<String>,
    /// The occasion of work that stands alone: the type of the session in the maintenance log
    #[arg(long, value_name = "TYPE", value_parser = OCCASIONS, requires = "activities", conflicts_with = "record")]
    occasion: Option<String>,
    /// What went wrong, and what was done about it
    #[arg(long = "issue", value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    issues: Vec<String>,
    /// What was noticed besides
    #[arg(long = "observation", value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    observations: Vec<String>,
    /// What is to be done
    #[arg(long = "next-action", value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    actions: Vec<String>,
    /// Who does the next actions
    #[arg(long, value_name = "NAME", requires = "actions")]
    owner: Option<String>,
    /// Until when the next actions are done: a day such as 2026-12-01
    #[arg(long, value_name = "DATE", requires = "actions")]
    due: Option<String>,
    /// That a next action of the record is done; it is named by its text (lifeboat log close takes its id)
    #[arg(long = "done", value_name = "TEXT")]
    done: Vec<String>,
    /// What was learned
    #[arg(long = "lesson", value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    lessons: Vec<String>,
    /// Who has looked at the record
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    sign_off: Option<String>,
    /// What they say of it
    #[arg(long, value_name = "TEXT", requires = "sign_off")]
    note: Option<String>,
}

const OCCASIONS: [&str; 5] = ["daily", "weekly", "monthly", "quarterly", "emergency"];

/// Runs the command.
///
/// # Errors
/// If there is no such record, or nothing to say of it.
pub fn run(args: &AddArgs, context: &Context) -> Result<Exit, CommandError> {
    let mut said = said(args, context);
    if said == FollowUp::default() {
        return Err(CommandError::usage("there is nothing to add")
            .next("give --activity, --issue, --observation, --next-action, --done, --lesson or --sign-off"));
    }
    check_due(args.due.as_deref())?;
    let repo = context.open_repo()?;
    let key = context.writer_key(&repo)?;
    let logbook = logbook::read(&repo)?;
    let about = match (&args.record, args.activities.is_empty()) {
        (None, false) => None,
        (wanted, _) => Some(spoken_of(wanted.as_deref().unwrap_or("latest"), &logbook)?),
    };
    said.run_id = about.as_ref().map(|(_, name)| name.clone()).unwrap_or_default();
    check_done(&args.done, &said.run_id, &logbook)?;
    let id = follow_up(&repo, &key, whoami(), &said)?;
    if context.json() {
        context.document(&json!({ "record": id, "about": about.map(|(id, _)| id), "follow_up": said }))?;
    } else {
        context.print(&format!("{}\n", id.to_hex()))?;
    }
    Ok(Exit::Done)
}

// The record that is meant, and the name by which it is spoken of: a run's own id, or the record's hash.
fn spoken_of(wanted: &str, logbook: &Logbook) -> Result<(RecordId, String), CommandError> {
    let (logged, record) = find(logbook, wanted)?;
    if record.kind == FOLLOW_UP {
        let text = format!("record {} is itself a follow-up", logged.id.short());
        return Err(CommandError::usage(text).next("name the record that it speaks of"));
    }
    let run = run_in(&record.kind, &record.body).and_then(|_| run_id(record));
    Ok((logged.id, run.map_or_else(|| logged.id.to_hex(), str::to_owned)))
}

fn check_due(due: Option<&str>) -> Result<(), CommandError> {
    match due.filter(|due| parse_due(due).is_none()) {
        None => Ok(()),
        Some(wrong) => {
            let text = format!("{} is no day for --due", shown(wrong.as_bytes()));
            Err(CommandError::usage(text).next("write year, month and day, such as 2026-12-01"))
        }
    }
}

// Whoever says that something is done means something that is open.
fn check_done(done: &[String], about: &str, logbook: &Logbook) -> Result<(), CommandError> {
    let open = actions::open(logbook);
    let is_open = |text: &String| open.iter().any(|action| action.text == *text && action.about == about);
    match done.iter().find(|text| !is_open(text)) {
        None => Ok(()),
        Some(unknown) => {
            let text = format!("the record has no open action {}", shown(unknown.as_bytes()));
            let next = "lifeboat log actions lists them; lifeboat log close takes an action's id";
            Err(CommandError::new(Exit::Failed, text).next(next))
        }
    }
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
        occasion: args.occasion.clone().unwrap_or_default(),
        activities: args.activities.clone(),
        issues: args.issues.clone(),
        observations: args.observations.clone(),
        signoff: signoff.collect(),
        lessons: args.lessons.clone(),
        actions: open.chain(done).collect(),
        closed: Vec::new(),
    }
}
