//! `ls`: what a snapshot holds.

use std::ffi::OsString;
use std::io::Write as _;

use crate::base::Exit;
use crate::base::name::Name;
use crate::catalog::ls::{for_each_line, missing, output};
use crate::catalog::paths::{Part, absolute, write_absolute};
use crate::cli::args::FilterArgs;
use crate::cli::context::Context;
use crate::cli::entry::{Listed, write_long, write_path};
use crate::cli::error::CommandError;
use crate::cli::reading::Reading;
use crate::format::manifest::{Entry, ROOT, is_within_subtree};
use crate::repo::Result as RepoResult;
use crate::repo::manifest_reader::Stretch;

/// List what a snapshot holds, with all that lies below
///
/// One path a line; control characters, backslashes and what is not UTF-8 are written as escapes, unless
/// --null is given. With --json, a JSON object a line. Where a part of the list cannot be read, it is said where
/// that begins, the rest is listed, and the status is 40.
#[derive(clap::Args)]
pub struct LsArgs {
    /// A snapshot, or a path in one: latest:/srv/app/logs
    #[arg(value_name = "SNAPSHOT[:PATH]", default_value = "latest")]
    snapshot: OsString,
    /// Also mode, owner, group, size and time (UTC)
    #[arg(short, long)]
    long: bool,
    /// Paths as they are, each ended by a NUL
    #[arg(short = '0', long, conflicts_with_all = ["long", "json"])]
    null: bool,
    #[command(flatten)]
    filters: FilterArgs,
}

/// Runs the command.
///
/// # Errors
/// If there is no such snapshot or path, or the repository fails.
pub fn run(args: &LsArgs, context: &Context) -> Result<Exit, CommandError> {
    let reading = Reading::open(context)?;
    let (_, parts) = reading.parts(&args.snapshot, &args.filters.filters(context)?)?;
    let mut chunks = reading.chunks()?;
    let mut out = context.out()?;
    let mut full = Vec::new();
    let mut is_whole = true;
    for part in &parts {
        let root = &part.root.path.0;
        let write = |path: &[u8], line: &[u8]| -> RepoResult<()> {
            if args.long || context.json() {
                let entry = Entry::read_line(line)?;
                if context.json() {
                    let listed = Listed::new(root, &entry);
                    serde_json::to_writer(&mut out, &listed).map_err(|e| output(e.into()))?;
                } else {
                    write_long(&mut out, &absolute(root, path), &entry).map_err(output)?;
                }
                return out.write_all(b"\n").map_err(output);
            }
            full.clear();
            write_absolute(&mut full, root, path);
            if args.null {
                full.push(0);
                return out.write_all(&full).map_err(output);
            }
            write_path(&mut out, &full).and_then(|()| out.write_all(b"\n")).map_err(output)
        };
        let (lines, stretches) = for_each_line(&mut chunks, part, write, |gap| warn(context, part, gap))?;
        is_whole &= stretches == 0;
        if lines + stretches == 0 && part.top != ROOT {
            return Err(missing(part).into());
        }
    }
    out.flush().map_err(CommandError::output)?;
    if is_whole {
        return Ok(Exit::Done);
    }
    context.say("the list is not whole, see above; lifeboat verify says what is damaged and what it affects");
    Ok(Exit::Damage)
}

fn warn(context: &Context, part: &Part<'_>, gap: &Stretch) {
    let from = if is_within_subtree(&gap.from, &part.top) { &gap.from } else { &part.top };
    let from = Name(absolute(&part.root.path.0, from));
    context.warn("manifest-damaged", &format!("{}: {}", from.shown(), gap.text(part.top == ROOT)));
}
