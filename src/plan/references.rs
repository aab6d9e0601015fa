//! What the types of a plan cannot say: names that must lead somewhere, keys that go together.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use regex::Regex;

use super::calendar::Calendar;
use super::load::{Problem, nearest};
use super::step::{Operation, Step};
use super::types::{Database, DatabaseKind, Plan, Runbook};
use crate::base::name::shown;
use crate::check::judge;

/// Operations that people are told of.
pub const TOLD: &[&str] = &[
    "snapshot",
    "verify",
    "drill",
    "rollback",
    "hotfix",
    "run",
    "maintenance",
    "prune",
    "health",
    "rotate",
    "security",
    "notify",
];

/// Everything that is wrong, in the order of the file.
pub fn problems(plan: &Plan) -> Vec<Problem> {
    let mut all = Problems { plan, found: Vec::new() };
    all.names();
    all.checks();
    all.ready();
    all.databases();
    all.service();
    all.sandbox();
    all.steps();
    all.rest();
    all.found.sort_by_key(|problem| problem.place.map(|place| (place.line, place.column)));
    all.found
}

struct Problems<'p> {
    plan: &'p Plan,
    found: Vec<Problem>,
}

impl Problems<'_> {
    fn add(&mut self, path: &str, message: impl Into<String>, hint: Option<String>) {
        // of a table that is wrong as a whole, its first line
        let place = self.plan.place(path).or_else(|| {
            let parent = path.rsplit_once('.').map(|(parent, _)| parent)?;
            self.plan.place(parent)
        });
        self.found.push(Problem { place, message: message.into(), hint });
    }

    fn names(&mut self) {
        let mut seen = BTreeSet::new();
        for (i, check) in self.plan.check.iter().enumerate() {
            if !seen.insert(check.name()) {
                let message = format!("a second check is called {}", shown(check.name().as_bytes()));
                self.add(&format!("check[{i}].name"), message, Some("give each its own name".to_owned()));
            }
        }
        if self.plan.app.root.is_empty() {
            self.add(
                "app.root",
                "the root is an empty path",
                Some("write \".\" for the plan's directory".to_owned()),
            );
        }
        if self.plan.repository.location.as_deref() == Some("") {
            self.add("repository.location", "the location is empty", Some("leave the key out".to_owned()));
        }
    }

    fn checks(&mut self) {
        for (i, check) in self.plan.check.iter().enumerate() {
            for (key, message) in judge::problems(check) {
                let path = format!("check[{i}].{key}");
                let path = if self.plan.place(&path).is_some() { path } else { format!("check[{i}]") };
                self.add(&path, message, None);
            }
        }
    }

    fn reference(&mut self, path: &str, name: &str) {
        if self.plan.check_named(name).is_some() {
            return;
        }
        let names: Vec<String> = self.plan.check.iter().map(|check| check.name().to_owned()).collect();
        let hint = match nearest(name, names.iter().map(String::as_str)) {
            Some(near) => format!("{} is meant?", shown(near.as_bytes())),
            None if names.is_empty() => "the plan has no [[check]]".to_owned(),
            None => format!("use one of {}", shown(names.join(", ").as_bytes())),
        };
        self.add(path, format!("there is no check called {}", shown(name.as_bytes())), Some(hint));
    }

    fn references(&mut self, path: &str, names: &[String]) {
        for (i, name) in names.iter().enumerate() {
            self.reference(&format!("{path}[{i}]"), name);
        }
    }

    fn ready(&mut self) {
        let plan = self.plan;
        if let Some(service) = &plan.service {
            self.references("service.ready", &service.ready);
        }
        self.references("drill.ready", &plan.drill.ready);
        self.references("drill.checks", plan.drill.checks.as_deref().unwrap_or_default());
        self.references("hotfix.checks", plan.hotfix.checks.as_deref().unwrap_or_default());
        let counts = [
            ("drill.ready_count", plan.drill.ready_count),
            ("hotfix.failure_limit", plan.hotfix.failure_limit),
            ("service.ready_count", plan.service.as_ref().map_or(1, |service| service.ready_count)),
        ];
        for (path, _) in counts.into_iter().filter(|(_, count)| *count == 0) {
            self.add(path, "must be at least 1", None);
        }
        if plan.hotfix.interval.0.is_zero() {
            self.add("hotfix.interval", "must be longer than nothing", None);
        }
    }

    fn databases(&mut self) {
        for (i, database) in self.plan.database.iter().enumerate() {
            for (key, message) in database_problems(database) {
                self.add(&format!("database[{i}].{key}"), message, None);
            }
        }
    }

    fn service(&mut self) {
        let Some(service) = &self.plan.service else { return };
        if service.unit.is_some() && (service.start.is_some() || service.stop.is_some()) {
            let hint = Some("leave out unit, or start and stop".to_owned());
            self.add("service.unit", "unit and start or stop exclude each other", hint);
        }
        if service.unit.is_none()
            && service.start.is_none()
            && service.stop.is_none()
            && service.pidfile.is_none()
        {
            let hint = Some("give it start and stop, or unit".to_owned());
            self.add("service", "the service says neither how it starts nor how it stops", hint);
        }
    }

    // What would take the copy away from its own tests, or give them the whole system.
    fn sandbox(&mut self) {
        let plan = self.plan;
        let root = plan.root();
        let lists = [("writable", &plan.drill.writable), ("hide", &plan.drill.hide)];
        for (key, list) in lists {
            for (i, path) in list.iter().enumerate() {
                let named = shown(path.as_bytes());
                let is_plain = !Path::new(path).components().any(|part| part == Component::ParentDir);
                let problem = match Path::new(path) {
                    path if !path.is_absolute() || !is_plain => {
                        Some((format!("{named} is no absolute path"), "begin it with / and leave out .."))
                    }
                    path if key == "writable" && path == Path::new("/") => Some((
                        "the whole system cannot be writable".to_owned(),
                        "name the directories that the application writes to; its own tree is writable anyway",
                    )),
                    path if key == "writable" && path == root => Some((
                        format!("{named} is the application's tree, which is writable anyway"),
                        "leave it out: a writable path starts empty, and the copy would not be there",
                    )),
                    path if key == "hide" && root.starts_with(path) => Some((
                        format!("{named} holds the application's tree, so the copy would be hidden too"),
                        "name what lies beside the tree, not above it",
                    )),
                    _ => None,
                };
                if let Some((message, hint)) = problem {
                    self.add(&format!("drill.{key}[{i}]"), message, Some(hint.to_owned()));
                }
            }
        }
    }

    fn steps(&mut self) {
        let plan = self.plan;
        for (name, runbook) in &plan.runbook {
            self.step_list(&format!("runbook.{name}.steps"), &runbook.steps);
            self.runbook(name, runbook);
        }
        self.step_list("maintenance.begin", &plan.maintenance.begin);
        self.step_list("maintenance.end", &plan.maintenance.end);
    }

    fn runbook(&mut self, name: &str, runbook: &Runbook) {
        let path = format!("runbook.{name}");
        if runbook.steps.is_empty() {
            let hint = Some("give it steps = [\"health\"], or leave it out".to_owned());
            self.add(&path, "the runbook has no steps", hint);
        }
        if let Some(Err(why)) = runbook.schedule.as_deref().map(str::parse::<Calendar>) {
            self.add(&format!("{path}.schedule"), shown(why.as_bytes()), None);
        }
        if runbook.every.is_some_and(|every| every.0.is_zero()) {
            self.add(&format!("{path}.every"), "must be longer than nothing", None);
        }
        if let Some(way) = self.way_back(name) {
            let way = way.iter().map(|name| shown(name.as_bytes())).collect::<Vec<_>>().join(", then ");
            self.add(&format!("{path}.steps"), format!("the runbook comes to itself: {way}"), None);
        }
    }

    // The runbooks that lead from this one to itself, if they do.
    fn way_back(&self, name: &str) -> Option<Vec<&str>> {
        let plan = self.plan;
        let next = |name: &str| {
            let steps = plan.runbook.get(name).map_or(&[][..], |runbook| &runbook.steps);
            steps.iter().filter_map(|step| match &step.operation {
                Operation::Lifeboat(words) if words[0] == "run" => words.get(1).map(String::as_str),
                _ => None,
            })
        };
        let mut seen = BTreeSet::new();
        let mut ways: Vec<Vec<&str>> = next(name).map(|first| vec![first]).collect();
        while let Some(way) = ways.pop() {
            let last = *way.last()?;
            if last == name {
                return Some(way);
            }
            if seen.insert(last) {
                ways.extend(next(last).map(|one| way.iter().copied().chain([one]).collect()));
            }
        }
        None
    }

    fn step_list(&mut self, path: &str, steps: &[Step]) {
        for (i, step) in steps.iter().enumerate() {
            let path = format!("{path}[{i}]");
            if let Some(pattern) = &step.stdout
                && let Err(message) = regex_problem(pattern)
            {
                self.add(&path, message, None);
            }
            let Operation::Lifeboat(words) = &step.operation else { continue };
            let argument = words.get(1).map(String::as_str).filter(|word| !word.starts_with('-'));
            match (words[0].as_str(), argument) {
                ("check", Some(name)) => self.reference(&path, name),
                ("check", None) => {
                    self.add(&path, "check needs the name of a check", Some("health runs all".to_owned()))
                }
                ("run", None) => {
                    let hint = Some("write run NAME".to_owned());
                    self.add(&path, "run needs the name of a runbook, and no options, in a step", hint);
                }
                ("run", Some(_)) if words.len() > 2 => {
                    self.add(&path, "run takes nothing after the name of a runbook in a step", None);
                }
                ("run", Some(name)) if !self.plan.runbook.contains_key(name) => {
                    let hint = nearest(name, self.plan.runbook.keys().map(String::as_str))
                        .map(|n| format!("{n} is meant?"));
                    self.add(&path, format!("there is no runbook called {}", shown(name.as_bytes())), hint);
                }
                _ => {}
            }
        }
    }

    fn rest(&mut self) {
        let plan = self.plan;
        for (i, pattern) in plan.security.secrets.iter().enumerate() {
            if let Err(message) = regex_problem(pattern) {
                self.add(&format!("security.secrets[{i}]"), message, None);
            }
        }
        for (i, one) in plan.notify.iter().enumerate() {
            let ways = [
                one.webhook.is_some(),
                one.webhook_file.is_some(),
                one.ping.is_some(),
                one.command.is_some(),
            ];
            for (j, operation) in one.operations.iter().enumerate() {
                if !is_told(plan, operation) {
                    let message = format!("{} is no operation that is told of", shown(operation.as_bytes()));
                    let hint = Some(format!("use any of {}, or \"run NAME\" of a runbook", TOLD.join(", ")));
                    self.add(&format!("notify[{i}].operations[{j}]"), message, hint);
                }
            }
            if ways == [false; 4] {
                let hint = Some("give it webhook, webhook_file, ping or command".to_owned());
                self.add(&format!("notify[{i}]"), "it does not say how to tell anybody", hint);
            }
        }
        for (name, _) in plan.drill.environment.iter().filter(|(name, _)| !is_variable(name)) {
            let message = format!("{} is not the name of a variable", shown(name.as_bytes()));
            self.add(&format!("drill.environment.{name}"), message, None);
        }
    }
}

fn is_told(plan: &Plan, operation: &str) -> bool {
    let runbook = |name: &str| plan.runbook.contains_key(name);
    TOLD.contains(&operation) || operation.strip_prefix("run ").is_some_and(runbook)
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

fn regex_problem(pattern: &str) -> Result<(), String> {
    Regex::new(pattern)
        .map(drop)
        .map_err(|_| format!("{} is not a regular expression", shown(pattern.as_bytes())))
}

fn database_problems(database: &Database) -> Vec<(&'static str, String)> {
    let given = [
        ("path", database.path.is_some()),
        ("database", database.database.is_some()),
        ("host", database.host.is_some()),
        ("port", database.port.is_some()),
        ("user", database.user.is_some()),
        ("password_file", database.password_file.is_some()),
        ("dump", database.dump.is_some()),
        ("restore", database.restore.is_some()),
    ];
    let (word, needed, allowed): (_, &[&str], &[&str]) = match database.kind {
        DatabaseKind::Sqlite => ("sqlite", &["path"], &["path"]),
        DatabaseKind::Postgres => {
            ("postgres", &["database"], &["database", "host", "port", "user", "password_file"])
        }
        DatabaseKind::Mysql => {
            ("mysql", &["database"], &["database", "host", "port", "user", "password_file"])
        }
        DatabaseKind::Command => ("command", &["dump", "restore"], &["dump", "restore"]),
    };
    let strange = given.iter().filter(|(key, is_given)| *is_given && !allowed.contains(key));
    let strange = strange.map(|(key, _)| (*key, format!("a database of kind {word} has no {key}")));
    let missing = given.iter().filter(|(key, is_given)| !is_given && needed.contains(key));
    let missing = missing.map(|(key, _)| (*key, format!("a database of kind {word} needs {key}")));
    strange.chain(missing).collect()
}
