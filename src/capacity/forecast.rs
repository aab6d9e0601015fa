//! Where a measure goes, and when it gets there.
//!
//! The trend is the slope of Theil and Sen, the median of the slopes between all pairs of points: a third of the points
//! may be outliers and it does not move. Its range is that of Sen, from the ranks of these slopes, at 95 %. Points are
//! averages of parts of a window, which follow each other more closely than the range's theory has it: take it as the
//! least uncertainty, not the most.

use serde::{Deserialize, Serialize};

use crate::base::size;

/// Fewer points say nothing.
const MIN_POINTS: usize = 10;
/// More points are thinned out: pairs grow with their square.
const MAX_POINTS: usize = 400;
/// What lies further ahead than so many times the time that was looked at is not told.
const FAR: f64 = 4.0;

/// Where a measure goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// By so much each day.
    pub per_day: f64,
    /// With 95 % by no less than this.
    pub low: f64,
    /// And no more than this.
    pub high: f64,
    /// Where it is at the end, by the trend.
    pub level: f64,
    /// How many days the points span.
    pub days: f64,
}

/// When something runs out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// In so many days; `None` if it does not, or that cannot be told.
    pub days: Option<f64>,
    /// Not sooner than in so many days.
    pub earliest: Option<f64>,
    /// Not later than in so many days; `None` if it may be never.
    pub latest: Option<f64>,
    /// Why there is no answer, or what the answer rests on.
    pub reason: String,
}

/// The trend of points: days, and the value. `None` where there are not enough.
pub fn trend(points: &[(f64, f64)]) -> Option<Trend> {
    let step = points.len().div_ceil(MAX_POINTS).max(1);
    let points: Vec<(f64, f64)> = points.iter().step_by(step).copied().collect();
    let n = points.len();
    if n < MIN_POINTS {
        return None;
    }
    let mut slopes = Vec::with_capacity(n * (n - 1) / 2);
    for (i, (x, y)) in points.iter().enumerate() {
        slopes.extend(points[i + 1..].iter().filter(|(x2, _)| x2 > x).map(|(x2, y2)| (y2 - y) / (x2 - x)));
    }
    if slopes.is_empty() {
        return None;
    }
    slopes.sort_by(f64::total_cmp);
    let count = slopes.len() as f64;
    let width = 1.96 * (n as f64 * (n as f64 - 1.0) * (2.0 * n as f64 + 5.0) / 18.0).sqrt();
    let at = |rank: f64| slopes[(rank.max(0.0) as usize).min(slopes.len() - 1)];
    let per_day = median(&slopes);
    let last = points.iter().map(|p| p.0).fold(f64::NEG_INFINITY, f64::max);
    let first = points.iter().map(|p| p.0).fold(f64::INFINITY, f64::min);
    let mut levels: Vec<f64> = points.iter().map(|(x, y)| y + per_day * (last - x)).collect();
    levels.sort_by(f64::total_cmp);
    let (low, high) = (at((count - width) / 2.0), at((count + width) / 2.0));
    Some(Trend { per_day, low, high, level: median(&levels), days: last - first })
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

// So many days, as people say it: what is less than one in hours, minutes or seconds.
fn span(days: f64) -> String {
    let less = || std::time::Duration::try_from_secs_f64(days * 86400.0).unwrap_or_default();
    if days < 1.0 { size::duration(less()) } else { format!("{days:.1} days") }
}

impl Forecast {
    /// Without an answer.
    pub fn none(reason: impl Into<String>) -> Self {
        Self { days: None, earliest: None, latest: None, reason: reason.into() }
    }

    /// When the trend reaches `limit`, counted from day `now` of the points' own axis.
    pub fn of(trend: Option<&Trend>, points: &[(f64, f64)], limit: f64, now: f64) -> Self {
        let Some(trend) = trend else {
            let text = format!("not enough data: {} points, and {MIN_POINTS} are needed", points.len());
            return Self::none(text);
        };
        let last = points.iter().map(|p| p.0).fold(f64::NEG_INFINITY, f64::max);
        let old = (now - last).max(0.0);
        if old > trend.days {
            return Self::none("not enough data: the newest is older than all of it spans");
        }
        let room = limit - trend.level;
        let in_days = |slope: f64| (slope > 0.0).then(|| (room / slope - old).max(0.0));
        if room <= 0.0 {
            return Self {
                days: Some(0.0),
                earliest: Some(0.0),
                latest: Some(0.0),
                reason: "it is there".to_owned(),
            };
        }
        if trend.low <= 0.0 {
            let reason =
                if trend.high <= 0.0 { "it does not grow" } else { "it is not certain that it grows" };
            return Self { earliest: in_days(trend.high), ..Self::none(reason) };
        }
        let far = FAR * trend.days;
        let (days, earliest, latest) = (in_days(trend.per_day), in_days(trend.high), in_days(trend.low));
        if earliest.is_some_and(|days| days > far) {
            let text = format!(
                "not within {}; further than that {} of data do not tell",
                span(far),
                span(trend.days)
            );
            return Self::none(text);
        }
        Self { days, earliest, latest, reason: format!("by the trend of {}", span(trend.days)) }
    }

    /// In a sentence.
    pub fn words(&self) -> String {
        match (self.days, self.earliest, self.latest) {
            (Some(0.0), ..) => format!("now, {}", self.reason),
            (Some(days), Some(low), Some(high)) if low >= 1.0 => {
                format!("in {days:.1} days ({low:.1} to {high:.1}), {}", self.reason)
            }
            (Some(days), Some(low), Some(high)) => {
                format!("in {} ({} to {}), {}", span(days), span(low), span(high), self.reason)
            }
            (Some(days), ..) => format!("in {}, {}", span(days), self.reason),
            (None, ..) => self.reason.clone(),
        }
    }
}
