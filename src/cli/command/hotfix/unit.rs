//! `hotfix unit`: what goes on with a hotfix after a reboot.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::Exit;
use crate::base::name::shown;
use crate::cli::context::Context;
use crate::cli::env;
use crate::cli::error::CommandError;
use crate::plan::Plan;
use crate::sys::process::{Program, Run};

/// Where an administrator's units lie.
const UNITS: &str = "/etc/systemd/system";
/// It is there where systemd is the first process: sd_booted(3).
const BOOTED: &str = "/run/systemd/system";
/// How long systemd may take to read a unit.
const PATIENCE: Duration = Duration::from_secs(30);

/// Print a systemd unit that goes on with a hotfix after a reboot, or install it
///
/// It runs hotfix --resume at boot, and only if something is armed.
#[derive(clap::Args)]
pub struct UnitArgs {
    /// Write it to /etc/systemd/system and enable it
    #[arg(long)]
    install: bool,
}

/// Prints or installs it.
pub fn run(args: &UnitArgs, context: &Context) -> Result<Exit, CommandError> {
    let plan = context.plan()?;
    let name = name(&plan);
    let text = text(&plan, context)?;
    if !args.install {
        context.print(&text)?;
        return Ok(Exit::Done);
    }
    if !Path::new(BOOTED).is_dir() {
        return Err(CommandError::new(Exit::Failed, "systemd does not run this host; nothing was installed")
            .next("let what runs at boot here run lifeboat --config PLAN hotfix --resume"));
    }
    let path = Path::new(UNITS).join(&name);
    fs::write(&path, text).map_err(|error| {
        CommandError::new(Exit::Failed, format!("could not write {}: {error}", path.display()))
            .next("run as root, or let lifeboat hotfix unit print it and put it there yourself")
    })?;
    for words in [vec!["systemctl", "daemon-reload"], vec!["systemctl", "enable", &name]] {
        systemctl(&words)?;
    }
    context.print(&format!("{}\n", path.display()))?;
    Ok(Exit::Done)
}

fn systemctl(words: &[&str]) -> Result<(), CommandError> {
    let run =
        Run { limit: Some(PATIENCE), ..Run::new(Program::Argv(words.iter().map(OsString::from).collect())) };
    let ended = run.run(&|| false).map_err(CommandError::io("could not start systemctl"))?;
    if ended.is_success() {
        return Ok(());
    }
    let said = shown(&ended.stderr.last_lines(1));
    Err(CommandError::new(Exit::Failed, format!("{} {}: {said}", words.join(" "), ended.how())))
}

fn name(plan: &Plan) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' };
    format!("lifeboat-hotfix-{}.service", plan.name().chars().map(plain).collect::<String>())
}

fn text(plan: &Plan, context: &Context) -> Result<String, CommandError> {
    let program = env::program().map_err(CommandError::io("could not find out where this program lies"))?;
    let mut words = vec![program.into_os_string()];
    words.extend(context.same_again(plan)?);
    words.extend(["hotfix".into(), "--resume".into()]);
    let command: Vec<String> = words.iter().map(|word| quoted(word, "$$")).collect();
    let state = context.state(plan)?;
    let base = state.directory().parent().map(Path::to_owned).unwrap_or_default();
    let variables: [(&str, PathBuf); 2] = [(env::STATE_DIR, base), (env::WRITER_KEY, context.key_path()?)];
    let set: Vec<String> = variables
        .iter()
        .map(|(name, value)| {
            let mut word = OsString::from(format!("{name}="));
            word.push(value);
            format!("Environment={}\n", quoted(&word, "$"))
        })
        .collect();
    let after = plan.service.as_ref().and_then(|service| service.unit.as_deref());
    let after = after.map(|unit| format!(" {unit}")).unwrap_or_default();
    let armed = quoted_path(&state.path("hotfix.json"));
    Ok(format!(
        "# Written by lifeboat hotfix unit: goes on with a hotfix whose watcher is gone.\n\
         [Unit]\nDescription=Lifeboat goes on with a hotfix of {}\nAfter=network.target{after}\n\
         ConditionPathExists={armed}\n\n\
         [Service]\nType=simple\n{}ExecStart={}\nTimeoutStopSec=infinity\n\n\
         [Install]\nWantedBy=multi-user.target\n",
        plan.name().replace('%', "%%"),
        set.concat(),
        command.join(" ")
    ))
}

// systemd.syntax(7): quotes, escapes, and a % that is meant as it is; in commands a $ stands for a variable.
fn quoted(word: &OsStr, dollar: &str) -> String {
    let mut text = String::from("\"");
    for &byte in word.as_bytes() {
        match byte {
            b'%' => text.push_str("%%"),
            b'$' => text.push_str(dollar),
            b'"' | b'\\' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            0x20..0x7f => text.push(char::from(byte)),
            other => text.push_str(&format!("\\x{other:02x}")),
        }
    }
    text.push('"');
    text
}

// Of a condition the whole rest of the line is the path.
fn quoted_path(path: &Path) -> String {
    path.display().to_string().replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_systemd_reads_them() {
        assert_eq!(quoted(OsStr::new("/srv/my app"), "$$"), "\"/srv/my app\"");
        assert_eq!(quoted(OsStr::new("100%$\"\\"), "$$"), "\"100%%$$\\\"\\\\\"");
        assert_eq!(quoted(OsStr::from_bytes(b"\xff\n"), "$$"), "\"\\xff\\x0a\"");
    }
}
