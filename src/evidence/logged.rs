//! Evidence in the logbook: the only part of this module that reads and writes.

use std::collections::BTreeMap;

use serde::Deserialize as _;

use super::actions;
use super::follow_up::FollowUp;
use super::record::{Evidence, Kind, SCHEMA, Seal};
use super::verdict::Verdict;
use crate::base::Name;
use crate::base::id::{RecordId, SnapshotId};
use crate::base::time::Timestamp;
use crate::format::record::Record;
use crate::logbook::{self, Act, Logbook, Logged};
use crate::repo::keys::WriterKey;
use crate::repo::{Repo, Result};

/// The kind of a logbook record that holds a [`FollowUp`].
pub const FOLLOW_UP: &str = "follow-up";

/// Judges a run, writes it into the logbook and puts the seal into it, so that it is as a reader would find it.
/// Whatever verdict it had before counts for nothing.
///
/// # Errors
/// If it could not be written; the run is judged all the same.
pub fn append(repo: &Repo, key: &WriterKey, run: &mut Evidence) -> Result<Seal> {
    run.schema = SCHEMA.to_owned();
    // neither is part of the stored record: people speak later, and no record holds its own hash
    let (said, _) = (std::mem::take(&mut run.follow_ups), run.seal.take());
    *run = run.clone().judged();
    let body = body_of(&*run);
    run.follow_ups = said;
    let host = Name::from(run.host.hostname.as_str());
    let user = Name::from(run.operator.user.as_str());
    let act = Act { kind: run.kind.word().to_owned(), host, user, body };
    let (id, record) = logbook::write(repo, key, act)?;
    let previous = record.previous.map(RecordId::to_hex);
    let seal = Seal { record: id.to_hex(), previous, writer: record.writer, sequence: record.sequence };
    run.seal = Some(seal.clone());
    Ok(seal)
}

/// Writes what somebody says of a run, or of another record, as a record of its own.
///
/// # Errors
/// If it could not be written.
pub fn follow_up(
    repo: &Repo,
    key: &WriterKey,
    (host, user): (Name, Name),
    said: &FollowUp,
) -> Result<RecordId> {
    let act = Act { kind: FOLLOW_UP.to_owned(), host, user, body: body_of(said) };
    logbook::append(repo, key, act)
}

// These types have text for keys and numbers that JSON has: that cannot fail, and nothing panics if it does.
fn body_of(value: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Every run of the logbook, oldest first, each with its seal and what was said of it later. Only records that are
/// whole and signed by a writer of the repository are taken.
pub fn runs(logbook: &Logbook) -> Vec<Evidence> {
    let mut said: BTreeMap<String, Vec<FollowUp>> = BTreeMap::new();
    for one in follow_ups(logbook) {
        said.entry(one.words.run_id.clone()).or_default().push(one.words);
    }
    let mut found: Vec<(Timestamp, u64, Evidence)> = Vec::new();
    for (logged, record) in logbook.trusted() {
        let Some(mut run) = run_in(&record.kind, &record.body) else { continue };
        run.seal = Some(Seal {
            record: logged.id.to_hex(),
            previous: record.previous.map(RecordId::to_hex),
            writer: record.writer.clone(),
            sequence: record.sequence,
        });
        run.follow_ups = [&run.run_id, &logged.id.to_hex()]
            .into_iter()
            .flat_map(|about| said.get(about).into_iter().flatten().cloned())
            .collect();
        found.push((record.at, record.sequence, run));
    }
    found.sort_by_key(|(at, sequence, run)| (*at, *sequence, run.started));
    found.into_iter().map(|(_, _, run)| run).collect()
}

/// The run that a record of this kind holds, if it holds one.
pub fn run_in(kind: &str, body: &serde_json::Value) -> Option<Evidence> {
    if body.get("schema")?.as_str()? != SCHEMA {
        return None;
    }
    let mut run = Evidence::deserialize(body).ok().filter(|run| run.kind.word() == kind)?;
    run.follow_ups.clear();
    run.seal = None;
    Some(run)
}

/// What somebody said later, and where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The record that holds it.
    pub record: RecordId,
    /// When.
    pub at: Timestamp,
    /// Who, as `user@host`.
    pub by: String,
    /// What.
    pub words: FollowUp,
}

/// What was said later, oldest first, as it is written.
pub(super) fn said(logbook: &Logbook) -> Vec<Said> {
    let of_record = |(logged, record): (&Logged, &Record)| {
        let words = FollowUp::deserialize(&record.body).ok()?;
        let by = format!("{}@{}", record.user.shown(), record.host.shown());
        Some((record.sequence, Said { record: logged.id, at: record.at, by, words }))
    };
    let spoken = logbook.trusted().filter(|(_, record)| record.kind == FOLLOW_UP);
    let mut found: Vec<(u64, Said)> = spoken.filter_map(of_record).collect();
    found.sort_by_key(|(sequence, said)| (said.at, *sequence, said.record));
    found.into_iter().map(|(_, said)| said).collect()
}

/// What was said later, oldest first; each action has the status that it has by now.
pub fn follow_ups(logbook: &Logbook) -> Vec<Said> {
    actions::settled(said(logbook))
}

/// All drills, oldest first, each with its seal and what was said of it later.
///
/// # Errors
/// If the logbook cannot be read.
pub fn drills(repo: &Repo) -> Result<Vec<Evidence>> {
    let mut found = runs(&logbook::read(repo)?);
    found.retain(|run| run.kind == Kind::Drill);
    Ok(found)
}

/// That a snapshot came back in a drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// When the drill ended.
    pub at: Timestamp,
    /// Which drill.
    pub run_id: String,
}

/// The snapshots whose last drill with a result passed. A later failure takes the mark away; a drill that
/// was inconclusive says nothing and changes nothing, and one that only missed an objective leaves the mark of an earlier one.
///
/// # Errors
/// If the logbook cannot be read.
pub fn last_passed(repo: &Repo) -> Result<BTreeMap<SnapshotId, Passed>> {
    Ok(passed(&runs(&logbook::read(repo)?)))
}

/// The same of runs already read, oldest first.
pub fn passed(runs: &[Evidence]) -> BTreeMap<SnapshotId, Passed> {
    let mut marks = BTreeMap::new();
    for run in runs.iter().filter(|run| run.kind == Kind::Drill) {
        let id = run.snapshot.as_ref().and_then(|snapshot| SnapshotId::from_hex(&snapshot.id).ok());
        let Some(id) = id else { continue };
        match run.verdict {
            Verdict::Pass => {
                marks.insert(id, Passed { at: run.finished, run_id: run.run_id.clone() });
            }
            Verdict::Fail => {
                marks.remove(&id);
            }
            Verdict::ObjectiveMissed | Verdict::Inconclusive => {}
        }
    }
    marks
}
