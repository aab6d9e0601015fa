//! Prometheus text (exposition format 0.0.4), for the textfile collector of a node exporter.

use std::fmt::Write as _;

use super::Report;
use crate::check::{Outcome, Verdict};

/// The report as metrics. Ends with a newline.
pub fn prometheus(report: &Report) -> String {
    let app = format!("app=\"{}\"", label(&report.application));
    let mut text = String::new();
    let head = |text: &mut String, name: &str, help: &str| {
        let _ = write!(text, "# HELP lifeboat_{name} {help}\n# TYPE lifeboat_{name} gauge\n");
    };
    head(&mut text, "health_passed", "1 if every required check passed, else 0.");
    let passed = u8::from(report.verdict == Outcome::Pass);
    let _ = writeln!(text, "lifeboat_health_passed{{{app}}} {passed}");
    head(&mut text, "health_timestamp_seconds", "When the checks were run, in seconds since 1970.");
    let _ = writeln!(text, "lifeboat_health_timestamp_seconds{{{app}}} {}", report.at.parts().0);
    head(&mut text, "health_duration_seconds", "How long all checks together took.");
    let _ = writeln!(text, "lifeboat_health_duration_seconds{{{app}}} {:.3}", report.took);
    if report.checks.is_empty() {
        return text;
    }
    head(&mut text, "check_outcome", "1 for how the check ended (pass, fail or error), 0 for the others.");
    for check in &report.checks {
        for outcome in [Outcome::Pass, Outcome::Fail, Outcome::Error] {
            let value = u8::from(check.outcome == outcome);
            let word = outcome.word();
            let _ = writeln!(
                text,
                "lifeboat_check_outcome{{{app},{},outcome=\"{word}\"}} {value}",
                labels(check)
            );
        }
    }
    head(&mut text, "check_duration_seconds", "How long the check took, all its tries together.");
    for check in &report.checks {
        let _ =
            writeln!(text, "lifeboat_check_duration_seconds{{{app},{}}} {:.3}", labels(check), check.took);
    }
    text
}

fn labels(check: &Verdict) -> String {
    format!(
        "check=\"{}\",kind=\"{}\",required=\"{}\"",
        label(&check.name),
        label(&check.kind),
        check.required
    )
}

/// Escaped as the format wants it.
pub fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
