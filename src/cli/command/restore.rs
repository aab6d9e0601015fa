//! `restore`: bring a snapshot, or part of it, back.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::base::Exit;
use crate::base::id::SnapshotId;
use crate::base::name::Name;
use crate::base::size;
use crate::catalog::paths::{self, parts};
use crate::catalog::select::{Filters, Selector};
use crate::cli::context::{Context, absolute};
use crate::cli::error::CommandError;
use crate::cli::json::object;
use crate::format::snapshot::Document;
use crate::repo::documents::Snapshot;
use crate::restore::{
    Loss, Mode, Options, Overwrite, Owner, Placement, Report, RestoreError, Selection, place, restore,
};
use crate::sys::host::worker_count;

/// Restore a snapshot, or part of it
///
/// SNAPSHOT goes below TARGET with its absolute paths; SNAPSHOT:PATH puts what lies at PATH straight
/// into TARGET. The target must be empty or missing, unless --in-place is given. The exit status is 3
/// if something could not be restored, 40 if stored data is damaged; everything else is restored. A relative PATH
/// counts from the directory of which the snapshot was taken, if that is one.
///
/// Patterns of --include and --exclude follow gitignore. Each is held against two paths of an entry: the one below TARGET,
/// and the absolute one on the source, which ls shows. A pattern with a slash at its front or inside counts from TARGET or
/// from the root of the source; one without matches a name anywhere below TARGET. Of several the last that matches counts,
/// ! in front takes back, and what is said of a directory holds for what lies in it, unless a pattern says something else
/// of that. What lies at PATH is never selected or left out by the names that lead to PATH. An entry is restored if the
/// included match it (or there are none) and the excluded do not; the directories above it are made in any case.
#[derive(clap::Args)]
pub struct RestoreArgs {
    /// Which snapshot: an id, latest, latest~2, @tag; with :PATH for a part
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: OsString,
    /// The directory to restore into
    #[arg(short, long, value_name = "DIRECTORY", value_hint = clap::ValueHint::DirPath)]
    target: PathBuf,
    /// Restore only what matches: a pattern of paths below TARGET, or of absolute paths on the source
    #[arg(short, long, value_name = "PATTERN")]
    include: Vec<String>,
    /// Leave out what matches, with all that is in it; in place, what is there stays as it is
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Bring a directory that is not empty to the snapshot's state, rewriting only what differs
    #[arg(long)]
    in_place: bool,
    /// In place: which files are replaced
    #[arg(long, value_enum, default_value_t, value_name = "WHEN", requires = "in_place")]
    overwrite: When,
    /// In place: remove what the snapshot does not have, directories with something in them included that are where it has
    /// something else; what it was told to leave out stays
    #[arg(long, requires = "in_place", conflicts_with_all = ["include", "exclude"])]
    delete: bool,
    /// Let --delete also remove what the snapshot was told to leave out, and what it could not read
    #[arg(long, requires = "delete")]
    delete_excluded: bool,
    /// Let --delete remove more than half of what is there
    #[arg(long, requires = "delete")]
    delete_most: bool,
    /// Write nothing; say how much would be, and what would be lost, as far as can be known
    #[arg(long)]
    dry_run: bool,
    /// How owners are restored; mine leaves out setuid and capabilities too
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    owner: How,
    /// Make devices too (as root)
    #[arg(long)]
    devices: bool,
    /// Set inode flags such as immutable too (as root)
    #[arg(long)]
    flags: bool,
    /// Fail if anything at all could not be restored, owners included
    #[arg(long)]
    strict: bool,
    /// Do not wait until everything is on the disk
    #[arg(long)]
    no_sync: bool,
    /// How many threads decode and write [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Choose among the snapshots of this host
    #[arg(long, value_name = "NAME")]
    host: Vec<OsString>,
    /// Choose among the snapshots with this tag
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
}

#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum When {
    /// Size or time of change differ
    #[default]
    IfChanged,
    /// The content differs; every file is read
    Always,
    /// The snapshot's is newer
    IfNewer,
    /// Never; only what is missing is restored
    Never,
}

#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum How {
    /// By number
    #[default]
    Number,
    /// By name where this host knows it
    Name,
    /// Not at all
    Mine,
}

/// Runs the command.
///
/// # Errors
/// If nothing could be restored.
pub fn run(args: &RestoreArgs, context: &Context) -> Result<Exit, CommandError> {
    let selector = Selector::parse(&args.snapshot)?;
    let options = options(args)?;
    let repo = context.open_repo()?;
    let snapshots = context.snapshots(&repo)?;
    let filters = Filters {
        tags: args.tag.clone(),
        hosts: args.host.iter().map(|host| Name::from(host.as_os_str())).collect(),
        since: None,
    };
    let snapshot = context.choose(&selector.wanted, &snapshots, &filters)?;
    let path = selector.path.map(|path| whole(path, &snapshot.document)).transpose()?;
    let placements = place(&snapshot.document, path.as_ref());
    if placements.is_empty() {
        return Err(nothing_there(path.as_ref(), &snapshot.document.roots));
    }
    refuse_dangerous(&options, &placements)?;
    context.look_at_signature(&repo, snapshot);
    let observer = context.observer();
    let began = Instant::now();
    let report = restore(&repo, snapshot, &placements, &options, &*observer)?;
    drop(observer);
    if report.is_nothing() && report.losses.contains_key(&Loss::Device) {
        let text = "the snapshot has nothing there but devices, and they were not made";
        return Err(CommandError::new(Exit::Failed, text).next("give --devices, as root"));
    }
    if report.is_nothing() {
        if !options.selection.is_everything() {
            return Err(nothing_selected(args));
        }
        return Err(nothing_there(path.as_ref(), &snapshot.document.roots));
    }
    if !options.dry_run {
        context.record_where_possible(&repo, "restore", body(&report, &options, snapshot.id, path.as_ref()));
    }
    show(snapshot, &report, &options, began.elapsed(), context)?;
    Ok(exit(&report, args.strict))
}

// A path means what it means to everybody who looks into a snapshot.
fn whole(path: Name, document: &Document) -> Result<Name, CommandError> {
    if path.0.starts_with(b"/") {
        return Ok(paths::normal(&path));
    }
    let found = parts(document, Some(&path))?;
    Ok(found.first().map_or(path, |part| Name(paths::absolute(&part.root.path.0, &part.top))))
}

// What the logbook says of it. Whoever brings data back may have lost the host with the key: then it says nothing.
fn body(report: &Report, options: &Options, snapshot: SnapshotId, path: Option<&Name>) -> serde_json::Value {
    json!({
        "snapshot": snapshot,
        "path": path.map(Name::shown),
        "target": Name::from(options.target.as_os_str()).shown(),
        "in_place": matches!(options.mode, Mode::InPlace { .. }),
        "verdict": if report.damage || report.failed > 0 { "fail" } else { "pass" },
        "files": report.files,
        "bytes": report.bytes,
        "deleted": report.deleted,
        "failed": report.failed,
    })
}

fn options(args: &RestoreArgs) -> Result<Options, CommandError> {
    let selection = Selection::new(&args.include, &args.exclude).map_err(CommandError::usage)?;
    let selection = selection.with_left_out(args.delete_excluded);
    let overwrite = match args.overwrite {
        When::IfChanged => Overwrite::IfChanged,
        When::Always => Overwrite::Always,
        When::IfNewer => Overwrite::IfNewer,
        When::Never => Overwrite::Never,
    };
    Ok(Options {
        target: absolute(&args.target)?,
        mode: if args.in_place { Mode::InPlace { overwrite, delete: args.delete } } else { Mode::Fresh },
        living: None,
        twin: None,
        selection,
        owner: match args.owner {
            How::Number => Owner::Number,
            How::Name => Owner::Name,
            How::Mine => Owner::Mine,
        },
        devices: args.devices,
        flags: args.flags,
        delete_most: args.delete_most,
        dry_run: args.dry_run,
        count_only: false,
        sync: !args.no_sync,
        workers: args.jobs.map_or_else(worker_count, usize::from),
    })
}

fn nothing_selected(args: &RestoreArgs) -> CommandError {
    let patterns: Vec<String> = args
        .include
        .iter()
        .chain(&args.exclude)
        .map(|pattern| Name::from(pattern.as_str()).shown())
        .collect();
    let text = format!("nothing in the snapshot is selected by {}", patterns.join(", "));
    CommandError::new(Exit::Failed, text).next(
        "a pattern with a slash is a path below the target, or the absolute path that lifeboat ls shows; one without is a name",
    )
}

fn nothing_there(path: Option<&Name>, roots: &[crate::format::snapshot::Root]) -> CommandError {
    let roots: Vec<_> = roots.iter().map(|r| r.path.shown()).collect();
    let path = path.map_or_else(|| "it".to_owned(), Name::shown);
    CommandError::new(Exit::Failed, format!("the snapshot has nothing at {path}"))
        .next(format!("it holds {}; lifeboat ls shows what is in it", roots.join(", ")))
}

// A merge that removes is only for a directory that was chosen with care.
fn refuse_dangerous(options: &Options, placements: &[Placement]) -> Result<(), CommandError> {
    let Mode::InPlace { delete: true, .. } = options.mode else { return Ok(()) };
    if options.target == Path::new("/") && placements.iter().any(|p| p.prefix.is_empty()) {
        let text = "--delete is refused for the root directory";
        return Err(CommandError::usage(text).next("name the directory that the snapshot was taken of"));
    }
    Ok(())
}

fn exit(report: &Report, strict: bool) -> Exit {
    if report.damage {
        Exit::Damage
    } else if report.is_complete() {
        Exit::Done
    } else if strict {
        Exit::Failed
    } else {
        Exit::Partial
    }
}

fn show(
    snapshot: &Snapshot,
    report: &Report,
    options: &Options,
    took: Duration,
    context: &Context,
) -> Result<(), CommandError> {
    if context.json() {
        let losses: serde_json::Map<_, _> =
            report.losses.iter().map(|(loss, count)| (loss.code().to_owned(), json!(count))).collect();
        let problems: Vec<_> = report
            .problems
            .iter()
            .map(|p| object! {"path": p.path, "code": p.code, "text": p.text})
            .collect();
        return context.document(&object! {
            "message_type": "summary",
            "dry_run": options.dry_run,
            "snapshot": snapshot.id,
            "time": snapshot.document.started,
            "target": Name::from(options.target.as_os_str()),
            "files": report.files, "bytes": report.bytes, "directories": report.directories,
            "others": report.others, "unchanged": report.unchanged, "metadata": report.metadata,
            "kept": report.kept, "withheld": report.withheld, "deleted": report.deleted, "spared": report.spared, "failed": report.failed,
            "damage": report.damage, "losses": losses, "problems": problems,
            "seconds": (took.as_secs_f64() * 1000.0).round() / 1000.0,
        });
    }
    for (loss, count) in &report.losses {
        let text = format!("{}: {}", size::count(*count), loss.text());
        // what makes the exit status 3 is said even where it should be quiet
        if loss.counts() { context.warn(loss.code(), &text) } else { context.say(text) }
    }
    context.say(summary(snapshot, report, options, took));
    Ok(())
}

fn summary(snapshot: &Snapshot, report: &Report, options: &Options, took: Duration) -> String {
    let verb = if options.dry_run { "would write" } else { "wrote" };
    let mut text = format!(
        "{verb} {} ({}) and {} other entries of snapshot {} in {}",
        size::plural(report.files, "file"),
        size::bytes(report.bytes),
        size::count(report.directories + report.others),
        snapshot.id.short(),
        size::duration(took),
    );
    for (count, what) in [
        (report.unchanged, "as they should be"),
        (report.metadata, "only their owner, mode, times or attributes differed"),
        (report.kept, "kept because of --overwrite"),
        (report.withheld, "not put beside a database that stays"),
        (report.deleted, if options.dry_run { "would be removed" } else { "removed" }),
        (report.spared, "left, since the snapshot was to leave it out or could not read it"),
        (report.failed, "NOT RESTORED"),
    ] {
        if count > 0 {
            text.push_str(&format!("\n  {}: {what}", size::count(count)));
        }
    }
    text
}

impl From<RestoreError> for CommandError {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Repo(error) => error.into(),
            RestoreError::Interrupted => {
                Self::new(Exit::Interrupted, "interrupted; the target is incomplete")
            }
            RestoreError::TooMuchRemoved { .. } => Self::of(Exit::Failed, &error)
                .next("check the target; --delete-most removes that much all the same"),
            other => Self::of(Exit::Failed, &other),
        }
    }
}
