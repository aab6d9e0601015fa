//! The sample application: that it shows the fault which drills are for, and that it can go red.

use std::process::Command;

use crate::env::{have, tool};

fn check(part: &str, says: &str) {
    if !have(&["python3", "sh"]) {
        return;
    }
    let done = Command::new("python3").arg(tool("sample.py")).arg(part).output().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && said.contains(says), "{said}{wrong}");
}

#[test]
fn a_copy_restored_elsewhere_passes_its_tests_although_it_is_broken() {
    check("fault", "the same copy at its original path: fails, as it should");
}

#[test]
fn whatever_is_done_to_the_sample_application_is_noticed() {
    check("sabotage", "sabotages were noticed");
}
