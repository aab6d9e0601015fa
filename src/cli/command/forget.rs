//! `forget`: by name, or by a policy that says why it keeps what it keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::snapshots::joined;
use crate::base::Exit;
use crate::base::id::SnapshotId;
use crate::base::name::{Name, shown};
use crate::base::size;
use crate::base::time::Timestamp;
use crate::catalog::list::listed;
use crate::catalog::select::Filters;
use crate::cli::args::{self, FilterArgs};
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::cli::table::{Kind, Table};
use crate::evidence;
use crate::format::source::Source;
use crate::guard;
use crate::logbook::TOMBSTONES_FIELD;
use crate::plan::{Plan, PlanError, Retention, nearest};
use crate::repo::Repo;
use crate::repo::documents::Snapshot;
use crate::repo::keys::WriterKey;
use crate::retention::policy::{Candidate, Judgement, Policy, judge};

/// Forget snapshots, by name or by rules
///
/// A forgotten snapshot can be taken back with --undo until a prune removes it. Rules are applied to the
/// snapshots of each host and set of paths by themselves, in UTC; a snapshot stays if any rule keeps it. The
/// newest complete one always stays. Without a rule the plan's [retention] holds, for snapshots of the plan's tree.
#[derive(clap::Args)]
pub struct ForgetArgs {
    /// Forget just these
    #[arg(value_name = "SNAPSHOT", conflicts_with_all = ["keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly", "keep_within", "keep_tag"])]
    snapshots: Vec<OsString>,
    /// Keep the newest N
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_last: u32,
    /// Keep one for each of the newest N hours that have one
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_hourly: u32,
    /// Keep one for each of the newest N days that have one
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_daily: u32,
    /// Keep one for each of the newest N weeks that have one
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_weekly: u32,
    /// Keep one for each of the newest N months that have one
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_monthly: u32,
    /// Keep one for each of the newest N years that have one
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_yearly: u32,
    /// Keep all taken at most so long before the newest, such as 36h or 14d
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    keep_within: Option<Duration>,
    /// Keep all with this tag
    #[arg(long, value_name = "TAG")]
    keep_tag: Vec<String>,
    /// What for
    #[arg(long, value_name = "TEXT")]
    reason: Option<OsString>,
    /// Forget nothing; show what would be
    #[arg(long)]
    dry_run: bool,
    /// Take back that these were forgotten
    #[arg(long, requires = "snapshots", conflicts_with = "dry_run")]
    undo: bool,
    /// Take the repository as it is, though this host has seen a newer state of it: what is gone counts as forgotten
    #[arg(long, conflicts_with_all = ["dry_run", "undo"])]
    accept_older: bool,
    #[command(flatten)]
    filters: FilterArgs,
}

/// A snapshot and what becomes of it. Fields are added, never renamed.
#[derive(Serialize)]
struct Judged {
    id: SnapshotId,
    short_id: String,
    time: Timestamp,
    host: Name,
    roots: Vec<Name>,
    keep: bool,
    reasons: Vec<String>,
}

#[derive(Serialize)]
struct Answer {
    dry_run: bool,
    // the plan whose rules they are
    #[serde(skip_serializing_if = "Option::is_none")]
    rules_of: Option<Name>,
    kept: Vec<Judged>,
    forgotten: Vec<Judged>,
}

/// Runs the command.
///
/// # Errors
/// If a snapshot is not found, or the policy is refused; nothing is forgotten then.
pub fn run(args: &ForgetArgs, context: &Context) -> Result<Exit, CommandError> {
    let repo = context.open_repo()?;
    context.demand_newest(&repo, args.accept_older, "nothing was forgotten")?;
    if args.accept_older && args.snapshots.is_empty() && policy(args).is_empty() {
        return Ok(Exit::Done);
    }
    // what is forgotten must stand in the logbook: without a key nothing is
    let key = if args.dry_run { None } else { Some(context.writer_key(&repo)?) };
    let snapshots = context.snapshots(&repo)?;
    let filters = args.filters.filters(context)?;
    known(args, &filters, &snapshots)?;
    if let (true, Some(key)) = (args.undo, &key) {
        let found = named(args, context, &snapshots, &filters)?;
        return undo(&found, args, context, &repo, key);
    }
    let rules = if args.snapshots.is_empty() { Some(rules(args, context)?) } else { None };
    let mut judged = if let Some(rules) = &rules {
        by_policy(rules, context, &repo, &snapshots, &filters)?
    } else {
        let found = named(args, context, &snapshots, &filters)?;
        found.into_iter().map(|s| describe(s, false, Vec::new())).collect()
    };
    keep_the_way_back(&mut judged, context);
    let going: Vec<SnapshotId> = judged.iter().filter(|one| !one.keep).map(|one| one.id).collect();
    if let Some(key) = &key {
        context.forget(&repo, key, &going, args.reason.as_deref().map(Name::from))?;
    }
    show(judged, args, rules.and_then(|rules| rules.plan).as_ref(), context)?;
    Ok(Exit::Done)
}

// A word that no snapshot bears is a slip: what it was meant to keep, or to choose, would go or stay unseen.
fn known(args: &ForgetArgs, filters: &Filters, snapshots: &[Snapshot]) -> Result<(), CommandError> {
    let documents = || snapshots.iter().map(|snapshot| &snapshot.document);
    let tags: BTreeSet<&[u8]> =
        documents().flat_map(|document| document.tags.iter().map(|tag| &tag.0[..])).collect();
    let hosts: BTreeSet<&[u8]> = documents().map(|document| &document.host.0[..]).collect();
    let parts = |tags: &[String]| -> Vec<Name> {
        tags.iter().flat_map(|tag| tag.split(',').map(Name::from)).collect()
    };
    for (what, wanted, there) in [
        ("has the tag", args.keep_tag.iter().map(|tag| Name::from(tag.as_str())).collect(), &tags),
        ("has the tag", parts(&filters.tags), &tags),
        ("is of the host", filters.hosts.clone(), &hosts),
    ] {
        let Some(strange) = wanted.iter().find(|word| !there.contains(&word.0[..])) else { continue };
        let error = CommandError::usage(format!("no snapshot {what} {}", strange.shown()));
        let near = str::from_utf8(&strange.0)
            .ok()
            .and_then(|word| nearest(word, there.iter().filter_map(|other| str::from_utf8(other).ok())));
        return Err(match near {
            Some(near) => error.next(format!("{} is meant? nothing was forgotten", shown(near.as_bytes()))),
            None => error.next("nothing was forgotten; lifeboat snapshots lists tags and hosts"),
        });
    }
    Ok(())
}

// While a hotfix is armed its snapshot is the way back, whatever the rules say. Where no plan is at hand none can be asked.
fn keep_the_way_back(judged: &mut [Judged], context: &Context) {
    let armed =
        context.load_plan().ok().and_then(|plan| guard::armed(&context.state(&plan).ok()?).ok().flatten());
    let Some(armed) = armed else { return };
    for one in judged.iter_mut().filter(|one| one.id == armed.before) {
        one.keep = true;
        one.reasons.push("the way back of an armed hotfix".to_owned());
    }
}

fn named<'s>(
    args: &ForgetArgs,
    context: &Context,
    snapshots: &'s [Snapshot],
    filters: &Filters,
) -> Result<Vec<&'s Snapshot>, CommandError> {
    let mut found: Vec<&Snapshot> = Vec::new();
    for text in &args.snapshots {
        let snapshot = context.choose(&args::snapshot(text)?, snapshots, filters)?;
        if found.iter().all(|other| other.id != snapshot.id) {
            found.push(snapshot);
        }
    }
    Ok(found)
}

fn policy(args: &ForgetArgs) -> Policy {
    Policy {
        keep_last: args.keep_last,
        keep_hourly: args.keep_hourly,
        keep_daily: args.keep_daily,
        keep_weekly: args.keep_weekly,
        keep_monthly: args.keep_monthly,
        keep_yearly: args.keep_yearly,
        keep_within: args.keep_within,
        keep_tags: args.keep_tag.clone(),
    }
}

/// What is gone by, and the plan if that says it.
struct Rules {
    policy: Policy,
    plan: Option<Plan>,
}

// Those of the command line go before those of the plan.
fn rules(args: &ForgetArgs, context: &Context) -> Result<Rules, CommandError> {
    let given = policy(args);
    if !given.is_empty() {
        return Ok(Rules { policy: given, plan: None });
    }
    let plan = match context.load_plan() {
        Err(PlanError::NotFound(_)) => None,
        other => Some(other?),
    };
    let planned = plan.map(|plan| Rules { policy: planned(&plan.retention), plan: Some(plan) });
    planned.filter(|rules| !rules.policy.is_empty()).ok_or_else(|| {
        CommandError::usage("there is nothing to go by").next(
            "name snapshots, give rules such as --keep-daily 7 --keep-weekly 5, or write them into [retention] of a plan",
        )
    })
}

fn planned(retention: &Retention) -> Policy {
    Policy {
        keep_last: retention.keep_last,
        keep_hourly: retention.keep_hourly,
        keep_daily: retention.keep_daily,
        keep_weekly: retention.keep_weekly,
        keep_monthly: retention.keep_monthly,
        keep_yearly: retention.keep_yearly,
        keep_within: retention.keep_within.map(|span| span.0),
        keep_tags: retention.keep_tag.clone(),
    }
}

fn by_policy(
    rules: &Rules,
    context: &Context,
    repo: &Repo,
    snapshots: &[Snapshot],
    filters: &Filters,
) -> Result<Vec<Judged>, CommandError> {
    let mut found = listed(snapshots, filters, false);
    if let Some(plan) = &rules.plan {
        // what else is in the repository has rules of its own
        let root = Name::from(plan.root().as_os_str());
        found.retain(|snapshot| snapshot.document.roots.iter().any(|one| one.path == root));
    }
    let passed = evidence::last_passed(repo)?;
    let candidates: Vec<Candidate> =
        found.iter().map(|snapshot| candidate(snapshot, passed.contains_key(&snapshot.id))).collect();
    let judgements = judge(&rules.policy, &candidates, context.clock().now())?;
    let judged = |(snapshot, Judgement { keep, reasons, .. }): (&&Snapshot, Judgement)| {
        describe(snapshot, keep, reasons)
    };
    Ok(found.iter().zip(judgements).map(judged).collect())
}

fn candidate(snapshot: &Snapshot, drilled: bool) -> Candidate {
    let document = &snapshot.document;
    Candidate {
        id: snapshot.id,
        group: Source::of(document),
        sequence: document.sequence,
        taken: document.started,
        tags: document.tags.clone(),
        drilled,
        partial: document.is_partial(),
    }
}

fn describe(snapshot: &Snapshot, keep: bool, reasons: Vec<String>) -> Judged {
    Judged {
        id: snapshot.id,
        short_id: snapshot.id.short(),
        time: snapshot.document.started,
        host: snapshot.document.host.clone(),
        roots: snapshot.document.roots.iter().map(|root| root.path.clone()).collect(),
        keep,
        reasons,
    }
}

fn undo(
    found: &[&Snapshot],
    args: &ForgetArgs,
    context: &Context,
    repo: &Repo,
    key: &WriterKey,
) -> Result<Exit, CommandError> {
    if let Some(known) = found.iter().find(|snapshot| !snapshot.forgotten) {
        return Err(CommandError::new(Exit::Failed, format!("{} is not forgotten", known.id.short()))
            .next("lifeboat snapshots --all marks those that are"));
    }
    let ids: Vec<SnapshotId> = found.iter().map(|snapshot| snapshot.id).collect();
    let reason = args.reason.as_deref().map(|reason| Name::from(reason).shown());
    // told first: a tombstone that is gone without a record looks like one that somebody took away
    let tombstone = |id: &SnapshotId| Some((*id, repo.tombstone_hash(*id)?));
    let tombstones: BTreeMap<_, _> = ids.iter().filter_map(tombstone).collect();
    let body = json!({"snapshots": ids, "reason": reason, TOMBSTONES_FIELD: tombstones});
    context.record(repo, key, "remember", body);
    for &id in &ids {
        repo.remember(id)?;
    }
    let back: Vec<Judged> = found.iter().map(|s| describe(s, true, vec!["taken back".to_owned()])).collect();
    show(back, args, None, context)?;
    Ok(Exit::Done)
}

fn show(
    judged: Vec<Judged>,
    args: &ForgetArgs,
    plan: Option<&Plan>,
    context: &Context,
) -> Result<(), CommandError> {
    let rules_of = plan.map(|plan| Name::from(plan.file().as_os_str()));
    let (kept, forgotten): (Vec<Judged>, Vec<Judged>) = judged.into_iter().partition(|one| one.keep);
    if context.json() {
        return context.document(&Answer { dry_run: args.dry_run, rules_of, kept, forgotten });
    }
    if !kept.is_empty() {
        context.print(&table(&kept, "kept because", context))?;
    }
    if !forgotten.is_empty() {
        let gap = if kept.is_empty() { "" } else { "\n" };
        let title = if args.dry_run { "would be forgotten" } else { "forgotten" };
        context.print(&format!("{gap}{}", table(&forgotten, title, context)))?;
    }
    if let Some(plan) = rules_of {
        context.say(format!("by the rules in [retention] of {}", plan.shown()));
    }
    context.say(summary(kept.len() as u64, forgotten.len() as u64, args));
    Ok(())
}

fn summary(kept: u64, forgotten: u64, args: &ForgetArgs) -> String {
    if args.undo {
        return format!("{} taken back", size::plural(kept, "snapshot"));
    }
    let verb = if args.dry_run { "would be forgotten" } else { "forgotten" };
    let mut text = format!("{} {verb}", size::plural(forgotten, "snapshot"));
    if args.snapshots.is_empty() {
        text.push_str(&format!(", {} kept", size::count(kept)));
    }
    if !args.dry_run && forgotten > 0 {
        text.push_str("; lifeboat prune frees their space, lifeboat forget --undo takes it back until then");
    }
    text
}

fn table(judged: &[Judged], title: &str, context: &Context) -> String {
    let mut table = Table::new(&[
        ("id", Kind::Word),
        ("time (UTC)", Kind::Word),
        ("host", Kind::Word),
        ("paths", Kind::Text),
        (title, Kind::Text),
    ]);
    for one in judged {
        table.row([
            if context.verbose() { one.id.to_hex() } else { one.short_id.clone() },
            one.time.shown(),
            shown(&one.host.0),
            joined(one.roots.iter()),
            if one.keep { one.reasons.join(", ") } else { "yes".to_owned() },
        ]);
    }
    table.render(context.width())
}
