//! Work with a beginning and an end: from the beginning on it can be undone, at the end it is seen what has changed.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::follow::Runner;
use super::setting::{End, Outcome, Setting};
use super::step::{self, Came};
use crate::base::Name;
use crate::base::name::shown;
use crate::base::size;
use crate::base::time::Timestamp;
use crate::check::matcher;
use crate::check::value::CommandLine;
use crate::evidence::Outcome as Result;
use crate::plan::{Operation, Plan, Step};

/// The name under which a maintenance that has begun is remembered.
pub const STATE: &str = "maintenance.json";
/// The tag of its snapshots.
const TAG: &str = "maintenance";
/// More files than these are not configuration.
const MOST: usize = 10_000;

/// A maintenance that has begun, as the host remembers it. Fields are added, never renamed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// What for; empty if nobody said.
    #[serde(default)]
    pub reason: String,
    /// The snapshot of the beginning, as its whole id.
    pub snapshot: String,
    /// The run that is its record.
    pub run_id: String,
    /// The configuration as it was.
    #[serde(default)]
    pub configuration: Vec<Recorded>,
    /// Questions that nobody has answered yet.
    #[serde(default)]
    pub open: Vec<String>,
}

/// A configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its path, from the plan's directory.
    pub path: Name,
    /// How many bytes it has.
    pub bytes: u64,
    /// SHA-256 of its content, in hexadecimal.
    pub sha256: String,
}

/// Begins. What is returned is to be remembered; `None` if it has not begun.
pub fn begin(reason: &str, setting: &Setting<'_>) -> (Outcome, Option<Begun>) {
    let plan = &setting.plan.maintenance;
    let mut runner = Runner::new("maintenance begin".to_owned(), setting);
    runner.protect(TAG);
    let mut configuration = Vec::new();
    if !plan.configuration.is_empty() {
        runner.act("configuration", "record the configuration", |_| match recorded(setting.plan) {
            Ok(found) => {
                let text = listed(&found);
                configuration = found;
                Came::of(Result::Pass, "").saying(&text, &setting.secrets)
            }
            Err(why) => Came::of(Result::Error, why),
        });
    }
    if !setting.plan.check.is_empty() {
        runner.own("checks", &["health".to_owned()]);
    }
    if let Some(id) = runner.snapshot.clone() {
        runner.own("rollback", &["rollback".to_owned(), "--dry-run".to_owned(), id]);
    }
    // until here nothing may be passed over
    runner.on_failure = plan.on_failure;
    runner.steps(&plan.begin.iter().collect::<Vec<_>>());
    let snapshot = runner.snapshot.clone();
    let at = setting.clock.now();
    let outcome = runner.finish();
    let is_well = matches!(outcome.end, End::Pass | End::Open);
    let begun = snapshot.filter(|_| is_well).map(|snapshot| Begun {
        at,
        by: setting.by.clone(),
        reason: reason.to_owned(),
        snapshot,
        run_id: outcome.run.run_id.clone(),
        configuration,
        open: outcome.run.steps.iter().filter(|step| step.is_open()).map(|step| step.name.clone()).collect(),
    });
    (outcome, begun)
}

/// Ends what has begun.
pub fn end(begun: &Begun, setting: &Setting<'_>) -> Outcome {
    let plan = &setting.plan.maintenance;
    let mut runner = Runner::new("maintenance end".to_owned(), setting);
    runner.on_failure = plan.on_failure;
    runner.snapshot = Some(begun.snapshot.clone());
    runner.steps(&plan.end.iter().collect::<Vec<_>>());
    let tests: Vec<Step> = setting.plan.hotfix.verify.iter().map(|line| test(line, setting.plan)).collect();
    runner.steps(&tests.iter().collect::<Vec<_>>());
    if !setting.plan.check.is_empty() {
        runner.own("checks", &["health".to_owned()]);
        if let Some(watch) = plan.watch {
            let name = format!("watch the checks for {watch}");
            runner.act("watch", &name, |_| watched(watch.0, setting));
        }
    }
    changes(begun, &mut runner, setting);
    runner.finish()
}

/// What has changed since the beginning; the rest of [`end`] without its tests and checks.
fn changes(begun: &Begun, runner: &mut Runner<'_>, setting: &Setting<'_>) {
    if !begun.configuration.is_empty() {
        runner.act("changes", "compare the configuration", |_| match recorded(setting.plan) {
            Ok(now) => {
                Came::of(Result::Pass, "").saying(&differences(&begun.configuration, &now), &setting.secrets)
            }
            Err(why) => Came::of(Result::Error, why),
        });
    }
    let words = ["snapshot", "--tag", TAG, "--reason", "maintenance end"].map(str::to_owned);
    let after = runner.own("snapshot", &words).and_then(|text| super::follow::id_in(&text));
    if let Some(after) = after {
        runner.own("changes", &["diff".to_owned(), begun.snapshot.clone(), after]);
    }
}

/// Gives up what has begun, and goes back to its beginning if asked.
pub fn abort(begun: &Begun, reason: &str, back: bool, setting: &Setting<'_>) -> Outcome {
    let mut runner = Runner::new("maintenance abort".to_owned(), setting);
    if back {
        runner.snapshot = Some(begun.snapshot.clone());
        runner.roll_back();
    } else {
        runner.note("abort", "give up", Came::of(Result::Pass, ""));
        runner.deviation(format!(
            "the maintenance of {} was given up; what it changed was left as it is",
            begun.at.shown()
        ));
    }
    if !reason.is_empty() {
        runner.deviation(format!("reason: {reason}"));
    }
    runner.finish()
}

// A command that tests the application after a change.
fn test(line: &CommandLine, plan: &Plan) -> Step {
    Step { timeout: Some(plan.hotfix.command_timeout), ..Step::from(Operation::Command(line.clone())) }
}

// Rounds of all checks until the time is over, or too many in a row are bad.
fn watched(length: Duration, setting: &Setting<'_>) -> Came {
    let hotfix = &setting.plan.hotfix;
    let began = Instant::now();
    let (mut rounds, mut bad_rounds, mut in_a_row) = (0_u64, 0_u64, 0_u32);
    let mut text = String::new();
    loop {
        let left = length.saturating_sub(began.elapsed());
        let came =
            step::operation(&["health".to_owned()], "maintenance end", left.max(hotfix.interval.0), setting);
        if came.interrupted {
            return Came { interrupted: true, ..Came::of(Result::Error, "was interrupted") };
        }
        rounds += 1;
        if came.outcome == Result::Pass {
            in_a_row = 0;
        } else {
            bad_rounds += 1;
            in_a_row += 1;
            let at = size::duration(began.elapsed());
            text.push_str(&format!("after {at}: {}\n{}\n", came.reason, came.output.text));
            if in_a_row >= hotfix.failure_limit {
                let why = format!("{in_a_row} bad rounds of checks in a row after {at}: {}", came.reason);
                return Came::of(came.outcome, why).saying(&text, &setting.secrets);
            }
        }
        if began.elapsed() + hotfix.interval.0 > length {
            break;
        }
        pause(hotfix.interval.0, setting);
    }
    text.push_str(&format!("{rounds} rounds of checks, {bad_rounds} of them bad\n"));
    Came::of(Result::Pass, "").saying(&text, &setting.secrets)
}

// In short pieces, so that an interrupt is noticed.
fn pause(length: Duration, setting: &Setting<'_>) {
    let end = Instant::now() + length;
    while Instant::now() < end && !setting.console.interrupted() {
        std::thread::sleep(Duration::from_millis(50).min(end - Instant::now()));
    }
}

/// The configuration files of a plan as they are now, in order.
///
/// # Errors
/// A sentence: a wrong pattern, a file that cannot be read, far too many.
pub fn recorded(plan: &Plan) -> std::result::Result<Vec<Recorded>, String> {
    let mut found = Vec::new();
    for pattern in &plan.maintenance.configuration {
        let paths = files(plan, pattern)?;
        if paths.is_empty() {
            return Err(format!("no file is {}", shown(pattern.as_bytes())));
        }
        for path in paths {
            let bytes = fs::read(&path).map_err(|error| unreadable(&path, &error))?;
            let name = path.strip_prefix(plan.directory()).unwrap_or(&path);
            found.push(Recorded {
                path: Name(name.as_os_str().as_bytes().to_vec()),
                bytes: bytes.len() as u64,
                sha256: hex::encode(Sha256::digest(&bytes)),
            });
            if found.len() > MOST {
                return Err(format!("more than {MOST} files are no configuration; narrow the patterns"));
            }
        }
    }
    found.sort_by(|a, b| a.path.0.cmp(&b.path.0));
    found.dedup();
    Ok(found)
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    format!("{} cannot be read: {error}", Name::from(path.as_os_str()).shown())
}

fn files(plan: &Plan, pattern: &str) -> std::result::Result<Vec<PathBuf>, String> {
    let Some((base, matcher)) = matcher(pattern)? else {
        let path = plan.path(pattern);
        return Ok(if path.is_file() { vec![path] } else { Vec::new() });
    };
    let base = plan.path(base);
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(&base).sort_by_file_name() {
        let entry = entry.map_err(|error| format!("the configuration cannot be read: {error}"))?;
        let relative = entry.path().strip_prefix(&base).unwrap_or(entry.path());
        if entry.path().is_file() && matcher.matched(Path::new("/").join(relative), false).is_ignore() {
            found.push(entry.into_path());
        }
    }
    Ok(found)
}

fn listed(files: &[Recorded]) -> String {
    files
        .iter()
        .map(|file| format!("{}  {}  {} bytes\n", file.sha256, file.path.shown(), file.bytes))
        .collect()
}

/// What differs between two recordings, a line each.
pub fn differences(before: &[Recorded], now: &[Recorded]) -> String {
    let of = |list: &[Recorded], path: &Name| list.iter().find(|file| file.path == *path).cloned();
    let mut text = String::new();
    for file in before {
        match of(now, &file.path) {
            None => text.push_str(&format!("- {}\n", file.path.shown())),
            Some(other) if other.sha256 != file.sha256 => {
                text.push_str(&format!(
                    "C {}  ({} -> {})\n",
                    file.path.shown(),
                    &file.sha256[..8],
                    &other.sha256[..8]
                ));
            }
            Some(_) => {}
        }
    }
    for file in now.iter().filter(|file| of(before, &file.path).is_none()) {
        text.push_str(&format!("+ {}\n", file.path.shown()));
    }
    if text.is_empty() { "no configuration file has changed\n".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &str) -> Recorded {
        let sha256 = hex::encode(Sha256::digest(content));
        Recorded { path: Name::from(path), bytes: content.len() as u64, sha256 }
    }

    #[test]
    fn what_differs_is_named() {
        let before = [file("a", "1"), file("b", "1"), file("c", "1")];
        let now = [file("a", "1"), file("b", "2"), file("d\x1b", "1")];
        let text = differences(&before, &now);
        assert_eq!(text, "C b  (6b86b273 -> d4735e3a)\n- c\n+ d\\x1b\n");
        assert_eq!(differences(&before, &before), "no configuration file has changed\n");
    }

    #[test]
    fn the_configuration_is_what_the_patterns_say() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("config/deep")).unwrap();
        for name in ["config/a.json", "config/deep/b.json", "config/c.txt", "one.ini"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let plan = |patterns: &str| {
            Plan::parse(
                &format!("[maintenance]\nconfiguration = {patterns}\n"),
                &dir.path().join("lifeboat.toml"),
            )
            .unwrap()
        };
        let found = recorded(&plan(r#"["one.ini", "config/*.json", "config/a.json"]"#)).unwrap();
        let names: Vec<String> = found.iter().map(|file| file.path.shown()).collect();
        assert_eq!(names, ["config/a.json", "one.ini"]);
        let found = recorded(&plan(r#"["config/**/*.json"]"#)).unwrap();
        assert_eq!(found.len(), 2);
        assert!(recorded(&plan(r#"["nothing*"]"#)).unwrap_err().contains("no file is nothing*"));
    }
}
