//! Packages that are old or have known holes, by the tools of each language. A tool that is not there, does not end in
//! time, or cannot reach its sources is an error: nothing is known.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::answers::{self, Answer, Judged, Unknown};
use super::{Finding, Part};
use crate::base::Name;
use crate::base::name::shown;
use crate::check::Outcome;
use crate::sys::process::{Ended, Program, Run};

/// How long a tool may take.
const LIMIT: Duration = Duration::from_secs(120);
/// So much of what it prints is kept.
const KEEP: usize = 4 << 20;

/// Where and with what tools are run.
pub struct Place<'p> {
    /// The application's tree.
    pub root: &'p Path,
    /// Finds a program as a shell would.
    pub find: &'p dyn Fn(&str) -> Option<PathBuf>,
    /// Asked often; true ends the run.
    pub interrupted: &'p dyn Fn() -> bool,
}

/// Runs the tools that are named (pip, npm, cargo, or a command); those that fit the tree if none is.
pub fn look(place: &Place<'_>, named: &[String]) -> Vec<Part> {
    let has = |names: &[&str]| names.iter().any(|name| place.root.join(name).exists());
    let fitting = [
        ("pip", has(&["requirements.txt", "pyproject.toml"])),
        ("npm", has(&["package-lock.json"])),
        ("cargo", has(&["Cargo.lock"])),
    ];
    let fitting: Vec<String> =
        fitting.iter().filter(|(_, fits)| *fits).map(|(name, _)| (*name).to_owned()).collect();
    let named = if named.is_empty() { &fitting } else { named };
    if named.is_empty() {
        return vec![Part::new("packages", Outcome::Pass, "the tree has no list of packages")];
    }
    named.iter().flat_map(|tool| one(place, tool)).collect()
}

fn one(place: &Place<'_>, tool: &str) -> Vec<Part> {
    match tool {
        "pip" => pip(place),
        "npm" => vec![
            tool_with(place, "npm audit", "npm", &["audit", "--json"], answers::npm_audit),
            tool_with(place, "npm outdated", "npm", &["outdated", "--json"], answers::npm_outdated),
        ],
        "cargo" => {
            vec![tool_with(place, "cargo audit", "cargo", &["audit", "--json"], answers::cargo_audit)]
        }
        command => vec![by_status(command, run(place, Program::Shell(command.into())))],
    }
}

fn pip(place: &Place<'_>) -> Vec<Part> {
    let own = [".venv/bin/python", "venv/bin/python"].map(|path| place.root.join(path));
    let python = own.into_iter().find(|path| path.is_file()).or_else(|| (place.find)("python3"));
    let Some(python) = python else { return vec![missing("pip check", "python3")] };
    let pip = |words: &[&str]| {
        let mut all: Vec<OsString> =
            vec![python.clone().into(), "-m".into(), "pip".into(), "--disable-pip-version-check".into()];
        all.extend(words.iter().map(OsString::from));
        run(place, Program::Argv(all))
    };
    let old = judged(
        "pip list --outdated",
        pip(&["--retries", "1", "--timeout", "15", "list", "--outdated", "--format", "json"]),
        answers::pip_outdated,
    );
    let check = judged("pip check", pip(&["check"]), answers::pip_check);
    let list = place.root.join("requirements.txt");
    let mut words = vec!["--format", "json", "--progress-spinner", "off"];
    if list.is_file() {
        words.extend(["-r", "requirements.txt"]);
    }
    let audit = tool_with(place, "pip-audit", "pip-audit", &words, answers::pip_audit);
    vec![check, audit, old]
}

fn run(place: &Place<'_>, program: Program) -> std::io::Result<Ended> {
    let run =
        Run { directory: Some(place.root.to_owned()), limit: Some(LIMIT), keep: KEEP, ..Run::new(program) };
    run.run(place.interrupted)
}

fn missing(name: &str, program: &str) -> Part {
    Part::new(name, Outcome::Error, format!("{program} is not there, so nothing is known; install it"))
}

fn tool_with(place: &Place<'_>, name: &str, program: &str, words: &[&str], understand: Understand) -> Part {
    let Some(file) = (place.find)(program) else { return missing(name, program) };
    let words = std::iter::once(file.into_os_string()).chain(words.iter().map(OsString::from));
    judged(name, run(place, Program::Argv(words.collect())), understand)
}

type Understand = fn(&Answer<'_>) -> Result<Judged, Unknown>;

fn judged(name: &str, ended: std::io::Result<Ended>, understand: Understand) -> Part {
    let ended = match ended {
        Err(error) => return Part::new(name, Outcome::Error, format!("could not be started: {error}")),
        Ok(ended) => ended,
    };
    let (stdout, stderr) = (ended.stdout.text(), ended.stderr.text());
    let answer = Answer { exit: ended.exit, stdout: &stdout, stderr: &stderr };
    let known = match ended.timed_out || ended.interrupted {
        true => Err(String::new()),
        false => understand(&answer),
    };
    match known {
        Ok(judged) => {
            let finding = |(subject, what): (String, String)| {
                let subject = Name(subject.into_bytes());
                Finding { subject, line: None, what: if what.is_empty() { name.to_owned() } else { what } }
            };
            Part {
                name: name.to_owned(),
                outcome: judged.outcome,
                reason: judged.reason,
                findings: judged.found.into_iter().take(super::MAX_FINDINGS).map(finding).collect(),
            }
        }
        Err(why) => {
            let last = shown(&ended.stderr.last_lines(1));
            let why = if why.is_empty() { last } else { why };
            let text = format!("it {} without an answer, so nothing is known: {why}", ended.how());
            Part::new(name, Outcome::Error, text.trim_end_matches(": ").to_owned())
        }
    }
}

fn by_status(command: &str, ended: std::io::Result<Ended>) -> Part {
    judged(&shown(command.as_bytes()), ended, |answer| match answer.exit {
        Some(0) => {
            Ok(Judged { outcome: Outcome::Pass, reason: "exited with 0".to_owned(), found: Vec::new() })
        }
        // what a shell says of a program that is not there, or no program
        Some(126 | 127) | None => Err(String::new()),
        Some(status) => {
            let mut lines = answer.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
            let found = lines.next_back().map(|line| (shown(line), String::new()));
            let reason = format!("exited with {status}");
            Ok(Judged { outcome: Outcome::Fail, reason, found: found.into_iter().collect() })
        }
    })
}
