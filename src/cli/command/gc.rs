//! `gc`: removes what a killed drill left.

use std::path::PathBuf;

use super::drill::place;
use crate::base::Exit;
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::drill::scratch;

/// Remove what drills that were killed left behind
///
/// Only directories that a drill or a trial made, and only those whose process is not there any more. What was kept on purpose stays, unless --kept is given.
#[derive(clap::Args)]
pub struct GcArgs {
    /// Where to look [default: the system's place for large temporary files]
    #[arg(long = "in", value_name = "DIRECTORY", value_hint = clap::ValueHint::DirPath)]
    place: Option<PathBuf>,
    /// Also what was left behind on purpose, with --keep
    #[arg(long)]
    kept: bool,
    /// Remove nothing; say what would be
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// If the place cannot be read.
pub fn run(args: &GcArgs, context: &Context) -> Result<Exit, CommandError> {
    let place = place(args.place.as_deref())?;
    let shown = crate::base::Name::from(place.as_os_str());
    let found = scratch::reap(&place, args.kept, args.dry_run)
        .map_err(CommandError::io(format!("could not look into {shown}")))?;
    if context.json() {
        context.document(&found)?;
        return Ok(Exit::Done);
    }
    for reaped in &found {
        let path = crate::base::Name::from(reaped.path.as_os_str());
        let what = if reaped.removed { "removed" } else { &reaped.why };
        context.print(&format!("{path}: {what}\n"))?;
    }
    if found.is_empty() {
        context.say(format!("no drill left anything in {shown}"));
    }
    Ok(Exit::Done)
}
