//! Names of files: any bytes but NUL. How they are ordered, written in JSON and shown on a terminal.
//!
//! * **Order**: component by component, bytes compared as unsigned; so `/` sorts before every
//!   other byte and a directory is followed at once by all that is below it.
//! * **JSON**: an ordinary string. A byte that is not part of valid UTF-8 is written as the lone
//!   surrogate `\udcXX`, XX being the byte: what Python calls `surrogateescape` (PEP 383).
//! * **Terminal**: control, format and bidirectional characters and bytes that are not UTF-8 are
//!   written as `\xNN` or `\u{NNNN}`, so a name cannot command the terminal.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A file name, path or other text of the operating system: bytes, usually UTF-8.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Name(pub Vec<u8>);

impl Name {
    /// As the operating system's string type.
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }

    /// Made safe for a terminal or log.
    pub fn shown(&self) -> String {
        shown(&self.0)
    }
}

impl From<&OsStr> for Name {
    fn from(text: &OsStr) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({})", self.shown())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = str::from_utf8(&self.0) {
            return serializer.serialize_str(text);
        }
        let mut json = Vec::with_capacity(self.0.len() + 8);
        write_json(&mut json, &self.0);
        let text = String::from_utf8(json).map_err(serde::ser::Error::custom)?;
        serde_json::value::RawValue::from_string(text)
            .map_err(serde::ser::Error::custom)?
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Name;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Name, E> {
                Ok(Name(text.as_bytes().to_vec()))
            }
            // serde_json hands lone surrogates over in their three-byte (WTF-8) form
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Name, E> {
                from_wtf8(bytes)
                    .map(|name| Name(name.into_owned()))
                    .ok_or_else(|| E::custom("a string with a lone surrogate outside U+DC80 to U+DCFF"))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

/// Turns lone surrogates U+DC80 to U+DCFF back into the bytes they stand for.
/// `None` where the bytes are neither UTF-8 nor such surrogates.
pub fn from_wtf8(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    if str::from_utf8(bytes).is_ok() {
        return Some(Cow::Borrowed(bytes));
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        match str::from_utf8(rest) {
            Ok(_) => {
                out.extend_from_slice(rest);
                break;
            }
            Err(error) => {
                let (good, bad) = rest.split_at(error.valid_up_to());
                out.extend_from_slice(good);
                let [0xed, second @ (0xb2 | 0xb3), third @ 0x80..=0xbf, ..] = *bad else {
                    return None;
                };
                // U+DC80..U+DCFF: ED B2 80..BF is 80..BF, ED B3 80..BF is C0..FF
                out.push(if second == 0xb2 { third } else { third | 0x40 });
                rest = &bad[3..];
            }
        }
    }
    Some(Cow::Owned(out))
}

/// Writes bytes as a JSON string, quotes included.
pub fn write_json(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    if bytes.iter().all(|&b| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\') {
        out.extend_from_slice(bytes);
    } else {
        for piece in bytes.utf8_chunks() {
            write_json_text(out, piece.valid().as_bytes());
            for &byte in piece.invalid() {
                write_unicode_escape(out, 0xdc00 | u16::from(byte));
            }
        }
    }
    out.push(b'"');
}

fn write_json_text(out: &mut Vec<u8>, text: &[u8]) {
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0..0x20 | 0x7f => write_unicode_escape(out, u16::from(byte)),
            _ => out.push(byte),
        }
    }
}

fn write_unicode_escape(out: &mut Vec<u8>, unit: u16) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(DIGITS[usize::from(unit >> shift & 15)]);
    }
}

/// Reads one JSON string from the start of `text` (which begins with `"`); returns the bytes it
/// stands for and what follows the closing quote. `None` if it is no such string.
pub fn read_json(text: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let body = text.strip_prefix(b"\"")?;
    let stop = memchr::memchr2(b'"', b'\\', body)?;
    if body[stop] == b'"' {
        return Some((from_wtf8(&body[..stop])?, &body[stop + 1..]));
    }
    let mut end = stop;
    loop {
        match *body.get(end)? {
            b'"' => break,
            b'\\' => end += 2,
            _ => end += 1,
        }
    }
    let quoted = &text[..end + 2];
    let name: Name = serde_json::from_slice(quoted).ok()?;
    Some((Cow::Owned(name.0), &body[end + 1..]))
}

/// Compares two paths component by component (see the module's header).
pub fn compare_paths(a: &[u8], b: &[u8]) -> Ordering {
    let common = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let key = |bytes: &[u8]| bytes.get(common).map(|&b| if b == b'/' { 1u16 } else { u16::from(b) + 2 });
    match (key(a), key(b)) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(x), Some(y)) => x.cmp(&y),
    }
}

/// True if `path` is `dir` or below it. The path `.` is the root: everything is below it.
pub fn is_within(path: &[u8], dir: &[u8]) -> bool {
    dir == b"." || path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Text from outside, made safe for a terminal: one line, no control or direction characters.
pub fn shown(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for piece in bytes.utf8_chunks() {
        for c in piece.valid().chars() {
            if is_unsafe(c) {
                match u32::from(c) {
                    code @ 0..0x100 => out.push_str(&format!("\\x{code:02x}")),
                    code => out.push_str(&format!("\\u{{{code:x}}}")),
                }
            } else if c == '\\' {
                out.push_str("\\\\");
            } else {
                out.push(c);
            }
        }
        for byte in piece.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// A message of other code, on one line and safe for a terminal: as [`shown`], but a backslash is itself, since what
/// is escaped already is not escaped again.
pub fn shown_message(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) { out.push_str(&shown(c.encode_utf8(&mut [0; 4]).as_bytes())) } else { out.push(c) }
    }
    out
}

/// The same on one line, whatever white space there was.
pub fn one_line(text: &str) -> String {
    shown_text(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Longer text from outside, made safe for a report: as [`shown`], but lines and tabs stay, colours of
/// terminals (ECMA-48 control sequences) are dropped, and a backslash is itself.
pub fn shown_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\n' | '\t' => out.push(c),
            '\r' => {
                if rest.peek() != Some(&'\n') {
                    out.push('\n');
                }
            }
            '\x1b' if rest.peek() == Some(&'[') => {
                rest.next();
                // parameters and intermediates, then one final byte
                while rest.next_if(|c| ('\x20'..='\x3f').contains(c)).is_some() {}
                rest.next_if(|c| ('\x40'..='\x7e').contains(c));
            }
            c if is_unsafe(c) => out.push_str(&shown(c.encode_utf8(&mut [0; 4]).as_bytes())),
            c => out.push(c),
        }
    }
    out
}

// Control characters, line and paragraph separators, zero-width and bidirectional controls, and
// the tag block: what can move the cursor, hide text or reorder it (Unicode TR 36, section 2); and the two
// that no XML document may hold.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(u32::from(c), 0xad | 0x61c | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f
            | 0xfeff | 0xfff9..=0xfffb | 0xfffe | 0xffff | 0xe0000..=0xe007f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_directory_is_followed_by_its_content() {
        let mut paths: Vec<&[u8]> = vec![b"a-b", b"a/c", b"a", b"a.txt", b"a/b", b"a\x01"];
        paths.sort_by(|a, b| compare_paths(a, b));
        assert_eq!(paths, [&b"a"[..], b"a/b", b"a/c", b"a\x01", b"a-b", b"a.txt"]);
    }

    #[test]
    fn terminal_text_has_no_control_or_direction_characters() {
        assert_eq!(shown(b"a\x1b[31m\n\xff\\"), "a\\x1b[31m\\x0a\\xff\\\\");
        assert_eq!(shown("\u{202e}x\u{9b}".as_bytes()), "\\u{202e}x\\x9b");
        assert_eq!(shown("Nümtema Δ∞Ο".as_bytes()), "Nümtema Δ∞Ο");
    }

    #[test]
    fn longer_text_keeps_its_lines_and_loses_its_colours() {
        let text = "\x1b[1;31mred\x1b[0m\r\nC:\\x\t\u{202e}\u{0}\rend\x1b[";
        assert_eq!(shown_text(text), "red\nC:\\x\t\\u{202e}\\x00\nend");
    }

    // found by fuzzing: the quick reader took raw surrogates and bytes that are no UTF-8 as they stand
    #[test]
    fn the_quick_reader_of_json_sees_what_serde_sees() {
        for text in [&b"\"\xed\xb2\x80\""[..], b"\"\xff\"", b"\"a\xed\xb3\xbfb\"", b"\"\xed\xa0\x80\""] {
            let full = serde_json::from_slice::<Name>(text).ok();
            assert_eq!(read_json(text).map(|(name, _)| Name(name.into_owned())), full, "{text:x?}");
        }
    }

    proptest! {
        #[test]
        fn json_goes_both_ways(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut json = Vec::new();
            write_json(&mut json, &bytes);
            json.extend_from_slice(b",rest");
            let (back, rest) = read_json(&json).unwrap();
            prop_assert_eq!(&*back, &bytes[..]);
            prop_assert_eq!(rest, b",rest");
            let name = Name(bytes);
            let text = serde_json::to_string(&name).unwrap();
            prop_assert_eq!(serde_json::from_str::<Name>(&text).unwrap(), name);
        }

        #[test]
        fn order_is_that_of_components(a in "[a-c/.-]{0,8}", b in "[a-c/.-]{0,8}") {
            let split = |s: &str| s.split('/').map(|c| c.as_bytes().to_vec()).collect::<Vec<_>>();
            prop_assert_eq!(compare_paths(a.as_bytes(), b.as_bytes()), split(&a).cmp(&split(&b)));
        }
    }
}
