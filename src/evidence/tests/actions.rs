//! Next actions, whatever the order in which they are recorded and closed.

use proptest::prelude::*;

use crate::base::id::RecordId;
use crate::base::time::Timestamp;
use crate::evidence::actions::{self, id_of, parse_due};
use crate::evidence::logged::Said;
use crate::evidence::{Action, ActionStatus, Closed, FollowUp};

fn at(second: i64) -> Timestamp {
    Timestamp::from_seconds(1_800_000_000 + second).unwrap()
}

fn record(number: usize) -> RecordId {
    RecordId::of(&number.to_le_bytes())
}

fn said(number: usize, words: FollowUp) -> Said {
    Said { record: record(number), at: at(number as i64), by: "ada@db7".to_owned(), words }
}

fn action(text: &str, due: &str, status: ActionStatus) -> Action {
    let (owner, note) = (String::new(), String::new());
    Action { text: text.to_owned(), owner, due: due.to_owned(), status, note }
}

fn words(actions: Vec<Action>, closed: Vec<Closed>) -> FollowUp {
    FollowUp { run_id: "run".to_owned(), actions, closed, ..FollowUp::default() }
}

fn closed(action: String, note: &str) -> Closed {
    Closed { action, status: ActionStatus::Done, note: note.to_owned() }
}

#[test]
fn an_action_is_closed_by_its_id_or_its_text_and_once_only() {
    let add = words(
        vec![action("a", "", ActionStatus::Open), action("b", "2026-12-01", ActionStatus::Open)],
        vec![],
    );
    let id = id_of(record(1), 0);
    let all = [
        said(1, add),
        said(2, words(vec![], vec![closed(id.clone(), "first"), closed("0".repeat(64), "of nothing")])),
        said(3, words(vec![], vec![closed(id, "second")])),
        said(4, words(vec![action("b", "", ActionStatus::Dropped)], vec![])),
        said(5, words(vec![action("b", "", ActionStatus::Open)], vec![])),
    ];
    let found = actions::of(&all);
    let seen: Vec<_> = found.iter().map(|a| (a.text.as_str(), a.status)).collect();
    assert_eq!(seen, [("a", ActionStatus::Done), ("b", ActionStatus::Dropped), ("b", ActionStatus::Open)]);
    let closing = found[0].closed.as_ref().unwrap();
    assert_eq!((closing.note.as_str(), closing.at, closing.record), ("first", at(2), record(2)));
    assert!(found[1].due_on().is_some() && !found[1].is_overdue(at(0)), "what is closed is not overdue");
    let settled = actions::settled(all.to_vec());
    let shown: Vec<_> =
        settled.iter().flat_map(|one| &one.words.actions).map(|a| (a.status, a.note.as_str())).collect();
    assert_eq!(
        shown,
        [(ActionStatus::Done, "first"), (ActionStatus::Dropped, ""), (ActionStatus::Open, "")],
        "the word that closed one is not itself one"
    );
}

#[test]
fn an_action_is_overdue_the_day_after_it_was_due() {
    let now = at(0);
    let today = now.0.date_naive();
    for (due, overdue) in [
        (today.pred_opt().unwrap().to_string(), true),
        (today.to_string(), false),
        (today.succ_opt().unwrap().to_string(), false),
        ("next week".to_owned(), false),
    ] {
        let found = actions::of(&[said(1, words(vec![action("a", &due, ActionStatus::Open)], vec![]))]);
        assert_eq!(found[0].is_overdue(now), overdue, "{due}");
    }
    for text in ["2026-02-30", "01.12.2026", "2026-1-2", "soon", "", "2026-12-01T00:00:00Z", " 2026-12-01"] {
        assert_eq!(parse_due(text), None, "{text}");
    }
    assert!(parse_due("2028-02-29").is_some());
}

// What somebody does: adds actions, or closes one that was added before or will be, or none at all.
#[derive(Clone, Debug)]
enum Deed {
    Add(usize),
    Close(usize, usize),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        (1_usize..4).prop_map(Deed::Add),
        (0_usize..24, 0_usize..4).prop_map(|(record, place)| Deed::Close(record, place)),
    ];
    prop::collection::vec(deed, 0..24)
}

proptest! {
    #[test]
    fn every_action_is_there_once_and_closed_if_anybody_closed_it(deeds in deeds()) {
        let all: Vec<Said> = deeds.iter().enumerate().map(|(number, deed)| match deed {
            Deed::Add(count) => {
                let new = (0..*count).map(|n| action(&format!("{number}.{n}"), "", ActionStatus::Open));
                said(number, words(new.collect(), vec![]))
            }
            Deed::Close(of, place) => said(number, words(vec![], vec![closed(id_of(record(*of), *place), "")])),
        }).collect();
        let found = actions::of(&all);
        let mut expected = Vec::new();
        for (number, deed) in deeds.iter().enumerate() {
            let Deed::Add(count) = deed else { continue };
            for place in 0..*count {
                let first = deeds.iter().position(|deed| matches!(deed, Deed::Close(o, p) if (*o, *p) == (number, place)));
                expected.push((id_of(record(number), place), first.map(|first| at(first as i64))));
            }
        }
        let seen: Vec<_> = found.iter().map(|a| (a.id.clone(), a.closed.as_ref().map(|c| c.at))).collect();
        prop_assert_eq!(&seen, &expected);
        prop_assert!(found.iter().all(|a| a.is_open() == a.closed.is_none()));
        // settling what is settled changes nothing
        let settled = actions::settled(all);
        prop_assert_eq!(&actions::settled(settled.clone()), &settled);
    }
}
