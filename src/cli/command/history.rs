//! `history`: the versions of one path.

use std::path::PathBuf;

use serde::Serialize;

use super::find::{Times, ended, times};
use crate::base::Exit;
use crate::base::id::SnapshotId;
use crate::base::name::Name;
use crate::base::size;
use crate::base::time::Timestamp;
use crate::catalog::compare;
use crate::catalog::list::listed;
use crate::catalog::versions::{Found, Version, history};
use crate::cli::args::FilterArgs;
use crate::cli::context::{Context, absolute};
use crate::cli::entry::{self, Listed};
use crate::cli::error::CommandError;
use crate::cli::reading::Reading;
use crate::cli::table::{Kind, Table};
use crate::format::FormatError;
use crate::format::manifest::Entry;

/// Show the versions that a path had, snapshot by snapshot
///
/// Snapshots that are damaged are named, and the status is 40; the others are answered.
#[derive(clap::Args)]
pub struct HistoryArgs {
    /// The path on its host
    #[arg(value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    path: PathBuf,
    #[command(flatten)]
    filters: FilterArgs,
}

/// A version for programs. Fields are added, never renamed.
#[derive(Serialize)]
pub struct VersionAnswer {
    first: SnapshotId,
    last: SnapshotId,
    first_time: Option<Timestamp>,
    last_time: Option<Timestamp>,
    snapshots: u64,
    // null while the path was absent
    entry: Option<Box<serde_json::value::RawValue>>,
}

#[derive(Serialize)]
struct Answer<'a> {
    hosts: Vec<HostAnswer<'a>>,
}

#[derive(Serialize)]
struct HostAnswer<'a> {
    host: &'a Name,
    path: Name,
    versions: Vec<VersionAnswer>,
}

/// Runs the command. The status is 1 if the path is in no snapshot, 40 if something could not be looked at.
///
/// # Errors
/// If the repository cannot be read.
pub fn run(args: &HistoryArgs, context: &Context) -> Result<Exit, CommandError> {
    let path = Name::from(absolute(&args.path)?.as_os_str());
    let reading = Reading::open(context)?;
    let snapshots = listed(&reading.snapshots, &args.filters.filters(context)?, false);
    let mut chunks = reading.chunks()?;
    let answered = history(&mut chunks, &snapshots, &path)?;
    let found = answered.found;
    let times = times(&reading.snapshots);
    if context.json() {
        let mut hosts = Vec::new();
        for one in &found {
            let versions = answer(one, &times)?;
            hosts.push(HostAnswer { host: &one.host, path: Name(one.path.clone()), versions });
        }
        context.document(&Answer { hosts })?;
    } else {
        for one in &found {
            context.print(&text(one, &times, context)?)?;
        }
    }
    if found.is_empty() {
        context.say(format!("{} is in no snapshot", path.shown()));
    }
    let ended = ended(context, &answered.unread, false);
    Ok(ended.unwrap_or(if found.is_empty() { Exit::Failed } else { Exit::Done }))
}

fn entry_of(version: &Version) -> Result<Option<Entry>, FormatError> {
    version.line.as_deref().map(Entry::read_line).transpose()
}

/// Versions for programs.
///
/// # Errors
/// If an entry is malformed.
pub fn answer(found: &Found, times: &Times) -> Result<Vec<VersionAnswer>, CommandError> {
    let mut answers = Vec::new();
    for version in &found.versions {
        let entry = entry_of(version).map_err(crate::repo::RepoError::from)?;
        let entry = entry.map(|entry| {
            serde_json::value::to_raw_value(&Listed::new(&found.root.0, &entry).at(&found.path))
        });
        answers.push(VersionAnswer {
            first: version.first,
            last: version.last,
            first_time: times.get(&version.first).copied(),
            last_time: times.get(&version.last).copied(),
            snapshots: version.snapshots,
            entry: entry.transpose().map_err(|e| CommandError::output(e.into()))?,
        });
    }
    Ok(answers)
}

fn range(version: &Version) -> String {
    let (first, last) = (version.first.short(), version.last.short());
    if version.snapshots == 1 { first } else { format!("{first}..{last}") }
}

fn span(version: &Version, times: &Times) -> String {
    let shown = |id: SnapshotId| times.get(&id).map(|t| t.shown()).unwrap_or_default();
    if version.snapshots == 1 {
        return shown(version.first);
    }
    format!("{} .. {}", shown(version.first), shown(version.last))
}

/// A version in a line.
pub fn describe(version: &Version, times: &Times) -> String {
    let head = format!(
        "{:<18} {:>12}  {:<43}",
        range(version),
        size::plural(version.snapshots, "snapshot"),
        span(version, times)
    );
    match entry_of(version) {
        Ok(Some(found)) => format!(
            "{head}  {} {:>10}  modified {}",
            entry::mode(&found),
            entry::amount(&found),
            entry::time(found.stat.mtime)
        ),
        Ok(None) => format!("{head}  absent"),
        Err(error) => format!("{head}  {error}"),
    }
}

fn text(found: &Found, times: &Times, context: &Context) -> Result<String, CommandError> {
    let mut table = Table::new(&[
        ("snapshots", Kind::Word),
        ("count", Kind::Number),
        ("taken (UTC)", Kind::Word),
        ("mode", Kind::Word),
        ("size", Kind::Number),
        ("modified (UTC)", Kind::Word),
        ("change", Kind::Text),
    ]);
    let mut before: Option<Entry> = None;
    for (number, version) in found.versions.iter().enumerate() {
        let entry = entry_of(version).map_err(crate::repo::RepoError::from)?;
        let change = match (&before, &entry) {
            _ if number == 0 => "first seen".to_owned(),
            (Some(old), Some(new)) => changed(old, new),
            (None, _) => "added".to_owned(),
            (_, None) => "removed".to_owned(),
        };
        let cell = |show: fn(&Entry) -> String| entry.as_ref().map_or_else(|| "-".to_owned(), show);
        table.row([
            range(version),
            size::count(version.snapshots),
            span(version, times),
            cell(entry::mode),
            cell(entry::amount),
            cell(|entry| entry::time(entry.stat.mtime)),
            change,
        ]);
        before = entry;
    }
    let path = Name(found.path.clone()).shown();
    Ok(format!("{path} on {}\n{}", found.host.shown(), table.render(context.width())))
}

fn changed(old: &Entry, new: &Entry) -> String {
    match compare::entries(old, new) {
        Some((kind, what)) if what.is_empty() => kind.word().to_owned(),
        Some((compare::Kind::Metadata, what)) => what.join(" "),
        Some((kind, what)) => format!("{} {}", kind.word(), what.join(" ")),
        None => String::new(),
    }
}
