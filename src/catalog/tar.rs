//! Members of an ordinary tar archive (POSIX pax), byte by byte. What the old header cannot hold
//! goes into an extended header before it: long paths, exact times, large numbers, attributes.

use std::io::{self, Write};

use tar::{EntryType, Header};

use super::acl;

use crate::format::manifest::{Entry, Time, Type};

const BLOCK: usize = 512;
/// The largest number that eight octal digits less one can hold.
const MOST_ID: u32 = 0o7_777_777;
/// The largest size and time of the old header.
const MOST: u64 = 0o77_777_777_777;

/// One member to be written.
pub struct Member<'e> {
    /// Its path in the archive.
    pub path: &'e [u8],
    /// What it is.
    pub entry: &'e Entry,
    /// Another member that it is a hard link to; it has no content of its own then.
    pub link: Option<&'e [u8]>,
}

// The keyword of an extended attribute, as GNU tar writes it: `=` would end the keyword.
fn attribute_keyword(name: &[u8]) -> Vec<u8> {
    let mut keyword = b"SCHILY.xattr.".to_vec();
    for &byte in name {
        match byte {
            b'%' => keyword.extend_from_slice(b"%25"),
            b'=' => keyword.extend_from_slice(b"%3D"),
            _ => keyword.push(byte),
        }
    }
    keyword
}

/// Extended headers: `length keyword=value` lines.
#[derive(Default)]
struct Extended(Vec<u8>);

impl Extended {
    fn add(&mut self, keyword: impl AsRef<[u8]>, value: &[u8]) {
        let keyword = keyword.as_ref();
        let rest = keyword.len() + value.len() + 3; // a space, an equals sign, a newline
        let digits = |n: usize| n.to_string().len();
        // the length counts its own digits
        let mut length = rest + digits(rest);
        if digits(length) != digits(rest) {
            length = rest + digits(length);
        }
        self.0.extend_from_slice(format!("{length} ").as_bytes());
        self.0.extend_from_slice(keyword);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }
}

impl Member<'_> {
    fn kind(&self) -> EntryType {
        match (self.link, self.entry.stat.kind) {
            (Some(_), _) => EntryType::Link,
            (_, Type::Dir) => EntryType::Directory,
            (_, Type::Symlink) => EntryType::Symlink,
            (_, Type::Fifo) => EntryType::Fifo,
            (_, Type::Char) => EntryType::Char,
            (_, Type::Block) => EntryType::Block,
            // a socket is never written
            (_, Type::File | Type::Socket) => EntryType::Regular,
        }
    }

    fn is_sparse(&self) -> bool {
        self.link.is_none() && !self.entry.holes.is_empty()
    }

    // In the GNU form 1.0 the content begins with a map of where data lies.
    fn sparse_map(&self) -> Vec<u8> {
        let mut segments: Vec<(u64, u64)> = self.entry.segments().collect();
        // GNU tar ends every map where the file ends
        if segments.last().is_none_or(|(offset, length)| offset + length < self.entry.stat.size) {
            segments.push((self.entry.stat.size, 0));
        }
        let mut map = format!("{}\n", segments.len()).into_bytes();
        for (offset, length) in segments {
            map.extend_from_slice(format!("{offset}\n{length}\n").as_bytes());
        }
        map.resize(map.len().next_multiple_of(BLOCK), 0);
        map
    }

    /// Writes the headers and what stands before the content; returns how many bytes of content
    /// must follow: the entry's stream. Then comes [`write_padding`].
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_head(&self, out: &mut dyn Write) -> io::Result<u64> {
        let content = match self.kind() {
            EntryType::Regular => self.entry.stream_len(),
            _ => 0,
        };
        let map = if self.is_sparse() { self.sparse_map() } else { Vec::new() };
        let size = content + map.len() as u64;
        let mut extended = Extended::default();
        let header = self.header(size, &mut extended)?;
        if !extended.0.is_empty() {
            write_extended(out, self.path, &extended.0)?;
        }
        out.write_all(header.as_bytes())?;
        out.write_all(&map)?;
        Ok(content)
    }

    fn header(&self, size: u64, extended: &mut Extended) -> io::Result<Header> {
        let stat = &self.entry.stat;
        let mut header = Header::new_ustar();
        header.set_entry_type(self.kind());
        header.set_mode(stat.mode);
        header.set_size(size.min(MOST));
        if size > MOST {
            extended.add("size", size.to_string().as_bytes());
        }
        self.set_names(&mut header, extended);
        self.set_owner(&mut header, extended);
        set_time(&mut header, extended, stat.mtime);
        if let Some((major, minor)) = stat.device {
            header.set_device_major(major)?;
            header.set_device_minor(minor)?;
        }
        for (name, value) in &self.entry.xattrs {
            let keyword = match &name.0[..] {
                b"system.posix_acl_access" => Some("SCHILY.acl.access"),
                b"system.posix_acl_default" => Some("SCHILY.acl.default"),
                _ => None,
            };
            match keyword.zip(acl::text(value)) {
                Some((keyword, text)) => extended.add(keyword, text.as_bytes()),
                None => extended.add(attribute_keyword(&name.0), value),
            }
        }
        header.set_cksum();
        Ok(header)
    }

    fn set_names(&self, header: &mut Header, extended: &mut Extended) {
        let target = self.link.or(self.entry.target.as_deref());
        let long = [Some(self.path), target].into_iter().flatten().filter(|name| name.len() > 100);
        if long.clone().any(|name| str::from_utf8(name).is_err()) {
            extended.add("hdrcharset", b"BINARY");
        }
        if self.is_sparse() {
            extended.add("GNU.sparse.major", b"1");
            extended.add("GNU.sparse.minor", b"0");
            extended.add("GNU.sparse.name", self.path);
            extended.add("GNU.sparse.realsize", self.entry.stat.size.to_string().as_bytes());
        } else if self.path.len() > 100 {
            extended.add("path", self.path);
        }
        if let Some(target) = target.filter(|target| target.len() > 100) {
            extended.add("linkpath", target);
        }
        if let Some(ustar) = header.as_ustar_mut() {
            fill(&mut ustar.name, self.path);
            fill(&mut ustar.linkname, target.unwrap_or_default());
        }
    }

    fn set_owner(&self, header: &mut Header, extended: &mut Extended) {
        let stat = &self.entry.stat;
        header.set_uid(u64::from(stat.uid.min(MOST_ID)));
        header.set_gid(u64::from(stat.gid.min(MOST_ID)));
        for (keyword, id) in [("uid", stat.uid), ("gid", stat.gid)] {
            if id > MOST_ID {
                extended.add(keyword, id.to_string().as_bytes());
            }
        }
        let Some(ustar) = header.as_ustar_mut() else { return };
        // the names end with a NUL, which takes a byte
        for (keyword, name, field) in
            [("uname", &self.entry.user, &mut ustar.uname), ("gname", &self.entry.group, &mut ustar.gname)]
        {
            let Some(name) = name else { continue };
            if name.0.len() < field.len() {
                fill(field, &name.0);
            } else if str::from_utf8(&name.0).is_ok() {
                extended.add(keyword, &name.0);
            }
        }
    }
}

fn fill(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

fn set_time(header: &mut Header, extended: &mut Extended, Time(seconds, nanos): Time) {
    let plain = u64::try_from(seconds).ok().filter(|&s| s <= MOST);
    header.set_mtime(plain.unwrap_or(if seconds < 0 { 0 } else { MOST }));
    if plain.is_none() || nanos != 0 {
        extended.add("mtime", decimal(seconds, nanos).as_bytes());
    }
}

// The format counts nanoseconds up from the second below; a decimal number before 1970 counts down.
fn decimal(seconds: i64, nanos: u32) -> String {
    let text = match (seconds < 0, nanos) {
        (_, 0) => return seconds.to_string(),
        (false, nanos) => format!("{seconds}.{nanos:09}"),
        (true, nanos) => format!("-{}.{:09}", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanos),
    };
    text.trim_end_matches('0').to_owned()
}

fn write_extended(out: &mut dyn Write, path: &[u8], records: &[u8]) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    header.set_mode(0o644);
    header.set_size(records.len() as u64);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    if let Some(ustar) = header.as_ustar_mut() {
        let name = path.rsplit(|&b| b == b'/').find(|part| !part.is_empty()).unwrap_or(b".");
        fill(&mut ustar.name, &[b"PaxHeaders/", name].concat());
    }
    header.set_cksum();
    out.write_all(header.as_bytes())?;
    out.write_all(records)?;
    write_padding(out, records.len() as u64)
}

/// Fills the last block of a content of this size with zeros.
///
/// # Errors
/// If it cannot be written.
pub fn write_padding(out: &mut dyn Write, size: u64) -> io::Result<()> {
    let over = (size % BLOCK as u64) as usize;
    if over == 0 { Ok(()) } else { out.write_all(&[0; BLOCK][over..]) }
}

/// Writes the end of the archive.
///
/// # Errors
/// If it cannot be written.
pub fn write_end(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_themselves() {
        let record = |value: usize| {
            let mut extended = Extended::default();
            extended.add("k", &vec![b'v'; value]);
            extended.0
        };
        for size in (0..120).chain(980..1010) {
            let record = record(size);
            let text = String::from_utf8(record.clone()).unwrap();
            let (length, _) = text.split_once(' ').unwrap();
            assert_eq!(length.parse::<usize>().unwrap(), record.len());
        }
    }

    #[test]
    fn times_are_decimal_numbers() {
        assert_eq!(decimal(5, 0), "5");
        assert_eq!(decimal(5, 120_000_000), "5.12");
        assert_eq!(decimal(-1, 0), "-1");
        assert_eq!(decimal(-1, 750_000_000), "-0.25");
        assert_eq!(decimal(-3, 500_000_000), "-2.5");
        assert_eq!(decimal(i64::MIN, 1), "-9223372036854775807.999999999");
    }
}
