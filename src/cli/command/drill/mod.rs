//! `drill`: the rehearsal of a recovery.

mod matrix;
pub mod report;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::base::Exit;
use crate::base::Name;
use crate::base::time::Timestamp;
use crate::catalog::select::{Filters, parse_since};
use crate::cli::args;
use crate::cli::context::{Context, absolute};
use crate::cli::env;
use crate::cli::error::CommandError;
use crate::drill::self_test::self_test;
use crate::drill::{self, DrillError, Options, Subject, never_began, rehearse};
use crate::evidence::{self, Evidence, Verdict, render};
use crate::plan::{OnMiss, Plan};
use crate::repo::Repo;
use crate::repo::documents::Snapshot;
use crate::restore;
use crate::sys::host::large_temporary;

/// Rehearse a recovery: restore a snapshot, bring the application to life in a sandbox, and judge it
///
/// What is done comes from the plan. The copy runs at the application's own path, with a network of its own: production
/// is neither needed nor touched. The exit status is 0 for a pass, 20 if the snapshot does not come back as a working
/// application, 21 if an objective was missed, and 22 if it could not be judged. The record goes into the logbook.
#[derive(clap::Args)]
pub struct DrillArgs {
    /// Which snapshot [default: the newest that holds the plan's tree]
    #[arg(value_name = "SNAPSHOT", conflicts_with = "random")]
    snapshot: Option<OsString>,
    /// Any of the kept snapshots that hold it
    #[arg(long)]
    random: bool,
    /// Break the copy in several ways afterwards, and see whether the plan's tests and checks notice each
    #[arg(long)]
    self_test: bool,
    /// Rehearse every snapshot that is kept with the plan's tests, newest first, and show a table; nothing is recorded
    #[arg(long, conflicts_with_all = ["snapshot", "random", "self_test", "keep", "shell", "disaster_at", "junit", "html", "markdown"])]
    matrix: bool,
    /// Only the newest so many
    #[arg(long, value_name = "N", requires = "matrix", value_parser = clap::value_parser!(u16).range(1..))]
    last: Option<u16>,
    /// Leave the copy behind, to look at
    #[arg(long)]
    keep: bool,
    /// Open a shell inside the sandbox, while the server runs or where a step failed
    #[arg(long)]
    shell: bool,
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
    if args.matrix {
        return matrix::run(args, &plan, &repo, context);
    }
    // without a key there is no record, and without a record it need not begin
    let key = context.writer_key(&repo)?;
    let snapshots = context.snapshots(&repo)?;
    let options = options(args, &plan, &repo, context)?;
    let snapshot = chosen(args, context, &plan, &snapshots, options.disaster_at)?;
    let past = evidence::drills(&repo)?;
    let same =
        past.last().and_then(|run| run.snapshot.as_ref()).is_some_and(|s| s.id == snapshot.id.to_hex());
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
    let observer = context.observer();
    let mut run = match rehearse(&subject, &options, env::sudo_user(), &*observer) {
        Ok(run) => run,
        Err(error) => {
            // what somebody typed is told to him; that this host or this plan allows no drill is worth a record
            if !matches!(error, DrillError::Later { .. } | DrillError::NotThere { .. }) {
                let record = never_began(&subject, &options, env::sudo_user(), &error, &*observer);
                let mut record = record.map_err(refused)?;
                evidence::append(&repo, &key, &mut record)?;
                write_forms(args, &record, &past)?;
            }
            return Err(refused(error));
        }
    };
    let sound = run.clone().judged();
    let score = match args.self_test && may_self_test(&sound, context) {
        true => Some(self_test(&subject, &options, &sound, &*observer).map_err(refused)?),
        false => None,
    };
    let was_interrupted = observer.interrupted();
    drop(observer);
    if let Some(score) = &score {
        run.self_test = score.recorded();
        run.not_tested.extend(score.unjudged());
    }
    evidence::append(&repo, &key, &mut run)?;
    context.remember(&repo);
    write_forms(args, &run, &past)?;
    if context.json() {
        context.document(&run)?;
    } else {
        context.print(&report::text(&run, context))?;
        if run.verdict == Verdict::Fail && !args.keep && !args.shell {
            let next = "lifeboat drill --keep leaves the copy to look at; --shell opens a shell inside";
            context.print(&format!("next: {next}\n"))?;
        }
        if let Some(score) = &score {
            context.print(&format!("\n{}", report::scored(score, context)))?;
        }
    }
    let reasons = if run.verdict == Verdict::Pass { Vec::new() } else { run.reasons.clone() };
    context.outcome(format!("drill: {}", run.headline()), reasons);
    if was_interrupted {
        return Ok(Exit::Interrupted);
    }
    let is_blind = score.is_some_and(|score| !score.is_whole());
    Ok(match run.verdict.exit() {
        Exit::Done if is_blind => Exit::DrillFailed,
        Exit::ObjectiveMissed if plan.drill.on_objective_missed == OnMiss::Warn => {
            context.warn("objective-missed", &run.reasons.join("; "));
            if is_blind { Exit::DrillFailed } else { Exit::Done }
        }
        other => other,
    })
}

// A drill that does not pass has said already that the plan can go red.
fn may_self_test(run: &Evidence, context: &Context) -> bool {
    let may = matches!(run.verdict, Verdict::Pass | Verdict::ObjectiveMissed);
    if !may {
        context.warn("no-self-test", "no self-test: where the sound copy is red, a broken one says nothing");
    }
    may
}

fn options(args: &DrillArgs, plan: &Plan, repo: &Repo, context: &Context) -> Result<Options, CommandError> {
    let disaster_at = match &args.disaster_at {
        Some(text) => Some(moment(text, repo.clock().now())?),
        None => None,
    };
    if disaster_at.is_some_and(|at| at > repo.clock().now()) {
        return Err(CommandError::usage("--disaster-at is in the future: nobody knows what is lost by then"));
    }
    if args.shell && !std::io::stdin().is_terminal() {
        return Err(CommandError::usage("--shell needs a terminal to talk to"));
    }
    Ok(Options {
        keep: args.keep,
        allow_unisolated: args.allow_unisolated,
        disaster_at,
        shell: args.shell,
        ..plain_options(plan, args.place.as_deref(), hidden(context)?)?
    })
}

/// What a copy must not see: the repository and the writer's key.
///
/// # Errors
/// If nobody says where the repository is.
pub fn hidden(context: &Context) -> Result<Vec<PathBuf>, CommandError> {
    let mut hidden = vec![context.location()?];
    hidden.extend(context.key_path().ok());
    Ok(hidden)
}

/// A rehearsal by the plan, with its copy at `at` or in the usual place.
///
/// # Errors
/// If the plan's file of variables cannot be read.
pub fn plain_options(plan: &Plan, at: Option<&Path>, hide: Vec<PathBuf>) -> Result<Options, CommandError> {
    Ok(Options {
        hide,
        program: env::program().map_err(|e| CommandError::of(Exit::Inconclusive, &e))?,
        place: place(at)?,
        keep: false,
        allow_unisolated: false,
        disaster_at: None,
        secrets: secrets(plan)?,
        only: None,
        shell: false,
    })
}

/// Values of the environment that people keep in a file of their own.
///
/// # Errors
/// If the plan's file of variables cannot be read.
pub fn secrets(plan: &Plan) -> Result<Vec<String>, CommandError> {
    let variables = drill::variables(plan).map_err(refused)?;
    Ok(variables.into_iter().filter(|v| v.is_secret).map(|v| v.value).collect())
}

fn moment(text: &str, now: Timestamp) -> Result<Timestamp, CommandError> {
    parse_since(text, now).map_err(|e| CommandError::usage(e.to_string()))
}

/// Where copies are made.
///
/// # Errors
/// If the path is empty.
pub fn place(given: Option<&Path>) -> Result<PathBuf, CommandError> {
    given.map_or_else(|| Ok(large_temporary()), absolute)
}

// A repository may hold snapshots of much else: unless one is named, only those of the plan's tree are meant.
fn chosen<'s>(
    args: &DrillArgs,
    context: &Context,
    plan: &Plan,
    snapshots: &'s [Snapshot],
    disaster_at: Option<Timestamp>,
) -> Result<&'s Snapshot, CommandError> {
    if let Some(text) = &args.snapshot {
        return context.choose(&args::snapshot(text)?, snapshots, &Filters::default());
    }
    let mut ours = of_tree(&plan.root(), snapshots);
    // what was taken later was lost with everything else, or did not exist yet
    ours.retain(|s| disaster_at.is_none_or(|at| s.document.started <= at));
    let at = match args.random {
        false => ours.len().checked_sub(1),
        true => {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).map_err(|e| CommandError::new(Exit::Inconclusive, e.to_string()))?;
            u64::from_le_bytes(bytes).checked_rem(ours.len() as u64).and_then(|at| usize::try_from(at).ok())
        }
    };
    let found = at.and_then(|at| ours.get(at).copied()).ok_or_else(|| {
        let mut text = format!("no snapshot that is kept holds {}", plan.root().display());
        if let Some(at) = disaster_at {
            text.push_str(&format!(" and was taken before {}", at.shown()));
        }
        CommandError::new(Exit::Inconclusive, text)
            .next("lifeboat snapshot, next to the plan, takes one that does")
    })?;
    if !args.random {
        context.be_sure(found, snapshots)?;
    }
    Ok(found)
}

/// The kept snapshots that hold a tree, oldest first.
pub fn of_tree<'s>(root: &Path, snapshots: &'s [Snapshot]) -> Vec<&'s Snapshot> {
    let name = Name::from(root.as_os_str());
    let holds = |s: &&Snapshot| restore::place(&s.document, Some(&name)).iter().any(|p| p.prefix.is_empty());
    snapshots.iter().filter(|s| !s.forgotten).filter(holds).collect()
}

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// If it cannot be read.
pub fn hash_of(file: &Path) -> Result<String, CommandError> {
    let bytes = std::fs::read(file).map_err(|e| CommandError::of(Exit::Usage, &e))?;
    Ok(hex::encode(Sha256::digest(bytes)))
}

/// What a rehearsal that could not begin says.
pub fn refused(error: DrillError) -> CommandError {
    let is_wrong = matches!(error, DrillError::Plan(_) | DrillError::Later { .. });
    let exit = if is_wrong { Exit::Usage } else { Exit::Inconclusive };
    let next = match &error {
        DrillError::NotIsolated { fix, .. } if fix.is_empty() => {
            "lifeboat doctor says what this host allows; --allow-unisolated runs without, and then nothing passes".to_owned()
        }
        DrillError::NotIsolated { fix, .. } => format!("{fix}; or --allow-unisolated, and then nothing passes"),
        DrillError::NotThere { .. } => "lifeboat snapshot, next to the plan, takes one that does".to_owned(),
        DrillError::Unsound => "lifeboat drill says what is red".to_owned(),
        DrillError::NoTool { .. } => {
            "install it, or give its place in drill.environment, PATH; a recovery on this host would need it too".to_owned()
        }
        DrillError::Later { .. } => "name a snapshot that was there by then, or none".to_owned(),
        DrillError::NoRoom { .. } => "name another place with --in DIRECTORY".to_owned(),
        DrillError::Io { .. } => {
            "name a place that can be written to with --in DIRECTORY, or by the variable TMPDIR".to_owned()
        }
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
