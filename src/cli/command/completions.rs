//! `completions` and `man`: what shells and manuals want to know of the command line.

use std::io::Write as _;
use std::path::PathBuf;

use crate::base::Exit;
use crate::cli::command_line;
use crate::cli::context::{Context, absolute};
use crate::cli::error::CommandError;

/// Print the completions for a shell
#[derive(clap::Args)]
pub struct CompletionsArgs {
    /// Which shell
    shell: clap_complete::Shell,
}

/// Print the manual page, or write one for each command
#[derive(clap::Args)]
pub struct ManArgs {
    /// Write a page for each command into this directory
    #[arg(long, value_name = "DIRECTORY", value_hint = clap::ValueHint::DirPath)]
    dir: Option<PathBuf>,
}

/// Runs `completions`.
///
/// # Errors
/// If it cannot be written.
pub fn run(args: &CompletionsArgs, context: &Context) -> Result<Exit, CommandError> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command_line(), "lifeboat", &mut text);
    write(&text, context)
}

/// Runs `man`.
///
/// # Errors
/// If it cannot be written.
pub fn man(args: &ManArgs, context: &Context) -> Result<Exit, CommandError> {
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command_line()).render(&mut page).map_err(CommandError::output)?;
        return write(&page, context);
    };
    let dir = absolute(dir)?;
    std::fs::create_dir_all(&dir).map_err(CommandError::io("could not make the directory"))?;
    clap_mangen::generate_to(command_line(), &dir).map_err(CommandError::io("could not write the pages"))?;
    Ok(Exit::Done)
}

fn write(text: &[u8], context: &Context) -> Result<Exit, CommandError> {
    let mut out = context.out()?;
    out.write_all(text).and_then(|()| out.flush()).map_err(CommandError::output)?;
    Ok(Exit::Done)
}
