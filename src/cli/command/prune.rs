//! `prune`: remove what no snapshot needs.

use std::collections::BTreeSet;

use serde_json::json;

use crate::base::Exit;
use crate::base::size;
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::format::record::PlanState;
use crate::logbook::PLANS_FIELD;
use crate::retention::prune::{Options, Outcome, Proposal, PruneError, propose, run as prune};

/// Remove forgotten snapshots and what no snapshot needs
///
/// Where nobody else is at work, everything at once. Otherwise (also on network and FUSE file systems, whose locks others
/// may not see, and for a day after a writer on another host was cut off), or with --in-steps, in steps: what is
/// useless is condemned now, moved to the trash by a prune at least two days later, and deleted by
/// one at least a week after that. What writers that were killed left half written (tmp/ of the repository) goes only where
/// nobody else is at work. Refuses if anything that a snapshot needs cannot be read.
#[derive(clap::Args)]
pub struct PruneArgs {
    /// Remove nothing; say what would be
    #[arg(long)]
    dry_run: bool,
    /// Rewrite packs of which more than this share is useless
    #[arg(long, value_name = "PERCENT", default_value = "30%", value_parser = percent)]
    max_unused: f64,
    /// Go in steps even where nobody else is at work
    #[arg(long)]
    in_steps: bool,
    /// Read every manifest, even if nothing seems to have become useless
    #[arg(long)]
    full: bool,
    /// Take the repository as it is, though this host has seen a newer state of it
    #[arg(long, conflicts_with = "dry_run")]
    accept_older: bool,
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    let share: f64 = number.parse().map_err(|_| format!("{text:?} is not a share such as 30%"))?;
    if (0.0..=100.0).contains(&share) {
        Ok(share / 100.0)
    } else {
        Err("a share is from 0% to 100%".to_owned())
    }
}

/// Runs the command.
///
/// # Errors
/// If it is refused or fails.
pub fn run(args: &PruneArgs, context: &Context) -> Result<Exit, CommandError> {
    let mut repo = context.open_repo()?;
    context.demand_newest(&repo, args.accept_older, "nothing was removed")?;
    let options = Options {
        max_unused: args.max_unused,
        together: args.in_steps,
        full: args.full,
        ..Options::default()
    };
    let observer = context.observer();
    if args.dry_run {
        let proposal = propose(&mut repo, &options, &*observer)?;
        drop(observer);
        return show_proposal(&proposal, context);
    }
    // what is removed must stand in the logbook: without a key nothing is
    let key = context.writer_key(&repo)?;
    let outcome = prune(&mut repo, &options, &*observer)?;
    drop(observer);
    let mut body = outcome_json(&outcome);
    let plans = repo.prune_plans()?;
    body[PLANS_FIELD] = plans.iter().map(|(key, _)| key.stem()).collect();
    // a prune that was cut off before its record told of none of those that it removed
    let earlier =
        plans.iter().filter(|(_, plan)| plan.state == PlanState::Done).flat_map(|(_, plan)| &plan.documents);
    let removed: BTreeSet<_> = outcome.removed.iter().chain(earlier).collect();
    body["removed_snapshots"] = json!(removed);
    context.record(&repo, &key, "prune", body);
    show_outcome(&outcome, context)?;
    Ok(Exit::Done)
}

fn show_proposal(proposal: &Proposal, context: &Context) -> Result<Exit, CommandError> {
    let exit = if proposal.refusals.is_empty() { Exit::Done } else { Exit::Failed };
    if context.json() {
        context.document(&json!({
            "message_type": "summary",
            "dry_run": true,
            "refusals": proposal.refusals.iter().map(|r| json!({"code": r.code(), "text": r.to_string()})).collect::<Vec<_>>(),
            "warnings": proposal.warnings.iter().map(|w| json!({"code": w.code(), "text": w.to_string()})).collect::<Vec<_>>(),
            "snapshots": proposal.snapshots.len(),
            "removed_snapshots": proposal.forgotten,
            "dead_packs": proposal.dead.iter().map(|p| p.id).collect::<Vec<_>>(),
            "rewritten_packs": proposal.rewrite.len(),
            "kept_bytes": proposal.kept.bytes,
            "unused_kept_bytes": proposal.unused_kept_bytes,
            "freed_bytes": proposal.freed_bytes(),
        }))?;
        return Ok(exit);
    }
    for refusal in &proposal.refusals {
        context.warn(refusal.code(), &refusal.to_string());
    }
    for warning in &proposal.warnings {
        context.warn(warning.code(), &warning.to_string());
    }
    let dead: u64 = proposal.dead.iter().map(|p| p.bytes).sum();
    context.print(&format!(
        "would remove {} and {} ({}), rewrite {}, keep {} in {}\nabout {} would become free\n",
        size::plural(proposal.forgotten.len() as u64, "forgotten snapshot"),
        size::plural(proposal.dead.len() as u64, "pack"),
        size::bytes(dead),
        size::plural(proposal.rewrite.len() as u64, "pack"),
        size::bytes(proposal.kept.bytes),
        size::plural(proposal.kept.packs, "pack"),
        size::bytes(proposal.freed_bytes()),
    ))?;
    Ok(exit)
}

fn outcome_json(outcome: &Outcome) -> serde_json::Value {
    let amount = |a: crate::retention::prune::Amount| json!({"packs": a.packs, "bytes": a.bytes});
    json!({
        "removed_snapshots": outcome.removed,
        "deleted": amount(outcome.deleted),
        "rewritten": amount(outcome.rewritten),
        "written_bytes": outcome.written_bytes,
        "condemned": amount(outcome.condemned),
        "waiting": amount(outcome.waiting),
        "trashed": amount(outcome.trashed),
        "purged_objects": outcome.purged_objects,
        "cleared_bytes": outcome.cleared_bytes,
        "replaced_indexes": outcome.replaced_indexes,
    })
}

fn show_outcome(outcome: &Outcome, context: &Context) -> Result<(), CommandError> {
    if context.json() {
        let mut answer = outcome_json(outcome);
        answer["message_type"] = json!("summary");
        return context.document(&answer);
    }
    context.say(format!(
        "removed {} and {} ({}); rewrote {}, writing {}",
        size::plural(outcome.removed.len() as u64, "snapshot"),
        size::plural(outcome.deleted.packs, "pack"),
        size::bytes(outcome.deleted.bytes),
        size::plural(outcome.rewritten.packs, "pack"),
        size::bytes(outcome.written_bytes),
    ));
    if outcome.cleared_bytes > 0 {
        let bytes = size::bytes(outcome.cleared_bytes);
        context.say(format!("  {bytes} removed that writers which were killed had left half written"));
    }
    for (amount, what) in [
        (outcome.condemned, "condemned; a prune in two days moves them to the trash"),
        (outcome.waiting, "condemned earlier, their time has not come"),
        (outcome.trashed, "moved to the trash; a prune in a week deletes them"),
    ] {
        if amount.packs > 0 {
            context.say(format!(
                "  {} ({}) {what}",
                size::plural(amount.packs, "pack"),
                size::bytes(amount.bytes)
            ));
        }
    }
    Ok(())
}

impl From<PruneError> for CommandError {
    fn from(error: PruneError) -> Self {
        match error {
            PruneError::Repo(error) => error.into(),
            PruneError::Refused(refusals) => {
                let all: Vec<String> = refusals.iter().map(ToString::to_string).collect();
                Self::new(Exit::Failed, format!("nothing was removed: {}", all.join("; ")))
                    .next("lifeboat verify says what is damaged; lifeboat repair mends what can be mended, and sets documents aside that cannot be read with --unreadable-documents")
            }
            PruneError::Outdated | PruneError::Slept(_) => {
                Self::of(Exit::Failed, &error).next("run it again")
            }
            other => Self::of(Exit::Failed, &other),
        }
    }
}
