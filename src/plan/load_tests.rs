use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::check::value::{Amount, CommandLine, Span};
use crate::plan::{Network, Operation};

const WHOLE: &str = include_str!("whole.toml");

fn parse(text: &str) -> Result<Plan, PlanError> {
    Plan::parse(text, Path::new("/srv/aura/lifeboat.toml"))
}

fn wrong(text: &str) -> String {
    let error = parse(text).unwrap_err();
    format!("{error}\nnext: {}", error.next())
}

#[test]
fn a_plan_with_every_section_is_read() {
    let plan = parse(WHOLE).unwrap();
    assert_eq!(plan.name(), "aura");
    assert_eq!(plan.root(), Path::new("/srv/aura"));
    assert_eq!(plan.path("../x/./y"), Path::new("/srv/x/y"));
    assert_eq!(plan.check.len(), 11);
    assert!(plan.check_named("health").unwrap().is_data_proving());
    assert_eq!(plan.drill.objectives.rto, Some(Span::seconds(900)));
    assert_eq!(plan.drill.network, Network::Setup);
    assert_eq!(plan.drill.setup[1], CommandLine::Argv(vec!["make".into(), "assets".into()]));
    assert_eq!(plan.hotfix.thresholds.cpu, Some(Amount::Percent(90.0)));
    let weekly = &plan.runbook["weekly"].steps;
    assert_eq!(weekly[2].operation, Operation::Lifeboat(vec!["check".into(), "errors in the log".into()]));
    assert_eq!(weekly[4].operation, Operation::Manual("are there new alerts?".into()));
    let place = plan.place("drill.objectives.rto").unwrap();
    assert_eq!(
        WHOLE.lines().nth(place.line - 1).unwrap().trim(),
        "objectives = { rto = \"15m\", rpo = \"24h\" }"
    );
    assert_eq!(plan.place("drill.stop_timeout"), None);
}

#[test]
fn an_empty_plan_has_the_defaults() {
    let plan = parse("").unwrap();
    assert_eq!((plan.name(), plan.root().as_path()), ("aura".into(), Path::new("/srv/aura")));
    assert_eq!(plan.hotfix.watch, Span::seconds(900));
    assert!(plan.check.is_empty() && plan.service.is_none());
}

#[test]
fn what_is_written_is_read_again() {
    let plan = parse(WHOLE).unwrap();
    let text = toml::to_string(&plan).unwrap();
    let again = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(serde_json::to_value(&plan).unwrap(), serde_json::to_value(&again).unwrap());
    for check in &plan.check {
        let json = serde_json::to_string(check).unwrap();
        assert_eq!(&serde_json::from_str::<Check>(&json).unwrap(), check, "{json}");
    }
}

#[test]
fn an_unknown_key_names_its_place_and_the_nearest_right_one() {
    insta::assert_snapshot!(wrong("[app]\nname = \"x\"\n  exlude = []\n"), @r"
    /srv/aura/lifeboat.toml:3:3: unknown key exlude
    next: exclude is meant?
    ");
    insta::assert_snapshot!(wrong("[dril]\n"), @r"
    /srv/aura/lifeboat.toml:1:2: unknown key dril
    next: drill is meant?
    ");
    insta::assert_snapshot!(wrong("[drill.limits]\npids = 3"), @r"
    /srv/aura/lifeboat.toml:2:1: unknown key pids
    next: use one of time, memory, processes, disk
    ");
    insta::assert_snapshot!(wrong("[drill]\nnetwork = \"non\""), @r"
    /srv/aura/lifeboat.toml:2:11: unknown value non
    next: none is meant?
    ");
    insta::assert_snapshot!(wrong("[[check]]\nname = \"a\"\nhttp = \"http://x\"\nexpect = { jsn = {} }\n"), @r"
    /srv/aura/lifeboat.toml:4:12: a check of http has no key jsn
    next: json is meant?
    ");
    insta::assert_snapshot!(wrong("[[check]]\nname = \"a\"\nhttp = \"http://x\"\nretires = 3\n"), @r"
    /srv/aura/lifeboat.toml:4:1: a check of http has no key retires
    next: retries is meant?
    ");
    insta::assert_snapshot!(wrong("[[check]]\nname = \"a\"\nhtp = \"http://x\"\n"), @r"
    /srv/aura/lifeboat.toml:3:1: htp is no kind of check
    next: http is meant?
    ");
}

#[test]
fn wrong_types_and_values_name_their_place() {
    insta::assert_snapshot!(wrong("[hotfix]\nwatch = \"15 minuten\""), @r#"
    /srv/aura/lifeboat.toml:2:9: "15 minuten" is not a length of time such as 30s, 15m or 1h 30m
    next: docs/plan.md lists every key
    "#);
    insta::assert_snapshot!(wrong("[app]\nexclude = \"logs\""), @r#"
    /srv/aura/lifeboat.toml:2:11: invalid type: string "logs", expected a sequence
    next: docs/plan.md lists every key
    "#);
    insta::assert_snapshot!(wrong("[[check]]\nname = \"d\"\ndisk = \".\"\nmin_free = \"120%\""), @r#"
    /srv/aura/lifeboat.toml:4:12: "120%" is not a share from 0% to 100%
    next: docs/plan.md lists every key
    "#);
    insta::assert_snapshot!(wrong("[[check]]\nname = \"l\"\nlog = \"x\"\nforbid = \"(\""), @r"
    /srv/aura/lifeboat.toml:4:1: ( is not a regular expression: unclosed group
    next: docs/plan.md lists every key
    ");
    insta::assert_snapshot!(wrong("[app\n"), @r"
    /srv/aura/lifeboat.toml:1:5: unclosed table, expected `]`
    next: docs/plan.md lists every key
    ");
}

#[test]
fn names_must_lead_somewhere() {
    let check = "[[check]]\nname = \"health\"\nport = 80\n";
    insta::assert_snapshot!(wrong(&format!("{check}[drill]\nready = [\"healt\"]")), @r"
    /srv/aura/lifeboat.toml:5:10: there is no check called healt
    next: health is meant?
    ");
    insta::assert_snapshot!(wrong(&format!("{check}[runbook.daily]\nsteps = [\"health\", \"check x\", \"verfy\"]")), @r#"
    /srv/aura/lifeboat.toml:5:31: "verfy" is none of Lifeboat's operations; is verify meant? (a command is written "$ COMMAND" or { command = "…" }, a question "manual: …")
    next: docs/plan.md lists every key
    "#);
    insta::assert_snapshot!(wrong(&format!("{check}[runbook.daily]\nsteps = [\"check x\"]\n[[database]]\nkind = \"sqlite\"\n{check}")), @r"
    /srv/aura/lifeboat.toml:5:10: there is no check called x
    /srv/aura/lifeboat.toml:6:1: a database of kind sqlite needs path
    /srv/aura/lifeboat.toml:9:1: a second check is called health
    next: use one of health, health
    ");
}

#[test]
fn every_wrong_check_is_told_at_once() {
    let text = "[[check]]\nname = \"a\"\nsql = 3\n[[check]]\nport = 1\n[hotfix]\nwatch = 1";
    assert_eq!(wrong(text).lines().count(), 4, "{}", wrong(text));
}

#[test]
fn a_hostile_plan_is_refused_in_words() {
    let deep = format!("x = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(wrong(&deep).contains("lifeboat.toml:1:"));
    let tables = format!("[{}]", vec!["a"; 100_000].join("."));
    assert!(parse(&tables).is_err());
    let inline = format!("a = {}1{}", "{a=".repeat(50_000), "}".repeat(50_000));
    assert!(parse(&inline).is_err());
    let key = format!("{} = 1", "k".repeat(1_000_000));
    assert!(parse(&key).is_err());
    assert!(wrong("\"\\u001b[31m\" = 1").contains("unknown key \\x1b[31m"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    std::fs::write(&path, vec![b'#'; 5 << 20]).unwrap();
    assert!(Plan::load(&path).unwrap_err().to_string().contains("larger than 4 MiB"));
    std::fs::write(&path, b"\xff").unwrap();
    assert!(Plan::load(&path).unwrap_err().to_string().contains("not UTF-8"));
}

#[test]
fn a_plan_is_found_above() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a/b");
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(dir.path().join(FILE), "[app]\nname = \"here\"").unwrap();
    assert_eq!(Plan::find(&deep).unwrap().name(), "here");
    assert!(matches!(Plan::load(&deep.join(FILE)), Err(PlanError::Io { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let _ = parse(&text);
    }

    // pieces of a real plan in any order, cut anywhere
    #[test]
    fn no_mixture_makes_it_panic(
        lines in proptest::collection::vec(0..WHOLE.lines().count(), 0..40),
        cut in 0usize..40,
    ) {
        let all: Vec<&str> = WHOLE.lines().collect();
        let text: String = lines.iter().map(|&i| format!("{}\n", all[i])).collect();
        let _ = parse(&text);
        let end = text.char_indices().map(|(at, _)| at).nth_back(cut).unwrap_or_default();
        let _ = parse(&text[..end]);
    }

    #[test]
    fn a_misspelt_key_is_led_back(at in 0usize..5, key in 0usize..4) {
        let right = ["setup", "server", "environment", "objectives"][key];
        let mut letters: Vec<char> = right.chars().collect();
        letters.remove(at.min(letters.len() - 1));
        let text: String = letters.into_iter().collect();
        let error = parse(&format!("[drill]\n{text} = 1\n")).unwrap_err();
        prop_assert_eq!(error.next(), format!("{} is meant?", right));
    }
}
