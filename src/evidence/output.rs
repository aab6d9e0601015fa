//! What a step printed: bounded while it runs, and without secrets.
//!
//! The beginning and the end are kept, because the first error and the last line tell the most. Secrets are masked as
//! they are, percent-encoded, in base64 and line by line; and so is what a cut left of one at its edges.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// How many bytes of a step's output are kept by default.
pub const LIMIT: usize = 64 << 10;
/// What stands in the place of a secret.
const MASK: &str = "[masked]";
/// Shorter ones are no secrets, and masking them would spoil the text.
const SHORTEST_SECRET: usize = 4;
/// A line of a longer secret, such as a key file, is masked from this length on.
const SHORTEST_LINE: usize = 8;

/// What is kept of a step's output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The text; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// How many bytes there were.
    pub bytes: u64,
    /// How many of them are left out, between the beginning and the end.
    pub omitted: u64,
    /// Whether something was masked.
    pub masked: bool,
    /// SHA-256 of all of it, in hexadecimal; absent if something was masked: from the hash of a short text with a
    /// secret the secret could be guessed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl Output {
    /// Whether nothing was printed.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The last lines of the text, at most so many.
    pub fn last_lines(&self, count: usize) -> String {
        let lines: Vec<&str> = self.text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

/// Takes output as it comes, in bounded memory.
#[derive(Debug)]
pub struct Collector {
    limit: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    bytes: u64,
    hash: Sha256,
}

impl Collector {
    /// Keeps at most `limit` bytes: a quarter of them from the beginning, the others from the end.
    pub fn new(limit: usize) -> Self {
        Self { limit, head: Vec::new(), tail: VecDeque::new(), bytes: 0, hash: Sha256::new() }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        let room = (self.limit / 4).saturating_sub(self.head.len());
        let (first, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(first);
        let room = self.limit - self.limit / 4;
        let rest = &rest[rest.len().saturating_sub(room)..];
        let surplus = (self.tail.len() + rest.len()).saturating_sub(room);
        self.tail.drain(..surplus);
        self.tail.extend(rest);
    }

    /// What is kept, without these secrets.
    pub fn finish(mut self, secrets: &[String]) -> Output {
        let forms = forms(secrets);
        let kept = (self.head.len() + self.tail.len()) as u64;
        let omitted = self.bytes - kept;
        let tail = self.tail.make_contiguous();
        let (text, masked) = if omitted == 0 {
            mask(&[&self.head[..], tail].concat(), &forms, Cut::default())
        } else {
            let (head, in_head) = mask(&self.head, &forms, Cut { before: false, after: true });
            let (tail, in_tail) = mask(tail, &forms, Cut { before: true, after: false });
            (format!("{head}\n[{omitted} bytes left out]\n{tail}"), in_head || in_tail)
        };
        let sha256 = (!masked).then(|| hex::encode(self.hash.finalize()));
        Output { text, bytes: self.bytes, omitted, masked, sha256 }
    }
}

/// Masks secrets in a short text, such as what a check saw.
pub fn mask_text(text: &str, secrets: &[String]) -> String {
    mask(text.as_bytes(), &forms(secrets), Cut::default()).0
}

/// On which sides of a piece of text something was cut off.
#[derive(Clone, Copy, Default)]
struct Cut {
    before: bool,
    after: bool,
}

// Every form in which a secret may be printed.
fn forms(secrets: &[String]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for secret in secrets {
        let secret = secret.trim_end_matches(['\r', '\n']);
        if secret.len() < SHORTEST_SECRET {
            continue;
        }
        let quoted = serde_json::Value::from(secret).to_string();
        forms.push(quoted[1..quoted.len() - 1].to_owned());
        forms.push(secret.to_owned());
        forms.push(percent_encoded(secret));
        forms.push(STANDARD.encode(secret));
        forms.push(STANDARD_NO_PAD.encode(secret));
        if secret.contains('\n') {
            forms.extend(secret.lines().filter(|line| line.len() >= SHORTEST_LINE).map(str::to_owned));
        }
    }
    forms.sort_unstable();
    forms.dedup();
    forms.into_iter().map(String::into_bytes).collect()
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn mask(bytes: &[u8], forms: &[Vec<u8>], cut: Cut) -> (String, bool) {
    let mut ranges = password_in_urls(bytes);
    for form in forms {
        ranges.extend(every(bytes, form).map(|at| (at, at + form.len())));
        // a piece that is shorter than the secret may be out of its middle
        if (cut.before || cut.after) && !bytes.is_empty() && memchr::memmem::find(form, bytes).is_some() {
            ranges.push((0, bytes.len()));
        }
        if cut.after {
            ranges
                .extend(edge(form, |n| bytes.ends_with(&form[..n])).map(|n| (bytes.len() - n, bytes.len())));
        }
        if cut.before {
            ranges.extend(edge(form, |n| bytes.starts_with(&form[form.len() - n..])).map(|n| (0, n)));
        }
    }
    ranges.sort_unstable();
    let mut masked = Vec::with_capacity(bytes.len());
    let mut done = 0;
    for &(start, end) in &ranges {
        if end <= done {
            continue;
        }
        if start >= done {
            masked.extend_from_slice(&bytes[done..start]);
            masked.extend_from_slice(MASK.as_bytes());
        }
        done = end;
    }
    masked.extend_from_slice(&bytes[done..]);
    (String::from_utf8_lossy(&masked).into_owned(), !ranges.is_empty())
}

// Where it is found, also where one overlaps the next.
fn every<'a>(bytes: &'a [u8], form: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = from + memchr::memmem::find(bytes.get(from..)?, form)?;
        from = at + 1;
        Some(at)
    })
}

// The longest part of a secret that lies at the edge of a cut.
fn edge(form: &[u8], lies: impl Fn(usize) -> bool) -> Option<usize> {
    (1..form.len()).rev().find(|&n| lies(n))
}

// `scheme://user:password@host`: the password, whoever it belongs to.
fn password_in_urls(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for at in memchr::memmem::find_iter(bytes, b"://") {
        let rest = &bytes[at + 3..];
        let end = rest
            .iter()
            .position(|b| b.is_ascii_whitespace() || matches!(b, b'/' | b'"' | b'\'' | b'<' | b'>'));
        let authority = &rest[..end.unwrap_or(rest.len())];
        let (Some(colon), Some(sign)) = (memchr::memchr(b':', authority), memchr::memrchr(b'@', authority))
        else {
            continue;
        };
        if colon + 1 < sign {
            found.push((at + 3 + colon + 1, at + 3 + sign));
        }
    }
    found
}
