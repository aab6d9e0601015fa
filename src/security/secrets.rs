//! Secrets that lie in files: keys and tokens by their well-known forms, and passwords that are assigned.
//!
//! Files with zero bytes are binary and passed over; of a large one the beginning is read. What is found is never shown.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use regex::bytes::{Captures, Regex, RegexSet};
use rustix::fs::{Mode, OFlags};
use walkdir::WalkDir;

use super::permissions::is_allowed;
use super::{Finding, Part};
use crate::base::Name;
use crate::check::judge::regex;
use crate::tree::exclude::Excludes;

/// So much of a file is read.
const MAX_BYTES: u64 = 8 << 20;
/// So much of a file tells whether it is binary.
const HEAD: usize = 8192;
/// A line that holds this is meant so.
const MEANT: &[u8] = b"lifeboat:allow-secret";
/// Fewer bits a character are words, not secrets.
const MIN_ENTROPY: f64 = 3.0;

/// Name and form. The first group, where there is one, is the secret.
const KNOWN: &[(&str, &str)] = &[
    ("private key", r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"),
    ("AWS access key", r"\b((?:AKIA|ASIA)[0-9A-Z]{16})\b"),
    ("AWS secret key", r#"(?i)aws_?secret_?access_?key["']?\s*[:=]\s*["']?([A-Za-z0-9/+]{40})\b"#),
    ("GitHub token", r"\b(gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{50,255})\b"),
    ("GitLab token", r"\b(glpat-[A-Za-z0-9_-]{20,})"),
    ("Slack token", r"\b(xox[abeprs]-[A-Za-z0-9-]{10,})"),
    ("Slack webhook", r"(https://hooks\.slack\.com/services/T[A-Za-z0-9]+/B[A-Za-z0-9]+/[A-Za-z0-9]+)"),
    ("Google API key", r"\b(AIza[0-9A-Za-z_-]{35})"),
    ("Stripe key", r"\b([rs]k_live_[0-9A-Za-z]{20,})"),
    ("password in a URL", r"[a-z][a-z0-9+.-]*://[^/\s:@]+:([^/\s:@$<{]{3,})@"),
];

/// A name that speaks of a secret, and a text in quotes.
const ASSIGNED: &str = r#"(?i)(?:password|passwd|secret|token|api_?key|private_?key)[a-z0-9_]*["']?\s*(?::|=|=>|:=)\s*["']([^"'\s]{8,256})["']"#;

/// What is looked for.
pub struct Patterns {
    all: RegexSet,
    one: Vec<(String, Regex)>,
    // the place of the pattern that is judged by its entropy
    assigned: usize,
}

impl Patterns {
    /// The known ones, and these.
    ///
    /// # Errors
    /// A sentence that names the pattern that is none.
    pub fn new(more: &[String]) -> Result<Self, String> {
        let mut texts: Vec<(String, &str)> =
            KNOWN.iter().map(|(name, form)| ((*name).to_owned(), *form)).collect();
        let assigned = texts.len();
        texts.push(("secret in an assignment".to_owned(), ASSIGNED));
        texts.extend(more.iter().map(|form| ("secret by a pattern of the plan".to_owned(), form.as_str())));
        let one: Result<Vec<_>, String> =
            texts.iter().map(|(name, form)| Ok((name.clone(), regex(form)?))).collect();
        let all = RegexSet::new(texts.iter().map(|(_, form)| form)).map_err(|error| error.to_string())?;
        Ok(Self { all, one: one?, assigned })
    }

    fn find(&self, line: &[u8]) -> Option<String> {
        self.all.matches(line).into_iter().find_map(|at| {
            let (name, form) = &self.one[at];
            let captures = form.captures(line)?;
            let secret = secret(&captures);
            let is_one = at != self.assigned || (entropy(secret) >= MIN_ENTROPY && !is_placeholder(secret));
            is_one.then(|| format!("{name}, {} characters", secret.len()))
        })
    }
}

fn secret<'t>(captures: &Captures<'t>) -> &'t [u8] {
    captures.get(1).or_else(|| captures.get(0)).map_or(&[], |found| found.as_bytes())
}

// Of what is filled in later.
fn is_placeholder(secret: &[u8]) -> bool {
    let text = String::from_utf8_lossy(secret).to_ascii_lowercase();
    ["example", "changeme", "change-me", "placeholder", "your", "${", "{{", "<", "xxx", "getenv"]
        .iter()
        .any(|word| text.contains(word))
}

/// Bits a character, by how often each one is there.
fn entropy(text: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    text.iter().for_each(|&b| counts[usize::from(b)] += 1);
    let all = text.len() as f64;
    counts
        .iter()
        .filter(|&&count| count > 0)
        .map(|&count| f64::from(count) / all)
        .map(|share| -share * share.log2())
        .sum()
}

/// Reads every file below `root`, but for what `skip` or `allow` matches.
pub fn look(root: &Path, patterns: &Patterns, skip: &Excludes, allow: &Excludes) -> Part {
    let (mut found, mut looked, mut unread, mut cut) = (Vec::new(), 0, 0, 0_u64);
    let wanted = |entry: &walkdir::DirEntry| {
        entry.depth() == 0
            || (entry.file_name() != ".git"
                && !is_allowed(root, entry.path(), skip)
                && !is_allowed(root, entry.path(), allow))
    };
    for entry in WalkDir::new(root).follow_links(false).sort_by_file_name().into_iter().filter_entry(wanted) {
        let Ok(entry) = entry else {
            unread += 1;
            continue;
        };
        if !entry.file_type().is_file() {
            continue;
        }
        looked += 1;
        match read(entry.path()) {
            Ok((text, is_cut)) => {
                cut += u64::from(is_cut);
                search(entry.path(), &text, patterns, &mut found);
            }
            Err(_) => unread += 1,
        }
    }
    let mut part = Part::of_findings("secrets", found, "finding", looked, unread);
    if cut > 0 {
        part.reason.push_str(&format!(
            "; of {} only the first 8 MiB were read",
            crate::base::size::plural(cut, "file")
        ));
    }
    part
}

// Nothing of a binary file.
fn read(path: &Path) -> std::io::Result<(Vec<u8>, bool)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let size = file.metadata()?.len();
    let mut text = Vec::new();
    file.by_ref().take(HEAD as u64).read_to_end(&mut text)?;
    if memchr::memchr(0, &text).is_some() {
        return Ok((Vec::new(), false));
    }
    file.take(MAX_BYTES - HEAD as u64).read_to_end(&mut text)?;
    Ok((text, size > MAX_BYTES))
}

fn search(path: &Path, text: &[u8], patterns: &Patterns, found: &mut Vec<Finding>) {
    for (number, line) in text.split(|&b| b == b'\n').enumerate() {
        if let Some(what) = patterns.find(line).filter(|_| memchr::memmem::find(line, MEANT).is_none()) {
            found.push(Finding {
                subject: Name::from(path.as_os_str()),
                line: Some(number as u64 + 1),
                what,
            });
        }
    }
}
