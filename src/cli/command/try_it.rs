//! `try`: the whole way there and back, leaving nothing behind.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::drill::{plain_options, refused, report};
use super::init::comment;
use crate::base::event::Observer;
use crate::base::name::Name;
use crate::base::size;
use crate::base::{Exit, SnapshotId};
use crate::catalog::compare::Kind as ChangeKind;
use crate::catalog::diff::Change;
use crate::catalog::live::{self, diff_live};
use crate::catalog::paths::{Part, absolute as join};
use crate::cli::args::ExcludeArgs;
use crate::cli::context::{Context, absolute, whoami};
use crate::cli::env;
use crate::cli::error::CommandError;
use crate::cli::table::{Kind, Table};
use crate::drill::scratch;
use crate::drill::self_test::{Score, self_test};
use crate::drill::{Options, Subject, rehearse};
use crate::evidence::{self, Evidence, Verdict, render};
use crate::format::manifest::{ROOT, Type};
use crate::format::snapshot::Root;
use crate::plan::{self, Plan};
use crate::repo::documents::Snapshot;
use crate::repo::keys::WriterKey;
use crate::repo::load::Condemned;
use crate::repo::manifest_reader::find_entry;
use crate::repo::reader::ChunkReader;
use crate::repo::writer::DEFAULT_LEVEL;
use crate::repo::{Repo, open};
use crate::restore;
use crate::snapshot;
use crate::store::local::LocalStore;
use crate::store::{Kind as Objects, Store};
use crate::sys::host::worker_count;
use crate::verify;

/// So many differences are looked at one by one.
const MOST_DIFFERENCES: usize = 10_000;

/// Try it on a directory: snapshot, verify, restore, drill and self-test, leaving nothing behind
///
/// The drill goes by the plan in the directory, or by what a first plan would be from what is found there; where there is nothing
/// to run, there is none. All is done in a temporary directory, so there must be room for a compressed and two
/// restored copies.
#[derive(clap::Args)]
pub struct TryArgs {
    /// What to try it on; only read
    #[arg(value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    path: PathBuf,
    /// Where the temporary directory is made [default: the system's place for such]
    #[arg(long = "in", value_name = "DIRECTORY", value_hint = clap::ValueHint::DirPath)]
    place: Option<PathBuf>,
    /// No drill: only save, verify, restore and compare
    #[arg(long)]
    no_drill: bool,
    /// Drill even if nothing keeps the copy apart from production; the verdict is then no pass, whatever is found
    #[arg(long)]
    allow_unisolated: bool,
    /// Write the drill's record as a page to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    excludes: ExcludeArgs,
}

/// One step. Fields are added, never renamed.
#[derive(Serialize)]
struct Step {
    step: &'static str,
    verdict: &'static str,
    seconds: f64,
    text: String,
}

#[derive(Serialize)]
struct Answer<'a> {
    verdict: &'static str,
    steps: &'a [Step],
    #[serde(skip_serializing_if = "Option::is_none")]
    drill: Option<&'a Evidence>,
}

/// Runs the command.
///
/// # Errors
/// If a step could not be done at all.
pub fn run(args: &TryArgs, context: &Context) -> Result<Exit, CommandError> {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix(scratch::TRIAL);
    let made = match &args.place {
        Some(place) => builder.tempdir_in(absolute(place)?),
        None => builder.tempdir(),
    };
    let temporary = made.map_err(CommandError::io("could not make a temporary directory"))?;
    // if this is killed, gc takes it away
    scratch::lease(temporary.path(), "try", context.clock().now()).map_err(refused)?;
    let result = steps(args, context, temporary.path());
    let removed = temporary.close().map_err(CommandError::io("could not remove the temporary directory"));
    let done = result?;
    removed?;
    show(&done, context)?;
    Ok(done.exit)
}

// What came out.
struct Done {
    steps: Vec<Step>,
    exit: Exit,
    drill: Option<(Evidence, Option<Score>)>,
}

// What the steps hand on to one another.
struct Trial<'c> {
    context: &'c Context,
    observer: Box<dyn Observer>,
    root: PathBuf,
    target: PathBuf,
    excludes: crate::tree::exclude::Options,
    steps: Vec<Step>,
    exit: Exit,
}

fn steps(args: &TryArgs, context: &Context, place: &Path) -> Result<Done, CommandError> {
    let root = absolute(&args.path)?;
    let plan = if args.no_drill { None } else { plan(&root)? };
    let mut excludes = args.excludes.options();
    excludes.patterns.extend(plan.iter().flat_map(|plan| plan.app.exclude.clone()));
    let mut trial = Trial {
        context,
        observer: context.observer(),
        root,
        target: place.join("restored"),
        excludes,
        steps: Vec::new(),
        exit: Exit::Done,
    };
    let key = WriterKey::generate(&comment())?;
    let repo = trial.init(&place.join("repository"), &key)?;
    let id = trial.snapshot(&repo, &key, "snapshot")?;
    trial.snapshot(&repo, &key, "again")?;
    trial.verify(&repo)?;
    let document = repo.document(id)?;
    let snapshot = Snapshot { id, document, forgotten: false };
    trial.restore(&repo, &snapshot)?;
    trial.compare(&repo, &snapshot)?;
    let drill = match plan {
        Some(plan) => Some(trial.drill(args, &repo, &key, &snapshot, &plan, place)?),
        None => None,
    };
    Ok(Done { steps: trial.steps, exit: trial.exit, drill })
}

// The plan that lies there, or what a first one would be, if it would have something run.
fn plan(root: &Path) -> Result<Option<Plan>, CommandError> {
    let file = root.join(plan::FILE);
    if file.symlink_metadata().is_ok() {
        return Ok(Some(Plan::load(&file)?));
    }
    if !root.is_dir() {
        return Ok(None);
    }
    let plan = Plan::parse(&plan::detect(root, None, &env::variable), &file)?;
    let runs = plan.drill.server.is_some() || !plan.drill.tests.is_empty();
    Ok(runs.then_some(plan))
}

impl Trial<'_> {
    fn done(&mut self, step: &'static str, exit: Exit, took: Duration, text: String) {
        let verdict = if exit == Exit::Done { "pass" } else { "FAIL" };
        self.steps.push(Step { step, verdict, seconds: took.as_secs_f64(), text });
        if self.exit == Exit::Done {
            self.exit = exit;
        }
    }

    fn init(&mut self, place: &Path, key: &WriterKey) -> Result<Repo, CommandError> {
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(place)?);
        open::create(&store, key.public(), self.context.clock())?;
        Ok(Repo::open(store, self.context.clock())?)
    }

    fn snapshot(
        &mut self,
        repo: &Repo,
        key: &WriterKey,
        step: &'static str,
    ) -> Result<SnapshotId, CommandError> {
        let (host, user) = whoami();
        let options = snapshot::Options {
            roots: vec![self.root.clone()],
            excludes: self.excludes.clone(),
            host,
            user,
            level: DEFAULT_LEVEL,
            workers: worker_count(),
            ..snapshot::Options::default()
        };
        let began = Instant::now();
        let outcome = snapshot::take(repo, key, None, &options, &*self.observer)?;
        let took = began.elapsed();
        let s = &outcome.statistics;
        let partial = s.skipped + s.torn > 0;
        let entries = s.files + s.directories + s.others;
        let mut text = format!(
            "{} entries, {}, {} new and {} changed",
            size::count(entries),
            size::bytes(s.bytes),
            size::count(s.new_files),
            size::count(s.changed_files)
        );
        text.push_str(&format!("; {} stored", size::bytes(s.stored_bytes)));
        if partial {
            text.push_str(&format!("; {} could not be read", size::count(s.skipped + s.torn)));
        }
        self.done(step, if partial { Exit::Partial } else { Exit::Done }, took, text);
        outcome.id.ok_or_else(|| CommandError::new(Exit::Failed, "no snapshot was taken"))
    }

    fn verify(&mut self, repo: &Repo) -> Result<(), CommandError> {
        let options = verify::Options {
            depth: verify::Depth::Deep,
            workers: worker_count(),
            ..verify::Options::default()
        };
        let began = Instant::now();
        let report = verify::verify(repo, &options, &*self.observer)?;
        let stored: u64 = repo.store().list(Objects::Packs)?.iter().map(|object| object.bytes).sum();
        let text = format!(
            "{} of packs decoded, {}",
            size::bytes(stored),
            size::plural(report.problems.len() as u64, "problem")
        );
        let exit = if report.is_clean() { Exit::Done } else { Exit::Damage };
        self.done("verify", exit, began.elapsed(), text);
        Ok(())
    }

    fn restore(&mut self, repo: &Repo, snapshot: &Snapshot) -> Result<(), CommandError> {
        let options = restore::Options::fresh(&self.target);
        // below the target with its whole path, so that a single file works too
        let placements = restore::place(&snapshot.document, None);
        let began = Instant::now();
        let report = restore::restore(repo, snapshot, &placements, &options, &*self.observer)?;
        let entries = report.files + report.directories + report.others;
        let mut text = format!("{} entries, {}", size::count(entries), size::bytes(report.bytes));
        for (loss, count) in &report.losses {
            text.push_str(&format!("; {}: {}", size::count(*count), loss.text()));
        }
        let exit = match () {
            () if report.damage => Exit::Damage,
            () if report.failed > 0 => Exit::Partial,
            () => Exit::Done,
        };
        self.done("restore", exit, began.elapsed(), text);
        Ok(())
    }

    fn drill(
        &mut self,
        args: &TryArgs,
        repo: &Repo,
        key: &WriterKey,
        snapshot: &Snapshot,
        plan: &Plan,
        place: &Path,
    ) -> Result<(Evidence, Option<Score>), CommandError> {
        let text = std::fs::read(plan.file())
            .unwrap_or_else(|_| plan::detect(&self.root, None, &env::variable).into_bytes());
        let subject = Subject {
            repo,
            snapshot,
            kept: std::slice::from_ref(snapshot),
            plan,
            plan_sha256: hex::encode(Sha256::digest(text)),
            same_as_last_drill: false,
        };
        let hide = vec![place.join("repository")];
        let place = place.join("drill");
        std::fs::create_dir(&place).map_err(CommandError::io("could not make a temporary directory"))?;
        let options =
            Options { allow_unisolated: args.allow_unisolated, ..plain_options(plan, Some(&place), hide)? };
        let began = Instant::now();
        let mut run = rehearse(&subject, &options, env::sudo_user(), &*self.observer).map_err(refused)?;
        let sound = run.clone().judged();
        let text = format!("{}: {}", sound.headline(), sound.reasons.first().cloned().unwrap_or_default());
        self.done("drill", sound.verdict.exit(), began.elapsed(), text);
        let score = match sound.verdict {
            Verdict::Pass | Verdict::ObjectiveMissed => Some(self.self_test(&subject, &options, &sound)?),
            Verdict::Fail | Verdict::Inconclusive => None,
        };
        run.self_test = score.iter().flat_map(Score::recorded).collect();
        run.not_tested.extend(score.iter().flat_map(Score::unjudged));
        evidence::append(repo, key, &mut run)?;
        if let Some(path) = &args.html {
            let page = render::html(&run, std::slice::from_ref(&run))
                .map_err(|e| CommandError::of(Exit::Failed, &e))?;
            std::fs::write(path, page)
                .map_err(CommandError::io(format!("could not write {}", path.display())))?;
        }
        Ok((run, score))
    }

    fn self_test(
        &mut self,
        subject: &Subject<'_>,
        options: &Options,
        run: &Evidence,
    ) -> Result<Score, CommandError> {
        let began = Instant::now();
        let score = self_test(subject, options, run, &*self.observer).map_err(refused)?;
        let text = format!("{} of {} sabotages were noticed", score.noticed, score.done);
        let exit = if score.is_whole() { Exit::Done } else { Exit::DrillFailed };
        self.done("self-test", exit, began.elapsed(), text);
        Ok(score)
    }

    // The restored copy is walked and read, and held against the hashes of the snapshot.
    fn compare(&mut self, repo: &Repo, snapshot: &Snapshot) -> Result<(), CommandError> {
        let [root] = &snapshot.document.roots[..] else { return Ok(()) };
        let target = self.target.as_os_str().as_bytes();
        let below = root.path.0.strip_prefix(b"/").filter(|rest| !rest.is_empty()).unwrap_or(ROOT);
        let copy = Root { path: Name(join(target, below)), ..root.clone() };
        let parts = [Part { root: &copy, top: ROOT.to_vec() }];
        let loaded = repo.load(Condemned::Use)?;
        let mut chunks = ChunkReader::new(repo.store(), &loaded.index, 4)?;
        let options = live::Options { threads: worker_count(), ..live::Options::default() };
        let began = Instant::now();
        let mut found: Vec<(ChangeKind, Vec<u8>, String)> = Vec::new();
        let mut keep = |change: &Change<'_>| {
            if found.len() < MOST_DIFFERENCES {
                found.push((change.kind, change.path.to_vec(), change.what.join(" ")));
            }
            Ok(())
        };
        let outcome = diff_live(&mut chunks, &parts, &options, &mut keep, &*self.observer)?;
        let mut differences = outcome.counts.total() + outcome.unreadable;
        let mut first: Vec<String> = Vec::new();
        for (kind, path, what) in found {
            // sockets are not restored: the program that listens makes its own
            if kind == ChangeKind::Removed && is_socket(&mut chunks, root, &path)? {
                differences -= 1;
            } else if first.len() < 5 {
                first.push(format!("{} {} {what}", kind.letter(), Name(path).shown()));
            }
        }
        let text = match differences {
            0 => "no difference".to_owned(),
            count => format!("{}: {}", size::plural(count, "difference"), first.join(", ")),
        };
        self.done("compare", if differences == 0 { Exit::Done } else { Exit::Failed }, began.elapsed(), text);
        Ok(())
    }
}

fn is_socket(chunks: &mut ChunkReader<'_>, root: &Root, path: &[u8]) -> Result<bool, CommandError> {
    let entry = find_entry(chunks, &root.manifest, path)?;
    Ok(entry.is_some_and(|entry| entry.stat.kind == Type::Socket))
}

fn show(done: &Done, context: &Context) -> Result<(), CommandError> {
    let Done { steps, exit, drill } = done;
    if context.json() {
        let verdict = if *exit == Exit::Done { "pass" } else { "fail" };
        return context.document(&Answer { verdict, steps, drill: drill.as_ref().map(|(run, _)| run) });
    }
    if let Some((run, score)) = drill {
        context.print(&format!("{}\n", report::text(run, context)))?;
        if let Some(score) = score {
            context.print(&format!("{}\n", report::scored(score, context)))?;
        }
    }
    let mut table =
        Table::new(&[("step", Kind::Word), ("", Kind::Word), ("time", Kind::Number), ("what", Kind::Text)]);
    for step in steps {
        let time = size::duration(Duration::from_secs_f64(step.seconds));
        table.row([step.step, step.verdict, &time, &step.text]);
    }
    context.print(&table.render(context.width()))
}
