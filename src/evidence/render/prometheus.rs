//! Prometheus text (exposition format 0.0.4), for the textfile collector of a node exporter.

use std::fmt::Write as _;

use super::line;
use crate::evidence::measure::Seconds;
use crate::evidence::record::Evidence;
use crate::evidence::step::Outcome;
use crate::evidence::verdict::{Cap, Verdict};

/// The record as metrics, each labelled with the application and the kind of run. Ends with a newline.
pub fn prometheus(run: &Evidence) -> String {
    let common = format!("app=\"{}\",kind=\"{}\"", label(&run.app), run.kind.word());
    let mut page = Page { text: String::new(), common };
    verdict(run, &mut page);
    times(run, &mut page);
    results(run, &mut page);
    page.text
}

fn verdict(run: &Evidence, page: &mut Page) {
    page.head("verdict", "1 for the verdict of the last run, 0 for the others.");
    for verdict in Verdict::ALL {
        let word = verdict.word();
        page.sample("verdict", &[("verdict", word)], f64::from(u8::from(run.verdict == *verdict)));
    }
    page.head("finished_timestamp_seconds", "When the last run ended, in seconds since 1970.");
    page.sample("finished_timestamp_seconds", &[], run.finished.parts().0 as f64);
    page.head("isolation", "1 for the isolation that was active.");
    page.sample("isolation", &[("level", run.isolation.active.word())], 1.0);
    page.head(
        "unisolated",
        "1 if nothing kept the copy apart from production, so that the run could not pass.",
    );
    page.sample("unisolated", &[], f64::from(u8::from(run.cap == Some(Cap::Unisolated))));
    page.head("cleanup_proved", "Whether it is proved that nothing was left over.");
    page.sample("cleanup_proved", &[], f64::from(u8::from(run.cleanup.proved)));
}

fn times(run: &Evidence, page: &mut Page) {
    let measured = &run.measured;
    let gauges = [
        ("recovery_seconds", "Measured technical recovery time.", measured.recovery_s),
        ("recovery_objective_seconds", "Recovery time objective.", run.objectives.rto_s),
        ("snapshot_age_seconds", "Age of the snapshot at the disaster.", measured.snapshot_age_s),
        ("worst_gap_seconds", "Longest time between two good snapshots.", measured.worst_gap_s),
        ("loss_objective_seconds", "Recovery point objective.", run.objectives.rpo_s),
    ];
    for (name, help, value) in gauges {
        if let Some(value) = value {
            page.head(name, help);
            page.sample(name, &[], value.as_f64());
        }
    }
    if !measured.phases.is_empty() {
        page.head("phase_seconds", "How long each phase took.");
    }
    for (name, took) in summed(measured.phases.iter().map(|phase| (line(&phase.name), phase.took_s))) {
        page.sample("phase_seconds", &[("phase", &name)], took.as_f64());
    }
}

fn results(run: &Evidence, page: &mut Page) {
    page.head("checks", "Number of checks by result.");
    for result in [Outcome::Pass, Outcome::Fail, Outcome::Skip, Outcome::Error] {
        let count = run.checks.iter().filter(|check| check.result == result).count();
        page.sample("checks", &[("result", result.word())], count as f64);
    }
    if !run.self_test.is_empty() {
        let noticed = run.self_test.iter().filter(|sabotage| !sabotage.noticed_by.is_empty()).count();
        page.head("self_test_noticed_ratio", "Share of the sabotages that some check noticed.");
        page.sample("self_test_noticed_ratio", &[], noticed as f64 / run.self_test.len() as f64);
    }
}

// A name may stand once only.
fn summed(parts: impl Iterator<Item = (String, Seconds)>) -> Vec<(String, Seconds)> {
    let mut sums: Vec<(String, Seconds)> = Vec::new();
    for (name, took) in parts {
        match sums.iter_mut().find(|sum| sum.0 == name) {
            Some(sum) => sum.1 = Seconds::new(sum.1.duration().saturating_add(took.duration())),
            None => sums.push((name, took)),
        }
    }
    sums
}

struct Page {
    text: String,
    common: String,
}

impl Page {
    fn head(&mut self, name: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP lifeboat_run_{name} {help}\n# TYPE lifeboat_run_{name} gauge");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let _ = write!(self.text, "lifeboat_run_{name}{{{}", self.common);
        for (key, text) in labels {
            let _ = write!(self.text, ",{key}=\"{}\"", label(text));
        }
        let _ = writeln!(self.text, "}} {value}");
    }
}

// The three characters that the format escapes; `line` leaves no newline.
fn label(text: &str) -> String {
    line(text).replace('\\', "\\\\").replace('"', "\\\"")
}
