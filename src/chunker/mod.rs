//! Where to cut a stream: FastCDC (Xia and others, "The Design of Fast Content-Defined Chunking",
//! 2020), by the crate `fastcdc`, variant 2020 with normalisation level 1. Pure.
//!
//! The cut points are part of the format only in so far as equal content should be cut equally;
//! golden vectors below notice if an update of the crate moves them.

use std::ops::Range;

use fastcdc::v2020::FastCDC;

use crate::format::repository::Chunking;

/// Streams longer than this are cut into larger chunks.
const LONG_STREAM: u64 = 16 << 30;
/// A stream of unknown length is cut into larger chunks after so many of average size: with the usual sizes after as much as
/// [`LONG_STREAM`].
const MANY_CHUNKS: u64 = 32 << 10;

/// Cuts streams with the repository's parameters.
#[derive(Clone, Copy, Debug)]
pub struct Cutter {
    minimum: usize,
    average: usize,
    maximum: usize,
}

impl Cutter {
    /// With the parameters of a repository, which were checked when it was opened.
    pub fn new(chunking: &Chunking) -> Self {
        Self {
            minimum: chunking.minimum as usize,
            average: chunking.average as usize,
            maximum: chunking.maximum as usize,
        }
    }

    /// Up to this size a stream is one chunk.
    pub fn minimum(&self) -> usize {
        self.minimum
    }

    /// The size of most chunks, within a factor of two.
    pub fn average(&self) -> usize {
        self.average
    }

    /// No chunk is larger.
    pub fn maximum(&self) -> usize {
        self.maximum
    }

    /// With eight times larger chunks for streams above 16 GiB, so that the list of a file's chunks
    /// stays within a manifest's line up to about 900 GB (format.md, section 4).
    pub fn for_stream(self, size: u64) -> Self {
        if size <= LONG_STREAM { self } else { self.larger() }
    }

    /// For chunks of a stream of unknown length that begin `at` this byte; and where those begin that are cut otherwise.
    /// The sizes grow with what was read, so that its list stays within a manifest's line too; what streams of about the
    /// same length have in common is cut in the same way.
    pub fn for_stream_at(self, at: u64) -> (Self, u64) {
        let mut cutter = self;
        loop {
            let larger = cutter.larger();
            if larger.average == cutter.average {
                return (cutter, u64::MAX);
            }
            let end = MANY_CHUNKS * cutter.average as u64;
            if at < end {
                return (cutter, end);
            }
            cutter = larger;
        }
    }

    fn larger(self) -> Self {
        let larger = |size: usize, limit: usize| (size * 8).min(limit).max(size);
        Self {
            minimum: larger(self.minimum, 1 << 20),
            average: larger(self.average, 4 << 20),
            maximum: larger(self.maximum, 16 << 20),
        }
    }

    /// The chunks at the start of `data`. Unless it is the end of the stream (`last`), cutting stops
    /// where the next cut could depend on bytes that are not there yet; the rest is for the next call.
    /// A cut before the end of what is there depends on nothing behind it.
    pub fn cut(&self, data: &[u8], last: bool) -> Vec<Range<usize>> {
        let cutter = FastCDC::new(data, self.minimum, self.average, self.maximum);
        let mut chunks = Vec::new();
        let mut start = 0;
        while start < data.len() {
            let (_, end) = cutter.cut(start, data.len() - start);
            // the crate always moves on; a chunk without end would loop here for ever
            let end = if end > start { end } else { data.len() };
            if end == data.len() && !last && end - start < self.maximum {
                break;
            }
            chunks.push(start..end);
            start = end;
        }
        chunks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cutter() -> Cutter {
        Cutter { minimum: 64, average: 256, maximum: 1024 }
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut x = 88_172_645_463_325_252u64;
        let step = |_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        };
        (0..len).map(step).collect()
    }

    #[test]
    fn sizes_grow_with_what_was_read() {
        let usual = Cutter::new(&Chunking::default());
        let (first, end) = usual.for_stream_at(0);
        assert_eq!((first.average, end), (512 << 10, LONG_STREAM));
        assert_eq!(usual.for_stream_at(end - 1).0.average, 512 << 10);
        let (last, end) = usual.for_stream_at(end);
        assert_eq!((last.minimum, last.average, last.maximum), (1 << 20, 4 << 20, 16 << 20));
        assert_eq!(end, u64::MAX);
        assert_eq!(usual.for_stream(LONG_STREAM + 1).average, last.average);
        // the smallest sizes that a repository may have: chunks of average size stay few enough for 256 GiB
        let (mut at, mut chunks) = (0, 0);
        while at < 256 << 30 {
            let (cutter, end) = cutter().for_stream_at(at);
            assert!(end > at);
            chunks += (end.min(256 << 30) - at) / cutter.average as u64;
            at = end;
        }
        assert!(chunks * 67 < crate::format::manifest::MAX_LINE, "{chunks}");
    }

    #[test]
    fn golden_cuts() {
        let ends: Vec<_> = cutter().cut(&noise(3000), true).into_iter().map(|r| r.end).collect();
        assert_eq!(ends, GOLDEN);
        let large = Cutter::new(&Chunking::default());
        let ends: Vec<_> = large.cut(&noise(4 << 20), true).into_iter().map(|r| r.end).collect();
        assert_eq!(ends, GOLDEN_DEFAULT);
    }

    const GOLDEN: &[usize] = &[131, 390, 700, 963, 1302, 1965, 2542, 2938, 3000];
    const GOLDEN_DEFAULT: &[usize] = &[538827, 1103629, 1307118, 1610249, 3254435, 3463145, 4053911, 4194304];

    proptest! {
        #[test]
        fn pieces_give_the_same_cuts_as_the_whole(len in 0usize..9000, piece in 1100usize..3000) {
            let data = noise(len);
            let whole = cutter().cut(&data, true);
            let (mut start, mut chunks) = (0, Vec::new());
            loop {
                let end = (start + piece).min(len);
                let cuts = cutter().cut(&data[start..end], end == len);
                let used = cuts.last().map_or(0, |c| c.end);
                chunks.extend(cuts.into_iter().map(|c| c.start + start..c.end + start));
                start += used;
                if end == len { break; }
            }
            prop_assert_eq!(chunks, whole);
        }
    }
}
