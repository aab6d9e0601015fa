//! An in-toto Statement v1 with a Test Result predicate v0.1
//! (<https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md>), to be signed by whoever
//! keeps a policy about it.

use serde_json::{Value, json};

use super::line;
use crate::evidence::record::Evidence;
use crate::evidence::step::Outcome;
use crate::evidence::verdict::Verdict;

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://in-toto.io/attestation/test-result/v0.1";

/// The record as a statement about its snapshot; `None` if there was no snapshot to speak of.
///
/// A missed objective is `WARNED`: everything works, but a policy that asks for `PASSED` refuses it. What could not be
/// judged is `FAILED`, so that nothing accepts it, and the verdict itself is among the failed tests.
pub fn in_toto(run: &Evidence) -> Option<Value> {
    let snapshot = run.snapshot.as_ref()?;
    let result = match run.verdict {
        Verdict::Pass => "PASSED",
        Verdict::ObjectiveMissed => "WARNED",
        Verdict::Fail | Verdict::Inconclusive => "FAILED",
    };
    let (mut passed, mut warned, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    let steps = run.steps.iter().map(|s| (format!("{}: {}", line(&s.phase), line(&s.name)), s.result, true));
    let checks = run.checks.iter().map(|c| (format!("check: {}", line(&c.id)), c.result, c.required));
    for (name, outcome, required) in steps.chain(checks) {
        match (outcome, required) {
            (Outcome::Pass, _) => passed.push(name),
            (_, true) => failed.push(name),
            (_, false) => warned.push(name),
        }
    }
    let verdict = format!("verdict: {}", run.verdict.word());
    match run.verdict {
        Verdict::Pass => passed.push(verdict),
        Verdict::ObjectiveMissed => warned.push(verdict),
        Verdict::Fail | Verdict::Inconclusive => failed.push(verdict),
    }
    let mut digests = json!({ "sha256": snapshot.id });
    if let Some(root) = &snapshot.root_hash {
        digests["lifeboatRootHash"] = json!(root);
    }
    Some(json!({
        "_type": STATEMENT,
        "subject": [{ "name": format!("snapshot of {}", line(&run.app)), "digest": digests }],
        "predicateType": PREDICATE,
        "predicate": {
            "result": result,
            "configuration": [{ "name": "lifeboat.toml", "digest": { "sha256": run.config_sha256 } }],
            "passedTests": passed,
            "warnedTests": warned,
            "failedTests": failed,
            // extension, as the parsing rules allow: consumers ignore what they do not know
            "lifeboat": {
                "runId": run.run_id,
                "kind": run.kind.word(),
                "started": run.started,
                "finished": run.finished,
                "headline": run.headline(),
                "isolation": run.isolation.active.word(),
                "cap": run.cap,
                "recoverySeconds": run.measured.recovery_s,
                "notTested": run.not_tested,
                "logbookRecord": run.seal.as_ref().map(|seal| seal.record.clone()),
            },
        },
    }))
}
