//! What was proved: that what is stored is what was stored, and that it comes back as an application.

use std::time::Duration;

use super::{Line, Verdict, age, words};
use crate::base::name::shown;
use crate::base::size;
use crate::base::time::Timestamp;
use crate::evidence;
use crate::readiness::facts::{Application, Repository};
use crate::readiness::memory::Run;
use crate::verify::RECENT;

/// Where the plan says nothing, a drill is due after a quarter of a year.
const DRILL_EVERY: Duration = Duration::from_secs(92 * 24 * 3600);
/// So much of what is stored should have been read lately.
const ENOUGH: f64 = 0.8;

/// The last verification, and damage that was found and not mended.
pub fn verification(repository: &Repository, now: Timestamp) -> Line {
    const NAME: &str = "verification";
    let found = &repository.memory.verification;
    let damaged = repository.damaged_packs.len() as u64;
    if damaged > 0 {
        let reason = format!("{} was found damaged and is there still", size::plural(damaged, "pack"));
        return Line::new(NAME, Verdict::Fail, reason)
            .blocking()
            .mend("lifeboat verify --deep && lifeboat repair");
    }
    let clean = found.clean.as_ref().filter(|(at, _)| at.0 <= now.0 + super::TOLERANCE);
    if let Some((at, problems)) = found.unclean
        && clean.is_none_or(|(clean, _)| *clean < at)
    {
        let problems = size::plural(problems, "problem");
        let reason = format!("{problems} found {} ago, and none without since", age(at, now));
        return Line::new(NAME, Verdict::Fail, reason).blocking().mend("lifeboat verify");
    }
    match found.clean.as_ref() {
        None => Line::new(NAME, Verdict::Stale, "never done").mend("lifeboat verify"),
        Some((at, depth)) => {
            let reason = format!("nothing wrong {} ago ({depth})", age(*at, now));
            if now.since(*at) > RECENT {
                return Line::new(NAME, Verdict::Stale, reason).mend("lifeboat verify").by_age();
            }
            Line::new(NAME, Verdict::Pass, reason)
        }
    }
}

/// How much of what is stored was read and found right lately.
pub fn coverage(repository: &Repository) -> Line {
    const NAME: &str = "coverage";
    let (stored, proved) = repository.coverage;
    if stored == 0 {
        return Line::new(NAME, Verdict::NotJudged, "nothing is stored");
    }
    let share = proved as f64 / stored as f64;
    let days = RECENT.as_secs() / 86_400;
    let reason = format!("every byte read within {days} days: {:.0} %", (share * 100.0).floor());
    match share >= ENOUGH {
        true => Line::new(NAME, Verdict::Pass, reason),
        false => Line::new(NAME, Verdict::Stale, reason).mend("lifeboat verify --read-data").by_age(),
    }
}

/// The last drill, its recovery time and its age.
pub fn drill(repository: &Repository, application: Option<&Application>, now: Timestamp) -> Line {
    const NAME: &str = "drill";
    const MEND: &str = "lifeboat drill";
    let drills = || repository.memory.drills(application.map(|application| application.name.as_str()));
    let Some(newest) = drills().next_back() else {
        return Line::new(NAME, Verdict::Stale, "never done: nothing says that it comes back").mend(MEND);
    };
    // one that could not be judged says nothing of the backup
    let judged = drills().rev().find(|run| run.verdict != evidence::Verdict::Inconclusive);
    let ago = age(newest.finished, now);
    let Some(judged) = judged else {
        let reason = format!("could not be judged {ago} ago: {}", shown(newest.reason.as_bytes()));
        return Line::new(NAME, Verdict::Error, reason).mend(MEND);
    };
    let line = result(judged, application, now);
    if judged.run_id == newest.run_id || line.verdict.is_wrong() {
        return line;
    }
    let reason = format!("{}; the last one, {ago} ago, could not be judged", line.reason);
    Line::new(NAME, Verdict::Error, reason).mend(MEND)
}

// All that a run left, step by step.
fn told(run: &Run) -> String {
    format!("lifeboat log export --format markdown --record {}", run.run_id)
}

fn result(run: &Run, application: Option<&Application>, now: Timestamp) -> Line {
    const NAME: &str = "drill";
    const MEND: &str = "lifeboat drill";
    let ago = age(run.finished, now);
    let time = run.recovery.map(|time| format!(", recovered in {time}")).unwrap_or_default();
    if run.verdict == evidence::Verdict::Fail {
        let reason = format!("failed {ago} ago: {}", shown(run.reason.as_bytes()));
        return Line::new(NAME, Verdict::Fail, reason).blocking().mend(told(run));
    }
    let limit = application.and_then(Application::rto);
    let objective = limit.map(|limit| format!(", the objective is {}", words(limit))).unwrap_or_default();
    let too_slow = limit.zip(run.recovery).is_some_and(|(limit, time)| time.duration() > limit);
    if too_slow || run.verdict == evidence::Verdict::ObjectiveMissed {
        let reason = format!("an objective was missed {ago} ago{time}{objective}");
        return Line::new(NAME, Verdict::Fail, reason).mend(told(run));
    }
    let mut reason = format!("passed {ago} ago{time}{objective}");
    let every = application.and_then(|application| application.plan.drill.drill_every).map(|span| span.0);
    let every = every.unwrap_or(DRILL_EVERY);
    if now.since(run.finished) > every {
        reason.push_str(&format!("; one is due every {}", words(every)));
        return Line::new(NAME, Verdict::Stale, reason).mend(MEND).by_age();
    }
    if application.is_some_and(|application| application.config_sha256 != run.config_sha256) {
        reason.push_str("; the plan was changed since");
    }
    Line::new(NAME, Verdict::Pass, reason)
}
