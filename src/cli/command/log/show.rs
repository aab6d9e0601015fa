//! `log show`: what was done, when, by whom.

use serde_json::{Value, json};

use super::{Which, id_of};
use crate::base::Exit;
use crate::base::name::shown;
use crate::base::size;
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::cli::table::{Kind, Table};
use crate::evidence::logged::{FOLLOW_UP, run_in};
use crate::evidence::{FollowUp, Kind as RunKind, Verdict};
use crate::format::record::Record;
use crate::logbook::{self, Logged};

/// List the records, oldest first
#[derive(clap::Args)]
pub struct ShowArgs {
    #[command(flatten)]
    which: Which,
}

/// Runs the command.
///
/// # Errors
/// If the logbook cannot be read.
pub fn run(args: &ShowArgs, context: &Context) -> Result<Exit, CommandError> {
    let logbook = logbook::read(&context.open_repo()?)?;
    let found = args.which.of(&logbook, context)?;
    if context.json() {
        context.document(&json!({ "records": found.iter().map(|l| value(l)).collect::<Vec<_>>() }))?;
    } else if found.is_empty() {
        context.say("no records");
    } else {
        context.print(&table(&found, context))?;
    }
    Ok(Exit::Done)
}

/// A record for programs. Fields are added, never renamed.
pub fn value(logged: &Logged) -> Value {
    let mut value = json!({
        "id": logged.id,
        "writer": logged.writer,
        "sequence": logged.sequence,
        "fault": logged.fault.map(|fault| fault.meaning()),
    });
    if let Some(record) = &logged.record {
        value["previous"] = json!(record.previous);
        value["at"] = json!(record.at);
        value["host"] = json!(record.host.shown());
        value["user"] = json!(record.user.shown());
        value["kind"] = json!(record.kind);
        value["body"] = record.body.clone();
    }
    value
}

fn table(found: &[&Logged], context: &Context) -> String {
    let columns = [
        ("record", Kind::Word),
        ("time (UTC)", Kind::Word),
        ("host", Kind::Word),
        ("user", Kind::Word),
        ("kind", Kind::Word),
        ("what", Kind::Text),
    ];
    let mut table = Table::new(&columns);
    for logged in found {
        let id = id_of(logged.id, context);
        let wrong = logged.fault.map(|fault| format!("NOT TO BE TRUSTED: {}", fault.meaning()));
        let Some(record) = &logged.record else {
            let dash = || "-".to_owned();
            table.row([id, dash(), dash(), dash(), dash(), wrong.unwrap_or_default()]);
            continue;
        };
        table.row([
            id,
            record.at.shown(),
            record.host.shown(),
            record.user.shown(),
            shown(record.kind.as_bytes()),
            wrong.unwrap_or_else(|| summary(record)),
        ]);
    }
    table.render(context.width())
}

/// What a record tells of, on one line that is safe for a terminal.
pub fn summary(record: &Record) -> String {
    let body = &record.body;
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let count = |key: &str| body.get(key).and_then(Value::as_array).map_or(0, Vec::len) as u64;
    let what = if let Some(run) = run_in(&record.kind, body) {
        // what could not be judged was not seen healthy, and without a server nothing was; a rollback that was taken back
        // has an application that is as it was
        let is_healthy = match run.kind {
            RunKind::Drill => run.verdict != Verdict::Inconclusive && run.has_server(),
            RunKind::Rollback => run.verdict == Verdict::Pass,
            _ => run.verdict != Verdict::Inconclusive,
        };
        let recovery = run.measured.recovery_s.filter(|_| is_healthy);
        let recovery = recovery.map(|time| format!(", healthy after {time}"));
        // of a drill the verdict says all; of a change, what became of it
        let what = match run.kind {
            RunKind::Hotfix => run.scenario.clone(),
            _ => run.headline().to_owned(),
        };
        let scenario =
            if run.kind == RunKind::Runbook { format!(", {}", run.scenario) } else { String::new() };
        format!("{}{scenario}: {what}{}", run.app, recovery.unwrap_or_default())
    } else if record.kind == FOLLOW_UP {
        follow_up(body)
    } else {
        match record.kind.as_str() {
            "snapshot" => short(&text("snapshot")),
            "forget" | "remember" => size::plural(count("snapshots"), "snapshot"),
            _ => scalars(body),
        }
    };
    shown(what.as_bytes())
}

fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

fn follow_up(body: &Value) -> String {
    let Ok(said) = serde_json::from_value::<FollowUp>(body.clone()) else { return scalars(body) };
    let about = if said.run_id.len() == 64 { short(&said.run_id) } else { said.run_id };
    let mut parts: Vec<String> =
        said.signoff.iter().map(|signoff| format!("signed off by {}", signoff.by)).collect();
    for (number, noun) in [
        (said.activities.len(), "act"),
        (said.issues.len(), "issue"),
        (said.observations.len(), "observation"),
        (said.actions.len(), "action"),
        (said.lessons.len(), "lesson"),
    ] {
        if number > 0 {
            parts.push(size::plural(number as u64, noun));
        }
    }
    for closed in &said.closed {
        let note = if closed.note.is_empty() { String::new() } else { format!(" ({})", closed.note) };
        parts.push(format!("action {} {}{note}", short(&closed.action), closed.status.word()));
    }
    let said_alone = said.activities.join("; ");
    match (about.is_empty(), said_alone.is_empty()) {
        (false, _) => format!("on {about}: {}", parts.join(", ")),
        (true, true) => parts.join(", "),
        (true, false) => format!("by hand: {said_alone}"),
    }
}

// What can be said in a word of a record whose kind says nothing more.
fn scalars(body: &Value) -> String {
    let word = |value: &Value| match value {
        Value::String(text) if text.len() == 64 => Some(short(text)),
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    };
    let pairs = body.as_object().into_iter().flatten();
    let pairs = pairs.filter_map(|(key, value)| Some(format!("{key} {}", word(value)?)));
    pairs.take(4).collect::<Vec<_>>().join(", ")
}
