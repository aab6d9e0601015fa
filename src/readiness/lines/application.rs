//! How the application is, as far as this host remembers: its checks, changes under way, who could not be told.

use std::time::Duration;

use super::{Line, Verdict, age, list};
use crate::base::name::shown;
use crate::base::size;
use crate::base::time::Timestamp;
use crate::check::Outcome;
use crate::readiness::facts::Application;

/// Checks should have been looked at within this time: once a day, with some room.
const LOOK: Duration = Duration::from_secs(26 * 3600);
/// A change that somebody makes by hand should be over by then.
const BY_HAND: Duration = Duration::from_secs(24 * 3600);

/// What the plan's checks said when they were looked at last.
pub fn health(application: &Application, now: Timestamp) -> Line {
    const NAME: &str = "health";
    const MEND: &str = "lifeboat health";
    let required: Vec<_> = application.plan.check.iter().filter(|check| check.common.required).collect();
    if required.is_empty() {
        return Line::new(NAME, Verdict::NotJudged, "the plan has no required check");
    }
    let Some(looked) = application.looked else {
        return Line::new(NAME, Verdict::Stale, "never looked at").mend(MEND);
    };
    let with = |outcome: Option<Outcome>| -> Vec<&str> {
        let said = |name: &str| application.checks.get(name).map(|said| said.1);
        required.iter().map(|check| check.name()).filter(|name| said(name) == outcome).collect()
    };
    let ago = age(looked, now);
    let failed = with(Some(Outcome::Fail));
    if !failed.is_empty() {
        let reason = format!("failed {ago} ago: {}", list(failed));
        return Line::new(NAME, Verdict::Fail, reason).mend(MEND);
    }
    let unjudged = with(Some(Outcome::Error));
    if !unjudged.is_empty() {
        let reason = format!("could not be judged {ago} ago: {}", list(unjudged));
        return Line::new(NAME, Verdict::Error, reason).mend(MEND);
    }
    let never = with(None);
    if !never.is_empty() {
        return Line::new(NAME, Verdict::Stale, format!("never looked at: {}", list(never))).mend(MEND);
    }
    let count = size::plural(required.len() as u64, "check");
    let line = |verdict| Line::new(NAME, verdict, format!("{count} passed {ago} ago"));
    if now.since(looked) > LOOK { line(Verdict::Stale).mend(MEND).by_age() } else { line(Verdict::Pass) }
}

/// Whether a rollback or a guarded change has begun and not ended.
pub fn change(application: &Application, now: Timestamp) -> Line {
    const NAME: &str = "change";
    if let Some(under) = &application.rollback {
        let since = age(under.since, now);
        if under.is_attended {
            return Line::new(
                NAME,
                Verdict::Pass,
                format!("a rollback is under way for {since}: {}", under.stage),
            );
        }
        let reason = format!("a rollback was cut off {since} ago at \"{}\"", under.stage);
        return Line::new(NAME, Verdict::Fail, reason).blocking().mend("lifeboat rollback --resume");
    }
    let Some(under) = &application.hotfix else { return maintenance(application, now) };
    let since = age(under.since, now);
    let reason = format!("a hotfix is under way for {since}: {}", under.stage);
    if under.is_attended || under.is_by_hand && now.since(under.since) <= BY_HAND {
        return Line::new(NAME, Verdict::Pass, reason);
    }
    match under.is_by_hand {
        true => Line::new(NAME, Verdict::Stale, reason).mend("lifeboat confirm").by_age(),
        false => Line::new(NAME, Verdict::Fail, format!("{reason}, and nobody watches it"))
            .mend("lifeboat hotfix --resume"),
    }
}

fn maintenance(application: &Application, now: Timestamp) -> Line {
    const NAME: &str = "change";
    let Some(began) = application.maintenance else {
        return Line::new(NAME, Verdict::Pass, "no rollback, hotfix or maintenance is under way");
    };
    let reason = format!("a maintenance is under way for {}", age(began, now));
    if now.since(began) <= BY_HAND {
        return Line::new(NAME, Verdict::Pass, reason);
    }
    Line::new(NAME, Verdict::Stale, reason).mend("lifeboat maintenance end").by_age()
}

/// Whether everybody who is to be told could be told the last time.
pub fn notifications(application: &Application) -> Line {
    const NAME: &str = "notifications";
    if application.plan.notify.is_empty() {
        return Line::new(NAME, Verdict::NotJudged, "the plan tells nobody");
    }
    match application.silent.first() {
        None => Line::new(NAME, Verdict::Pass, "everybody could be told the last time"),
        Some((way, why)) => {
            let more = application.silent.len() - 1;
            let rest = if more > 0 { format!(", and {more} more") } else { String::new() };
            let reason = shown(format!("{way}: {why}{rest}").as_bytes());
            Line::new(NAME, Verdict::Fail, reason).mend("lifeboat notify --test")
        }
    }
}
