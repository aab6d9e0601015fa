//! Names of files that were set aside: `aura.log` becomes `aura_20261124_101112.log`, times in UTC.

use chrono::NaiveDateTime;

use crate::base::time::Timestamp;

/// What is added by packing.
pub const PACKED: &[u8] = b".gz";
const FORM: &str = "%Y%m%d_%H%M%S";

fn split(log: &[u8]) -> (&[u8], &[u8]) {
    match log.iter().rposition(|&b| b == b'.') {
        Some(at) if at > 0 => log.split_at(at),
        _ => (log, b""),
    }
}

/// The name for this time; `again` tells those of one second apart, from 1.
pub fn dated(log: &[u8], at: Timestamp, again: u32) -> Vec<u8> {
    let (stem, end) = split(log);
    let mut middle = format!("_{}", at.0.format(FORM));
    if again > 1 {
        middle.push_str(&format!("_{again}"));
    }
    [stem, middle.as_bytes(), end].concat()
}

/// The time that the name was made at, and whether it is packed; `None` if it is no name of this log.
pub fn read(log: &[u8], other: &[u8]) -> Option<(Timestamp, bool)> {
    let (stem, end) = split(log);
    let is_packed = other.ends_with(PACKED);
    let plain = other.strip_suffix(PACKED).unwrap_or(other);
    let middle = plain.strip_prefix(stem)?.strip_suffix(end)?.strip_prefix(b"_")?;
    let middle = str::from_utf8(middle).ok()?;
    let (when, again) = middle.split_at_checked(15)?;
    let is_again = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !again.is_empty() && !again.strip_prefix('_').is_some_and(is_again) {
        return None;
    }
    Some((Timestamp(NaiveDateTime::parse_from_str(when, FORM).ok()?.and_utc()), is_packed))
}
