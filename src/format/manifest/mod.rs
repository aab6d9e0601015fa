//! Manifests (section 7): one line an entry, sorted by path, cut into chunks by path.
//!
//! Lines are canonical, so that unchanged entries can be recognised and copied as bytes: whoever
//! compares a tree with a manifest formats what `lstat` says and compares it with the line.

mod list;
mod look;
mod read;
#[cfg(test)]
mod tests;
mod write;

use serde::{Deserialize, Serialize};

pub use self::list::{ChunkRef, List, cut_hash, cuts_at, is_in_order, lines, read_list};
pub use self::look::{line_chunks, line_is_database, line_is_merged, line_is_torn, line_path, line_says};
pub use self::write::write_stat;
use crate::base::id::ChunkId;
use crate::base::name::Name;

const WHAT: &str = "a manifest";
/// A line has at most this many bytes.
pub const MAX_LINE: u64 = 15 << 20;
/// More chunks than these make a longer line, whatever else is in it: each takes a quoted hash and a comma.
pub const MAX_CHUNKS: usize = (MAX_LINE / 67) as usize; // below 2^18
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
    /// The file never held still while it was read, or is a database that could not be copied.
    pub torn: bool,
    /// The content is a database, copied whole by its own means: it holds one moment, its log is merged into it, and what
    /// lies beside it on the source host (log, journal) is not part of the snapshot.
    pub database: bool,
    /// Of a database: it had no log, and the content is the file's bytes.
    pub exact: bool,
    /// The pieces of the content, holes left out.
    pub chunks: Vec<ChunkId>,
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

    /// Bytes of content without the holes.
    pub fn stream_len(&self) -> u64 {
        self.stat.size - self.holes.iter().map(|h| h.1).sum::<u64>()
    }

    /// A hash of what all names of an inode have in common, its metadata apart. An entry that says it is another name of
    /// something and has another hash is a thing of its own.
    pub fn inode_content(&self) -> ChunkId {
        let stat = &self.stat;
        let mut all =
            format!("{} {} {:?} {:?} ", stat.kind.word(), stat.size, stat.device, self.holes).into_bytes();
        all.extend(self.target.iter().flatten());
        all.extend(self.chunks.iter().flat_map(|id| id.0));
        ChunkId::of(&all)
    }

    /// The stretches of the file that hold data: offset in the file and length.
    pub fn segments(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let ends = self.holes.iter().map(|h| h.0).chain([self.stat.size]);
        let starts = [0].into_iter().chain(self.holes.iter().map(|h| h.0 + h.1));
        starts.zip(ends).filter(|(start, end)| start < end).map(|(start, end)| (start, end - start))
    }
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
