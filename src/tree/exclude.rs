//! What of a tree is left out, and how that is decided.
//!
//! * **Patterns** follow gitignore: relative to the root, `/` at the front ties to the root, `/` at the
//!   end means directories only, `**` any depth, `?` one byte, `!` takes back, and the last pattern that
//!   matches decides. A pattern that begins with the root's own path is taken as that path. Alternatives `{a,b}`
//!   work too. The patterns of the command line come first, then those of the files, in their order.
//! * A walk does not descend into a directory that matches; so, as in git, `!` cannot bring back
//!   what lies in one. `logs/*` with `!logs/keep` does what `logs/` with `!logs/keep` cannot.
//! * A directory marked by [`is_cache_dir`] or [`has_marker`] is kept itself, without its content.
//! * The root was named by somebody and is never left out, nor is its content if it is marked.
//!
//! Not here: staying on one file system (`-x`), for which the walk compares device numbers.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, openat, statat};

use crate::base::Name;
use crate::base::name::shown;
use crate::base::pattern;

/// The file that marks a cache directory (<https://bford.info/cachedir/>).
pub const CACHE_TAG: &str = "CACHEDIR.TAG";

/// What that file begins with; no newline needs to follow.
const CACHE_SIGNATURE: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What to leave out, as an operator says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Patterns (`--exclude`). A `#` at the front is part of the pattern.
    pub patterns: Vec<String>,
    /// Files with a pattern a line (`--exclude-file`); there `#` begins a comment.
    pub files: Vec<PathBuf>,
    /// Leave out the content of cache directories.
    pub caches: bool,
    /// Leave out the content of directories that hold an entry of such a name (`--exclude-if-present`).
    pub markers: Vec<OsString>,
}

impl Options {
    /// All patterns, those of the files too, as they would be given on the command line.
    ///
    /// # Errors
    /// If a file cannot be read or has a line that is no text.
    pub fn all_patterns(&self) -> Result<Vec<String>, ExcludeError> {
        let mut all = self.patterns.clone();
        for file in &self.files {
            let said = |(_, line): &(usize, String)| !line.trim().is_empty() && !line.starts_with('#');
            all.extend(lines_of(file)?.into_iter().filter(said).map(|(_, line)| line));
        }
        Ok(all)
    }
}

// The lines of a file of patterns, with their numbers from 1.
fn lines_of(file: &Path) -> Result<Vec<(usize, String)>, ExcludeError> {
    let text = std::fs::read(file).map_err(|source| ExcludeError::File { file: file.to_owned(), source })?;
    // git, too, forgives the mark that some editors put at the front
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&text);
    let lines = text.split(|&byte| byte == b'\n').enumerate().map(|(i, line)| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let pattern = str::from_utf8(line).map_err(|_| ExcludeError::Line {
            file: file.to_owned(),
            line: i + 1,
            pattern: line.to_owned(),
            why: "it is not UTF-8; use ? for each byte of such a name".to_owned(),
        })?;
        Ok((i + 1, pattern.to_owned()))
    });
    lines.collect()
}

/// Why the rules cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExcludeError {
    /// A pattern of the command line or the plan is not one.
    #[error("the exclude pattern `{}` is wrong: {why}", shown(.pattern.as_bytes()))]
    Pattern {
        /// As written.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// A line of a file is not a pattern.
    #[error("{}, line {line}: the pattern `{}` is wrong: {why}", shown_path(.file), shown(.pattern))]
    Line {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// As written.
        pattern: Vec<u8>,
        /// What is wrong with it.
        why: String,
    },
    /// A file of patterns could not be read.
    #[error("could not read the exclude file {}", shown_path(.file))]
    File {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A marker is not the name of an entry.
    #[error("the marker `{}` is not a file name", shown(.0.as_bytes()))]
    Marker(OsString),
    /// Each pattern is good, but together they are too much.
    #[error("the exclude patterns are too many or too long to be used together: {0}")]
    Together(String),
}

impl ExcludeError {
    /// What to do about it.
    pub fn next(&self) -> &'static str {
        match self {
            Self::Pattern { .. } | Self::Line { .. } => {
                "mend the pattern; a backslash before a special character takes its meaning away"
            }
            Self::File { .. } => "check the path given to --exclude-file",
            Self::Marker(_) => "name a file, without slashes, such as .nobackup",
            Self::Together(_) => "use fewer patterns",
        }
    }
}

fn shown_path(path: &Path) -> String {
    shown(path.as_os_str().as_bytes())
}

/// Why the content of a directory is left out. The directory itself is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// A cache: [`CACHE_TAG`] is kept, so that what is restored is known to be a cache again.
    Cache,
    /// It holds a marker: nothing in it is kept.
    Marked,
}

/// The rules for one root, ready to use from any thread.
#[derive(Clone, Debug)]
pub struct Excludes {
    // `None` without patterns, so that the usual walk pays nothing
    patterns: Option<Gitignore>,
    caches: bool,
    markers: Vec<OsString>,
}

impl Excludes {
    /// Reads the files of patterns and makes the rules for the tree at `root`, an absolute path.
    ///
    /// # Errors
    /// [`ExcludeError`], which names the pattern, the file and the line.
    pub fn build(root: &Path, options: &Options) -> Result<Self, ExcludeError> {
        let mut patterns = Patterns::new(root);
        for pattern in &options.patterns {
            let escape = if pattern.starts_with('#') { "\\" } else { "" };
            patterns
                .add(&format!("{escape}{pattern}"))
                .map_err(|why| ExcludeError::Pattern { pattern: pattern.clone(), why })?;
        }
        for file in &options.files {
            patterns.add_file(file)?;
        }
        if let Some(bad) = options.markers.iter().find(|name| !is_entry_name(name)) {
            return Err(ExcludeError::Marker(bad.clone()));
        }
        let patterns = pattern::end(&patterns.builder).map_err(ExcludeError::Together)?;
        Ok(Self {
            patterns: Some(patterns).filter(|patterns| !patterns.is_empty()),
            caches: options.caches,
            markers: options.markers.clone(),
        })
    }

    /// True if the patterns leave this entry out. `relative` is its path below the root, without `./`;
    /// that of the root itself, `.`, never matches. The answer supposes that its parents did not match.
    pub fn matches(&self, relative: &[u8], is_dir: bool) -> bool {
        let Some(patterns) = &self.patterns else {
            return false;
        };
        relative != b"." && patterns.matched(Path::new(OsStr::from_bytes(relative)), is_dir).is_ignore()
    }

    /// Whether the content of this open directory is left out.
    pub fn left_out(&self, dir: BorrowedFd<'_>) -> Option<LeftOut> {
        if has_marker(dir, &self.markers) {
            return Some(LeftOut::Marked);
        }
        (self.caches && is_cache_dir(dir)).then_some(LeftOut::Cache)
    }
}

// Gathers patterns, and turns those that begin with the root's path into such as are tied to the root.
struct Patterns {
    builder: GitignoreBuilder,
    root: Option<String>,
}

impl Patterns {
    fn new(root: &Path) -> Self {
        let root = root.to_str().map(|root| root.trim_end_matches('/').to_owned());
        Self { builder: pattern::begin("."), root: root.filter(|root| root.starts_with('/')) }
    }

    fn add(&mut self, pattern: &str) -> Result<(), String> {
        let (not, path) = match pattern.strip_prefix('!') {
            Some(path) => ("!", path),
            None => ("", pattern),
        };
        let below = self.root.as_deref().and_then(|root| path.strip_prefix(root));
        let tied = match below {
            // the root itself is never left out
            Some("" | "/") => return Ok(()),
            Some(below) if below.starts_with('/') => format!("{not}{below}"),
            _ => pattern.to_owned(),
        };
        pattern::add(&mut self.builder, &tied)
    }

    fn add_file(&mut self, file: &Path) -> Result<(), ExcludeError> {
        for (line, pattern) in lines_of(file)? {
            self.add(&pattern).map_err(|why| ExcludeError::Line {
                file: file.to_owned(),
                line,
                pattern: pattern.clone().into_bytes(),
                why,
            })?;
        }
        Ok(())
    }
}

/// The pattern that leaves out this directory below a root, and nothing else. In it, as in all that begin with a root's path, that stands
/// as it is; what follows is escaped. Each byte that is not UTF-8 stands for any one.
pub fn literal_pattern(root: &Name, below: &[u8]) -> String {
    let mut pattern = match str::from_utf8(&root.0) {
        Ok(root) => root.trim_end_matches('/').to_owned(),
        // no pattern can name it; tied to the root it is all the same
        Err(_) => String::new(),
    };
    pattern.push('/');
    for part in below.utf8_chunks() {
        for c in part.valid().chars() {
            if "*?[]{}\\!# ".contains(c) {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        part.invalid().iter().for_each(|_| pattern.push('?'));
    }
    pattern + "/"
}

fn is_entry_name(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    !matches!(bytes, b"" | b"." | b"..") && !bytes.iter().any(|byte| matches!(byte, b'/' | 0))
}

/// True if this directory says, by a regular file [`CACHE_TAG`] that begins with the signature, that it is
/// a cache. A directory of which that cannot be found out is none.
pub fn is_cache_dir(dir: BorrowedFd<'_>) -> bool {
    // not blocking, lest a fifo of this name holds up the walk
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Ok(tag) = openat(dir, CACHE_TAG, flags, Mode::empty()) else {
        return false;
    };
    let is_regular = fstat(&tag).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
    let mut start = [0; CACHE_SIGNATURE.len()];
    is_regular && File::from(tag).read_exact(&mut start).is_ok() && start == *CACHE_SIGNATURE
}

/// True if this directory has an entry, of any kind, with one of these names.
pub fn has_marker(dir: BorrowedFd<'_>, names: &[OsString]) -> bool {
    names.iter().any(|name| statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    fn options(patterns: &[&str]) -> Options {
        Options {
            patterns: patterns.iter().map(|&pattern| pattern.to_owned()).collect(),
            ..Options::default()
        }
    }

    fn rules(patterns: &[&str]) -> Excludes {
        Excludes::build(Path::new("/srv/app"), &options(patterns)).unwrap()
    }

    // Paths that end in a slash are directories.
    fn check(patterns: &[&str], out: &[&str], kept: &[&str]) {
        let rules = rules(patterns);
        let matches = |path: &str| rules.matches(path.trim_end_matches('/').as_bytes(), path.ends_with('/'));
        for path in out {
            assert!(matches(path), "{patterns:?} should leave out {path}");
        }
        for path in kept {
            assert!(!matches(path), "{patterns:?} should keep {path}");
        }
    }

    #[test]
    fn a_name_matches_at_any_depth_and_a_path_at_the_root() {
        check(&["*.log"], &["a.log", "x/y/a.log", "a.log/"], &["a.logs", "log"]);
        check(&["/build"], &["build", "build/"], &["x/build"]);
        check(&["var/log"], &["var/log/"], &["x/var/log/"]);
        check(&["a/**/z"], &["a/z", "a/b/c/z"], &["b/a/z"]);
        check(&["cache/**"], &["cache/a", "cache/a/b"], &["cache/"]);
        check(&["*.{o,a}"], &["x.o", "lib/y.a"], &["x.c"]);
    }

    #[test]
    fn a_slash_at_the_end_means_directories() {
        check(&["__pycache__/"], &["__pycache__/", "x/__pycache__/"], &["__pycache__", "x/__pycache__"]);
    }

    #[test]
    fn the_last_pattern_decides_and_an_exclamation_mark_takes_back() {
        check(&["logs/*", "!logs/keep"], &["logs/a", "logs/b/"], &["logs/", "logs/keep"]);
        check(&["!a.log", "*.log"], &["a.log"], &[]);
        check(&["\\!important"], &["!important"], &["important"]);
    }

    #[test]
    fn a_pattern_may_begin_with_the_path_of_the_root() {
        check(&["/srv/app/logs"], &["logs/"], &["x/logs/", "srv/app/logs"]);
        check(&["/srv/app/*", "!/srv/app/data"], &["x", "logs/"], &["data/"]);
        check(&["/srv/application", "/srv/app", "/srv/app/"], &["srv/application"], &["srv/app", ".", "a/"]);
        let at_slash = Excludes::build(Path::new("/"), &options(&["/proc"])).unwrap();
        assert!(at_slash.matches(b"proc", true) && !at_slash.matches(b"x/proc", true));
    }

    #[test]
    fn a_literal_pattern_matches_one_directory_below_its_root() {
        for root in ["/srv/app", "/srv/my app [1]{2}*?\\!#", "/srv/\u{fc}", "/"] {
            for below in ["backup", "a b/c", "*", "d?", "[x]", "{a,b}", "!n", "#n", "b\\n", "**/x", " e "] {
                let pattern = literal_pattern(&root.into(), below.as_bytes());
                let rules = Excludes::build(Path::new(root), &options(&[&pattern])).unwrap();
                assert!(rules.matches(below.as_bytes(), true), "{pattern} at {root}: {below}");
                for other in ["a", "x", "dx", "backup2", &format!("x/{below}")] {
                    assert!(!rules.matches(other.as_bytes(), true), "{pattern} at {root}: {other}");
                }
            }
        }
        let root = Path::new(OsStr::from_bytes(b"/srv/\xff"));
        let pattern = literal_pattern(&root.as_os_str().into(), b"r\xfe");
        let rules = Excludes::build(root, &options(&[&pattern])).unwrap();
        assert!(rules.matches(b"r\xfe", true) && !rules.matches(b"x/r\xfe", true), "{pattern}");
    }

    #[test]
    fn the_root_is_never_left_out() {
        check(&["*", ".*", "**", "."], &["x", "x/"], &["./"]);
        assert!(!rules(&["*"]).matches(b".", true));
    }

    #[test]
    fn names_that_are_not_utf8_match_too() {
        let rules = rules(&["*.tmp", "d?f"]);
        assert!(rules.matches(b"\xff\xfe.tmp", false));
        assert!(rules.matches(b"\xff/x.tmp", false));
        assert!(rules.matches(b"d\xfff", false));
        assert!(!rules.matches(b"\xff.txt", false));
        assert!(!rules.matches("dïf".as_bytes(), false), "? is one byte");
        assert!(rules.matches(b"new\nline.tmp", false));
    }

    #[test]
    fn a_wrong_pattern_is_named() {
        let error = |patterns: &[&str]| {
            Excludes::build(Path::new("/srv/app"), &options(patterns)).unwrap_err().to_string()
        };
        assert!(error(&["ok", "a{b"]).starts_with("the exclude pattern `a{b` is wrong: "));
        assert!(error(&["[z-a]\x1b"]).starts_with("the exclude pattern `[z-a]\\x1b` is wrong: "));
    }

    #[test]
    fn a_file_has_comments_empty_lines_and_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rules");
        std::fs::write(&file, "\u{feff}*.o\r\n\n# not this\n\\#this  \n").unwrap();
        let options =
            Options { patterns: vec!["#that".to_owned()], files: vec![file.clone()], ..Options::default() };
        let rules = Excludes::build(dir.path(), &options).unwrap();
        assert!(
            rules.matches(b"x.o", false) && rules.matches(b"#this", false) && rules.matches(b"#that", false)
        );
        assert!(!rules.matches(b"# not this", false));

        std::fs::write(&file, b"*.o\n\n{\n").unwrap();
        let error = Excludes::build(dir.path(), &options).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{}, line 3: the pattern `{{` is wrong: ", file.display())),
            "{error}"
        );
        std::fs::write(&file, b"a\xff").unwrap();
        let error = Excludes::build(dir.path(), &options).unwrap_err().to_string();
        assert!(error.contains("line 1: the pattern `a\\xff` is wrong: it is not UTF-8"), "{error}");
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(Excludes::build(dir.path(), &options), Err(ExcludeError::File { .. })));
    }

    fn check_dir(fill: impl Fn(&Path), expected: Option<LeftOut>) {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path());
        let options = Options { caches: true, markers: vec![".nobackup".into()], ..Options::default() };
        let rules = Excludes::build(dir.path(), &options).unwrap();
        assert_eq!(rules.left_out(File::open(dir.path()).unwrap().as_fd()), expected);
    }

    #[test]
    fn a_cache_is_known_by_the_signature_in_a_regular_file() {
        let tag =
            |content: &'static [u8]| move |dir: &Path| std::fs::write(dir.join(CACHE_TAG), content).unwrap();
        check_dir(tag(CACHE_SIGNATURE), Some(LeftOut::Cache));
        check_dir(tag(b"Signature: 8a477f597d28d172789f06886806bc55\n# by cargo\n"), Some(LeftOut::Cache));
        check_dir(tag(b"Signature: 8a477f597d28d172789f06886806bc5"), None);
        check_dir(tag(b"Signature: 8A477F597D28D172789F06886806BC55"), None);
        check_dir(|_| {}, None);
        check_dir(|dir| std::fs::create_dir(dir.join(CACHE_TAG)).unwrap(), None);
        let fifo = |dir: &Path| {
            rustix::fs::mknodat(rustix::fs::CWD, dir.join(CACHE_TAG), FileType::Fifo, Mode::RUSR, 0).unwrap();
        };
        check_dir(fifo, None);
        let link = |dir: &Path| {
            std::fs::write(dir.join("real"), CACHE_SIGNATURE).unwrap();
            std::os::unix::fs::symlink("real", dir.join(CACHE_TAG)).unwrap();
        };
        check_dir(link, None);
    }

    #[test]
    fn a_marker_may_be_of_any_kind() {
        check_dir(|dir| std::fs::write(dir.join(".nobackup"), "").unwrap(), Some(LeftOut::Marked));
        check_dir(
            |dir| std::os::unix::fs::symlink("gone", dir.join(".nobackup")).unwrap(),
            Some(LeftOut::Marked),
        );
        check_dir(|dir| std::fs::write(dir.join("x.nobackup"), "").unwrap(), None);
        for bad in ["", ".", "..", "a/b"] {
            let options = Options { markers: vec![bad.into()], ..Options::default() };
            assert!(matches!(Excludes::build(Path::new("/"), &options), Err(ExcludeError::Marker(_))));
        }
    }
}
