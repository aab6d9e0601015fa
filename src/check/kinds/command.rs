//! `command`: how it ends and what it prints.

use std::io;
use std::time::Duration;

use super::super::config::Command;
use super::super::judge::{judge_all, regex, short};
use super::super::run::Context;
use super::super::value::CommandLine;
use super::super::verdict::{Found, evidence};
use crate::sys::process::{Ended, Run};

pub fn look(check: &Command, limit: Duration, context: &Context) -> Found {
    if context.refuse_shell && matches!(check.command, CommandLine::Shell(_)) {
        return Found::error("a text for a shell is refused here; write the command as a list");
    }
    let directory = context.path(check.directory.as_deref().unwrap_or_default());
    let inherited = context.environment.iter().flatten();
    let run = Run {
        directory: Some(directory),
        clear: context.environment.is_some(),
        environment: inherited.chain(&check.environment).map(|(k, v)| (k.into(), v.into())).collect(),
        limit: Some(limit),
        keep: 1 << 20,
        ..Run::new(check.command.program())
    };
    match run.run(&|| context.interrupted()) {
        Ok(ended) => judge(check, &ended),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Found::fail(format!("{} cannot be started: {error}", named(check)))
        }
        Err(error) => Found::error(format!("{} cannot be started: {error}", named(check))),
    }
    .expected_default(check)
}

fn named(check: &Command) -> String {
    short(&evidence(check.command.to_string().as_bytes()))
}

fn judge(check: &Command, ended: &Ended) -> Found {
    // the end of both outputs says most about a failure
    let mut seen = ended.stdout.last_lines(20);
    let errors = ended.stderr.last_lines(20);
    if !seen.is_empty() && !errors.is_empty() {
        seen.push(b'\n');
    }
    seen.extend_from_slice(&errors);
    let seen = evidence(&seen);
    if ended.interrupted {
        return Found::error(format!("{} was interrupted", named(check))).saw(seen);
    }
    if ended.timed_out || ended.exit != Some(check.exit) {
        let last = seen.lines().last().map(|line| format!(": {}", short(line))).unwrap_or_default();
        return Found::fail(format!("{} {}{last}", named(check), ended.how())).saw(seen);
    }
    let text = ended.stdout.text();
    if let Some(wanted) = &check.contains
        && memchr::memmem::find(&text, wanted.as_bytes()).is_none()
    {
        let reason = format!("it does not print {}", short(&evidence(wanted.as_bytes())));
        return Found::fail(reason).saw(seen);
    }
    if let Some(pattern) = &check.stdout {
        match regex(pattern) {
            Err(why) => return Found::error(why),
            Ok(found) if !found.is_match(&text) => {
                let reason = format!("nothing it prints matches {}", short(&evidence(pattern.as_bytes())));
                return Found::fail(reason).saw(seen);
            }
            Ok(_) => {}
        }
    }
    if !check.json.is_empty() {
        let Ok(document) = serde_json::from_slice(&text) else {
            return Found::fail("what it prints is not JSON").saw(seen);
        };
        if let Some(found) = judge_all(&document, &check.json) {
            return found;
        }
    }
    Found::pass(format!("{} {}", named(check), ended.how())).saw(seen)
}

impl Found {
    fn expected_default(self, check: &Command) -> Self {
        if self.expected.is_empty() { self.expected(format!("exit status {}", check.exit)) } else { self }
    }
}
