//! A systemd unit.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::memory::lines;
use super::{Missing, ServiceError, ServiceErrorKind, Sight, State};
use crate::base::name::shown;
use crate::sys::process::{Ended, Program, Run};
use crate::sys::process_facts::of_cgroup;
use crate::sys::process_tree::{all, with_descendants};

/// How long a question to systemd may take.
const PATIENCE: Duration = Duration::from_secs(10);
const PROPERTIES: &str = "--property=LoadState,ActiveState,SubState,MainPID,ControlGroup";

fn run(words: &[&str], limit: Duration, interrupted: &dyn Fn() -> bool) -> Result<Ended, ServiceError> {
    let run = Run {
        limit: Some(limit),
        environment: vec![("LC_ALL".into(), "C".into()), ("SYSTEMD_PAGER".into(), "".into())],
        ..Run::new(Program::Argv(words.iter().map(Into::into).collect()))
    };
    run.run(interrupted).map_err(|error| {
        ServiceError::new(ServiceErrorKind::Missing, format!("{} cannot be started: {error}", words[0]))
            .next("a unit needs systemd; without it write service.start and service.stop")
    })
}

// What systemd knows of the unit.
fn properties(unit: &str) -> Result<BTreeMap<String, String>, ServiceError> {
    let ended = run(&["systemctl", "show", PROPERTIES, "--", unit], PATIENCE, &|| false)?;
    if !ended.is_success() {
        let text = format!("systemctl show {} {}", shown(unit.as_bytes()), ended.how());
        return Err(ServiceError::new(ServiceErrorKind::Missing, text)
            .next("a unit needs a running systemd; without it write service.start and service.stop")
            .output(lines(&ended.stderr.text())));
    }
    let text = String::from_utf8_lossy(&ended.stdout.text()).into_owned();
    Ok(text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect())
}

/// Whether systemd knows the unit.
pub(super) fn known(unit: &str) -> Result<(), Missing> {
    let said = match properties(unit) {
        Ok(said) => said,
        Err(error) => {
            let last = error.output.lines().last().map(|line| format!(": {line}")).unwrap_or_default();
            return Err(Missing { what: format!("{}{last}", error.text), next: error.next });
        }
    };
    match said.get("LoadState").map(String::as_str) {
        Some("loaded") => Ok(()),
        other => Err(Missing {
            what: format!(
                "systemd has no unit {} that can be used: it is {}",
                shown(unit.as_bytes()),
                shown(other.unwrap_or("unknown").as_bytes())
            ),
            next: "systemctl status says more; after writing the unit, systemctl daemon-reload".to_owned(),
        }),
    }
}

/// What runs of it.
pub(super) fn look(unit: &str) -> Sight {
    let said = match properties(unit) {
        Ok(said) => said,
        Err(error) => {
            return Sight { state: State::Unknown { why: error.text }, members: Vec::new(), main: None };
        }
    };
    let get = |name: &str| said.get(name).map(String::as_str).unwrap_or_default();
    let main = get("MainPID").parse::<i32>().ok().filter(|&pid| pid > 0);
    let mut seeds: Vec<i32> = main.into_iter().collect();
    if get("ControlGroup").len() > 1 {
        seeds.extend(of_cgroup(Path::new(get("ControlGroup"))));
    }
    let members = with_descendants(&all(), seeds);
    let state = match get("ActiveState") {
        "active" | "activating" | "reloading" | "deactivating" => State::Running,
        "inactive" | "failed" if members.is_empty() => State::Stopped,
        "inactive" | "failed" => State::Running,
        other => State::Unknown { why: format!("systemd calls the unit {}", shown(other.as_bytes())) },
    };
    Sight { state, members, main }
}

/// Tells systemd to `start` or `stop` it, and waits as long as systemd does.
pub(super) fn tell(
    verb: &str,
    unit: &str,
    limit: Duration,
    interrupted: &dyn Fn() -> bool,
) -> Result<Ended, ServiceError> {
    if verb == "start" {
        // a unit that failed too often would be refused; that there is nothing to reset is no trouble
        let _ = run(&["systemctl", "reset-failed", "--", unit], PATIENCE, interrupted)?;
    }
    run(&["systemctl", verb, "--", unit], limit, interrupted)
}

/// The last lines of its journal; empty if there is none.
pub(super) fn journal(unit: &str) -> String {
    let words = ["journalctl", "--no-pager", "--lines=20", "--output=cat", "--unit", unit];
    match run(&words, PATIENCE, &|| false) {
        Ok(ended) if ended.is_success() => lines(&ended.stdout.text()),
        _ => String::new(),
    }
}
