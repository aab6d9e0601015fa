//! Whether compression would gain anything, told from a sample of the bytes.

/// So many bytes are looked at.
const SAMPLE: usize = 1024;

/// True if the bytes are spread as evenly as those of compressed or encrypted data.
///
/// The measure is how often two bytes of a sample are the same: once in 256 for random bytes, four times as
/// often for base64, more than ten times for text and programs. (The index of coincidence, W. F. Friedman, 1922.)
pub fn is_dense(content: &[u8]) -> bool {
    if content.len() < SAMPLE / 2 {
        return false;
    }
    // from two places: files begin with headers and end with zeros
    let piece = (SAMPLE / 2).min(content.len() / 2);
    let thirds = [content.len() / 3, content.len() / 3 * 2].map(|at| at.min(content.len() - piece));
    let mut counts = [0u32; 256];
    for at in thirds {
        for &byte in &content[at..at + piece] {
            counts[usize::from(byte)] += 1;
        }
    }
    let pairs: u32 = counts.iter().map(|&n| n * n).sum::<u32>() - 2 * piece as u32;
    let looked = 2 * piece as u32;
    // at most 1.6 times what random bytes have
    pairs * 10 <= looked * (looked - 1) / 256 * 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_are_dense_and_others_are_not() {
        let mut state = 7u64;
        let random = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        });
        let random: Vec<u8> = random.take(5000).collect();
        for size in [512, 700, 1024, 1025, 5000] {
            assert!(is_dense(&random[..size]), "{size}");
        }
        let digits: Vec<u8> = random
            .iter()
            .map(|b| b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[usize::from(b & 63)])
            .collect();
        assert!(!is_dense(&digits));
        assert!(!is_dense(&[0; 4096]));
        assert!(!is_dense(include_bytes!("density.rs")));
        assert!(!is_dense(b""));
        assert!(!is_dense(&random[..100]));
    }
}
