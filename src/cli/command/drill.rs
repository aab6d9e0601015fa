//! `drill`: the rehearsal of a recovery, and `gc`, which removes what a killed one left.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::base::time::Timestamp;
use crate::base::{Exit, size};
use crate::catalog::list::choose;
use crate::catalog::select::{Filters, Selector, parse_since};
use crate::cli::context::{Context, absolute};
use crate::cli::env;
use crate::cli::error::CommandError;
use crate::cli::table::{Kind, Table};
use crate::drill::{DrillError, Options, Subject, rehearse, scratch};
use crate::evidence::{self, Evidence, Outcome, Seconds, render};
use crate::plan::Plan;
use crate::repo::Repo;
use crate::repo::documents::Snapshot;

/// Rehearse a recovery: restore a snapshot, bring the application to life in a sandbox, and judge it
///
/// What is done comes from the plan. The copy runs at the application's own path, with a network of its own: production
/// is neither needed nor touched. The exit status is 0 for a pass, 20 if the snapshot does not come back as a working
/// application, 21 if an objective was missed, and 22 if it could not be judged. The record goes into the logbook.
#[derive(clap::Args)]
pub struct DrillArgs {
    /// Which snapshot [default: latest]
    #[arg(value_name = "SNAPSHOT", conflicts_with = "random")]
    snapshot: Option<OsString>,
    /// Any of the snapshots that are kept
    #[arg(long)]
    random: bool,
    /// Leave the copy behind, to look at
    #[arg(long)]
    keep: bool,
    /// Run even if nothing keeps the copy apart from production; the verdict is then no pass, whatever is found
    #[arg(long)]
    allow_unisolated: bool,
    /// When the disaster is assumed to have happened: a time, or how long ago [default: now]
    #[arg(long, value_name = "TIME")]
    disaster_at: Option<String>,
    /// Where the copy is made [default: the system's place for large temporary files]
    #[arg(long = "in", value_name = "DIRECTORY", value_hint = clap::ValueHint::DirPath)]
    place: Option<PathBuf>,
    /// Write the record as JUnit XML to this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write the record as a page to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the record as Markdown to this file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// If it could not begin, or its record could not be kept.
pub fn run(args: &DrillArgs, context: &Context) -> Result<Exit, CommandError> {
    let plan = context.plan()?;
    let repo = context.open_repo()?;
    // without a key there is no record, and without a record it need not begin
    let key = context.writer_key(&repo)?;
    let snapshots = context.snapshots(&repo)?;
    let snapshot = chosen(args, &snapshots)?;
    let past = evidence::drills(&repo)?;
    let same = past.last().and_then(|run| run.snapshot.as_ref()).is_some_and(|s| s.id == snapshot.id.to_hex());
    if same {
        let text = "this snapshot was in the last drill too; --random, or a newer one, would say more";
        context.warn("same-snapshot", text);
    }
    let subject = Subject {
        repo: &repo,
        snapshot,
        kept: &snapshots,
        plan: &plan,
        plan_sha256: hash_of(plan.file())?,
        same_as_last_drill: same,
    };
    let options = options(args, &repo)?;
    let observer = context.observer();
    let mut run = rehearse(&subject, &options, env::sudo_user(), &*observer).map_err(refused)?;
    drop(observer);
    evidence::append(&repo, &key, &mut run)?;
    write_forms(args, &run, &past)?;
    if context.json() {
        context.document(&run)?;
    } else {
        context.print(&text(&run, context))?;
    }
    Ok(run.verdict.exit())
}

fn options(args: &DrillArgs, repo: &Repo) -> Result<Options, CommandError> {
    let disaster_at = match &args.disaster_at {
        Some(text) => Some(moment(text, repo.clock().now())?),
        None => None,
    };
    Ok(Options {
        program: env::program().map_err(|e| CommandError::of(Exit::Inconclusive, &e))?,
        place: place(args.place.as_deref())?,
        keep: args.keep,
        allow_unisolated: args.allow_unisolated,
        disaster_at,
        secrets: Vec::new(),
    })
}

fn moment(text: &str, now: Timestamp) -> Result<Timestamp, CommandError> {
    parse_since(text, now).map_err(|e| CommandError::usage(e.to_string()))
}

fn place(given: Option<&Path>) -> Result<PathBuf, CommandError> {
    let large = Path::new("/var/tmp");
    match given {
        Some(path) => absolute(path),
        None if large.is_dir() => Ok(large.to_owned()),
        None => Ok(std::env::temp_dir()),
    }
}

fn chosen<'s>(args: &DrillArgs, snapshots: &'s [Snapshot]) -> Result<&'s Snapshot, CommandError> {
    if args.random {
        let kept: Vec<&Snapshot> = snapshots.iter().filter(|s| !s.forgotten).collect();
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(|e| CommandError::new(Exit::Inconclusive, e.to_string()))?;
        let none = || CommandError::new(Exit::Inconclusive, "there is no snapshot to drill");
        let at = usize::try_from(u64::from_le_bytes(bytes) % kept.len().max(1) as u64).unwrap_or_default();
        return kept.get(at).copied().ok_or_else(none);
    }
    let latest = OsString::from("latest");
    let selector = Selector::parse(args.snapshot.as_ref().unwrap_or(&latest))?;
    Ok(choose(&selector.wanted, snapshots, &Filters::default())?)
}

fn hash_of(file: &Path) -> Result<String, CommandError> {
    let bytes = std::fs::read(file).map_err(|e| CommandError::of(Exit::Usage, &e))?;
    Ok(hex::encode(Sha256::digest(bytes)))
}

fn refused(error: DrillError) -> CommandError {
    let exit = if matches!(error, DrillError::Plan(_)) { Exit::Usage } else { Exit::Inconclusive };
    let next = match &error {
        DrillError::NotIsolated { fix, .. } if fix.is_empty() => {
            "lifeboat doctor says what this host allows; --allow-unisolated runs without, and then nothing passes".to_owned()
        }
        DrillError::NotIsolated { fix, .. } => format!("{fix}; or --allow-unisolated, and then nothing passes"),
        DrillError::NotThere { .. } => "lifeboat snapshot, next to the plan, takes one that does".to_owned(),
        DrillError::NoRoom { .. } => "name another place with --in DIRECTORY".to_owned(),
        _ => String::new(),
    };
    let said = CommandError::of(exit, &error);
    if next.is_empty() { said } else { said.next(next) }
}

fn write_forms(args: &DrillArgs, run: &Evidence, past: &[Evidence]) -> Result<(), CommandError> {
    let failed = |error: render::RenderError| CommandError::of(Exit::Failed, &error);
    let mut forms = Vec::new();
    if let Some(path) = &args.junit {
        forms.push((path, render::junit(run).map_err(failed)?));
    }
    if let Some(path) = &args.html {
        let mut all = past.to_vec();
        all.push(run.clone());
        forms.push((path, render::html(run, &all).map_err(failed)?));
    }
    if let Some(path) = &args.markdown {
        forms.push((path, render::markdown(run)));
    }
    for (path, text) in forms {
        std::fs::write(path, text).map_err(|error| {
            let text = format!("could not write {}: {error}", path.display());
            CommandError::new(Exit::Failed, text).next("lifeboat log export writes it again from the logbook")
        })?;
    }
    Ok(())
}

fn text(run: &Evidence, context: &Context) -> String {
    let mut table =
        Table::new(&[("phase", Kind::Word), ("", Kind::Word), ("time", Kind::Number), ("what", Kind::Text)]);
    let time = |seconds: Seconds| size::duration(seconds.duration());
    for phase in &run.measured.phases {
        let counted = if phase.counted { "counts as recovery" } else { "" };
        table.row([phase.name.as_str(), "", &time(phase.took_s), counted]);
    }
    for step in &run.steps {
        let what = because(&step.name, &step.reason);
        table.row([step.phase.as_str(), mark(step.result), &time(step.took_s), &what]);
    }
    for check in &run.checks {
        let what = because(&check.id, if check.reason.is_empty() { &check.observed } else { &check.reason });
        table.row(["check", mark(check.result), &time(check.took_s), &what]);
    }
    let mut text = table.render(context.width());
    for step in run.steps.iter().filter(|step| step.result != Outcome::Pass && !step.output.is_empty()) {
        text.push_str(&format!("\nlast lines of `{}`:\n", step.name));
        for line in step.output.last_lines(20).lines() {
            text.push_str(&format!("  {}\n", crate::base::name::shown(line.as_bytes())));
        }
    }
    text.push_str(&format!("\n{}: {}\n", run.app, run.headline()));
    for reason in &run.reasons {
        text.push_str(&format!("  {reason}\n"));
    }
    text.push_str(&measured(run));
    text.push_str("not tested:\n");
    for item in &run.not_tested {
        text.push_str(&format!("  {item}\n"));
    }
    if let Some(seal) = &run.seal {
        text.push_str(&format!("record {} (lifeboat log export --format html --record {0})\n", &seal.record[..8]));
    }
    text
}

fn measured(run: &Evidence) -> String {
    let shown = |seconds: Option<Seconds>| seconds.map_or_else(|| "not measured".to_owned(), |s| size::duration(s.duration()));
    let against = |objective: Option<Seconds>| {
        objective.map(|s| format!(" (objective {})", size::duration(s.duration()))).unwrap_or_default()
    };
    format!(
        "recovery time {}{}; possible loss {}{}; isolation: {}\n",
        shown(run.measured.recovery_s),
        against(run.objectives.rto_s),
        shown(run.measured.loss()),
        against(run.objectives.rpo_s),
        run.isolation.active.meaning()
    )
}

fn because(what: &str, reason: &str) -> String {
    if reason.is_empty() { what.to_owned() } else { format!("{what}: {reason}") }
}

fn mark(result: Outcome) -> &'static str {
    match result {
        Outcome::Pass => "pass",
        Outcome::Fail => "FAIL",
        Outcome::Skip => "skip",
        Outcome::Error => "ERROR",
    }
}

/// Remove what drills that were killed left behind
///
/// Only directories that a drill made, and only those whose process is not there any more.
#[derive(clap::Args)]
pub struct GcArgs {
    /// Where to look [default: the system's place for large temporary files]
    #[arg(long = "in", value_name = "DIRECTORY", value_hint = clap::ValueHint::DirPath)]
    place: Option<PathBuf>,
    /// Remove nothing; say what would be
    #[arg(long)]
    dry_run: bool,
}

/// Runs `gc`.
///
/// # Errors
/// If the place cannot be read.
pub fn gc(args: &GcArgs, context: &Context) -> Result<Exit, CommandError> {
    let place = place(args.place.as_deref())?;
    let found = scratch::reap(&place, args.dry_run).map_err(|e| CommandError::of(Exit::Failed, &e))?;
    if context.json() {
        context.document(&found)?;
        return Ok(Exit::Done);
    }
    for reaped in &found {
        let path = crate::base::Name::from(reaped.path.as_os_str());
        let what = if reaped.removed { "removed".to_owned() } else { format!("left: {}", reaped.why) };
        context.print(&format!("{path} {what}\n"))?;
    }
    if found.is_empty() {
        context.say(format!("no drill left anything in {}", place.display()));
    }
    Ok(Exit::Done)
}

