//! `capacity`: what is used, how it grows, when it runs out; and `metrics record`, which measures.

use std::path::PathBuf;
use std::time::Duration;

use crate::base::size;
use crate::base::{Exit, Name};
use crate::capacity::{self, Growth, Measured, Report, Window, plot, repository, sample, span_words};
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::cli::table::{Kind, Table};
use crate::plan::Plan;
use crate::plan::types::Metrics;
use crate::repo::Repo;

/// The processors are watched so long.
const OVER: Duration = Duration::from_millis(100);

/// Show what is used, how it grows and when it runs out
///
/// From the plan's file of measurements, from the repository's own history and from the host now. Exits with 1 if there
/// is something to warn of.
#[derive(clap::Args)]
pub struct CapacityArgs {
    /// Read this file of measurements instead of the plan's
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// If there is no plan, or the measurements cannot be read.
pub fn run(args: &CapacityArgs, context: &Context) -> Result<Exit, CommandError> {
    let plan = context.plan()?;
    let at = context.clock().now();
    let usual = Metrics { file: String::new(), time: "timestamp".to_owned(), fields: Default::default() };
    let metrics = plan.metrics.as_ref().unwrap_or(&usual);
    let file = args.metrics.clone().or_else(|| Some(plan.path(&plan.metrics.as_ref()?.file)));
    let measured = match file {
        None => None,
        // nothing was measured yet: said, and no failure
        Some(file) if args.metrics.is_none() && !file.exists() => {
            let file = Name::from(file.as_os_str()).shown();
            context.say(format!("{file} does not exist yet; lifeboat metrics record adds a sample"));
            None
        }
        Some(file) => Some(capacity::measure(&file, metrics, &plan.capacity, at).map_err(|error| {
            CommandError::of(Exit::Failed, &error).next("check metrics.file in the plan")
        })?),
    };
    let now = sample::take(&plan.root(), OVER);
    let mut report =
        Report { at, now, metrics: measured, repository: growth(context)?, warnings: Vec::new() };
    report.warnings = capacity::warnings(&report, &plan.capacity);
    let kept = context.state(&plan).map(|state| capacity::keep(&state, &report));
    if let Ok(Err(error)) = kept {
        context.warn("not-remembered", &error.to_string());
    }
    if context.json() {
        context.document(&report)?;
    } else {
        context.print(&text(&report, context.width()))?;
    }
    Ok(if report.warnings.is_empty() { Exit::Done } else { Exit::Failed })
}

// Without a repository there is nothing to say of one.
fn growth(context: &Context) -> Result<Option<Growth>, CommandError> {
    let Ok(location) = context.location() else { return Ok(None) };
    let Ok(store) = context.store() else { return Ok(None) };
    let repo = match Repo::open(store, context.clock()) {
        Err(crate::repo::RepoError::NotFound(_)) => return Ok(None),
        other => other?,
    };
    context.compare(&repo)?;
    let free = crate::sys::space::space(&location).ok().map(|room| room.free_bytes);
    Ok(Some(repository::growth(&context.snapshots(&repo)?, free, context.clock().now())))
}

fn text(report: &Report, width: Option<u16>) -> String {
    let one = |(name, value): (&String, &f64)| match name.as_str() {
        "load" => format!("load {value:.2}"),
        _ => format!("{name} {value:.1} %"),
    };
    let now: Vec<String> = report.now.iter().map(one).collect();
    let mut text = format!("now: {}\n", now.join(", "));
    if let Some(measured) = &report.metrics {
        text.push_str(&measurements(measured, usize::from(width.unwrap_or(80)), width));
    }
    if let Some(growth) = &report.repository {
        text.push_str(&of_repository(growth));
    }
    for warning in &report.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}

fn measurements(measured: &Measured, columns: usize, width: Option<u16>) -> String {
    let mut text = format!(
        "\nmeasurements: {}, {} broken, {} in the future",
        size::plural(measured.lines, "line"),
        size::count(measured.broken),
        size::count(measured.future)
    );
    if let (Some(oldest), Some(newest)) = (measured.oldest, measured.newest) {
        text.push_str(&format!(", from {} to {}", oldest.shown(), newest.shown()));
    }
    text.push_str("\n\n");
    let titles = ["window", "samples", "covers", "measure", "average", "p95", "peak", "a day"];
    let mut table =
        Table::new(&titles.map(|title| (title, if title == "measure" { Kind::Word } else { Kind::Number })));
    for window in &measured.windows {
        rows(&mut table, window);
    }
    text.push_str(&table.render(width));
    let Some(longest) = measured.windows.last() else { return text };
    for (name, measure) in &longest.measures {
        let name = crate::base::name::shown(name.as_bytes());
        text.push_str(&format!("\n{name}, {}\n", span_words(longest.seconds)));
        for row in plot::rows(&measure.series, columns, 5) {
            text.push_str(&row);
            text.push('\n');
        }
        if let Some(forecast) = &measure.forecast {
            text.push_str(&format!("{name} runs out: {}\n", forecast.words()));
        }
    }
    text
}

fn rows(table: &mut Table, window: &Window) {
    let span = span_words(window.seconds);
    if window.measures.is_empty() {
        table.row([&span, "0", "-", "-", "-", "-", "-", "-"]);
    }
    for (name, measure) in &window.measures {
        let trend = measure.trend.as_ref();
        let trend = trend.map_or_else(
            || "-".to_owned(),
            |t| format!("{:+.2} ({:+.2} to {:+.2})", t.per_day, t.low, t.high),
        );
        table.row([
            span.clone(),
            size::count(measure.samples),
            span_words(window.covers),
            crate::base::name::shown(name.as_bytes()),
            format!("{:.1}", measure.average),
            format!("{:.1}", measure.p95),
            format!("{:.1}", measure.peak),
            trend,
        ]);
    }
}

fn of_repository(growth: &Growth) -> String {
    let a_day = |trend: &Option<capacity::Trend>| match trend {
        None => "not enough data".to_owned(),
        Some(trend) if trend.per_day < 0.0 => format!("-{} a day", size::bytes(-trend.per_day as u64)),
        Some(trend) => format!("{} a day", size::bytes(trend.per_day as u64)),
    };
    let ratio = growth.deduplication.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.1}"));
    let free = growth.free_bytes.map_or_else(|| "unknown".to_owned(), size::bytes);
    format!(
        "\nrepository: {}, the newest of {}, all together {}, stored {} (1 : {ratio})\n\
         a snapshot grows by {}, what is stored by {}; {free} free\n\
         the repository's room runs out: {}\n",
        size::plural(growth.snapshots, "snapshot"),
        size::bytes(growth.newest_bytes),
        size::bytes(growth.bytes),
        size::bytes(growth.stored_bytes),
        a_day(&growth.tree),
        a_day(&growth.stored),
        growth.forecast.words(),
    )
}

/// Measure the host
#[derive(clap::Args)]
pub struct MetricsArgs {
    #[command(subcommand)]
    command: MetricsCommand,
}

#[derive(clap::Subcommand)]
enum MetricsCommand {
    /// Add a sample of processors, memory, disk and load to the plan's file of measurements
    Record,
}

/// Runs the command.
///
/// # Errors
/// If the plan names no file of measurements, or it cannot be written.
pub fn metrics(args: &MetricsArgs, context: &Context) -> Result<Exit, CommandError> {
    let MetricsCommand::Record = args.command;
    let plan = context.plan()?;
    let metrics = named(&plan)?;
    let at = context.clock().now();
    let line = sample::line(&sample::take(&plan.root(), OVER), at, metrics);
    let file = plan.path(&metrics.file);
    let act = format!("could not add to {}", Name::from(file.as_os_str()).shown());
    sample::append(&file, &line).map_err(CommandError::io(act))?;
    context.print(&line)?;
    Ok(Exit::Done)
}

fn named(plan: &Plan) -> Result<&Metrics, CommandError> {
    plan.metrics.as_ref().ok_or_else(|| {
        CommandError::usage("the plan names no file of measurements")
            .next("write [metrics] and file = \"logs/metrics.jsonl\" into it; see docs/capacity.md")
    })
}
