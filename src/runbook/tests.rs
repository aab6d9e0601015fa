//! The order of things and what failures do, with a program that only writes down what it is asked for.

use std::cell::{Cell, RefCell};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use super::answer::Answer;
use super::maintenance::{Begun, abort, begin, end};
use super::*;
use crate::base::time::Clock;
use crate::evidence::{Evidence, Host, Operator, Step, Tool};
use crate::plan::Plan;

const ID: &str = "15ad8a63546939396e8f397080318875c995891589ccda6a61642d44c7932f84";
// Writes down its arguments, without the two that name the plan; ends as `ends` says, a line for each word: `rollback 1`.
const PROGRAM: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
shift 2
echo "$*" >>asked
while read -r word status times; do
  [ "$word" = "$1" ] || continue
  [ -z "$times" ] || [ "$(grep -c "^$1" asked)" -ge "$times" ] || continue
  exit "$status"
done <ends
[ "$1" = snapshot ] && echo 15ad8a63546939396e8f397080318875c995891589ccda6a61642d44c7932f84
exit 0
"#;

struct Nobody {
    kept: RefCell<Vec<Evidence>>,
    stop_after: Cell<Option<usize>>,
}

impl Console for Nobody {
    fn begins(&self, _: &str) {}
    fn ended(&self, _: &Step) {
        if let Some(left) = self.stop_after.get() {
            self.stop_after.set(Some(left.saturating_sub(1)));
        }
    }
    fn ask(&self, _: &str, _: Duration) -> Option<Answer> {
        None
    }
    fn keep(&self, run: &mut Evidence) {
        self.kept.borrow_mut().push(run.clone());
    }
    fn interrupted(&self) -> bool {
        self.stop_after.get() == Some(0)
    }
}

struct Place {
    dir: tempfile::TempDir,
    console: Nobody,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        fs::write(&program, PROGRAM).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let console = Nobody { kept: RefCell::default(), stop_after: Cell::new(None) };
        let place = Self { dir, console };
        place.ends("");
        place
    }

    // What the program exits with, where that is not 0.
    fn ends(&self, text: &str) {
        fs::write(self.dir.path().join("ends"), text).unwrap();
        let _ = fs::remove_file(self.dir.path().join("asked"));
    }

    fn asked(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("asked")).unwrap_or_default();
        text.lines().map(|line| line.replace(ID, "ID")).collect()
    }

    fn with<T>(&self, plan: &str, act: impl FnOnce(&Setting<'_>) -> T) -> T {
        let plan = Plan::parse(plan, &self.dir.path().join("lifeboat.toml")).unwrap();
        act(&Setting {
            plan: &plan,
            program: self.dir.path().join("program"),
            globals: vec!["--config".into(), plan.file().into()],
            secrets: Vec::new(),
            answers: answer::Answers::new(),
            by: "ada".to_owned(),
            facts: Facts {
                tool: Tool::default(),
                host: Host::default(),
                operator: Operator::default(),
                config_sha256: String::new(),
            },
            clock: Clock::System,
            console: &self.console,
        })
    }
}

fn is_there(path: &Path) -> bool {
    path.exists()
}

const BOOK: &str =
    "[runbook.x]\non_failure = \"rollback\"\nsteps = [\"$ true\", \"verify\", \"$ touch after\"]\n";

#[test]
fn a_failure_goes_back_to_the_snapshot_of_the_beginning() {
    let place = Place::new();
    let outcome = place.with(BOOK, |setting| run("x", setting));
    assert_eq!(outcome.end, End::Pass);
    assert_eq!(place.asked(), ["snapshot --tag runbook --reason runbook x", "verify"]);

    fs::remove_file(place.dir.path().join("after")).unwrap();
    place.ends("verify 40\n");
    let outcome = place.with(BOOK, |setting| run("x", setting));
    assert_eq!((outcome.end, outcome.end.exit()), (End::RolledBack, crate::base::Exit::RolledBack));
    assert_eq!(place.asked(), ["snapshot --tag runbook --reason runbook x", "verify", "rollback ID"]);
    assert!(!is_there(&place.dir.path().join("after")));
    assert_eq!(outcome.run.deviations, ["the application was rolled back: snapshot 15ad8a63"]);

    place.ends("verify 40\nrollback 31\n");
    assert_eq!(place.with(BOOK, |setting| run("x", setting)).end, End::RollbackFailed);

    // what could not be judged is no reason to change anything
    place.ends("verify 22\n");
    assert_eq!(place.with(BOOK, |setting| run("x", setting)).end, End::Error);
    assert_eq!(place.asked().last().unwrap(), "verify");

    // and without a snapshot nothing is begun
    place.ends("snapshot 3\n");
    assert_eq!(place.with(BOOK, |setting| run("x", setting)).end, End::Fail);
    assert_eq!(place.asked().len(), 1);
}

#[test]
fn one_step_may_roll_back_and_another_not() {
    let place = Place::new();
    let book = "[runbook.x]\nsteps = [{ do = \"verify\", on_failure = \"continue\" }, { do = \"drill\", on_failure = \"rollback\" }]\n";
    place.ends("verify 1\n");
    assert_eq!(place.with(book, |setting| run("x", setting)).end, End::Fail);
    assert_eq!(place.asked().len(), 3);
    place.ends("drill 20\n");
    assert_eq!(place.with(book, |setting| run("x", setting)).end, End::RolledBack);
}

#[test]
fn an_interrupt_between_two_steps_ends_it_and_rolls_nothing_back() {
    let place = Place::new();
    place.console.stop_after.set(Some(2));
    let outcome = place.with(BOOK, |setting| run("x", setting));
    assert_eq!(outcome.end, End::Interrupted);
    assert_eq!(place.asked().len(), 1);
    assert_eq!(place.console.kept.borrow().len(), 1);
}

const WORK: &str = "[[check]]\nname = \"c\"\ncommand = \"true\"\n[hotfix]\nverify = [\"echo tested >>asked\"]\ninterval = \"10ms\"\n\
                    [maintenance]\nconfiguration = [\"*.ini\"]\nwatch = \"100ms\"\nbegin = [\"notify begins\"]\nend = [\"manual: well?\"]\n";

fn begun(place: &Place) -> Begun {
    fs::write(place.dir.path().join("a.ini"), "1").unwrap();
    let (outcome, begun) = place.with(WORK, |setting| begin("why", setting));
    assert_eq!(outcome.end, End::Pass, "{:?}", outcome.run.reasons);
    begun.unwrap()
}

#[test]
fn maintenance_begins_only_if_it_can_be_undone() {
    let place = Place::new();
    let found = begun(&place);
    assert_eq!(
        place.asked(),
        [
            "snapshot --tag maintenance --reason maintenance begin",
            "health",
            "rollback --dry-run ID",
            "notify begins"
        ]
    );
    assert_eq!((found.snapshot.as_str(), found.by.as_str(), found.reason.as_str()), (ID, "ada", "why"));
    assert_eq!(found.configuration.len(), 1);
    for broken in ["snapshot 1\n", "health 1\n", "rollback 1\n", "notify 1\n"] {
        place.ends(broken);
        let (outcome, begun) = place.with(WORK, |setting| begin("why", setting));
        assert_eq!((outcome.end, begun), (End::Fail, None), "{broken}");
        // whatever the plan says of its own steps
        let lax = WORK.replace("watch", "on_failure = \"continue\"\nwatch");
        let (outcome, begun) = place.with(&lax, |setting| begin("why", setting));
        assert_eq!((outcome.end, begun), (End::Fail, None), "{broken}");
        assert_eq!(place.asked().iter().any(|line| line == "notify begins"), broken == "notify 1\n");
        let _ = fs::remove_file(place.dir.path().join("asked"));
    }
}

#[test]
fn maintenance_ends_with_tests_checks_a_watch_and_what_has_changed() {
    let place = Place::new();
    let begun = begun(&place);
    place.ends("");
    fs::write(place.dir.path().join("a.ini"), "2").unwrap();
    let outcome = place.with(WORK, |setting| end(&begun, setting));
    assert_eq!(outcome.end, End::Open);
    let asked = place.asked();
    assert_eq!(asked[..2], ["tested", "health"]);
    let rounds = asked.iter().filter(|line| *line == "health").count();
    assert!(rounds > 2, "{asked:?}");
    assert_eq!(
        asked[asked.len() - 2..],
        ["snapshot --tag maintenance --reason maintenance end", "diff ID ID"]
    );
    let step = outcome.run.steps.iter().find(|step| step.name == "compare the configuration").unwrap();
    assert!(step.output.text.starts_with("C a.ini "), "{}", step.output.text);
    // bad rounds one after the other fail it, one alone does not
    place.ends("health 1 3\n");
    let outcome = place.with(WORK, |setting| end(&begun, setting));
    assert_eq!(outcome.end, End::Fail);
    assert!(outcome.run.reasons[0].contains("2 bad rounds of checks in a row"), "{:?}", outcome.run.reasons);
    assert_eq!(place.asked().iter().filter(|line| *line == "health").count(), 4);
    let back = WORK.replace("watch", "on_failure = \"rollback\"\nwatch");
    place.ends("health 1 3\n");
    assert_eq!(place.with(&back, |setting| end(&begun, setting)).end, End::RolledBack);
    assert_eq!(place.asked().last().unwrap(), "rollback ID");
}

#[test]
fn maintenance_is_given_up_with_or_without_going_back() {
    let place = Place::new();
    let begun = begun(&place);
    place.ends("");
    let outcome = place.with(WORK, |setting| abort(&begun, "no time", false, setting));
    assert_eq!(outcome.end, End::Pass);
    assert!(place.asked().is_empty());
    assert!(outcome.run.deviations.iter().any(|text| text == "reason: no time"));
    assert_eq!(place.with(WORK, |setting| abort(&begun, "", true, setting)).end, End::RolledBack);
    assert_eq!(place.asked(), ["rollback ID"]);
}
