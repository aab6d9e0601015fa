//! `gc`: removes what a killed drill left.

use std::path::{Path, PathBuf};

use super::drill::place;
use crate::base::{Exit, Name};
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::drill::scratch;

/// Remove what drills that were killed left behind
///
/// Only directories that a drill or a trial made, and only those whose process is not there any more. What was kept on purpose stays, unless --kept is given.
#[derive(clap::Args)]
pub struct GcArgs {
    /// Where to look [default: the system's places for temporary files, where drills and trials work]
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
    let mut found = Vec::new();
    let places = places(args.place.as_deref())?;
    for place in &places {
        let reaped = scratch::reap(place, args.kept, args.dry_run)
            .map_err(CommandError::io(format!("could not look into {}", Name::from(place.as_os_str()))))?;
        found.extend(reaped);
    }
    if context.json() {
        context.document(&found)?;
        return Ok(Exit::Done);
    }
    for reaped in &found {
        let path = Name::from(reaped.path.as_os_str());
        let what = if reaped.removed { "removed" } else { &reaped.why };
        context.print(&format!("{path}: {what}\n"))?;
    }
    if found.is_empty() {
        let shown: Vec<String> = places.iter().map(|place| Name::from(place.as_os_str()).shown()).collect();
        context.say(format!("no drill left anything in {}", shown.join(" or ")));
    }
    Ok(Exit::Done)
}

// A drill makes its copy where there is room for large files, a trial where all temporary files are.
fn places(given: Option<&Path>) -> Result<Vec<PathBuf>, CommandError> {
    let mut places = vec![place(given)?];
    if given.is_none() {
        let other = std::env::temp_dir();
        let is_another = |a: &Path, b: &Path| a.canonicalize().ok() != b.canonicalize().ok();
        if other.is_dir() && is_another(&other, &places[0]) {
            places.push(other);
        }
    }
    Ok(places)
}
