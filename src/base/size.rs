//! How people read and write amounts.

use std::time::Duration;

/// A number of bytes as `1.5 GiB`; below 1 KiB as `812 B`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A count with separators: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count with its noun, which takes an `s` unless the count is one: `1 file`, `2,000 files`.
pub fn plural(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A length of time: `0.12 s`, `12.3 s`, `4 min 05 s`, `3 h 02 min`, `5 d 3 h`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.2} s", time.as_secs_f64()),
        10..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86400, seconds / 3600 % 24),
    }
}

/// Reads `512`, `10K`, `1.5GiB`, `2 MB`. A bare letter or `iB` counts by 1024, `KB` by 1000.
///
/// # Errors
/// A sentence that says what was expected.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..split], text[split..].trim());
    let value: f64 =
        number.parse().map_err(|_| format!("{text:?} is not a size such as 512, 10M or 1.5GiB"))?;
    let power = |base: f64, letter: char| "KMGTP".find(letter).map(|i| base.powi(i as i32 + 1));
    let upper = unit.to_ascii_uppercase();
    let mut letters = upper.chars();
    let scale = match (letters.next(), letters.as_str()) {
        (None, _) | (Some('B'), "") => Some(1.0),
        (Some(letter), "" | "IB") => power(1024.0, letter),
        (Some(letter), "B") => power(1000.0, letter),
        _ => None,
    };
    scale
        .map(|scale| (value * scale) as u64)
        .ok_or_else(|| format!("{unit:?} is not a unit: use B, K, M, G, T (by 1024), KB, MB, GB (by 1000)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_people_write_them() {
        assert_eq!(bytes(812), "812 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(plural(1, "file"), "1 file");
        assert_eq!(duration(Duration::from_millis(120)), "0.12 s");
        assert_eq!(duration(Duration::from_secs(245)), "4 min 05 s");
        assert_eq!(parse_bytes("1.5GiB"), Ok(1_610_612_736));
        assert_eq!(parse_bytes("10K"), Ok(10240));
        assert_eq!(parse_bytes("2 MB"), Ok(2_000_000));
        assert!(parse_bytes("ten").is_err());
        assert!(parse_bytes("10X").is_err());
    }
}
