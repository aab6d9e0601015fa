//! What a hotfix says at its end, and when it is asked.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::console::whole;
use super::{exit_of, refused, state_failed};
use crate::base::Exit;
use crate::base::id::SnapshotId;
use crate::base::name::Name;
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::guard::{self, Armed, GuardError, Last, Outcome, is_watched};
use crate::plan::Plan;

/// How it ended; `stand` is where the user stood when it began.
pub fn outcome(outcome: &Outcome, stand: &Stand, context: &Context) -> Result<Exit, CommandError> {
    if let Some(why) = &outcome.not_recorded {
        context.warn("not-recorded", &format!("the logbook could not be written: {why}"));
    }
    // the terminal may be gone; how it ended is the exit status too
    let _ = if context.json() {
        context.document(&json!({
            "message_type": "summary",
            "end": outcome.end,
            "run_id": outcome.run_id,
            "why": outcome.why,
            "before": outcome.before,
            "after": outcome.after,
            "safety": outcome.safety,
            "commands": outcome.commands,
            "record": outcome.evidence,
        }))
    } else {
        context.print(&(text(outcome) + &stand.advice()))
    };
    Ok(exit_of(outcome))
}

fn text(outcome: &Outcome) -> String {
    let mut text = format!("{}: {}\n", outcome.end.title(), outcome.why);
    let id = |id: SnapshotId| id.short();
    text.push_str(&format!("  before    {}\n", id(outcome.before)));
    if let Some(after) = outcome.after.filter(|after| *after != outcome.before) {
        text.push_str(&format!("  after     {}\n", id(after)));
    }
    if let Some(safety) = outcome.safety {
        text.push_str(&format!(
            "  the change that was taken back is snapshot {}; lifeboat undo brings it again\n",
            id(safety)
        ));
    }
    let seal = outcome.evidence.as_ref().and_then(|evidence| evidence.seal.as_ref());
    if let Some(seal) = seal {
        let record = seal.record.get(..8).unwrap_or(&seal.record);
        text.push_str(&format!("  record    {record} (run {})\n", outcome.run_id));
    }
    for command in outcome.commands.iter().filter(|command| !command.is_empty()) {
        text.push_str(&format!("  next      {command}\n"));
    }
    text
}

/// Where the user's shell stands. When trees change places, whoever stood in the old one stands there still, and its
/// commands would mean a tree that is no more the application.
pub struct Stand {
    tree: PathBuf,
    id: Option<(u64, u64)>,
    is_inside: bool,
}

impl Stand {
    /// As it is now.
    pub fn now(plan: &Plan) -> Self {
        let tree = plan.root();
        let real = std::fs::canonicalize(&tree).unwrap_or_else(|_| tree.clone());
        let is_inside = std::env::current_dir().is_ok_and(|here| here.starts_with(real));
        Self { id: id_of(&tree), is_inside, tree }
    }

    /// What to do if it stands in a tree that is no more the application; else empty.
    pub fn advice(&self) -> String {
        if !self.is_inside || id_of(&self.tree) == self.id {
            return String::new();
        }
        let tree = Name::from(self.tree.as_os_str()).shown();
        format!("  next      cd {tree}: your shell stands in the tree that was taken away\n")
    }
}

fn id_of(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|data| (data.dev(), data.ino()))
}

/// How one ended that another process watched.
pub fn last(last: &Last, context: &Context) -> Result<Exit, CommandError> {
    if context.json() {
        context.document(
            &json!({"message_type": "summary", "end": last.end, "run_id": last.run_id, "why": last.why}),
        )?;
    } else {
        context.print(&format!("{}: {}\n", last.end.title(), last.why))?;
    }
    Ok(last.end.exit())
}

/// A change by hand is armed.
pub fn begun(found: &Armed, context: &Context) -> Result<Exit, CommandError> {
    if context.json() {
        context.document(&json!({"message_type": "summary", "end": "armed", "armed": found}))?;
        return Ok(Exit::Done);
    }
    let mut text = format!(
        "ARMED: make your change, then lifeboat hotfix confirm; lifeboat hotfix abort takes it back\n  before    {}\n",
        found.before.short()
    );
    if let Some(left) = found.confirm_left() {
        text.push_str(&format!("  rolled back in {} without a word from you\n", whole(left)));
    }
    context.print(&text)?;
    Ok(Exit::Done)
}

/// Nothing is armed.
pub fn nothing(context: &Context) -> Result<Exit, CommandError> {
    if context.json() {
        context
            .document(&json!({"message_type": "summary", "end": null, "armed": null, "watched": false}))?;
    } else {
        context.print("no hotfix is armed\n")?;
    }
    Ok(Exit::Done)
}

/// What is armed.
pub fn armed(found: &Armed, watched: bool, context: &Context) -> Result<Exit, CommandError> {
    if context.json() {
        context
            .document(&json!({"message_type": "summary", "end": null, "armed": found, "watched": watched}))?;
        return Ok(Exit::Done);
    }
    let mut text = format!(
        "{}: {}\n  run       {}\n  since     {} by {}\n  before    {}\n",
        found.stage.word(),
        found.change.shown(),
        found.run_id,
        found.started.shown(),
        found.by,
        found.before.short()
    );
    if let Some(left) = found.watch_left() {
        text.push_str(&format!("  watched   {} more\n", whole(left)));
    }
    if let Some(left) = found.confirm_left() {
        text.push_str(&format!("  confirm   within {}, or it is rolled back\n", whole(left)));
    }
    if let Some(touched) = &found.touched {
        text.push_str(&format!("  touched   {}\n", touched.shown()));
    }
    text.push_str(match (watched, found.stage) {
        (true, _) => "  a watcher is with it, and writes what it sees to hotfix.log in the state directory\n",
        (false, guard::Stage::Open) => "  it waits for you: lifeboat hotfix confirm, or abort\n",
        (false, _) => "  nobody watches it: lifeboat hotfix --resume\n",
    });
    context.print(&text)?;
    Ok(Exit::Done)
}

/// `hotfix status`.
pub fn status(context: &Context) -> Result<Exit, CommandError> {
    let plan = context.plan()?;
    let state = context.state(&plan)?;
    match guard::armed(&state).map_err(state_failed)? {
        None => nothing(context),
        Some(found) => {
            let watched = is_watched(&state).map_err(|error| refused(GuardError::State(error)))?;
            armed(&found, watched, context)
        }
    }
}
