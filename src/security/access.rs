//! Requests that were refused or failed, counted since the last time and compared with it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Finding, Part};
use crate::base::Name;
use crate::base::time::Timestamp;
use crate::check::follow::{self, Begin, End, follow};
use crate::check::{Mark, Outcome};

/// The statuses that are counted.
pub const STATUSES: [u16; 3] = [401, 403, 500];
/// Fewer more than the last time are no rise.
const MIN_RISE: u64 = 10;

/// What is remembered of a log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// How far it was read.
    pub mark: Mark,
    /// When.
    pub at: Timestamp,
    /// The time that the counts are of, in seconds; `None` the first time.
    pub span: Option<f64>,
    /// Lines of each status.
    pub counts: BTreeMap<u16, u64>,
}

/// Counts what came since `last`. It fails if a status comes more than twice as often as then, and by more than ten.
///
/// # Errors
/// The part, if the log cannot be read.
pub fn look(log: &Path, last: Option<&Seen>, now: Timestamp) -> Result<(Part, Seen), Part> {
    let shown = Name::from(log.as_os_str()).shown();
    let mut counts: BTreeMap<u16, u64> = STATUSES.map(|status| (status, 0)).into();
    let begin = last.map_or(Begin::Start, |seen| Begin::Mark(&seen.mark));
    let mut tries = 0;
    let followed = loop {
        tries += 1;
        counts.values_mut().for_each(|count| *count = 0);
        let followed = follow(log, begin, End::WholeLines, &mut |line| {
            if let Some(count) = status(line).and_then(|status| counts.get_mut(&status)) {
                *count += 1;
            }
        });
        match followed {
            Err(error) if follow::is_cut(&error) && tries < 5 => {}
            Err(error) => return Err(Part::new("access", Outcome::Error, format!("{shown}: {error}"))),
            Ok(followed) => break followed,
        }
    };
    let span = last.map(|seen| now.since(seen.at).as_secs_f64());
    let seen = Seen { mark: followed.mark, at: now, span, counts };
    let told: Vec<String> = seen.counts.iter().map(|(status, count)| format!("{status}: {count}")).collect();
    let rises: Vec<Finding> = last.map(|last| rises(log, last, &seen)).unwrap_or_default();
    let since = match (last, followed.is_lost) {
        (None, _) => "in the log, the first look",
        (Some(_), false) => "since the last look",
        (Some(_), true) => "in the log; what was rotated since the last look is not to be found",
    };
    let outcome = if rises.is_empty() { Outcome::Pass } else { Outcome::Fail };
    let reason = format!("{shown}: {} in {} lines {since}", told.join(", "), followed.lines);
    Ok((Part { name: "access".to_owned(), outcome, reason, findings: rises }, seen))
}

fn rises(log: &Path, last: &Seen, seen: &Seen) -> Vec<Finding> {
    let found = seen.counts.iter().filter_map(|(status, count)| {
        let before = last.counts.get(status).copied().unwrap_or_default();
        // by the hour where both are of a known time
        let (old, new) = match (last.span, seen.span) {
            (Some(a), Some(b)) if a > 0.0 && b > 0.0 => (before as f64 / a, *count as f64 / b),
            _ => (before as f64, *count as f64),
        };
        let what = format!("{status} came {count} times, the last time {before}");
        (*count >= before + MIN_RISE && new > 2.0 * old).then(|| Finding {
            subject: Name::from(log.as_os_str()),
            line: None,
            what,
        })
    });
    found.collect()
}

/// The status of a line: three digits after the request in quotes, as web servers write it in the common and combined
/// form, with or without something before it.
pub fn status(line: &[u8]) -> Option<u16> {
    // a quote inside of the request is escaped: it ends nothing
    let mut ends = memchr::memmem::find_iter(line, b"\" ").filter(|&at| at == 0 || line[at - 1] != b'\\');
    ends.find_map(|at| match &line[at + 2..] {
        [a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..]
            if matches!(rest.first(), None | Some(b' ')) =>
        {
            let digit = |b: &u8| u16::from(b - b'0');
            Some(digit(a) * 100 + digit(b) * 10 + digit(c))
        }
        _ => None,
    })
}
