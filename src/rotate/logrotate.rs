//! The same rules as logrotate's configuration, for hosts where that does it.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::base::name::shown;
use crate::plan::types::{Rotate, RotateMethod};
use crate::sys::names::Names;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// The configuration of these logs: path and rule. Paths begin in `directory`.
///
/// # Errors
/// A sentence, where logrotate cannot be told.
pub fn configuration(rules: &[Rotate], directory: &Path) -> Result<String, String> {
    let mut text = String::from("# made by: lifeboat rotate --emit-logrotate\n");
    for rule in rules {
        one(&mut text, rule, directory)?;
    }
    Ok(text)
}

fn one(text: &mut String, rule: &Rotate, directory: &Path) -> Result<(), String> {
    let path = directory.join(&rule.log);
    let name = path.to_str().filter(|name| !name.contains(['"', '\n', '\\']));
    let name = name.ok_or_else(|| {
        format!("logrotate cannot be given the name {}", shown(path.as_os_str().as_bytes()))
    })?;
    let mut lines = Vec::new();
    match rule.every {
        None => lines.push(format!("size {}", rule.size.0)),
        Some(every) => {
            let seconds = every.0.as_secs();
            lines.push(match seconds {
                0..DAY => "hourly".to_owned(),
                DAY..604_800 => "daily".to_owned(),
                604_800..2_419_200 => "weekly".to_owned(),
                _ => "monthly".to_owned(),
            });
            lines.push(format!("maxsize {}", rule.size.0));
        }
    }
    lines.push(format!("rotate {}", rule.keep_count.map_or(-1, i64::from)));
    lines.push(format!("maxage {}", rule.keep.0.as_secs().div_ceil(DAY).max(1)));
    lines.push("dateext".to_owned());
    lines.push("dateformat _%Y%m%d_%H%M%S".to_owned());
    if let Some(end) = Path::new(&rule.log).extension().and_then(|end| end.to_str()) {
        lines.push(format!("extension .{end}"));
    }
    lines.push(if rule.compress { "compress" } else { "nocompress" }.to_owned());
    lines.push("missingok".to_owned());
    lines.push("notifempty".to_owned());
    lines.extend(user(&path).map(|(user, group)| format!("su {user} {group}")));
    match rule.method {
        RotateMethod::Copytruncate => lines.push("copytruncate".to_owned()),
        RotateMethod::Rename => {
            lines.push("create".to_owned());
            if rule.compress {
                lines.push("delaycompress".to_owned());
            }
            script(&mut lines, rule, directory);
        }
    }
    let _ = writeln!(text, "\n\"{name}\" {{");
    for line in lines {
        let _ = writeln!(text, "    {line}");
    }
    text.push_str("}\n");
    Ok(())
}

fn script(lines: &mut Vec<String>, rule: &Rotate, directory: &Path) {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let at = directory.to_string_lossy();
    let mut commands = Vec::new();
    if let Some(command) = &rule.reopen {
        let words = match command {
            crate::check::value::CommandLine::Shell(text) => text.clone(),
            crate::check::value::CommandLine::Argv(words) => {
                words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
            }
        };
        commands.push(format!("cd {} && {{ {words}; }}", quoted(&at)));
    }
    if let Some(pidfile) = &rule.pidfile {
        let file = directory.join(pidfile);
        commands.push(format!("kill -{} \"$(cat {})\"", rule.signal, quoted(&file.to_string_lossy())));
    }
    if !commands.is_empty() {
        lines.push("postrotate".to_owned());
        lines.extend(commands.into_iter().map(|command| format!("    {command}")));
        lines.push("endscript".to_owned());
    }
}

// logrotate refuses directories that others may write unless it is told as whom to work.
fn user(log: &Path) -> Option<(String, String)> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = log.parent()?.metadata().ok()?;
    if metadata.uid() == 0 && metadata.mode() & 0o022 == 0 {
        return None;
    }
    let mut names = Names::default();
    let user = names.user(metadata.uid()).map_or_else(|| metadata.uid().to_string(), |name| name.shown());
    let group = names.group(metadata.gid()).map_or_else(|| metadata.gid().to_string(), |name| name.shown());
    Some((user, group))
}
