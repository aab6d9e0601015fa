//! Runbooks by the real program: each kind of step, each thing that a failure does, people, times, locks, records.

mod maintenance;
pub mod sample;
mod schedule;
mod steps;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::env::{Done, TestEnv, run};

/// An application of one file, with a plan beside it.
pub struct App<'e> {
    pub env: &'e TestEnv,
    pub dir: PathBuf,
}

impl<'e> App<'e> {
    pub fn new(env: &'e TestEnv, plan: &str) -> Self {
        let dir = env.path("app");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("data.txt"), "42 rows\n").unwrap();
        let app = Self { env, dir };
        app.plan(plan);
        app
    }

    /// Writes another plan.
    pub fn plan(&self, plan: &str) {
        let text = format!(
            "[app]\nname = \"small\"\n[[check]]\nname = \"rows\"\ncommand = \"grep -q '42 rows' data.txt\"\n{plan}\n"
        );
        fs::write(self.dir.join("lifeboat.toml"), text).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.env.command(args);
        command.current_dir(&self.dir);
        command
    }

    #[track_caller]
    pub fn lifeboat(&self, args: &[&str]) -> Done {
        let done = run(&mut self.command(args));
        assert!(done.code != 101 && !done.stderr.contains("panicked"), "{}", done.stderr);
        done
    }

    /// Runs with `--json`; the record, which is the last line, and the exit status.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> (Value, i32) {
        let mut all = args.to_vec();
        all.push("--json");
        let done = self.lifeboat(&all);
        let last = done.stdout.lines().last().unwrap_or_default();
        let value =
            serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {}{}", done.stdout, done.stderr));
        (value, done.code)
    }

    /// What the logbook has of runbooks, oldest first.
    #[track_caller]
    pub fn records(&self) -> Vec<Value> {
        let (log, _) = self.json(&["log", "show", "--kind", "runbook"]);
        log["records"].as_array().unwrap().iter().map(|record| record["body"].clone()).collect()
    }
}

/// A step of a record: how it came out, and why.
#[track_caller]
pub fn step<'v>(record: &'v Value, name: &str) -> (&'v str, &'v str) {
    let steps = record["steps"].as_array().unwrap();
    let found = steps.iter().find(|step| step["name"] == name);
    let found = found.unwrap_or_else(|| panic!("there is no step {name} in {record:#}"));
    (found["result"].as_str().unwrap(), found["reason"].as_str().unwrap_or_default())
}

/// What a step of a record printed.
#[track_caller]
pub fn output<'v>(record: &'v Value, name: &str) -> &'v str {
    let steps = record["steps"].as_array().unwrap();
    let found = steps.iter().find(|step| step["name"] == name).unwrap();
    found["output"]["text"].as_str().unwrap_or_default()
}
