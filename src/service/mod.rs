//! The application as something that runs: started, stopped, and known by its processes.
//!
//! How is said by the plan: commands, a systemd unit, or a PID file. Which processes are meant is never guessed from a
//! name. They are those of the unit's control group; the one that the PID file names, if it shows that it belongs to the
//! application; those that Lifeboat started itself, by the mark they carry; those that listen on the ports of the
//! readiness checks and work in the application's tree; and whatever descends from one of these. Only such processes are
//! ever signalled, by descriptor.

mod error;
mod memory;
pub mod ready;
mod sight;
mod start;
mod stop;
#[cfg(test)]
mod tests;
mod unit;

use std::path::PathBuf;
use std::time::Duration;

pub use error::{Missing, ServiceError, ServiceErrorKind};
pub use sight::{Sight, State};
pub use start::Started;
pub use stop::Stopped;

use crate::check::Check;
use crate::check::value::CommandLine;
use crate::plan::Plan;
use crate::state;

/// How the plan's application is started and stopped.
#[derive(Clone, Debug)]
pub struct Service {
    control: Control,
    root: PathBuf,
    directory: PathBuf,
    user: Option<String>,
    ready: Vec<Check>,
    ports: Vec<u16>,
    start_timeout: Duration,
    stop_timeout: Duration,
    ready_timeout: Duration,
    ready_count: u32,
    keeps_unready: bool,
    memory: Option<state::State>,
}

#[derive(Clone, Debug)]
enum Control {
    Unit(String),
    Commands { start: Option<CommandLine>, stop: Option<CommandLine>, pidfile: Option<PathBuf> },
}

impl Service {
    /// As the plan has it; `None` if the plan says nothing of a service. Nothing is looked at yet.
    pub fn of(plan: &Plan) -> Option<Self> {
        let planned = plan.service.as_ref()?;
        let control = match &planned.unit {
            Some(unit) => Control::Unit(unit.clone()),
            None => Control::Commands {
                start: planned.start.clone(),
                stop: planned.stop.clone(),
                pidfile: planned.pidfile.as_ref().map(|path| plan.path(path)),
            },
        };
        let ready: Vec<Check> = ready::checks(plan, &planned.ready).into_iter().cloned().collect();
        Some(Self {
            control,
            root: plan.root(),
            directory: plan.directory().to_owned(),
            user: plan.app.user.clone(),
            ports: ready::ports(&ready),
            ready,
            start_timeout: planned.start_timeout.0,
            stop_timeout: planned.stop_timeout.0,
            ready_timeout: planned.ready_timeout.0,
            ready_count: planned.ready_count,
            keeps_unready: false,
            memory: None,
        })
    }

    /// The same, which remembers there what it starts, and keeps there what that prints.
    #[must_use]
    pub fn remembering(self, memory: state::State) -> Self {
        Self { memory: Some(memory), ..self }
    }

    /// The same, of which a start that does not become ready leaves running what runs. It is an error all the same.
    #[must_use]
    pub fn keeping_unready(self) -> Self {
        Self { keeps_unready: true, ..self }
    }

    /// The checks that all pass when it is ready.
    pub fn ready_checks(&self) -> &[Check] {
        &self.ready
    }

    /// Whether it can be stopped, as far as can be seen beforehand.
    ///
    /// # Errors
    /// What is missing.
    pub fn can_stop(&self) -> Result<(), Missing> {
        match &self.control {
            Control::Unit(name) => unit::known(name),
            Control::Commands { stop: Some(_), .. } => Ok(()),
            Control::Commands { stop: None, .. } => match self.state() {
                // by signals, as it is known which processes are meant
                sight if sight.is_running() && !sight.members.is_empty() => Ok(()),
                sight if sight.state == State::Stopped => Ok(()),
                sight => {
                    let why = match sight.state {
                        State::Unknown { why } => format!(": {why}"),
                        _ => String::new(),
                    };
                    Err(Missing {
                        what: format!(
                            "the plan does not say how the service stops, and its processes are not known{why}"
                        ),
                        next: "write service.stop, service.unit or service.pidfile into the plan".to_owned(),
                    })
                }
            },
        }
    }

    /// Whether it can be started, as far as can be seen beforehand.
    ///
    /// # Errors
    /// What is missing.
    pub fn can_start(&self) -> Result<(), Missing> {
        match &self.control {
            Control::Unit(name) => unit::known(name),
            Control::Commands { start: Some(_), .. } => Ok(()),
            Control::Commands { start: None, .. } => Err(Missing {
                what: "the plan does not say how the service starts".to_owned(),
                next: "write service.start or service.unit into the plan".to_owned(),
            }),
        }
    }
}
