//! What a command says when it fails: what failed, why, and what to do next; and the exit status.

use std::error::Error;
use std::io;

use serde::Serialize;

use crate::base::Exit;
use crate::base::name::shown;
use crate::catalog::export::ExportError;
use crate::catalog::live::LiveError;
use crate::catalog::paths::PathError;
use crate::catalog::select::SelectError;
use crate::format::FormatError;
use crate::plan::PlanError;
use crate::repo::RepoError;
use crate::retention::policy::PolicyError;
use crate::snapshot::SnapshotError;
use crate::store::{Key, StoreError};

/// Why a command failed.
#[derive(Debug)]
pub struct CommandError {
    exit: Exit,
    // empty if nobody is left to read it
    message: String,
    causes: Vec<String>,
    next: Option<String>,
}

impl CommandError {
    /// A failure with this status.
    pub fn new(exit: Exit, message: impl ToString) -> Self {
        Self { exit, message: message.to_string(), causes: Vec::new(), next: None }
    }

    /// The command line or environment asks for something that cannot be.
    pub fn usage(message: impl ToString) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// From an error, with those that caused it.
    pub fn of(exit: Exit, error: &dyn Error) -> Self {
        let mut found = Self::new(exit, error);
        found.causes = causes_of(error);
        found
    }

    /// The system failed while doing this.
    pub fn io(act: impl ToString) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            let mut found = Self::new(Exit::Failed, act);
            found.causes = vec![source.to_string()];
            found
        }
    }

    /// The output could not be written. If that is because nobody reads it any more, there is
    /// nobody to tell either.
    pub fn output(source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Failed, "");
        }
        Self::io("could not write the output")(source)
    }

    /// Adds what to do about it.
    pub fn next(mut self, advice: impl ToString) -> Self {
        self.next = Some(advice.to_string());
        self
    }

    /// Adds what caused it, from the outside in.
    pub fn because(mut self, causes: Vec<String>) -> Self {
        self.causes = causes;
        self
    }

    /// The status that the process ends with.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// What failed, without the causes.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What caused it, from the outside in.
    pub fn causes(&self) -> &[String] {
        &self.causes
    }

    /// As people read it; empty if nobody does.
    pub fn text(&self) -> String {
        if self.message.is_empty() {
            return String::new();
        }
        let mut text = format!("error: {}\n", safe(&self.message));
        for cause in &self.causes {
            text.push_str(&format!("  because: {}\n", safe(cause)));
        }
        if let Some(next) = &self.next {
            text.push_str(&format!("next: {}\n", safe(next)));
        }
        text
    }

    /// As programs read it.
    pub fn json(&self) -> ExitError<'_> {
        ExitError {
            message_type: "exit_error",
            code: self.exit.number(),
            id: self.exit.id(),
            message: &self.message,
            causes: &self.causes,
            next: self.next.as_deref(),
        }
    }
}

/// The last line of a command that failed with `--json`.
#[derive(Serialize)]
pub struct ExitError<'a> {
    message_type: &'static str,
    code: u8,
    id: &'static str,
    message: &'a str,
    causes: &'a [String],
    next: Option<&'a str>,
}

fn causes_of(error: &dyn Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if causes.last() != Some(&text) {
            causes.push(text);
        }
        next = cause.source();
    }
    causes
}

/// A text that commands no terminal. The parts from outside are escaped already; this is for those somebody forgot,
/// and lines stay lines.
pub fn safe(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' => "\n".to_owned(),
            '\\' => "\\".to_owned(),
            _ => shown(c.encode_utf8(&mut [0; 4]).as_bytes()),
        })
        .collect()
}

impl From<RepoError> for CommandError {
    fn from(error: RepoError) -> Self {
        if let RepoError::Io { source, .. } = &error
            && source.kind() == io::ErrorKind::BrokenPipe
        {
            return Self::new(Exit::Failed, "");
        }
        let (exit, next) = judge(&error);
        let found = Self::of(exit, &error);
        if next.is_empty() { found } else { found.next(next) }
    }
}

/// The way out where no command can open a repository that is there.
const CONFIG_BACK: &str = "put repository.json back from another copy of the repository; without one, python3 recover.py, which lies in the repository, restores every snapshot";

// Exit status and advice for what a repository says.
fn judge(error: &RepoError) -> (Exit, &'static str) {
    match error {
        RepoError::NotFound(_) => {
            (Exit::NoRepository, "check --repo or LIFEBOAT_REPOSITORY; lifeboat init makes a repository")
        }
        RepoError::Locked { .. } => (Exit::Locked, "wait until the other command has ended, then try again"),
        RepoError::Key(_) => (Exit::Key, "check the file that LIFEBOAT_WRITER_KEY names"),
        RepoError::Interrupted => (Exit::Interrupted, ""),
        RepoError::TooNew { .. }
        | RepoError::Format(FormatError::Newer { .. } | FormatError::UnknownFeature(_))
        | RepoError::Damaged { source: FormatError::Newer { .. } | FormatError::UnknownFeature(_), .. } => {
            (Exit::Failed, "use the version of lifeboat that wrote it, or a newer one; nothing was changed")
        }
        RepoError::Damaged { key, .. } | RepoError::WrongHash { key } if *key == Key::prune(key.stem()) => (
            Exit::Damage,
            "lifeboat repair sets the damaged plan aside; until then nobody knows what it condemned",
        ),
        error if error.is_of_the_config() => (Exit::Damage, CONFIG_BACK),
        RepoError::Store(error @ StoreError::Io { .. }) => (Exit::Failed, advice_for(error)),
        RepoError::Format(_) => (Exit::Damage, "lifeboat verify says what is damaged and what it affects"),
        other if other.is_damage() => {
            (Exit::Damage, "lifeboat verify says what is damaged and what it affects")
        }
        _ => (Exit::Failed, ""),
    }
}

fn advice_for(error: &StoreError) -> &'static str {
    let StoreError::Io { source, .. } = error else { return "" };
    match source.kind() {
        io::ErrorKind::PermissionDenied => "run as the user that owns the repository",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free a few MiB where the repository is by other means: to give room back, lifeboat forget and then lifeboat prune need a little themselves"
        }
        io::ErrorKind::DirectoryNotEmpty => "name a directory that is empty or does not exist",
        _ => "",
    }
}

impl From<PlanError> for CommandError {
    fn from(error: PlanError) -> Self {
        let next = error.next();
        Self::of(Exit::Usage, &error).next(next)
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        RepoError::from(error).into()
    }
}

impl From<SelectError> for CommandError {
    fn from(error: SelectError) -> Self {
        let exit = match error {
            SelectError::Form { .. } | SelectError::Since(_) => Exit::Usage,
            _ => Exit::Failed,
        };
        Self::of(exit, &error).next(error.next())
    }
}

impl From<PolicyError> for CommandError {
    fn from(error: PolicyError) -> Self {
        Self::of(Exit::Usage, &error).next("nothing was forgotten; mend the rules, or name the snapshots")
    }
}

impl From<PathError> for CommandError {
    fn from(error: PathError) -> Self {
        Self::of(Exit::Failed, &error).next("lifeboat ls lists the paths; they are those of the host")
    }
}

impl From<ExportError> for CommandError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Repo(error) => error.into(),
            ExportError::Path(error) => error.into(),
        }
    }
}

impl From<LiveError> for CommandError {
    fn from(error: LiveError) -> Self {
        match error {
            LiveError::Repo(error) => error.into(),
            LiveError::Exclude(error) => Self::of(Exit::Usage, &error).next(error.next()),
            other => Self::of(Exit::Failed, &other),
        }
    }
}

impl From<SnapshotError> for CommandError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Repo(error) => error.into(),
            SnapshotError::Exclude(error) => Self::of(Exit::Usage, &error).next(error.next()),
            SnapshotError::Interrupted => Self::of(Exit::Interrupted, &error),
            _ => Self::of(Exit::Failed, &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_its_causes_and_what_to_do() {
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = StoreError::Io { act: "open", what: "packs/\u{1b}x".to_owned(), source };
        insta::assert_snapshot!(CommandError::from(error).text(), @r"
        error: could not open packs/\x1bx
          because: permission denied
        next: run as the user that owns the repository
        ");
    }

    #[test]
    fn statuses_follow_the_kind() {
        let exit = |error: RepoError| CommandError::from(error).exit();
        assert_eq!(exit(RepoError::NotFound("/x".into())), Exit::NoRepository);
        assert_eq!(exit(RepoError::Locked { location: "/x".into() }), Exit::Locked);
        assert_eq!(exit(RepoError::Interrupted), Exit::Interrupted);
        assert_eq!(exit(FormatError::Newer { have: 2, known: 1 }.into()), Exit::Failed);
        assert_eq!(exit(FormatError::malformed("x", "y").into()), Exit::Damage);
    }
}
