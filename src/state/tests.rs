use std::path::Path;

use super::*;

#[test]
fn what_is_written_is_read_and_can_be_forgotten() {
    let base = tempfile::tempdir().unwrap();
    let state = State::of(base.path(), Path::new("/srv/an app"));
    assert_eq!(state.read::<Vec<u32>>("x.json").unwrap(), None);
    state.write("x.json", &vec![1, 2]).unwrap();
    state.write("x.json", &vec![3]).unwrap();
    assert_eq!(state.read::<Vec<u32>>("x.json").unwrap(), Some(vec![3]));
    state.remove("x.json").unwrap();
    state.remove("x.json").unwrap();
    assert_eq!(state.read::<Vec<u32>>("x.json").unwrap(), None);
    assert_eq!(std::fs::read_dir(state.directory()).unwrap().count(), 0);
}

#[test]
fn applications_with_one_name_are_told_apart() {
    let base = Path::new("/b");
    assert_ne!(State::of(base, Path::new("/srv/a")), State::of(base, Path::new("/opt/a")));
}

#[test]
fn a_damaged_file_is_named() {
    let base = tempfile::tempdir().unwrap();
    let state = State::of(base.path(), Path::new("/srv/app"));
    state.write("x.json", &1).unwrap();
    std::fs::write(state.path("x.json"), "{").unwrap();
    let error = state.read::<u32>("x.json").unwrap_err().to_string();
    assert!(error.contains("x.json is damaged"), "{error}");
}

#[test]
fn a_lock_is_held_once() {
    let base = tempfile::tempdir().unwrap();
    let state = State::of(base.path(), Path::new("/srv/app"));
    let held = state.lock("lock").unwrap();
    assert!(held.is_some());
    assert!(state.lock("lock").unwrap().is_none());
    drop(held);
    assert!(state.lock("lock").unwrap().is_some());
}
