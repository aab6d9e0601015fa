//! Manifests (section 7): one line an entry, sorted by path, cut into chunks by path.
//!
//! Lines are canonical, so that unchanged entries can be recognised and copied as bytes: whoever
//! compares a tree with a manifest formats what `lstat` says and compares it with the line.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize, de};

use super::{FormatError, bounded};
use crate::base::id::{ChunkId, hex_of};
use crate::base::name::{Name, write_json};

const WHAT: &str = "a manifest";
/// A line has at most this many bytes.
pub const MAX_LINE: u64 = 15 << 20;
/// A chunk of a manifest is cut when it has this many entries, whatever the paths say.
pub const MAX_ENTRIES: u64 = 1024;
/// A chunk of a manifest is cut when it has this many bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// While a list of chunks is longer than this, it gets a level.
pub const MAX_LIST: usize = 128;
/// Levels of lists that a reader follows.
pub const MAX_LEVEL: u32 = 8;
/// The longest name of one component.
pub const MAX_NAME: usize = 255;
/// The path of a root itself.
pub const ROOT: &[u8] = b".";
const PATH: &[u8] = b"{\"path\":";
const DATABASE: &[u8] = b",\"database\":true";
const TORN: &[u8] = b",\"torn\":true";
const EXACT: &[u8] = b",\"exact\":true";
const CHUNKS: &[u8] = b",\"chunks\":[";

/// What kind of thing an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A character device.
    Char,
    /// A block device.
    Block,
}

impl Type {
    /// The word in the manifest.
    pub fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Dir => "dir",
            Self::Symlink => "symlink",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::Char => "char",
            Self::Block => "block",
        }
    }
}

/// A file's time: seconds since 1970 rounded down, and nanoseconds after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Time(pub i64, pub u32);

/// What `lstat` says of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Type,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner's number.
    pub uid: u32,
    /// Group's number.
    pub gid: u32,
    /// Bytes, for files and symlinks; else 0.
    pub size: u64,
    /// Time of the last change of content.
    pub mtime: Time,
    /// Time of the last change of the inode.
    pub ctime: Time,
    /// Number of the inode.
    pub inode: u64,
    /// Number of names; 1 for directories.
    pub links: u64,
    /// Devices: major and minor number.
    pub device: Option<(u32, u32)>,
}

impl Stat {
    /// Bytes of content: 0 for all but files.
    pub fn size_of_file(&self) -> u64 {
        if self.kind == Type::File { self.size } else { 0 }
    }
}

/// One entry of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the root; `.` for the root itself.
    pub path: Vec<u8>,
    /// What `lstat` says.
    pub stat: Stat,
    /// The owner's name on the source host.
    pub user: Option<Name>,
    /// The group's name on the source host.
    pub group: Option<Name>,
    /// Where a symlink points.
    pub target: Option<Vec<u8>>,
    /// The first entry of the same inode, if that is another.
    pub hardlink: Option<Vec<u8>>,
    /// Inode flags, letters.
    pub flags: String,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<(Name, Vec<u8>)>,
    /// Offset and length of the holes.
    pub holes: Vec<(u64, u64)>,
    /// The file never held still while it was read.
    pub torn: bool,
    /// The content is a database, copied whole by its own means: it holds one moment, its log is merged into it, and what
    /// lies beside it on the source host (log, journal) is not part of the snapshot.
    pub database: bool,
    /// Of a database: it had no log, and the content is the file's bytes.
    pub exact: bool,
    /// The pieces of the content, holes left out.
    pub chunks: Vec<ChunkId>,
}

fn write_number(out: &mut Vec<u8>, key: &str, number: impl itoa_like::Integer) {
    out.extend_from_slice(key.as_bytes());
    number.write(out);
}

// A decimal writer without the formatting machinery: half the cost of a line is its numbers.
mod itoa_like {
    pub trait Integer {
        fn write(self, out: &mut Vec<u8>);
    }
    impl Integer for u64 {
        fn write(self, out: &mut Vec<u8>) {
            let mut digits = [0u8; 20];
            let mut at = digits.len();
            let mut rest = self;
            loop {
                at -= 1;
                digits[at] = b'0' + (rest % 10) as u8;
                rest /= 10;
                if rest == 0 {
                    break;
                }
            }
            out.extend_from_slice(&digits[at..]);
        }
    }
    impl Integer for u32 {
        fn write(self, out: &mut Vec<u8>) {
            u64::from(self).write(out);
        }
    }
    impl Integer for i64 {
        fn write(self, out: &mut Vec<u8>) {
            if self < 0 {
                out.push(b'-');
            }
            self.unsigned_abs().write(out);
        }
    }
}

fn write_time(out: &mut Vec<u8>, key: &str, time: Time) {
    write_number(out, key, time.0);
    write_number(out, ",", time.1);
    out.push(b']');
}

/// Writes the beginning of an entry's line: all that `lstat` says. If a line of an earlier
/// manifest begins with these bytes and goes on with `,` or `}`, nothing has changed: [`line_says`].
pub fn write_stat(out: &mut Vec<u8>, path: &[u8], stat: &Stat) {
    out.extend_from_slice(b"{\"path\":");
    write_json(out, path);
    out.extend_from_slice(b",\"type\":\"");
    out.extend_from_slice(stat.kind.word().as_bytes());
    out.extend_from_slice(b"\",\"mode\":\"");
    write_octal(out, stat.mode);
    write_number(out, "\",\"uid\":", stat.uid);
    write_number(out, ",\"gid\":", stat.gid);
    if matches!(stat.kind, Type::File | Type::Symlink) {
        write_number(out, ",\"size\":", stat.size);
    }
    write_time(out, ",\"mtime\":[", stat.mtime);
    write_time(out, ",\"ctime\":[", stat.ctime);
    write_number(out, ",\"inode\":", stat.inode);
    if stat.links > 1 {
        write_number(out, ",\"links\":", stat.links);
    }
}

fn write_octal(out: &mut Vec<u8>, mode: u32) {
    let digits = [9, 6, 3, 0].map(|shift| b'0' + (mode >> shift & 7) as u8);
    out.extend_from_slice(if digits[0] == b'0' { &digits[1..] } else { &digits });
}

impl Entry {
    /// An entry of which nothing is known but what `lstat` says.
    pub fn new(path: Vec<u8>, stat: Stat) -> Self {
        Self {
            path,
            stat,
            user: None,
            group: None,
            target: None,
            hardlink: None,
            flags: String::new(),
            xattrs: Vec::new(),
            holes: Vec::new(),
            torn: false,
            exact: false,
            database: false,
            chunks: Vec::new(),
        }
    }

    /// Writes its line, newline included.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        write_stat(out, &self.path, &self.stat);
        let text = |out: &mut Vec<u8>, key: &str, value: &Option<Vec<u8>>| {
            if let Some(value) = value {
                out.extend_from_slice(key.as_bytes());
                write_json(out, value);
            }
        };
        for (key, name) in [(",\"user\":", &self.user), (",\"group\":", &self.group)] {
            if let Some(name) = name {
                out.extend_from_slice(key.as_bytes());
                write_json(out, &name.0);
            }
        }
        text(out, ",\"target\":", &self.target);
        if let Some((major, minor)) = self.stat.device {
            write_number(out, ",\"device\":[", major);
            write_number(out, ",", minor);
            out.push(b']');
        }
        text(out, ",\"hardlink\":", &self.hardlink);
        if !self.flags.is_empty() {
            out.extend_from_slice(b",\"flags\":");
            write_json(out, self.flags.as_bytes());
        }
        self.write_xattrs(out);
        self.write_content(out);
        out.extend_from_slice(b"}\n");
    }

    fn write_xattrs(&self, out: &mut Vec<u8>) {
        for (i, (name, value)) in self.xattrs.iter().enumerate() {
            out.extend_from_slice(if i == 0 { b",\"xattrs\":{" } else { b"," });
            write_json(out, &name.0);
            out.extend_from_slice(b":\"");
            out.extend_from_slice(STANDARD.encode(value).as_bytes());
            out.push(b'"');
        }
        if !self.xattrs.is_empty() {
            out.push(b'}');
        }
    }

    fn write_content(&self, out: &mut Vec<u8>) {
        for (i, &(offset, length)) in self.holes.iter().enumerate() {
            write_number(out, if i == 0 { ",\"holes\":[[" } else { ",[" }, offset);
            write_number(out, ",", length);
            out.push(b']');
        }
        if !self.holes.is_empty() {
            out.push(b']');
        }
        if self.torn {
            out.extend_from_slice(TORN);
        }
        if self.database {
            out.extend_from_slice(DATABASE);
        }
        if self.exact {
            out.extend_from_slice(EXACT);
        }
        for (i, chunk) in self.chunks.iter().enumerate() {
            out.extend_from_slice(if i == 0 { b",\"chunks\":[\"" } else { b",\"" });
            out.extend_from_slice(&hex_of(&chunk.0));
            out.push(b'"');
        }
        if !self.chunks.is_empty() {
            out.push(b']');
        }
    }

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
            if self.stat.kind == Type::Dir || compare(first, &self.path) != std::cmp::Ordering::Less {
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

    /// Bytes of content without the holes.
    pub fn stream_len(&self) -> u64 {
        self.stat.size - self.holes.iter().map(|h| h.1).sum::<u64>()
    }

    /// The stretches of the file that hold data: offset in the file and length.
    pub fn segments(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let ends = self.holes.iter().map(|h| h.0).chain([self.stat.size]);
        let starts = [0].into_iter().chain(self.holes.iter().map(|h| h.0 + h.1));
        starts.zip(ends).filter(|(start, end)| start < end).map(|(start, end)| (start, end - start))
    }
}

fn compare(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    compare_entries(a, b)
}

/// The order of entries in a manifest: that of paths, the root first.
pub fn compare_entries(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    match (a == ROOT, b == ROOT) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => crate::base::name::compare_paths(a, b),
    }
}

/// True if `path` is `top` or below it; everything is below the root.
pub fn is_within_subtree(path: &[u8], top: &[u8]) -> bool {
    crate::base::name::is_within(path, top)
}

/// Refuses any path but `.` and relative ones of ordinary components.
///
/// # Errors
/// What is wrong with it.
pub fn check_path(path: &[u8]) -> Result<(), &'static str> {
    if path == ROOT {
        return Ok(());
    }
    for name in path.split(|&b| b == b'/') {
        if name.is_empty() {
            return Err("a path is relative and has no empty component");
        }
        if name == b"." || name == b".." {
            return Err("a path has no component . or ..");
        }
        if name.len() > MAX_NAME {
            return Err("a name has at most 255 bytes");
        }
        if name.contains(&0) {
            return Err("a name has no NUL");
        }
    }
    Ok(())
}

/// The path at the start of a line, without reading the rest. `None` if it is no entry's line.
pub fn line_path(line: &[u8]) -> Option<std::borrow::Cow<'_, [u8]>> {
    let rest = line.strip_prefix(PATH)?;
    crate::base::name::read_json(rest).map(|(path, _)| path)
}

/// True if an entry's line says that it is a database. Relies on the canonical form; a quote inside of a name is escaped.
pub fn line_is_database(line: &[u8]) -> bool {
    memchr::memmem::find(line, DATABASE).is_some()
}

/// True if an entry's line says exactly what [`write_stat`] wrote of an entry that is there now: nothing that `lstat` tells has
/// changed.
pub fn line_says(line: &[u8], expected: &[u8]) -> bool {
    matches!(line.strip_prefix(expected).and_then(|rest| rest.first()), Some(b',' | b'}'))
}

/// True if an entry's line says that the file never held still. Relies on the canonical form, as [`line_is_database`] does.
pub fn line_is_torn(line: &[u8]) -> bool {
    memchr::memmem::find(line, TORN).is_some()
}

/// True if an entry's line is of a database that is not the bytes of its file: its log was merged into the copy.
pub fn line_is_merged(line: &[u8]) -> bool {
    line_is_database(line) && memchr::memmem::find(line, EXACT).is_none()
}

/// The chunk ids of an entry's line, found without reading the rest of it. Relies on the
/// canonical form: the chunks are the last key, and no other list ends with a string.
///
/// # Errors
/// If the list is malformed.
pub fn line_chunks(line: &[u8], mut found: impl FnMut(ChunkId)) -> Result<(), FormatError> {
    // a quote, 64 digits, a quote, and what separates it from the one before
    const ITEM: usize = 67;
    let Some(list) = line.strip_suffix(b"]}").filter(|list| list.last() == Some(&b'"')) else {
        return Ok(());
    };
    let bad = || FormatError::malformed(WHAT, "a list of chunks");
    let mut start = list.len();
    loop {
        start = start.checked_sub(ITEM).ok_or_else(bad)?;
        match list[start] {
            b',' => {}
            b'[' => break,
            _ => return Err(bad()),
        }
    }
    if !list[..start].ends_with(b",\"chunks\":") {
        return Err(bad());
    }
    for item in list[start..].chunks_exact(ITEM) {
        if item[1] != b'"' || item[ITEM - 1] != b'"' {
            return Err(bad());
        }
        found(ChunkId(crate::base::id::from_hex(&item[2..ITEM - 1]).ok_or_else(bad)?));
    }
    Ok(())
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

/// The hash that decides where a manifest is cut: FNV-1a, then mixed so that its upper bits are good.
pub fn cut_hash(path: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for &byte in path {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// True if a chunk of this level begins at a path with this [`cut_hash`].
pub fn cuts_at(hash: u64, level: u32) -> bool {
    level < 10 && (hash >> (58 - 6 * level)) & 63 == 0
}

/// One chunk of a manifest in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRef {
    /// The path of its first entry.
    pub first: Name,
    /// The chunk.
    pub chunk: ChunkId,
    /// How many entries it has, at all levels below.
    pub entries: u64,
}

/// The list that a document holds.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct List {
    /// How many levels of lists lie between this one and the entries.
    pub level: u32,
    /// Entries in all.
    pub entries: u64,
    /// The chunks in order.
    pub chunks: Vec<ChunkRef>,
}

impl ChunkRef {
    /// Writes the line of a list, newline included.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"first\":");
        write_json(out, &self.first.0);
        out.extend_from_slice(b",\"chunk\":\"");
        out.extend_from_slice(&hex_of(&self.chunk.0));
        write_number(out, "\",\"entries\":", self.entries);
        out.extend_from_slice(b"}\n");
    }
}

/// Reads the lines of a list.
///
/// # Errors
/// If one is malformed.
pub fn read_list(bytes: &[u8]) -> Result<Vec<ChunkRef>, FormatError> {
    lines(bytes)?
        .map(|line| serde_json::from_slice(line).map_err(|e| FormatError::malformed("a manifest's list", e)))
        .collect()
}

/// The lines of a manifest's chunk, without their newlines.
///
/// # Errors
/// If the last one is not ended.
pub fn lines(bytes: &[u8]) -> Result<impl Iterator<Item = &[u8]>, FormatError> {
    let body = bytes
        .strip_suffix(b"\n")
        .ok_or_else(|| FormatError::malformed(WHAT, "it does not end with a line"))?;
    Ok(body.split(|&b| b == b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(path: &[u8]) -> Entry {
        let stat = Stat {
            kind: Type::File,
            mode: 0o4755,
            uid: 1,
            gid: u32::MAX,
            size: 10,
            mtime: Time(-2, 500_000_000),
            ctime: Time(i64::MAX / 1_000_000_000, 1),
            inode: u64::MAX,
            links: 2,
            device: None,
        };
        Entry { chunks: vec![ChunkId::of(b"x"), ChunkId::of(b"y")], ..Entry::new(path.to_vec(), stat) }
    }

    // found by mutating lines: the parser quotes what it read as it stands
    #[test]
    fn an_error_moves_no_cursor() {
        let mut line = Vec::new();
        file(b"a").write_line(&mut line);
        let text = String::from_utf8(line).unwrap().replacen("file", "\u{7f}\u{202e}ile", 1);
        let error = Entry::read_line(text.trim_end().as_bytes()).unwrap_err().to_string();
        assert!(error.contains(r"`\x7f\u{202e}ile`"), "{error}");
    }

    #[test]
    fn the_canonical_line() {
        let mut entry = file(b"a\xff\"");
        entry.user = Some("root".into());
        entry.xattrs = vec![(Name(b"user.\xfe".to_vec()), vec![0, 1])];
        entry.holes = vec![(2, 3)];
        entry.torn = true;
        entry.hardlink = Some(b"A".to_vec());
        entry.flags = "d".to_owned();
        let mut line = Vec::new();
        entry.write_line(&mut line);
        let text = String::from_utf8(line.clone()).unwrap();
        assert!(text.starts_with(
            "{\"path\":\"a\\udcff\\\"\",\"type\":\"file\",\"mode\":\"4755\",\"uid\":1,\"gid\":4294967295,\"size\":10,\
             \"mtime\":[-2,500000000],\"ctime\":[9223372036,1],\"inode\":18446744073709551615,\"links\":2,\
             \"user\":\"root\",\"hardlink\":\"A\",\"flags\":\"d\",\"xattrs\":{\"user.\\udcfe\":\"AAE=\"},\
             \"holes\":[[2,3]],\"torn\":true,\"chunks\":[\""
        ));
        let line = line.strip_suffix(b"\n").unwrap();
        assert_eq!(Entry::read_line(line).unwrap(), entry);
        assert_eq!(line_path(line).unwrap(), &entry.path[..]);
        let mut chunks = Vec::new();
        line_chunks(line, |c| chunks.push(c)).unwrap();
        assert_eq!(chunks, entry.chunks);
        assert_eq!(entry.segments().collect::<Vec<_>>(), [(0, 2), (5, 5)]);
        assert_eq!(entry.stream_len(), 7);
    }

    #[test]
    fn hostile_entries_are_refused() {
        for path in ["..", "a/../b", "/etc", "a//b", "a/", "", "./a", "a/.", "a\0b"] {
            assert!(check_path(path.as_bytes()).is_err(), "{path:?}");
        }
        assert!(check_path(&[b'x'; 256]).is_err());
        assert!(check_path(&[b'x'; 255]).is_ok());
        let refused = |change: fn(&mut Entry)| {
            let mut entry = file(b"b");
            change(&mut entry);
            let mut line = Vec::new();
            entry.write_line(&mut line);
            assert!(Entry::read_line(line.strip_suffix(b"\n").unwrap()).is_err(), "{entry:?}");
        };
        refused(|e| e.hardlink = Some(b"c".to_vec()));
        refused(|e| e.hardlink = Some(b"b".to_vec()));
        refused(|e| e.hardlink = Some(b"../a".to_vec()));
        refused(|e| e.holes = vec![(0, 11)]);
        refused(|e| e.holes = vec![(0, 0)]);
        refused(|e| e.holes = vec![(4, 2), (0, 1)]);
        refused(|e| e.holes = vec![(u64::MAX, 2)]);
        refused(|e| e.chunks.clear());
        refused(|e| e.stat.kind = Type::Dir);
        refused(|e| e.target = Some(b"x".to_vec()));
        refused(|e| e.stat.mtime.1 = 1_000_000_000);
        refused(|e| e.stat.size = 1 << 63);
    }

    // what is written of it would be another line
    #[test]
    fn an_entry_without_a_name_is_refused() {
        let line = r#"{"path":"d","type":"dir","mode":"755","uid":0,"gid":0,"mtime":[1,2],"links":"#;
        assert!(Entry::read_line(format!("{line}1}}").as_bytes()).is_ok());
        assert!(Entry::read_line(format!("{line}0}}").as_bytes()).is_err());
    }

    // found by fuzzing: the full parse saw chunks or a path that the quick looks did not, so that a
    // prune could have removed what a restore needs
    #[test]
    fn a_line_in_which_the_quick_looks_find_something_else_is_refused() {
        let mut line = Vec::new();
        file(b"b").write_line(&mut line);
        let line = str::from_utf8(line.strip_suffix(b"\n").unwrap()).unwrap();
        assert!(Entry::read_line(line.as_bytes()).is_ok());
        for (from, to) in [
            ("\"chunks\":[", "\"chunks\": ["),
            ("\"chunks\":[", "\"\\u0063hunks\":["),
            ("]}", "] }"),
            ("]}", "],\"torn\":true}"),
            ("\",\"", "\", \""),
            ("}", ",\"x\":{\"y\":1,\"chunks\":[]}}"),
            ("{\"path\":", "{ \"path\":"),
            ("{\"path\":", "{\"path\":\t"),
            (",\"chunks\"", ",\"database\": true,\"chunks\""),
            (",\"chunks\"", ",\"x\":{\"y\":1,\"database\":true},\"chunks\""),
            (",\"chunks\"", ",\"torn\": true,\"chunks\""),
            (",\"chunks\"", ",\"database\":true,\"exact\": true,\"chunks\""),
            ("{\"path\":\"b\",\"type\":\"file\"", "{\"type\":\"file\",\"path\":\"b\""),
        ] {
            let other = line.replace(from, to);
            assert_ne!(other, line);
            assert!(Entry::read_line(other.as_bytes()).is_err(), "{other}");
        }
    }

    // found by fuzzing: what is written of it would be another line
    #[test]
    fn a_directory_with_a_size_is_refused() {
        let line = r#"{"path":"d","type":"dir","mode":"755","uid":0,"gid":0,"mtime":[1,2]}"#;
        assert!(Entry::read_line(line.as_bytes()).is_ok());
        let line = line.replace(r#","mtime""#, r#","size":7,"mtime""#);
        assert!(Entry::read_line(line.as_bytes()).is_err());
    }

    // found by the property test of the decoders: a key that a later version may add
    #[test]
    fn a_line_without_chunks_that_ends_as_one_with_them_is_refused() {
        let mut line = Vec::new();
        let mut entry = file(b"b");
        (entry.stat.size, entry.chunks) = (0, Vec::new());
        entry.write_line(&mut line);
        let line = str::from_utf8(line.strip_suffix(b"}\n").unwrap()).unwrap();
        for (more, is_good) in [("", true), (",\"x\":[1]", true), (",\"x\":[\"y\"]", false)] {
            let line = format!("{line}{more}}}");
            let read = Entry::read_line(line.as_bytes());
            assert_eq!(read.is_ok(), is_good, "{line} {read:?}");
            assert_eq!(line_chunks(line.as_bytes(), |_| ()).is_ok(), is_good, "{line}");
        }
    }

    proptest! {
        #[test]
        fn lines_come_back(path in proptest::collection::vec(1u8..=255, 1..30), seconds: i64, size in 1..i64::MAX as u64) {
            let mut entry = file(&path);
            prop_assume!(check_path(&path).is_ok() && entry.hardlink.is_none());
            entry.stat.mtime.0 = seconds;
            entry.stat.size = size;
            let mut line = Vec::new();
            entry.write_line(&mut line);
            let line = line.strip_suffix(b"\n").unwrap();
            prop_assert_eq!(&*line_path(line).unwrap(), &path[..]);
            prop_assert_eq!(Entry::read_line(line).unwrap(), entry);
        }
    }
}
