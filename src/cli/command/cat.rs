//! `cat`: the content of one file.

use std::ffi::OsString;
use std::io::Write as _;

use crate::base::Exit;
use crate::base::name::Name;
use crate::catalog::content::write_content;
use crate::catalog::ls::missing;
use crate::catalog::paths::{PathError, absolute, is_at, parts};
use crate::cli::args::FilterArgs;
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::cli::reading::Reading;
use crate::format::manifest::{Entry, Type};
use crate::repo::manifest_reader::find_entry;

/// Write the content of a file to stdout
#[derive(clap::Args)]
pub struct CatArgs {
    /// The file: latest:/srv/app/config.toml; without a path, the output of a command that was saved
    #[arg(value_name = "SNAPSHOT:PATH")]
    file: OsString,
    #[command(flatten)]
    filters: FilterArgs,
}

/// Runs the command.
///
/// # Errors
/// If there is no such file, or it cannot be read whole.
pub fn run(args: &CatArgs, context: &Context) -> Result<Exit, CommandError> {
    let reading = Reading::with_content(context)?;
    let (snapshot, path) = reading.choose(&args.file, &args.filters.filters(context)?)?;
    let parts = parts(&snapshot.document, path.as_ref())?;
    let [part] = &parts[..] else {
        return Err(CommandError::usage("that is several trees, not a file")
            .next("name one file, as SNAPSHOT:PATH; lifeboat ls lists them"));
    };
    if let Some(path) = path.filter(|path| !is_at(part, path)) {
        return Err(PathError::Missing { path }.into());
    }
    let mut chunks = reading.chunks()?;
    let Some(entry) = find_entry(&mut chunks, &part.root.manifest, &part.top)? else {
        return Err(missing(part).into());
    };
    check_is_file(&entry, &Name(absolute(&part.root.path.0, &part.top)))?;
    let mut out = context.out()?;
    write_content(&mut chunks, &entry, &mut out)?;
    out.flush().map_err(CommandError::output)?;
    Ok(Exit::Done)
}

fn check_is_file(entry: &Entry, path: &Name) -> Result<(), CommandError> {
    let next = match entry.stat.kind {
        Type::File => return Ok(()),
        Type::Dir => "lifeboat export writes a directory as a tar archive".to_owned(),
        Type::Symlink => {
            let target = entry.target.clone().map(Name).unwrap_or_default();
            format!("it points to {}; name that", target.shown())
        }
        _ => "lifeboat ls -l shows what it is".to_owned(),
    };
    let text = format!("{} is a {}, not a file", path.shown(), entry.stat.kind.word());
    Err(CommandError::new(Exit::Failed, text).next(next))
}
