//! `rotate`: logs are set aside, packed, and thrown away when old.

use serde_json::json;

use crate::base::Exit;
use crate::base::size;
use crate::check::Kind as CheckKind;
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::cli::json::object;
use crate::cli::table::{Kind, Table};
use crate::health::marks;
use crate::plan::Plan;
use crate::rollback;
use crate::rotate::{self, Aside, Moved, Options, Outcome, RotateError, Way, logrotate, logs_of};

/// Rotate the logs of the plan that are due
///
/// A log is set aside under a dated name (aura_20261124_101112.log, UTC) while the application writes, packed by gzip,
/// and thrown away when it is too old. Exits with 1 if a log could not be rotated; the others are all the same.
#[derive(clap::Args)]
pub struct RotateArgs {
    /// Only these logs, as the plan writes them; all of the plan if none is named
    #[arg(value_name = "LOG")]
    logs: Vec<String>,
    /// Rotate whatever size and age
    #[arg(short, long)]
    force: bool,
    /// Say what would be done and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Print the same rules as a configuration for logrotate
    #[arg(long)]
    emit_logrotate: bool,
}

/// Runs the command.
///
/// # Errors
/// If there is no plan, or it rotates no such log.
pub fn run(args: &RotateArgs, context: &Context) -> Result<Exit, CommandError> {
    let plan = context.plan()?;
    let rules: Vec<_> =
        plan.rotate.iter().filter(|rule| args.logs.is_empty() || args.logs.contains(&rule.log)).collect();
    if rules.is_empty() {
        return Err(
            CommandError::usage("the plan rotates no such log").next("add a [[rotate]]; see docs/rotate.md")
        );
    }
    if args.emit_logrotate {
        let rules: Vec<_> = rules.into_iter().cloned().collect();
        let text = logrotate::configuration(&rules, plan.directory()).map_err(CommandError::usage)?;
        context.print(&text)?;
        return Ok(Exit::Done);
    }
    let state = context.state(&plan)?;
    let Some(_held) = state.lock("rotate.lock").map_err(|error| CommandError::of(Exit::Failed, &error))?
    else {
        return Err(
            CommandError::new(Exit::Locked, "another run rotates these logs").next("wait until it has ended")
        );
    };
    let root = plan.root().canonicalize().unwrap_or_else(|_| plan.root());
    let put_aside =
        rollback::put_aside(&state, &root).map_err(|error| CommandError::of(Exit::Failed, &error))?;
    let aside = put_aside.as_deref().map(|tree| Aside { live: &root, tree });
    let options = Options { force: args.force, dry_run: args.dry_run, aside };
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for rule in rules {
        for log in logs_of(&plan.path(&rule.log)) {
            match rotate::rotate(&log, rule, plan.directory(), options, context.clock().now()) {
                Ok(outcome) => {
                    follow(&plan, outcome.moved.as_ref(), context)?;
                    done.push(outcome);
                }
                // a log that does not exist yet is no failure
                Err(RotateError::Io { act: "open", source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound =>
                {
                    context.say(format!(
                        "{} does not exist yet",
                        crate::base::Name::from(log.as_os_str()).shown()
                    ));
                }
                Err(error) => failed.push(error),
            }
        }
    }
    show(&done, &failed, args.dry_run, context)?;
    Ok(if failed.is_empty() { Exit::Done } else { Exit::Failed })
}

// The checks that read this log go on where they were.
fn follow(plan: &Plan, moved: Option<&Moved>, context: &Context) -> Result<(), CommandError> {
    let Some(moved) = moved else { return Ok(()) };
    let reads = |kind: &CheckKind| matches!(kind, CheckKind::Log(log) if plan.path(&log.log) == moved.log);
    let state = context.state(plan)?;
    let kept = marks::change(&state, |marks| {
        for check in plan.check.iter().filter(|check| reads(&check.kind)) {
            if let Some(mark) = marks.get(check.name()).and_then(|mark| moved.follow(mark)) {
                marks.insert(check.name().to_owned(), mark);
            }
        }
    });
    kept.map_err(|error| CommandError::of(Exit::Failed, &error))
}

fn show(done: &[Outcome], failed: &[RotateError], dry: bool, context: &Context) -> Result<(), CommandError> {
    for error in failed {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        context.warn("not-rotated", &format!("{error}{cause}"));
    }
    if context.json() {
        let errors: Vec<String> = failed.iter().map(ToString::to_string).collect();
        return context.document(&object! {"dry_run": dry, "logs": done, "errors": json!(errors)});
    }
    let columns = [
        ("log", Kind::Text),
        ("size", Kind::Number),
        ("set aside as", Kind::Text),
        ("how", Kind::Word),
        ("why", Kind::Text),
    ];
    let mut table = Table::new(&columns);
    for outcome in done {
        let aside = outcome.set_aside.as_ref().and_then(|name| name.0.rsplit(|&b| b == b'/').next());
        let aside = aside.map_or_else(|| "-".to_owned(), crate::base::name::shown);
        let how = match outcome.way {
            None => "-".to_owned(),
            Some(Way::Collapsed) => "collapsed".to_owned(),
            Some(Way::Punched) => "punched".to_owned(),
            Some(Way::Renamed) => "renamed".to_owned(),
            Some(Way::Truncated) => format!("cut in {:.0} µs", outcome.window * 1e6),
        };
        table.row([outcome.log.shown(), size::bytes(outcome.size), aside, how, outcome.reason.clone()]);
    }
    context.print(&table.render(context.width()))?;
    for outcome in done {
        let shown = |names: &[crate::base::Name]| {
            names.iter().map(crate::base::Name::shown).collect::<Vec<_>>().join(", ")
        };
        for (word, names) in [("packed", &outcome.packed), ("removed", &outcome.removed)] {
            if !names.is_empty() {
                context.say(format!("{word}: {}", shown(names)));
            }
        }
        for note in &outcome.notes {
            context.say(format!("note: {note}"));
        }
    }
    Ok(())
}
