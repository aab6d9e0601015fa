//! Damage to a repository is found, named, and never handed out.

use crate::env::{LIFEBOAT, have, long, python, say};

/// P14, P15: every object deleted, cut, with bytes turned over; some of each kind, or all of them.
#[test]
fn no_damage_is_silent_and_none_spreads() {
    if !have(&["python3"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().to_str().unwrap();
    let mut words = vec!["--lifeboat", LIFEBOAT, "--work", work, "--timeout", "300"];
    if !long() {
        words.extend(["--kinds", "delete,flip", "--flips", "30", "--minutes", "2"]);
    }
    say(&python("campaign_damage.py", &words).ok().stdout);
}
