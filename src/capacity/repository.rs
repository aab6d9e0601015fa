//! How the repository grows, by the catalog's own history.

use serde::{Deserialize, Serialize};

use super::forecast::{Forecast, Trend, trend};
use crate::base::time::Timestamp;
use crate::repo::documents::Snapshot;

/// How a repository grows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// Snapshots that are looked at.
    pub snapshots: u64,
    /// The sizes of all snapshots together, as if each were stored by itself.
    pub bytes: u64,
    /// What they added to the repository.
    pub stored_bytes: u64,
    /// The first by the second; `None` where nothing was stored.
    pub deduplication: Option<f64>,
    /// The newest snapshot's size.
    pub newest_bytes: u64,
    /// The growth of the size of a snapshot, in bytes a day.
    pub tree: Option<Trend>,
    /// The growth of what is stored, in bytes a day.
    pub stored: Option<Trend>,
    /// What is free where the repository lies; `None` if that is not known.
    pub free_bytes: Option<u64>,
    /// When that runs out.
    pub forecast: Forecast,
    /// Each snapshot: when it was taken, its size, and all that was stored until then.
    pub points: Vec<Point>,
}

/// A snapshot, as a point of a plot.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// When it was taken.
    pub at: Timestamp,
    /// Its size.
    pub bytes: u64,
    /// What was stored until then, this one included.
    pub stored: u64,
}

/// The growth by these snapshots, forgotten ones included: what they stored may be there still.
pub fn growth(snapshots: &[Snapshot], free_bytes: Option<u64>, now: Timestamp) -> Growth {
    let mut all: Vec<_> = snapshots.iter().map(|s| &s.document).collect();
    all.sort_by(|a, b| a.started.partial_cmp(&b.started).unwrap_or(std::cmp::Ordering::Equal));
    let taken = all
        .iter()
        .map(|document| (document.started, document.statistics.bytes, document.statistics.stored_bytes));
    of_points(points(taken), free_bytes, now)
}

/// Snapshots as points, oldest first: of each, when it was taken, its size, and what it added.
pub fn points(snapshots: impl Iterator<Item = (Timestamp, u64, u64)>) -> Vec<Point> {
    let mut stored = 0;
    let point = |(at, bytes, added): (Timestamp, u64, u64)| {
        stored += added;
        Point { at, bytes, stored }
    };
    snapshots.map(point).collect()
}

/// As [`growth`], of the points themselves, oldest first.
pub fn of_points(points: Vec<Point>, free_bytes: Option<u64>, now: Timestamp) -> Growth {
    let day = |at: Timestamp| points.first().map_or(0.0, |first| at.since(first.at).as_secs_f64() / 86400.0);
    let trees: Vec<(f64, f64)> = points.iter().map(|p| (day(p.at), p.bytes as f64)).collect();
    let stores: Vec<(f64, f64)> = points.iter().map(|p| (day(p.at), p.stored as f64)).collect();
    let stored_trend = trend(&stores);
    let forecast = match (free_bytes, &stored_trend) {
        (None, _) => Forecast::none("what is free there is not known"),
        (Some(free), Some(trend)) => Forecast::of(Some(trend), &stores, trend.level + free as f64, day(now)),
        (Some(_), None) => Forecast::of(None, &stores, 0.0, day(now)),
    };
    let bytes: u64 = points.iter().map(|p| p.bytes).sum();
    let stored_bytes = points.last().map_or(0, |p| p.stored);
    Growth {
        snapshots: points.len() as u64,
        bytes,
        stored_bytes,
        deduplication: (stored_bytes > 0).then(|| bytes as f64 / stored_bytes as f64),
        newest_bytes: points.last().map_or(0, |p| p.bytes),
        tree: trend(&trees),
        stored: stored_trend,
        free_bytes,
        forecast,
        points,
    }
}
