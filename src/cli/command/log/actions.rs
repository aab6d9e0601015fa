//! `log actions`: what is still to be done.

use serde_json::json;

use crate::base::Exit;
use crate::base::name::shown;
use crate::base::size;
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::cli::table::{Kind, Table};
use crate::evidence::actions::{self, Action};
use crate::logbook;

/// The digits of an id that a table shows; where two would look the same, all are shown.
const DIGITS: usize = 8;

/// List the next actions that are open
///
/// Those due first come first. `lifeboat log close` closes one by its id.
#[derive(clap::Args)]
pub struct ActionsArgs {
    /// Those that are closed too, with who closed them and what they said
    #[arg(long)]
    all: bool,
}

/// Runs the command.
///
/// # Errors
/// If the logbook cannot be read.
pub fn run(args: &ActionsArgs, context: &Context) -> Result<Exit, CommandError> {
    let logbook = logbook::read(&context.open_repo()?)?;
    let found = if args.all { actions::all(&logbook) } else { actions::open(&logbook) };
    let now = context.clock().now();
    if context.json() {
        let overdue = |action: &Action| {
            let mut value = json!(action);
            value["overdue"] = json!(action.is_overdue(now));
            value
        };
        context.document(&json!({ "actions": found.iter().map(overdue).collect::<Vec<_>>() }))?;
        return Ok(Exit::Done);
    }
    if found.is_empty() {
        context.say(if args.all { "no actions" } else { "no open actions" });
        return Ok(Exit::Done);
    }
    context.print(&table(&found, args.all, context))?;
    let overdue = found.iter().filter(|action| action.is_overdue(now)).count() as u64;
    if overdue > 0 {
        context.say(&format!("{} overdue", size::plural(overdue, "action")));
    }
    Ok(Exit::Done)
}

fn table(found: &[Action], all: bool, context: &Context) -> String {
    let now = context.clock().now();
    let mut columns = vec![
        ("action", Kind::Word),
        ("due", Kind::Word),
        ("who", Kind::Text),
        ("recorded (UTC)", Kind::Word),
        ("what", Kind::Text),
    ];
    if all {
        columns.push(("closed", Kind::Text));
    }
    let mut table = Table::new(&columns);
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { shown(text.as_bytes()) };
    for action in found {
        let due = match action.is_overdue(now) {
            true => format!("{} OVERDUE", action.due),
            false => dash(&action.due),
        };
        let mut row = vec![
            id(action, found, context).to_owned(),
            due,
            dash(&action.owner),
            action.recorded.0.format("%Y-%m-%d").to_string(),
            shown(action.text.as_bytes()),
        ];
        if all {
            row.push(closed(action));
        }
        table.row(row);
    }
    table.render(context.width())
}

fn closed(action: &Action) -> String {
    let Some(closing) = &action.closed else { return "-".to_owned() };
    let day = closing.at.0.format("%Y-%m-%d");
    let note = if closing.note.is_empty() { String::new() } else { format!(": {}", closing.note) };
    shown(format!("{} {day} by {}{note}", action.status.word(), closing.by).as_bytes())
}

// The first digits, unless another action has the same.
fn id<'a>(action: &'a Action, all: &[Action], context: &Context) -> &'a str {
    let short = action.id.get(..DIGITS).unwrap_or(&action.id);
    let others = all.iter().filter(|other| other.id.starts_with(short)).count();
    if context.verbose() || others > 1 { &action.id } else { short }
}
