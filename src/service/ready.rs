//! When a service counts as up: its checks passed so often in a row. A service that dies after its first answer is not
//! ready. Drills and starts wait by the same rule.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;

use reqwest::Url;

use crate::check::{Check, Kind, Outcome, PortName, Verdict};
use crate::plan::Plan;

/// Between two looks whether it is ready.
const PAUSE: Duration = Duration::from_millis(50);

/// The checks of these names; the required checks of HTTP and ports if there is none.
pub fn checks<'p>(plan: &'p Plan, names: &[String]) -> Vec<&'p Check> {
    if names.is_empty() {
        // that nobody answers is true before it starts as well
        let asks = |check: &&Check| match &check.kind {
            Kind::Http(_) => true,
            Kind::Port(port) => !port.closed,
            _ => false,
        };
        return plan.check.iter().filter(|check| check.common.required).filter(asks).collect();
    }
    names.iter().filter_map(|name| plan.check_named(name)).collect()
}

/// Why it was not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// It ended before.
    Ended(String),
    /// The time was over; what the last check that did not pass said.
    Late(String),
    /// Somebody wanted an end.
    Interrupted,
}

/// How one waits.
pub struct Wait<'a> {
    /// The checks that must pass.
    pub checks: &'a [Check],
    /// How often in a row.
    pub count: u32,
    /// Runs one of them.
    pub look: &'a mut dyn FnMut(&Check) -> Verdict,
    /// Says why there is nothing to wait for any more.
    pub ended: &'a mut dyn FnMut() -> Option<String>,
    /// True when the time is over.
    pub late: &'a mut dyn FnMut() -> bool,
    /// True when somebody wants an end.
    pub interrupted: &'a dyn Fn() -> bool,
}

/// Waits until it is ready.
///
/// # Errors
/// Why it was not.
pub fn wait(how: Wait<'_>) -> Result<(), NotReady> {
    // the waiting is the trying again
    let once = |check: &Check| {
        let mut check = check.clone();
        check.common.retries = 0;
        check
    };
    let checks: Vec<Check> = how.checks.iter().map(once).collect();
    let (mut row, mut last) = (0, String::new());
    loop {
        if (how.interrupted)() {
            return Err(NotReady::Interrupted);
        }
        if let Some(why) = (how.ended)() {
            return Err(NotReady::Ended(why));
        }
        let bad = checks.iter().map(&mut *how.look).find(|verdict| verdict.outcome != Outcome::Pass);
        match bad {
            None => row += 1,
            Some(verdict) => (row, last) = (0, format!("{}: {}", verdict.name, verdict.reason)),
        }
        if row >= how.count.max(1) {
            return Ok(());
        }
        if (how.late)() {
            return Err(NotReady::Late(last));
        }
        sleep(PAUSE);
    }
}

/// The ports of this host that the checks ask.
pub(super) fn ports(checks: &[Check]) -> Vec<u16> {
    checks.iter().filter_map(port).collect()
}

/// The port of this host that a check asks; `None` if it asks something else, or somebody else.
pub fn port(check: &Check) -> Option<u16> {
    let local = |host: &str| {
        let host = host.trim_matches(['[', ']']);
        host == "localhost"
            || host.parse().is_ok_and(|address: IpAddr| address.is_loopback() || address.is_unspecified())
    };
    match &check.kind {
        Kind::Http(http) => {
            let url = Url::parse(&http.http).ok()?;
            url.host_str().filter(|host| local(host))?;
            url.port_or_known_default()
        }
        Kind::Port(port) if port.closed => None,
        Kind::Port(port) => match &port.port {
            PortName::Number(number) => local(&port.host).then_some(*number),
            PortName::Text(text) => {
                let (host, number) = text.rsplit_once(':')?;
                if local(host) { number.parse().ok() } else { None }
            }
        },
        _ => None,
    }
}
