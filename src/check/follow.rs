//! Reads a log on from where it was read to the last time, across its rotation.
//!
//! A [`Mark`] is inode, offset and a hash of what lies before it. A log that was renamed is found by them among its
//! neighbours and read on from there; so is the copy that `copytruncate` leaves, packed by gzip or zstd or not. Files
//! are opened when they are found, so that a rotation meanwhile changes nothing of what is read; where the file itself
//! is cut at its beginning while it is read, [`is_cut`] tells, and the reading is done again.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

use super::run::Mark;
use crate::base::time::Timestamp;

/// So much before a mark is hashed.
const BEFORE: u64 = 256;
/// A longer line is given in pieces.
const LONGEST: u64 = 1 << 20;
/// So many packed files are looked through for where a mark belongs, the newest first.
const MAX_PACKED: usize = 8;

/// Where a reading begins.
#[derive(Clone, Copy, Debug)]
pub enum Begin<'m> {
    /// At the start of the file.
    Start,
    /// Where it ended the last time.
    Mark(&'m Mark),
    /// At the start of the oldest file that was still written to at this time.
    Time(Timestamp),
}

/// What of the file's end is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Whole lines: one that is being written is for the next time.
    WholeLines,
    /// All there is.
    All,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// Where the next reading begins.
    pub mark: Mark,
    /// How many lines there were.
    pub lines: u64,
    /// True if something that was written after the mark is not to be found.
    pub is_lost: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
}

// A file and where its reading begins.
struct Piece {
    file: File,
    packing: Packing,
    from: u64,
}

struct Neighbour {
    file: File,
    packing: Packing,
    inode: u64,
    modified: (i64, i64),
    name: Vec<u8>,
}

/// True if a reading failed because the file was cut at its beginning meanwhile.
pub fn is_cut(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
}

/// Gives each line, without its end, to `line`. A log that is cut while it is read is an error that [`is_cut`] knows.
///
/// # Errors
/// If the log cannot be read, or is no regular file.
pub fn follow(path: &Path, begin: Begin<'_>, end: End, line: &mut dyn FnMut(&[u8])) -> io::Result<Followed> {
    let (pieces, is_lost) = pieces(path, begin)?;
    let mut lines = 0;
    let mut mark = None;
    let count = pieces.len();
    for (i, piece) in pieces.into_iter().enumerate() {
        let end = if i + 1 == count { end } else { End::All };
        if i + 1 == count {
            mark = Some(read_living(&piece, end, &mut lines, line)?);
        } else {
            let mut stream = piece.file.try_clone()?;
            stream.seek(SeekFrom::Start(0))?;
            let mut stream = unpacked(stream, piece.packing)?;
            io::copy(&mut stream.by_ref().take(piece.from), &mut io::sink())?;
            read_lines(stream, end, &mut lines, line)?;
        }
    }
    let mark = mark.ok_or_else(|| io::Error::other("there is no log"))?;
    Ok(Followed { mark, lines, is_lost })
}

/// The mark for this place of a file.
///
/// # Errors
/// If the file cannot be read or is shorter.
pub fn mark_at(file: &File, offset: u64) -> io::Result<Mark> {
    Ok(Mark { inode: file.metadata()?.ino(), offset, before: before(file, offset)? })
}

/// True if this file holds, where the mark says, what was read when the mark was made.
pub fn fits(file: &File, mark: &Mark) -> bool {
    file.metadata().is_ok_and(|m| m.len() >= mark.offset)
        && before(file, mark.offset).is_ok_and(|hash| hash == mark.before)
}

// What is to be read, oldest first; true if something between is not to be found.
fn pieces(path: &Path, begin: Begin<'_>) -> io::Result<(Vec<Piece>, bool)> {
    let current = open(path)?;
    let inode = current.metadata()?.ino();
    let living = |file, from| Piece { file, packing: Packing::Plain, from };
    let whole = |n: Neighbour| Piece { file: n.file, packing: n.packing, from: 0 };
    match begin {
        Begin::Start => Ok((vec![living(current, 0)], false)),
        Begin::Time(time) => {
            let is_wanted = |n: &Neighbour| n.modified.0 >= time.parts().0;
            let mut pieces: Vec<Piece> =
                neighbours(path, inode).into_iter().filter(is_wanted).map(whole).collect();
            pieces.push(living(current, 0));
            Ok((pieces, false))
        }
        Begin::Mark(mark) => {
            if inode == mark.inode && fits(&current, mark) {
                return Ok((vec![living(current, mark.offset)], false));
            }
            let mut rotated = neighbours(path, inode);
            let Some(place) = place_of(mark, &rotated) else { return Ok((vec![living(current, 0)], true)) };
            let mut pieces: Vec<Piece> = rotated.drain(place..).map(whole).collect();
            pieces[0].from = mark.offset;
            pieces.push(living(current, 0));
            Ok((pieces, false))
        }
    }
}

// By inode where it was renamed, by what lies before the mark where it was copied or packed.
fn place_of(mark: &Mark, rotated: &[Neighbour]) -> Option<usize> {
    let plain = |n: &Neighbour| n.packing == Packing::Plain && fits(&n.file, mark);
    rotated
        .iter()
        .rposition(|n| n.inode == mark.inode && (plain(n) || fits_packed(n, mark)))
        .or_else(|| rotated.iter().rposition(|n| mark.offset > 0 && plain(n)))
        .or_else(|| {
            let packed = rotated.iter().enumerate().rev().filter(|(_, n)| n.packing != Packing::Plain);
            let mut packed = packed.take(MAX_PACKED).filter(|_| mark.offset > 0);
            packed.find(|(_, n)| fits_packed(n, mark)).map(|(at, _)| at)
        })
}

fn fits_packed(neighbour: &Neighbour, mark: &Mark) -> bool {
    let look = || -> io::Result<bool> {
        if neighbour.packing == Packing::Plain {
            return Ok(false);
        }
        let count = mark.offset.min(BEFORE);
        let mut stream = unpacked(neighbour.file.try_clone()?, neighbour.packing)?;
        let skipped = io::copy(&mut stream.by_ref().take(mark.offset - count), &mut io::sink())?;
        let mut bytes = Vec::new();
        stream.take(count).read_to_end(&mut bytes)?;
        Ok(skipped + bytes.len() as u64 == mark.offset && hash(&bytes) == mark.before)
    };
    let found = look().unwrap_or(false);
    // descriptors that are cloned share their place
    let _ = (&neighbour.file).seek(SeekFrom::Start(0));
    found
}

fn unpacked(file: File, packing: Packing) -> io::Result<Box<dyn Read>> {
    Ok(match packing {
        Packing::Plain => Box::new(file),
        Packing::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(128 << 10, file))),
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(file)?),
    })
}

fn open(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

fn before(file: &File, offset: u64) -> io::Result<String> {
    let count = offset.min(BEFORE);
    let mut bytes = vec![0; count as usize];
    file.read_exact_at(&mut bytes, offset - count)?;
    Ok(hash(&bytes))
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

// Files that a rotation made of this log, oldest first by their times.
fn neighbours(path: &Path, current: u64) -> Vec<Neighbour> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<Neighbour> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let other = entry.file_name();
            if !is_rotated(name.as_bytes(), other.as_bytes()) || !entry.file_type().ok()?.is_file() {
                return None;
            }
            let file = open(&entry.path()).ok()?;
            let metadata = file.metadata().ok()?;
            Some(Neighbour {
                packing: packing_of(other.as_bytes())?,
                inode: metadata.ino(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
                name: other.as_bytes().to_vec(),
                file,
            })
        })
        .filter(|n| n.inode != current)
        .collect();
    // what is being packed is there twice for a moment
    let plain: Vec<Vec<u8>> =
        found.iter().filter(|n| n.packing == Packing::Plain).map(|n| n.name.clone()).collect();
    found.retain(|n| n.packing == Packing::Plain || !plain.iter().any(|name| n.name.starts_with(name)));
    found.sort_by(|a, b| (a.modified, &a.name).cmp(&(b.modified, &b.name)));
    found
}

fn packing_of(name: &[u8]) -> Option<Packing> {
    match name.rsplit(|&b| b == b'.').next() {
        Some(b"gz") => Some(Packing::Gzip),
        Some(b"zst") => Some(Packing::Zstd),
        Some(b"xz" | b"bz2" | b"lz4") => None,
        _ => Some(Packing::Plain),
    }
}

// `a.log.1`, `a.log-20261124`, `a.log.old`, `a-20261124.log`, `a_20261124_101112.log.gz`; not `a_debug.log`.
fn is_rotated(log: &[u8], other: &[u8]) -> bool {
    let stem = match log.iter().rposition(|&b| b == b'.') {
        Some(at) if at > 0 => &log[..at],
        _ => log,
    };
    let rest = other.strip_prefix(log).or_else(|| other.strip_prefix(stem)).unwrap_or_default();
    match rest {
        [b'.' | b'-' | b'_', rest @ ..] => {
            rest.first().is_some_and(u8::is_ascii_digit) || rest.starts_with(b"old")
        }
        _ => false,
    }
}

// The file that is written to: what comes while this reads is for the next time.
fn read_living(piece: &Piece, end: End, lines: &mut u64, line: &mut dyn FnMut(&[u8])) -> io::Result<Mark> {
    let mut file = &piece.file;
    let size = file.metadata()?.len();
    let stamp = |file: &File| -> io::Result<(String, String)> {
        Ok((before(file, piece.from)?, before(file, size.min(BEFORE))?))
    };
    let cut = || io::Error::new(io::ErrorKind::Interrupted, "it was rotated while it was read");
    let began = stamp(file)?;
    file.seek(SeekFrom::Start(piece.from))?;
    let room = size.saturating_sub(piece.from);
    let read = read_lines(file.take(room), end, lines, line)?;
    let at = piece.from + read;
    let is_same = file.metadata()?.len() >= size && stamp(file).is_ok_and(|now| now == began);
    if !is_same || (read < room && end == End::All) {
        return Err(cut());
    }
    mark_at(file, at).map_err(|_| cut())
}

// Returns how many bytes the lines had.
fn read_lines(stream: impl Read, end: End, lines: &mut u64, line: &mut dyn FnMut(&[u8])) -> io::Result<u64> {
    let mut reader = BufReader::with_capacity(256 << 10, stream);
    let mut text = Vec::new();
    let mut at = 0;
    loop {
        text.clear();
        let count = reader.by_ref().take(LONGEST).read_until(b'\n', &mut text)? as u64;
        let is_whole = text.last() == Some(&b'\n') || count == LONGEST;
        if count == 0 || (end == End::WholeLines && !is_whole) {
            return Ok(at);
        }
        at += count;
        // a writer that was not told of a rotation leaves a hole
        let zeros = text.iter().take_while(|&&b| b == 0).count();
        if zeros == 0 || zeros < text.len() {
            *lines += 1;
            line(text[zeros..].trim_ascii_end());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_names_are_told_from_other_logs() {
        let is = |other: &str| is_rotated(b"aura.log", other.as_bytes());
        for name in
            ["aura.log.1", "aura.log-20261124", "aura.log.old", "aura_20261124_101112.log", "aura-2.log"]
        {
            assert!(is(name), "{name}");
        }
        for name in ["aura.log", "aura_debug.log", "aura2.log", "aura.pid", "x.log", "aura.log.swp"] {
            assert!(!is(name), "{name}");
        }
        assert!(is_rotated(b"access", b"access.1.gz"));
    }

    fn read(path: &Path, mark: Option<&Mark>) -> (Vec<String>, Followed) {
        let mut lines = Vec::new();
        let begin = mark.map_or(Begin::Start, Begin::Mark);
        let followed = follow(path, begin, End::WholeLines, &mut |line| {
            lines.push(String::from_utf8_lossy(line).into_owned());
        });
        (lines, followed.unwrap())
    }

    #[test]
    fn a_packed_log_is_read_on() {
        use std::io::Write as _;
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("a.log");
        std::fs::write(&log, "one\ntwo\n").unwrap();
        let (_, first) = read(&log, None);
        let pack = |name: &str, text: &[u8]| {
            let file = File::create(dir.path().join(name)).unwrap();
            if name.ends_with("gz") {
                let mut gz = flate2::write::GzEncoder::new(file, flate2::Compression::default());
                gz.write_all(text).unwrap();
                gz.finish().unwrap();
            } else {
                zstd::stream::copy_encode(text, file, 3).unwrap();
            }
        };
        for name in ["a.log.1.gz", "a_20261124_101112.log.zst"] {
            pack(name, b"one\ntwo\nthree\n");
            std::fs::remove_file(&log).unwrap();
            std::fs::write(&log, "four\n").unwrap();
            let (lines, second) = read(&log, Some(&first.mark));
            assert_eq!(
                (lines.as_slice(), second.is_lost),
                (&["three".to_owned(), "four".to_owned()][..], false)
            );
            std::fs::remove_file(dir.path().join(name)).unwrap();
        }
        pack("a.log.1.gz", b"other\n");
        assert!(read(&log, Some(&first.mark)).1.is_lost);
    }

    #[test]
    fn a_file_that_is_cut_while_it_is_read_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("a.log");
        let text: String = (0..1000).map(|i| format!("line {i}\n")).collect();
        std::fs::write(&log, &text).unwrap();
        let mut is_first = true;
        let error = follow(&log, Begin::Start, End::WholeLines, &mut |_| {
            if std::mem::take(&mut is_first) {
                std::fs::write(&log, &text[4000..]).unwrap();
            }
        });
        assert!(is_cut(&error.unwrap_err()));
    }

    #[test]
    fn zeros_that_nobody_wrote_are_no_lines() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("a.log");
        std::fs::write(&log, [&[0; 5000][..], b"one\ntwo\n"].concat()).unwrap();
        assert_eq!(read(&log, None).0, ["one", "two"]);
    }
}
