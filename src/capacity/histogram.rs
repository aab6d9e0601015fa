//! Counts of values, each power of two cut into 128 parts: a percentile is off by 1/256 of its value at most, in constant
//! memory, and two histograms are added by adding their counts.

/// Parts of each power of two, as a power of two.
const PARTS: u32 = 7;
/// The smallest power of two that is told apart; below, values count as nothing.
const LEAST: i64 = -20;
/// The largest; above, values count as this.
const MOST: i64 = 60;
const BINS: usize = ((MOST - LEAST) as usize) << PARTS;

/// The share of its value that a percentile is off by at most.
pub const ERROR: f64 = 1.0 / 256.0;

#[derive(Clone)]
pub struct Histogram {
    // values up to nothing, then the bins
    small: u64,
    bins: Vec<u64>,
}

impl Histogram {
    pub fn new() -> Self {
        Self { small: 0, bins: vec![0; BINS] }
    }

    pub fn add(&mut self, value: f64) {
        // the bits of a positive number are its power of two, then its parts: as they grow, so does it
        let bits = value.to_bits().cast_signed() >> (52 - PARTS);
        let at = bits - ((1023 + LEAST) << PARTS);
        match usize::try_from(at) {
            Ok(at) if value > 0.0 => self.bins[at.min(BINS - 1)] += 1,
            _ => self.small += 1,
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.small += other.small;
        for (mine, theirs) in self.bins.iter_mut().zip(&other.bins) {
            *mine += theirs;
        }
    }

    /// The value that this share of all is at most, within `least` and `most`.
    pub fn quantile(&self, share: f64, least: f64, most: f64) -> f64 {
        let count = self.small + self.bins.iter().sum::<u64>();
        let rank = ((count as f64 * share).ceil() as u64).max(1);
        let mut seen = self.small;
        if seen >= rank {
            return 0.0_f64.clamp(least, most);
        }
        for (at, count) in self.bins.iter().enumerate() {
            seen += count;
            if seen >= rank {
                let edge = |at: usize| {
                    f64::from_bits(((at as u64) + (((1023 + LEAST) as u64) << PARTS)) << (52 - PARTS))
                };
                return ((edge(at) + edge(at + 1)) / 2.0).clamp(least, most);
            }
        }
        most
    }
}
