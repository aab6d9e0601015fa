//! What each check said over time, as coloured bars.

use std::collections::BTreeMap;
use std::time::Duration;

use super::chart::{RIGHT, Span, Tick, tenth};
use crate::base::time::Timestamp;
use crate::check::Outcome;
use crate::health::history::Said;

/// What was said holds for so long: checks are looked at once a day.
const HOLDS: Duration = Duration::from_secs(26 * 3600);
/// So far back is drawn.
const WINDOW: Duration = Duration::from_secs(30 * 24 * 3600);
/// A check has at most so many bars: the newest.
const MAX_BARS: usize = 500;
/// Names of checks are longer than those of values: their bars begin here.
pub const MIDDLE: f64 = 300.0;
const ROW: f64 = 24.0;
const TOP: f64 = 8.0;

/// The checks, a row each.
#[derive(Clone, Debug, PartialEq)]
pub struct Strips {
    pub height: f64,
    pub bottom: f64,
    pub rows: Vec<Row>,
    pub dates: Vec<Tick>,
}

/// One check.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub name: String,
    pub y: f64,
    pub text_y: f64,
    pub bars: Vec<Bar>,
}

/// A time in which a check said the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    pub x: f64,
    pub width: f64,
    pub class: &'static str,
    pub says: String,
}

/// Lays them out; `None` if nothing was said within the window.
pub fn strips(said: &[Said], now: Timestamp) -> Option<Strips> {
    let recent = |said: &&Said| said.at <= now && now.since(said.at) <= WINDOW;
    let mut by_name: BTreeMap<&str, Vec<&Said>> = BTreeMap::new();
    for said in said.iter().filter(recent) {
        by_name.entry(&said.check).or_default().push(said);
    }
    let first = by_name.values().flatten().map(|said| said.at).min()?;
    let span = Span::of([first, now].into_iter())?.from(MIDDLE);
    let rows: Vec<Row> = by_name
        .into_iter()
        .enumerate()
        .map(|(number, (name, said))| {
            let y = TOP + ROW * number as f64;
            Row { name: name.to_owned(), y: tenth(y), text_y: tenth(y + 13.0), bars: bars(&said, span, now) }
        })
        .collect();
    let bottom = TOP + ROW * rows.len() as f64;
    Some(Strips { height: bottom + 30.0, bottom, rows, dates: span.ticks() })
}

fn bars(said: &[&Said], span: Span, now: Timestamp) -> Vec<Bar> {
    // (outcome, from, until): what follows at once and says the same is one
    let mut spans: Vec<(Outcome, Timestamp, Timestamp)> = Vec::new();
    for (number, one) in said.iter().enumerate() {
        let next = said.get(number + 1).map_or(now, |next| next.at);
        let until = if next.since(one.at) > HOLDS { Timestamp(one.at.0 + HOLDS) } else { next };
        match spans.last_mut() {
            Some((outcome, _, end)) if *outcome == one.outcome && *end >= one.at => *end = until,
            _ => spans.push((one.outcome, one.at, until)),
        }
    }
    let surplus = spans.len().saturating_sub(MAX_BARS);
    let bar = |(outcome, from, until): &(Outcome, Timestamp, Timestamp)| {
        let (x, end) = (span.x(*from), span.x(*until));
        // as short as it was, it can be seen
        let width = tenth((end - x).max(2.0));
        let x = x.min(RIGHT - width).max(MIDDLE);
        let says = format!("{}: {} to {} UTC", outcome.word(), from.shown(), until.shown());
        Bar { x, width, class: outcome.word(), says }
    };
    spans[surplus..].iter().map(bar).collect()
}
