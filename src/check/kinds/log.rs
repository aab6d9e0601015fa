//! `log`: lines that must or must not be there, since the last look, across rotation.

use std::path::Path;

use regex::bytes::Regex;

use super::super::config::{Log, Since};
use super::super::follow::{self, Begin, End, Followed, follow};
use super::super::judge::{regex, short};
use super::super::line_time::time_of;
use super::super::run::{Context, Mark};
use super::super::verdict::{Found, evidence};
use crate::base::size;
use crate::base::time::Timestamp;

/// So many lines are kept as evidence.
const KEPT: usize = 10;
/// A log that is rotated while it is read is read again, so often at most.
const TRIES: usize = 5;

// What is asked of each line.
struct Patterns {
    forbid: Vec<Regex>,
    require: Vec<Regex>,
}

struct Seen {
    lines: u64,
    forbidden: u64,
    kept: Vec<String>,
    missing: Vec<bool>,
}

pub fn look(check: &Log, mark: Option<&Mark>, context: &Context) -> Found {
    let path = context.path(&check.log);
    let patterns = match Patterns::of(check) {
        Ok(patterns) => patterns,
        Err(why) => return Found::error(why),
    };
    let mark = mark.filter(|_| check.since == Since::Mark && context.since.is_none());
    let begin = match (context.since, mark) {
        (Some(time), _) => Begin::Time(time),
        (None, Some(mark)) => Begin::Mark(mark),
        (None, None) => Begin::Start,
    };
    let end = if check.since == Since::Mark { End::WholeLines } else { End::All };
    match read(&path, begin, end, &patterns, context.since) {
        Err(error) => super::of_io(&path, &error),
        Ok((seen, followed)) => {
            let since = match (context.since, mark) {
                (Some(time), _) => format!("since {}", time.shown()),
                (None, Some(_)) => "since the last look".to_owned(),
                (None, None) => "in the log".to_owned(),
            };
            let mut found = judge(check, &seen, &since);
            if followed.is_lost {
                let text = "; the log was rotated, and what was written between is not to be found";
                found.reason.push_str(text);
            }
            found.mark = Some(Box::new(followed.mark));
            found.forbidden = Some(seen.forbidden);
            found
        }
    }
}

fn read(
    path: &Path,
    begin: Begin<'_>,
    end: End,
    patterns: &Patterns,
    since: Option<Timestamp>,
) -> std::io::Result<(Seen, Followed)> {
    let mut tries = 0;
    loop {
        tries += 1;
        let mut seen = patterns.nothing_seen();
        // a line without a time belongs to the one before it
        let mut is_recent = since.is_none();
        let followed = follow(path, begin, end, &mut |line| {
            if let (Some(since), Some(time)) = (since, since.and_then(|_| time_of(line))) {
                is_recent = time >= since;
            }
            if is_recent {
                patterns.judge(line, &mut seen);
            }
        });
        match followed {
            Err(error) if follow::is_cut(&error) && tries < TRIES => {}
            other => return Ok((seen, other?)),
        }
    }
}

impl Patterns {
    fn of(check: &Log) -> Result<Self, String> {
        let all = |list: &[String]| list.iter().map(|pattern| regex(pattern)).collect::<Result<_, _>>();
        Ok(Self { forbid: all(&check.forbid.0)?, require: all(&check.require.0)? })
    }

    fn nothing_seen(&self) -> Seen {
        Seen { lines: 0, forbidden: 0, kept: Vec::new(), missing: vec![true; self.require.len()] }
    }

    fn judge(&self, line: &[u8], seen: &mut Seen) {
        seen.lines += 1;
        if self.forbid.iter().any(|pattern| pattern.is_match(line)) {
            seen.forbidden += 1;
            if seen.kept.len() < KEPT {
                seen.kept.push(evidence(&line[..line.len().min(300)]));
            }
        }
        for (is_missing, pattern) in seen.missing.iter_mut().zip(&self.require) {
            *is_missing = *is_missing && !pattern.is_match(line);
        }
    }
}

fn judge(check: &Log, seen: &Seen, since: &str) -> Found {
    let lines = size::plural(seen.lines, "line");
    let observed = seen.kept.join("\n");
    let expected = match check.max {
        0 => "no forbidden line".to_owned(),
        most => format!("at most {}", size::plural(most, "forbidden line")),
    };
    if seen.forbidden > check.max {
        let first = seen.kept.first().map(|line| format!(": {}", short(line))).unwrap_or_default();
        let count = size::plural(seen.forbidden, "forbidden line");
        return Found::fail(format!("{count} of {lines} {since}{first}")).saw(observed).expected(expected);
    }
    if let Some(at) = seen.missing.iter().position(|is_missing| *is_missing) {
        let pattern = evidence(check.require.0[at].as_bytes());
        let reason = format!("none of {lines} {since} matches {}", short(&pattern));
        return Found::fail(reason).saw(lines).expected(format!("a line matches {pattern}"));
    }
    Found::pass(format!("{} of {lines} {since}", size::plural(seen.forbidden, "forbidden line")))
        .saw(observed)
        .expected(expected)
}
