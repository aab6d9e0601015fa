//! Ways to break the copy on purpose: a plan whose checks stay green then would not have noticed the real thing.

use std::fs::{self, FileTimes, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::Regex;

use super::Subject;
use super::setting::{self, Setting};
use crate::base::name::Name;
use crate::check::{Check, Kind as CheckKind, PortName};
use crate::database::sqlite;
use crate::tree::exclude::{Excludes, Options};

/// How old data is made to look.
const AGE: Duration = Duration::from_secs(30 * 86_400);
/// Directories with what others wrote: no test of the application reads every file there.
const FOREIGN: [&str; 12] = [
    ".git",
    ".hg",
    ".svn",
    "node_modules",
    "venv",
    ".venv",
    "site-packages",
    "__pycache__",
    "vendor",
    "target",
    ".cache",
    ".tox",
];

/// A way to break the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A file of the application is not there.
    MissingFile,
    /// A database is cut in half.
    TruncatedDatabase,
    /// The server ends as soon as it was ready.
    StoppedServer,
    /// The server is told another port.
    WrongPort,
    /// A setting has another value.
    WrongSetting,
    /// The data are those of long ago.
    OldData,
    /// Some bytes of a file are others.
    FlippedBytes,
}

impl Sabotage {
    /// All of them, in the order in which they are tried.
    pub const ALL: [Self; 7] = [
        Self::MissingFile,
        Self::TruncatedDatabase,
        Self::StoppedServer,
        Self::WrongPort,
        Self::WrongSetting,
        Self::OldData,
        Self::FlippedBytes,
    ];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::MissingFile => "a missing file",
            Self::TruncatedDatabase => "a truncated database",
            Self::StoppedServer => "a stopped server",
            Self::WrongPort => "a wrong port",
            Self::WrongSetting => "a wrong setting",
            Self::OldData => "old data",
            Self::FlippedBytes => "flipped bytes",
        }
    }

    /// A check that would notice it, for plans where none does.
    pub fn advice(self) -> &'static str {
        match self {
            Self::MissingFile | Self::FlippedBytes => {
                "a `file` check with sha256, or a test that holds the files against a list of hashes"
            }
            Self::TruncatedDatabase => "an `sql` check with integrity = true",
            Self::StoppedServer => "an `http` or `port` check of the server",
            Self::WrongPort | Self::WrongSetting => {
                "a `json` check of the setting, or an `http` check that depends on it"
            }
            Self::OldData => "an `sql` check of the newest row's age, or a `file` check with max_age",
        }
    }
}

/// What became of an attempt to break the copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The copy is broken, so.
    Done(String),
    /// There is nothing that could be broken this way.
    Nothing(&'static str),
}

/// Breaks the copy at `tree`. [`Sabotage::StoppedServer`] is not done to files: it is for who runs the server.
///
/// # Errors
/// If the copy cannot be read or written.
pub fn apply(sabotage: Sabotage, subject: &Subject<'_>, tree: &Path) -> io::Result<Attempt> {
    let copy = Copy { subject, tree };
    match sabotage {
        Sabotage::MissingFile => copy.missing_file(),
        Sabotage::FlippedBytes => copy.flipped_bytes(),
        Sabotage::TruncatedDatabase => copy.truncated_database(),
        Sabotage::WrongPort => copy.wrong_port(),
        Sabotage::WrongSetting => copy.wrong_setting(),
        Sabotage::OldData => copy.old_data(),
        Sabotage::StoppedServer => Ok(Attempt::Nothing("the plan starts no server")),
    }
}

struct Copy<'a> {
    subject: &'a Subject<'a>,
    tree: &'a Path,
}

impl Copy<'_> {
    fn missing_file(&self) -> io::Result<Attempt> {
        let Some(path) = self.any_file()? else {
            return Ok(Attempt::Nothing("no file is the application's own"));
        };
        fs::remove_file(&path)?;
        Ok(Attempt::Done(format!("{} removed", self.shown(&path))))
    }

    // Size and times stay as they were: only the content tells.
    fn flipped_bytes(&self) -> io::Result<Attempt> {
        let Some(path) = self.any_file()? else {
            return Ok(Attempt::Nothing("no file is the application's own"));
        };
        let about = fs::metadata(&path)?;
        let at = below(about.len())?;
        let file = open(&path)?;
        let mut bytes = [0; 8];
        let count = file.read_at(&mut bytes, at)?;
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
        file.write_all_at(&bytes[..count], at)?;
        file.set_times(FileTimes::new().set_modified(about.modified()?))?;
        Ok(Attempt::Done(format!("{count} bytes of {} turned over from {at} on", self.shown(&path))))
    }

    fn truncated_database(&self) -> io::Result<Attempt> {
        let Some(path) = self.databases().into_iter().next() else {
            return Ok(Attempt::Nothing("the snapshot holds no SQLite database"));
        };
        let size = fs::metadata(&path)?.len();
        open(&path)?.set_len(size / 2)?;
        Ok(Attempt::Done(format!("{} cut to {} bytes of {size}", self.shown(&path), size / 2)))
    }

    fn wrong_port(&self) -> io::Result<Attempt> {
        let Some(port) = self.subject.plan.check.iter().find_map(port) else {
            return Ok(Attempt::Nothing("no check of the plan names a port"));
        };
        let number = Regex::new(&format!(r"\b{port}\b")).map_err(io::Error::other)?;
        let other = if port == u16::MAX { port - 1 } else { port + 1 };
        let mut files = self.own_files()?;
        // where settings are kept, before where they are used
        files.sort_by_key(|path| !setting::is_configuration(path));
        for path in files {
            let Some(text) = setting::text_of(&path)? else { continue };
            if number.is_match(&text) {
                rewrite(&path, &number.replace_all(&text, other.to_string().as_str()))?;
                return Ok(Attempt::Done(format!("{port} made {other} in {}", self.shown(&path))));
            }
        }
        Ok(Attempt::Nothing("the server's port stands in no file of the tree"))
    }

    fn wrong_setting(&self) -> io::Result<Attempt> {
        let mut files = self.own_files()?;
        files.retain(|path| setting::is_configuration(path));
        let ports: Vec<String> =
            self.subject.plan.check.iter().filter_map(port).map(|p| p.to_string()).collect();
        while !files.is_empty() {
            let path = files.swap_remove(below_len(files.len())?);
            let Some(text) = setting::text_of(&path)? else { continue };
            let mut settings = setting::find(&text);
            // a wrong port is another sabotage
            settings.retain(|setting| !ports.contains(&setting.value));
            if settings.is_empty() {
                continue;
            }
            let Setting { key, value, range } = settings.swap_remove(below_len(settings.len())?);
            let other = setting::another(&value);
            let text = format!("{}{other}{}", &text[..range.start], &text[range.end..]);
            rewrite(&path, &text)?;
            return Ok(Attempt::Done(format!("{key} made {other} in {}", self.shown(&path))));
        }
        Ok(Attempt::Nothing("no configuration file with simple values was found"))
    }

    fn old_data(&self) -> io::Result<Attempt> {
        let databases = self.databases();
        let mut rows = 0;
        for path in &databases {
            rows += sqlite::age(path).map_err(io::Error::other)?;
        }
        for path in self.files()? {
            let about = fs::symlink_metadata(&path)?;
            let Some(old) = about.modified()?.checked_sub(AGE) else { continue };
            open(&path)?.set_times(FileTimes::new().set_modified(old))?;
        }
        let what = format!(
            "all files made 30 days older, {rows} newer rows removed from {} databases",
            databases.len()
        );
        Ok(Attempt::Done(what))
    }

    fn shown(&self, path: &Path) -> String {
        Name::from(path.strip_prefix(self.tree).unwrap_or(path).as_os_str()).shown()
    }

    fn databases(&self) -> Vec<PathBuf> {
        let root = self.subject.plan.root();
        let all = self.subject.snapshot.document.databases.iter();
        all.filter_map(|database| {
            let path = PathBuf::from(database.path.as_os_str().to_owned());
            Some(self.tree.join(path.strip_prefix(&root).ok()?))
        })
        .collect()
    }

    fn any_file(&self) -> io::Result<Option<PathBuf>> {
        let mut files = self.own_files()?;
        if files.is_empty() {
            return Ok(None);
        }
        let at = below_len(files.len())?;
        Ok(Some(files.swap_remove(at)))
    }

    // Files that belong to the application itself: neither its live data and databases, nor what others wrote,
    // nor the plan, whose checks are read before.
    fn own_files(&self) -> io::Result<Vec<PathBuf>> {
        let options = Options {
            patterns: self.subject.plan.app.keep_on_rollback.iter().map(Into::into).collect(),
            ..Options::default()
        };
        let excludes = Excludes::build(self.tree, &options).map_err(io::Error::other)?;
        let (databases, plan) = (self.databases(), self.subject.plan.file().file_name());
        let mut found = self.files()?;
        found.retain(|path| {
            let below = Name::from(path.strip_prefix(self.tree).unwrap_or(path).as_os_str());
            let mut part = below.0.as_slice();
            let mut is_live = excludes.matches(part, false);
            while let Some(end) = part.iter().rposition(|byte| *byte == b'/') {
                part = &part[..end];
                is_live |= excludes.matches(part, true);
            }
            let size = fs::symlink_metadata(path).map(|about| about.size()).unwrap_or_default();
            !is_live && size > 0 && !databases.contains(path) && path.file_name() != plan
        });
        Ok(found)
    }

    // All files, sorted; links are not followed.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let known = |entry: &walkdir::DirEntry| {
            entry.depth() == 0 || !entry.file_name().to_str().is_some_and(|name| FOREIGN.contains(&name))
        };
        let walk = walkdir::WalkDir::new(self.tree).sort_by_file_name().into_iter().filter_entry(known);
        let mut found = Vec::new();
        for entry in walk {
            let entry = entry.map_err(io::Error::from)?;
            if entry.file_type().is_file() {
                found.push(entry.into_path());
            }
        }
        Ok(found)
    }
}

fn port(check: &Check) -> Option<u16> {
    match &check.kind {
        CheckKind::Http(http) => {
            let url = reqwest::Url::parse(&http.http).ok()?;
            url.port_or_known_default()
        }
        CheckKind::Port(port) => match &port.port {
            PortName::Number(number) => Some(*number),
            PortName::Text(text) => text.rsplit(':').next()?.parse().ok(),
        },
        _ => None,
    }
}

fn open(path: &Path) -> io::Result<fs::File> {
    // the copy may hold links that lead out of it
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path)
}

// Mode and owner stay.
fn rewrite(path: &Path, text: &str) -> io::Result<()> {
    let file = open(path)?;
    file.set_len(0)?;
    file.write_all_at(text.as_bytes(), 0)
}

fn below_len(len: usize) -> io::Result<usize> {
    below(len as u64).map(|at| usize::try_from(at).unwrap_or_default())
}

// A number from 0 to below `end`, by chance.
fn below(end: u64) -> io::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u64::from_le_bytes(bytes) % end.max(1))
}
