//! `show`: all that a snapshot says of itself.

use std::ffi::OsString;

use serde::Serialize;

use super::snapshots::{Listed, joined};
use crate::base::Exit;
use crate::base::name::shown;
use crate::base::size;
use crate::cli::args::{self, FilterArgs};
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::evidence::{self, Passed};
use crate::format::snapshot::{Database, Root, SourceProblem};
use crate::repo::documents::{Signed, Snapshot};

/// Show what a snapshot says of itself, and who signed it
#[derive(clap::Args)]
pub struct ShowArgs {
    /// An id or its first digits, latest, latest~2, or @tag
    #[arg(value_name = "SNAPSHOT", default_value = "latest")]
    snapshot: OsString,
    #[command(flatten)]
    filters: FilterArgs,
}

#[derive(Serialize)]
struct Answer<'s> {
    #[serde(flatten)]
    listed: Listed<'s>,
    signed: &'static str,
    signer: Option<&'s str>,
    manifests: Vec<Manifest<'s>>,
    problems: &'s [SourceProblem],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    databases: &'s [Database],
}

#[derive(Serialize)]
struct Manifest<'s> {
    path: &'s crate::base::Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'s [crate::base::Name]>,
    entries: u64,
}

/// Runs the command.
///
/// # Errors
/// If there is no such snapshot.
pub fn run(args: &ShowArgs, context: &Context) -> Result<Exit, CommandError> {
    let repo = context.open_repo()?;
    let snapshots = context.snapshots(&repo)?;
    let wanted = args::snapshot(&args.snapshot)?;
    let snapshot = context.choose(&wanted, &snapshots, &args.filters.filters(context)?)?;
    let signed = repo.signed(snapshot.id, &repo.writers()?)?;
    let passed = evidence::last_passed(&repo)?;
    if context.json() {
        let (word, signer) = match &signed {
            Signed::By(who) => ("known", Some(who.as_str())),
            Signed::Unknown => ("unknown", None),
            Signed::Missing => ("missing", None),
        };
        let manifests = snapshot.document.roots.iter().map(manifest).collect();
        let problems = &snapshot.document.problems;
        context.document(&Answer {
            listed: Listed::new(snapshot, &passed),
            signed: word,
            signer,
            manifests,
            problems,
            databases: &snapshot.document.databases,
        })?;
    } else {
        context.print(&text(snapshot, &signed, passed.get(&snapshot.id)))?;
    }
    Ok(Exit::Done)
}

fn manifest(root: &Root) -> Manifest<'_> {
    Manifest { path: &root.path, command: root.command.as_deref(), entries: root.manifest.entries }
}

fn text(snapshot: &Snapshot, signed: &Signed, passed: Option<&Passed>) -> String {
    let document = &snapshot.document;
    let s = &document.statistics;
    let id = |id: Option<crate::base::SnapshotId>| id.map_or_else(|| "none".to_owned(), |id| id.short());
    let mut lines: Vec<(&str, String)> = vec![
        ("id", snapshot.id.to_hex()),
        ("time", format!("{} UTC", document.started.shown())),
        ("took", size::duration(document.finished.since(document.started))),
        ("host", document.host.shown()),
        ("user", document.user.shown()),
        ("tool", shown(document.tool.as_bytes())),
        (
            "sequence",
            format!(
                "{} (previous {}, parent {})",
                document.sequence,
                id(document.previous),
                id(document.parent)
            ),
        ),
    ];
    if let Some(reason) = &document.reason {
        lines.push(("reason", reason.shown()));
    }
    if !document.tags.is_empty() {
        lines.push(("tags", joined(document.tags.iter())));
    }
    lines.push((
        "signed",
        match signed {
            Signed::By(who) => format!("by {who}"),
            Signed::Unknown => "by nobody the repository knows".to_owned(),
            Signed::Missing => "not at all".to_owned(),
        },
    ));
    if let Some(drill) = passed {
        let text = format!("passed {} UTC, run {}", drill.at.shown(), shown(drill.run_id.as_bytes()));
        lines.push(("drilled", text));
    }
    if snapshot.forgotten {
        lines.push(("forgotten", "yes; lifeboat forget --undo takes that back until a prune".to_owned()));
    }
    lines.extend([
        (
            "files",
            format!(
                "{} ({} new, {} changed, {} unchanged)",
                size::count(s.files),
                size::count(s.new_files),
                size::count(s.changed_files),
                size::count(s.unchanged_files)
            ),
        ),
        (
            "others",
            format!("{} directories, {} of other kinds", size::count(s.directories), size::count(s.others)),
        ),
        (
            "size",
            format!("{}, {} added to the repository", size::bytes(s.bytes), size::bytes(s.stored_bytes)),
        ),
    ]);
    let mut text: String = lines.iter().map(|(key, value)| format!("{key:<10} {value}\n")).collect();
    for root in &document.roots {
        let of = root.command.as_ref().map(|argv| format!(" (printed by {})", joined(argv.iter())));
        let entries = size::count(root.manifest.entries);
        text.push_str(&format!(
            "root       {}{}, {entries} entries\n",
            root.path.shown(),
            of.unwrap_or_default()
        ));
    }
    for database in &document.databases {
        let rows: u64 = database.tables.values().fold(0, |sum, rows| sum.saturating_add(*rows));
        text.push_str(&format!(
            "database   {} ({}): {} with {}\n",
            database.path.shown(),
            shown(database.kind.as_bytes()),
            size::plural(database.tables.len() as u64, "table"),
            size::plural(rows, "row")
        ));
    }
    text.push_str(&problems(snapshot));
    text
}

fn problems(snapshot: &Snapshot) -> String {
    let s = &snapshot.document.statistics;
    if snapshot.document.problems.is_empty() && !snapshot.document.is_partial() {
        return String::new();
    }
    let mut text = format!(
        "partial    {} could not be read, {} may be torn\n",
        size::count(s.skipped),
        size::count(s.torn)
    );
    for problem in &snapshot.document.problems {
        let code = shown(problem.code.as_bytes());
        text.push_str(&format!("  {}: {} [{code}]\n", problem.path.shown(), shown(problem.text.as_bytes())));
    }
    text
}
