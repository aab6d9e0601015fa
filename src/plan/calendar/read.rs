//! Reads what people write.

use super::{Calendar, YEARS};

/// All bits of each part.
pub const WEEKDAYS: u64 = 0b111_1111;
/// Months 1 to 12.
pub const MONTHS: u64 = bits(1, 12);
/// Days 1 to 31.
pub const DAYS: u64 = bits(1, 31);
/// Hours 0 to 23.
pub const HOURS: u64 = bits(0, 23);
/// Minutes, and seconds, 0 to 59.
pub const MINUTES: u64 = bits(0, 59);

const NAMES: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
/// Words for whole schedules.
const WORDS: [(&str, &str); 10] = [
    ("minutely", "*-*-* *:*:00"),
    ("hourly", "*-*-* *:00:00"),
    ("daily", "*-*-* 00:00:00"),
    ("weekly", "Mon *-*-* 00:00:00"),
    ("monthly", "*-*-01 00:00:00"),
    ("quarterly", "*-01,04,07,10-01 00:00:00"),
    ("semiannually", "*-01,07-01 00:00:00"),
    ("semi-annually", "*-01,07-01 00:00:00"),
    ("yearly", "*-01-01 00:00:00"),
    ("annually", "*-01-01 00:00:00"),
];

const fn bits(low: u32, high: u32) -> u64 {
    (!0 >> (63 - high)) & (!0 << low)
}

/// The short name of a weekday, from Monday.
pub fn weekday_name(number: u32) -> &'static str {
    NAMES.get(number as usize).map_or("", |name| &name[..3])
}

pub fn calendar(text: &str) -> Result<Calendar, String> {
    let trimmed = text.trim();
    let word = WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(trimmed));
    let found = whole(word.map_or(trimmed, |(_, meaning)| meaning))
        .map_err(|why| format!("{text:?} is not a schedule such as \"daily\" or \"Sun 03:00\": {why}"))?;
    // the thirtieth of February
    let long_ago = chrono::DateTime::UNIX_EPOCH - chrono::TimeDelta::days(1);
    if found.next_after(&long_ago).is_none() {
        return Err(format!("{text:?} never comes"));
    }
    Ok(found)
}

fn whole(text: &str) -> Result<Calendar, String> {
    let mut parts: Vec<&str> = text.split_whitespace().collect();
    let utc = parts.last().is_some_and(|last| last.eq_ignore_ascii_case("UTC"));
    if utc {
        parts.pop();
    }
    if parts.is_empty() {
        return Err("it is empty".to_owned());
    }
    let mut found = Calendar {
        weekdays: WEEKDAYS,
        years: None,
        months: MONTHS,
        days: DAYS,
        hours: 1,
        minutes: 1,
        seconds: 1,
        utc,
    };
    let mut rest = parts.into_iter().peekable();
    if let Some(days) = rest.next_if(|part| part.starts_with(|c: char| c.is_ascii_alphabetic())) {
        // as in `Mon, Thu`
        let mut days = days.to_owned();
        while days.ends_with(',')
            && let Some(more) = rest.next()
        {
            days.push_str(more);
        }
        found.weekdays = weekdays(&days)?;
    }
    if let Some(part) = rest.next_if(|part| !part.contains(':')) {
        date(&mut found, part)?;
    }
    if let Some(part) = rest.next() {
        time(&mut found, part)?;
    }
    match rest.next() {
        Some(more) => Err(format!(
            "{more:?} is too much; only weekdays, a date, a time and UTC are known (no other time zone)"
        )),
        None => Ok(found),
    }
}

fn weekdays(text: &str) -> Result<u64, String> {
    let mut mask = 0;
    for item in text.split(',') {
        let (low, high) = item.split_once("..").map_or((item, item), |ends| ends);
        let (low, high) = (weekday(low)?, weekday(high)?);
        if low > high {
            return Err(format!("{item:?} goes backwards; a week begins on Monday"));
        }
        mask |= bits(low, high);
    }
    Ok(mask)
}

fn weekday(text: &str) -> Result<u32, String> {
    let is = |name: &str| name.eq_ignore_ascii_case(text) || name[..3].eq_ignore_ascii_case(text);
    match NAMES.iter().position(|name| is(name)) {
        Some(number) => Ok(number as u32),
        None => Err(format!("{text:?} is neither a weekday such as Mon nor a word such as daily")),
    }
}

fn date(found: &mut Calendar, text: &str) -> Result<(), String> {
    if text.contains('~') {
        return Err(
            "~ (from the end of the month) is not known here; name the days, such as *-*-28..31".to_owned()
        );
    }
    let parts: Vec<&str> = text.split('-').collect();
    let (year, month, day) = match parts[..] {
        [year, month, day] => (year, month, day),
        [month, day] => ("*", month, day),
        _ => return Err(format!("{text:?} is not a date such as *-*-01 or 12-24")),
    };
    found.years = years(year)?;
    found.months = numbers(month, "month", 1, 12)?;
    found.days = numbers(day, "day", 1, 31)?;
    Ok(())
}

fn time(found: &mut Calendar, text: &str) -> Result<(), String> {
    if text.contains('.') && !text.contains("..") {
        return Err("fractions of seconds are not known here".to_owned());
    }
    let parts: Vec<&str> = text.split(':').collect();
    let (hour, minute, second) = match parts[..] {
        [hour, minute] => (hour, minute, "0"),
        [hour, minute, second] => (hour, minute, second),
        _ => return Err(format!("{text:?} is not a time such as 03:00")),
    };
    found.hours = numbers(hour, "hour", 0, 23)?;
    found.minutes = numbers(minute, "minute", 0, 59)?;
    found.seconds = numbers(second, "second", 0, 59)?;
    Ok(())
}

fn years(text: &str) -> Result<Option<Vec<i32>>, String> {
    if text == "*" {
        return Ok(None);
    }
    let (first, last) = (*YEARS.start(), *YEARS.end());
    let mut all = Vec::new();
    each(text, "year", first.cast_unsigned(), last.cast_unsigned(), |year| all.push(year.cast_signed()))?;
    all.sort_unstable();
    all.dedup();
    Ok(Some(all))
}

fn numbers(text: &str, what: &str, low: u32, high: u32) -> Result<u64, String> {
    let mut mask = 0;
    each(text, what, low, high, |number| mask |= 1 << number)?;
    Ok(mask)
}

// Lists of numbers, ranges and steps: `1,3`, `8..17`, `0/15`, `8..17/2`, `*`.
fn each(text: &str, what: &str, low: u32, high: u32, mut take: impl FnMut(u32)) -> Result<(), String> {
    let number = |text: &str| match text.parse::<u32>() {
        Ok(number) if text.len() <= 4 && (low..=high).contains(&number) => Ok(number),
        _ => Err(format!("{text:?} is no {what} from {low} to {high}")),
    };
    for item in text.split(',') {
        let (range, step) = match item.split_once('/') {
            None => (item, None),
            Some((range, step)) => {
                let step = step.parse::<u32>().ok().filter(|step| (1..=high).contains(step));
                let step =
                    step.ok_or_else(|| format!("{item:?} has no step from 1 to {high} after the /"))?;
                (range, Some(step))
            }
        };
        let (first, last) = match range.split_once("..") {
            Some((first, last)) => (number(first)?, number(last)?),
            None if range == "*" => (low, high),
            None => {
                let first = number(range)?;
                (first, if step.is_some() { high } else { first })
            }
        };
        if first > last {
            return Err(format!("{item:?} goes backwards"));
        }
        if step.is_some_and(|step| step > last - first) {
            // systemd takes it for a mistake too
            return Err(format!("the step in {item:?} leads past {last} at once"));
        }
        (first..=last).step_by(step.unwrap_or(1) as usize).for_each(&mut take);
    }
    Ok(())
}
