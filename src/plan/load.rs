//! Reads a plan, strictly.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use super::places::{self, Lines, Place};
use super::references;
use super::types::{DatabaseKind, Plan};
use crate::base::name::{Name, shown};
use crate::check::config::{COMMON_KEYS, Check, Common, KINDS, Kind};

/// The name of a plan's file.
pub const FILE: &str = "lifeboat.toml";
/// A plan is not larger than this.
const LARGEST: u64 = 4 << 20;

/// What is wrong with a plan, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where; `None` where it concerns the file as a whole.
    pub place: Option<Place>,
    /// What is wrong, safe for a terminal.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

/// What the names of trees begin with that a rollback puts aside, or builds.
const ASIDE: &str = ".lifeboat-";

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// There is none in a directory or above it.
    #[error("there is no {FILE} in {} or a directory above it", Name::from(.0.as_os_str()).shown())]
    NotFound(PathBuf),
    /// It lies in a tree that is not the living one any more.
    #[error("{} is a tree that a rollback put aside, not the application", Name::from(.0.as_os_str()).shown())]
    Aside(PathBuf),
    /// It cannot be read.
    #[error("could not read the plan {}", Name::from(.path.as_os_str()).shown())]
    Io {
        /// The plan's file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is wrong.
    #[error("{}", said(.path, .problems))]
    Wrong {
        /// The plan's file.
        path: PathBuf,
        /// What is wrong, at least one.
        problems: Vec<Problem>,
    },
}

impl PlanError {
    /// What to do about it.
    pub fn next(&self) -> String {
        match self {
            Self::NotFound(_) => {
                "name a plan with --config FILE; lifeboat init --plan DIRECTORY writes a first one".to_owned()
            }
            Self::Aside(_) => {
                "cd to the application's own path: a shell that stood there before the rollback stands in this tree now"
                    .to_owned()
            }
            Self::Io { .. } => "check the path and its permissions".to_owned(),
            Self::Wrong { problems, .. } => problems
                .iter()
                .find_map(|problem| problem.hint.clone())
                .unwrap_or_else(|| "docs/plan.md lists every key".to_owned()),
        }
    }
}

fn said(path: &Path, problems: &[Problem]) -> String {
    let file = Name::from(path.as_os_str()).shown();
    let lines = problems.iter().map(|problem| match problem.place {
        Some(place) => format!("{file}:{}:{}: {}", place.line, place.column, problem.message),
        None => format!("{file}: {}", problem.message),
    });
    lines.collect::<Vec<_>>().join("\n")
}

impl Plan {
    /// Reads a plan's file.
    ///
    /// # Errors
    /// If it cannot be read, or is wrong.
    pub fn load(path: &Path) -> Result<Self, PlanError> {
        let failed = |source| PlanError::Io { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        File::open(path).and_then(|f| f.take(LARGEST + 1).read_to_end(&mut bytes)).map_err(failed)?;
        let wrong = |message: &str| {
            let problem = Problem { place: None, message: message.to_owned(), hint: None };
            PlanError::Wrong { path: path.to_owned(), problems: vec![problem] }
        };
        if bytes.len() as u64 > LARGEST {
            return Err(wrong("it is larger than 4 MiB, which no plan is"));
        }
        let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8"))?;
        let whole = std::path::absolute(path).map_err(failed)?;
        Self::parse(&text, &whole)
    }

    /// Reads the text of a plan that lies at this absolute path.
    ///
    /// # Errors
    /// If it is wrong.
    pub fn parse(text: &str, path: &Path) -> Result<Self, PlanError> {
        let wrong = |problems| PlanError::Wrong { path: path.to_owned(), problems };
        let lines = Lines::new(text);
        let mut plan = read(text, &lines).map_err(wrong)?;
        // whether paths make sense depends on where the plan lies
        plan.file = path.to_owned();
        plan.directory = path.parent().unwrap_or(Path::new("/")).to_owned();
        match references::problems(&plan) {
            problems if problems.is_empty() => Ok(plan),
            problems => Err(wrong(problems)),
        }
    }

    /// The plan in a directory or the nearest one above it.
    ///
    /// # Errors
    /// If there is none, or it is wrong.
    pub fn find(start: &Path) -> Result<Self, PlanError> {
        let is_aside = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(ASIDE.as_bytes());
        match Self::locate(start) {
            Some(path) if path.iter().any(is_aside) => Err(PlanError::Aside(start.to_owned())),
            Some(path) => Self::load(&path),
            None => Err(PlanError::NotFound(start.to_owned())),
        }
    }

    /// The file of the plan in a directory or the nearest one above it.
    pub fn locate(start: &Path) -> Option<PathBuf> {
        start.ancestors().map(|directory| directory.join(FILE)).find(|path| path.is_file())
    }

    /// The file it was read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The directory it lies in, from which its paths lead.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A path of the plan as an absolute one.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let mut plain = PathBuf::new();
        for part in self.directory.join(path).components() {
            match part {
                std::path::Component::ParentDir => drop(plain.pop()),
                std::path::Component::CurDir => {}
                other => plain.push(other),
            }
        }
        plain
    }

    /// The tree to protect, absolute.
    pub fn root(&self) -> PathBuf {
        self.path(&self.app.root)
    }

    /// The files of its SQLite databases, absolute.
    pub fn sqlite_databases(&self) -> Vec<PathBuf> {
        let of_sqlite = self.database.iter().filter(|database| database.kind == DatabaseKind::Sqlite);
        of_sqlite.filter_map(|database| database.path.as_ref()).map(|path| self.path(path)).collect()
    }

    /// What the application is called.
    pub fn name(&self) -> String {
        let directory = || self.directory.file_name().map(|name| Name::from(name).shown());
        self.app.name.clone().or_else(directory).unwrap_or_else(|| "application".to_owned())
    }

    /// Where the value with this path (`drill.limits.time`, `check[0].name`) stands; `None` for a default.
    pub fn place(&self, path: &str) -> Option<Place> {
        self.places.get(path).copied()
    }

    /// Where the value with this path was written, or the value that it is a part of; `None` for a default.
    pub fn origin(&self, path: &str) -> Option<Place> {
        if let Some(place) = self.place(path) {
            return Some(place);
        }
        let (parent, _) = path.rsplit_once(['.', '['])?;
        // a table that was written may still leave this key to its default
        let is_table =
            |key: &String| key.strip_prefix(parent).is_some_and(|rest| rest.starts_with(['.', '[']));
        if self.places.contains_key(parent) {
            return self.place(parent).filter(|_| !self.places.keys().any(is_table));
        }
        self.origin(parent)
    }

    /// The check of this name.
    pub fn check_named(&self, name: &str) -> Option<&Check> {
        self.check.iter().find(|check| check.name() == name)
    }
}

fn read(text: &str, lines: &Lines<'_>) -> Result<Plan, Vec<Problem>> {
    let mut table = DeTable::parse(text).map_err(|error| vec![problem(&error, lines)])?;
    let places = places::of_table(table.get_ref(), lines);
    let checks = table.get_mut().remove("check");
    let mut problems = Vec::new();
    let mut found = Vec::new();
    match checks.map(Spanned::into_inner) {
        None => {}
        Some(DeValue::Array(list)) => read_checks(list, lines, &mut found, &mut problems),
        Some(_) => problems.push(Problem {
            place: places.get("check").copied(),
            message: "check is a list of tables".to_owned(),
            hint: Some("write [[check]]".to_owned()),
        }),
    }
    match Plan::deserialize(Deserializer::from(table)) {
        Ok(mut plan) if problems.is_empty() => {
            plan.check = found;
            plan.places = places;
            return Ok(plan);
        }
        Ok(_) => {}
        Err(error) => problems.push(problem(&error, lines)),
    }
    problems.sort_by_key(|problem| problem.place.map(|place| (place.line, place.column)));
    Err(problems)
}

fn read_checks(list: DeArray<'_>, lines: &Lines<'_>, found: &mut Vec<Check>, problems: &mut Vec<Problem>) {
    for item in list {
        match read_check(item, lines) {
            Ok(check) => found.push(check),
            Err(problem) => problems.push(problem),
        }
    }
}

// The keys are parted by hand, so that each half is read by types that know their keys and spans are kept.
fn read_check(item: Spanned<DeValue<'_>>, lines: &Lines<'_>) -> Result<Check, Problem> {
    let span = item.span();
    let at = |message: String, hint: String| Problem {
        place: Some(lines.place(span.start)),
        message,
        hint: Some(hint),
    };
    let DeValue::Table(table) = item.into_inner() else {
        return Err(at("a check is a table".to_owned(), "write [[check]]".to_owned()));
    };
    let keys: Vec<&str> = table.keys().map(|key| key.get_ref().as_ref()).collect();
    let Some(word) = Kind::of_keys(keys.iter().copied()) else {
        let strange = table.iter().find_map(|(key, _)| {
            let name: &str = key.get_ref();
            let near = nearest(name, KINDS.iter().copied())?;
            (!COMMON_KEYS.contains(&name)).then_some((key.span(), name, near))
        });
        if let Some((span, name, near)) = strange {
            return Err(Problem {
                place: Some(lines.place(span.start)),
                message: format!("{} is no kind of check", shown(name.as_bytes())),
                hint: Some(format!("{near} is meant?")),
            });
        }
        return Err(at(
            "the check does not say what it looks at".to_owned(),
            format!("give it one of the keys {}", KINDS.join(", ")),
        ));
    };
    let (mut common, mut own) = (DeTable::new(), DeTable::new());
    for (key, value) in table {
        let to = if COMMON_KEYS.contains(&key.get_ref().as_ref()) { &mut common } else { &mut own };
        to.insert(key, value);
    }
    let common = Common::deserialize(Deserializer::from(Spanned::new(span.clone(), common)));
    let kind = Kind::read(word, Deserializer::from(Spanned::new(span.clone(), own)));
    let common = common.map_err(|error| problem(&error, lines))?;
    let kind = kind.map_err(|error| with_common(problem(&error, lines), &error, word))?;
    if common.name.trim().is_empty() {
        return Err(at(
            "the check has no name".to_owned(),
            "give it a name, such as name = \"health\"".to_owned(),
        ));
    }
    Ok(Check { common, kind })
}

// An unknown key of a check may also be a misspelt one of those that every check has, or of another kind.
fn with_common(mut problem: Problem, error: &toml::de::Error, word: &str) -> Problem {
    if let Some((key, allowed)) = unknown(error.message()) {
        let known = allowed.iter().copied().chain(COMMON_KEYS.iter().copied());
        problem.message = format!("a check of {word} has no key {}", shown(key.as_bytes()));
        problem.hint = Some(hint(key, known));
    }
    problem
}

fn problem(error: &toml::de::Error, lines: &Lines<'_>) -> Problem {
    let place = error.span().map(|span| lines.place(span.start));
    if let Some((key, allowed)) = unknown(error.message()) {
        let what = if error.message().starts_with("unknown variant") { "value" } else { "key" };
        let message = format!("unknown {what} {}", shown(key.as_bytes()));
        return Problem { place, message, hint: Some(hint(key, allowed.into_iter())) };
    }
    let message: Vec<String> = error.message().lines().map(|line| shown_text(line.trim())).collect();
    Problem { place, message: message.join(": "), hint: None }
}

// Keeps backslashes single, as the text is no name.
fn shown_text(text: &str) -> String {
    shown(text.as_bytes()).replace("\\\\", "\\")
}

// What serde says of a key or value that it does not know: "unknown field `a`, expected one of `b`, `c`".
fn unknown(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest =
        message.strip_prefix("unknown field `").or_else(|| message.strip_prefix("unknown variant `"))?;
    // the key may hold anything, the words after it are ours
    let (key, rest) = rest.rsplit_once("`, expected ").or_else(|| rest.rsplit_once("`, there are no "))?;
    Some((key, rest.split('`').skip(1).step_by(2).collect()))
}

fn hint<'w>(key: &str, known: impl Iterator<Item = &'w str> + Clone) -> String {
    match nearest(key, known.clone()) {
        Some(word) => format!("{word} is meant?"),
        None => format!("use one of {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// The word that is most like this one, if any is like it: by edits of a letter, where exchanging two
/// neighbours is one edit (Damerau and Levenshtein, in the restricted form).
pub fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let most = 1 + word.chars().count() / 4;
    let word: Vec<char> = word.to_lowercase().chars().map(|c| if c == '-' { '_' } else { c }).collect();
    if word.len() > 64 {
        return None;
    }
    known
        .map(|other| (distance(&word, &other.chars().collect::<Vec<_>>()), other))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
