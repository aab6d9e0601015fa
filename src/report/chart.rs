//! Where things lie in a drawing of values over time. Numbers only: the template draws them.

use crate::base::time::Timestamp;

/// Width of every drawing, in units of its view box.
pub const WIDTH: f64 = 900.0;
/// Where the plot begins and ends.
pub const LEFT: f64 = 92.0;
pub const RIGHT: f64 = WIDTH - 24.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 200.0;
/// Under the plot: the dates.
const AXIS: f64 = 34.0;
/// A line has at most so many points; more are thinned out evenly.
const MAX_POINTS: usize = 400;

/// A mark on an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    pub at: f64,
    pub label: String,
}

/// A line of a drawing.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub class: &'static str,
    /// Pieces of it, each an SVG list of points.
    pub pieces: Vec<String>,
    /// The newest point.
    pub end: Option<(f64, f64)>,
}

/// A point of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    pub x: f64,
    pub y: f64,
    pub class: &'static str,
    pub says: String,
}

/// Values over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    pub title: String,
    pub height: f64,
    pub bottom: f64,
    pub lines: Vec<Line>,
    pub marks: Vec<Mark>,
    pub values: Vec<Tick>,
    pub dates: Vec<Tick>,
    pub limit: Option<Tick>,
    pub note: String,
}

/// A value at a time; `None` where there is none.
pub type Sample = (Timestamp, Option<f64>);

/// The span of time that a drawing shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    first: f64,
    last: f64,
    left: f64,
}

impl Span {
    /// From the first to the last of these; `None` without any.
    pub fn of(times: impl Iterator<Item = Timestamp> + Clone) -> Option<Self> {
        let (first, last) = (times.clone().min()?, times.max()?);
        Some(Self { first: seconds(first), last: seconds(last), left: LEFT })
    }

    /// The same in a plot that begins further to the right.
    pub fn from(self, left: f64) -> Self {
        Self { left, ..self }
    }

    /// Where a time lies; in the middle where all are one.
    pub fn x(&self, at: Timestamp) -> f64 {
        let share = if self.last > self.first {
            ((seconds(at) - self.first) / (self.last - self.first)).clamp(0.0, 1.0)
        } else {
            0.5
        };
        tenth(self.left + (RIGHT - self.left) * share)
    }

    /// At most five dates, evenly apart; with the hour where the span is short.
    pub fn ticks(&self) -> Vec<Tick> {
        const COUNT: i32 = 4;
        let length = self.last - self.first;
        let count = if length > 0.0 { COUNT } else { 0 };
        let tick = |n: i32| {
            let at =
                if count == 0 { self.first } else { self.first + length * f64::from(n) / f64::from(COUNT) };
            let at = Timestamp::from_seconds(at as i64)?;
            let shown = at.shown();
            let label = match length {
                ..3600.0 => shown.get(11..),
                ..345_600.0 => shown.get(5..16),
                _ => shown.get(..10),
            };
            Some(Tick { at: self.x(at), label: label.unwrap_or_default().to_owned() })
        };
        (0..=count).filter_map(tick).collect()
    }
}

fn seconds(at: Timestamp) -> f64 {
    let (whole, nanos) = at.parts();
    whole as f64 + f64::from(nanos) / 1e9
}

/// Where values lie.
pub struct Scale {
    most: f64,
}

impl Scale {
    /// From nothing to a little above the largest.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let most = values.filter(|value| value.is_finite()).fold(0.0, f64::max).min(1e300);
        Self { most: if most > 0.0 { most * 1.08 } else { 1.0 } }
    }

    pub fn y(&self, value: f64) -> f64 {
        tenth(BOTTOM - (BOTTOM - TOP) * (value / self.most).clamp(0.0, 1.0))
    }

    // Round values in steps of `unit` times 1, 2 or 5 times a power of ten.
    fn ticks(&self, unit: f64, label: &dyn Fn(f64) -> String) -> Vec<Tick> {
        let rough = self.most / unit / 4.0;
        let power = 10f64.powf(rough.max(f64::MIN_POSITIVE).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|step| *step >= rough);
        let step = step.unwrap_or(power) * unit;
        let tick = |n: u32| {
            let value = step * f64::from(n);
            (value <= self.most).then(|| Tick { at: self.y(value), label: label(value) })
        };
        (0..8).map_while(tick).collect()
    }
}

/// What values are called.
pub struct Units<'u> {
    /// Round numbers are counted in this.
    pub unit: f64,
    /// A value in words.
    pub label: &'u dyn Fn(f64) -> String,
}

impl Chart {
    /// Lines over time; `None` if there is no value. What is not there breaks a line.
    pub fn lines(
        title: impl Into<String>,
        series: &[(&'static str, Vec<Sample>)],
        units: &Units<'_>,
    ) -> Option<Self> {
        let samples = || series.iter().flat_map(|(_, samples)| samples);
        let known = samples().filter_map(|(_, value)| *value);
        known.clone().next()?;
        let span = Span::of(samples().map(|sample| sample.0))?;
        let scale = Scale::of(known);
        let line = |(class, samples): &(&'static str, Vec<Sample>)| line(class, samples, span, &scale);
        Some(Self {
            title: title.into(),
            height: BOTTOM + AXIS,
            bottom: BOTTOM,
            lines: series.iter().map(line).collect(),
            marks: Vec::new(),
            values: scale.ticks(units.unit, units.label),
            dates: span.ticks(),
            limit: None,
            note: String::new(),
        })
    }

    /// Marks over time, with a limit where it lies in the drawing; `None` if there is none.
    pub fn marks(
        title: impl Into<String>,
        marks: &[(Timestamp, Option<f64>, &'static str, String)],
        limit: Option<(f64, String)>,
        units: &Units<'_>,
    ) -> Option<Self> {
        let span = Span::of(marks.iter().map(|mark| mark.0))?;
        let most = marks.iter().filter_map(|mark| mark.1).fold(0.0, f64::max);
        let limit = limit.filter(|(value, _)| most == 0.0 || *value <= 4.0 * most);
        let scale =
            Scale::of(marks.iter().filter_map(|mark| mark.1).chain(limit.iter().map(|(value, _)| *value)));
        let mark = |(at, value, class, says): &(Timestamp, Option<f64>, &'static str, String)| Mark {
            x: span.x(*at),
            y: value.map_or(BOTTOM, |value| scale.y(value)),
            class,
            says: says.clone(),
        };
        let path: Vec<Sample> =
            marks.iter().filter(|mark| mark.1.is_some()).map(|mark| (mark.0, mark.1)).collect();
        Some(Self {
            title: title.into(),
            height: BOTTOM + AXIS,
            bottom: BOTTOM,
            lines: vec![Line { end: None, ..line("path", &path, span, &scale) }],
            marks: marks.iter().map(mark).collect(),
            values: scale.ticks(units.unit, units.label),
            dates: span.ticks(),
            limit: limit.map(|(value, label)| Tick { at: scale.y(value), label }),
            note: String::new(),
        })
    }

    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

fn line(class: &'static str, samples: &[Sample], span: Span, scale: &Scale) -> Line {
    let step = samples.len().div_ceil(MAX_POINTS).max(1);
    let last = samples.len().saturating_sub(1);
    let (mut pieces, mut piece, mut end) = (Vec::new(), Vec::new(), None);
    // the newest is always drawn
    for (_, (at, value)) in samples.iter().enumerate().filter(|(n, _)| n % step == 0 || *n == last) {
        match value {
            Some(value) => {
                let (x, y) = (span.x(*at), scale.y(*value));
                piece.push(format!("{x},{y}"));
                end = Some((x, y));
            }
            None if !piece.is_empty() => pieces.push(std::mem::take(&mut piece).join(" ")),
            None => {}
        }
    }
    if !piece.is_empty() {
        pieces.push(piece.join(" "));
    }
    Line { class, pieces, end }
}

pub fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
