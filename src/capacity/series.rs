//! A measure in a window: sums of equal parts of it, and a histogram.

use super::histogram::Histogram;

/// Parts of a window.
pub const PARTS: usize = 240;

#[derive(Clone)]
pub struct Series {
    pub samples: u64,
    pub sum: f64,
    pub least: f64,
    pub peak: f64,
    pub histogram: Histogram,
    // count and sum of each part
    parts: Vec<(u64, f64)>,
}

impl Series {
    pub fn new() -> Self {
        Self {
            samples: 0,
            sum: 0.0,
            least: f64::INFINITY,
            peak: f64::NEG_INFINITY,
            histogram: Histogram::new(),
            parts: vec![(0, 0.0); PARTS],
        }
    }

    /// Adds a value of this part, counted from the oldest.
    pub fn add(&mut self, part: usize, value: f64) {
        self.samples += 1;
        self.sum += value;
        self.least = self.least.min(value);
        self.peak = self.peak.max(value);
        self.histogram.add(value);
        let (count, sum) = &mut self.parts[part.min(PARTS - 1)];
        *count += 1;
        *sum += value;
    }

    pub fn merge(&mut self, other: &Self) {
        self.samples += other.samples;
        self.sum += other.sum;
        self.least = self.least.min(other.least);
        self.peak = self.peak.max(other.peak);
        self.histogram.merge(&other.histogram);
        for (mine, theirs) in self.parts.iter_mut().zip(&other.parts) {
            mine.0 += theirs.0;
            mine.1 += theirs.1;
        }
    }

    /// The averages of the parts, oldest first.
    pub fn averages(&self) -> Vec<Option<f64>> {
        self.parts.iter().map(|(count, sum)| (*count > 0).then(|| sum / *count as f64)).collect()
    }
}
