//! What the logbook and the documents said, kept between two looks so that only what is new is read.
//!
//! It lies in the application's state, which is as trustworthy as the host is. Nothing in it is needed: without it, or
//! where the logbook is not as it was, everything is read again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::clock::Seen;
use super::facts::SnapshotFact;
use crate::base::id::{PackId, RecordId, SnapshotId};
use crate::base::time::Timestamp;
use crate::evidence::logged::{FOLLOW_UP, run_in};
use crate::evidence::{Evidence, Kind, Seconds, Verdict};
use crate::format::record::Record;
use crate::logbook::{Followed, Logbook, Logged, Progress};
use crate::runbook::due::{INTERRUPTED, Ran, name_of};
use crate::store::Key;
use crate::verify::Depth;

/// Of a procedure, a rollback or a guarded change so many runs are kept; of drills all, for the plot.
const KEPT: usize = 50;

/// What was read so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// The repository's id.
    pub(super) repository: String,
    /// How far in the logbook.
    pub(super) progress: Option<Progress>,
    /// How many records there are.
    pub records: u64,
    /// The time of the oldest record.
    pub oldest: Option<Timestamp>,
    /// The time of the last record of each chain, with its number: a clock that was right again is believed.
    pub ends: BTreeMap<String, (u64, Timestamp)>,
    /// Runs, oldest first.
    pub runs: Vec<Run>,
    /// Verifications and what they proved.
    pub verification: Verification,
    // what people said to be done, as it is written
    pub(super) said: Vec<Spoken>,
    /// Documents by id: their size and time in the listing, and what they say.
    pub(super) documents: BTreeMap<SnapshotId, Known>,
    /// The clocks at the first look.
    pub(super) seen: Option<Seen>,
    /// What the packs were compared with their index by, and what was found lost.
    pub(super) stock: Option<(String, Option<String>)>,
}

/// A document that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    pub bytes: u64,
    pub modified: u128,
    pub fact: SnapshotFact,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Spoken {
    id: RecordId,
    record: Record,
}

/// What is kept of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub run_id: String,
    /// What was done.
    pub kind: Kind,
    /// The application's name.
    pub app: String,
    /// What was rehearsed or followed.
    pub scenario: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// What it came to.
    pub verdict: Verdict,
    /// The same in words.
    pub headline: String,
    /// The first reason for that.
    pub reason: String,
    /// Drills: the measured recovery time.
    pub recovery: Option<Seconds>,
    /// The objective of that time.
    pub rto: Option<Seconds>,
    /// The snapshot.
    pub snapshot: Option<String>,
    /// SHA-256 of the plan's file.
    pub config_sha256: String,
    /// True if it was broken off.
    pub interrupted: bool,
}

impl Ran for Run {
    fn runbook(&self) -> Option<&str> {
        name_of(self.kind, &self.scenario)
    }

    fn started(&self) -> Timestamp {
        self.started
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted
    }
}

impl From<&Evidence> for Run {
    fn from(run: &Evidence) -> Self {
        Self {
            run_id: run.run_id.clone(),
            kind: run.kind,
            app: run.app.clone(),
            scenario: run.scenario.clone(),
            started: run.started,
            finished: run.finished,
            verdict: run.verdict,
            headline: run.headline().to_lowercase(),
            reason: run.reasons.first().cloned().unwrap_or_default(),
            recovery: run.measured.recovery_s,
            rto: run.objectives.rto_s,
            snapshot: run.snapshot.as_ref().map(|snapshot| snapshot.id.clone()),
            config_sha256: run.config_sha256.clone(),
            interrupted: run.faults.iter().any(|fault| fault == INTERRUPTED),
        }
    }
}

/// That something was proved, or found otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// When its bytes were found right last.
    pub right: Option<Timestamp>,
    /// When they were found wrong last.
    pub wrong: Option<Timestamp>,
}

impl Proof {
    /// True if it was found wrong, and not right since.
    pub fn is_broken(&self) -> bool {
        self.wrong.is_some() && self.wrong >= self.right
    }
}

/// Verifications and what they proved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// The newest of the whole repository that found nothing, and how closely it looked.
    pub clean: Option<(Timestamp, String)>,
    /// The newest that found something which is in no pack, and how many problems.
    pub unclean: Option<(Timestamp, u64)>,
    /// Each pack.
    pub packs: BTreeMap<PackId, Proof>,
}

impl Memory {
    /// What is remembered of this repository; nothing if it is of another.
    pub(super) fn of(remembered: Option<Self>, repository: &str) -> Self {
        let usable = remembered.filter(|memory| memory.repository == repository);
        usable.unwrap_or_else(|| Self { repository: repository.to_owned(), ..Self::default() })
    }

    /// Takes in what the logbook says.
    pub(super) fn take(&mut self, followed: &Followed) {
        if followed.is_whole {
            // only what was read of the logbook is read anew
            let (repository, documents) =
                (std::mem::take(&mut self.repository), std::mem::take(&mut self.documents));
            let (seen, stock) = (self.seen.take(), self.stock.take());
            *self = Self { repository, documents, seen, stock, ..Self::default() };
        }
        let mut new: Vec<(&Logged, &Record)> = followed.logbook.trusted().collect();
        new.sort_by_key(|(_, record)| (record.at, record.sequence));
        for (logged, record) in new {
            self.add(logged.id, record);
        }
        self.runs.sort_by_key(|run| (run.started, run.finished));
        self.thin();
        self.records = followed.count;
        self.progress.clone_from(&followed.progress);
    }

    fn add(&mut self, id: RecordId, record: &Record) {
        self.oldest = Some(self.oldest.map_or(record.at, |oldest| oldest.min(record.at)));
        let end = self.ends.entry(record.writer.clone()).or_insert((record.sequence, record.at));
        if record.sequence >= end.0 {
            *end = (record.sequence, record.at);
        }
        if record.kind == "verify" {
            self.verification.add(record);
        } else if record.kind == FOLLOW_UP {
            let has = |list: &str| record.body.get(list).is_some_and(|list| !list.is_null());
            if has("actions") || has("closed") {
                self.said.push(Spoken { id, record: record.clone() });
            }
        } else if let Some(run) = run_in(&record.kind, &record.body) {
            self.runs.push(Run::from(&run));
        }
    }

    // Keeps the newest of each scenario, and every drill.
    fn thin(&mut self) {
        let mut counts: BTreeMap<(String, String, &str), usize> = BTreeMap::new();
        let mut kept: Vec<Run> = Vec::with_capacity(self.runs.len());
        for run in std::mem::take(&mut self.runs).into_iter().rev() {
            let count = counts.entry((run.app.clone(), run.scenario.clone(), run.kind.word())).or_default();
            *count += 1;
            if run.kind == Kind::Drill || *count <= KEPT {
                kept.push(run);
            }
        }
        kept.reverse();
        self.runs = kept;
    }

    /// The newest time at which a chain ends.
    pub fn newest(&self) -> Option<Timestamp> {
        self.ends.values().map(|end| end.1).max()
    }

    /// What people said to be done, as a logbook of nothing else.
    pub(super) fn spoken(&self) -> Logbook {
        let logged = |spoken: &Spoken| {
            let record = &spoken.record;
            Logged {
                key: Key::record(&record.writer, record.sequence, spoken.id),
                writer: record.writer.clone(),
                sequence: record.sequence,
                id: spoken.id,
                record: Some(record.clone()),
                fault: None,
            }
        };
        Logbook { records: self.said.iter().map(logged).collect(), ..Logbook::default() }
    }

    /// The drills of this application, oldest first; of every one without a name.
    pub fn drills<'m>(&'m self, app: Option<&'m str>) -> impl DoubleEndedIterator<Item = &'m Run> {
        self.runs.iter().filter(move |run| run.kind == Kind::Drill && app.is_none_or(|app| run.app == app))
    }
}

impl Verification {
    fn add(&mut self, record: &Record) {
        let text = |name: &str| record.body.get(name).and_then(|value| value.as_str());
        let flag = |name: &str| record.body.get(name).and_then(serde_json::Value::as_bool);
        let packs = |name: &str| {
            let list = record.body.get(name).and_then(|list| list.as_array()).into_iter().flatten();
            list.filter_map(|id| PackId::from_hex(id.as_str()?).ok()).collect::<Vec<_>>()
        };
        let at = record.at;
        for pack in packs("packs") {
            let proof = self.packs.entry(pack).or_insert(Proof { right: None, wrong: None });
            proof.right = proof.right.max(Some(at));
        }
        let damaged = packs("damaged_packs");
        for pack in &damaged {
            let proof = self.packs.entry(*pack).or_insert(Proof { right: None, wrong: None });
            proof.wrong = proof.wrong.max(Some(at));
        }
        let depth = text("depth").unwrap_or(Depth::Structure.word()).to_owned();
        match (flag("clean"), flag("whole")) {
            (Some(true), Some(true)) => {
                let newest = self.clean.take().filter(|(before, _)| *before > at);
                self.clean = newest.or(Some((at, depth)));
            }
            (Some(false), _) if damaged.is_empty() => {
                let problems = record.body.get("problems").and_then(serde_json::Value::as_u64).unwrap_or(1);
                self.unclean = self.unclean.max(Some((at, problems)));
            }
            _ => {}
        }
    }
}
