//! An entry's line, read and checked.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, de};

use super::look::{line_is_database, line_is_merged, line_is_torn, line_path};
use super::{CHUNKS, Entry, MAX_LINE, MAX_NAME, Stat, Time, Type, WHAT, check_path, compare_entries};
use crate::base::id::ChunkId;
use crate::base::name::Name;
use crate::format::{FormatError, bounded};

impl Entry {
    /// Reads one line (without its newline) and refuses whatever a restore must not follow.
    ///
    /// # Errors
    /// If it is malformed, or a path, number or list is out of range.
    pub fn read_line(line: &[u8]) -> Result<Self, FormatError> {
        bounded("a manifest's line", line.len() as u64, MAX_LINE)?;
        let raw: Line = serde_json::from_slice(line).map_err(|e| FormatError::malformed(WHAT, e))?;
        let entry = raw.into_entry().map_err(|why| FormatError::malformed(WHAT, why))?;
        entry.check().and_then(|()| entry.check_form(line)).map_err(|why| {
            let path: String = crate::base::name::shown(&entry.path).chars().take(200).collect();
            FormatError::malformed(WHAT, format!("{path}: {why}"))
        })?;
        Ok(entry)
    }

    // The quick looks, `line_path`, `line_is_database` and their like, must find in this line what is in this entry: who
    // trusts them decides what may be deleted, and what is read anew.
    fn check_form(&self, line: &[u8]) -> Result<(), &'static str> {
        // "<64 digits>" each, with a comma between; then ]}
        let list = (self.chunks.len() * 67).checked_sub(1).map(|digits| CHUNKS.len() + digits + 2);
        let found = memchr::memmem::rfind(line, CHUNKS).map(|at| line.len() - at);
        let end: &[u8] = if list.is_some() { b"]}" } else { b"\"]}" };
        let chunks_fit = found == list && line.ends_with(end) == list.is_some();
        let path_fits = line_path(line).is_some_and(|path| *path == self.path[..]);
        let marks = (line_is_database(line), line_is_torn(line), line_is_merged(line));
        if !path_fits || !chunks_fit || marks != (self.database, self.torn, self.database && !self.exact) {
            return Err("it is not in the form of the format: path first, chunks last, no spaces");
        }
        Ok(())
    }

    fn check(&self) -> Result<(), &'static str> {
        check_path(&self.path)?;
        if let Some(first) = &self.hardlink {
            check_path(first)?;
            if self.stat.kind == Type::Dir || compare_entries(first, &self.path) != std::cmp::Ordering::Less {
                return Err("a hard link must name an earlier entry and be no directory");
            }
        }
        if self.stat.mode > 0o7777 {
            return Err("mode above 7777");
        }
        if self.stat.links == 0 {
            return Err("an entry has at least one name: \"links\" is 1 or more");
        }
        if self.stat.mtime.1 > 999_999_999 || self.stat.ctime.1 > 999_999_999 {
            return Err("nanoseconds above 999999999");
        }
        if self.stat.size > i64::MAX as u64 {
            return Err("size above 2^63-1");
        }
        self.check_by_type()?;
        self.check_holes()
    }

    fn check_by_type(&self) -> Result<(), &'static str> {
        let is = |kind| self.stat.kind == kind;
        if self.stat.size > 0 && !is(Type::File) && !is(Type::Symlink) {
            return Err("only files and symlinks have a \"size\"");
        }
        if is(Type::Symlink) != self.target.is_some() {
            return Err("symlinks, and only they, have a target");
        }
        if self.target.as_ref().is_some_and(|t| t.is_empty() || t.contains(&0) || t.len() > 4095) {
            return Err("a symlink's target has 1 to 4,095 bytes and no NUL");
        }
        if (is(Type::Char) || is(Type::Block)) != self.stat.device.is_some() {
            return Err("devices, and only they, have device numbers");
        }
        let has_content = !self.chunks.is_empty() || !self.holes.is_empty();
        if has_content && !is(Type::File) {
            return Err("only files have content");
        }
        if self.database && !is(Type::File) {
            return Err("only files are databases");
        }
        if self.exact && !self.database {
            return Err("only databases are exact");
        }
        Ok(())
    }

    fn check_holes(&self) -> Result<(), &'static str> {
        let mut after = 0u64;
        for (i, &(offset, length)) in self.holes.iter().enumerate() {
            let end = offset.checked_add(length).ok_or("a hole beyond all numbers")?;
            let touches = i > 0 && offset <= after;
            if length == 0 || offset < after || touches || end > self.stat.size {
                return Err("holes are in order, do not touch and lie within the file");
            }
            after = end;
        }
        if self.chunks.is_empty() != (self.stream_len() == 0) && self.stat.kind == Type::File {
            return Err("its chunks do not fit its size");
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Line {
    path: Name,
    r#type: Type,
    mode: String,
    uid: u32,
    gid: u32,
    #[serde(default)]
    size: u64,
    mtime: Time,
    #[serde(default)]
    ctime: Time,
    #[serde(default)]
    inode: u64,
    #[serde(default)]
    links: Option<u64>,
    #[serde(default)]
    user: Option<Name>,
    #[serde(default)]
    group: Option<Name>,
    #[serde(default)]
    target: Option<Name>,
    #[serde(default)]
    device: Option<(u32, u32)>,
    #[serde(default)]
    hardlink: Option<Name>,
    #[serde(default)]
    flags: Option<String>,
    #[serde(default)]
    xattrs: Xattrs,
    #[serde(default)]
    holes: Vec<(u64, u64)>,
    #[serde(default)]
    torn: bool,
    #[serde(default)]
    database: bool,
    #[serde(default)]
    exact: bool,
    #[serde(default)]
    chunks: Vec<ChunkId>,
}

#[derive(Default)]
struct Xattrs(Vec<(Name, Vec<u8>)>);

impl<'de> Deserialize<'de> for Xattrs {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Xattrs;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("extended attributes with their values in base64")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Xattrs, A::Error> {
                let mut all = Vec::new();
                while let Some((name, value)) = map.next_entry::<Name, String>()? {
                    let value = STANDARD.decode(value).map_err(de::Error::custom)?;
                    all.push((name, value));
                }
                let names: std::collections::BTreeSet<_> = all.iter().map(|(name, _)| &name.0).collect();
                if names.len() < all.len() {
                    return Err(de::Error::custom("an attribute stands twice"));
                }
                Ok(Xattrs(all))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

impl Line {
    fn into_entry(self) -> Result<Entry, &'static str> {
        let octal = !self.mode.is_empty() && self.mode.bytes().all(|b| (b'0'..=b'7').contains(&b));
        let mode = u32::from_str_radix(&self.mode, 8).ok().filter(|_| octal).ok_or("mode is not octal")?;
        let xattrs = self.xattrs.0;
        let named = |name: &Name| (1..=MAX_NAME).contains(&name.0.len()) && !name.0.contains(&0);
        if !xattrs.iter().all(|(name, value)| named(name) && value.len() <= 16 << 20) {
            return Err("an extended attribute's name or value is out of range");
        }
        let stat = Stat {
            kind: self.r#type,
            mode,
            uid: self.uid,
            gid: self.gid,
            size: self.size,
            mtime: self.mtime,
            ctime: self.ctime,
            inode: self.inode,
            links: self.links.unwrap_or(1),
            device: self.device,
        };
        Ok(Entry {
            path: self.path.0,
            stat,
            user: self.user,
            group: self.group,
            target: self.target.map(|t| t.0),
            hardlink: self.hardlink.map(|t| t.0),
            flags: self.flags.unwrap_or_default(),
            xattrs,
            holes: self.holes,
            torn: self.torn,
            database: self.database,
            exact: self.exact,
            chunks: self.chunks,
        })
    }
}
