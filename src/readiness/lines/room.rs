//! Room: what is free now, and when it runs out.

use std::time::Duration;

use super::{Facts, Line, Verdict, age};
use crate::base::name::shown;
use crate::base::size;
use crate::sys::space::Space;

/// Less than this share free is too little to work in.
const LEAST: f64 = 0.05;
/// Where the plan has measurements, they should have been looked at within this time.
const LOOK: Duration = Duration::from_secs(35 * 24 * 3600);
/// Without a plan, what runs out within this time is to be told.
const HORIZON: Duration = Duration::from_secs(30 * 24 * 3600);

/// The room of the application and of the repository.
pub fn room(facts: &Facts) -> Line {
    const NAME: &str = "disk";
    let repository = facts.repository.as_ref().ok();
    let application = facts.application.as_ref();
    let mut places: Vec<(&str, Space)> = Vec::new();
    if let Some(place) = application.and_then(|application| application.place) {
        places.push(("the application", place.space));
    }
    let is_shared =
        application.and_then(|application| application.place).is_some_and(|place| place.is_shared);
    if let Some(space) = repository.and_then(|repository| repository.space).filter(|_| !is_shared) {
        places.push(("the repository", space));
    }
    let full: Vec<String> = places.iter().filter_map(|(what, space)| is_full(what, space)).collect();
    if !full.is_empty() {
        return Line::new(NAME, Verdict::Fail, full.join("; ")).mend("lifeboat prune --dry-run");
    }
    let horizon = application.map_or(HORIZON, |application| application.plan.capacity.horizon.0);
    let forecast = repository.map(|repository| &repository.growth.forecast);
    if let Some(days) =
        forecast.and_then(|forecast| forecast.days).filter(|days| days * 86_400.0 <= horizon.as_secs_f64())
    {
        let reason = format!("the repository's room runs out in {days:.0} days");
        return Line::new(NAME, Verdict::Fail, reason).mend("lifeboat capacity");
    }
    let free: Vec<String> = places
        .iter()
        .map(|(what, space)| {
            format!("{} of {} free for {what}", size::bytes(space.free_bytes), size::bytes(space.total_bytes))
        })
        .collect();
    let mut reason = free.join(", ");
    if let Some(application) = application {
        match &application.capacity {
            Some((at, warnings)) if !warnings.is_empty() => {
                let warnings = shown(warnings.join("; ").as_bytes());
                let reason = format!("{} ago: {warnings}", age(*at, facts.now));
                return Line::new(NAME, Verdict::Fail, reason).mend("lifeboat capacity");
            }
            Some((at, _)) if application.plan.metrics.is_some() && facts.now.since(*at) > LOOK => {
                let reason = format!("{reason}; measurements were looked at {} ago", age(*at, facts.now));
                return Line::new(NAME, Verdict::Stale, reason).mend("lifeboat capacity");
            }
            Some((at, _)) => reason.push_str(&format!("; nothing to warn of {} ago", age(*at, facts.now))),
            None => {}
        }
    }
    if places.is_empty() {
        return Line::new(NAME, Verdict::NotJudged, "there is no place to look at");
    }
    Line::new(NAME, Verdict::Pass, reason)
}

fn is_full(what: &str, space: &Space) -> Option<String> {
    let is_less = |free: u64, total: u64| total > 0 && (free as f64) < total as f64 * LEAST;
    if is_less(space.free_bytes, space.total_bytes) {
        return Some(format!(
            "{what} has {} of {} left",
            size::bytes(space.free_bytes),
            size::bytes(space.total_bytes)
        ));
    }
    let files = || format!("{what} has room for {} more files", size::count(space.free_inodes));
    is_less(space.free_inodes, space.total_inodes).then(files)
}
