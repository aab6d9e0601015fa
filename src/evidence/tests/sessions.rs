//! The maintenance log.

use super::samples::{at, bad};
use crate::evidence::render::{Activity, maintenance};

fn activity(time: &str, by: &str, kind: &str) -> Activity {
    Activity {
        started: at(time),
        finished: at(time),
        by: by.to_owned(),
        kind: kind.to_owned(),
        what: format!("{kind} of aura"),
        issues: vec![],
        complete: true,
        follow_ups: vec![],
    }
}

#[test]
fn the_form_is_that_of_the_operations_document() {
    let mut drill = activity("2026-11-24T06:15:00Z", "ada@db7", "drill");
    drill.issues = vec!["required check \"rows\" failed".to_owned()];
    drill.complete = false;
    drill.follow_ups = bad().follow_ups;
    let all = [activity("2026-11-24T06:00:00Z", "ada@db7", "snapshot"), drill];
    insta::assert_snapshot!(maintenance(&all), @r##"
    ## Maintenance Session: 2026-11-24 06:00

    **Type**: Drill, Snapshot
    **Duration**: 2026-11-24 06:00 to 2026-11-24 06:15
    **Performed By**: ada&#64;db7

    ### Activities Completed
    1. snapshot of aura
    2. drill of aura

    ### Issues Encountered
    - required check "rows" failed
    - the table was empty

    ### Observations
    - the export ran at the same time
    - the export job truncates the table
    - Signed off by Grace, 2026\-11\-25 09&#58;00&#58; seen, cause known

    ### Next Actions
    - [ ] take the snapshot before the export, Ada, 2026\-12\-01

    **Status**: Partial
    "##);
}

#[test]
fn a_pause_or_another_person_begins_another_session() {
    let all = [
        activity("2026-11-24T06:00:00Z", "ada@db7", "snapshot"),
        activity("2026-11-24T06:29:00Z", "ada@db7", "weekly"),
        activity("2026-11-24T07:30:00Z", "ada@db7", "rollback"),
        activity("2026-11-24T07:31:00Z", "grace@db7", "snapshot"),
    ];
    let text = maintenance(&all);
    let types: Vec<&str> = text.lines().filter(|line| line.starts_with("**Type**")).collect();
    assert_eq!(types, ["**Type**: Weekly", "**Type**: Emergency", "**Type**: Snapshot"]);
    assert_eq!(maintenance(&[]), "");
}

#[test]
fn an_action_that_was_done_is_ticked() {
    let mut drill = activity("2026-11-24T06:15:00Z", "ada@db7", "drill");
    drill.follow_ups = [bad().follow_ups, bad().follow_ups].concat();
    drill.follow_ups[1].actions[0].status = crate::evidence::ActionStatus::Done;
    let text = maintenance(&[drill]);
    assert!(text.contains("- [x] take the snapshot before the export, Ada"), "{text}");
    assert_eq!(text.matches("take the snapshot").count(), 1);
}

#[test]
fn no_text_breaks_the_form() {
    let hostile = "x\n## Maintenance Session: [2020-01-01]\n**Status**: Completed <script>@all";
    let mut drill = activity("2026-11-24T06:15:00Z", hostile, hostile);
    drill.what = hostile.to_owned();
    drill.issues = vec![hostile.to_owned()];
    drill.complete = false;
    let text = maintenance(&[drill]);
    assert_eq!(text.lines().filter(|line| line.starts_with("## ")).count(), 1, "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("**Status**")).count(), 1, "{text}");
    assert!(!text.contains('<') && !text.contains('@'), "{text}");
}
