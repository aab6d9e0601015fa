//! Where things lie in the two drawings of the page. Numbers only: the template draws them.

use super::line;
use crate::evidence::measure::{Phase, Seconds};
use crate::evidence::record::{Evidence, Kind};
use crate::evidence::verdict::Verdict;

/// Width of both drawings, in units of their view box.
pub const WIDTH: f64 = 900.0;
/// More runs than these are not drawn: the newest are.
const MAX_RUNS: usize = 200;
/// More phases than these are not drawn.
const MAX_PHASES: usize = 60;

const LABELS: f64 = 170.0;
const DURATIONS: f64 = 90.0;
const ROW: f64 = 28.0;
const AXIS: f64 = 30.0;

/// A mark on an axis.
pub struct Tick {
    pub at: f64,
    pub label: String,
}

/// The phases of a run as bars over a common time.
pub struct Timeline {
    pub height: f64,
    pub left: f64,
    pub bottom: f64,
    pub bars: Vec<Bar>,
    pub ticks: Vec<Tick>,
    /// Where the application was first healthy for long enough.
    pub healthy: Option<Tick>,
}

/// One phase.
pub struct Bar {
    pub name: String,
    pub took: String,
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub after: f64,
    pub text_y: f64,
    pub counted: bool,
}

/// Lays out the phases; `None` if there are none.
pub fn timeline(phases: &[Phase], recovery: Option<Seconds>) -> Option<Timeline> {
    let phases = &phases[..phases.len().min(MAX_PHASES)];
    let end = phases.iter().map(|p| p.start_s.as_f64() + p.took_s.as_f64()).reduce(f64::max)?;
    let end = recovery.map_or(end, |r| end.max(r.as_f64())).max(0.001);
    let (left, right) = (LABELS, WIDTH - DURATIONS);
    let scale = |seconds: f64| left + (right - left) * seconds / end;
    let bottom = ROW * phases.len() as f64 + 22.0;
    let bar = |(row, phase): (usize, &Phase)| {
        let (x, until) =
            (scale(phase.start_s.as_f64()), scale(phase.start_s.as_f64() + phase.took_s.as_f64()));
        let y = ROW * row as f64 + 24.0;
        // as narrow as it may be, a phase can be seen
        let width = (until - x).max(2.0);
        Bar {
            name: line(&phase.name),
            took: phase.took_s.to_string(),
            x: tenth(x),
            y: tenth(y),
            width: tenth(width),
            after: tenth(x + width + 6.0),
            text_y: tenth(y + 13.0),
            counted: phase.counted,
        }
    };
    Some(Timeline {
        height: bottom + AXIS,
        left,
        bottom,
        bars: phases.iter().enumerate().map(bar).collect(),
        ticks: ticks(end, 6).map(|t| Tick { at: tenth(scale(t.as_f64())), label: t.to_string() }).collect(),
        healthy: recovery.map(|r| Tick { at: tenth(scale(r.as_f64())), label: format!("healthy after {r}") }),
    })
}

/// Recovery time over all runs.
pub struct History {
    pub height: f64,
    pub left: f64,
    pub right: f64,
    pub bottom: f64,
    pub points: Vec<Point>,
    /// The points of those that recovered, as an SVG list.
    pub path: String,
    pub seconds: Vec<Tick>,
    pub dates: Vec<Tick>,
    pub objective: Option<Tick>,
    /// What to say below the drawing.
    pub note: String,
}

/// One run.
pub struct Point {
    pub x: f64,
    pub y: f64,
    pub verdict: Verdict,
    pub now: bool,
    pub says: String,
}

/// Lays out this drill and those of the same application before it.
pub fn history(run: &Evidence, past: &[Evidence]) -> History {
    let same = |other: &&Evidence| {
        other.kind == Kind::Drill
            && other.app == run.app
            && other.run_id != run.run_id
            && other.started <= run.started
    };
    let mut runs: Vec<&Evidence> = past.iter().filter(same).chain([run]).collect();
    runs.sort_by_key(|r| (r.started, r.run_id == run.run_id));
    let total = runs.len();
    let runs = &runs[total.saturating_sub(MAX_RUNS)..];
    let (left, right, top, bottom) = (70.0, WIDTH - 30.0, 24.0, 220.0);
    let slowest = runs.iter().filter_map(|r| r.measured.recovery_s).max().unwrap_or_default().as_f64();
    let objective = run.objectives.rto_s.filter(|rto| slowest == 0.0 || rto.as_f64() <= 4.0 * slowest);
    let most = slowest.max(objective.map_or(0.0, Seconds::as_f64)).max(0.001) * 1.1;
    let y_of = |s: Seconds| tenth(bottom - (bottom - top) * s.as_f64() / most);
    let times = Times::new(runs, left + 20.0, right - 20.0);
    let points: Vec<Point> = runs
        .iter()
        .enumerate()
        .map(|(number, r)| Point {
            x: times.x(number, r),
            y: r.measured.recovery_s.map_or(bottom, y_of),
            verdict: r.verdict,
            now: r.run_id == run.run_id,
            says: format!("{} UTC: {}, {}", r.started.shown(), r.headline(), recovered(r)),
        })
        .collect();
    let path = points.iter().zip(runs).filter(|(_, r)| r.measured.recovery_s.is_some());
    let path = path.map(|(p, _)| format!("{},{}", p.x, p.y)).collect::<Vec<_>>().join(" ");
    let dates = times.ticks(runs);
    History {
        height: bottom + AXIS,
        left,
        right,
        bottom,
        points,
        path,
        seconds: ticks(most, 5).map(|t| Tick { at: y_of(t), label: t.to_string() }).collect(),
        dates,
        objective: objective.map(|rto| Tick { at: y_of(rto), label: format!("objective {rto}") }),
        note: note(run, total, objective.is_some()),
    }
}

fn recovered(run: &Evidence) -> String {
    let what = if run.kind == Kind::Drill && !run.has_server() { "ready" } else { "healthy" };
    run.measured.recovery_s.map_or(format!("never {what}"), |r| format!("{what} after {r}"))
}

fn note(run: &Evidence, total: usize, drawn: bool) -> String {
    let mut note = match total {
        1 => "This is the first drill on record.".to_owned(),
        2..=MAX_RUNS => format!("{total} drills on record."),
        _ => format!("The last {MAX_RUNS} of {total} drills on record."),
    };
    if let Some(rto) = run.objectives.rto_s.filter(|_| !drawn) {
        note.push_str(&format!(" The objective of {rto} lies above the drawing."));
    }
    note
}

// The dates as a scale; by number where all runs are of one moment.
struct Times {
    first: i64,
    last: i64,
    count: usize,
    left: f64,
    right: f64,
}

impl Times {
    fn new(runs: &[&Evidence], left: f64, right: f64) -> Self {
        let at = |run: Option<&&Evidence>| run.map_or(0, |r| r.started.parts().0);
        Self { first: at(runs.first()), last: at(runs.last()), count: runs.len(), left, right }
    }

    fn x(&self, number: usize, run: &Evidence) -> f64 {
        let (at, of) = if self.last > self.first {
            ((run.started.parts().0 - self.first) as f64, (self.last - self.first) as f64)
        } else if self.count > 1 {
            (number as f64, (self.count - 1) as f64)
        } else {
            (1.0, 2.0)
        };
        tenth(self.left + (self.right - self.left) * at / of)
    }

    // A date under the first, the last, and those that lie far enough from both and from each other.
    fn ticks(&self, runs: &[&Evidence]) -> Vec<Tick> {
        const ROOM: f64 = 110.0;
        let mut ticks: Vec<Tick> = Vec::new();
        let end = self.x(self.count.saturating_sub(1), runs[runs.len() - 1]);
        for (number, run) in runs.iter().enumerate() {
            let at = self.x(number, run);
            let fits = ticks.last().is_none_or(|t| at - t.at >= ROOM);
            let last = number + 1 == self.count;
            if fits && (last || ticks.is_empty() || end - at >= ROOM) {
                ticks.push(Tick { at, label: run.started.shown()[..10].to_owned() });
            }
        }
        ticks
    }
}

/// Steps that people count time in, in milliseconds.
const STEPS: &[u64] = &[
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000,
    600_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 14_400_000, 21_600_000, 43_200_000, 86_400_000,
];

// Round times from nothing to `most` seconds, at most `count` beside the zero.
fn ticks(most: f64, count: u64) -> impl Iterator<Item = Seconds> {
    let most = (most * 1000.0) as u64;
    let day = 86_400_000;
    let step = STEPS.iter().copied().find(|step| most / step <= count);
    let step = step.unwrap_or_else(|| (most / count).div_ceil(day) * day);
    (0..=most / step).map(move |n| Seconds::new(std::time::Duration::from_millis(n * step)))
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
