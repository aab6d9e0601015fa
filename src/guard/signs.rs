//! What people should know of a change and nothing is decided by: a new kind of error in a log, another schema of a database.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::base::name::shown;
use crate::check::Mark;

/// So much of a log before the change is read, to know what it said all the time.
const BEFORE: u64 = 8 << 20;
/// A line is looked at up to here.
const LINE: u64 = 4096;
/// A line is shown up to so many characters.
const SHOWN: usize = 160;
/// So many kinds of one log are told.
const TOLD: usize = 5;
/// What a line of an error has, in small letters.
const WORDS: [&str; 6] = ["error", "exception", "traceback", "critical", "fatal", "panic"];

/// One log, and the kinds of errors that it had before the change.
pub struct Signs {
    name: String,
    path: PathBuf,
    known: BTreeSet<String>,
    at: Option<(u64, u64)>,
    told: usize,
}

impl Signs {
    /// Of the log of this check, which was marked when the change began.
    pub fn new(name: &str, path: PathBuf, mark: Option<&Mark>) -> Self {
        let at = mark.map(|mark| (mark.inode, mark.offset));
        let mut found = Self { name: name.to_owned(), path, known: BTreeSet::new(), at, told: 0 };
        if let Some((inode, offset)) = at {
            let begin = offset.saturating_sub(BEFORE);
            let kinds = lines(&found.path, Some(inode), begin, Some(offset)).unwrap_or_default();
            found.known = kinds.0.iter().filter_map(|line| kind(line)).collect();
        }
        found
    }

    /// Each kind of error that is new since the last look, in a sentence.
    pub fn look(&mut self) -> Vec<String> {
        let inode = std::fs::metadata(&self.path).ok().map(|found| found.ino());
        // another file in its place is read from its beginning
        let begin = self.at.filter(|(known, _)| Some(*known) == inode).map_or(0, |(_, offset)| offset);
        let Ok((lines, end)) = lines(&self.path, inode, begin, None) else { return Vec::new() };
        self.at = inode.map(|inode| (inode, end));
        let mut new = Vec::new();
        for line in lines {
            let Some(kind) = kind(&line) else { continue };
            if !self.known.insert(kind) {
                continue;
            }
            self.told += 1;
            match self.told {
                told if told <= TOLD => new.push(format!(
                    "{}: a kind of error that the log did not have before the change: {}",
                    self.name,
                    shown(cut(&line).as_bytes())
                )),
                told if told == TOLD + 1 => new.push(format!("{}: and more new kinds of errors", self.name)),
                _ => {}
            }
        }
        new
    }
}

fn cut(line: &str) -> String {
    line.trim().chars().take(SHOWN).collect()
}

// Whole lines of a file from a place on, and where they end.
fn lines(path: &Path, inode: Option<u64>, begin: u64, end: Option<u64>) -> io::Result<(Vec<String>, u64)> {
    let mut file = File::open(path)?;
    if Some(file.metadata()?.ino()) != inode {
        return Ok((Vec::new(), begin));
    }
    file.seek(SeekFrom::Start(begin))?;
    let left = end.map_or(u64::MAX, |end| end.saturating_sub(begin));
    let mut reader = BufReader::new(file.take(left));
    let (mut found, mut at, mut line) = (Vec::new(), begin, Vec::new());
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        // one that is not whole is read when it is
        if read == 0 || line.last() != Some(&b'\n') {
            return Ok((found, at));
        }
        at += read as u64;
        line.truncate(usize::try_from(LINE).unwrap_or(usize::MAX));
        let text = String::from_utf8_lossy(&line).into_owned();
        if is_error(&text) {
            found.push(text);
        }
    }
}

fn is_error(line: &str) -> bool {
    let line = line.to_lowercase();
    WORDS.iter().any(|word| line.contains(word))
}

/// What lines of the same error have in common: the line without its numbers, which are times, addresses and ids.
fn kind(line: &str) -> Option<String> {
    is_error(line).then(|| {
        let mut kind = String::new();
        for word in line.split_whitespace() {
            let has_digit = word.bytes().any(|byte| byte.is_ascii_digit());
            kind.push_str(if has_digit { "#" } else { word });
            kind.push(' ');
        }
        kind
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_new_kind_of_error_is_told_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let before = "12:00:01 ERROR no route to 10.0.0.1\n12:00:02 all is well\n";
        std::fs::write(&path, before).unwrap();
        let inode = std::fs::metadata(&path).unwrap().ino();
        let mark = Mark { inode, offset: before.len() as u64, before: String::new() };
        let mut signs = Signs::new("log", path.clone(), Some(&mark));
        assert_eq!(signs.look(), [""; 0]);
        let more =
            "12:01:00 ERROR no route to 10.0.0.7\n12:01:01 KeyError: 'topic'\n12:01:02 Fatal: half a l";
        std::fs::write(&path, format!("{before}{more}")).unwrap();
        let found = signs.look();
        assert!(found.len() == 1 && found[0].contains("KeyError: 'topic'"), "{found:?}");
        std::fs::write(&path, format!("{before}{more}ine\n12:02:00 KeyError: 'topic'\n")).unwrap();
        let found = signs.look();
        assert!(found.len() == 1 && found[0].contains("half a line"), "{found:?}");
        assert_eq!(signs.look(), [""; 0]);
        // rotated away
        std::fs::rename(&path, dir.path().join("log.1")).unwrap();
        std::fs::write(&path, "12:03:00 CRITICAL disk\n").unwrap();
        assert_eq!(signs.look().len(), 1);
    }
}
