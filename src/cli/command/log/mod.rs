//! `log`: what was done to the repository, and whether that was tampered with.

mod actions;
mod add;
mod close;
mod export;
mod show;
mod verify;
mod which;

use which::Which;

pub use show::summary;

use crate::base::Exit;
use crate::base::id::RecordId;
use crate::base::name::shown;
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::evidence::logged::FOLLOW_UP;
use crate::format::record::Record;
use crate::logbook::{Logbook, Logged};

/// Show, check, extend or export the logbook
///
/// The logbook holds every act as a record, chained by hashes to the one before it and signed by its writer.
#[derive(clap::Args)]
pub struct LogArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    Show(show::ShowArgs),
    Verify(verify::VerifyArgs),
    Add(add::AddArgs),
    Actions(actions::ActionsArgs),
    Close(close::CloseArgs),
    Export(export::ExportArgs),
}

/// Runs the command.
///
/// # Errors
/// If the logbook cannot be read or written.
pub fn run(args: &LogArgs, context: &Context) -> Result<Exit, CommandError> {
    match &args.action {
        Action::Show(args) => show::run(args, context),
        Action::Verify(args) => verify::run(args, context),
        Action::Add(args) => add::run(args, context),
        Action::Actions(args) => actions::run(args, context),
        Action::Close(args) => close::run(args, context),
        Action::Export(args) => export::run(args, context),
    }
}

/// The trusted record that `wanted` means: its hash or the first digits, a run's id, or `latest`, which is no
/// follow-up.
fn find<'l>(logbook: &'l Logbook, wanted: &str) -> Result<(&'l Logged, &'l Record), CommandError> {
    let names = |(logged, record): &(&Logged, &Record)| match wanted {
        "latest" => record.kind != FOLLOW_UP,
        _ => {
            let prefix = wanted.len() >= 4 && logged.id.to_hex().starts_with(wanted);
            prefix || record.kind != FOLLOW_UP && run_id(record) == Some(wanted)
        }
    };
    let mut found: Vec<(&Logged, &Record)> = logbook.trusted().filter(names).collect();
    found.sort_by_key(|(_, record)| (record.at, record.sequence));
    let shown = shown(wanted.as_bytes());
    if wanted != "latest" && found.len() > 1 {
        let text = format!("{shown} may be any of {} records", found.len());
        return Err(CommandError::new(Exit::Usage, text).next("give more digits of the record's hash"));
    }
    found.pop().ok_or_else(|| {
        CommandError::new(Exit::Failed, format!("no record of the logbook is {shown}"))
            .next("lifeboat log show lists them; a record that is damaged or not signed is not taken")
    })
}

/// The id of the run that a record tells of.
fn run_id(record: &Record) -> Option<&str> {
    record.body.get("run_id")?.as_str()
}

/// The id, or its first digits where there is little room.
fn id_of(id: RecordId, context: &Context) -> String {
    if context.verbose() { id.to_hex() } else { id.short() }
}
