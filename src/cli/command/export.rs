//! `export`: a snapshot as a tar archive.

use std::ffi::OsString;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::base::Exit;
use crate::base::name::Name;
use crate::base::size;
use crate::catalog::export::{Outcome, Readers, export};
use crate::catalog::paths::Part;
use crate::cli::args::FilterArgs;
use crate::cli::context::{Context, absolute};
use crate::cli::error::CommandError;
use crate::cli::reading::Reading;

/// The level of compression: the default of zstd.
const LEVEL: i32 = 3;

/// Write a snapshot, or a part of it, as an ordinary tar archive
///
/// The archive is in the pax format: GNU tar, bsdtar and Python read it. It holds the paths of the source
/// without the slash at the front, exact times, owners, hard links, devices, extended attributes, ACLs, and
/// the holes of sparse files. Sockets and inode
/// flags cannot be held: they are counted, and the status is 3. So it is where an entry lies in no directory of the
/// snapshot, below a symlink for example: it is named and left out. What is damaged is named and left out, everything else
/// is in the archive, and the status is 40.
#[derive(clap::Args)]
pub struct ExportArgs {
    /// A snapshot, or a path in one
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: OsString,
    /// Write to a new file instead of stdout
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    output: Option<PathBuf>,
    /// Compress with zstd
    #[arg(long)]
    zstd: bool,
    #[command(flatten)]
    filters: FilterArgs,
}

/// Runs the command.
///
/// # Errors
/// If the repository or the output fails; a file is not written then.
pub fn run(args: &ExportArgs, context: &Context) -> Result<Exit, CommandError> {
    let reading = Reading::with_content(context)?;
    let (snapshot, parts) = reading.parts(&args.snapshot, &args.filters.filters(context)?)?;
    let outcome = match &args.output {
        Some(file) => to_file(args, context, &reading, &parts, &absolute(file)?)?,
        None if io::stdout().is_terminal() => {
            return Err(CommandError::usage("an archive is not for a terminal")
                .next("give --output FILE, or pipe it into tar"));
        }
        None => write_archive(args, &reading, &parts, context.out()?, &*context.notices())?.1,
    };
    let body = json!({
        "snapshot": snapshot.id,
        "what": Name::from(args.snapshot.as_os_str()).shown(),
        "output": args.output.as_deref().map(|file| Name::from(file.as_os_str()).shown()),
        "entries": outcome.entries,
        "bytes": outcome.bytes,
    });
    context.record_where_possible(&reading.repo, "export", body);
    show(&outcome, args, context)?;
    Ok(if outcome.damaged + outcome.stretches > 0 {
        Exit::Damage
    } else if outcome.sockets + outcome.flags + outcome.refused > 0 {
        Exit::Partial
    } else {
        Exit::Done
    })
}

// Whole or not at all: written beside, then given its name, which nothing may have yet.
fn to_file(
    args: &ExportArgs,
    context: &Context,
    reading: &Reading,
    parts: &[Part<'_>],
    file: &Path,
) -> Result<Outcome, CommandError> {
    let shown = Name::from(file.as_os_str()).shown();
    let failed = || CommandError::io(format!("could not write {shown}"));
    if file.symlink_metadata().is_ok() {
        return Err(CommandError::new(Exit::Failed, format!("{shown} exists")).next("name another file"));
    }
    let dir = file.parent().unwrap_or(Path::new("/"));
    let temporary = tempfile::Builder::new().prefix(".lifeboat-export-").tempfile_in(dir).map_err(failed())?;
    let handle = temporary.as_file().try_clone().map_err(failed())?;
    let observer = context.observer();
    let (_, outcome) =
        write_archive(args, reading, parts, BufWriter::with_capacity(256 << 10, handle), &*observer)?;
    temporary.as_file().sync_all().map_err(failed())?;
    temporary.persist_noclobber(file).map_err(|e| failed()(e.error))?;
    Ok(outcome)
}

fn write_archive<W: Write>(
    args: &ExportArgs,
    reading: &Reading,
    parts: &[Part<'_>],
    mut out: W,
    observer: &dyn crate::base::event::Observer,
) -> Result<(W, Outcome), CommandError> {
    let mut readers = Readers { manifests: reading.chunks()?, content: reading.chunks()? };
    if !args.zstd {
        let outcome = export(&mut readers, parts, &mut out, observer)?;
        return Ok((out, outcome));
    }
    let start = CommandError::io("could not start the compressor");
    let mut encoder = zstd::stream::write::Encoder::new(out, LEVEL).map_err(start)?;
    encoder.include_checksum(true).map_err(CommandError::output)?;
    let outcome = export(&mut readers, parts, &mut encoder, observer)?;
    let mut out = encoder.finish().map_err(CommandError::output)?;
    out.flush().map_err(CommandError::output)?;
    Ok((out, outcome))
}

fn show(outcome: &Outcome, args: &ExportArgs, context: &Context) -> Result<(), CommandError> {
    for (count, what) in [
        (outcome.sockets, "sockets cannot be in an archive and were left out"),
        (outcome.flags, "inode flags (chattr) cannot be in an archive and were left out"),
        (outcome.refused, "in no directory of the snapshot and left out, each is named above"),
        (
            outcome.damaged,
            "damaged and left out, each is named above; lifeboat verify --deep names all that is damaged",
        ),
        (
            outcome.stretches,
            "stretches of the manifest could not be read: what is in them is missing and not named; above is where each begins, \
             lifeboat verify says how far it reaches and what is probably in it",
        ),
    ] {
        if count > 0 {
            context.warn("not-exported", &format!("{}: {what}", size::count(count)));
        }
    }
    if context.json() && args.output.is_some() {
        return context.document(&json!({"message_type": "summary", "outcome": outcome}));
    }
    context.say(format!("exported {} entries, {}", size::count(outcome.entries), size::bytes(outcome.bytes)));
    Ok(())
}
