//! `ls`: what a snapshot holds.

use std::ffi::OsString;
use std::io::Write as _;

use crate::base::Exit;
use crate::catalog::ls::{for_each_line, missing, output};
use crate::catalog::paths::{absolute, write_absolute};
use crate::cli::args::FilterArgs;
use crate::cli::context::Context;
use crate::cli::entry::{Listed, write_long, write_path};
use crate::cli::error::CommandError;
use crate::cli::reading::Reading;
use crate::format::manifest::Entry;
use crate::repo::Result as RepoResult;

/// List what a snapshot holds, with all that lies below
///
/// One path a line; control characters, backslashes and what is not UTF-8 are written as escapes, unless
/// --null is given. With --json, a JSON object a line.
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
/// If there is no such snapshot or path, or it cannot be read.
pub fn run(args: &LsArgs, context: &Context) -> Result<Exit, CommandError> {
    let reading = Reading::open(context)?;
    let (_, parts) = reading.parts(&args.snapshot, &args.filters.filters(context)?)?;
    let mut chunks = reading.chunks()?;
    let mut out = context.out()?;
    let mut full = Vec::new();
    for part in &parts {
        let root = &part.root.path.0;
        let count = for_each_line(&mut chunks, part, |path, line| -> RepoResult<()> {
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
        })?;
        if count == 0 && part.top != b"." {
            return Err(missing(part).into());
        }
    }
    out.flush().map_err(CommandError::output)?;
    Ok(Exit::Done)
}
