use std::fs;

use crate::env::TestEnv;

#[test]
fn there_and_back_and_nothing_left() {
    let env = TestEnv::with_tree();
    fs::create_dir(env.path("place")).unwrap();
    let answer = env.json(["try", &env.arg("tree"), "--in", "place"]);
    assert_eq!(answer["verdict"], "pass");
    let steps: Vec<&str> =
        answer["steps"].as_array().unwrap().iter().map(|s| s["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["snapshot", "again", "verify", "restore", "compare"]);
    assert_eq!(fs::read_dir(env.path("place")).unwrap().count(), 0);
}
