//! `snapshots`: a table of what there is.

use std::collections::BTreeMap;

use serde::Serialize;

use super::find;

use crate::base::Exit;
use crate::base::id::SnapshotId;
use crate::base::name::Name;
use crate::base::size;
use crate::base::time::Timestamp;
use crate::catalog::list::listed;
use crate::cli::args::FilterArgs;
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::cli::table::{Kind, Table};
use crate::evidence::{self, Passed};
use crate::format::snapshot::Statistics;
use crate::repo::documents::Snapshot;

/// List the snapshots, oldest first
#[derive(clap::Args)]
pub struct SnapshotsArgs {
    #[command(flatten)]
    filters: FilterArgs,
    /// Also those that are forgotten but not pruned yet
    #[arg(long)]
    all: bool,
}

/// A snapshot for programs. Fields are added, never renamed.
#[derive(Serialize)]
pub struct Listed<'s> {
    id: SnapshotId,
    short_id: String,
    time: Timestamp,
    finished: Timestamp,
    host: &'s Name,
    user: &'s Name,
    tool: &'s str,
    sequence: u64,
    previous: Option<SnapshotId>,
    parent: Option<SnapshotId>,
    tags: &'s [Name],
    reason: Option<&'s Name>,
    roots: Vec<&'s Name>,
    statistics: &'s Statistics,
    forgotten: bool,
    partial: bool,
    /// When it last passed a drill, unless it failed one since.
    drilled: Option<Timestamp>,
}

impl<'s> Listed<'s> {
    /// From a document.
    pub fn new(snapshot: &'s Snapshot, passed: &BTreeMap<SnapshotId, Passed>) -> Self {
        let document = &snapshot.document;
        Self {
            id: snapshot.id,
            short_id: snapshot.id.short(),
            time: document.started,
            finished: document.finished,
            host: &document.host,
            user: &document.user,
            tool: &document.tool,
            sequence: document.sequence,
            previous: document.previous,
            parent: document.parent,
            tags: &document.tags,
            reason: document.reason.as_ref(),
            roots: document.roots.iter().map(|root| &root.path).collect(),
            statistics: &document.statistics,
            forgotten: snapshot.forgotten,
            partial: document.is_partial(),
            drilled: passed.get(&snapshot.id).map(|drill| drill.at),
        }
    }
}

#[derive(Serialize)]
struct Answer<'s> {
    snapshots: Vec<Listed<'s>>,
    // those of which the document cannot be read
    unreadable: Vec<SnapshotId>,
}

/// Runs the command.
///
/// # Errors
/// If the snapshots cannot be listed.
pub fn run(args: &SnapshotsArgs, context: &Context) -> Result<Exit, CommandError> {
    let repo = context.open_repo()?;
    let snapshots = context.snapshots(&repo)?;
    let found = listed(&snapshots, &args.filters.filters(context)?, args.all);
    let passed = evidence::last_passed(&repo)?;
    if context.json() {
        let snapshots = found.iter().map(|s| Listed::new(s, &passed)).collect();
        context.document(&Answer { snapshots, unreadable: context.unreadable() })?;
    } else if found.is_empty() {
        context.say("no snapshots");
    } else {
        context.print(&table(&found, &passed, context))?;
    }
    Ok(find::ended(context, &[], false).unwrap_or(Exit::Done))
}

fn table(snapshots: &[&Snapshot], passed: &BTreeMap<SnapshotId, Passed>, context: &Context) -> String {
    let mut table = Table::new(&[
        ("id", Kind::Word),
        ("time (UTC)", Kind::Word),
        ("host", Kind::Word),
        ("files", Kind::Number),
        ("size", Kind::Number),
        ("added", Kind::Number),
        ("tags", Kind::Text),
        ("paths", Kind::Text),
    ]);
    for snapshot in snapshots {
        let document = &snapshot.document;
        let id = if context.verbose() { snapshot.id.to_hex() } else { snapshot.id.short() };
        table.row([
            id,
            document.started.shown(),
            document.host.shown(),
            size::count(document.statistics.files),
            size::bytes(document.statistics.bytes),
            size::bytes(document.statistics.stored_bytes),
            marks(snapshot, passed.get(&snapshot.id)),
            joined(document.roots.iter().map(|root| &root.path)),
        ]);
    }
    table.render(context.width())
}

// Tags, and what else one must know.
fn marks(snapshot: &Snapshot, passed: Option<&Passed>) -> String {
    let mut marks: Vec<String> = snapshot.document.tags.iter().map(Name::shown).collect();
    if let Some(drill) = passed {
        marks.push(format!("(drilled {})", drill.at.0.format("%Y-%m-%d")));
    }
    if snapshot.document.is_partial() {
        marks.push("(partial)".to_owned());
    }
    if snapshot.forgotten {
        marks.push("(forgotten)".to_owned());
    }
    marks.join(" ")
}

/// Names in a row.
pub fn joined<'n>(names: impl Iterator<Item = &'n Name>) -> String {
    names.map(Name::shown).collect::<Vec<_>>().join(" ")
}
