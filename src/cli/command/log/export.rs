//! `log export`: the logbook, or one run in it, in the form that others read.

use serde_json::{Value, json};

use super::show::{summary, value};
use super::{Which, find};
use crate::base::Exit;
use crate::base::id::RecordId;
use crate::base::size;
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::evidence::logged::{FOLLOW_UP, Said, follow_ups, runs};
use crate::evidence::render::{self, Activity, Bound, Session};
use crate::evidence::{Evidence, Kind, Verdict};
use crate::format::record::Record;
use crate::logbook::{self, Logbook, Logged};
use crate::runbook::due;

/// Print the logbook, or one run in it, as a document
///
/// Without --record, markdown and html are a maintenance log of all records and json has all of them; the other forms
/// show the newest drill. Only records that are whole and signed are exported; log verify names the others.
#[derive(clap::Args)]
pub struct ExportArgs {
    /// The form of the document
    #[arg(long, value_name = "FORM", value_enum)]
    format: Form,
    /// A run: its id, its record's hash or the first digits, or latest
    #[arg(long, value_name = "RECORD", conflicts_with = "Which")]
    record: Option<String>,
    #[command(flatten)]
    which: Which,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    Markdown,
    Json,
    Html,
    Junit,
    Prometheus,
    InToto,
}

/// Runs the command.
///
/// # Errors
/// If the logbook cannot be read, or there is no such run.
pub fn run(args: &ExportArgs, context: &Context) -> Result<Exit, CommandError> {
    let logbook = logbook::read(&context.open_repo()?)?;
    let text = match (args.format, &args.record) {
        (Form::Markdown, None) => render::maintenance(&sessions(args, context, &logbook)?),
        (Form::Html, None) => render::maintenance_html(&sessions(args, context, &logbook)?)
            .map_err(|error| CommandError::of(Exit::Failed, &error))?,
        (Form::Json, None) => {
            let found = args.which.of(&logbook, context)?;
            let records = found.iter().filter(|logged| logged.fault.is_none()).map(|logged| value(logged));
            format!("{:#}\n", json!({ "records": records.collect::<Vec<_>>() }))
        }
        (form, wanted) => of_run(form, wanted.as_deref(), &logbook)?,
    };
    context.print(&text)?;
    Ok(Exit::Done)
}

fn of_run(form: Form, wanted: Option<&str>, logbook: &Logbook) -> Result<String, CommandError> {
    let all = runs(logbook);
    let run = chosen(wanted, logbook, &all)?;
    let failed = |error: render::RenderError| CommandError::of(Exit::Failed, &error);
    Ok(match form {
        Form::Markdown => render::markdown(run),
        Form::Json => render::json(run).map_err(failed)?,
        Form::Html => render::html(run, &all).map_err(failed)?,
        Form::Junit => render::junit(run).map_err(failed)?,
        Form::Prometheus => render::prometheus(run),
        Form::InToto => {
            let statement = render::in_toto(run).ok_or_else(|| {
                CommandError::new(Exit::Failed, "the run had no snapshot that a statement could be about")
                    .next("choose another run, or another form such as --format json")
            })?;
            format!("{statement:#}\n")
        }
    })
}

fn chosen<'r>(
    wanted: Option<&str>,
    logbook: &Logbook,
    all: &'r [Evidence],
) -> Result<&'r Evidence, CommandError> {
    // the last record may be anything; the last drill is a run
    let Some(wanted) = wanted.filter(|wanted| *wanted != "latest") else {
        return all.iter().rfind(|run| run.kind == Kind::Drill).ok_or_else(|| {
            CommandError::new(Exit::Failed, "there is no drill in the logbook")
                .next("lifeboat drill makes one; --record names another run")
        });
    };
    let (logged, record) = find(logbook, wanted)?;
    of_record(all, logged.id).ok_or_else(|| {
        let text = format!("record {} is no run but a {}", logged.id.short(), record.kind);
        CommandError::usage(text).next("lifeboat log show --kind drill lists the drills")
    })
}

fn of_record(all: &[Evidence], id: RecordId) -> Option<&Evidence> {
    let hex = id.to_hex();
    all.iter().find(|run| run.seal.as_ref().is_some_and(|seal| seal.record == hex))
}

fn sessions(args: &ExportArgs, context: &Context, logbook: &Logbook) -> Result<Vec<Session>, CommandError> {
    let all = runs(logbook);
    let said = follow_ups(logbook);
    let found = args.which.of(logbook, context)?;
    let trusted = found.into_iter().filter(|logged| logged.fault.is_none());
    let records = trusted.filter_map(|logged| Some((logged, logged.record.as_ref()?)));
    let mut activities: Vec<Activity> = records
        .filter_map(|(logged, record)| match record.kind.as_str() {
            FOLLOW_UP => alone(record, said.iter().find(|said| said.record == logged.id)?),
            _ => Some(of_act(logged, record, of_record(&all, logged.id), &said)),
        })
        .collect();
    activities.sort_by_key(|activity| activity.started);
    Ok(render::sessions(&activities))
}

// Work that left no record but what people say.
fn alone(record: &Record, said: &Said) -> Option<Activity> {
    let words = &said.words;
    let is_alone = words.run_id.is_empty() && !words.activities.is_empty();
    let kind = if words.occasion.is_empty() { "by hand" } else { &words.occasion };
    is_alone.then(|| Activity {
        kind: kind.to_owned(),
        what: String::new(),
        follow_ups: vec![words.clone()],
        ..simple(record)
    })
}

fn simple(record: &Record) -> Activity {
    Activity {
        started: record.at,
        finished: record.at,
        by: format!("{}@{}", record.user.shown(), record.host.shown()),
        kind: record.kind.clone(),
        what: String::new(),
        issues: Vec::new(),
        complete: true,
        follow_ups: Vec::new(),
        bound: None,
    }
}

fn of_act(logged: &Logged, record: &Record, run: Option<&Evidence>, said: &[Said]) -> Activity {
    let what = format!("{} {} (record {})", record.kind, summary(record), logged.id.short());
    let act = Activity { what, ..simple(record) };
    let Some(run) = run else {
        let about = said.iter().filter(|said| said.words.run_id == logged.id.to_hex());
        let follow_ups = about.map(|said| said.words.clone()).collect();
        return found_wrong(Activity { follow_ups, ..act }, record);
    };
    let passed = run.verdict == Verdict::Pass;
    let often = due::name_of(run.kind, &run.scenario).or_else(|| run.scenario.split(' ').next());
    // what failed has neither begun nor ended a maintenance
    let well = passed || run.is_open();
    let bound = match run.scenario.as_str() {
        "maintenance begin" if well => Some(Bound::Begin(run.app.clone())),
        "maintenance end" if well => Some(Bound::End(run.app.clone())),
        "maintenance abort" => Some(Bound::End(run.app.clone())),
        _ => None,
    };
    Activity {
        kind: often.filter(|_| run.kind == Kind::Runbook).unwrap_or(&record.kind).to_owned(),
        started: run.started,
        finished: run.finished,
        issues: if passed { Vec::new() } else { run.reasons.clone() },
        complete: passed,
        follow_ups: run.follow_ups.clone(),
        bound: bound.filter(|_| run.kind == Kind::Runbook),
        ..act
    }
}

// A snapshot says how much of its source it could not read.
fn found_wrong(mut activity: Activity, record: &Record) -> Activity {
    let statistic = |key: &str| {
        let statistics = record.body.get("statistics")?;
        statistics.get(key).and_then(Value::as_u64).filter(|number| *number > 0)
    };
    for (key, what) in [("skipped", "could not be read"), ("torn", "may be torn")] {
        if let Some(number) = statistic(key) {
            activity.issues.push(format!("{number} files {what}"));
            activity.complete = false;
        }
    }
    // a verify says how much is wrong with the repository: it did its work, but the work is not done
    let problems = record.body.get("problems").and_then(Value::as_u64).filter(|number| *number > 0);
    if let Some(number) = problems {
        let were = if number == 1 { "was" } else { "were" };
        activity.issues.push(format!("{} {were} found in the repository", size::plural(number, "problem")));
        activity.complete = false;
    }
    activity
}
