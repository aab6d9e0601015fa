//! `verify`: can every snapshot be restored?

use std::ffi::OsString;
use std::time::Duration;

use serde_json::json;

use crate::base::Exit;
use crate::base::name::{Name, shown};
use crate::base::size;
use crate::catalog::select::Filters;
use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::cli::json::{Object, object};
use crate::repo::Repo;
use crate::repo::documents::Snapshot;
use crate::sys::host::worker_count;
use crate::tree::walk::join;
use crate::verify::{Depth, LostPath, Options, Problem, Report, Selection, Severity, verify};

/// Check that every snapshot can be restored
///
/// Without options everything but the content is read: documents, signatures, indexes, manifests, the
/// logbook, and whether every pack is there. The exit status is 40 if something is damaged or missing.
#[derive(clap::Args)]
pub struct VerifyArgs {
    /// Only these snapshots: of manifests and packs only what they need is read
    ///
    /// Whether the repository's other objects are there and are themselves (documents, indexes, the logbook, packs that an index
    /// names) is looked at all the same.
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<OsString>,
    /// Read every stored byte and compare it with its hash
    #[arg(long)]
    read_data: bool,
    /// Decode every chunk too, and compare it with its hash
    #[arg(long, conflicts_with = "read_data")]
    deep: bool,
    /// Read only a share of the packs, those proved longest ago first
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    sample: Option<f64>,
    /// Read packs for this long, those proved longest ago first
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, conflicts_with = "sample")]
    budget: Option<Duration>,
    /// How many threads read [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
}

/// Lost paths of a snapshot that a terminal is shown.
const SHOWN: usize = 20;
/// Probable paths of a lost stretch that it is shown.
const LIKELY: usize = 5;

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    let share: f64 = number.parse().map_err(|_| format!("{text:?} is not a share such as 5%"))?;
    if share > 0.0 && share <= 100.0 {
        Ok(share / 100.0)
    } else {
        Err("a share is above 0% and at most 100%".to_owned())
    }
}

/// Runs the command.
///
/// # Errors
/// If it could not be found out.
pub fn run(args: &VerifyArgs, context: &Context) -> Result<Exit, CommandError> {
    let repo = context.open_repo()?;
    let options = options(args, &repo, context)?;
    let observer = context.observer();
    let mut report = verify(&repo, &options, &*observer)?;
    drop(observer);
    if let Some(older) = context.older() {
        let snapshots = older.snapshots.iter().map(|(id, _)| *id).collect();
        report.problems.insert(0, Problem::Older { snapshots, text: older.to_string() });
    }
    // proofs are remembered, so that the next sample goes on where this one ended
    context.record_where_possible(&repo, "verify", report.record_body());
    let found: Vec<String> =
        report.problems.iter().map(|problem| problem_text(problem).trim().to_owned()).collect();
    context.outcome(format!("verify: {}", size::plural(found.len() as u64, "problem")), found);
    show(&report, context)?;
    Ok(if report.is_clean() { Exit::Done } else { Exit::Damage })
}

fn options(args: &VerifyArgs, repo: &Repo, context: &Context) -> Result<Options, CommandError> {
    let partly = args.sample.is_some() || args.budget.is_some();
    let selection = match (args.sample, args.budget) {
        (Some(share), _) => Selection::Sample(share),
        (None, Some(time)) => Selection::Budget(time),
        (None, None) => Selection::All,
    };
    // a share of nothing would prove nothing
    let depth = match (args.deep || (partly && !args.read_data), args.read_data) {
        (true, _) => Depth::Deep,
        (false, true) => Depth::Stored,
        (false, false) => Depth::Structure,
    };
    let workers = args.jobs.map_or_else(worker_count, usize::from);
    Ok(Options { depth, selection, snapshots: chosen(args, repo, context)?, workers })
}

fn chosen(
    args: &VerifyArgs,
    repo: &Repo,
    context: &Context,
) -> Result<Option<Vec<crate::base::SnapshotId>>, CommandError> {
    if args.snapshots.is_empty() {
        return Ok(None);
    }
    let all: Vec<Snapshot> = context.snapshots(repo)?;
    let ids = args
        .snapshots
        .iter()
        .map(|text| Ok(context.choose(&args::snapshot(text)?, &all, &Filters::default())?.id));
    ids.collect::<Result<Vec<_>, CommandError>>().map(Some)
}

fn show(report: &Report, context: &Context) -> Result<(), CommandError> {
    if context.json() {
        for problem in &report.problems {
            context.document(&problem_json(problem))?;
        }
        let coverage = &report.coverage;
        return context.document(&json!({
            "message_type": "summary",
            "clean": report.is_clean(),
            "depth": report.depth.word(),
            "snapshots": report.snapshots.len(),
            "packs": report.checked_packs,
            "proved_packs": report.proved.len(),
            "problems": report.problems.len(),
            "stored_bytes": coverage.stored_bytes,
            "proved_bytes": coverage.proved_bytes,
        }));
    }
    let mut text = String::new();
    for problem in &report.problems {
        text.push_str(&problem_text(problem));
    }
    if !text.is_empty() {
        context.print(&text)?;
    }
    let coverage = &report.coverage;
    context.say(format!(
        "{}: {}, {} in {}; {:.0} % of the stored bytes proved within 30 days",
        match (report.is_clean(), report.problems.is_empty() && !context.has_warned()) {
            (false, _) => "DAMAGE FOUND",
            (true, true) => "all is well",
            (true, false) => "no damage, see above",
        },
        size::plural(report.snapshots.len() as u64, "snapshot"),
        size::bytes(coverage.stored_bytes),
        size::plural(report.checked_packs, "pack"),
        (coverage.share() * 100.0).floor(),
    ));
    Ok(())
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Notice => "notice",
        Severity::Degraded => "degraded",
        Severity::DataLoss => "data-loss",
    }
}

fn problem_text(problem: &Problem) -> String {
    let mut text = format!("{:<9} {}  {}\n", word(problem.severity()), problem.code(), problem.text());
    for hit in problem.hits() {
        text.push_str(&format!(
            "          snapshot {}: {} hit\n",
            hit.snapshot.short(),
            size::plural(hit.lost_entries, "entry").replace("entrys", "entries")
        ));
        hit.paths.iter().take(SHOWN).for_each(|lost| text.push_str(&lost_text(lost)));
        if hit.paths.len() > SHOWN {
            text.push_str("            … (--json lists more)\n");
        }
    }
    if !problem.remedy().is_empty() {
        text.push_str(&format!("          next: {}\n", problem.remedy()));
    }
    text
}

fn lost_text(lost: &LostPath) -> String {
    let path = |path| shown(&join_root(&lost.root, path));
    let mut text = format!("            {}", path(&lost.path));
    if let Some(stretch) = &lost.stretch {
        let entries = size::plural(stretch.entries, "entry").replace("entrys", "entries");
        let end = match &stretch.until {
            Some(until) => format!("before {}", path(until)),
            None => "to the end".to_owned(),
        };
        text.push_str(&format!(" and what follows {end}: {entries}"));
        if !stretch.likely.is_empty() {
            text.push_str("; another snapshot has there:");
        }
        for likely in stretch.likely.iter().take(LIKELY) {
            text.push_str(&format!("\n              {}", path(likely)));
        }
        if stretch.likely.len() > LIKELY {
            text.push_str("\n              … (--json lists more)");
        }
    }
    text.push('\n');
    text
}

fn join_root(root: &[u8], path: &[u8]) -> Vec<u8> {
    if path == b"." || path.is_empty() {
        return root.to_vec();
    }
    join(if root == b"/" { b"" } else { root }, path)
}

fn problem_json(problem: &Problem) -> Object {
    let mut paths = Vec::new();
    for hit in problem.hits() {
        for lost in &hit.paths {
            let name = |path: &Vec<u8>| Name(join_root(&lost.root, path));
            let stretch = lost.stretch.as_ref();
            paths.push(object! {
                "snapshot": hit.snapshot,
                "path": name(&lost.path),
                "and_following": stretch.is_some(),
                "until": stretch.and_then(|s| s.until.as_ref()).map(name),
                "entries": stretch.map_or(1, |s| s.entries),
                "likely": stretch.map_or_else(Vec::new, |s| s.likely.iter().map(name).collect()),
            });
        }
    }
    object! {
        "message_type": "problem",
        "code": problem.code(),
        "severity": word(problem.severity()),
        "object": problem.object().map(|key| key.as_str().to_owned()),
        "snapshots": problem.snapshots(),
        "paths": paths,
        "text": problem.text(),
        "next": problem.remedy(),
    }
}
