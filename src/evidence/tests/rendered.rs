//! The forms of a record: right for one that is known, safe for any.

use std::path::Path;

use quick_xml::events::Event;

use super::samples::{bad, filled_with, good, past};
use crate::evidence::render::*;
use crate::evidence::*;

/// What may be in a text from outside: every byte as a character and as what is left of it outside UTF-8, direction and
/// zero-width characters, ends of comments and blocks, and what other formats give a meaning.
fn nasty() -> String {
    // markup first: names are cut where they are too long
    let mut text =
        "</pre>``````<script>alert(1)</script>\"'>]]>--></title></style> | @user #1 [a](javascript:x)"
            .to_owned();
    text.push_str(
        " ![b](http://c) https://d.example <img src=x onerror=alert(1)> &amp;{{7*7}}\n| x |\n# h\n",
    );
    text.push_str("\u{202e}\u{2066}\u{200b}\u{feff}\u{fffe}\u{ffff}\u{e0041}\u{2028}\u{1f600}\u{1b}");
    text.extend((0..=255u8).map(char::from));
    text.push_str(&String::from_utf8_lossy(&(0..=255).collect::<Vec<u8>>()));
    text
}

fn is_harmless(text: &str) {
    for c in text.chars() {
        let code = u32::from(c);
        let plain = c == '\n' || c == '\t' || !c.is_control();
        let turning =
            matches!(code, 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff | 0xfffe | 0xffff);
        assert!(plain && !turning, "U+{code:04X} is in the text");
    }
}

/// A case of a JUnit file: class, name, and the tag and text of what did not pass.
type Case = (String, String, Option<(String, String)>);

fn cases(xml: &str) -> Vec<Case> {
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut found: Vec<Case> = Vec::new();
    let mut inside = None;
    loop {
        match reader.read_event().unwrap() {
            Event::Start(tag) | Event::Empty(tag) => {
                let name = String::from_utf8(tag.name().as_ref().to_vec()).unwrap();
                let attribute = |key: &str| {
                    let found = tag.try_get_attribute(key).unwrap();
                    found.map_or(String::new(), |a| {
                        a.normalized_value(quick_xml::XmlVersion::Implicit1_0).unwrap().into_owned()
                    })
                };
                match name.as_str() {
                    "testcase" => found.push((attribute("classname"), attribute("name"), None)),
                    "failure" | "error" | "skipped" => {
                        found.last_mut().unwrap().2 = Some((name.clone(), String::new()));
                        inside = Some(name);
                    }
                    _ => {}
                }
            }
            Event::Text(text) if inside.is_some() => {
                found.last_mut().unwrap().2.as_mut().unwrap().1.push_str(&text.decode().unwrap());
            }
            Event::GeneralRef(entity) if inside.is_some() => {
                let name = entity.decode().unwrap();
                let c = match name.as_ref() {
                    "lt" => '<',
                    "gt" => '>',
                    "amp" => '&',
                    "quot" => '"',
                    "apos" => '\'',
                    _ => entity.resolve_char_ref().unwrap().unwrap(),
                };
                found.last_mut().unwrap().2.as_mut().unwrap().1.push(c);
            }
            Event::End(tag) if Some(tag.name().as_ref()) == inside.as_ref().map(String::as_bytes) => {
                inside = None
            }
            Event::Eof => return found,
            _ => {}
        }
    }
}

#[test]
fn json_goes_both_ways_with_its_keys_in_order() {
    for run in [good().judged(), bad().judged(), filled_with(&nasty())] {
        let text = json(&run).unwrap();
        assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), run);
        let keys: Vec<&str> = text.lines().filter(|l| l.starts_with("  \"")).collect();
        assert!(keys.is_sorted(), "{keys:?}");
    }
}

#[test]
fn a_reader_takes_fields_that_it_does_not_know() {
    let mut value = serde_json::to_value(good()).unwrap();
    value["from_a_later_version"] = 1.into();
    assert_eq!(serde_json::from_value::<Evidence>(value).unwrap(), good());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a switch for developers")]
fn the_published_schema_is_that_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema/drill-record.schema.json");
    let text = format!("{:#}\n", schema().to_value());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "docs/schema is out of date: run `UPDATE=1 cargo test --lib evidence`");
    for word in ["objective_missed", "inconclusive", "runbook", "outbound", "not_tested", "data_proving"] {
        assert!(text.contains(&format!("\"{word}\"")), "{word} is not in the schema");
    }
}

#[test]
fn junit_has_the_text_in_the_body_and_every_name_once() {
    let mut run = bad();
    run.checks.push(run.checks[0].clone());
    run.steps.push(run.steps[1].clone());
    let found = cases(&junit(&run.judged()).unwrap());
    let names: std::collections::BTreeSet<_> = found.iter().map(|case| &case.1).collect();
    assert_eq!(names.len(), found.len());
    let by_name = |name: &str| found.iter().find(|case| case.1 == name).unwrap();
    assert_eq!(by_name("check: health (2)").0, "lifeboat.aura.checks");
    let (tag, body) = by_name("tests: ./run_tests.sh").2.clone().unwrap();
    assert!(tag == "failure" && body.contains("no such table: knowledge"), "{tag}: {body}");
    let (tag, body) = by_name("check: rows").2.clone().unwrap();
    assert!(tag == "failure" && body.contains("expected: at least 4320\nobserved: 0"), "{body}");
    assert_eq!(by_name("check: disk").2.as_ref().unwrap().0, "skipped");
    let (tag, body) = by_name("verdict").2.clone().unwrap();
    assert!(tag == "failure" && body.contains("not tested:\n- e-mail delivery"), "{tag}: {body}");
}

#[test]
fn junit_agrees_with_the_verdict() {
    let mut late = good();
    late.objectives.rto_s = Some(Seconds::from_secs(1));
    let mut broken = good();
    broken.faults = vec!["the sandbox died".to_owned()];
    let mut optional = good();
    (optional.checks[3].required, optional.checks[3].result) = (false, Outcome::Fail);
    for (run, failures, errors) in
        [(good(), 0, 0), (bad(), 3, 0), (late, 2, 0), (broken, 0, 1), (optional, 0, 0)]
    {
        let found = cases(&junit(&run.judged()).unwrap());
        let count = |tag: &str| found.iter().filter(|c| c.2.as_ref().is_some_and(|n| n.0 == tag)).count();
        assert_eq!((count("failure"), count("error")), (failures, errors), "{found:#?}");
    }
}

#[test]
fn junit_takes_any_text_and_stays_small() {
    let xml = junit(&filled_with(&nasty())).unwrap();
    is_harmless(&xml);
    let found = cases(&xml);
    let failed = found.iter().find(|c| c.2.as_ref().is_some_and(|n| n.0 == "failure")).unwrap();
    let body = &failed.2.as_ref().unwrap().1;
    assert!(
        body.contains("<script>alert(1)</script>") && body.contains("]]>") && body.contains("\\x1b"),
        "{body}"
    );
    assert!(junit(&huge()).unwrap().len() < 30_000_000);
}

/// More of everything than anybody wants to read.
fn huge() -> Evidence {
    let mut run = bad();
    let text = "&<|@`\u{1f600}".repeat(4000);
    run.steps = (0..1500).map(|_| run.steps[1].clone()).collect();
    for (number, step) in run.steps.iter_mut().enumerate() {
        step.name = format!("{number} {text}");
        step.output.text.clone_from(&text);
    }
    run.checks = (0..1500).map(|_| run.checks[1].clone()).collect();
    for (number, check) in run.checks.iter_mut().enumerate() {
        check.id = format!("{number} {text}");
        check.observed.clone_from(&text);
        check.reason.clone_from(&text);
    }
    run.not_tested = vec![text.clone(); 500];
    run.measured.phases = (0..500).map(|_| run.measured.phases[0].clone()).collect();
    run.isolation.downgrades = vec![text.clone(); 500];
    run.follow_ups[0].lessons = vec![text; 500];
    run.judged()
}

#[test]
fn markdown_stays_below_the_limit_and_keeps_what_matters() {
    let text = markdown(&huge());
    assert!(text.len() <= MAX_MARKDOWN && text.len() < 1 << 20, "{}", text.len());
    for part in
        ["FAILED", "### Checks", "### What was not tested", "### Isolation", "Logbook record 41", "more"]
    {
        assert!(text.contains(part), "{part} is missing");
    }
}

#[test]
fn markdown_of_a_known_run() {
    let text = markdown(&good().judged());
    assert!(text.starts_with("## ✅ drill of aura: PASSED\n"), "{text}");
    assert!(text.contains("| recovery time | 1.61 s | 5.00 s |"), "{text}");
    assert!(text.contains("- e\\-mail delivery&#58; no network"), "{text}");
    let text = markdown(&bad().judged());
    assert!(text.contains("```text\nexit status 1"), "{text}");
    assert!(text.contains("1 of 2 sabotages were noticed"), "{text}");
}

#[test]
fn markdown_takes_any_text_as_text() {
    let text = markdown(&filled_with(&nasty()));
    is_harmless(&text);
    // outside of blocks of code there is no markup but ours
    let mut fence: Option<&str> = None;
    for line in text.lines() {
        if let Some(open) = fence {
            if line == open {
                fence = None;
            }
            continue;
        }
        if line.starts_with("```") {
            fence = line.strip_suffix("text");
            assert!(fence.is_some_and(|f| f.len() > 6), "the fence is too short: {line}");
            continue;
        }
        let bare = line.replace("\\`", "");
        for bad in ["<script", "<img", "](", "@user", "://", "`"] {
            assert!(!bare.contains(bad), "{bad} in {line}");
        }
    }
    assert_eq!(fence, None);
}

#[test]
fn html_escapes_every_text() {
    let page = html(&filled_with(&nasty()), &[filled_with(&nasty())]).unwrap();
    is_harmless(&page);
    let plain = html(&filled_with("x"), &[filled_with("x")]).unwrap();
    // whatever the text, the page has the same tags
    let tags = |page: &str| {
        let count = |part: &str| page.matches(part).count();
        (count("<"), count("<script"), count("<img"), count("</style>"), count("</title>"))
    };
    assert_eq!(tags(&page), tags(&plain));
    assert_eq!(tags(&page).1, 0);
    assert!(page.contains("&#60;script&#62;") || page.contains("&lt;script&gt;"));
    assert!(!page.contains("http://c\"") && !page.contains("src=x onerror=alert(1)>"));
}

#[test]
fn every_character_is_escaped_or_itself_in_html() {
    for code in (0..=255u32).chain([0x202e, 0x2066, 0x200b]) {
        let c = char::from_u32(code).unwrap();
        let page = html(&filled_with(&format!("a{c}b")), &[]).unwrap();
        let raw = format!("a{c}b");
        let markup =
            matches!(c, '<' | '>' | '&' | '"' | '\'') || c.is_control() || code > 255 || code == 0xad;
        let plain = !(markup || c.is_whitespace());
        assert!(!markup || c == '\n' || c == '\t' || !page.contains(&raw), "U+{code:04X} is left as it is");
        assert!(!plain || page.contains(&raw), "U+{code:04X} is lost");
    }
}

#[test]
fn the_page_needs_nothing_else_and_says_it_all() {
    let page = html(&bad().judged(), &past()).unwrap();
    for part in ["<script", "src=", "href=", "url(", "@import", "http://", "https://"] {
        assert!(!page.contains(part), "{part} is in the page");
    }
    for part in [
        "FAILED",
        "no such table: knowledge",
        "What was not tested",
        "e-mail delivery",
        "1 of 2 sabotages",
        "13 drills on record",
        "really active",
        "Looked at by",
        "ssh-keygen -Y verify",
        "network namespace",
    ] {
        assert!(page.contains(part), "{part} is missing");
    }
    assert!(html(&good().judged(), &[]).unwrap().contains("This is the first drill on record."));
}

#[test]
fn drawings_stay_inside_their_frames() {
    let lengths = [0, 1, 999, 60_000, 86_400_000, u64::MAX];
    for (a, b) in lengths.iter().flat_map(|a| lengths.iter().map(move |b| (*a, *b))) {
        let mut run = good();
        let of = |millis| Seconds::new(std::time::Duration::from_millis(millis));
        run.measured.phases =
            vec![Phase { name: "p".to_owned(), start_s: of(a), took_s: of(b), counted: true }];
        run.measured.recovery_s = Some(of(b));
        run.objectives.rto_s = Some(of(a));
        let page = html(&run.judged(), &past()).unwrap();
        assert!(!page.contains("NaN") && !page.contains("inf\""), "{a} {b}");
        for part in page.split(" x=\"").skip(1) {
            let x: f64 = part.split('"').next().unwrap().parse().unwrap();
            assert!((-10.0..=910.0).contains(&x), "{x} for {a} {b}");
        }
    }
}

#[test]
fn prometheus_has_one_line_a_sample_and_escapes_labels() {
    let text = prometheus(&good().judged());
    let labels = "app=\"aura\",kind=\"drill\"";
    for line in [
        format!("lifeboat_run_verdict{{{labels},verdict=\"pass\"}} 1"),
        format!("lifeboat_run_verdict{{{labels},verdict=\"fail\"}} 0"),
        format!("lifeboat_run_recovery_seconds{{{labels}}} 1.613"),
        format!("lifeboat_run_finished_timestamp_seconds{{{labels}}} 1795500902"),
        format!("lifeboat_run_phase_seconds{{{labels},phase=\"fetch and restore\"}} 0.212"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
    let text = prometheus(&filled_with(&nasty()));
    is_harmless(&text);
    let mut seen = std::collections::BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once("} ").unwrap();
        assert!(value.parse::<f64>().unwrap().is_finite() && name.starts_with("lifeboat_run_"), "{line}");
        assert!(seen.insert(name.to_owned()), "{name} stands twice");
    }
}

#[test]
fn the_statement_speaks_of_the_snapshot_and_never_passes_what_did_not() {
    let statement = in_toto(&good().judged()).unwrap();
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://in-toto.io/attestation/test-result/v0.1");
    assert_eq!(statement["subject"][0]["digest"]["sha256"], "d4".repeat(32));
    assert_eq!(statement["predicate"]["result"], "PASSED");
    assert_eq!(statement["predicate"]["failedTests"].as_array().unwrap().len(), 0);
    let mut late = good();
    late.objectives.rto_s = Some(Seconds::from_secs(1));
    let mut broken = good();
    broken.faults = vec!["x".to_owned()];
    for (run, result) in [(bad(), "FAILED"), (late, "WARNED"), (broken, "FAILED")] {
        let run = run.judged();
        let statement = in_toto(&run).unwrap();
        assert_eq!(statement["predicate"]["result"], result);
        let list = if result == "WARNED" { "warnedTests" } else { "failedTests" };
        let verdict = format!("verdict: {}", run.verdict.word());
        assert!(statement["predicate"][list].as_array().unwrap().contains(&verdict.into()));
    }
    let mut none = good();
    none.snapshot = None;
    assert_eq!(in_toto(&none.judged()), None);
}
