//! `report`: the readiness as a page.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use super::log::summary;
use super::status::{facts, line_of};
use crate::base::name::shown;
use crate::base::{Exit, Name};
use crate::cli::context::{Context, whoami};
use crate::cli::error::CommandError;
use crate::evidence::Kind;
use crate::readiness::{Facts, Repository, judge};
use crate::report::{Act, Data, Kept, Objectives, Procedure, SCHEMA, page};
use crate::runbook::due::{due, last};
use crate::{capacity, evidence, health, logbook};

/// So many acts are on the page.
const ACTS: usize = 30;

/// Write the readiness as one HTML page, with what it rests on drawn over time
///
/// The page needs nothing else: no script, no other file. With --json, the data. Ends with the status of `lifeboat status` only
/// with --judge.
#[derive(clap::Args)]
pub struct ReportArgs {
    /// Write it to this file, replaced as a whole, instead of stdout
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    output: Option<PathBuf>,
    /// End as lifeboat status does: 0 if ready, 3 if degraded, 1 if not ready
    #[arg(long)]
    judge: bool,
}

/// Runs the command.
///
/// # Errors
/// If no repository is named, the plan is wrong, or the page cannot be written.
pub fn run(args: &ReportArgs, context: &Context) -> Result<Exit, CommandError> {
    let data = data(context)?;
    let text = if context.json() {
        serde_json::to_string(&data).map_err(|error| CommandError::output(error.into()))? + "\n"
    } else {
        page(&data).map_err(|error| CommandError::of(Exit::Failed, &error))?
    };
    match &args.output {
        Some(path) => {
            write(path, &text)?;
            let name = Name::from(path.as_os_str()).shown();
            context.say(format!("{}; the page is {name}", line_of(&data.readiness)));
        }
        None if !context.json() && std::io::stdout().is_terminal() => {
            return Err(CommandError::usage("a page is nothing for a terminal")
                .next("give --output FILE, or --json for the data; lifeboat status says it in words"));
        }
        None => context.print(&text)?,
    }
    Ok(if args.judge { super::status::exit(data.readiness.verdict) } else { Exit::Done })
}

// Written aside and renamed: a page that is being served is the old one or the new one.
fn write(path: &std::path::Path, text: &str) -> Result<(), CommandError> {
    let shown = Name::from(path.as_os_str()).shown();
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(std::path::Path::new("."));
    let staged = || {
        use std::io::Write as _;
        use std::os::unix::fs::PermissionsExt as _;
        let mut staged = tempfile::Builder::new().prefix(".report-").tempfile_in(directory)?;
        staged.write_all(text.as_bytes())?;
        let open = std::fs::Permissions::from_mode(0o644);
        staged.as_file().set_permissions(open)?;
        staged.persist(path).map(drop).map_err(|error| error.error)
    };
    staged().map_err(CommandError::io(format!("could not write {shown}")))
}

fn data(context: &Context) -> Result<Data, CommandError> {
    let facts = facts(context)?;
    let readiness = judge(&facts);
    let plan = facts.application.as_ref().map(|application| &application.plan);
    let state = plan.and_then(|plan| context.state(plan).ok());
    let name = readiness.application.clone();
    let repository = facts.repository.as_ref().ok();
    let objectives = facts.application.as_ref().map(|application| Objectives {
        rto: application.rto().map(|time| time.as_secs_f64()),
        rpo: application.rpo().map(|time| time.as_secs_f64()),
    });
    Ok(Data {
        schema: SCHEMA,
        repository: Name::from(context.location()?.as_os_str()).shown(),
        host: whoami().0.shown(),
        objectives: objectives.unwrap_or_default(),
        drills: repository
            .map(|found| found.memory.drills(name.as_deref()).cloned().collect())
            .unwrap_or_default(),
        snapshots: repository.map(kept).unwrap_or_default(),
        growth: repository.map(|found| found.growth.clone()),
        checks: state.as_ref().map(health::history::read).unwrap_or_default(),
        capacity: state.as_ref().and_then(|state| capacity::last(state).ok().flatten()),
        runbooks: procedures(&facts),
        actions: repository.map(|found| found.actions.clone()).unwrap_or_default(),
        acts: if repository.is_some() { acts(context)? } else { Vec::new() },
        readiness,
    })
}

fn kept(found: &Repository) -> Vec<Kept> {
    let drilled = |id: &str| {
        let of_it = found
            .memory
            .runs
            .iter()
            .rev()
            .filter(|run| run.kind == Kind::Drill && run.snapshot.as_deref() == Some(id));
        of_it.map(|run| run.verdict).find_map(|verdict| match verdict {
            evidence::Verdict::Pass => Some(true),
            evidence::Verdict::Fail => Some(false),
            _ => None,
        })
    };
    let row = |(id, fact): &(crate::base::id::SnapshotId, crate::readiness::SnapshotFact)| {
        let id = id.to_hex();
        Kept { drilled: drilled(&id), id, at: fact.started, bytes: fact.bytes, files: fact.files }
    };
    found.snapshots.iter().map(row).collect()
}

fn procedures(facts: &Facts) -> Vec<Procedure> {
    let (Ok(repository), Some(application)) = (&facts.repository, &facts.application) else {
        return Vec::new();
    };
    let now = facts.now.0.with_timezone(&chrono::Local);
    let row = |(name, book): (&String, &crate::plan::Runbook)| {
        let run = last(name, &repository.memory.runs, facts.now).run;
        let found = due(book, run.map(|run| run.started), &now).ok();
        Procedure {
            name: name.clone(),
            description: book.description.clone().unwrap_or_default(),
            last: run.map(|run| run.started),
            verdict: run.map(|run| run.headline.clone()),
            due: found.as_ref().and_then(|found| found.at),
            is_due: found.is_some_and(|found| found.is_due),
        }
    };
    application.plan.runbook.iter().map(row).collect()
}

fn acts(context: &Context) -> Result<Vec<Act>, CommandError> {
    let logbook = logbook::read(&context.open_repo()?)?;
    let mut records: Vec<_> = logbook.trusted().map(|(_, record)| record).collect();
    records.sort_by_key(|record| std::cmp::Reverse((record.at, record.sequence)));
    let act = |record: &&crate::format::record::Record| Act {
        at: record.at,
        kind: shown(record.kind.as_bytes()),
        by: format!("{}@{}", record.user.shown(), record.host.shown()),
        what: summary(record),
    };
    Ok(records.iter().take(ACTS).map(act).collect())
}
