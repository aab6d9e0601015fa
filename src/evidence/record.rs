//! The record itself. Fields are added, never renamed; readers ignore those they do not know.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::follow_up::FollowUp;
use super::measure::{Isolation, Measured, Objectives};
use super::step::{Check, Outcome, Step};
use super::verdict::{self, Cap, Verdict};
use crate::base::time::Timestamp;

/// The form of the record that this version writes.
pub const SCHEMA: &str = "lifeboat-evidence-1";

/// Everything that one run did, found and measured: the body of a logbook record of its [`Kind`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Lifeboat drill record, version 1")]
pub struct Evidence {
    /// Always `lifeboat-evidence-1`.
    pub schema: String,
    /// The run's own id, unique for all times.
    pub run_id: String,
    /// What was done.
    pub kind: Kind,
    /// The application's name in its plan.
    pub app: String,
    /// What was rehearsed, in a sentence.
    pub scenario: String,
    /// When it began.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub started: Timestamp,
    /// When it ended.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub finished: Timestamp,
    /// The program that did it.
    pub tool: Tool,
    /// Where it was done.
    pub host: Host,
    /// Who did it.
    pub operator: Operator,
    /// Who took part besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub participants: Vec<String>,
    /// Who allowed it beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approver: Option<String>,
    /// SHA-256 of the plan file, in hexadecimal.
    pub config_sha256: String,
    /// The snapshot; absent if none could be chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotFacts>,
    /// A rollback or a hotfix: the id of the snapshot that the application is afterwards, in hexadecimal. `snapshot` is
    /// the one before a hotfix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// What was asked for.
    pub objectives: Objectives,
    /// What was measured.
    pub measured: Measured,
    /// How the run was kept apart from production.
    pub isolation: Isolation,
    /// What was run.
    pub steps: Vec<Step>,
    /// What was looked at.
    pub checks: Vec<Check>,
    /// How the harness itself failed. Each of these makes what was observed worthless: production answered in the
    /// copy's place, the sandbox died, somebody interrupted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
    /// The ways in which the copy was broken on purpose, with what noticed each; empty unless asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub self_test: Vec<Sabotage>,
    /// What this run says nothing about. Never empty in a judged record.
    pub not_tested: Vec<String>,
    /// What it comes to.
    pub verdict: Verdict,
    /// Why it comes to that.
    pub reasons: Vec<String>,
    /// Why no better verdict was possible, whatever the checks found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<Cap>,
    /// Whether every objective that was set was met; absent if none was set or one could not be measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objectives_met: Option<bool>,
    /// What was done otherwise than planned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deviations: Vec<String>,
    /// Whether production was left alone; absent if it was not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub production: Option<Production>,
    /// Whether everything that the run made is gone.
    pub cleanup: Cleanup,
    /// What people said of it later. Never part of the stored record: whoever reads it from the logbook adds them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub follow_ups: Vec<FollowUp>,
    /// Where the logbook keeps it. Never part of the stored record, which cannot hold its own hash:
    /// whoever reads it from the logbook adds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
}

impl Evidence {
    /// A run of this kind that began then, in which nothing was done, seen or left over yet.
    pub fn begun(kind: Kind, started: Timestamp) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            run_id: String::new(),
            kind,
            app: String::new(),
            scenario: String::new(),
            started,
            finished: started,
            tool: Tool::default(),
            host: Host::default(),
            operator: Operator::default(),
            participants: Vec::new(),
            approver: None,
            config_sha256: String::new(),
            snapshot: None,
            after: None,
            objectives: Objectives::default(),
            measured: Measured::default(),
            isolation: Isolation::default(),
            steps: Vec::new(),
            checks: Vec::new(),
            faults: Vec::new(),
            self_test: Vec::new(),
            not_tested: Vec::new(),
            verdict: Verdict::Inconclusive,
            reasons: Vec::new(),
            cap: None,
            objectives_met: None,
            deviations: Vec::new(),
            production: None,
            cleanup: Cleanup::default(),
            follow_ups: Vec::new(),
            seal: None,
        }
    }

    /// The same record with the verdict that its facts give it.
    #[must_use]
    pub fn judged(mut self) -> Self {
        let judgement = verdict::judge(&self);
        self.not_tested = verdict::not_tested(&self);
        self.verdict = judgement.verdict;
        self.reasons = judgement.reasons;
        self.cap = judgement.cap;
        self.objectives_met = judgement.objectives_met;
        self
    }

    /// True if the application's server was started.
    pub fn has_server(&self) -> bool {
        self.measured.phases.iter().any(|phase| phase.name == verdict::SERVER)
    }

    /// True if nothing is missing for a pass but answers to questions: neither passed nor failed.
    pub fn is_open(&self) -> bool {
        self.kind == Kind::Runbook
            && self.verdict == Verdict::Inconclusive
            && self.faults.is_empty()
            && self.steps.iter().any(Step::is_open)
            && self
                .steps
                .iter()
                .all(|step| step.result == Outcome::Pass || step.is_open() || step.is_excused())
    }

    /// The verdict in words, as every form of the record shows it.
    pub fn headline(&self) -> &'static str {
        match (self.verdict, self.cap) {
            _ if self.is_open() => "OPEN",
            (verdict, None) => verdict.title(),
            (Verdict::Fail, Some(Cap::Unisolated)) => "FAILED (UNISOLATED)",
            (_, Some(Cap::Unisolated)) => "INCONCLUSIVE (UNISOLATED)",
        }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A practised recovery.
    #[default]
    Drill,
    /// The application brought back to a snapshot.
    Rollback,
    /// A guarded change.
    Hotfix,
    /// A procedure of the plan.
    Runbook,
}

impl Kind {
    /// The word in records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Drill => "drill",
            Self::Rollback => "rollback",
            Self::Hotfix => "hotfix",
            Self::Runbook => "runbook",
        }
    }
}

/// The program that did it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// Its version.
    pub version: String,
    /// SHA-256 of its executable file, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Where it was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// The host's name.
    pub hostname: String,
    /// SHA-256 of the machine's id, in hexadecimal: tells machines apart without naming them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id_hash: Option<String>,
    /// The kernel's release.
    pub kernel: String,
    /// The distribution.
    pub os: String,
}

/// Who did it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Operator {
    /// The user whose process it was.
    pub user: String,
    /// The user behind `sudo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo_user: Option<String>,
    /// In what capacity, such as `timer` or `on call`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// Which snapshot it was about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotFacts {
    /// Its id: the SHA-256 of its document, in hexadecimal.
    pub id: String,
    /// When it was taken.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub taken_at: Timestamp,
    /// When its databases were consistent, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub consistent_at: Option<Timestamp>,
    /// How many files it has.
    pub files: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// The hash over its whole content, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_hash: Option<String>,
    /// The repository's id.
    pub repository: String,
    /// Whether the last drill was about the same one, which makes this one say less.
    pub same_as_last_drill: bool,
}

/// One way in which the copy was broken on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sabotage {
    /// What was done.
    pub name: String,
    /// The checks and steps that went red; empty if it went unnoticed.
    pub noticed_by: Vec<String>,
}

/// What became of production meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Production {
    /// Whether it was healthy before; absent if nobody could tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_before: Option<bool>,
    /// Whether it was healthy after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_after: Option<bool>,
    /// Whether its files were the same before and after; absent if they were not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint_unchanged: Option<bool>,
}

/// What was left over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cleanup {
    /// Whether it was looked for and nothing was found.
    pub proved: bool,
    /// What was found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leftovers: Vec<String>,
}

/// Where the logbook keeps a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Seal {
    /// SHA-256 of the logbook record that holds this one, in hexadecimal.
    pub record: String,
    /// SHA-256 of the record before it in the same chain; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// Its writer: the first 16 digits of the hash of the public key file.
    pub writer: String,
    /// Its number in the writer's chain, from 1.
    pub sequence: u64,
}
