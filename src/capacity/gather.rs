//! Reads a file of measurements on all processors, in constant memory.
//!
//! The file is cut into pieces; a line belongs to the piece it begins in. Each processor takes one piece after the
//! other and sums up for itself; the sums are added in the end.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::forecast::{Forecast, trend};
use super::line::{Fields, Values};
use super::series::{PARTS, Series};
use super::{Measure, Measured, Window, histogram};
use crate::base::Name;
use crate::base::time::Timestamp;

/// How large a piece is.
const PIECE: u64 = 4 << 20;
/// A longer line is broken.
const LONGEST: u64 = 1 << 20;
/// A clock may be ahead by so many seconds.
const SKEW: f64 = 60.0;

/// Why a file of measurements cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("could not read the measurements in {}", path.shown())]
pub struct GatherError {
    /// Which file.
    pub path: Name,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// What is looked for.
pub struct Wanted {
    pub line: Fields,
    /// Lengths of the windows in seconds, shortest first.
    pub spans: Vec<f64>,
    pub now: Timestamp,
}

/// The sums.
pub struct Gathered {
    lines: u64,
    broken: u64,
    future: u64,
    oldest: f64,
    newest: f64,
    windows: Vec<Sums>,
}

struct Sums {
    samples: u64,
    oldest: f64,
    newest: f64,
    series: Vec<Series>,
}

pub fn gather(path: &Path, wanted: &Wanted) -> Result<Gathered, GatherError> {
    let failed = |source| GatherError { path: Name::from(path.as_os_str()), source };
    // a pipe without a writer would be waited for
    let file = OpenOptions::new().read(true).custom_flags(nonblock()).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::other("it is no regular file")));
    }
    let (size, next) = (metadata.len(), AtomicU64::new(0));
    let threads = crate::sys::host::worker_count().min(size.div_ceil(PIECE).max(1) as usize);
    let sums = std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..threads).map(|_| scope.spawn(|| work(&file, size, &next, wanted))).collect();
        let ended = workers.into_iter().map(|worker| worker.join());
        ended
            .map(|end| end.unwrap_or_else(|_| Err(io::Error::other("a thread ended early"))))
            .collect::<io::Result<Vec<_>>>()
    });
    let mut all = Gathered::new(wanted);
    for one in sums.map_err(failed)? {
        all.merge(&one);
    }
    Ok(all)
}

fn work(file: &File, size: u64, next: &AtomicU64, wanted: &Wanted) -> io::Result<Gathered> {
    let mut sums = Gathered::new(wanted);
    let mut buffer = vec![0; (PIECE + LONGEST + 1) as usize];
    let mut values = Values::default();
    loop {
        let from = next.fetch_add(1, Ordering::Relaxed) * PIECE;
        if from >= size {
            return Ok(sums);
        }
        let until = (from + PIECE).min(size);
        // from the byte before it, which tells whether a line begins here
        let start = from.saturating_sub(1);
        let count = read_up_to(file, &mut buffer, start, size.min(until + LONGEST))?;
        let text = &buffer[..count];
        let mut at = if from == 0 { 0 } else { memchr::memchr(b'\n', text).map_or(count, |at| at + 1) };
        while start + (at as u64) < until && at < count {
            let end = memchr::memchr(b'\n', &text[at..]).map(|end| at + end);
            let is_last = start + count as u64 >= size;
            match end {
                Some(end) => sums.line(&text[at..end], &mut values, wanted),
                // the last line has no end, if somebody is writing it it is broken
                None if is_last => sums.line(&text[at..], &mut values, wanted),
                None => {
                    sums.lines += 1;
                    sums.broken += 1;
                }
            }
            at = end.map_or(count, |end| end + 1);
        }
    }
}

fn read_up_to(file: &File, buffer: &mut [u8], from: u64, until: u64) -> io::Result<usize> {
    let wanted = (until - from) as usize;
    let mut filled = 0;
    while filled < wanted {
        match file.read_at(&mut buffer[filled..wanted], from + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

impl Gathered {
    fn new(wanted: &Wanted) -> Self {
        let sums = || Sums {
            samples: 0,
            oldest: f64::INFINITY,
            newest: f64::NEG_INFINITY,
            series: vec![Series::new(); wanted.line.count()],
        };
        let windows = wanted.spans.iter().map(|_| sums()).collect();
        Self { lines: 0, broken: 0, future: 0, oldest: f64::INFINITY, newest: f64::NEG_INFINITY, windows }
    }

    fn line(&mut self, line: &[u8], values: &mut Values, wanted: &Wanted) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        self.lines += 1;
        if !wanted.line.read(line, values) {
            self.broken += 1;
            return;
        }
        let time = values.time.unwrap_or_default();
        let now = wanted.now.0.timestamp_micros() as f64 / 1e6;
        let age = (now - time).max(0.0);
        if time > now + SKEW {
            self.future += 1;
            return;
        }
        self.oldest = self.oldest.min(time);
        self.newest = self.newest.max(time);
        for (window, span) in self.windows.iter_mut().zip(&wanted.spans).rev() {
            if age > *span {
                break;
            }
            window.samples += 1;
            window.oldest = window.oldest.min(time);
            window.newest = window.newest.max(time);
            let part = ((span - age) / span * PARTS as f64) as usize;
            for (series, value) in window.series.iter_mut().zip(&values.values) {
                if value.is_finite() {
                    series.add(part, *value);
                }
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.lines += other.lines;
        self.broken += other.broken;
        self.future += other.future;
        self.oldest = self.oldest.min(other.oldest);
        self.newest = self.newest.max(other.newest);
        for (mine, theirs) in self.windows.iter_mut().zip(&other.windows) {
            mine.samples += theirs.samples;
            mine.oldest = mine.oldest.min(theirs.oldest);
            mine.newest = mine.newest.max(theirs.newest);
            for (a, b) in mine.series.iter_mut().zip(&theirs.series) {
                a.merge(b);
            }
        }
    }

    /// The report.
    pub fn measured(self, names: &[String], wanted: &Wanted) -> Measured {
        let moment = |seconds: f64| {
            let seconds = seconds.is_finite().then_some(seconds)?;
            Timestamp::from_seconds(seconds as i64)
        };
        let windows = self.windows.iter().zip(&wanted.spans).map(|(sums, span)| Window {
            seconds: *span,
            samples: sums.samples,
            covers: (sums.newest - sums.oldest).max(0.0),
            measures: measures(sums, *span, names),
        });
        Measured {
            lines: self.lines,
            broken: self.broken,
            future: self.future,
            oldest: moment(self.oldest),
            newest: moment(self.newest),
            percentile_error: histogram::ERROR,
            windows: windows.collect(),
        }
    }
}

fn measures(sums: &Sums, span: f64, names: &[String]) -> BTreeMap<String, Measure> {
    let found = names.iter().zip(&sums.series).filter(|(_, series)| series.samples > 0);
    found.map(|(name, series)| (name.clone(), measure(name, series, span))).collect()
}

fn measure(name: &str, series: &Series, span: f64) -> Measure {
    let averages = series.averages();
    let part = span / PARTS as f64 / 86400.0;
    let points: Vec<(f64, f64)> =
        averages.iter().enumerate().filter_map(|(i, value)| Some((i as f64 * part, (*value)?))).collect();
    let trend = trend(&points);
    // what has an end at 100
    let is_share = ["memory", "disk"].contains(&name);
    let at_end = span / 86400.0;
    Measure {
        samples: series.samples,
        average: series.sum / series.samples as f64,
        p95: series.histogram.quantile(0.95, series.least, series.peak),
        least: series.least,
        peak: series.peak,
        forecast: is_share.then(|| Forecast::of(trend.as_ref(), &points, 100.0, at_end)),
        trend,
        series: averages,
    }
}

fn nonblock() -> i32 {
    rustix::fs::OFlags::NONBLOCK.bits().cast_signed()
}
