//! `health`: the plan's checks, now.

use std::io::IsTerminal as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::base::Exit;
use crate::base::name::shown;
use crate::base::time::Timestamp;
use crate::catalog::select::parse_since;
use crate::check::{Check, Context as CheckContext, Outcome, run_all};
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::cli::table::{Kind, Table};
use crate::health::{Report, history, marks, nagios, overall, prometheus::prometheus};
use crate::plan::Plan;
use crate::state::State;

/// Run the plan's checks now
///
/// Exits with 0 if every required check passed, with 1 if one failed, and with 22 if none failed but one could
/// not be judged; with --format nagios as plug-ins do: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN. A log is read on from
/// where it was read to the last time, so a line is told once.
#[derive(clap::Args)]
pub struct HealthArgs {
    /// Only these checks; all of the plan if none is named
    #[arg(value_name = "CHECK")]
    names: Vec<String>,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Read logs from their start, also what was told before
    #[arg(long, conflicts_with = "since")]
    all: bool,
    /// Read logs again from this time on, as 2h, 2026-11-24 or an RFC 3339 time
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Look again and again, until interrupted; ends with the status of the last look
    #[arg(long)]
    watch: bool,
    /// The time between two looks
    #[arg(long, value_name = "DURATION", default_value = "10s", requires = "watch", value_parser = humantime::parse_duration)]
    interval: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A table for people
    Table,
    /// One document (--json is the same)
    Json,
    /// Metrics for the textfile collector of a node exporter
    Prometheus,
    /// A line with performance data, as a monitoring plug-in
    Nagios,
}

/// Runs the command.
///
/// # Errors
/// If there is no plan, or it has no such check.
pub fn run(args: &HealthArgs, context: &Context) -> Result<Exit, CommandError> {
    let format = if context.json() { Format::Json } else { args.format };
    match look_and_show(args, format, context) {
        Err(error) if format == Format::Nagios => {
            context.print(&nagios::unknown(error.message()))?;
            Ok(plugin(nagios::State::Unknown))
        }
        other => other,
    }
}

fn look_and_show(args: &HealthArgs, format: Format, context: &Context) -> Result<Exit, CommandError> {
    let plan = context.plan()?;
    let checks = chosen(args, &plan)?;
    let state = context.state(&plan)?;
    let again = match &args.since {
        None => None,
        Some(text) => Some(parse_since(text, context.clock().now())?),
    };
    let mut is_first = true;
    loop {
        let began = Instant::now();
        // what is looked at again is so once
        let (all, again) = if is_first { (args.all, again) } else { (false, None) };
        let report = look(&plan, &checks, &state, all, again, context);
        let wrong = report.checks.iter().filter(|one| one.required && one.outcome != Outcome::Pass);
        let wrong: Vec<String> = wrong.map(|one| format!("{}: {}", one.name, one.reason)).collect();
        context.outcome(format!("health: {}", report.verdict.word()), wrong);
        show(&report, format, args.watch, context)?;
        is_first = false;
        if !args.watch || !wait(args.interval.saturating_sub(began.elapsed()), context) {
            return Ok(exit(&report, format));
        }
    }
}

fn look(
    plan: &Plan,
    checks: &[&Check],
    state: &State,
    all: bool,
    since: Option<Timestamp>,
    context: &Context,
) -> Report {
    let not_kept = |error: crate::state::StateError| {
        context.warn("not-remembered", &format!("{error}: lines of logs may be told twice"));
    };
    let known =
        if all { marks::Marks::new() } else { marks::load(state).map_err(not_kept).unwrap_or_default() };
    let asked = CheckContext {
        stop: Some(context.stop()),
        marks: known,
        since,
        ..CheckContext::new(plan.directory())
    };
    let began = Instant::now();
    let at = context.clock().now();
    let found = run_all(checks, &asked);
    let report = Report {
        application: plan.name(),
        at,
        verdict: overall(&found),
        took: began.elapsed().as_secs_f64(),
        checks: found,
    };
    if !asked.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed)) {
        let named = checks.iter().map(|check| check.name()).zip(&report.checks);
        let kept = marks::keep(state, named).and_then(|()| history::add(state, at, &report.checks));
        let _ = kept.map_err(not_kept);
    }
    report
}

// False if somebody wants an end.
fn wait(left: Duration, context: &Context) -> bool {
    let (stop, until) = (context.stop(), Instant::now() + left);
    while !stop.load(Ordering::Relaxed) && Instant::now() < until {
        std::thread::sleep(until.saturating_duration_since(Instant::now()).min(Duration::from_millis(50)));
    }
    !stop.load(Ordering::Relaxed)
}

fn show(report: &Report, format: Format, watch: bool, context: &Context) -> Result<(), CommandError> {
    match format {
        Format::Json => context.document(report),
        Format::Prometheus => context.print(&prometheus(report)),
        Format::Nagios => context.print(&nagios::line(report)),
        Format::Table if !watch => context.print(&table(report).render(context.width())),
        Format::Table if std::io::stdout().is_terminal() => {
            let head = format!(
                "{}: {} at {}\n\n",
                shown(report.application.as_bytes()),
                report.verdict.word(),
                report.at.shown()
            );
            // home, the new text with each line's rest cleared, then everything below it
            let text = (head + &table(report).render(context.width())).replace('\n', "\x1b[K\n");
            context.print(&format!("\x1b[H{text}\x1b[J"))
        }
        Format::Table => context.print(&lines(report)),
    }
}

// A line for each look, and one for each check that did not pass.
fn lines(report: &Report) -> String {
    let passed = report.checks.len() - report.wrong().len();
    let mut text = format!(
        "{} {} {passed}/{} passed\n",
        report.at.rfc3339(),
        report.verdict.word(),
        report.checks.len()
    );
    for check in report.wrong() {
        text.push_str(&format!(
            "  {} {}: {}\n",
            check.outcome.word(),
            check.name,
            check.reason.replace('\n', " ")
        ));
    }
    text
}

fn exit(report: &Report, format: Format) -> Exit {
    match (format, report.verdict) {
        (Format::Nagios, _) => plugin(nagios::state(report)),
        (_, Outcome::Pass) => Exit::Done,
        (_, Outcome::Fail) => Exit::Failed,
        (_, Outcome::Error) => Exit::Inconclusive,
    }
}

// The statuses with the numbers that plug-ins have.
fn plugin(state: nagios::State) -> Exit {
    match state {
        nagios::State::Ok => Exit::Done,
        nagios::State::Warning => Exit::Failed,
        nagios::State::Critical => Exit::Usage,
        nagios::State::Unknown => Exit::Partial,
    }
}

fn chosen<'p>(args: &HealthArgs, plan: &'p Plan) -> Result<Vec<&'p Check>, CommandError> {
    if plan.check.is_empty() {
        return Err(CommandError::usage("the plan has no check")
            .next("add a [[check]]; docs/checks.md has one of each kind"));
    }
    if args.names.is_empty() {
        return Ok(plan.check.iter().collect());
    }
    let find = |name: &String| {
        plan.check_named(name).ok_or_else(|| {
            let names: Vec<String> = plan.check.iter().map(|check| shown(check.name().as_bytes())).collect();
            CommandError::usage(format!("the plan has no check called {}", shown(name.as_bytes())))
                .next(format!("use one of {}", names.join(", ")))
        })
    };
    args.names.iter().map(find).collect()
}

fn table(report: &Report) -> Table {
    let columns = [
        ("check", Kind::Text),
        ("kind", Kind::Word),
        ("verdict", Kind::Word),
        ("time", Kind::Number),
        ("found", Kind::Text),
    ];
    let mut table = Table::new(&columns);
    for verdict in &report.checks {
        let mut word = verdict.outcome.word().to_owned();
        if !verdict.required {
            word.push_str(" (optional)");
        }
        let time = format!("{:.2} s", verdict.took);
        table.row([&verdict.name, &verdict.kind, &word, &time, &verdict.reason.replace('\n', " ")]);
    }
    table
}

/// What `__check` reads.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    check: Check,
    context: CheckContext,
}

/// Run one check that is read from stdin
#[derive(clap::Args)]
pub struct OneArgs {}

/// Runs one check, so that it can be done inside of other namespaces: a JSON object of `check` and
/// `context` on stdin, the verdict on stdout.
///
/// # Errors
/// If what is read is no check.
pub fn one(_: &OneArgs, context: &Context) -> Result<Exit, CommandError> {
    let question: Question = serde_json::from_reader(std::io::stdin().lock())
        .map_err(|error| CommandError::usage(format!("there is no check on stdin: {error}")))?;
    let asked = CheckContext { stop: Some(context.stop()), ..question.context };
    context.document(&question.check.run(&asked))?;
    Ok(Exit::Done)
}
