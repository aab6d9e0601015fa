//! `diff`: what changed between two snapshots, or since one.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;
use serde_json::json;

use crate::base::Exit;
use crate::base::name::Name;
use crate::base::size;
use crate::catalog::diff::{Change, Counts, Readers, diff};
use crate::catalog::live::{self, diff_live};
use crate::catalog::ls::{missing, output};
use crate::catalog::paths::{Part, absolute, parts, write_absolute};
use crate::catalog::select::Filters;
use crate::cli::args::{ExcludeArgs, FilterArgs};
use crate::cli::context::{self, Context, Out};
use crate::cli::entry::write_path;
use crate::cli::error::CommandError;
use crate::cli::reading::Reading;
use crate::format::manifest::ROOT;
use crate::format::source::Source;
use crate::repo::Result as RepoResult;
use crate::repo::documents::Snapshot;
use crate::repo::manifest_reader::find_entry;
use crate::repo::reader::ChunkReader;
use crate::snapshot::trusted_before;
use crate::sys::host::worker_count;

/// Show what changed between two snapshots, or between a snapshot and the living tree
///
/// A line for each change: + added, - removed, C other content, M other metadata (which), T another type.
/// Without a second snapshot, what the first one changed: against the snapshot before it.
#[derive(clap::Args)]
pub struct DiffArgs {
    /// The older snapshot, or a path in it: latest~1:/srv/app
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    old: OsString,
    /// The newer snapshot; with --live, a path
    #[arg(value_name = "SNAPSHOT|PATH")]
    new: Option<OsString>,
    /// Compare with the living tree
    #[arg(long)]
    live: bool,
    /// Without the entries of which only metadata differ
    #[arg(long)]
    content: bool,
    /// Only the counts
    #[arg(long)]
    summary: bool,
    #[command(flatten)]
    excludes: ExcludeArgs,
    /// Do not enter other file systems
    #[arg(short = 'x', long, requires = "live")]
    one_file_system: bool,
    #[command(flatten)]
    filters: FilterArgs,
}

#[derive(Serialize)]
struct Line {
    message_type: &'static str,
    path: Name,
    change: &'static str,
    modifier: char,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    what: Vec<&'static str>,
}

/// Runs the command.
///
/// # Errors
/// If there is no such snapshot, or one cannot be read.
pub fn run(args: &DiffArgs, context: &Context) -> Result<Exit, CommandError> {
    // files of the living tree are held against the sizes and hashes of their chunks
    let reading = if args.live { Reading::with_content(context) } else { Reading::open(context) }?;
    let filters = args.filters.filters(context)?;
    let mut printer = Printer::new(args, context)?;
    let (counts, unread) = if args.live {
        live(args, context, &reading, &filters, &mut printer)?
    } else {
        (two(args, &reading, &filters, &mut printer)?, 0)
    };
    printer.finish(&counts, unread, context)?;
    Ok(if unread > 0 { Exit::Partial } else { Exit::Done })
}

fn two(
    args: &DiffArgs,
    reading: &Reading,
    filters: &Filters,
    printer: &mut Printer,
) -> Result<Counts, CommandError> {
    let (first, path) = reading.choose(&args.old, filters)?;
    let (old, new, path) = match &args.new {
        Some(text) => {
            let (new, other) = reading.choose(text, filters)?;
            if path.is_some() && other.is_some() && path != other {
                return Err(CommandError::usage("the two snapshots are given with different paths")
                    .next("give the path with the first snapshot only"));
            }
            (first, new, path.or(other))
        }
        None => (before(first, &reading.snapshots)?, first, path),
    };
    // a path that one of them does not cover was added or removed as a whole
    let (olds, news) = match (parts(&old.document, path.as_ref()), parts(&new.document, path.as_ref())) {
        (Err(error), Err(_)) => return Err(error.into()),
        (old, new) => (old.unwrap_or_default(), new.unwrap_or_default()),
    };
    let mut readers = Readers { old: reading.chunks()?, new: reading.chunks()? };
    let has_entry = has_entry(&mut readers.old, &olds)? || has_entry(&mut readers.new, &news)?;
    if !has_entry && let Some(part) = olds.first().or(news.first()) {
        return Err(missing(part).into());
    }
    Ok(diff(&mut readers, &olds, &news, &mut |change| printer.change(change))?)
}

// True if any of the parts has something at its top.
fn has_entry(chunks: &mut ChunkReader<'_>, parts: &[Part<'_>]) -> Result<bool, CommandError> {
    for part in parts {
        if part.top == ROOT || find_entry(chunks, &part.root.manifest, &part.top)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

// The same of the living tree. What cannot be looked at may be there.
fn is_there(part: &Part<'_>) -> bool {
    let path = Name(absolute(&part.root.path.0, &part.top));
    !matches!(Path::new(path.as_os_str()).symlink_metadata(), Err(e) if is_absent(&e))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn before<'s>(snapshot: &'s Snapshot, all: &'s [Snapshot]) -> Result<&'s Snapshot, CommandError> {
    let source = Source::of(&snapshot.document);
    let mine = |other: &&Snapshot| {
        Source::of(&other.document) == source
            && !other.forgotten
            && other.document.sequence < snapshot.document.sequence
    };
    all.iter().filter(mine).max_by_key(|other| other.document.sequence).ok_or_else(|| {
        let text = format!("there is no snapshot before {} of the same host and paths", snapshot.id.short());
        CommandError::new(Exit::Failed, text).next("name two snapshots, or give --live")
    })
}

// The changes, and how many entries could not be compared.
fn live(
    args: &DiffArgs,
    context: &Context,
    reading: &Reading,
    filters: &Filters,
    printer: &mut Printer,
) -> Result<(Counts, u64), CommandError> {
    let (snapshot, path) = reading.choose(&args.old, filters)?;
    let path = match &args.new {
        Some(path) => Some(Name::from(context::absolute(path.as_ref())?.as_os_str())),
        None => path,
    };
    let parts = parts(&snapshot.document, path.as_ref())?;
    let mut chunks = reading.chunks()?;
    if !parts.iter().any(is_there)
        && !has_entry(&mut chunks, &parts)?
        && let Some(part) = parts.first()
    {
        return Err(missing(part).into());
    }
    let options = live::Options {
        excludes: args.excludes.options(),
        one_file_system: args.one_file_system,
        threads: worker_count(),
        logged_before: trusted_before(snapshot.document.started),
        at: None,
    };
    let observer = context.notices();
    let mut found = |change: &Change<'_>| printer.change(change);
    let outcome = diff_live(&mut chunks, &parts, &options, &mut found, &*observer)?;
    Ok((outcome.counts, outcome.unreadable))
}

struct Printer {
    out: Out,
    json: bool,
    content: bool,
    summary: bool,
    full: Vec<u8>,
}

impl Printer {
    fn new(args: &DiffArgs, context: &Context) -> Result<Self, CommandError> {
        let (content, summary, full) = (args.content, args.summary, Vec::new());
        Ok(Self { out: context.out()?, json: context.json(), content, summary, full })
    }

    fn change(&mut self, change: &Change<'_>) -> RepoResult<()> {
        if self.summary || (self.content && change.kind == crate::catalog::compare::Kind::Metadata) {
            return Ok(());
        }
        let written = if self.json { self.json_line(change) } else { self.line(change) };
        written.map_err(output)
    }

    fn line(&mut self, change: &Change<'_>) -> io::Result<()> {
        self.full.clear();
        write_absolute(&mut self.full, change.root, change.path);
        self.out.write_all(&[change.kind.letter() as u8, b' ', b' '])?;
        write_path(&mut self.out, &self.full)?;
        if !change.what.is_empty() {
            write!(self.out, "  ({})", change.what.join(" "))?;
        }
        self.out.write_all(b"\n")
    }

    fn json_line(&mut self, change: &Change<'_>) -> io::Result<()> {
        let line = Line {
            message_type: "change",
            path: Name(absolute(change.root, change.path)),
            change: change.kind.word(),
            modifier: change.kind.letter(),
            what: change.what.clone(),
        };
        serde_json::to_writer(&mut self.out, &line)?;
        self.out.write_all(b"\n")
    }

    fn finish(mut self, counts: &Counts, unread: u64, context: &Context) -> Result<(), CommandError> {
        if self.json {
            let changes = counts.total();
            let summary = json!({"message_type": "summary", "changes": changes, "counts": counts, "not_compared": unread});
            writeln!(self.out, "{summary}").map_err(CommandError::output)?;
        }
        self.out.flush().map_err(CommandError::output)?;
        if self.summary && !self.json {
            return context.print(&format!("{}\n", sentence(counts, unread)));
        }
        context.say(sentence(counts, unread));
        Ok(())
    }
}

fn sentence(counts: &Counts, unread: u64) -> String {
    let changes = match counts.total() {
        0 if unread > 0 => "no difference in what could be compared".to_owned(),
        0 => "no difference".to_owned(),
        _ => format!(
            "{} added, {} removed, {} with other content, {} with other metadata, {} of another type",
            size::count(counts.added),
            size::count(counts.removed),
            size::count(counts.content),
            size::count(counts.metadata),
            size::count(counts.r#type)
        ),
    };
    if unread == 0 { changes } else { format!("{changes}; {} could not be compared", size::count(unread)) }
}
