//! Commands that are not for people: the program starts itself again as the helper of a sandbox.

use std::ffi::OsStr;
use std::io::{self, Read as _, Write as _};

use serde::{Deserialize, Serialize};

use crate::base::Exit;
use crate::sandbox::{Active, Command, Ended, Recipe, Sandbox, SandboxError, Stream};

/// What `__sandbox run` reads: one sandbox, and commands to run in it one after the other.
#[derive(Deserialize)]
struct Script {
    recipe: Recipe,
    #[serde(default)]
    unisolated: bool,
    commands: Vec<Command>,
    /// The last command, on this process's terminal. The script must then come from a file.
    #[serde(default)]
    interact: Option<Command>,
}

/// What `__sandbox run` writes, a line each.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Active(Active),
    Started { milliseconds: f64 },
    Ended { ended: Ended, out: String, err: String },
    Failed { error: String, fix: String },
    Closed { left: u64 },
}

/// If this process is to be a helper, does its work and gives the exit status.
///
/// `lifeboat __sandbox` is the helper itself; `lifeboat __sandbox run [FILE]` runs a script from a file or from standard
/// input, which is how the tests see a sandbox as another user.
///
/// ```sh
/// echo '{"recipe": {…}, "commands": [{…}]}' | lifeboat __sandbox run
/// ```
pub fn helper() -> Option<u8> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != "__sandbox" {
        return None;
    }
    match arguments.next() {
        None => Some(crate::sandbox::helper()),
        Some(word) if word == "run" => Some(run(arguments.next().as_deref()).number()),
        Some(_) => Some(2),
    }
}

fn run(file: Option<&OsStr>) -> Exit {
    let script: Script = match read(file) {
        Ok(script) => script,
        Err(error) => {
            say(&Line::Failed { error: error.to_string(), fix: String::new() });
            return Exit::Usage;
        }
    };
    let Err(error) = play(&script) else { return Exit::Done };
    say(&Line::Failed { error: error.to_string(), fix: error.fix().to_owned() });
    match error {
        SandboxError::Forbidden { .. } => Exit::Inconclusive,
        _ => Exit::Failed,
    }
}

fn read(file: Option<&OsStr>) -> io::Result<Script> {
    let text = match file {
        Some(path) => std::fs::read(path)?,
        None => {
            let mut text = Vec::new();
            io::stdin().lock().read_to_end(&mut text)?;
            text
        }
    };
    serde_json::from_slice(&text).map_err(io::Error::other)
}

fn play(script: &Script) -> Result<(), SandboxError> {
    let recipe = &script.recipe;
    let mut sandbox = if script.unisolated { Sandbox::unisolated(recipe)? } else { Sandbox::start(recipe)? };
    say(&Line::Active(sandbox.active().clone()));
    say(&Line::Started { milliseconds: sandbox.start_took().as_secs_f64() * 1e3 });
    for command in &script.commands {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut keep = |stream, bytes: &[u8]| match stream {
            Stream::Out => out.extend_from_slice(bytes),
            Stream::Err => err.extend_from_slice(bytes),
        };
        let ended = sandbox.run(command, &mut keep, &|| false)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        say(&Line::Ended { ended, out: text(&out), err: text(&err) });
    }
    if let Some(command) = &script.interact {
        sandbox.interact(command)?;
    }
    say(&Line::Closed { left: sandbox.close()?.left });
    Ok(())
}

fn say(line: &Line) {
    // best effort: a reader that has gone needs no answer
    if let Ok(text) = serde_json::to_string(line) {
        let _ = writeln!(io::stdout().lock(), "{text}");
    }
}
