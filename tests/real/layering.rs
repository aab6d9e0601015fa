//! The layers are a table, and this reads it (docs/architecture.md shows it as a picture).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Lowest first. A module may name only what its row lists.
const LAYERS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("sys", &["base"]),
    ("format", &["base"]),
    ("chunker", &["format"]),
    ("database", &["base", "sys"]),
    ("store", &["base", "sys"]),
    ("tree", &["base", "sys", "format"]),
    ("repo", &["base", "sys", "format", "store"]),
    ("logbook", &["base", "format", "repo", "store"]),
    ("evidence", &["base", "format", "logbook", "repo"]),
    ("sandbox", &["base", "sys"]),
    ("state", &["base"]),
    ("witness", &["base", "logbook", "repo", "state"]),
    ("check", &["base", "sys"]),
    ("plan", &["base", "check"]),
    ("health", &["base", "check", "state"]),
    ("capacity", &["base", "plan", "repo", "state", "sys"]),
    ("security", &["base", "check", "sys", "tree"]),
    ("rotate", &["base", "check", "plan", "sys"]),
    ("service", &["base", "check", "plan", "state", "sys"]),
    ("catalog", &["base", "database", "format", "repo", "sys", "tree", "store"]),
    ("restore", &["base", "database", "format", "repo", "store", "sys", "tree"]),
    ("snapshot", &["base", "chunker", "database", "format", "repo", "store", "sys", "tree"]),
    ("retention", &["base", "format", "logbook", "repo", "store", "sys"]),
    ("verify", &["base", "format", "logbook", "repo", "store"]),
    ("repair", &["base", "format", "logbook", "repo", "store", "verify"]),
    (
        "drill",
        &[
            "base", "catalog", "check", "database", "evidence", "format", "plan", "repo", "restore",
            "sandbox", "service", "sys", "tree",
        ],
    ),
    (
        "rollback",
        &[
            "base", "catalog", "check", "database", "drill", "evidence", "format", "logbook", "plan", "repo",
            "restore", "service", "snapshot", "state", "sys", "tree", "verify",
        ],
    ),
    (
        "guard",
        &[
            "base", "catalog", "check", "drill", "evidence", "logbook", "plan", "repo", "rollback",
            "service", "snapshot", "state", "sys", "tree", "verify",
        ],
    ),
    ("notify", &["base", "check", "plan", "state", "sys"]),
    ("runbook", &["base", "check", "evidence", "plan", "sys"]),
    (
        "readiness",
        &[
            "base", "capacity", "check", "evidence", "format", "guard", "health", "logbook", "notify",
            "plan", "repo", "rollback", "runbook", "state", "store", "sys", "verify", "witness",
        ],
    ),
    ("report", &["base", "capacity", "check", "evidence", "health", "readiness"]),
    (
        "cli",
        &[
            "base",
            "catalog",
            "guard",
            "service",
            "database",
            "drill",
            "evidence",
            "check",
            "format",
            "health",
            "logbook",
            "notify",
            "plan",
            "repair",
            "repo",
            "restore",
            "retention",
            "capacity",
            "readiness",
            "report",
            "rotate",
            "security",
            "rollback",
            "runbook",
            "sandbox",
            "snapshot",
            "state",
            "store",
            "sys",
            "tree",
            "verify",
            "witness",
        ],
    ),
];

// Source files of a module, its tests left out: they may use anything.
fn sources(module: &str) -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(module);
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(dir) {
        let path = entry.unwrap().into_path();
        let shown = path.display().to_string();
        if path.extension().is_none_or(|e| e != "rs") || shown.contains("tests") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        found.push((shown, lines.collect::<Vec<_>>().join("\n")));
    }
    found
}

#[test]
fn every_module_is_in_the_table() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let listed: BTreeSet<_> = LAYERS.iter().map(|row| row.0).collect();
    let modules = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    assert_eq!(modules.collect::<BTreeSet<_>>(), listed);
}

#[test]
fn modules_name_only_what_their_row_allows() {
    let mut wrong = Vec::new();
    for (module, allowed) in LAYERS {
        for (file, code) in sources(module) {
            for (other, _) in LAYERS.iter().filter(|(other, _)| other != module && !allowed.contains(other)) {
                if code.contains(&format!("crate::{other}::")) || code.contains(&format!("crate::{other};")) {
                    wrong.push(format!("{file} names {other}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_the_terminal_prints_and_only_the_system_layer_is_unsafe() {
    let mut wrong = Vec::new();
    for (module, _) in LAYERS {
        for (file, code) in sources(module) {
            let prints = ["println!(", "print!(", "dbg!("].iter().any(|word| code.contains(word));
            if prints && *module != "cli" {
                wrong.push(format!("{file} prints"));
            }
            let is_unsafe = code.contains("unsafe {") || code.contains("unsafe fn");
            if is_unsafe && *module != "sys" {
                wrong.push(format!("{file} is unsafe"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
