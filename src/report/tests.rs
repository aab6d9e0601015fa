use super::chart::{Chart, Span, Units};
use super::strip::strips;
use super::*;
use crate::base::time::Timestamp;
use crate::check::Outcome;
use crate::evidence::{Kind, Seconds, Verdict};
use crate::health::history::Said;
use crate::readiness::{Line, Overall};

fn at(hours: i64) -> Timestamp {
    Timestamp::from_seconds(1_800_000_000 + hours * 3600).unwrap()
}

fn run(hours: i64, verdict: Verdict, recovery: Option<u64>) -> Run {
    Run {
        run_id: format!("run-{hours}"),
        kind: Kind::Drill,
        app: "aura".to_owned(),
        scenario: "drill".to_owned(),
        started: at(hours),
        finished: at(hours),
        verdict,
        headline: verdict.title().to_lowercase(),
        reason: String::new(),
        recovery: recovery.map(Seconds::from_secs),
        rto: None,
        snapshot: None,
        config_sha256: String::new(),
        interrupted: false,
    }
}

fn data() -> Data {
    let line = |name, verdict, reason: &str, mend: Option<&str>| {
        let line = Line::new(name, verdict, reason);
        mend.into_iter().fold(line, Line::mend)
    };
    let lines = vec![
        line("snapshot", crate::readiness::Verdict::Pass, "it is new", None),
        line("drill", crate::readiness::Verdict::Stale, "old", Some("lifeboat drill")),
    ];
    Data {
        schema: SCHEMA,
        repository: "/srv/repo".to_owned(),
        host: "h".to_owned(),
        readiness: Readiness {
            application: Some("aura".to_owned()),
            at: at(100),
            verdict: Overall::Degraded,
            lines,
        },
        objectives: Objectives { rto: Some(900.0), rpo: None },
        drills: vec![
            run(0, Verdict::Pass, Some(2)),
            run(50, Verdict::Fail, None),
            run(90, Verdict::ObjectiveMissed, Some(1000)),
        ],
        snapshots: Vec::new(),
        growth: None,
        checks: Vec::new(),
        capacity: None,
        runbooks: Vec::new(),
        actions: Vec::new(),
        acts: Vec::new(),
    }
}

#[test]
fn a_page_says_what_is_wrong_and_what_mends_it() {
    let page = page(&data()).unwrap();
    for wanted in
        ["DEGRADED", "look at: drill", "<code>lifeboat drill</code>", "Would be lost now", "objective 15 min"]
    {
        assert!(page.contains(wanted), "{wanted}");
    }
    assert_eq!(page.matches("class=\"m-pass\"").count(), 1);
    assert_eq!(page.matches("class=\"m-fail\"").count(), 1);
    assert_eq!(page.matches("class=\"m-objective_missed\"").count(), 1);
}

#[test]
fn hostile_text_is_harmless_in_every_place() {
    const EVIL: &str = "<script>alert(1)</script>\"'&\u{202e}\x1b[31m{{ 7 * 7 }}";
    let evil = || EVIL.to_owned();
    let mut data = data();
    data.repository = evil();
    data.host = evil();
    data.readiness.application = Some(evil());
    data.readiness.lines[0].reason = evil();
    data.readiness.lines[1].mend = Some(evil());
    data.drills[0].headline = evil();
    data.checks = vec![Said { at: at(99), check: evil(), outcome: Outcome::Fail, took: 0.1 }];
    data.runbooks = vec![Procedure {
        name: evil(),
        description: evil(),
        last: None,
        verdict: Some(evil()),
        due: None,
        is_due: true,
    }];
    data.snapshots = vec![Kept { id: evil(), at: at(1), bytes: 1, files: 1, drilled: None }];
    data.acts = vec![Act { at: at(2), kind: evil(), by: evil(), what: evil() }];
    let page = page(&data).unwrap();
    assert!(!page.contains("<script"), "a script got in");
    assert!(!page.contains('\u{202e}') && !page.contains('\x1b'), "a control character got in");
    assert!(
        page.contains("&#60;script&#62;") || page.contains("&lt;script&gt;"),
        "it is shown as what it is"
    );
    // nothing is fetched from anywhere
    for word in ["http://", "https://", "src=", "url(", "@import"] {
        assert!(!page.contains(word), "{word}");
    }
}

#[test]
fn what_is_not_there_breaks_a_line_and_values_stay_inside() {
    let label = |value: f64| format!("{value}");
    let units = Units { unit: 1.0, label: &label };
    let samples = vec![(at(0), Some(1.0)), (at(1), Some(f64::MAX)), (at(2), None), (at(3), Some(2.0))];
    let chart = Chart::lines("x", &[("a", samples)], &units).unwrap();
    assert_eq!(chart.lines[0].pieces.len(), 2);
    assert!(chart.values.len() <= 8 && !chart.values.is_empty());
    let numbers = chart.lines[0].pieces.iter().flat_map(|piece| piece.split([' ', ',']));
    for number in numbers.map(|text| text.parse::<f64>().unwrap()) {
        assert!((0.0..=900.0).contains(&number), "{number}");
    }
    assert_eq!(Chart::lines("x", &[("a", vec![(at(0), None)])], &units), None);
    assert_eq!(Chart::marks("x", &[], None, &units), None);
}

#[test]
fn dates_are_apart_and_one_moment_has_one() {
    let one = Span::of([at(0)].into_iter()).unwrap();
    assert_eq!(one.ticks().len(), 1);
    let week = Span::of([at(0), at(24 * 7)].into_iter()).unwrap().ticks();
    assert_eq!(week.len(), 5);
    assert!(week.windows(2).all(|pair| pair[1].at - pair[0].at > 100.0));
}

#[test]
fn a_check_nobody_looked_at_leaves_a_gap() {
    let said = |hours, outcome| Said { at: at(hours), check: "a".to_owned(), outcome, took: 0.1 };
    let all =
        [said(0, Outcome::Pass), said(10, Outcome::Pass), said(20, Outcome::Fail), said(120, Outcome::Pass)];
    let strips = strips(&all, at(121)).unwrap();
    let bars = &strips.rows[0].bars;
    assert_eq!(bars.iter().map(|bar| bar.class).collect::<Vec<_>>(), ["pass", "fail", "pass"]);
    // the failure holds for 26 hours, not for 100
    assert!(bars[1].x + bars[1].width < bars[2].x - 100.0);
    assert_eq!(super::strip::strips(&[], at(0)), None);
    // the future and what lies far back are not drawn
    assert_eq!(super::strip::strips(&all, at(-1)), None);
    assert_eq!(super::strip::strips(&all, at(24 * 60)), None);
}
