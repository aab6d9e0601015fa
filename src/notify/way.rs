//! The ways of a plan.

use std::fs::File;
use std::io::Read as _;

use reqwest::Url;

use crate::base::Name;
use crate::base::name::shown;
use crate::check::value::CommandLine;
use crate::plan::{Notify, NotifyFormat, NotifyOn, Plan};

/// A file with a URL is not larger.
const LARGEST: u64 = 16 << 10;

/// Where something is told.
#[derive(Clone, Debug)]
pub enum Target {
    /// Posted there.
    Webhook(Url),
    /// Asked for, as healthchecks have it.
    Ping(Url),
    /// Read by a command on stdin.
    Command(CommandLine),
    /// Nowhere: the plan or a file says it wrongly.
    Wrong(String),
}

/// One way of telling.
#[derive(Clone, Debug)]
pub struct Way {
    /// What it is called where people see it. No secret: of a URL it has the host.
    pub label: String,
    /// Where.
    pub target: Target,
    /// In which form.
    pub format: NotifyFormat,
    /// What is told; empty as the plan has it.
    pub on: Vec<NotifyOn>,
    operations: Vec<String>,
}

impl Way {
    /// Whether an operation is told of by this way at all: `run weekly` is meant by itself and by `run`.
    pub fn is_of(&self, operation: &str, is_step: bool) -> bool {
        let word = operation.split(' ').next().unwrap_or_default();
        let is_named = self.operations.iter().any(|name| name == operation || name == word);
        is_named || self.operations.is_empty() && !is_step
    }

    /// Whether it is told of this.
    pub fn wants(&self, what: NotifyOn) -> bool {
        match (&self.target, &self.on[..]) {
            (Target::Ping(_), []) => true,
            (_, []) => what != NotifyOn::Start,
            // the end of a failure belongs to the failure
            (Target::Webhook(_) | Target::Command(_) | Target::Wrong(_), on)
                if what == NotifyOn::Success && on.contains(&NotifyOn::Failure) =>
            {
                true
            }
            (_, on) => on.contains(&what),
        }
    }
}

/// What the ways of a plan are called, in its order.
pub fn labels(plan: &Plan) -> Vec<String> {
    ways(plan).into_iter().map(|way| way.label).collect()
}

/// The ways of a plan, in its order.
pub fn ways(plan: &Plan) -> Vec<Way> {
    let mut found = Vec::new();
    for (at, one) in plan.notify.iter().enumerate() {
        for (word, target) in targets(one, plan) {
            let place = match &target {
                Target::Webhook(url) | Target::Ping(url) => {
                    format!(" {}", url.host_str().unwrap_or_default())
                }
                _ => String::new(),
            };
            found.push(Way {
                label: format!("notify[{at}] {word}{place}"),
                target,
                format: one.format,
                on: one.on.clone(),
                operations: one.operations.clone(),
            });
        }
    }
    found
}

fn targets(one: &Notify, plan: &Plan) -> Vec<(&'static str, Target)> {
    let mut found = Vec::new();
    if let Some(text) = &one.webhook {
        found.push(("webhook", url(text).map_or_else(Target::Wrong, Target::Webhook)));
    }
    if let Some(file) = &one.webhook_file {
        let target = read(plan, file).and_then(|text| url(&text));
        found.push(("webhook_file", target.map_or_else(Target::Wrong, Target::Webhook)));
    }
    if let Some(text) = &one.ping {
        found.push(("ping", url(text).map_or_else(Target::Wrong, Target::Ping)));
    }
    if let Some(line) = &one.command {
        found.push(("command", Target::Command(line.clone())));
    }
    found
}

fn read(plan: &Plan, file: &str) -> Result<String, String> {
    let path = plan.path(file);
    let shown = Name::from(path.as_os_str()).shown();
    let mut text = String::new();
    File::open(&path)
        .and_then(|file| file.take(LARGEST).read_to_string(&mut text))
        .map_err(|error| format!("{shown} cannot be read: {error}"))?;
    Ok(text.trim().to_owned())
}

// The error does not hold the text, which may be a secret.
fn url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("it is not a URL: {error}"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        other => Err(format!("it is not a URL of http or https but of {}", shown(other.as_bytes()))),
    }
}

/// Everything of the ways of a plan that must not be seen: whole URLs, and what is in their paths.
pub fn secrets(plan: &Plan) -> Vec<String> {
    let mut found = Vec::new();
    for way in ways(plan) {
        if let Target::Webhook(url) | Target::Ping(url) = &way.target {
            found.push(url.as_str().to_owned());
            let tail = format!("{}{}", url.path(), url.query().map(|q| format!("?{q}")).unwrap_or_default());
            // a short path says nothing
            found.extend(Some(tail.trim_matches('/').to_owned()).filter(|tail| tail.len() >= 8));
        }
    }
    found
}

/// True if a URL leads to this host.
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn labels_have_no_secret_and_ways_know_what_they_are_told() {
        let text = "[runbook.weekly]\nsteps = [\"health\"]\n[[notify]]\nwebhook = \"https://hooks.example.org/T0/sekret\"\n\
                    ping = \"http://localhost:1/abcdef-uuid?x=1\"\n[[notify]]\ncommand = \"cat\"\noperations = [\"run weekly\"]\n\
                    on = [\"failure\"]\n[[notify]]\nwebhook_file = \"nowhere\"\noperations = [\"snapshot\"]\non = [\"success\"]\n";
        let plan = Plan::parse(text, Path::new("/srv/lifeboat.toml")).unwrap();
        let found = ways(&plan);
        let labels: Vec<&str> = found.iter().map(|way| way.label.as_str()).collect();
        assert_eq!(
            labels,
            [
                "notify[0] webhook hooks.example.org",
                "notify[0] ping localhost",
                "notify[1] command",
                "notify[2] webhook_file"
            ]
        );
        let [hook, ping, command, file] = &found[..] else { panic!() };
        assert!(matches!(&file.target, Target::Wrong(why) if why.contains("/srv/nowhere cannot be read")));
        assert!(hook.is_of("snapshot", false) && !hook.is_of("snapshot", true));
        assert!(command.is_of("run weekly", false) && !command.is_of("run daily", false));
        assert!(file.is_of("snapshot", true) && !file.is_of("run weekly", false));
        assert!(ping.wants(NotifyOn::Start) && !hook.wants(NotifyOn::Start));
        // the end of a failure is told to whoever was told of the failure
        assert!(command.wants(NotifyOn::Success) && !file.wants(NotifyOn::Failure));
        let secrets = secrets(&plan);
        assert!(secrets.contains(&"T0/sekret".to_owned()) && secrets.contains(&"abcdef-uuid?x=1".to_owned()));
    }
}
