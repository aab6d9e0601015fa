//! What the tools say, understood: pip, pip-audit, npm, cargo-audit. Pure; tested with what the real tools printed.
//!
//! An answer is taken as one only where it is whole. That a tool ended well is not enough: pip-audit ends with 0 when
//! it could not look up a single package, and pip lists nothing when it reaches nobody.

use memchr::memmem;
use serde_json::Value;

use crate::base::name::shown;
use crate::base::size;
use crate::check::Outcome;

/// What a tool printed and how it ended.
pub struct Answer<'a> {
    /// The exit status; `None` if a signal ended it.
    pub exit: Option<i32>,
    /// What it printed.
    pub stdout: &'a [u8],
    /// What it complained of.
    pub stderr: &'a [u8],
}

/// An answer understood. Texts are safe for a terminal.
#[derive(Debug, PartialEq, Eq)]
pub struct Judged {
    /// The verdict.
    pub outcome: Outcome,
    /// In a sentence.
    pub reason: String,
    /// What it rests on: a package and what is to be said of it.
    pub found: Vec<(String, String)>,
}

/// Why there is no answer; empty if the tool does not say.
pub type Unknown = String;

impl Answer<'_> {
    fn json(&self) -> Result<Value, Unknown> {
        serde_json::from_slice(self.stdout).map_err(|_| String::new())
    }
}

fn word(value: &Value, key: &str) -> String {
    shown(value.get(key).and_then(Value::as_str).unwrap_or_default().as_bytes())
}

// The first that is text and not empty.
fn first_text(value: &Value, pointers: &[&str]) -> Unknown {
    let texts = pointers.iter().filter_map(|pointer| value.pointer(pointer)?.as_str());
    texts.map(str::trim).find(|text| !text.is_empty()).map(|text| shown(text.as_bytes())).unwrap_or_default()
}

fn holes(found: Vec<(String, String)>, count: u64) -> Judged {
    let outcome = if count == 0 { Outcome::Pass } else { Outcome::Fail };
    Judged { outcome, reason: size::plural(count, "known hole"), found }
}

/// `pip check`.
pub fn pip_check(answer: &Answer<'_>) -> Result<Judged, Unknown> {
    let judged = |outcome, reason: String, found| Ok(Judged { outcome, reason, found });
    match answer.exit {
        Some(0) => judged(Outcome::Pass, "no broken requirements".to_owned(), Vec::new()),
        Some(1) if !answer.stdout.is_empty() => {
            let lines = answer.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
            let found: Vec<_> = lines.map(|line| (shown(line), "broken requirement".to_owned())).collect();
            judged(Outcome::Fail, size::plural(found.len() as u64, "broken requirement"), found)
        }
        _ => Err(String::new()),
    }
}

/// `pip list --outdated --format json`, with a retry: whoever does not retry does not complain either.
pub fn pip_outdated(answer: &Answer<'_>) -> Result<Judged, Unknown> {
    let complains = |word: &str| memmem::find(answer.stderr, word.as_bytes()).is_some();
    // pip leaves out what it could not ask for, and ends well
    if answer.exit != Some(0) || ["Retrying", "Could not fetch", "connection"].into_iter().any(complains) {
        return Err(String::new());
    }
    let list = answer.json()?;
    let list = list.as_array().ok_or_else(String::new)?;
    Ok(outdated(
        list.iter().map(|one| (word(one, "name"), word(one, "version"), word(one, "latest_version"))),
    ))
}

/// `npm outdated --json`. It ends with 1 if anything is.
pub fn npm_outdated(answer: &Answer<'_>) -> Result<Judged, Unknown> {
    let list = answer.json()?;
    if list.get("error").is_some() {
        return Err(first_text(&list, &["/error/summary", "/error/code"]));
    }
    let list = list.as_object().ok_or_else(String::new)?;
    let one = |(name, what): (&String, &Value)| {
        let has = if what.get("current").is_some() { word(what, "current") } else { word(what, "wanted") };
        (shown(name.as_bytes()), has, word(what, "latest"))
    };
    Ok(outdated(list.iter().map(one)))
}

// Told, and no failure: that something newer exists is no fault.
fn outdated(packages: impl Iterator<Item = (String, String, String)>) -> Judged {
    let found: Vec<_> =
        packages.map(|(name, has, latest)| (name, format!("{has}, newest is {latest}"))).collect();
    let reason = match found.len() {
        1 => "1 package has a newer version".to_owned(),
        count => format!("{count} packages have a newer version"),
    };
    Judged { outcome: Outcome::Pass, reason, found }
}

/// `pip-audit --format json`. Packages that it could not look up are listed with the reason, and it ends with 0 all
/// the same: where no hole was found, they leave the question open.
pub fn pip_audit(answer: &Answer<'_>) -> Result<Judged, Unknown> {
    let list = answer.json()?;
    let packages = list.get("dependencies").and_then(Value::as_array).ok_or_else(String::new)?;
    let mut found = Vec::new();
    let mut skipped = Vec::new();
    for package in packages {
        let name = word(package, "name");
        if let Some(why) = package.get("skip_reason").and_then(Value::as_str) {
            skipped.push((name, shown(why.as_bytes())));
            continue;
        }
        for hole in package.get("vulns").and_then(Value::as_array).into_iter().flatten() {
            let fixed = hole.get("fix_versions").and_then(Value::as_array).into_iter().flatten();
            let fixed: Vec<&str> = fixed.filter_map(Value::as_str).collect();
            let fixed = match fixed.is_empty() {
                true => "no version is without it".to_owned(),
                false => format!("mended in {}", shown(fixed.join(", ").as_bytes())),
            };
            found.push((
                format!("{name} {}", word(package, "version")),
                format!("{}, {fixed}", word(hole, "id")),
            ));
        }
    }
    let count = found.len() as u64;
    let unknown = match skipped.len() {
        0 => String::new(),
        number => format!("; {number} of {} packages could not be audited", packages.len()),
    };
    let outcome = match (count, skipped.is_empty()) {
        (0, true) => Outcome::Pass,
        (0, false) => Outcome::Error,
        _ => Outcome::Fail,
    };
    found.extend(skipped);
    Ok(Judged { outcome, reason: format!("{}{unknown}", size::plural(count, "known hole")), found })
}

/// `npm audit --json`.
pub fn npm_audit(answer: &Answer<'_>) -> Result<Judged, Unknown> {
    let list = answer.json()?;
    let Some(count) = list.pointer("/metadata/vulnerabilities/total").and_then(Value::as_u64) else {
        return Err(first_text(&list, &["/error/summary", "/message", "/error/code"]));
    };
    let packages = list.get("vulnerabilities").and_then(Value::as_object).into_iter().flatten();
    let found = packages.map(|(name, what)| {
        let titles = what.get("via").and_then(Value::as_array).into_iter().flatten();
        let title = titles.filter_map(|via| via.get("title")?.as_str()).next();
        let title = title.map(|title| format!(": {}", shown(title.as_bytes()))).unwrap_or_default();
        (shown(name.as_bytes()), format!("{}{title}", word(what, "severity")))
    });
    Ok(holes(found.collect(), count))
}

/// `cargo audit --json`.
pub fn cargo_audit(answer: &Answer<'_>) -> Result<Judged, Unknown> {
    let list = answer.json()?;
    let count = list.pointer("/vulnerabilities/count").and_then(Value::as_u64).ok_or_else(String::new)?;
    if list.pointer("/database/advisory-count").and_then(Value::as_u64) == Some(0) {
        return Err("its database of advisories is empty".to_owned());
    }
    let found = list.pointer("/vulnerabilities/list").and_then(Value::as_array).into_iter().flatten();
    let found = found.map(|one| {
        let (package, advisory) = (&one["package"], &one["advisory"]);
        let name = format!("{} {}", word(package, "name"), word(package, "version"));
        (name, format!("{}: {}", word(advisory, "id"), word(advisory, "title")))
    });
    Ok(holes(found.collect(), count))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Understand = fn(&Answer<'_>) -> Result<Judged, Unknown>;

    // Recorded from pip-audit 2.10, npm 11, pip 23 and cargo-audit 0.22 on made-up projects.
    fn understood(understand: Understand, exit: i32, file: &str) -> Result<Judged, Unknown> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/security").join(file);
        let stdout = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        understand(&Answer { exit: Some(exit), stdout: &stdout, stderr: b"" })
    }

    fn pair(a: &str, b: &str) -> (String, String) {
        (a.to_owned(), b.to_owned())
    }

    #[test]
    fn an_audit_that_could_look_nothing_up_is_no_pass() {
        let judged = understood(pip_audit, 0, "pip-audit-unknown.json").unwrap();
        assert_eq!(judged.outcome, Outcome::Error);
        assert_eq!(judged.reason, "0 known holes; 5 of 5 packages could not be audited");
        assert!(judged.found[0].1.contains("could not be audited"), "{judged:?}");
    }

    #[test]
    fn holes_are_named_with_what_mends_them() {
        let judged = understood(pip_audit, 1, "pip-audit-holes.json").unwrap();
        assert_eq!((judged.outcome, judged.reason.as_str()), (Outcome::Fail, "1 known hole"));
        assert_eq!(judged.found, [pair("requests 2.19.1", "CVE-2018-18074, mended in 2.20.0")]);
        let judged = understood(npm_audit, 1, "npm-audit-holes.json").unwrap();
        assert_eq!((judged.outcome, judged.reason.as_str()), (Outcome::Fail, "1 known hole"));
        assert_eq!(judged.found, [pair("minimist", "critical: Prototype Pollution in minimist")]);
        let judged = understood(cargo_audit, 1, "cargo-audit-holes.json").unwrap();
        assert_eq!((judged.outcome, judged.reason.as_str()), (Outcome::Fail, "1 known hole"));
        let hole = "RUSTSEC-2021-0003: Buffer overflow in SmallVec::insert_many";
        assert_eq!(judged.found, [pair("smallvec 1.6.0", hole)]);
    }

    #[test]
    fn a_clean_audit_passes() {
        for (understand, file) in [
            (pip_audit as Understand, "pip-audit-none.json"),
            (npm_audit as Understand, "npm-audit-clean.json"),
        ] {
            let judged = understood(understand, 0, file).unwrap();
            assert_eq!((judged.outcome, judged.reason.as_str()), (Outcome::Pass, "0 known holes"), "{file}");
        }
    }

    #[test]
    fn an_audit_without_an_answer_says_why() {
        let refused = understood(npm_audit, 1, "npm-audit-refused.json").unwrap_err();
        assert!(refused.starts_with("405 Method Not Allowed"), "{refused}");
        let offline = understood(npm_audit, 1, "npm-audit-offline.json").unwrap_err();
        assert!(offline.contains("ECONNREFUSED"), "{offline}");
        let offline = understood(npm_outdated, 1, "npm-outdated-offline.json").unwrap_err();
        assert!(offline.contains("ECONNREFUSED"), "{offline}");
        for understand in [pip_audit as Understand, npm_audit, npm_outdated, cargo_audit, pip_outdated] {
            for stdout in [&b""[..], b"<html>", b"null", b"3"] {
                assert!(understand(&Answer { exit: Some(0), stdout, stderr: b"" }).is_err());
            }
        }
    }

    #[test]
    fn a_database_without_advisories_proves_nothing() {
        let clean = understood(cargo_audit, 0, "cargo-audit-clean.json").unwrap();
        assert_eq!((clean.outcome, clean.reason.as_str()), (Outcome::Pass, "0 known holes"));
        let empty = br#"{"database": {"advisory-count": 0}, "vulnerabilities": {"count": 0, "list": []}}"#;
        assert!(cargo_audit(&Answer { exit: Some(0), stdout: empty, stderr: b"" }).is_err());
    }

    #[test]
    fn what_is_old_is_told_and_no_failure() {
        let judged = understood(npm_outdated, 1, "npm-outdated.json").unwrap();
        assert_eq!(
            (judged.outcome, judged.reason.as_str()),
            (Outcome::Pass, "1 package has a newer version")
        );
        assert_eq!(judged.found, [pair("minimist", "0.0.8, newest is 1.2.8")]);
        let judged = understood(pip_outdated, 0, "pip-outdated.json").unwrap();
        assert_eq!(judged.found[0], pair("annotated-types", "0.7.0, newest is 0.8.0"));
        let offline = Answer { exit: Some(0), stdout: b"[]", stderr: b"WARNING: Retrying (Retry(total=0" };
        assert!(pip_outdated(&offline).is_err(), "pip ends well when it reaches nobody");
    }
}
