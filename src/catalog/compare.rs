//! How two entries of the same path differ. Pure.

use crate::format::manifest::{Entry, Type};

/// What kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// There was none before.
    Added,
    /// There is none any more.
    Removed,
    /// It is another type of thing.
    Type,
    /// Its content differs; for a symlink where it points, for a device its numbers.
    Content,
    /// Its content is the same, something else differs.
    Metadata,
}

impl Kind {
    /// The letter in a listing.
    pub fn letter(self) -> char {
        match self {
            Self::Added => '+',
            Self::Removed => '-',
            Self::Type => 'T',
            Self::Content => 'C',
            Self::Metadata => 'M',
        }
    }

    /// The word for programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Type => "type",
            Self::Content => "content",
            Self::Metadata => "metadata",
        }
    }
}

/// What differs besides content, as words: `mode`, `mtime`, `xattrs`. Never `ctime` and `inode`,
/// which differ after every restore, and of a file's first name not how many more there are: they may lie outside of
/// what was saved, and those inside tell it themselves.
pub fn metadata(a: &Entry, b: &Entry) -> Vec<&'static str> {
    let (x, y) = (&a.stat, &b.stat);
    [
        (x.mode != y.mode, "mode"),
        (x.uid != y.uid || a.user != b.user, "owner"),
        (x.gid != y.gid || a.group != b.group, "group"),
        (x.mtime != y.mtime, "mtime"),
        (a.hardlink != b.hardlink || a.hardlink.is_some() && x.links != y.links, "links"),
        (a.flags != b.flags, "flags"),
        (a.xattrs != b.xattrs, "xattrs"),
        (a.torn != b.torn, "torn"),
    ]
    .into_iter()
    .filter_map(|(differs, word)| differs.then_some(word))
    .collect()
}

/// How two entries differ; `None` if they are the same in all that matters.
pub fn entries(a: &Entry, b: &Entry) -> Option<(Kind, Vec<&'static str>)> {
    if a.stat.kind != b.stat.kind {
        return Some((Kind::Type, Vec::new()));
    }
    let others = metadata(a, b);
    if !same_content(a, b) {
        return Some((Kind::Content, others));
    }
    (!others.is_empty()).then_some((Kind::Metadata, others))
}

fn same_content(a: &Entry, b: &Entry) -> bool {
    match a.stat.kind {
        Type::File => a.stat.size == b.stat.size && a.holes == b.holes && a.chunks == b.chunks,
        Type::Symlink => a.target == b.target,
        Type::Char | Type::Block => a.stat.device == b.stat.device,
        Type::Dir | Type::Fifo | Type::Socket => true,
    }
}

/// True if two lines of the same path say the same, but for `ctime` and `inode`. Relies on the
/// canonical form: these two keys stand side by side, and no string holds an unescaped quote.
pub fn same_lines(a: &[u8], b: &[u8]) -> bool {
    a == b || matches!((halves(a), halves(b)), (Some(x), Some(y)) if x == y)
}

// What stands before `ctime` and after `inode`.
fn halves(line: &[u8]) -> Option<(&[u8], &[u8])> {
    const CTIME: &[u8] = b",\"ctime\":[";
    const INODE: &[u8] = b"],\"inode\":";
    let start = memchr::memmem::find(line, CTIME)?;
    let after = start + CTIME.len();
    let inode = after + memchr::memmem::find(&line[after..], INODE)? + INODE.len();
    let digits = line[inode..].iter().take_while(|b| b.is_ascii_digit()).count();
    Some((&line[..start], &line[inode + digits..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::ChunkId;
    use crate::format::manifest::{Stat, Time};

    fn file() -> Entry {
        let stat = Stat {
            kind: Type::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 1,
            mtime: Time(5, 0),
            ctime: Time(6, 7),
            inode: 99,
            links: 1,
            device: None,
        };
        Entry { chunks: vec![ChunkId::of(b"x")], ..Entry::new(b"a\",\"ctime\":[".to_vec(), stat) }
    }

    fn line(entry: &Entry) -> Vec<u8> {
        let mut line = Vec::new();
        entry.write_line(&mut line);
        line.pop();
        line
    }

    fn check(change: fn(&mut Entry), expected: Option<(Kind, &[&'static str])>) {
        let (a, mut b) = (file(), file());
        change(&mut b);
        assert_eq!(entries(&a, &b), expected.map(|(kind, words)| (kind, words.to_vec())));
        assert_eq!(same_lines(&line(&a), &line(&b)), expected.is_none());
    }

    #[test]
    fn a_new_inode_is_no_change() {
        check(|_| {}, None);
        check(
            |e| {
                e.stat.ctime = Time(-1, 999_999_999);
                e.stat.inode = 1;
            },
            None,
        );
    }

    #[test]
    fn names_elsewhere_are_no_change() {
        let (one, mut more) = (file(), file());
        more.stat.links = 2;
        assert_eq!(entries(&one, &more), None);
        let mut further = file();
        (further.hardlink, further.stat.links) = (Some(b"first".to_vec()), 2);
        let mut alone = further.clone();
        alone.stat.links = 1;
        assert_eq!(entries(&further, &alone), Some((Kind::Metadata, vec!["links"])));
        assert_eq!(entries(&one, &further), Some((Kind::Metadata, vec!["links"])));
    }

    #[test]
    fn differences_have_names() {
        check(|e| e.chunks[0] = ChunkId::of(b"y"), Some((Kind::Content, &[])));
        check(|e| e.stat.mtime = Time(5, 1), Some((Kind::Metadata, &["mtime"])));
        check(
            |e| {
                e.stat.mode = 0o4755;
                e.xattrs = vec![("user.x".into(), vec![])];
            },
            Some((Kind::Metadata, &["mode", "xattrs"])),
        );
        check(
            |e| {
                e.stat.size = 2;
                e.stat.uid = 7;
            },
            Some((Kind::Content, &["owner"])),
        );
        check(
            |e| {
                e.stat.kind = Type::Fifo;
                e.stat.size = 0;
                e.chunks.clear();
            },
            Some((Kind::Type, &[])),
        );
    }
}
