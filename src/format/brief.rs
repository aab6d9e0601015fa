//! The quick way through lines in their canonical form. What it does not know, it leaves to the
//! decoders that know everything; what it takes, they would have taken.

use std::borrow::Cow;

use super::manifest::{MAX_LINE, Type, check_path};
use crate::base::id::{ChunkId, from_hex};
use crate::base::name::read_json;

/// What the content of an ordinary file or directory is checked by.
#[derive(Debug, PartialEq, Eq)]
pub struct Brief<'a> {
    /// Its path.
    pub path: Cow<'a, [u8]>,
    /// File or directory.
    pub kind: Type,
    /// Bytes of its stream: it has no holes.
    pub size: u64,
    hashes: &'a [u8],
}

/// Takes bytes off the front of a line.
pub(super) struct Scan<'a>(pub &'a [u8]);

impl<'a> Scan<'a> {
    /// Takes these bytes.
    pub fn word(&mut self, word: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(word)?;
        Some(())
    }

    /// Takes a number as JSON writes it.
    pub fn number(&mut self) -> Option<u64> {
        let digits = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        let (number, rest) = self.0.split_at(digits);
        if digits == 0 || digits > 19 || (digits > 1 && number[0] == b'0') {
            return None;
        }
        self.0 = rest;
        Some(number.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0')))
    }

    fn string(&mut self) -> Option<Cow<'a, [u8]>> {
        let (text, rest) = read_json(self.0)?;
        // what stands there without an escape must need none
        if let Cow::Borrowed(bytes) = text
            && (bytes.iter().any(|b| *b < 0x20) || str::from_utf8(bytes).is_err())
        {
            return None;
        }
        self.0 = rest;
        Some(text)
    }

    fn number_below(&mut self, limit: u64) -> Option<u64> {
        self.number().filter(|n| *n < limit)
    }

    fn time(&mut self, key: &[u8]) -> Option<()> {
        self.word(key)?;
        // before 1970: rare
        self.number_below(1 << 62)?;
        self.word(b",")?;
        self.number_below(1_000_000_000)?;
        self.word(b"]")
    }
}

impl<'a> Brief<'a> {
    /// Reads a line (without its newline); `None` if it is not of this simple form, or not valid.
    pub fn read(line: &'a [u8]) -> Option<Self> {
        if line.len() as u64 > MAX_LINE {
            return None;
        }
        let mut scan = Scan(line);
        scan.word(b"{\"path\":")?;
        let path = scan.string()?;
        check_path(&path).ok()?;
        let kind = match scan.word(b",\"type\":\"file\"") {
            Some(()) => Type::File,
            None => scan.word(b",\"type\":\"dir\"").map(|()| Type::Dir)?,
        };
        scan.word(b",\"mode\":\"")?;
        let octal = scan.0.iter().take_while(|b| (b'0'..=b'7').contains(b)).count();
        if !(3..=4).contains(&octal) {
            return None;
        }
        scan.0 = &scan.0[octal..];
        scan.word(b"\",\"uid\":")?;
        scan.number_below(1 << 32)?;
        scan.word(b",\"gid\":")?;
        scan.number_below(1 << 32)?;
        let mut size = 0;
        if kind == Type::File {
            scan.word(b",\"size\":")?;
            size = scan.number_below(1 << 62)?;
        }
        scan.time(b",\"mtime\":[")?;
        scan.time(b",\"ctime\":[")?;
        scan.word(b",\"inode\":")?;
        scan.number()?;
        for key in [b",\"user\":".as_slice(), b",\"group\":"] {
            if scan.word(key).is_some() {
                scan.string()?;
            }
        }
        let hashes = chunk_list(&mut scan)?;
        let fits = if kind == Type::File { hashes.is_empty() == (size == 0) } else { hashes.is_empty() };
        (fits && scan.0 == b"}").then_some(Self { path, kind, size, hashes })
    }

    /// Its chunks; `None` in place of one that is no hash.
    pub fn chunks(&self) -> impl Iterator<Item = Option<ChunkId>> {
        self.hashes.chunks(67).map(|item| item.get(1..65).and_then(from_hex).map(ChunkId))
    }
}

/// The items of `"chunks"` without their brackets: each is 64 digits in quotes, with commas between.
fn chunk_list<'a>(scan: &mut Scan<'a>) -> Option<&'a [u8]> {
    if scan.word(b",\"chunks\":[").is_none() {
        return Some(&[]);
    }
    let len = memchr::memchr(b']', scan.0)?;
    let (items, rest) = scan.0.split_at(len);
    let quoted = |item: &[u8]| item[0] == b'"' && item[65] == b'"' && item.get(66).is_none_or(|&c| c == b',');
    if (items.len() + 1) % 67 != 0
        || items.is_empty()
        || !items.chunks(67).all(|i| i.len() >= 66 && quoted(i))
    {
        return None;
    }
    scan.0 = &rest[1..];
    Some(items)
}

#[cfg(test)]
mod tests {
    use super::super::manifest::{Entry, Stat, Time};
    use super::*;
    use proptest::prelude::*;

    fn line(path: &[u8], kind: Type, size: u64, chunks: usize) -> (Entry, Vec<u8>) {
        let stat = Stat {
            kind,
            mode: 0o644,
            uid: 0,
            gid: u32::MAX,
            size,
            mtime: Time(1_700_000_000, 5),
            ctime: Time(1_700_000_000, 999_999_999),
            inode: 77,
            links: 1,
            device: None,
        };
        let mut entry = Entry::new(path.to_vec(), stat);
        entry.user = Some("ro\"ot".into());
        entry.chunks = (0..chunks).map(|n| ChunkId::of(&n.to_le_bytes())).collect();
        let mut line = Vec::new();
        entry.write_line(&mut line);
        line.pop();
        (entry, line)
    }

    #[test]
    fn ordinary_lines_are_read() {
        for (kind, size, chunks) in
            [(Type::File, 10, 1), (Type::File, 10, 3), (Type::File, 0, 0), (Type::Dir, 0, 0)]
        {
            let (entry, line) = line(b"a/b\xff", kind, size, chunks);
            let brief = Brief::read(&line).unwrap();
            assert_eq!((&*brief.path, brief.kind, brief.size), (&b"a/b\xff"[..], kind, size));
            let found: Option<Vec<_>> = brief.chunks().collect();
            assert_eq!(found, Some(entry.chunks));
        }
    }

    proptest! {
        // whatever the quick way takes, the full decoder takes too, and says the same
        #[test]
        fn nothing_is_taken_that_the_decoder_refuses(
            at in 0usize..400, byte: u8, chunks in 0usize..3, size in 0u64..3, dir: bool, cut in 0usize..400,
        ) {
            let kind = if dir { Type::Dir } else { Type::File };
            let (_, mut line) = line(b"a/b", kind, size, chunks);
            if let Some(b) = line.get_mut(at) { *b = byte; }
            if cut < line.len() && byte.is_multiple_of(7) { line.remove(cut); }
            if let Some(brief) = Brief::read(&line)
                && let Some(chunks) = brief.chunks().collect::<Option<Vec<_>>>()
            {
                let entry = Entry::read_line(&line).unwrap();
                prop_assert_eq!(&entry.path[..], &*brief.path);
                prop_assert_eq!(entry.stat.kind, brief.kind);
                prop_assert_eq!(entry.stream_len(), brief.size);
                prop_assert_eq!(entry.chunks, chunks);
            }
        }
    }
}
