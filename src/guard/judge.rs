//! What the rounds of a watch come to. Pure: it looks at nothing and knows no time but what it is told.

use std::time::Duration;

use super::baseline::Baseline;
use crate::base::size;
use crate::check::{Outcome, Verdict};

/// So often in a row it may be that nothing could be judged.
const UNJUDGED_LIMIT: u32 = 5;
/// What is only worse than before must be so for so many rounds.
const WORSE_LIMIT: u32 = 3;
/// An answer is not slower than before unless by this much, in seconds.
const LATENCY_FLOOR: f64 = 0.5;
/// The service does not use more memory than before unless by this much, in bytes.
const MEMORY_FLOOR: u64 = 64 << 20;
/// The service is not busier than before unless by this share of a processor.
const PROCESSOR_FLOOR: f64 = 0.5;
/// A log that had forbidden lines before has more now only from this many on.
const FORBIDDEN_FLOOR: u64 = 5;
/// And at so many times the pace.
const FORBIDDEN_RATE: f64 = 3.0;

/// What one round saw.
pub struct Seen<'a> {
    /// The checks.
    pub verdicts: &'a [Verdict],
    /// Since the change began.
    pub since_change: Duration,
    /// Memory of the service, in bytes.
    pub memory: Option<u64>,
    /// Share of one processor that the service used since the last round.
    pub processor: Option<f64>,
}

/// What one round comes to by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// What is wrong.
    pub wrong: Vec<String>,
    /// What is worse than before the change.
    pub worse: Vec<String>,
    /// What could not be judged.
    pub unjudged: Vec<String>,
}

impl Round {
    /// True if all is well.
    pub fn is_clean(&self) -> bool {
        self.wrong.is_empty() && self.worse.is_empty() && self.unjudged.is_empty()
    }
}

/// By what it is judged.
pub struct Rules<'a> {
    /// What it was like before.
    pub baseline: &'a Baseline,
    /// The longest that an HTTP check may take.
    pub latency: Option<Duration>,
    /// The most forbidden lines of all logs.
    pub errors: Option<u64>,
}

/// What the rounds so far come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// All is well.
    Well,
    /// Not all is well; the next rounds decide.
    Doubt,
    /// The change is bad.
    Bad(String),
    /// It cannot be judged.
    Unjudged(String),
}

/// Rounds in a row.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    wrong: u32,
    worse: u32,
    unjudged: u32,
}

impl Judge {
    /// Adds a round.
    pub fn add(&mut self, round: &Round, failure_limit: u32) -> Decision {
        let count = |row: &mut u32, list: &[String]| *row = if list.is_empty() { 0 } else { *row + 1 };
        count(&mut self.wrong, &round.wrong);
        count(&mut self.worse, &round.worse);
        count(&mut self.unjudged, &round.unjudged);
        let limit = failure_limit.max(1);
        if self.wrong >= limit {
            return Decision::Bad(told(self.wrong, &round.wrong));
        }
        if self.worse >= limit.max(WORSE_LIMIT) {
            return Decision::Bad(told(self.worse, &round.worse));
        }
        if self.unjudged >= limit.max(UNJUDGED_LIMIT) {
            return Decision::Unjudged(told(self.unjudged, &round.unjudged));
        }
        if round.is_clean() { Decision::Well } else { Decision::Doubt }
    }
}

fn told(rounds: u32, what: &[String]) -> String {
    let rounds = if rounds == 1 { String::new() } else { format!(" ({rounds} rounds in a row)") };
    format!("{}{rounds}", what.join("; "))
}

/// What a round comes to by itself.
pub fn weigh(seen: &Seen<'_>, rules: &Rules<'_>) -> Round {
    let mut round = Round::default();
    for verdict in seen.verdicts.iter().filter(|verdict| verdict.required) {
        match verdict.outcome {
            Outcome::Pass => {}
            Outcome::Fail if is_as_before(verdict, seen, rules) => {}
            Outcome::Fail => round.wrong.push(format!("{}: {}", verdict.name, verdict.reason)),
            Outcome::Error => round.unjudged.push(format!("{}: {}", verdict.name, verdict.reason)),
        }
    }
    answers(seen, rules, &mut round);
    lines(seen, rules, &mut round);
    uses(seen, rules, &mut round);
    round
}

// A log that had forbidden lines before the change may go on at its pace.
fn is_as_before(verdict: &Verdict, seen: &Seen<'_>, rules: &Rules<'_>) -> bool {
    let (Some(now), Some(&before)) = (verdict.forbidden, rules.baseline.forbidden.get(&verdict.name)) else {
        return false;
    };
    let pace = before as f64 / rules.baseline.seconds.max(1.0);
    now < FORBIDDEN_FLOOR || now as f64 <= pace * seen.since_change.as_secs_f64() * FORBIDDEN_RATE
}

fn answers(seen: &Seen<'_>, rules: &Rules<'_>, round: &mut Round) {
    for (name, took) in super::look::latencies(seen.verdicts) {
        if let Some(most) = rules.latency.map(|most| most.as_secs_f64()).filter(|most| took > *most) {
            round
                .wrong
                .push(format!("{name}: the answer took {took:.3} s, and thresholds.latency is {most:.3} s"));
        }
        let Some(&before) = rules.baseline.latency.get(&name) else { continue };
        if took > before * 2.0 && took > before + LATENCY_FLOOR {
            round
                .worse
                .push(format!("{name}: the answer took {took:.3} s, and {before:.3} s before the change"));
        }
    }
}

fn lines(seen: &Seen<'_>, rules: &Rules<'_>, round: &mut Round) {
    let Some(most) = rules.errors else { return };
    let found: u64 = seen.verdicts.iter().filter_map(|verdict| verdict.forbidden).sum();
    if found > most {
        round.wrong.push(format!(
            "{} in the logs since the change, and thresholds.errors is {most}",
            size::plural(found, "forbidden line")
        ));
    }
}

fn uses(seen: &Seen<'_>, rules: &Rules<'_>, round: &mut Round) {
    if let (Some(now), Some(before)) = (seen.memory, rules.baseline.memory)
        && now > before + before / 2
        && now > before + MEMORY_FLOOR
    {
        let (now, before) = (size::bytes(now), size::bytes(before));
        round.worse.push(format!("the service uses {now} of memory, and used {before} before the change"));
    }
    if let (Some(now), Some(before)) = (seen.processor, rules.baseline.processor)
        && now > before * 2.0
        && now > before + PROCESSOR_FLOOR
    {
        round.worse.push(format!(
            "the service uses {:.0} % of a processor, and used {:.0} % before the change",
            now * 100.0,
            before * 100.0
        ));
    }
}
