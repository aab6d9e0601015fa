//! The maintenance log.

use super::samples::{at, bad};
use crate::evidence::FollowUp;
use crate::evidence::render::{Activity, Bound, Session, maintenance_html, sessions};

fn maintenance(activities: &[Activity]) -> String {
    crate::evidence::render::maintenance(&sessions(activities))
}

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
        bound: None,
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
fn an_action_that_was_closed_is_ticked_and_says_how() {
    let mut drill = activity("2026-11-24T06:15:00Z", "ada@db7", "drill");
    drill.follow_ups = bad().follow_ups;
    let action = &mut drill.follow_ups[0].actions[0];
    action.status = crate::evidence::ActionStatus::Dropped;
    action.note = "the export is gone".to_owned();
    let text = maintenance(&[drill]);
    let line =
        r"- [x] take the snapshot before the export, Ada, 2026\-12\-01 \(dropped&#58; the export is gone\)";
    assert!(text.contains(line), "{text}");
}

fn begin_and_end() -> [Activity; 5] {
    let mut begin = activity("2026-11-24T06:00:00Z", "ada@db7", "maintenance");
    begin.bound = Some(Bound::Begin("aura".to_owned()));
    let mut end = activity("2026-11-24T11:00:00Z", "ada@db7", "maintenance");
    end.bound = Some(Bound::End("aura".to_owned()));
    let snapshot = activity("2026-11-24T05:59:00Z", "ada@db7", "snapshot");
    let other = activity("2026-11-24T08:00:00Z", "grace@db7", "drill");
    let later = activity("2026-11-24T11:31:00Z", "ada@db7", "snapshot");
    [snapshot, begin, other, end, later]
}

#[test]
fn a_maintenance_is_one_session_from_begin_to_end() {
    let all = begin_and_end();
    let seen = |all: &[Activity]| {
        let found: Vec<Session> = sessions(all);
        found.into_iter().map(|s| (s.activities.len(), s.by)).collect::<Vec<_>>()
    };
    let (ada, both) = ("ada@db7".to_owned(), "ada@db7, grace@db7".to_owned());
    assert_eq!(seen(&all), [(1, ada.clone()), (3, both), (1, ada.clone())]);
    // it is not over: the pause parts it as it does anything
    let apart = [(2, ada.clone()), (1, "grace@db7".to_owned())];
    assert_eq!(seen(&all[..3]), apart);
    // another application's end is not its end
    let mut other = all.clone();
    other[3].bound = Some(Bound::End("else".to_owned()));
    assert_eq!(seen(&other[..3]), apart);
    assert_eq!(seen(&other).len(), 4);
}

#[test]
fn what_people_did_alone_is_an_activity() {
    let mut alone = activity("2026-11-24T06:15:00Z", "ada@db7", "daily");
    alone.what = String::new();
    let done = vec!["restarted the cache".to_owned(), "looked at the graphs".to_owned()];
    alone.follow_ups = vec![FollowUp { activities: done, ..FollowUp::default() }];
    let text = maintenance(&[alone]);
    assert!(text.contains("**Type**: Daily\n"), "{text}");
    assert!(text.contains("1. restarted the cache\n2. looked at the graphs\n"), "{text}");
}

#[test]
fn the_page_has_the_same_and_no_text_breaks_it() {
    let hostile = "<script>alert(1)</script>\u{202e}@all";
    let mut drill = activity("2026-11-24T06:15:00Z", hostile, hostile);
    drill.issues = vec![hostile.to_owned()];
    drill.follow_ups = bad().follow_ups;
    let html = maintenance_html(&sessions(&[drill])).unwrap();
    assert!(!html.contains("<script") && !html.contains('\u{202e}'), "{html}");
    for text in ["2026-11-24 06:15", "take the snapshot before the export, Ada, 2026-12-01", "☐", "Completed"]
    {
        assert!(html.contains(text), "{text} is not in\n{html}");
    }
    assert!(maintenance_html(&[]).unwrap().contains("No session"));
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
