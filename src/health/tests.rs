use std::path::Path;
use std::time::Duration;

use super::*;
use crate::base::time::Clock;
use crate::check::Mark;
use crate::state::State;

fn verdict(name: &str, outcome: Outcome, required: bool) -> Verdict {
    Verdict {
        name: name.to_owned(),
        kind: "log".to_owned(),
        required,
        data_proving: false,
        outcome,
        reason: "so it is | and\nmore".to_owned(),
        observed: String::new(),
        expected: String::new(),
        attempts: 1,
        took: 0.25,
        last_took: 0.25,
        mark: None,
        forbidden: None,
    }
}

fn report(checks: Vec<Verdict>) -> Report {
    let at = Timestamp::from_seconds(1_800_000_000).unwrap();
    Report { application: "au\"ra".to_owned(), at, verdict: overall(&checks), took: 0.3, checks }
}

fn state() -> (tempfile::TempDir, State) {
    let base = tempfile::tempdir().unwrap();
    let state = State::of(base.path(), Path::new("/srv/app"));
    (base, state)
}

#[test]
fn nagios_states_follow_what_is_required() {
    let pass = || verdict("a", Outcome::Pass, true);
    let of = |more: Vec<Verdict>| {
        let report = report([vec![pass()], more].concat());
        (nagios::state(&report) as u8, nagios::line(&report))
    };
    let (number, line) = of(vec![]);
    assert_eq!(number, 0);
    assert_eq!(
        line,
        "LIFEBOAT OK - au\"ra 1 check passed | failed=0;;0;0 unjudged=0;;0;0 time=0.300s;;;0 'a'=0.250s;;;0\n"
    );
    assert_eq!(of(vec![verdict("b", Outcome::Fail, false)]).0, 1);
    let (number, line) =
        of(vec![verdict("it's b=c", Outcome::Fail, true), verdict("d", Outcome::Error, true)]);
    assert_eq!(number, 2);
    assert!(line.starts_with("LIFEBOAT CRITICAL - au\"ra it's b=c: so it is ¦ and more; d: "), "{line}");
    assert!(
        line.matches('|').count() == 1 && line.lines().count() == 1 && line.contains("'it''s b_c'="),
        "{line}"
    );
    assert_eq!(of(vec![verdict("d", Outcome::Error, true)]).0, 3);
}

#[test]
fn prometheus_text_keeps_the_rules() {
    let text = prometheus::prometheus(&report(vec![
        verdict("a \"b\"\\\n", Outcome::Pass, true),
        verdict("c", Outcome::Error, false),
    ]));
    crate::health::tests::check_exposition(&text);
    assert!(text.contains(r#"check="a \"b\"\\\n",kind="log",required="true",outcome="pass"} 1"#), "{text}");
    assert!(text.contains("lifeboat_health_passed{app=\"au\\\"ra\"} 1\n"), "{text}");
}

// What `promtool check metrics` looks for: a HELP and a TYPE before the samples of each name, once, samples of a
// name together, no sample twice, a newline at the end.
fn check_exposition(text: &str) {
    assert!(text.ends_with('\n') && !text.contains("\n\n"));
    let mut seen = std::collections::HashSet::new();
    let (mut help, mut kind) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split(' ').next().unwrap().to_owned();
            assert!(seen.insert(help.clone()), "{help} twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            kind = rest.split(' ').next().unwrap().to_owned();
            assert!(kind == help && rest.ends_with(" gauge"), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert_eq!(series.split('{').next().unwrap(), kind);
            assert!(series.ends_with('}') && value.parse::<f64>().is_ok(), "{line}");
            assert!(seen.insert(series.to_owned()), "{series} twice");
        }
    }
}

#[test]
fn runs_at_the_same_time_lose_no_mark() {
    let (_base, state) = state();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let state = &state;
            scope.spawn(move || {
                for i in 0..5 {
                    let mark = Mark { inode: thread, offset: i, before: String::new() };
                    let name = format!("{thread}-{i}");
                    let found = Verdict { mark: Some(mark), ..verdict(&name, Outcome::Pass, true) };
                    marks::keep(state, [(name.as_str(), &found)]).unwrap();
                }
            });
        }
    });
    assert_eq!(marks::load(&state).unwrap().len(), 20);
    std::fs::write(state.path(marks::FILE), "{").unwrap();
    assert!(marks::load(&state).is_err());
    let mark = Some(Mark { inode: 1, offset: 2, before: String::new() });
    marks::keep(&state, [("x", &Verdict { mark, ..verdict("x", Outcome::Pass, true) })]).unwrap();
    assert_eq!(marks::load(&state).unwrap().len(), 1);
}

#[test]
fn the_history_has_changes_and_a_line_every_ten_minutes_and_stays_small() {
    let (_base, state) = state();
    let start = Clock::System.now();
    let at = |seconds: u64| Timestamp(start.0 + Duration::from_secs(seconds));
    let add = |seconds, outcome| history::add(&state, at(seconds), &[verdict("a", outcome, true)]).unwrap();
    add(0, Outcome::Pass);
    add(10, Outcome::Pass);
    add(20, Outcome::Fail);
    add(30, Outcome::Pass);
    add(700, Outcome::Pass);
    let said: Vec<_> =
        history::read(&state).iter().map(|s| (s.at.since(start).as_secs(), s.outcome)).collect();
    assert_eq!(said, [(0, Outcome::Pass), (20, Outcome::Fail), (30, Outcome::Pass), (700, Outcome::Pass)]);
    // a line that a crash cut, and a file that is too large
    let path = state.path(history::FILE);
    let line = std::fs::read_to_string(&path).unwrap().lines().next().unwrap().to_owned() + "\n";
    std::fs::write(&path, line.repeat(1 + history::MAX_BYTES as usize / line.len()) + "{\"at\":").unwrap();
    add(2000, Outcome::Fail);
    let size = path.metadata().unwrap().len();
    assert!(size > history::MAX_BYTES / 3 && size <= history::MAX_BYTES / 2, "{size}");
    assert_eq!(history::read(&state).last().unwrap().outcome, Outcome::Fail);
}
