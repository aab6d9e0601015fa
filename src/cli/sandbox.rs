//! Commands that are not for people: the program starts itself again as the helper of a sandbox.

use std::io::{self, Write as _};

use serde::{Deserialize, Serialize};

use crate::sandbox::{Active, Command, Ended, Recipe, Sandbox, Stream};

/// What `__sandbox run` reads: one sandbox, and commands to run in it one after the other.
#[derive(Deserialize)]
struct Script {
    recipe: Recipe,
    #[serde(default)]
    unisolated: bool,
    commands: Vec<Command>,
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
/// `lifeboat __sandbox` is the helper itself; `lifeboat __sandbox run` runs a script from standard input,
/// which is how the tests see a sandbox as another user.
pub fn helper() -> Option<u8> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != "__sandbox" {
        return None;
    }
    match arguments.next() {
        None => Some(crate::sandbox::helper()),
        Some(word) if word == "run" => Some(run()),
        Some(_) => Some(2),
    }
}

fn run() -> u8 {
    let script: Script = match serde_json::from_reader(io::stdin().lock()) {
        Ok(script) => script,
        Err(error) => {
            say(&Line::Failed { error: error.to_string(), fix: String::new() });
            return 2;
        }
    };
    match play(&script) {
        Ok(()) => 0,
        Err(error) => {
            say(&Line::Failed { error: error.to_string(), fix: error.fix().to_owned() });
            1
        }
    }
}

fn play(script: &Script) -> Result<(), crate::sandbox::SandboxError> {
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
    say(&Line::Closed { left: sandbox.close()?.left });
    Ok(())
}

fn say(line: &Line) {
    // best effort: a reader that has gone needs no answer
    if let Ok(text) = serde_json::to_string(line) {
        let _ = writeln!(io::stdout().lock(), "{text}");
    }
}
