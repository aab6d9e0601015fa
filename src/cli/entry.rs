//! Entries of a tree, for people and for programs.

use std::io::{self, Write};

use chrono::{DateTime, SecondsFormat};
use serde::Serialize;

use crate::base::name::{Name, shown};
use crate::base::size;
use crate::catalog::paths::absolute;
use crate::format::manifest::{Entry, Time, Type};

/// Writes a path so that it is safe for a terminal; the usual ones cost nothing.
///
/// # Errors
/// If it cannot be written.
pub fn write_path(out: &mut dyn Write, path: &[u8]) -> io::Result<()> {
    if path.iter().all(|&b| (0x20..0x7f).contains(&b) && b != b'\\') {
        out.write_all(path)
    } else {
        out.write_all(shown(path).as_bytes())
    }
}

/// Type and permissions as `ls` shows them: `drwxr-sr-x`.
pub fn mode(entry: &Entry) -> String {
    let bits = entry.stat.mode;
    let kind = match entry.stat.kind {
        Type::File => '-',
        Type::Dir => 'd',
        Type::Symlink => 'l',
        Type::Fifo => 'p',
        Type::Socket => 's',
        Type::Char => 'c',
        Type::Block => 'b',
    };
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let set = |bit: u32| bits >> shift & bit != 0;
        text.push(if set(4) { 'r' } else { '-' });
        text.push(if set(2) { 'w' } else { '-' });
        text.push(match (set(1), bits & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// The owner's name, or number.
pub fn owner(entry: &Entry) -> String {
    entry.user.as_ref().map_or_else(|| entry.stat.uid.to_string(), Name::shown)
}

/// The group's name, or number.
pub fn group(entry: &Entry) -> String {
    entry.group.as_ref().map_or_else(|| entry.stat.gid.to_string(), Name::shown)
}

/// A file's time to the second, UTC; as a number where the calendar ends.
pub fn time(time: Time) -> String {
    match DateTime::from_timestamp(time.0, time.1) {
        Some(moment) => moment.format("%Y-%m-%d %H:%M:%S").to_string(),
        None => format!("@{}", time.0),
    }
}

/// A file's size, or a device's numbers.
pub fn amount(entry: &Entry) -> String {
    match (entry.stat.kind, entry.stat.device) {
        (_, Some((major, minor))) => format!("{major}, {minor}"),
        (Type::File, _) => size::bytes(entry.stat.size),
        _ => "-".to_owned(),
    }
}

/// Writes the long form of an entry: a line without its newline.
///
/// # Errors
/// If it cannot be written.
pub fn write_long(out: &mut dyn Write, path: &[u8], entry: &Entry) -> io::Result<()> {
    write!(
        out,
        "{} {:<8} {:<8} {:>10} {} ",
        mode(entry),
        owner(entry),
        group(entry),
        amount(entry),
        time(entry.stat.mtime)
    )?;
    write_path(out, path)?;
    if let Some(target) = &entry.target {
        out.write_all(b" -> ")?;
        write_path(out, target)?;
    }
    Ok(())
}

/// An entry for programs. Fields are added, never renamed.
#[derive(Serialize)]
pub struct Listed<'e> {
    path: Name,
    r#type: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'e Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'e Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    mtime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<(u32, u32)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hardlink: Option<Name>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    xattrs: Vec<&'e Name>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    torn: bool,
}

impl<'e> Listed<'e> {
    /// An entry of this root, with its paths as they were on the host.
    pub fn new(root: &[u8], entry: &'e Entry) -> Self {
        let stat = &entry.stat;
        let moment = DateTime::from_timestamp(stat.mtime.0, stat.mtime.1);
        Self {
            path: Name(absolute(root, &entry.path)),
            r#type: stat.kind.word(),
            mode: format!("{:04o}", stat.mode),
            uid: stat.uid,
            gid: stat.gid,
            user: entry.user.as_ref(),
            group: entry.group.as_ref(),
            size: (stat.kind == Type::File).then_some(stat.size),
            mtime: moment.map(|m| m.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            target: entry.target.clone().map(Name),
            device: stat.device,
            hardlink: entry.hardlink.as_deref().map(|first| Name(absolute(root, first))),
            xattrs: entry.xattrs.iter().map(|(name, _)| name).collect(),
            torn: entry.torn,
        }
    }
}

impl Listed<'_> {
    /// The same under this path: for versions whose roots differ.
    pub fn at(mut self, path: &[u8]) -> Self {
        self.path = Name(path.to_vec());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::manifest::Stat;

    fn entry(kind: Type, mode: u32) -> Entry {
        let zero = Time(0, 0);
        let (uid, gid, size, inode) = (0, 7, 1536, 1);
        let stat =
            Stat { kind, mode, uid, gid, size, mtime: zero, ctime: zero, inode, links: 1, device: None };
        Entry::new(b"a".to_vec(), stat)
    }

    #[test]
    fn the_long_form_is_that_of_ls() {
        assert_eq!(mode(&entry(Type::File, 0o4755)), "-rwsr-xr-x");
        assert_eq!(mode(&entry(Type::Dir, 0o1777)), "drwxrwxrwt");
        assert_eq!(mode(&entry(Type::File, 0o6000)), "---S--S---");
        let mut out = Vec::new();
        let link = Entry { target: Some(b"x\x1b".to_vec()), ..entry(Type::Symlink, 0o777) };
        write_long(&mut out, b"/srv/a", &link).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "lrwxrwxrwx 0        7                 - 1970-01-01 00:00:00 /srv/a -> x\\x1b");
    }

    #[test]
    fn times_beyond_the_calendar_are_numbers() {
        assert_eq!(time(Time(-1, 999_999_999)), "1969-12-31 23:59:59");
        assert_eq!(time(Time(i64::MAX, 0)), "@9223372036854775807");
    }
}
