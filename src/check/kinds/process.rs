//! `process`: whether it runs.

use std::time::Duration;

use super::super::Outcome;
use super::super::config::Process;
use super::super::judge::{regex, short};
use super::super::run::Context;
use super::super::verdict::{Found, evidence};

pub fn look(check: &Process, limit: Duration, context: &Context) -> Found {
    let expected = if check.absent { "does not run" } else { "runs" };
    let found = match super::subject::find(&check.process, limit, context) {
        Err(found) if check.absent && found.outcome == Outcome::Fail => Found::pass(found.reason),
        Err(found) => found,
        Ok(stat) => {
            let pid = stat.member.pid;
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line: Vec<u8> = line.iter().map(|&b| if b == 0 { b' ' } else { b }).collect();
            let line = line.trim_ascii();
            let is_it = match check.matches.as_deref().map(regex).transpose() {
                Err(why) => return Found::error(why),
                Ok(pattern) => pattern.is_none_or(|pattern| pattern.is_match(line)),
            };
            let seen = evidence(line);
            let text = format!("process {pid} runs: {}", short(&seen));
            match (is_it, check.absent) {
                (true, false) => Found::pass(text),
                (true, true) => Found::fail(format!("{text}, and should not")),
                // the PID went to somebody else
                (false, true) => Found::pass(format!("{text}, which is another program")),
                (false, false) => Found::fail(format!("{text}, which is another program")),
            }
            .saw(seen)
        }
    };
    found.expected(expected)
}
