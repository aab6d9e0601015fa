//! `capacity`: what is used, how it grows, when it runs out. From a file of measurements, from the catalog's own
//! history, and from the host now. Pure functions over data; who shows it is above.

pub mod forecast;
mod gather;
mod histogram;
mod line;
pub mod plot;
pub mod repository;
pub mod sample;
mod series;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::base::time::Timestamp;
use crate::plan::types::{Capacity, Metrics};
use crate::state::{State, StateError};

pub use forecast::{Forecast, Trend};
pub use gather::GatherError;
pub use repository::Growth;

/// The last report, in the application's state.
pub const FILE: &str = "capacity.json";

/// The measures, and the fields that hold them where the plan names none: those of the sample application's monitoring.
pub const FIELDS: &[(&str, &str)] = &[
    ("cpu", "cpu_percent"),
    ("memory", "memory_percent"),
    ("disk", "disk_usage_percent"),
    ("load", "load_average"),
];

/// What is used, how it grows, when it runs out. Fields are added, never renamed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// When it was made.
    pub at: Timestamp,
    /// The host now, by measure.
    pub now: BTreeMap<String, f64>,
    /// The file of measurements; `None` if the plan names none.
    pub metrics: Option<Measured>,
    /// The repository; `None` where there is none.
    pub repository: Option<Growth>,
    /// What is above its threshold, or runs out soon, in sentences.
    pub warnings: Vec<String>,
}

/// What a file of measurements holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Lines in all.
    pub lines: u64,
    /// Lines that are no JSON object with a time; they are left out.
    pub broken: u64,
    /// Lines whose time lies in the future; they are left out.
    pub future: u64,
    /// The oldest line's time.
    pub oldest: Option<Timestamp>,
    /// The newest line's time.
    pub newest: Option<Timestamp>,
    /// How exact the percentiles are: they are off by this share of their value at most.
    pub percentile_error: f64,
    /// The windows, shortest first.
    pub windows: Vec<Window>,
}

/// A span of time before now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Window {
    /// How long it is, in seconds.
    pub seconds: f64,
    /// Lines in it.
    pub samples: u64,
    /// From its first line to its last, in seconds: what it really covers.
    pub covers: f64,
    /// Its measures.
    pub measures: BTreeMap<String, Measure>,
}

/// A measure in a window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measure {
    /// Lines that hold it.
    pub samples: u64,
    /// The average.
    pub average: f64,
    /// 95 of 100 are at most this.
    pub p95: f64,
    /// The least.
    pub least: f64,
    /// The peak.
    pub peak: f64,
    /// Where it goes; `None` where there is not enough data.
    pub trend: Option<Trend>,
    /// When it reaches 100, for memory and disk.
    pub forecast: Option<Forecast>,
    /// Averages of equal parts of the window, oldest first; `None` where there is no line.
    pub series: Vec<Option<f64>>,
}

/// Reads a file of measurements: as a stream, in constant memory, on all processors.
///
/// # Errors
/// If it cannot be read.
pub fn measure(
    path: &Path,
    metrics: &Metrics,
    rule: &Capacity,
    now: Timestamp,
) -> Result<Measured, GatherError> {
    let (names, fields): (Vec<String>, Vec<String>) = if metrics.fields.is_empty() {
        FIELDS.iter().map(|(name, field)| ((*name).to_owned(), (*field).to_owned())).unzip()
    } else {
        metrics.fields.iter().map(|(name, field)| (name.clone(), field.clone())).unzip()
    };
    let mut spans: Vec<f64> =
        rule.windows.iter().map(|span| span.0.as_secs_f64()).filter(|s| *s > 0.0).collect();
    spans.sort_by(f64::total_cmp);
    spans.dedup();
    let wanted = gather::Wanted { line: line::Fields::new(&metrics.time, &fields), spans, now };
    let gathered = gather::gather(path, &wanted)?;
    Ok(gathered.measured(&names, &wanted))
}

/// What is to be warned of.
pub fn warnings(report: &Report, rule: &Capacity) -> Vec<String> {
    let mut found = Vec::new();
    let horizon = rule.horizon.0.as_secs_f64();
    for (name, most) in &rule.warn {
        if let Some(now) = report.now.get(name).filter(|now| *now > most) {
            found.push(format!("{name} is at {now:.1} now, above {most}"));
        }
        for window in report.metrics.iter().flat_map(|m| &m.windows) {
            if let Some(measure) = window.measures.get(name).filter(|m| m.average > *most) {
                let span = span_words(window.seconds);
                found
                    .push(format!("{name} was at {:.1} on average in {span}, above {most}", measure.average));
            }
        }
    }
    // the longest window that has an answer says when
    let longest = |name: &str| {
        let windows = report.metrics.iter().flat_map(|m| m.windows.iter().rev());
        windows.filter_map(|w| w.measures.get(name)?.forecast.clone()).find(|f| f.days.is_some())
    };
    let names = ["memory", "disk"].into_iter().filter_map(|name| Some((name, longest(name)?)));
    let repository = report.repository.as_ref().map(|r| ("the repository's room", r.forecast.clone()));
    for (name, forecast) in names.chain(repository) {
        if forecast.days.is_some_and(|days| days * 86400.0 <= horizon) {
            found.push(format!("{name} runs out: {}", forecast.words()));
        }
    }
    found
}

/// A span as people say it.
pub fn span_words(seconds: f64) -> String {
    match seconds {
        s if s >= 2.0 * 86400.0 => format!("{:.0} days", s / 86400.0),
        s if s >= 86400.0 => "1 day".to_owned(),
        s if s >= 7200.0 => format!("{:.0} hours", s / 3600.0),
        s => format!("{:.0} minutes", s / 60.0),
    }
}

/// Keeps a report for those who may not wait for one: status and report pages.
///
/// # Errors
/// If it cannot be written.
pub fn keep(state: &State, report: &Report) -> Result<(), StateError> {
    state.write(FILE, report)
}

/// The last report that was made.
///
/// # Errors
/// If it cannot be read.
pub fn last(state: &State) -> Result<Option<Report>, StateError> {
    state.read(FILE)
}

#[cfg(test)]
mod tests;
