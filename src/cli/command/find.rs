//! `find`: where a name is, over all snapshots.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Write as _;

use serde::Serialize;

use super::history::{VersionAnswer, answer, describe};
use crate::base::Exit;
use crate::base::error::causes;
use crate::base::id::SnapshotId;
use crate::base::name::Name;
use crate::base::time::Timestamp;
use crate::catalog::list::listed;
use crate::catalog::pattern::{Letters, Pattern};
use crate::catalog::versions::{Found, find};
use crate::cli::args::{self, FilterArgs};
use crate::cli::context::{Context, Out};
use crate::cli::entry::write_path;
use crate::cli::error::CommandError;
use crate::cli::reading::Reading;
use crate::repo::RepoError;
use crate::repo::documents::Snapshot;

/// Find paths by a pattern, over all snapshots, with the versions they had
///
/// A pattern without a slash is for names, one that begins with a slash for whole paths, any other for
/// the ends of paths. `*` and `?` stay within a name, `**` does not; a slash at the end means directories.
/// Snapshots that are damaged are named, and the status is 40; the others are answered.
#[derive(clap::Args)]
pub struct FindArgs {
    /// Such as '*.conf', 'app/*.toml' or '/srv/**/logs/'
    #[arg(value_name = "PATTERN")]
    pattern: String,
    /// Look in these snapshots only
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<OsString>,
    /// Capital and small letters are the same
    #[arg(short, long)]
    ignore_case: bool,
    #[command(flatten)]
    filters: FilterArgs,
}

#[derive(Serialize)]
struct Answer<'a> {
    host: &'a Name,
    path: Name,
    versions: Vec<VersionAnswer>,
}

/// Runs the command. The status is 1 if nothing was found, 40 if something could not be looked at.
///
/// # Errors
/// If the repository cannot be read.
pub fn run(args: &FindArgs, context: &Context) -> Result<Exit, CommandError> {
    let letters = if args.ignore_case { Letters::AnyCase } else { Letters::Exact };
    let pattern = Pattern::parse(&args.pattern, letters).map_err(CommandError::usage)?;
    let reading = Reading::open(context)?;
    let chosen = chosen(args, context, &reading)?;
    let mut chunks = reading.chunks()?;
    let observer = context.notices();
    let answered = find(&mut chunks, &chosen, &pattern, &|| observer.interrupted())?;
    let found = answered.found;
    let times = times(&reading.snapshots);
    let mut out = context.out()?;
    for one in &found {
        let written = if context.json() {
            let versions = answer(one, &times)?;
            serde_json::to_writer(
                &mut out,
                &Answer { host: &one.host, path: Name(one.path.clone()), versions },
            )
            .map_err(std::io::Error::from)
            .and_then(|()| out.write_all(b"\n"))
        } else {
            write_found(&mut out, one, &times)
        };
        written.map_err(CommandError::output)?;
    }
    out.flush().map_err(CommandError::output)?;
    if found.is_empty() {
        context.say("nothing found");
    }
    let is_named = !args.snapshots.is_empty();
    Ok(ended(context, &answered.unread, is_named).unwrap_or(if found.is_empty() {
        Exit::Failed
    } else {
        Exit::Done
    }))
}

/// Names the snapshots that could not be looked at, and how a command ends whose answer is not whole for that. `is_named`: only
/// certain snapshots were to be looked at.
pub fn ended(context: &Context, unread: &[(SnapshotId, RepoError)], is_named: bool) -> Option<Exit> {
    for (id, error) in unread {
        let text = format!("snapshot {} cannot be searched as a whole: {}", id.short(), causes(error));
        context.warn("manifest-damaged", &text);
    }
    let is_whole = unread.is_empty() && (is_named || context.unreadable().is_empty());
    if is_whole {
        return None;
    }
    context
        .say("the answer is not whole, see above; lifeboat verify says what is damaged and what it affects");
    Some(Exit::Damage)
}

fn chosen<'r>(
    args: &FindArgs,
    context: &Context,
    reading: &'r Reading,
) -> Result<Vec<&'r Snapshot>, CommandError> {
    let filters = args.filters.filters(context)?;
    if args.snapshots.is_empty() {
        return Ok(listed(&reading.snapshots, &filters, false));
    }
    let mut ids = Vec::new();
    for text in &args.snapshots {
        ids.push(context.choose(&args::snapshot(text)?, &reading.snapshots, &filters)?.id);
    }
    Ok(reading.snapshots.iter().filter(|s| ids.contains(&s.id)).collect())
}

/// When snapshots were taken.
pub type Times = HashMap<SnapshotId, Timestamp>;

/// When these snapshots were taken.
pub fn times(snapshots: &[Snapshot]) -> Times {
    snapshots.iter().map(|s| (s.id, s.document.started)).collect()
}

fn write_found(out: &mut Out, found: &Found, times: &Times) -> std::io::Result<()> {
    write_path(out, &found.path)?;
    writeln!(out, "  ({})", found.host.shown())?;
    for version in &found.versions {
        writeln!(out, "  {}", describe(version, times))?;
    }
    Ok(())
}
