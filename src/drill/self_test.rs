//! The self-test: can this drill fail? The copy is broken in every way that is known, one after the other, and the plan's
//! own tests and checks must go red each time.

use super::rehearsal::{Spoil, rehearse_with};
use super::sabotage::Sabotage;
use super::{DrillError, Options, Subject};
use crate::base::event::{Event, Observer, Silent, Step};
use crate::evidence::{self, Evidence, Outcome, Verdict};

/// How one sabotage came out.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Trial {
    /// What it is called.
    pub name: &'static str,
    /// What was done to the copy; absent if there is nothing that could be broken this way.
    pub done: Option<String>,
    /// Why it was not done or could not be judged; empty if it was.
    pub why: String,
    /// The steps and checks that went red, in their order.
    pub noticed_by: Vec<String>,
    /// A check that would notice it; empty if one did.
    pub advice: &'static str,
}

/// What a self-test came to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Score {
    /// All sabotages.
    pub trials: Vec<Trial>,
    /// How many were done.
    pub done: usize,
    /// How many of these were noticed.
    pub noticed: usize,
}

impl Score {
    /// True if something was done, and each that was done was noticed.
    pub fn is_whole(&self) -> bool {
        self.done > 0
            && self.noticed == self.done
            && self.trials.iter().all(|t| t.done.is_some() || t.is_nothing())
    }

    /// For the record.
    pub fn recorded(&self) -> Vec<evidence::Sabotage> {
        let done = self.trials.iter().filter_map(|trial| {
            let name = format!("{}: {}", trial.name, trial.done.as_ref()?);
            Some(evidence::Sabotage { name, noticed_by: trial.noticed_by.clone() })
        });
        done.collect()
    }

    /// The sabotages that were not done or could not be judged, and why: what the record lists as not tested.
    pub fn unjudged(&self) -> Vec<String> {
        let unjudged = self.trials.iter().filter(|trial| !trial.why.is_empty());
        let line = |trial: &Trial| {
            let how = if trial.done.is_some() { "could not be judged" } else { "was not done" };
            format!("whether {:?} would be noticed: it {how}: {}", trial.name, trial.why)
        };
        unjudged.map(line).collect()
    }
}

impl Trial {
    // There was nothing to break; not that it could not be judged.
    fn is_nothing(&self) -> bool {
        self.done.is_none() && self.noticed_by.is_empty()
    }
}

/// Breaks the copy in every way, and says what was noticed. `sound` is the drill of the whole copy, which must have passed:
/// where the sound copy is red already, a red one says nothing.
///
/// # Errors
/// As [`super::rehearse`], and [`DrillError::Plan`] if the drill of the sound copy did not pass.
pub fn self_test(
    subject: &Subject<'_>,
    options: &Options,
    sound: &Evidence,
    observer: &dyn Observer,
) -> Result<Score, DrillError> {
    if !matches!(sound.verdict, Verdict::Pass | Verdict::ObjectiveMissed) {
        return Err(DrillError::Unsound);
    }
    let mut trials = Vec::new();
    for sabotage in Sabotage::ALL {
        observer.event(Event::Started { step: Step::Drill(sabotage.name()), bytes: None });
        let trial = trial(subject, options, sound, sabotage, &Silent(observer));
        observer.event(Event::Finished);
        trials.push(trial?);
        if observer.interrupted() {
            break;
        }
    }
    let done: Vec<&Trial> = trials.iter().filter(|trial| trial.done.is_some()).collect();
    let (noticed, done) = (done.iter().filter(|trial| !trial.noticed_by.is_empty()).count(), done.len());
    Ok(Score { trials, done, noticed })
}

fn trial(
    subject: &Subject<'_>,
    options: &Options,
    sound: &Evidence,
    sabotage: Sabotage,
    observer: &dyn Observer,
) -> Result<Trial, DrillError> {
    let mut spoil = Spoil::new(sabotage, sound);
    let found = rehearse_with(subject, options, None, Some(&mut spoil), observer)?.judged();
    let mut trial =
        Trial { name: sabotage.name(), done: None, why: String::new(), noticed_by: Vec::new(), advice: "" };
    match spoil.done {
        Ok(what) => trial.done = Some(what),
        Err(why) => {
            trial.why = why;
            return Ok(trial);
        }
    }
    // a fault of the harness has noticed nothing
    if found.faults.is_empty() {
        trial.noticed_by = red(&found);
    } else {
        trial.why = found.faults.join("; ");
    }
    if trial.noticed_by.is_empty() {
        trial.advice = sabotage.advice();
    }
    Ok(trial)
}

fn red(run: &Evidence) -> Vec<String> {
    let steps = run.steps.iter().filter(|step| step.result == Outcome::Fail).map(|step| step.name.clone());
    let is_red = |check: &&evidence::Check| check.required && check.result == Outcome::Fail;
    let checks = run.checks.iter().filter(is_red).map(|check| format!("check {:?}", check.id));
    steps.chain(checks).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(name: &'static str, done: Option<&str>, why: &str, noticed_by: &[&str]) -> Trial {
        let noticed_by = noticed_by.iter().map(|one| (*one).to_owned()).collect();
        Trial { name, done: done.map(str::to_owned), why: why.to_owned(), noticed_by, advice: "" }
    }

    #[test]
    fn what_was_not_done_is_no_success_and_is_listed() {
        let trials = vec![
            trial("a missing file", Some("removed x"), "", &["check \"files\""]),
            trial("a truncated database", None, "there is no database", &[]),
            trial("a stopped server", Some("stopped it"), "the sandbox ended early", &[]),
        ];
        let score = Score { done: 2, noticed: 1, trials };
        assert_eq!(score.recorded().len(), 2);
        assert_eq!(
            score.unjudged(),
            [
                "whether \"a truncated database\" would be noticed: it was not done: there is no database",
                "whether \"a stopped server\" would be noticed: it could not be judged: the sandbox ended early",
            ]
        );
    }
}
