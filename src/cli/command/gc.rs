//! `gc`: removes what a killed drill left.

use std::path::PathBuf;

use super::drill::place;
use crate::base::Exit;
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::drill::scratch;

/// Remove what drills that were killed left behind
///
/// Only directories that a drill made, and only those whose process is not there any more.
#[derive(clap::Args)]
pub struct GcArgs {
    /// Where to look [default: the system's place for large temporary files]
    #[arg(long = "in", value_name = "DIRECTORY", value_hint = clap::ValueHint::DirPath)]
    place: Option<PathBuf>,
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
    let found = scratch::reap(&place, args.dry_run).map_err(|e| CommandError::of(Exit::Failed, &e))?;
    if context.json() {
        context.document(&found)?;
        return Ok(Exit::Done);
    }
    for reaped in &found {
        let path = crate::base::Name::from(reaped.path.as_os_str());
        let what = if reaped.removed { "removed".to_owned() } else { format!("left: {}", reaped.why) };
        context.print(&format!("{path} {what}\n"))?;
    }
    if found.is_empty() {
        context.say(format!("no drill left anything in {}", place.display()));
    }
    Ok(Exit::Done)
}
