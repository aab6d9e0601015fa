//! What the application was like before the change.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::look::{Use, Watched, latencies};
use super::types::{GuardError, Operator};
use crate::check::{Mark, Outcome, Verdict};
use crate::service::{Service, Sight};

/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(1);

/// What was measured before the change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// How many rounds there were.
    pub rounds: u32,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// By HTTP check: the time that 19 of 20 answers took at most, in seconds.
    pub latency: BTreeMap<String, f64>,
    /// Memory of the service, in bytes: the most that was seen.
    pub memory: Option<u64>,
    /// Share of one processor that the service used.
    pub processor: Option<f64>,
    /// By log check: forbidden lines that came meanwhile.
    pub forbidden: BTreeMap<String, u64>,
}

impl Baseline {
    /// In words.
    pub fn shown(&self) -> String {
        let slowest = self.latency.values().copied().fold(0.0, f64::max);
        let rounds = crate::base::size::plural(self.rounds.into(), "round");
        let mut text = format!("{rounds} in {:.1} s", self.seconds);
        if !self.latency.is_empty() {
            text.push_str(&format!(", slowest answer {:.0} ms", slowest * 1000.0));
        }
        if let Some(memory) = self.memory.filter(|&memory| memory > 0) {
            text.push_str(&format!(", memory {}", crate::base::size::bytes(memory)));
        }
        match self.forbidden.values().sum::<u64>() {
            0 => {}
            lines => text.push_str(&format!(", {lines} forbidden lines in the logs")),
        }
        text
    }
}

/// Looks for so long, at least once; refuses an application that is not well. Where the logs end now comes back too.
pub fn measure(
    watched: &Watched,
    service: Option<&Service>,
    length: Duration,
    operator: &dyn Operator,
) -> Result<(Baseline, BTreeMap<String, Mark>), GuardError> {
    let began = Instant::now();
    let marks = watched.marks(&BTreeMap::new());
    let members = || service.map(Service::state).map(|sight: Sight| sight.members).unwrap_or_default();
    let first = Use::of(&members());
    let mut times: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut found = Baseline::default();
    loop {
        let round = Instant::now();
        let verdicts = watched.look(&marks);
        healthy(watched, &verdicts)?;
        for (name, time) in latencies(&verdicts) {
            times.entry(name).or_default().push(time);
        }
        found.forbidden = verdicts
            .iter()
            .filter_map(|v| Some((v.name.clone(), v.forbidden?)))
            .filter(|(_, n)| *n > 0)
            .collect();
        let used = Use::of(&members());
        found.memory = found.memory.max(Some(used.memory).filter(|&memory| memory > 0));
        found.processor = used.processor_since(&first);
        found.rounds += 1;
        if operator.wish().is_some() {
            return Err(GuardError::Interrupted);
        }
        if began.elapsed() >= length {
            break;
        }
        let rest = length.saturating_sub(began.elapsed());
        sleep(PAUSE.saturating_sub(round.elapsed()).min(rest));
    }
    found.seconds = began.elapsed().as_secs_f64();
    found.latency = times.into_iter().map(|(name, times)| (name, percentile(times))).collect();
    let marks = watched.marks(&marks);
    Ok((found, marks))
}

// Good must be good, for otherwise bad could not be told from it. A log that gets forbidden lines all the time is measured
// instead.
fn healthy(watched: &Watched, verdicts: &[Verdict]) -> Result<(), GuardError> {
    let named = |outcome: Outcome| -> Vec<String> {
        let is_it = |v: &&Verdict| v.required && v.outcome == outcome && v.forbidden.is_none();
        verdicts.iter().filter(is_it).map(|v| format!("{}: {}", v.name, v.reason)).collect()
    };
    let mut wrong = named(Outcome::Fail);
    if let Some(most) = watched.latency {
        let slow = latencies(verdicts).into_iter().filter(|(_, took)| *took > most.as_secs_f64());
        wrong.extend(slow.map(|(name, took)| {
            format!(
                "{name}: the answer took {took:.3} s, and thresholds.latency is {:.3} s",
                most.as_secs_f64()
            )
        }));
    }
    if !wrong.is_empty() {
        return Err(GuardError::Unwell(wrong));
    }
    let unjudged = named(Outcome::Error);
    if unjudged.is_empty() { Ok(()) } else { Err(GuardError::Unjudged(unjudged)) }
}

// The 95th percentile; of few values the largest.
fn percentile(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() * 95).div_ceil(100).saturating_sub(1);
    values.get(at).copied().unwrap_or_default()
}
