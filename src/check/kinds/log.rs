//! `log`: lines that must or must not be there, since the last look, across rotation.
//!
//! The mark is inode, offset and a hash of what lies before it. A log that was renamed is found by them
//! among its neighbours and read on from there; so is the copy that `copytruncate` leaves. Compressed ones
//! are not read, which is said.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use regex::bytes::Regex;
use sha2::{Digest as _, Sha256};

use super::super::config::{Log, Since};
use super::super::judge::{regex, short};
use super::super::run::{Context, Mark};
use super::super::verdict::{Found, evidence};
use crate::base::size;

/// So much before a mark is hashed.
const BEFORE: u64 = 256;
/// A longer line is judged in pieces.
const LONGEST: u64 = 1 << 20;
/// So many lines are kept as evidence.
const KEPT: usize = 10;

// A file and where its reading begins.
struct Piece {
    path: PathBuf,
    from: u64,
}

#[derive(Default)]
struct Seen {
    lines: u64,
    forbidden: u64,
    kept: Vec<String>,
}

pub fn look(check: &Log, mark: Option<&Mark>, context: &Context) -> Found {
    let path = context.path(&check.log);
    let patterns = |list: &[String]| list.iter().map(|pattern| regex(pattern)).collect::<Result<Vec<_>, _>>();
    let (forbid, require) = match (patterns(&check.forbid.0), patterns(&check.require.0)) {
        (Ok(forbid), Ok(require)) => (forbid, require),
        (Err(why), _) | (_, Err(why)) => return Found::error(why),
    };
    let mark = mark.filter(|_| check.since == Since::Mark);
    let (pieces, lost) = match pieces(&path, mark) {
        Ok(found) => found,
        Err(error) => return super::of_io(&path, &error),
    };
    let mut seen = Seen::default();
    let mut missing: Vec<bool> = vec![true; require.len()];
    let mut end = None;
    for (i, piece) in pieces.iter().enumerate() {
        // a line that is being written is for the next time, unless there is none
        let is_last = i + 1 == pieces.len() && check.since == Since::Mark;
        match read(piece, is_last, &forbid, &require, &mut missing, &mut seen) {
            Ok(read_to) => end = Some(read_to),
            Err(error) => return super::of_io(&piece.path, &error),
        }
    }
    let mut found = judge(check, &seen, &missing, mark.is_some());
    if lost {
        found
            .reason
            .push_str("; the log was rotated, and what was written between is not to be found uncompressed");
    }
    found.mark = end.map(Box::new);
    found.forbidden = Some(seen.forbidden);
    found
}

fn judge(check: &Log, seen: &Seen, missing: &[bool], is_marked: bool) -> Found {
    let since = if is_marked { "since the last look" } else { "in the log" };
    let lines = size::plural(seen.lines, "line");
    let observed = seen.kept.join("\n");
    let expected = match check.max {
        0 => "no forbidden line".to_owned(),
        most => format!("at most {}", size::plural(most, "forbidden line")),
    };
    if seen.forbidden > check.max {
        let first = seen.kept.first().map(|line| format!(": {}", short(line))).unwrap_or_default();
        let count = size::plural(seen.forbidden, "forbidden line");
        return Found::fail(format!("{count} of {lines} {since}{first}")).saw(observed).expected(expected);
    }
    if let Some(at) = missing.iter().position(|is_missing| *is_missing) {
        let pattern = evidence(check.require.0[at].as_bytes());
        let reason = format!("none of {lines} {since} matches {}", short(&pattern));
        return Found::fail(reason).saw(lines).expected(format!("a line matches {pattern}"));
    }
    Found::pass(format!("{} of {lines} {since}", size::plural(seen.forbidden, "forbidden line")))
        .saw(observed)
        .expected(expected)
}

// What is to be read, oldest first; true if something between is not to be found.
fn pieces(path: &Path, mark: Option<&Mark>) -> io::Result<(Vec<Piece>, bool)> {
    let whole = |path: &Path| Piece { path: path.to_owned(), from: 0 };
    let current = open(path)?;
    let Some(mark) = mark else { return Ok((vec![whole(path)], false)) };
    if fits(&current, mark) && current.metadata()?.ino() == mark.inode {
        return Ok((vec![Piece { path: path.to_owned(), from: mark.offset }], false));
    }
    let rotated = neighbours(path);
    // by inode where it was renamed, by what lies before the mark where it was copied
    let place = rotated.iter().rposition(|(neighbour, _, inode)| {
        *inode == mark.inode && open(neighbour).is_ok_and(|file| fits(&file, mark))
    });
    let place = place.or_else(|| {
        let is_copy =
            |neighbour: &PathBuf| mark.offset > 0 && open(neighbour).is_ok_and(|file| fits(&file, mark));
        rotated.iter().rposition(|(neighbour, ..)| is_copy(neighbour))
    });
    let Some(place) = place else { return Ok((vec![whole(path)], true)) };
    let mut pieces = vec![Piece { path: rotated[place].0.clone(), from: mark.offset }];
    pieces.extend(rotated[place + 1..].iter().map(|(neighbour, ..)| whole(neighbour)));
    pieces.push(whole(path));
    Ok((pieces, false))
}

fn open(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let file = File::from(rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

// True if the file holds what was read when the mark was made.
fn fits(file: &File, mark: &Mark) -> bool {
    file.metadata().is_ok_and(|m| m.len() >= mark.offset)
        && before(file, mark.offset).is_ok_and(|h| h == mark.before)
}

fn before(file: &File, offset: u64) -> io::Result<String> {
    let count = offset.min(BEFORE);
    let mut bytes = vec![0; count as usize];
    file.read_exact_at(&mut bytes, offset - count)?;
    Ok(hex::encode(Sha256::digest(&bytes)))
}

// Files that a rotation made of this log, by their names (`a.log.1`, `a.log-20261124`, `a-20261124.log`),
// oldest first by their times.
fn neighbours(path: &Path) -> Vec<(PathBuf, (i64, i64), u64)> {
    use std::os::unix::ffi::OsStrExt as _;
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let stem = path.file_stem().unwrap_or(name).as_bytes();
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let other = entry.file_name();
            let rest = other.as_bytes().strip_prefix(stem)?;
            let is_rotated = other != name && rest.first().is_some_and(|first| b".-_".contains(first));
            let metadata = entry.metadata().ok().filter(|m| is_rotated && m.is_file())?;
            let is_packed =
                [".gz", ".zst", ".xz", ".bz2"].iter().any(|end| other.as_bytes().ends_with(end.as_bytes()));
            (!is_packed).then(|| (entry.path(), (metadata.mtime(), metadata.mtime_nsec()), metadata.ino()))
        })
        .collect();
    found.sort_by_key(|(_, time, _)| *time);
    found
}

fn read(
    piece: &Piece,
    is_last: bool,
    forbid: &[Regex],
    require: &[Regex],
    missing: &mut [bool],
    seen: &mut Seen,
) -> io::Result<Mark> {
    let mut file = open(&piece.path)?;
    file.seek(SeekFrom::Start(piece.from))?;
    // what is written while this reads is for the next time
    let size = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(256 << 10, (&file).take(size.saturating_sub(piece.from)));
    let mut line = Vec::new();
    let mut at = piece.from;
    loop {
        line.clear();
        let count = reader.by_ref().take(LONGEST).read_until(b'\n', &mut line)? as u64;
        if count == 0 || (is_last && line.last() != Some(&b'\n') && count < LONGEST) {
            break;
        }
        at += count;
        judge_line(line.trim_ascii_end(), forbid, require, missing, seen);
    }
    Ok(Mark { inode: file.metadata()?.ino(), offset: at, before: before(&file, at)? })
}

fn judge_line(line: &[u8], forbid: &[Regex], require: &[Regex], missing: &mut [bool], seen: &mut Seen) {
    seen.lines += 1;
    if forbid.iter().any(|pattern| pattern.is_match(line)) {
        seen.forbidden += 1;
        if seen.kept.len() < KEPT {
            seen.kept.push(evidence(&line[..line.len().min(300)]));
        }
    }
    for (is_missing, pattern) in missing.iter_mut().zip(require) {
        *is_missing = *is_missing && !pattern.is_match(line);
    }
}
