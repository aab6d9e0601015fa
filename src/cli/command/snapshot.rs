//! `snapshot`: save trees, or what a command prints.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::base::Exit;
use crate::base::id::SnapshotId;
use crate::base::name::Name;
use crate::base::size;
use crate::catalog::select::Filters;
use crate::cli::args::{self, ExcludeArgs};
use crate::cli::context::{Context, absolute, whoami};
use crate::cli::error::CommandError;
use crate::format::manifest::{ROOT, check_path};
use crate::logbook;
use crate::plan::{DatabaseKind, Plan, PlanError};
use crate::repo::Repo;
use crate::repo::writer::DEFAULT_LEVEL;
use crate::snapshot::{Options, Outcome, take};
use crate::sys::host::worker_count;

/// The way out where a database is not a file.
pub const DUMP: &str =
    "lifeboat snapshot --stdin-from-command NAME -- DUMP-COMMAND saves a dump; give the paths besides";

/// Take a snapshot
///
/// Without a path the plan says what is saved, and what is left out. Prints the snapshot's id last on stdout. The exit status is 3 if something could not be read, a
/// database could not be copied whole, or one of the plan is not in it: the snapshot is kept, and says what is missing.
#[derive(clap::Args)]
pub struct SnapshotArgs {
    /// Directories and files to save [default: the plan's app.root]
    #[arg(value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
    /// A word to find it by; several with commas, or by repeating
    #[arg(long = "tag", value_name = "TAG", value_delimiter = ',')]
    tags: Vec<String>,
    /// What it is taken for
    #[arg(long, value_name = "TEXT")]
    reason: Option<OsString>,
    /// Another name for this host
    #[arg(long, value_name = "NAME")]
    host: Option<OsString>,
    #[command(flatten)]
    excludes: ExcludeArgs,
    /// Do not enter other file systems
    #[arg(short = 'x', long)]
    one_file_system: bool,
    /// Read every file again, whatever its size and times say
    ///
    /// Otherwise a file is taken for unchanged whose size, modification and change time and inode are those of the snapshot before, if that
    /// was taken well after these times. Needed where a change leaves no trace in them: on a file system in memory (tmpfs), for files that
    /// programs write to through a mapping.
    #[arg(long)]
    rehash: bool,
    /// Read SQLite databases as they lie, with their logs, instead of copying each whole under SQLite's own lock
    #[arg(long)]
    plain_databases: bool,
    /// Take no snapshot if nothing has changed
    #[arg(long)]
    skip_if_unchanged: bool,
    /// Compare with this snapshot instead of this host's newest of the same paths
    #[arg(long, value_name = "SNAPSHOT")]
    parent: Option<OsString>,
    /// From 1 (fast) to 19 (small)
    #[arg(long, value_name = "LEVEL", default_value_t = DEFAULT_LEVEL, value_parser = clap::value_parser!(i32).range(1..=19))]
    compression: i32,
    /// How many threads read and compress [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Take the repository as it is, though this host has seen a newer state of it
    #[arg(long, conflicts_with = "dry_run")]
    accept_older: bool,
    /// Store nothing; say what would be read
    #[arg(long, conflicts_with = "stdin_from_command")]
    dry_run: bool,
    /// Save what a command prints, under this name; fails if the command fails
    #[arg(long, value_name = "NAME", requires = "command", conflicts_with = "paths")]
    stdin_from_command: Option<OsString>,
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND", requires = "stdin_from_command")]
    command: Vec<OsString>,
}

/// Runs the command.
///
/// # Errors
/// If no snapshot could be taken.
pub fn run(args: &SnapshotArgs, context: &Context) -> Result<Exit, CommandError> {
    let repo = context.open_repo()?;
    let key = context.writer_key(&repo)?;
    // a repository that lost all its snapshots must not look as if there never had been any
    if args.accept_older || repo.snapshot_ids()?.is_empty() {
        context.demand_newest(&repo, args.accept_older, "no snapshot was taken")?;
    }
    let options = options(args, context, &repo)?;
    refuse_repository(&options, context)?;
    let observer = context.observer();
    let began = Instant::now();
    let outcome = take(&repo, &key, logbook::head(&repo)?, &options, &*observer)?;
    drop(observer);
    for path in &outcome.own_paths {
        context.say(format!("the repository itself, {}, is left out", path.shown()));
    }
    if let Some(id) = outcome.id {
        let body = json!({"snapshot": id, "reason": options.reason.as_ref().map(Name::shown), "statistics": outcome.statistics});
        context.record(&repo, &key, "snapshot", body);
    }
    show(&outcome, &options, began.elapsed(), context)?;
    let partial = outcome.statistics.skipped + outcome.statistics.torn > 0;
    Ok(if partial { Exit::Partial } else { Exit::Done })
}

fn options(args: &SnapshotArgs, context: &Context, repo: &Repo) -> Result<Options, CommandError> {
    let (host, user) = whoami();
    let mut roots = Vec::new();
    for path in &args.paths {
        let root = absolute(path)?;
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    let mut excludes = args.excludes.options();
    let mut databases = Vec::new();
    if roots.is_empty() && args.stdin_from_command.is_none() {
        let plan = planned(context)?;
        roots.push(plan.root());
        databases = plan.sqlite_databases();
        excludes.patterns.extend(plan.app.exclude);
    }
    if let Some(tag) = args.tags.iter().find(|tag| tag.is_empty()) {
        return Err(CommandError::usage(format!("the tag `{tag}` is empty")));
    }
    if let Some(tag) = args.tags.iter().find(|tag| tag.contains(':')) {
        let text =
            format!("the tag {} has a colon, and could not be named again", Name::from(tag.as_str()).shown());
        return Err(
            CommandError::usage(text).next("in SNAPSHOT:PATH a colon begins the path; use another character")
        );
    }
    if let Some(name) = &args.stdin_from_command {
        let name = Name::from(name.as_os_str());
        let relative = name.0.strip_prefix(b"/").unwrap_or(&name.0);
        if relative == ROOT || check_path(relative).is_err() {
            let text = format!("a command's output cannot be saved as {}", name.shown());
            return Err(CommandError::usage(text).next("give it a plain name, such as dump.sql"));
        }
    }
    Ok(Options {
        roots,
        command: args
            .stdin_from_command
            .as_ref()
            .map(|name| (Name::from(name.as_os_str()), args.command.clone())),
        excludes,
        one_file_system: args.one_file_system,
        rehash: args.rehash,
        skip_if_unchanged: args.skip_if_unchanged,
        parent: parent(args, context, repo)?,
        tags: args.tags.iter().map(|tag| Name::from(tag.as_str())).collect(),
        reason: args.reason.as_deref().map(Name::from),
        host: args.host.as_deref().map_or(host, Name::from),
        user,
        level: args.compression,
        plain_databases: args.plain_databases,
        databases,
        workers: args.jobs.map_or_else(worker_count, usize::from),
        dry_run: args.dry_run,
    })
}

/// The plan, where all that it wants to have saved can be.
///
/// # Errors
/// If there is none, or it names a database that is not a file: what is not saved must not look saved.
fn planned(context: &Context) -> Result<Plan, CommandError> {
    let plan = match context.load_plan() {
        Err(PlanError::NotFound(_)) => {
            let text = "nothing says what to save: no path is given, and there is no plan here or above";
            return Err(CommandError::usage(text)
                .next("give paths, or lifeboat init --plan DIRECTORY writes a first plan"));
        }
        other => other?,
    };
    if let Some(database) = plan.database.iter().find(|database| database.kind != DatabaseKind::Sqlite) {
        let name = database.shown_name();
        let text =
            format!("this version cannot save {name} of the plan: it saves files and SQLite databases");
        return Err(CommandError::usage(text).next(DUMP));
    }
    Ok(plan)
}

fn parent(args: &SnapshotArgs, context: &Context, repo: &Repo) -> Result<Option<SnapshotId>, CommandError> {
    let Some(text) = &args.parent else { return Ok(None) };
    let wanted = args::snapshot(text)?;
    let snapshots = context.snapshots(repo)?;
    Ok(Some(context.choose(&wanted, &snapshots, &Filters::default())?.id))
}

// True if this is the repository or lies in it, links followed where there are some.
fn lies_in(root: &Path, location: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real(root).starts_with(real(location))
}

// What lies in the repository is no tree to be saved there.
fn refuse_repository(options: &Options, context: &Context) -> Result<(), CommandError> {
    let location = context.location()?;
    let Some(root) = options.roots.iter().find(|root| lies_in(root, &location)) else { return Ok(()) };
    let root = Name::from(root.as_os_str()).shown();
    let text = format!("{root} is the repository itself, or lies in it; it is not saved into itself");
    Err(CommandError::usage(text).next("name what is to be saved; cp -a copies a repository"))
}

fn show(outcome: &Outcome, options: &Options, took: Duration, context: &Context) -> Result<(), CommandError> {
    if context.json() {
        return context.document(&json!({
            "message_type": "summary",
            "id": outcome.id,
            "short_id": outcome.id.map(SnapshotId::short),
            "parent": outcome.parent,
            "dry_run": options.dry_run,
            "skipped": outcome.id.is_none() && !options.dry_run,
            "seconds": (took.as_secs_f64() * 1000.0).round() / 1000.0,
            "statistics": outcome.statistics,
            "databases_not_saved": outcome.unsaved,
        }));
    }
    context.say(summary(outcome, options, took));
    match outcome.id {
        Some(id) => context.print(&format!("{id}\n")),
        None => Ok(()),
    }
}

fn summary(outcome: &Outcome, options: &Options, took: Duration) -> String {
    let (s, unsaved) = (&outcome.statistics, outcome.unsaved.len() as u64);
    let title = match outcome.id {
        Some(id) => format!("snapshot {}", id.short()),
        None if options.dry_run => "dry run".to_owned(),
        None => {
            let parent = outcome.parent.map(SnapshotId::short).unwrap_or_default();
            format!("nothing has changed since snapshot {parent}, no snapshot was taken")
        }
    };
    let mut text = format!(
        "{title}: {}, {}, {} in {}\n  {} new, {} changed, {} unchanged; {} {}",
        size::plural(s.files, "file"),
        directories(s.directories),
        size::bytes(s.bytes),
        size::duration(took),
        size::count(s.new_files),
        size::count(s.changed_files),
        size::count(s.unchanged_files),
        size::bytes(s.stored_bytes),
        if options.dry_run { "would be read" } else { "added to the repository" },
    );
    for (count, what) in [
        (s.skipped.saturating_sub(unsaved), "could not be read and is not in it"),
        (unsaved, "named as a database in the plan and not saved as one"),
        (
            s.torn,
            "may be torn: it changed while it was read, or is a database that could not be copied whole",
        ),
    ] {
        if count > 0 {
            text.push_str(&format!("\n  {}: {what}", size::count(count)));
        }
    }
    text
}

fn directories(count: u64) -> String {
    if count == 1 { "1 directory".to_owned() } else { format!("{} directories", size::count(count)) }
}
