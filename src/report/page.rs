//! The page, from what is known.

use std::time::Duration;

use askama::Template;

use super::chart::{Chart, LEFT, RIGHT, Span, Tick, Units, WIDTH, tenth};
use super::strip::{MIDDLE, Strips, strips};
use super::{Act, Data, Kept};
use crate::base::name::{one_line, shown_text};
use crate::base::size;
use crate::base::time::Timestamp;
use crate::capacity::{Window, span_words};
use crate::readiness::{Overall, Verdict};

/// The page.
///
/// # Errors
/// If the template cannot be filled.
pub fn page(data: &Data) -> Result<String, askama::Error> {
    let readiness = &data.readiness;
    let name = readiness.application.clone().unwrap_or_else(|| data.repository.clone());
    let page = Page {
        title: format!("{}: {}", one_line(&name), readiness.verdict.words()),
        name: one_line(&name),
        class: class(readiness.verdict),
        headline: readiness.verdict.words().to_uppercase(),
        at: readiness.at.shown(),
        sentence: sentence(data),
        cards: cards(data),
        lines: lines(data),
        charts: charts(data),
        snapshots: lane(&data.snapshots),
        checks: strips(&data.checks, readiness.at),
        procedures: procedures(data),
        actions: actions(data),
        acts: &data.acts,
        source: format!(
            "From the repository {} as {} knew it.",
            one_line(&data.repository),
            one_line(&data.host)
        ),
        width: WIDTH,
        left: LEFT,
        right: RIGHT,
        middle: MIDDLE,
    };
    Ok(shown_text(&page.render()?))
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'d> {
    title: String,
    name: String,
    class: &'static str,
    headline: String,
    at: String,
    sentence: String,
    cards: Vec<Card>,
    lines: Vec<Row>,
    charts: Vec<Chart>,
    snapshots: Option<Lane>,
    checks: Option<Strips>,
    procedures: Vec<Procedure>,
    actions: Vec<Todo>,
    acts: &'d [Act],
    source: String,
    width: f64,
    left: f64,
    right: f64,
    middle: f64,
}

struct Card {
    name: &'static str,
    value: String,
    note: String,
    class: &'static str,
}

struct Row {
    class: &'static str,
    word: &'static str,
    name: &'static str,
    reason: String,
    mend: Option<String>,
}

struct Lane {
    marks: Vec<LaneMark>,
    dates: Vec<Tick>,
    note: String,
}

struct LaneMark {
    x: f64,
    class: &'static str,
    says: String,
}

struct Procedure {
    name: String,
    last: String,
    verdict: String,
    due: String,
    is_due: bool,
    description: String,
}

struct Todo {
    due: String,
    is_late: bool,
    text: String,
    owner: String,
    since: String,
}

fn class(verdict: Overall) -> &'static str {
    match verdict {
        Overall::Ready => "ready",
        Overall::Degraded => "degraded",
        Overall::NotReady => "not-ready",
    }
}

fn sentence(data: &Data) -> String {
    let wrong: Vec<&str> = data.readiness.wrong().map(|line| line.name).collect();
    match (data.readiness.verdict, wrong.len()) {
        (Overall::Ready, _) => "Everything that a recovery rests on was proved lately.".to_owned(),
        (Overall::Degraded, _) => format!("A recovery is possible, but look at: {}.", wrong.join(", ")),
        (Overall::NotReady, _) => format!(
            "A recovery would fail, or nothing says that it would not. Look at: {}.",
            wrong.join(", ")
        ),
    }
}

fn cards(data: &Data) -> Vec<Card> {
    let words = |seconds: f64| size::duration(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    let within = |value: Option<f64>, limit: Option<f64>| match (value, limit) {
        (Some(value), Some(limit)) if value > limit => "fail",
        (Some(_), Some(_)) => "pass",
        _ => "none",
    };
    let objective = |limit: Option<f64>| {
        limit.map_or("no objective set".to_owned(), |limit| format!("objective {}", words(limit)))
    };
    let at = data.readiness.at;
    let loss = data.snapshots.last().map(|kept| at.since(kept.at).as_secs_f64());
    let recovery = data.drills.iter().rev().find_map(|run| run.recovery).map(|time| time.as_f64());
    let growth = data.growth.as_ref();
    let out = growth.and_then(|growth| growth.forecast.days);
    vec![
        Card {
            name: "Would be lost now",
            value: loss.map_or("everything".to_owned(), words),
            note: objective(data.objectives.rpo),
            class: if loss.is_none() { "fail" } else { within(loss, data.objectives.rpo) },
        },
        Card {
            name: "Last measured recovery",
            value: recovery.map_or("never".to_owned(), words),
            note: objective(data.objectives.rto),
            class: within(recovery, data.objectives.rto),
        },
        Card {
            name: "Snapshots kept",
            value: size::count(data.snapshots.len() as u64),
            note: growth.map_or_else(String::new, |growth| {
                format!("{} stored in all", size::bytes(growth.stored_bytes))
            }),
            class: if data.snapshots.is_empty() { "fail" } else { "none" },
        },
        Card {
            name: "Repository's room",
            value: growth.and_then(|growth| growth.free_bytes).map_or("unknown".to_owned(), size::bytes),
            note: match out {
                Some(days) => format!("free; runs out in {days:.0} days"),
                None => "free; no end in sight".to_owned(),
            },
            class: "none",
        },
    ]
}

fn lines(data: &Data) -> Vec<Row> {
    let row = |line: &crate::readiness::Line| Row {
        class: match line.verdict {
            Verdict::Pass => "pass",
            Verdict::NotJudged => "not-judged",
            Verdict::Stale => "stale",
            Verdict::Error => "error",
            Verdict::Fail => "fail",
        },
        word: match line.verdict {
            Verdict::NotJudged => "not judged",
            Verdict::Fail => "fail",
            other => other.word(),
        },
        name: line.name,
        reason: one_line(&line.reason),
        mend: line.mend.clone(),
    };
    data.readiness.lines.iter().map(row).collect()
}

fn charts(data: &Data) -> Vec<Chart> {
    let mut found: Vec<Chart> = recovery(data).into_iter().chain(growth(data)).collect();
    let report = data.capacity.as_ref();
    let window =
        report.and_then(|report| report.metrics.as_ref()).and_then(|measured| measured.windows.last());
    if let (Some(report), Some(window)) = (report, window) {
        found.extend(measures(window, report.at));
    }
    found
}

fn recovery(data: &Data) -> Option<Chart> {
    let mark = |run: &crate::readiness::Run| {
        let time = run.recovery.map_or("never healthy".to_owned(), |time| format!("healthy after {time}"));
        let says = one_line(&format!("{} UTC: {}, {time}", run.started.shown(), run.headline));
        (run.started, run.recovery.map(|time| time.as_f64()), run.verdict.word(), says)
    };
    let marks: Vec<_> = data.drills.iter().map(mark).collect();
    let limit = data.objectives.rto.map(|rto| (rto, format!("objective {}", seconds(rto))));
    let units = Units { unit: 1.0, label: &seconds };
    let note = "Of each drill. ● passed, ✕ failed, ▲ objective missed, □ could not be judged. On the bottom line: never healthy.";
    Some(Chart::marks("Recovery time", &marks, limit, &units)?.with_note(note))
}

fn growth(data: &Data) -> Option<Chart> {
    let growth = data.growth.as_ref()?;
    let series = |of: fn(&crate::capacity::repository::Point) -> u64| {
        growth.points.iter().map(|point| (point.at, Some(of(point) as f64))).collect::<Vec<_>>()
    };
    let most = growth.points.iter().map(|point| point.bytes.max(point.stored)).max()?;
    let unit = [1u64 << 40, 1 << 30, 1 << 20, 1 << 10].into_iter().find(|unit| most >= *unit).unwrap_or(1);
    let label = |value: f64| size::bytes(value as u64);
    let units = Units { unit: unit as f64, label: &label };
    let lines = [("a", series(|point| point.bytes)), ("b", series(|point| point.stored))];
    let note = format!(
        "━ the size of a snapshot, ╌ all that was stored until then. The room: {}.",
        growth.forecast.words()
    );
    Some(Chart::lines("Growth", &lines, &units)?.with_note(note))
}

fn measures(window: &Window, at: Timestamp) -> Vec<Chart> {
    let chart = |(name, measure): (&String, &crate::capacity::Measure)| {
        let count = measure.series.len();
        let from = |n: usize| {
            // the middle of each part
            let ago = window.seconds * (1.0 - (n as f64 + 0.5) / count as f64);
            Timestamp(at.0 - Duration::try_from_secs_f64(ago).unwrap_or_default())
        };
        let all = measure.series.iter().enumerate().map(|(n, value)| (from(n), *value));
        // the time before anybody measured is not drawn
        let samples: Vec<_> = all.skip_while(|(_, value)| value.is_none()).collect();
        let label = |value: f64| format!("{}", tenth(value));
        let units = Units { unit: 1.0, label: &label };
        let mut note = format!(
            "{}: average {:.1}, 95 of 100 at most {:.1}, peak {:.1}.",
            span_words(window.seconds),
            measure.average,
            measure.p95,
            measure.peak
        );
        if let Some(forecast) = &measure.forecast {
            note.push_str(&format!(" Runs out: {}.", forecast.words()));
        }
        Some(
            Chart::lines(format!("Capacity: {}", one_line(name)), &[("a", samples)], &units)?.with_note(note),
        )
    };
    window.measures.iter().filter_map(chart).collect()
}

fn lane(kept: &[Kept]) -> Option<Lane> {
    /// More marks than these are not drawn: the newest are.
    const MAX_MARKS: usize = 1000;
    let shown = &kept[kept.len().saturating_sub(MAX_MARKS)..];
    let span = Span::of(shown.iter().map(|kept| kept.at))?;
    let mark = |kept: &Kept| LaneMark {
        x: (span.x(kept.at) - 1.5).min(RIGHT - 3.0),
        class: match kept.drilled {
            None => "none",
            Some(true) => "pass",
            Some(false) => "fail",
        },
        says: format!(
            "{}: {} UTC, {} in {}",
            kept.id.get(..8).unwrap_or_default(),
            kept.at.shown(),
            size::bytes(kept.bytes),
            size::plural(kept.files, "file")
        ),
    };
    let note = if shown.len() < kept.len() {
        format!("The newest {MAX_MARKS} of {}.", size::count(kept.len() as u64))
    } else {
        String::new()
    };
    Some(Lane { marks: shown.iter().map(mark).collect(), dates: span.ticks(), note })
}

fn procedures(data: &Data) -> Vec<Procedure> {
    let shown = |at: Option<Timestamp>| at.map_or("–".to_owned(), Timestamp::shown);
    let row = |procedure: &super::Procedure| Procedure {
        name: one_line(&procedure.name),
        last: procedure.last.map_or("never".to_owned(), Timestamp::shown),
        verdict: procedure.verdict.as_deref().map_or("–".to_owned(), one_line),
        due: shown(procedure.due),
        is_due: procedure.is_due,
        description: one_line(&procedure.description),
    };
    data.runbooks.iter().map(row).collect()
}

fn actions(data: &Data) -> Vec<Todo> {
    let row = |action: &crate::evidence::actions::Action| Todo {
        due: if action.due.is_empty() { "–".to_owned() } else { one_line(&action.due) },
        is_late: action.is_overdue(data.readiness.at),
        text: one_line(&action.text),
        owner: if action.owner.is_empty() { "–".to_owned() } else { one_line(&action.owner) },
        since: action.recorded.shown(),
    };
    data.actions.iter().map(row).collect()
}

fn seconds(value: f64) -> String {
    if value < 1.0 {
        return format!("{:.0} ms", value * 1000.0);
    }
    size::duration(Duration::try_from_secs_f64(value).unwrap_or_default())
}
