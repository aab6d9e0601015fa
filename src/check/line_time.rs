//! The time that a line of a log bears.

use chrono::{DateTime, FixedOffset, Local, NaiveDate, NaiveDateTime, TimeZone as _, Utc};

use crate::base::time::Timestamp;

/// So much of a line's beginning is looked at.
const HEAD: usize = 200;

/// The first time that is written in the line's beginning: as RFC 3339 has it, with a blank or `T` between day and
/// hour, or as web servers write it (`24/Nov/2026:10:11:12 +0100`). Without a zone it is the host's own.
pub fn time_of(line: &[u8]) -> Option<Timestamp> {
    let head = &line[..line.len().min(HEAD)];
    (0..head.len()).filter(|&at| head[at].is_ascii_digit()).find_map(|at| {
        let is_middle = at > 0 && head[at - 1].is_ascii_digit();
        if is_middle { None } else { iso(&head[at..]).or_else(|| common(&head[at..])) }
    })
}

fn number(text: &[u8], from: usize, count: usize) -> Option<u32> {
    let digits = text.get(from..from + count)?;
    digits.iter().try_fold(0, |all, b| b.is_ascii_digit().then(|| all * 10 + u32::from(b - b'0')))
}

fn moment(date: NaiveDate, text: &[u8], at: usize) -> Option<NaiveDateTime> {
    if text.get(at + 2) != Some(&b':') || text.get(at + 5) != Some(&b':') {
        return None;
    }
    date.and_hms_opt(number(text, at, 2)?, number(text, at + 3, 2)?, number(text, at + 6, 2)?.min(59))
}

// 2026-11-24T10:11:12.123Z, 2026-11-24 10:11:12,123 +01:00
fn iso(text: &[u8]) -> Option<Timestamp> {
    if text.get(4) != Some(&b'-') || text.get(7) != Some(&b'-') || !matches!(text.get(10), Some(b' ' | b'T'))
    {
        return None;
    }
    let date =
        NaiveDate::from_ymd_opt(number(text, 0, 4)?.cast_signed(), number(text, 5, 2)?, number(text, 8, 2)?)?;
    let when = moment(date, text, 11)?;
    let mut rest = text.get(19..).unwrap_or_default();
    if let [b'.' | b',', digits @ ..] = rest {
        rest = &digits[digits.iter().take_while(|b| b.is_ascii_digit()).count()..];
    }
    zoned(when, rest)
}

// 24/Nov/2026:10:11:12 +0100
fn common(text: &[u8]) -> Option<Timestamp> {
    const MONTHS: [&[u8]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    if text.get(2) != Some(&b'/') || text.get(6) != Some(&b'/') || text.get(11) != Some(&b':') {
        return None;
    }
    let month = MONTHS.iter().position(|name| text.get(3..6) == Some(*name))? as u32 + 1;
    let date = NaiveDate::from_ymd_opt(number(text, 7, 4)?.cast_signed(), month, number(text, 0, 2)?)?;
    zoned(moment(date, text, 12)?, text.get(20..).unwrap_or_default())
}

fn zoned(when: NaiveDateTime, rest: &[u8]) -> Option<Timestamp> {
    let rest = rest.strip_prefix(b" ").unwrap_or(rest);
    let in_utc = |at: DateTime<FixedOffset>| Some(Timestamp(at.with_timezone(&Utc)));
    match rest {
        [b'Z', ..] => Some(Timestamp(when.and_utc())),
        [sign @ (b'+' | b'-'), zone @ ..] => {
            let minutes_at = if zone.get(2) == Some(&b':') { 3 } else { 2 };
            let seconds = (number(zone, 0, 2)? * 3600 + number(zone, minutes_at, 2)? * 60).cast_signed();
            let offset = FixedOffset::east_opt(if *sign == b'-' { -seconds } else { seconds })?;
            in_utc(offset.from_local_datetime(&when).single()?)
        }
        _ => Some(Timestamp(Local.from_local_datetime(&when).earliest()?.with_timezone(&Utc))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_common_logs_are_read() {
        let time = |line: &str| time_of(line.as_bytes()).map(Timestamp::rfc3339);
        let utc = "2026-11-24T10:11:12Z".to_owned();
        for line in [
            "2026-11-24T10:11:12.345Z ERROR x",
            "[2026-11-24 11:11:12,345 +0100] x",
            "{\"timestamp\": \"2026-11-24T10:11:12+00:00\"}",
            "10.0.0.1 - - [24/Nov/2026:05:11:12 -0500] \"GET / HTTP/1.1\" 200 5",
        ] {
            assert_eq!(time(line), Some(utc.clone()), "{line}");
        }
        let local = time_of(b"2026-11-24 10:11:12,345 INFO x").unwrap();
        assert_eq!(local.0.with_timezone(&Local).naive_local().to_string(), "2026-11-24 10:11:12");
        for line in ["", "no time", "2026-13-24 10:11:12", "12026-11-24 10:11:12", "99:99"] {
            assert_eq!(time(line), None, "{line}");
        }
    }
}
