use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::*;
use crate::base::time::Timestamp;
use crate::tree::exclude::{Excludes, Options};

fn rules(root: &Path, patterns: &[&str]) -> Excludes {
    let patterns = patterns.iter().map(|p| (*p).to_owned()).collect();
    Excludes::build(root, &Options { patterns, ..Options::default() }).unwrap()
}

#[test]
fn wide_permissions_are_found_and_may_be_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for (name, mode) in [("plain", 0o644), ("wide", 0o666), ("suid", 0o4755), ("meant", 0o666)] {
        fs::write(root.join(name), "").unwrap();
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    for (name, mode) in [("open", 0o777), ("sticky", 0o1777)] {
        fs::create_dir(root.join(name)).unwrap();
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    std::os::unix::fs::symlink("plain", root.join("link")).unwrap();
    let part = permissions::look(root, &rules(root, &["meant"]), Vec::new());
    let names: Vec<_> =
        part.findings.iter().map(|f| f.subject.shown().rsplit('/').next().unwrap().to_owned()).collect();
    assert_eq!(
        (names.as_slice(), part.outcome),
        (&["open", "suid", "wide"].map(str::to_owned)[..], Outcome::Fail)
    );
    let all = permissions::look(root, &rules(root, &["*"]), Vec::new());
    assert_eq!(all.outcome, Outcome::Pass);
}

#[test]
fn secrets_are_found_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    // put together here, so that this file holds none
    let lines = [
        format!("-----BEGIN {} PRIVATE KEY-----", "RSA"),
        format!("key = {}{}", "AKIA", "IOSFODNN7EXAMPLA"),
        format!("t: {}_{}", "ghp", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"),
        format!("{}-{}", "xoxb", "123456789012-abcdefghij"),
        format!("db = postgres://aura:{}@db/aura", "s3cr3tpw"),
        format!("password = \"{}\"", "hT7#kq9!zLm2"),
        "house rule: mine-4711".to_owned(),
    ];
    fs::write(root.join("secrets.txt"), lines.join("\n")).unwrap();
    let harmless = [
        "password = \"changeme-please\"",
        "password = os.environ['AURA_PASSWORD']",
        "token = \"aaaaaaaaaaaa\"",
        "see https://example.org/a:b",
        "password = \"hT7#kq9!zLm2\" # lifeboat:allow-secret",
    ];
    fs::write(root.join("harmless.py"), harmless.join("\n")).unwrap();
    fs::write(root.join("binary"), [b"\0".as_slice(), lines.join("\n").as_bytes()].concat()).unwrap();
    fs::write(root.join("meant.pem"), &lines[0]).unwrap();
    let patterns = secrets::Patterns::new(&["mine-[0-9]+".to_owned()]).unwrap();
    let part = secrets::look(root, &patterns, &rules(root, &[]), &rules(root, &["*.pem"]));
    let found: Vec<_> = part.findings.iter().map(|f| f.line.unwrap()).collect();
    assert_eq!(found, [1, 2, 3, 4, 5, 6, 7], "{part:?}");
    let told = serde_json::to_string(&part).unwrap();
    for line in &lines[1..] {
        let secret =
            line.rsplit([' ', ':', '"']).find(|word| word.len() > 7).unwrap_or(line).trim_matches('"');
        assert!(!told.contains(secret), "{secret} is told");
    }
    assert!(secrets::Patterns::new(&["(".to_owned()]).is_err());
}

#[test]
fn statuses_are_counted_and_compared_with_the_last_time() {
    let combined =
        br#"10.0.0.1 - ada [24/Nov/2026:10:11:12 +0000] "GET /a \" 401 HTTP/1.1" 403 12 "-" "curl""#;
    assert_eq!(access::status(combined), Some(403));
    assert_eq!(
        access::status(br#"2026-11-24 10:11:12,345 INFO 127.0.0.1 "GET /health HTTP/1.1" 200 -"#),
        Some(200)
    );
    assert_eq!(access::status(b"ERROR 500 things"), None);
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.log");
    let line = |status: u16| format!("a \"GET / HTTP/1.1\" {status} 1\n");
    let at = |s: i64| Timestamp::from_seconds(1_800_000_000 + s).unwrap();
    let append = |text: String| {
        use std::io::Write as _;
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    };
    append(line(200) + &line(401) + &line(500));
    let (part, first) = access::look(&log, None, at(0)).unwrap();
    assert_eq!((part.outcome, first.counts[&401], first.counts[&403]), (Outcome::Pass, 1, 0));
    append(line(500));
    let (part, second) = access::look(&log, Some(&first), at(3600)).unwrap();
    assert_eq!((part.outcome, second.counts[&500]), (Outcome::Pass, 1), "{part:?}");
    append(line(500).repeat(40));
    let (part, third) = access::look(&log, Some(&second), at(7200)).unwrap();
    assert_eq!((part.outcome, third.counts[&500]), (Outcome::Fail, 40));
    assert!(part.findings[0].what.contains("500 came 40 times, the last time 1"), "{part:?}");
    // as often in the same time is no rise
    append(line(500).repeat(400));
    let (part, _) = access::look(&log, Some(&third), at(7200 + 36000)).unwrap();
    assert_eq!(part.outcome, Outcome::Pass);
    assert_eq!(access::look(&dir.path().join("none"), None, at(0)).unwrap_err().outcome, Outcome::Error);
}

#[test]
fn a_tool_that_does_not_answer_is_no_pass() {
    let dir = tempfile::tempdir().unwrap();
    let look = |named: &[&str], find: &dyn Fn(&str) -> Option<PathBuf>| {
        let place = packages::Place { root: dir.path(), find, interrupted: &|| false };
        let named: Vec<String> = named.iter().map(|n| (*n).to_owned()).collect();
        packages::look(&place, &named).iter().map(|part| part.outcome).collect::<Vec<_>>()
    };
    let none = |_: &str| None;
    assert_eq!(
        look(&["true", "exit 3", "no-such-tool-here"], &none),
        [Outcome::Pass, Outcome::Fail, Outcome::Error]
    );
    assert_eq!(look(&["cargo", "npm", "pip"], &none), [Outcome::Error; 4]);
    // what tools print
    let tool = dir.path().join("tool");
    let says = |text: &str, status: u8| {
        fs::write(&tool, format!("#!/bin/sh\ncat <<'X'\n{text}\nX\nexit {status}\n")).unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        let find = |_: &str| Some(tool.clone());
        (look(&["cargo"], &find)[0], look(&["npm"], &find)[0])
    };
    let holes = |n: u8| {
        format!(
            r#"{{"vulnerabilities": {{"count": {n}}}, "metadata": {{"vulnerabilities": {{"total": {n}}}}}}}"#
        )
    };
    assert_eq!(says(&holes(0), 0), (Outcome::Pass, Outcome::Pass));
    assert_eq!(says(&holes(2), 1), (Outcome::Fail, Outcome::Fail));
    assert_eq!(says(r#"{"error": {"code": "ENOTFOUND"}}"#, 1), (Outcome::Error, Outcome::Error));
}
