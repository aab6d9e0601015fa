//! Who is meant: the PID behind a PID file or a unit.

use std::time::Duration;

use super::super::run::Context;
use super::super::value::Subject;
use super::super::verdict::{Found, evidence};
use crate::sys::process::{Program, Run};
use crate::sys::process_tree::{Stat, stat};

/// The living process; fails with words where there is none, `Error` where it cannot be told.
pub fn find(subject: &Subject, limit: Duration, context: &Context) -> Result<Stat, Found> {
    let (pid, name) = match subject {
        Subject::System => return Err(Found::error("system is no process")),
        Subject::Pid(pid) => (*pid, format!("process {pid}")),
        Subject::PidFile(path) => {
            let path = context.path(path);
            let text = super::read(&path)?;
            let text = String::from_utf8_lossy(&text);
            let pid = text.trim().parse().ok().filter(|&pid: &i32| pid > 0);
            let Some(pid) = pid else {
                return Err(Found::fail(format!("{} holds no PID", super::shown(&path)))
                    .saw(evidence(text.as_bytes())));
            };
            (pid, format!("process {pid} of {}", super::shown(&path)))
        }
        Subject::Unit(unit) => (main_pid(unit, limit, context)?, unit.clone()),
    };
    match stat(pid) {
        Some(found) if !found.is_dead() => Ok(found),
        Some(_) => Err(Found::fail(format!("{name} is dead and not reaped"))),
        None => Err(Found::fail(format!("{name} does not run"))),
    }
}

fn main_pid(unit: &str, limit: Duration, context: &Context) -> Result<i32, Found> {
    let words = ["systemctl", "show", "--property=MainPID", "--value", "--", unit];
    let run = Run { limit: Some(limit), ..Run::new(Program::Argv(words.map(Into::into).to_vec())) };
    let ended = run.run(&|| context.interrupted());
    let ended = ended.map_err(|error| Found::error(format!("systemctl cannot be started: {error}")))?;
    if !ended.is_success() {
        let why = evidence(&ended.stderr.last_lines(1));
        return Err(Found::error(format!("systemctl {}: {why}", ended.how())));
    }
    match String::from_utf8_lossy(&ended.stdout.text()).trim().parse() {
        Ok(pid) if pid > 0 => Ok(pid),
        _ => Err(Found::fail(format!("{} does not run", evidence(unit.as_bytes())))),
    }
}
