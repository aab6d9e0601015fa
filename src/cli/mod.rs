//! The terminal: arguments in, tables, progress and exit statuses out.

mod args;
mod command;
mod context;
mod entry;
mod env;
mod error;
mod json;
mod notified;
pub mod progress;
mod reading;
mod sandbox;
pub mod signals;
pub mod table;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory as _, FromArgMatches as _};

use crate::base::Exit;
use crate::sys::{host, memory};

use command::Command;
use context::Context;
use error::CommandError;

/// Backup, restore and disaster recovery that proves by rehearsal that it can be brought back
#[derive(clap::Parser)]
#[command(name = "lifeboat", version, disable_help_subcommand = true)]
#[command(after_help = "Exit statuses are listed in docs/codes.md.")]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(clap::Args)]
#[command(next_help_heading = "Options of every command")]
struct Global {
    /// Directory of the repository
    #[arg(
        short,
        long,
        global = true,
        env = env::REPOSITORY,
        hide_env_values = true,
        value_name = "DIRECTORY",
        value_hint = clap::ValueHint::DirPath
    )]
    repo: Option<OsString>,
    /// The plan; lifeboat.toml in the current directory or above it if not given
    #[arg(short, long, global = true, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    config: Option<PathBuf>,
    /// No progress and no summaries; errors and warnings remain
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say more: full ids, every detail
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Answer in JSON: one document, or for long work JSON lines with a message_type
    #[arg(long, global = true)]
    json: bool,
}

/// Runs the command line and returns its exit status.
pub fn main() -> ExitCode {
    memory::use_little();
    if let Some(status) = sandbox::helper() {
        return ExitCode::from(status);
    }
    let parsed = Cli::command()
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches).map(|cli| (matches, cli)));
    let (matches, cli) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return refuse(error),
    };
    host::raise_open_files();
    let json = cli.global.json;
    let context = Context::new(cli.global);
    let run = || command::run(&cli.command, &context);
    let result = match notified::told_as(&matches) {
        Some(operation) if !notified::another_tells(&matches, &context) => {
            notified::around(operation, &context, run)
        }
        _ => run(),
    };
    notified::leave(&context);
    let exit = match &result {
        Ok(exit) => notified::as_asked(&matches, *exit),
        Err(error) => notified::as_asked(&matches, error.exit()),
    };
    match &result {
        Err(error) => report(error, json),
        // people have read the answer; programs are told the status by the same line as that of an error
        Ok(_) if json && exit != Exit::Done => report(&failed(exit, &context), true),
        Ok(_) => {}
    }
    ExitCode::from(exit.number())
}

// What a command comes to that gave its answer and did not succeed.
fn failed(exit: Exit, context: &Context) -> CommandError {
    let Some(said) = context.said() else { return CommandError::new(exit, exit.meaning()) };
    let error = CommandError::new(exit, said.summary).because(said.details);
    match said.next {
        Some(next) => error.next(next),
        None => error,
    }
}

// What the parser says repeats what it was given: that must not command the terminal.
fn refuse(mut error: clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // help and version, which are our own words
        error.exit();
    }
    // the parser names those too that are for the program itself
    if let Some(ContextValue::Strings(names)) = error.get(ContextKind::ValidSubcommand) {
        let shown = names.iter().filter(|name| !name.starts_with("__")).cloned().collect();
        error.insert(ContextKind::ValidSubcommand, ContextValue::Strings(shown));
    }
    let text = error::safe(&error.render().to_string());
    if std::env::args_os().any(|word| word == "--json") {
        // its first line says what is wrong, the rest how it should have been
        let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        report(&CommandError::usage(line).next("--help lists what there is"), true);
    } else {
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
    ExitCode::from(Exit::Usage.number())
}

/// The command line as a value: for completions, manual pages and the reference in `docs/cli.md`.
pub fn command_line() -> clap::Command {
    Cli::command()
}

fn report(error: &CommandError, json: bool) {
    let text = match serde_json::to_string(&error.json()) {
        Ok(line) if json && !error.text().is_empty() => line + "\n",
        _ => error.text(),
    };
    // best effort: there is no other place to say it
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command_line().debug_assert();
    }
}
