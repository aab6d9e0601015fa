//! The canonical line of an entry.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{CHUNKS, DATABASE, EXACT, Entry, PATH, Stat, TORN, Time, Type};
use crate::base::id::hex_of;
use crate::base::name::write_json;

pub(super) fn write_number(out: &mut Vec<u8>, key: &str, number: impl itoa_like::Integer) {
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
/// manifest begins with these bytes and goes on with `,` or `}`, nothing has changed: [`line_says`](super::line_says).
pub fn write_stat(out: &mut Vec<u8>, path: &[u8], stat: &Stat) {
    out.extend_from_slice(PATH);
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
            out.extend_from_slice(if i == 0 { CHUNKS } else { b"," });
            out.push(b'"');
            out.extend_from_slice(&hex_of(&chunk.0));
            out.push(b'"');
        }
        if !self.chunks.is_empty() {
            out.push(b']');
        }
    }
}
