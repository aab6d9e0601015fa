//! What runs now, and whose it is.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::{Control, Service, unit};
use crate::base::name::{Name, shown};
use crate::base::time::Clock;
use crate::sys::process_facts::{age, belongs, command_line, listeners};
use crate::sys::process_tree::{Member, Stat, all, stat, with_descendants};

/// A process may be so much younger than the file with its PID, for clocks are not exact.
const SLACK: Duration = Duration::from_secs(5);

/// Whether a service runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It does.
    Running,
    /// It does not.
    Stopped,
    /// It cannot be told.
    Unknown {
        /// Why, safe for a terminal.
        why: String,
    },
}

/// What was seen of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Whether it runs.
    pub state: State,
    /// Its living processes, as far as they are known.
    pub members: Vec<Member>,
    /// The process that leads it, if one is known to.
    pub main: Option<i32>,
}

impl Sight {
    /// True if it runs for certain.
    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// The PIDs of its processes, in order.
    pub fn pids(&self) -> Vec<i32> {
        let mut pids: Vec<i32> = self.members.iter().map(|member| member.pid).collect();
        pids.sort_unstable();
        pids
    }
}

// What a PID file says.
enum Named {
    Process(Member),
    Nobody,
    Doubt(String),
}

impl Service {
    /// Looks what runs now.
    pub fn state(&self) -> Sight {
        match &self.control {
            Control::Unit(name) => unit::look(name),
            Control::Commands { pidfile, .. } => self.look(pidfile.as_deref()),
        }
    }

    fn look(&self, pidfile: Option<&Path>) -> Sight {
        let all = all();
        // processes say where they are by the path without links
        let root = fs::canonicalize(&self.root).unwrap_or_else(|_| self.root.clone());
        let mut seeds = self.remembered(&all);
        let (mut main, mut doubt) = (None, None);
        match pidfile.map(|path| named(path, &root, &seeds)) {
            Some(Named::Process(member)) => {
                main = Some(member.pid);
                seeds.push(member);
            }
            Some(Named::Doubt(why)) => doubt = Some(why),
            Some(Named::Nobody) | None => {}
        }
        let listening = listeners(&all, &self.ports);
        let (ours, others): (Vec<Member>, Vec<Member>) =
            listening.into_iter().partition(|member| belongs(member.pid, &root, false) == Some(true));
        seeds.extend(ours);
        let members = with_descendants(&all, seeds.iter().map(|member| member.pid).collect());
        let state = match (members.is_empty(), doubt) {
            (false, _) => State::Running,
            (true, Some(why)) => State::Unknown { why },
            (true, None) if pidfile.is_some() || self.was_started() => State::Stopped,
            (true, None) => self.by_elimination(&all, &root, &others),
        };
        Sight { state, members, main }
    }

    // Nothing says which processes would be its own: it is stopped if nothing could be it.
    fn by_elimination(&self, all: &[Stat], root: &Path, others: &[Member]) -> State {
        if let Some(other) = others.first() {
            let why = format!("{} listens on its port and shows no sign of being its own", words(other.pid));
            return State::Unknown { why };
        }
        // with a port in its checks it would listen there
        let own = std::process::id() as i32;
        let works = |one: &&Stat| {
            one.member.pid != own && !one.is_dead() && belongs(one.member.pid, root, false) == Some(true)
        };
        match all.iter().filter(|_| self.ports.is_empty()).find(works) {
            Some(one) => State::Unknown {
                why: format!(
                    "{} works in its tree, and nothing says whether it is the service",
                    words(one.member.pid)
                ),
            },
            None => State::Stopped,
        }
    }
}

// Whom a PID file means. A number alone proves nothing: it may be old, and given to somebody else since.
fn named(path: &Path, root: &Path, known: &[Member]) -> Named {
    let file = Name::from(path.as_os_str()).shown();
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Named::Nobody,
        Err(error) => return Named::Doubt(format!("{file} cannot be read: {error}")),
    };
    let pid = str::from_utf8(&text).ok().and_then(|text| text.split_whitespace().next()?.parse::<i32>().ok());
    // an empty file is one that is being written, or was left so
    let Some(pid) = pid.filter(|&pid| pid > 0) else { return Named::Nobody };
    let Some(found) = stat(pid).filter(|found| !found.is_dead()) else { return Named::Nobody };
    if known.contains(&found.member) {
        return Named::Process(found.member);
    }
    let written = fs::metadata(path).and_then(|data| data.modified()).ok();
    let written = written.map(|time| Clock::System.now().since(crate::base::time::Timestamp(time.into())));
    if written.is_some_and(|ago| ago > age(found.member) + SLACK) {
        // it began after the file was written
        return Named::Nobody;
    }
    match belongs(pid, root, true) {
        Some(true) => Named::Process(found.member),
        Some(false) => {
            Named::Doubt(format!("{file} names {}, which shows no sign of being the service", words(pid)))
        }
        None => Named::Doubt(format!("{file} names {}, which may not be looked at", words(pid))),
    }
}

/// A process in words, safe for a terminal.
pub(super) fn words(pid: i32) -> String {
    let line = command_line(pid);
    let cut = &line[..line.len().min(80)];
    if cut.is_empty() { format!("process {pid}") } else { format!("process {pid} ({})", shown(cut)) }
}
