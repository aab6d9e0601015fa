//! JUnit XML as GitLab reads it: it looks at `classname` and `name` (equal pairs are dropped), the time, and the *body*
//! of `failure` or `error`; messages in attributes, suites and properties it ignores. Jenkins and
//! others read the same.

use std::collections::BTreeSet;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{RenderError, account_of_check, account_of_step, line, short};
use crate::evidence::measure::Seconds;
use crate::evidence::record::Evidence;
use crate::evidence::step::{Check, Outcome, Step};
use crate::evidence::verdict::Verdict;

// GitLab refuses files of 30 MB and more; escaping makes at most six bytes of one.
const MAX_BODIES: usize = 4 << 20;
const MAX_BODY: usize = 16 << 10;
const MAX_NAME: usize = 200;
const MAX_ITEMS: usize = 200;
const MAX_ITEM: usize = 500;

/// The record as JUnit XML: a case for each step, each check, and for what the verdict rests on besides.
///
/// # Errors
/// If it cannot be written as XML.
pub fn junit(run: &Evidence) -> Result<String, RenderError> {
    let mut cases =
        Cases { prefix: format!("lifeboat.{}", short(&line(&run.app), MAX_NAME)), ..Cases::default() };
    let mut report =
        Report::new(format!("lifeboat {} {}", run.kind.word(), short(&line(&run.app), MAX_NAME)));
    report.set_timestamp(run.started.0.fixed_offset());
    report.set_time(run.finished.since(run.started));
    // in this order: the numbering of the cases goes on from one to the next
    let steps: Vec<_> = run.steps.iter().map(|step| cases.step(step)).collect();
    let checks: Vec<_> = run.checks.iter().map(|check| cases.check(check)).collect();
    let suites = [("steps", steps), ("checks", checks), ("verdict", cases.verdict(run))];
    for (name, cases) in suites {
        let mut suite = TestSuite::new(name);
        suite.add_test_cases(cases);
        report.add_test_suite(suite);
    }
    report.to_string().map_err(|error| RenderError::new(run, "JUnit XML", error))
}

#[derive(Default)]
struct Cases {
    prefix: String,
    names: BTreeSet<String>,
    bodies: usize,
}

impl Cases {
    fn case(&mut self, group: &str, name: &str, status: TestCaseStatus, took: Option<Seconds>) -> TestCase {
        let name = self.unique(&short(&line(name), MAX_NAME));
        let mut case = TestCase::new(name, status);
        case.set_classname(format!("{}.{group}", self.prefix));
        case.set_time(took.unwrap_or_default().duration());
        case
    }

    // Unique over the whole file: some readers take the name alone.
    fn unique(&mut self, name: &str) -> String {
        let mut candidate = name.to_owned();
        let mut number = 1;
        while !self.names.insert(candidate.clone()) {
            number += 1;
            candidate = format!("{name} ({number})");
        }
        candidate
    }

    fn body(&mut self, text: String) -> String {
        if self.bodies + text.len() > MAX_BODIES {
            return "left out: the report would become too large; see the record".to_owned();
        }
        self.bodies += text.len();
        text
    }

    fn status(&mut self, result: Outcome, account: String) -> TestCaseStatus {
        let mut status = match result {
            Outcome::Pass => return TestCaseStatus::success(),
            Outcome::Fail => TestCaseStatus::non_success(NonSuccessKind::Failure),
            Outcome::Error => TestCaseStatus::non_success(NonSuccessKind::Error),
            Outcome::Skip => TestCaseStatus::skipped(),
        };
        status.set_message(short(&line(&account), MAX_NAME));
        status.set_description(self.body(account));
        status
    }

    fn step(&mut self, step: &Step) -> TestCase {
        let status = self.status(step.result, account_of_step(step, MAX_BODY));
        self.case("steps", &format!("{}: {}", step.phase, step.name), status, Some(step.took_s))
    }

    fn check(&mut self, check: &Check) -> TestCase {
        let account = account_of_check(check, MAX_BODY);
        let status = if check.required || check.result == Outcome::Pass {
            self.status(check.result, account)
        } else {
            // red would contradict the verdict, which such a check does not decide
            let account = format!("{}, but not required\n{account}", check.result.word());
            self.status(Outcome::Skip, account)
        };
        self.case("checks", &format!("check: {}", check.id), status, Some(check.took_s))
    }

    fn verdict(&mut self, run: &Evidence) -> Vec<TestCase> {
        let result = match run.verdict {
            Verdict::Pass => Outcome::Pass,
            Verdict::Fail | Verdict::ObjectiveMissed => Outcome::Fail,
            Verdict::Inconclusive => Outcome::Error,
        };
        let mut account = format!("{}\n", run.headline());
        for reason in run.reasons.iter().take(MAX_ITEMS) {
            account.push_str(&format!("- {}\n", short(&line(reason), MAX_ITEM)));
        }
        account.push_str(&format!("isolation: {}\nnot tested:\n", run.isolation.active.meaning()));
        for item in run.not_tested.iter().take(MAX_ITEMS) {
            account.push_str(&format!("- {}\n", short(&line(item), MAX_ITEM)));
        }
        let status = self.status(result, account.clone());
        let mut verdict = self.case("verdict", "verdict", status, run.measured.recovery_s);
        if result == Outcome::Pass {
            verdict.set_system_out(account);
        }
        let mut cases = vec![verdict];
        let objectives = [
            ("recovery time objective", run.objectives.rto_s, run.measured.recovery_s),
            ("recovery point objective", run.objectives.rpo_s, run.measured.loss()),
        ];
        for (name, objective, measured) in objectives {
            let Some(objective) = objective else { continue };
            let (result, account) = match measured {
                None => (Outcome::Error, "could not be measured".to_owned()),
                Some(measured) if measured > objective => {
                    (Outcome::Fail, format!("measured {measured}, objective {objective}"))
                }
                Some(_) => (Outcome::Pass, String::new()),
            };
            let status = self.status(result, account);
            cases.push(self.case("verdict", name, status, measured));
        }
        let result = if run.cleanup.proved { Outcome::Pass } else { Outcome::Error };
        let status = self.status(
            result,
            format!("left over: {}", short(&line(&run.cleanup.leftovers.join(", ")), MAX_BODY)),
        );
        cases.push(self.case("verdict", "everything was cleaned up", status, None));
        cases
    }
}
