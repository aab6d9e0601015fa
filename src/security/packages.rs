//! Packages that are old or have known holes, by the tools of each language. A tool that is not there, does not end in
//! time, or cannot reach its sources is an error: nothing is known.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

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
            tool_with(place, "npm audit", "npm", &["audit", "--json"], &|ended| {
                json(ended)?.pointer("/metadata/vulnerabilities/total")?.as_u64().map(holes)
            }),
            tool_with(place, "npm outdated", "npm", &["outdated", "--json"], &|ended| {
                let answer = json(ended)?;
                let list = answer.as_object().filter(|list| !list.contains_key("error"))?;
                Some(outdated(list.keys().map(String::as_str).collect()))
            }),
        ],
        "cargo" => vec![tool_with(place, "cargo audit", "cargo", &["audit", "--json"], &|ended| {
            json(ended)?.pointer("/vulnerabilities/count")?.as_u64().map(holes)
        })],
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
        pip(&["--retries", "0", "--timeout", "15", "list", "--outdated", "--format", "json"]),
        &|ended| {
            // pip leaves out what it could not ask for, and ends well
            let said = ended.stderr.text();
            let is_offline = ["Retrying", "Could not fetch", "connection"]
                .iter()
                .any(|word| memchr::memmem::find(&said, word.as_bytes()).is_some());
            let answer = json(ended).filter(|_| !is_offline && ended.exit == Some(0))?;
            Some(outdated(answer.as_array()?.iter().filter_map(|one| one["name"].as_str()).collect()))
        },
    );
    let check = judged("pip check", pip(&["check"]), &|ended| match ended.exit {
        Some(0) => Some((Outcome::Pass, "no broken requirements".to_owned(), Vec::new())),
        Some(1) if ended.stdout.bytes > 0 => {
            let text = ended.stdout.text();
            let lines: Vec<String> =
                text.split(|&b| b == b'\n').filter(|l| !l.is_empty()).map(shown).collect();
            Some((Outcome::Fail, format!("{} broken requirements", lines.len()), lines))
        }
        _ => None,
    });
    let list = place.root.join("requirements.txt");
    let mut words = vec!["--format", "json", "--progress-spinner", "off"];
    if list.is_file() {
        words.extend(["-r", "requirements.txt"]);
    }
    let audit = tool_with(place, "pip-audit", "pip-audit", &words, &|ended| {
        let answer = json(ended)?;
        let packages = answer.get("dependencies")?.as_array()?;
        let holes: Vec<&Value> =
            packages.iter().filter(|p| p["vulns"].as_array().is_some_and(|v| !v.is_empty())).collect();
        let names = holes.iter().filter_map(|p| Some(shown(p["name"].as_str()?.as_bytes()))).collect();
        let outcome = if holes.is_empty() { Outcome::Pass } else { Outcome::Fail };
        Some((outcome, format!("{} packages with known holes", holes.len()), names))
    });
    vec![check, audit, old]
}

type Judged = (Outcome, String, Vec<String>);

fn holes(count: u64) -> Judged {
    let outcome = if count == 0 { Outcome::Pass } else { Outcome::Fail };
    (outcome, format!("{count} known holes"), Vec::new())
}

// Told, and no failure: that something newer exists is no fault.
fn outdated(names: Vec<&str>) -> Judged {
    let names: Vec<String> = names.into_iter().map(|name| shown(name.as_bytes())).collect();
    (Outcome::Pass, format!("{} packages have a newer version", names.len()), names)
}

fn json(ended: &Ended) -> Option<Value> {
    serde_json::from_slice(&ended.stdout.text()).ok()
}

fn run(place: &Place<'_>, program: Program) -> std::io::Result<Ended> {
    let run =
        Run { directory: Some(place.root.to_owned()), limit: Some(LIMIT), keep: KEEP, ..Run::new(program) };
    run.run(place.interrupted)
}

fn missing(name: &str, program: &str) -> Part {
    Part::new(name, Outcome::Error, format!("{program} is not there, so nothing is known; install it"))
}

fn tool_with(
    place: &Place<'_>,
    name: &str,
    program: &str,
    words: &[&str],
    judge: &dyn Fn(&Ended) -> Option<Judged>,
) -> Part {
    let Some(file) = (place.find)(program) else { return missing(name, program) };
    let words = std::iter::once(file.into_os_string()).chain(words.iter().map(OsString::from));
    judged(name, run(place, Program::Argv(words.collect())), judge)
}

fn judged(name: &str, ended: std::io::Result<Ended>, judge: &dyn Fn(&Ended) -> Option<Judged>) -> Part {
    let ended = match ended {
        Err(error) => return Part::new(name, Outcome::Error, format!("could not be started: {error}")),
        Ok(ended) => ended,
    };
    let known = if ended.timed_out || ended.interrupted { None } else { judge(&ended) };
    match known {
        Some((outcome, reason, subjects)) => {
            let finding = |subject: String| Finding {
                subject: Name(subject.into_bytes()),
                line: None,
                what: name.to_owned(),
            };
            Part {
                name: name.to_owned(),
                outcome,
                reason,
                findings: subjects.into_iter().take(super::MAX_FINDINGS).map(finding).collect(),
            }
        }
        None => {
            let last = shown(&ended.stderr.last_lines(1));
            let text =
                format!("it {} without an answer, so nothing is known (offline?): {last}", ended.how());
            Part::new(name, Outcome::Error, text.trim_end_matches(": ").to_owned())
        }
    }
}

fn by_status(command: &str, ended: std::io::Result<Ended>) -> Part {
    judged(&shown(command.as_bytes()), ended, &|ended| match ended.exit {
        Some(0) => Some((Outcome::Pass, "exited with 0".to_owned(), Vec::new())),
        // what a shell says of a program that is not there, or no program
        Some(126 | 127) | None => None,
        Some(status) => {
            Some((Outcome::Fail, format!("exited with {status}"), vec![shown(&ended.stdout.last_lines(1))]))
        }
    })
}
