//! One file a command: open, call, show, exit status.

mod bisect;
mod capacity;
mod cat;
mod completions;
mod diff;
mod doctor;
pub mod drill;
mod export;
mod find;
mod forget;
mod gc;
mod health;
mod history;
pub mod hotfix;
mod init;
mod key;
mod log;
mod ls;
mod maintenance;
mod notify;
mod prune;
mod repair;
mod report;
mod restore;
mod rollback;
mod rotate;
mod run;
mod schedule;
mod security;
mod show;
mod snapshot;
mod snapshots;
mod status;
mod try_it;
mod validate;
mod verify;

use super::context::Context;
use super::error::CommandError;
use crate::base::Exit;

/// What to do.
#[derive(clap::Subcommand)]
pub enum Command {
    Init(init::InitArgs),
    Restore(restore::RestoreArgs),
    #[command(visible_alias = "backup")]
    Snapshot(snapshot::SnapshotArgs),
    #[command(visible_alias = "list")]
    Snapshots(snapshots::SnapshotsArgs),
    Show(show::ShowArgs),
    Log(log::LogArgs),
    Ls(ls::LsArgs),
    Find(find::FindArgs),
    History(history::HistoryArgs),
    Diff(diff::DiffArgs),
    #[command(visible_alias = "dump")]
    Cat(cat::CatArgs),
    Export(export::ExportArgs),
    Forget(forget::ForgetArgs),
    #[command(visible_alias = "check")]
    Verify(verify::VerifyArgs),
    Prune(prune::PruneArgs),
    Repair(repair::RepairArgs),
    Key(key::KeyArgs),
    Status(status::StatusArgs),
    Report(report::ReportArgs),
    Health(health::HealthArgs),
    Rotate(rotate::RotateArgs),
    Capacity(capacity::CapacityArgs),
    Metrics(capacity::MetricsArgs),
    Security(security::SecurityArgs),
    Validate(validate::ValidateArgs),
    #[command(name = "show-config")]
    ShowConfig(validate::ShowConfigArgs),
    Drill(drill::DrillArgs),
    Hotfix(hotfix::HotfixArgs),
    Confirm(hotfix::ConfirmArgs),
    Rollback(rollback::RollbackArgs),
    Undo(rollback::UndoArgs),
    Bisect(bisect::BisectArgs),
    Gc(gc::GcArgs),
    Doctor(doctor::DoctorArgs),
    Run(run::RunArgs),
    Maintenance(maintenance::MaintenanceArgs),
    Schedule(schedule::ScheduleArgs),
    Notify(notify::NotifyArgs),
    Try(try_it::TryArgs),
    Completions(completions::CompletionsArgs),
    Man(completions::ManArgs),
    #[command(name = "__check", hide = true)]
    OneCheck(health::OneArgs),
}

/// Does it.
///
/// # Errors
/// If it could not be done; the error knows the exit status.
pub fn run(command: &Command, context: &Context) -> Result<Exit, CommandError> {
    unfinished(command, context);
    match command {
        Command::Init(args) => init::run(args, context),
        Command::Restore(args) => restore::run(args, context),
        Command::Snapshot(args) => snapshot::run(args, context),
        Command::Snapshots(args) => snapshots::run(args, context),
        Command::Show(args) => show::run(args, context),
        Command::Log(args) => log::run(args, context),
        Command::Ls(args) => ls::run(args, context),
        Command::Find(args) => find::run(args, context),
        Command::History(args) => history::run(args, context),
        Command::Diff(args) => diff::run(args, context),
        Command::Cat(args) => cat::run(args, context),
        Command::Export(args) => export::run(args, context),
        Command::Forget(args) => forget::run(args, context),
        Command::Verify(args) => verify::run(args, context),
        Command::Prune(args) => prune::run(args, context),
        Command::Repair(args) => repair::run(args, context),
        Command::Report(args) => report::run(args, context),
        Command::Status(args) => status::run(args, context),
        Command::Health(args) => health::run(args, context),
        Command::Rotate(args) => rotate::run(args, context),
        Command::Capacity(args) => capacity::run(args, context),
        Command::Metrics(args) => capacity::metrics(args, context),
        Command::Security(args) => security::run(args, context),
        Command::Validate(args) => validate::run(args, context),
        Command::ShowConfig(args) => validate::show_config(args, context),
        Command::OneCheck(args) => health::one(args, context),
        Command::Key(args) => key::run(args, context),
        Command::Drill(args) => drill::run(args, context),
        Command::Hotfix(args) => hotfix::run(args, context),
        Command::Confirm(args) => hotfix::confirm(args, context),
        Command::Rollback(args) => rollback::run(args, context),
        Command::Undo(args) => rollback::undo(args, context),
        Command::Bisect(args) => bisect::run(args, context),
        Command::Gc(args) => gc::run(args, context),
        Command::Doctor(args) => doctor::run(args, context),
        Command::Run(args) => run::run(args, context),
        Command::Maintenance(args) => maintenance::run(args, context),
        Command::Schedule(args) => schedule::run(args, context),
        Command::Notify(args) => notify::run(args, context),
        Command::Try(args) => try_it::run(args, context),
        Command::Completions(args) => completions::run(args, context),
        Command::Man(args) => completions::man(args, context),
    }
}

// Whatever somebody does on this host, they should know of a rollback that was cut off.
fn unfinished(command: &Command, context: &Context) {
    let is_about_it = matches!(command, Command::Rollback(_) | Command::Undo(_) | Command::Hotfix(_));
    let is_inner = matches!(command, Command::OneCheck(_) | Command::Completions(_) | Command::Man(_));
    if is_about_it || is_inner {
        return;
    }
    for state in context.states() {
        if let Ok(Some(pending)) = crate::rollback::pending(&state)
            && !pending.running
        {
            let text = format!(
                "a rollback of {} was cut off at \"{}\": lifeboat rollback --resume brings it to an end",
                pending.root.shown(),
                pending.stage
            );
            context.warn("rollback-unfinished", &text);
        }
    }
}
