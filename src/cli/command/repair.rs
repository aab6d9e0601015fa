//! `repair`: mend what can be mended; nothing is deleted.

use serde_json::json;

use crate::base::Exit;
use crate::base::size;
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::repair::{Options, Outcome, Proposal, RepairError, apply, propose};
use crate::store::Key;
use crate::sys::host::worker_count;

/// Mend a repository
///
/// Makes the index again from the packs, saves every good chunk of damaged packs, brings back what is
/// needed from the trash. Nothing is deleted: what is taken out of use goes to quarantine/.
#[derive(clap::Args)]
pub struct RepairArgs {
    /// Change nothing; say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Move documents of snapshots that cannot be read to quarantine/
    #[arg(long)]
    unreadable_documents: bool,
}

/// Runs the command.
///
/// # Errors
/// If it could not be mended.
pub fn run(args: &RepairArgs, context: &Context) -> Result<Exit, CommandError> {
    let mut repo = context.open_repo()?;
    let options = Options {
        unreadable_documents: args.unreadable_documents,
        workers: worker_count(),
        ..Options::default()
    };
    let observer = context.observer();
    let proposal = propose(&repo, &options, &*observer)?;
    if args.dry_run || proposal.is_empty() {
        drop(observer);
        show_proposal(&proposal, context)?;
        return Ok(if proposal.is_empty() && proposal.has_loss() { Exit::Damage } else { Exit::Done });
    }
    let outcome = apply(&proposal, &mut repo, &*observer)?;
    drop(observer);
    context.record_where_possible(&repo, "repair", outcome_json(&outcome));
    show_outcome(&outcome, context)?;
    Ok(if outcome.lost_chunks + outcome.missing_chunks > 0 { Exit::Damage } else { Exit::Done })
}

fn show_proposal(proposal: &Proposal, context: &Context) -> Result<(), CommandError> {
    if context.json() {
        let keys =
            |keys: &[crate::store::Key]| keys.iter().map(|k| k.as_str().to_owned()).collect::<Vec<_>>();
        return context.document(&json!({
            "message_type": "summary",
            "problems": proposal.problems.len(),
            "rewrite": keys(&proposal.rewrite),
            "bring_back": proposal.bring_back.iter().map(|(_, id)| id).collect::<Vec<_>>(),
            "salvage": proposal.salvage,
            "rebuild_index": proposal.rebuild_index,
            "quarantine": keys(&proposal.quarantine),
        }));
    }
    if proposal.is_empty() {
        context.say(match proposal.has_loss() {
            false => "there is nothing that a repair can mend",
            true => "there is nothing that a repair can mend, but data is lost: lifeboat verify says what",
        });
        say_unreadable(proposal, context);
        return Ok(());
    }
    let mut text = String::new();
    for key in &proposal.rewrite {
        text.push_str(&format!("write again    {key}\n"));
    }
    for (from, id) in &proposal.bring_back {
        text.push_str(&format!("bring back     pack {} from {from}\n", id.short()));
    }
    for id in &proposal.salvage {
        text.push_str(&format!("save chunks of pack {}\n", id.short()));
    }
    if proposal.rebuild_index {
        text.push_str("make the index again from the packs\n");
    }
    for key in &proposal.quarantine {
        text.push_str(&format!("to quarantine  {key}\n"));
    }
    context.print(&text)
}

fn say_unreadable(proposal: &Proposal, context: &Context) {
    if proposal.unreadable > 0 {
        context.say(format!(
            "{} cannot be read: lifeboat repair --unreadable-documents sets them aside, so that the next command is not held up",
            size::plural(proposal.unreadable, "document"),
        ));
    }
}

fn outcome_json(outcome: &Outcome) -> serde_json::Value {
    json!({
        "rewritten": outcome.rewritten.iter().map(|k| k.as_str().to_owned()).collect::<Vec<_>>(),
        "brought_back": outcome.brought_back,
        "salvaged": outcome.salvaged,
        "saved_chunks": outcome.saved_chunks,
        "lost_chunks": outcome.lost_chunks,
        "missing_chunks": outcome.missing_chunks,
        "indexes": outcome.indexes,
        "quarantined": outcome.quarantined.iter().map(|k| k.as_str().to_owned()).collect::<Vec<_>>(),
    })
}

fn show_outcome(outcome: &Outcome, context: &Context) -> Result<(), CommandError> {
    if context.json() {
        let mut answer = outcome_json(outcome);
        answer["message_type"] = json!("summary");
        return context.document(&answer);
    }
    context.say(format!(
        "saved {} of {} damaged packs, lost {}; {} objects moved to quarantine/",
        size::plural(outcome.saved_chunks, "chunk"),
        outcome.salvaged.len(),
        size::count(outcome.lost_chunks),
        outcome.quarantined.len(),
    ));
    if outcome.missing_chunks > 0 {
        let chunks = size::plural(outcome.missing_chunks, "chunk");
        context.say(format!("{chunks} that snapshots need are in no pack any more"));
    }
    let is_document =
        |key: &Key| key.as_str().starts_with("quarantine/snapshots/") && key.as_str().ends_with(".json");
    if outcome.quarantined.iter().any(is_document) {
        context.say(
            "the snapshots of the documents that were set aside are gone: prune goes on with --accept-older",
        );
    }
    if outcome.lost_chunks + outcome.missing_chunks > 0 {
        context.say("next: lifeboat verify names the files that are lost; a new snapshot stores them again where they still exist");
    }
    Ok(())
}

impl From<RepairError> for CommandError {
    fn from(error: RepairError) -> Self {
        match error {
            RepairError::Repo(error) => error.into(),
            RepairError::Busy => {
                Self::of(Exit::Locked, &error).next("wait until the other command has ended, then try again")
            }
            RepairError::Changed => Self::of(Exit::Failed, &error).next("run it again"),
            other => Self::of(Exit::Failed, &other),
        }
    }
}
