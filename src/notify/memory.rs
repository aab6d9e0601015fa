//! What is remembered between notifications.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::document::{Event, Happened};
use crate::base::time::Timestamp;

/// The name under which it is remembered in the application's state.
pub const STATE: &str = "notify.json";
/// A failure that lasts is told again after this time.
pub const AGAIN: Duration = Duration::from_secs(24 * 3600);

/// The content of `notify.json`, which `status` reads too: `failing` are the operations whose last run failed,
/// `ways` the ways of the plan that could not be told the last time. Fields are added, never renamed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// By operation (`snapshot`, `run weekly`): the failure that lasts.
    pub failing: BTreeMap<String, Incident>,
    /// By way (`notify[0] webhook hooks.example.org`): why telling did not work the last time.
    pub ways: BTreeMap<String, Trouble>,
}

/// A failure that lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// What tells it from another failure.
    pub mark: String,
    /// In a sentence.
    pub summary: String,
    /// Since when.
    pub since: Timestamp,
    /// By way: when it was told, and how often.
    #[serde(default)]
    pub told: BTreeMap<String, Telling>,
}

/// That a failure was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Telling {
    /// When, the last time.
    pub at: Timestamp,
    /// How often.
    pub times: u64,
}

/// A way that did not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Since when.
    pub since: Timestamp,
    /// When it was tried last.
    pub at: Timestamp,
    /// Why, without the secret parts of a URL.
    pub why: String,
    /// How many notifications were lost in a row.
    pub times: u64,
}

/// What happened, in the light of what is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What happened.
    pub event: Event,
    /// Since when it fails, or failed.
    pub since: Option<Timestamp>,
    /// By way: whether that was told.
    told: BTreeMap<String, Telling>,
}

impl Standing {
    /// How often this failure was told by a way before.
    pub fn before(&self, way: &str) -> u64 {
        self.told.get(way).map_or(0, |telling| telling.times)
    }

    /// Whether a way that is told of failures and their ends is to be told this now.
    pub fn is_news(&self, way: &str, now: Timestamp) -> bool {
        let told = self.told.get(way);
        match self.event {
            Event::Recovered => told.is_some(),
            Event::Failure | Event::Open => {
                told.is_none_or(|told| told.at > now || now.since(told.at) >= AGAIN)
            }
            Event::Start | Event::Success | Event::Message => false,
        }
    }
}

impl Memory {
    /// Takes in what happened.
    pub fn take(&mut self, happened: &Happened, now: Timestamp) -> Standing {
        let event = happened.event();
        let old = self.failing.remove(&happened.operation);
        if event == Event::Success {
            return match old {
                Some(old) => Standing { event: Event::Recovered, since: Some(old.since), told: old.told },
                None => Standing { event, since: None, told: BTreeMap::new() },
            };
        }
        let mark = happened.mark();
        // one that began in the future is of a clock that was set back
        let since = old.as_ref().map(|old| old.since).filter(|since| *since <= now).unwrap_or(now);
        let told = old.filter(|old| old.mark == mark).map(|old| old.told).unwrap_or_default();
        let summary = happened.summary.clone();
        let incident = Incident { mark, summary, since, told: told.clone() };
        self.failing.insert(happened.operation.clone(), incident);
        Standing { event, since: Some(since), told }
    }

    /// Takes in that a failure was told.
    pub fn told(&mut self, operation: &str, way: &str, now: Timestamp) {
        if let Some(incident) = self.failing.get_mut(operation) {
            let telling = incident.told.entry(way.to_owned()).or_insert(Telling { at: now, times: 0 });
            *telling = Telling { at: now, times: telling.times + 1 };
        }
    }

    /// Takes in how telling went by each way.
    pub fn went(&mut self, way: &str, result: &Result<(), String>, now: Timestamp) {
        let Err(why) = result else {
            self.ways.remove(way);
            return;
        };
        let old = self.ways.get(way);
        let since = old.map_or(now, |old| old.since.min(now));
        let times = old.map_or(0, |old| old.times) + 1;
        self.ways.insert(way.to_owned(), Trouble { since, at: now, why: why.clone(), times });
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::base::Exit;

    fn at(hours: i64) -> Timestamp {
        Timestamp(Timestamp::from_seconds(1_800_000_000).unwrap().0 + TimeDelta::hours(hours))
    }

    fn happened(exit: Exit, details: &[&str]) -> Happened {
        Happened {
            application: "aura".to_owned(),
            operation: "run daily".to_owned(),
            is_step: false,
            host: "h".to_owned(),
            user: "u".to_owned(),
            started: at(0),
            took: Duration::from_secs(1),
            exit,
            summary: "s".to_owned(),
            details: details.iter().map(|&text| text.to_owned()).collect(),
        }
    }

    // What a way is told: whether, of what, since when, how often before.
    fn tell(
        memory: &mut Memory,
        happened: &Happened,
        now: Timestamp,
    ) -> (bool, Event, Option<Timestamp>, u64) {
        let standing = memory.take(happened, now);
        let is_news = standing.is_news("w", now);
        if is_news {
            memory.told(&happened.operation, "w", now);
        }
        (is_news, standing.event, standing.since, standing.before("w"))
    }

    #[test]
    fn a_failure_is_told_once_and_its_end_is() {
        let mut memory = Memory::default();
        let bad = |what: &str| happened(Exit::Failed, &[what]);
        let good = happened(Exit::Done, &[]);
        let since = Some(at(0));
        assert_eq!(tell(&mut memory, &bad("health: 3 errors"), at(0)), (true, Event::Failure, since, 0));
        // other numbers are not another failure
        assert_eq!(tell(&mut memory, &bad("health: 4 errors"), at(1)), (false, Event::Failure, since, 1));
        assert_eq!(tell(&mut memory, &bad("drill"), at(2)), (true, Event::Failure, since, 0));
        assert_eq!(tell(&mut memory, &bad("drill"), at(25)), (false, Event::Failure, since, 1));
        assert_eq!(tell(&mut memory, &bad("drill"), at(26)), (true, Event::Failure, since, 1));
        assert_eq!(tell(&mut memory, &good, at(27)), (true, Event::Recovered, since, 2));
        assert_eq!(tell(&mut memory, &good, at(28)), (false, Event::Success, None, 0));
    }

    #[test]
    fn what_did_not_arrive_is_not_taken_for_told() {
        let mut memory = Memory::default();
        let bad = happened(Exit::Failed, &["x"]);
        assert!(memory.take(&bad, at(0)).is_news("w", at(0)));
        assert!(memory.take(&bad, at(1)).is_news("w", at(1)));
        memory.told("run daily", "w", at(1));
        let third = memory.take(&bad, at(2));
        assert!(!third.is_news("w", at(2)) && third.is_news("other", at(2)));
        // who was never told that it fails is not told that it no longer does
        let end = memory.take(&happened(Exit::Done, &[]), at(3));
        assert!(end.is_news("w", at(3)) && !end.is_news("other", at(3)));
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_silence_a_failure() {
        let mut memory = Memory::default();
        let bad = happened(Exit::Failed, &["x"]);
        tell(&mut memory, &bad, at(100_000));
        assert_eq!(tell(&mut memory, &bad, at(0)), (true, Event::Failure, Some(at(0)), 1));
        assert!(!tell(&mut memory, &bad, at(1)).0);
    }

    #[test]
    fn what_could_not_be_told_is_remembered_until_it_can() {
        let mut memory = Memory::default();
        memory.went("w", &Err("refused".to_owned()), at(0));
        memory.went("w", &Err("no answer".to_owned()), at(3));
        let trouble = &memory.ways["w"];
        assert_eq!((trouble.since, trouble.at, trouble.times), (at(0), at(3), 2));
        assert_eq!(trouble.why, "no answer");
        memory.went("w", &Ok(()), at(4));
        assert!(memory.ways.is_empty());
    }
}
