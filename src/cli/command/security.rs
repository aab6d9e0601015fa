//! `security`: packages, refused requests, wide permissions, secrets in files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;

use crate::base::{Exit, Name};
use crate::catalog::live::{self, diff_live};
use crate::catalog::paths::{absolute, parts};
use crate::check::Outcome;
use crate::cli::context::Context;
use crate::cli::env;
use crate::cli::error::CommandError;
use crate::cli::json::object;
use crate::cli::reading::Reading;
use crate::cli::table::{Kind, Table};
use crate::plan::Plan;
use crate::security::{Finding, Part, access, packages, permissions, secrets};
use crate::tree::exclude::{self, Excludes};

/// What is remembered, by the path of each access log.
const FILE: &str = "security.json";

/// Look for known holes, refused requests, wide permissions and secrets
///
/// Exits with 1 if something was found, and with 22 if nothing was but something could not be looked at.
#[derive(clap::Args)]
pub struct SecurityArgs {
    /// Only these parts; all if none is named
    #[arg(value_name = "PART", value_enum)]
    parts: Vec<Which>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// Packages that are old or have known holes, by the tools of each language
    Packages,
    /// Lines of access logs with 401, 403 and 500, compared with the last time
    Access,
    /// What everybody may write, set-uid and set-gid files, modes that changed since the last snapshot
    Permissions,
    /// Keys, tokens and passwords in files
    Secrets,
}

/// Runs the command.
///
/// # Errors
/// If there is no plan, or a pattern of it is wrong.
pub fn run(args: &SecurityArgs, context: &Context) -> Result<Exit, CommandError> {
    let plan = context.plan()?;
    let root = plan.root();
    let wants = |which: Which| args.parts.is_empty() || args.parts.contains(&which);
    let allow = rules(&root, &plan.security.allow)?;
    let mut found = Vec::new();
    if wants(Which::Packages) {
        let stop = context.stop();
        let interrupted = move || stop.load(Ordering::Relaxed);
        let place = packages::Place { root: &root, find: &env::find_program, interrupted: &interrupted };
        found.extend(packages::look(&place, &plan.security.audit));
    }
    if wants(Which::Access) {
        found.extend(logs(&plan, context)?);
    }
    if wants(Which::Permissions) {
        let (changed, note) = changed(&plan, &root, context);
        let mut part = permissions::look(&root, &allow, changed);
        part.reason.push_str(&note);
        found.push(part);
    }
    if wants(Which::Secrets) {
        let patterns = secrets::Patterns::new(&plan.security.secrets).map_err(CommandError::usage)?;
        found.push(secrets::look(&root, &patterns, &rules(&root, &plan.app.exclude)?, &allow));
    }
    show(&found, context)
}

fn rules(root: &Path, patterns: &[String]) -> Result<Excludes, CommandError> {
    let options = exclude::Options { patterns: patterns.to_vec(), ..exclude::Options::default() };
    Excludes::build(root, &options).map_err(|error| CommandError::of(Exit::Usage, &error).next(error.next()))
}

fn logs(plan: &Plan, context: &Context) -> Result<Vec<Part>, CommandError> {
    if plan.security.access_log.is_empty() {
        return Ok(vec![Part::new("access", Outcome::Pass, "the plan names no access log")]);
    }
    let state = context.state(plan)?;
    let mut known: BTreeMap<String, access::Seen> = state.read(FILE).ok().flatten().unwrap_or_default();
    let mut found = Vec::new();
    for log in &plan.security.access_log {
        match access::look(&plan.path(log), known.get(log), context.clock().now()) {
            Err(part) => found.push(part),
            Ok((part, seen)) => {
                known.insert(log.clone(), seen);
                found.push(part);
            }
        }
    }
    if let Err(error) = state.write(FILE, &known) {
        context.warn("not-remembered", &error.to_string());
    }
    Ok(found)
}

// Paths whose mode is another than in the newest snapshot of this tree, and what is to be said of the comparison.
fn changed(plan: &Plan, root: &Path, context: &Context) -> (Vec<Finding>, String) {
    match compared(plan, root, context) {
        Ok(Some(found)) => found,
        Ok(None) => (Vec::new(), "; there is no snapshot to compare modes with".to_owned()),
        Err(error) => (Vec::new(), format!("; modes were not compared with a snapshot: {}", error.message())),
    }
}

fn compared(
    plan: &Plan,
    root: &Path,
    context: &Context,
) -> Result<Option<(Vec<Finding>, String)>, CommandError> {
    let reading = Reading::with_content(context)?;
    let name = Name::from(root.as_os_str());
    let mine =
        reading.snapshots.iter().filter(|s| !s.forgotten && s.document.roots.iter().any(|r| r.path == name));
    let newest = mine.max_by(|a, b| {
        a.document.started.partial_cmp(&b.document.started).unwrap_or(std::cmp::Ordering::Equal)
    });
    let Some(snapshot) = newest else { return Ok(None) };
    let options = live::Options {
        excludes: exclude::Options { patterns: plan.app.exclude.clone(), ..exclude::Options::default() },
        threads: 2,
        ..live::Options::default()
    };
    let mut found = Vec::new();
    let mut see = |change: &crate::catalog::diff::Change<'_>| {
        if change.what.contains(&"mode") {
            let what = format!("its mode is another than in snapshot {}", snapshot.id.short());
            found.push(Finding { subject: Name(absolute(change.root, change.path)), line: None, what });
        }
        Ok(())
    };
    let parts = parts(&snapshot.document, Some(&name))?;
    diff_live(&mut reading.chunks()?, &parts, &options, &mut see, &*context.notices())?;
    Ok(Some((found, format!("; compared with snapshot {}", snapshot.id.short()))))
}

fn show(found: &[Part], context: &Context) -> Result<Exit, CommandError> {
    let any = |outcome| found.iter().any(|part| part.outcome == outcome);
    let (verdict, exit) = match (any(Outcome::Fail), any(Outcome::Error)) {
        (true, _) => (Outcome::Fail, Exit::Failed),
        (false, true) => (Outcome::Error, Exit::Inconclusive),
        (false, false) => (Outcome::Pass, Exit::Done),
    };
    let wrong = found.iter().filter(|part| part.outcome != Outcome::Pass);
    let wrong: Vec<String> = wrong.map(|part| format!("{}: {}", part.name, part.reason)).collect();
    context.outcome(format!("security: {}", verdict.word()), wrong);
    if context.json() {
        context.document(&object! {"verdict": verdict, "parts": found})?;
        return Ok(exit);
    }
    let mut table = Table::new(&[("part", Kind::Text), ("verdict", Kind::Word), ("found", Kind::Text)]);
    for part in found {
        table.row([part.name.as_str(), part.outcome.word(), &part.reason.replace('\n', " ")]);
    }
    let mut text = table.render(context.width());
    for part in found.iter().filter(|part| !part.findings.is_empty()) {
        text.push_str(&format!("\n{}:\n", part.name));
        for finding in &part.findings {
            let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
            text.push_str(&format!("  {}{line}  {}\n", finding.subject.shown(), finding.what));
        }
    }
    context.print(&text)?;
    Ok(exit)
}
