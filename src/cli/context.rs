//! What commands share: the repository, the observer, where results go.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use super::error::CommandError;
use super::progress::{self, Show};
use super::{Global, env, signals};
use crate::base::Exit;
use crate::base::event::Observer;
use crate::base::id::SnapshotId;
use crate::base::name::{Name, shown};
use crate::base::time::Clock;
use crate::format::snapshot::Tombstone;
use crate::logbook::{self, Act, TOMBSTONES_FIELD};
use crate::plan::{Plan, PlanError};
use crate::repo::documents::Snapshot;
use crate::repo::keys::WriterKey;
use crate::repo::{Repo, RepoError};
use crate::state::State;
use crate::store::Store;
use crate::store::local::LocalStore;
use crate::sys::host;
use crate::witness::{self, Older, WitnessError};

/// Results on stdout: large blocks, written past the line buffering of the standard library.
pub type Out = BufWriter<File>;

/// The way out where a repository is older than it was.
const PUT_BACK: &str = "put the newer state back, or find out who removed it; --accept-older, of snapshot, forget or prune, takes this one for the newest";
/// Why what is gone counts as forgotten.
const ACCEPTED: &str = "accepted: the repository is older than this host has seen it";

/// What commands share.
pub struct Context {
    global: Global,
    // set when the first observer is made
    stop: OnceCell<Arc<AtomicBool>>,
    // a plan that stands for the file
    plan: OnceCell<Plan>,
    clock: Clock,
    outcome: RefCell<Option<Said>>,
    // of the repository that was opened, once it was compared
    older: OnceCell<Option<Older>>,
    has_warned: Cell<bool>,
}

/// What a command has to say of how it ended, for whoever is told.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Said {
    /// In a sentence.
    pub summary: String,
    /// What failed, each in a line; numbers in it do not make it another failure.
    pub details: Vec<String>,
}

impl Context {
    /// For one run of the program.
    pub fn new(global: Global) -> Self {
        let (stop, plan, outcome) = (OnceCell::new(), OnceCell::new(), RefCell::new(None));
        let (older, has_warned) = (OnceCell::new(), Cell::new(false));
        Self { global, stop, plan, clock: Clock::System, outcome, older, has_warned }
    }

    /// Set when somebody wants an end. From here on the first signal asks to stop; before, and in commands that
    /// watch nothing, it ends the program at once. So it does if the handlers cannot be installed, which loses
    /// nothing either.
    pub fn stop(&self) -> Arc<AtomicBool> {
        Arc::clone(self.stop.get_or_init(|| signals::install().unwrap_or_default()))
    }

    /// Says how the command ended, for [`super::notified`].
    pub fn outcome(&self, summary: impl Into<String>, details: Vec<String>) {
        *self.outcome.borrow_mut() = Some(Said { summary: summary.into(), details });
    }

    /// What was said so.
    pub fn said(&self) -> Option<Said> {
        self.outcome.borrow().clone()
    }

    /// Forgets what was said of an operation before.
    pub fn forget_outcome(&self) {
        *self.outcome.borrow_mut() = None;
    }

    /// True if only results, errors and warnings are to be shown.
    pub fn quiet(&self) -> bool {
        self.global.quiet
    }

    /// True if programs read the answer.
    pub fn json(&self) -> bool {
        self.global.json
    }

    /// True if more than usual is to be shown.
    pub fn verbose(&self) -> bool {
        self.global.verbose > 0
    }

    /// What time it is.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The plan that `--config` names, or that lies in the current directory or above it.
    ///
    /// # Errors
    /// If there is none, or it is wrong.
    pub fn plan(&self) -> Result<Plan, CommandError> {
        Ok(self.load_plan()?)
    }

    /// As [`Self::plan`], with the plan's own error.
    ///
    /// # Errors
    /// If there is none, or it is wrong.
    pub fn load_plan(&self) -> Result<Plan, PlanError> {
        if let Some(plan) = self.plan.get() {
            return Ok(plan.clone());
        }
        match &self.global.config {
            Some(path) => Plan::load(path),
            None => {
                let current = |source| PlanError::Io { path: PathBuf::from("."), source };
                Plan::find(&std::env::current_dir().map_err(current)?)
            }
        }
    }

    /// Where the plan is, or would be.
    ///
    /// # Errors
    /// If the current directory is unknown.
    pub fn plan_file(&self) -> Result<PathBuf, CommandError> {
        let here =
            || std::env::current_dir().map_err(CommandError::io("could not find out the current directory"));
        match &self.global.config {
            Some(path) => absolute(path),
            None => Ok(Plan::locate(&here()?).unwrap_or(here()?.join(crate::plan::FILE))),
        }
    }

    /// Uses this plan from here on, whatever is in its file.
    pub fn use_plan(&self, plan: Plan) {
        // the first one stays
        let _ = self.plan.set(plan);
    }

    /// What this host remembers of every application.
    pub fn states(&self) -> Vec<State> {
        env::state_dir().map(|base| State::all(&base)).unwrap_or_default()
    }

    /// What this host remembers of the plan's application.
    ///
    /// # Errors
    /// If nothing says where that is.
    pub fn state(&self, plan: &Plan) -> Result<State, CommandError> {
        let base = env::state_dir().ok_or_else(|| {
            CommandError::new(Exit::Failed, "there is no directory for what is remembered between runs")
                .next("set LIFEBOAT_STATE_DIR to an absolute path")
        })?;
        Ok(State::of(&base, &plan.root()))
    }

    /// The location of the repository that a flag or the environment names, and which of them.
    pub fn location_source(&self) -> Option<(&OsStr, &'static str)> {
        let location = self.global.repo.as_deref().filter(|l| !l.is_empty())?;
        let is_variable = env::repository().is_some_and(|value| value == location);
        Some((location, if is_variable { "LIFEBOAT_REPOSITORY" } else { "--repo" }))
    }

    // Where the plan says the repository is, from the plan's directory.
    fn planned_location(&self) -> Result<Option<OsString>, CommandError> {
        let plan = match self.load_plan() {
            // without a plan there is none, unless one was named
            Err(PlanError::NotFound(_)) => return Ok(None),
            other => other?,
        };
        let location = plan.repository.location.as_deref();
        Ok(location.map(|l| if l.contains("://") { l.into() } else { plan.path(l).into_os_string() }))
    }

    /// Where the repository is: `--repo`, then `LIFEBOAT_REPOSITORY`, then the plan.
    ///
    /// # Errors
    /// If nobody said, or it is not a directory's path.
    pub fn location(&self) -> Result<PathBuf, CommandError> {
        let given = self.global.repo.clone().filter(|l| !l.is_empty());
        let given = given.map_or_else(|| self.planned_location(), |location| Ok(Some(location)))?;
        let Some(location) = given else {
            return Err(CommandError::usage("no repository is named").next(
                "give --repo DIRECTORY, set LIFEBOAT_REPOSITORY, or write repository.location into the plan",
            ));
        };
        if let Some((scheme, _)) = location.to_str().and_then(|text| text.split_once("://")) {
            let text = format!("this version has no way to reach {}://", shown(scheme.as_bytes()));
            return Err(
                CommandError::usage(text).next("name a directory, which may be mounted from elsewhere")
            );
        }
        absolute(Path::new(&location))
    }

    /// The store there, which need not hold a repository.
    ///
    /// # Errors
    /// As [`Self::location`].
    pub fn store(&self) -> Result<Arc<dyn Store>, CommandError> {
        Ok(Arc::new(LocalStore::open(self.location()?)))
    }

    /// Opens the repository, and warns if it is older than this host has seen it.
    ///
    /// # Errors
    /// If there is none, or it cannot be opened.
    pub fn open_repo(&self) -> Result<Repo, CommandError> {
        let repo = Repo::open(self.store()?, self.clock)?;
        self.compare(&repo)?;
        Ok(repo)
    }

    /// Compares the repository with what this host has seen of it; the first time in a run that it is older, that is said.
    ///
    /// # Errors
    /// If the repository cannot be listed.
    pub fn compare(&self, repo: &Repo) -> Result<(), CommandError> {
        if self.older.get().is_some() {
            return Ok(());
        }
        let state = self.seen_of(repo);
        // without a memory a logbook without any snapshot speaks for itself; to ask it every time would take too long
        let older = match &state {
            None if !repo.snapshot_ids()?.is_empty() => Ok(None),
            state => witness::look(repo, state.as_ref()),
        };
        let older = match older {
            Err(WitnessError::Repo(error)) => return Err(error.into()),
            Err(error) => {
                self.warn("not-remembered", &format!("what this host has seen of the repository: {error}"));
                None
            }
            Ok(older) => older,
        };
        if let Some(older) = &older {
            self.warn("older-repository", &format!("{older}\n  next: {PUT_BACK}"));
        }
        // the first look is the one that counts
        let _ = self.older.set(older);
        Ok(())
    }

    /// Where it is kept what this host has seen of the repository.
    pub fn seen_of(&self, repo: &Repo) -> Option<State> {
        Some(State::of_repository(&env::state_dir()?, &repo.config().id))
    }

    /// What the repository has lost since this host saw it.
    pub fn older(&self) -> Option<&Older> {
        self.older.get().and_then(Option::as_ref)
    }

    /// Fails, saying `undone`, if the repository is older than this host has seen it; unless that is accepted: then
    /// what is gone counts as forgotten from here on.
    ///
    /// # Errors
    /// If it is older and that is not accepted, or that cannot be written.
    pub fn demand_newest(&self, repo: &Repo, accept: bool, undone: &str) -> Result<(), CommandError> {
        let Some(older) = self.older() else { return Ok(()) };
        if !accept {
            let text =
                format!("{undone}: the repository is older than this host has seen it; {}", older.brief());
            return Err(CommandError::new(Exit::Failed, text).next(PUT_BACK));
        }
        let key = self.writer_key(repo)?;
        let ids: Vec<_> = older.snapshots.iter().map(|(id, _)| *id).collect();
        self.forget(repo, &key, &ids, Some(Name::from(ACCEPTED)))?;
        if let Some(state) = self.seen_of(repo) {
            let failed = |error| CommandError::of(Exit::Failed, &error);
            witness::accept(repo, &state).map_err(failed)?;
        }
        self.say(format!("accepted as it is: {}", older.brief()));
        Ok(())
    }

    /// Forgets snapshots: a tombstone each, and one record that tells of them.
    ///
    /// # Errors
    /// If a tombstone cannot be written.
    pub fn forget(
        &self,
        repo: &Repo,
        key: &WriterKey,
        snapshots: &[SnapshotId],
        why: Option<Name>,
    ) -> Result<(), CommandError> {
        if snapshots.is_empty() {
            return Ok(());
        }
        let (host, user) = whoami();
        let mut tombstones = BTreeMap::new();
        for &snapshot in snapshots {
            let tombstone = Tombstone {
                lifeboat: "tombstone".to_owned(),
                version: 1,
                repository: repo.config().id.clone(),
                snapshot,
                at: repo.clock().now(),
                by: Name([&user.0[..], b"@", &host.0[..]].concat()),
                why: why.clone(),
            };
            tombstones.insert(snapshot, repo.forget(&tombstone)?);
        }
        let reason = why.as_ref().map(Name::shown);
        let body =
            serde_json::json!({"snapshots": snapshots, "reason": reason, TOMBSTONES_FIELD: tombstones});
        self.record(repo, key, "forget", body);
        Ok(())
    }

    // What was just written is the newest that this host has seen.
    fn remember(&self, repo: &Repo) {
        if let Some(state) = self.seen_of(repo)
            && let Err(error) = witness::look(repo, Some(&state))
        {
            self.warn("not-remembered", &format!("what this host has seen of the repository: {error}"));
        }
    }

    /// The file with the writer's key.
    ///
    /// # Errors
    /// If nothing says where it is.
    pub fn key_path(&self) -> Result<PathBuf, CommandError> {
        env::writer_key().ok_or_else(|| {
            let text = "there is no home directory to look for the writer's key in";
            CommandError::new(Exit::Key, text).next("set LIFEBOAT_WRITER_KEY to the key's file")
        })
    }

    /// The writer's key, which the repository must know.
    ///
    /// # Errors
    /// If it is missing or strange to the repository.
    pub fn writer_key(&self, repo: &Repo) -> Result<WriterKey, CommandError> {
        let path = self.key_path()?;
        let shown = Name::from(path.as_os_str()).shown();
        let key = match WriterKey::load(&path) {
            Err(RepoError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let text = format!("this host has no writer's key: {shown} does not exist");
                return Err(CommandError::new(Exit::Key, text)
                    .next("lifeboat key add makes one, or set LIFEBOAT_WRITER_KEY to the key's file"));
            }
            Err(RepoError::Io { act, source }) => {
                let error = RepoError::Io { act, source };
                return Err(CommandError::of(Exit::Key, &error).next(format!("check {shown}")));
            }
            other => other?,
        };
        let known = repo.writers()?.iter().any(|w| w.file_hash() == key.public().file_hash());
        if known {
            return Ok(key);
        }
        let text = format!("the key {shown} is not one of the repository's writers");
        Err(CommandError::new(Exit::Key, text).next("lifeboat key add lets it write"))
    }

    /// Writes an act to the logbook. It is done all the same if that fails: then it is said.
    pub fn record(&self, repo: &Repo, key: &WriterKey, kind: &str, body: serde_json::Value) {
        let (host, user) = whoami();
        let act = Act { kind: kind.to_owned(), host, user, body };
        if let Err(error) = logbook::append(repo, key, act) {
            self.warn("not-recorded", &format!("the logbook could not be written: {error}"));
        }
        self.remember(repo);
    }

    /// Writes an act to the logbook where this host may write: without a key of the repository that is said, and the act is
    /// done all the same.
    pub fn record_where_possible(&self, repo: &Repo, kind: &str, body: serde_json::Value) {
        match self.writer_key(repo) {
            Ok(key) => self.record(repo, &key, kind, body),
            Err(error) => self.warn("not-recorded", &format!("not in the logbook: {}", error.message())),
        }
    }

    /// Shows what an operation says, and tells it when to stop.
    pub fn observer(&self) -> Box<dyn Observer> {
        progress::observer(self.show(), self.stop())
    }

    fn show(&self) -> Show {
        if self.json() {
            Show::Json
        } else if self.global.quiet {
            Show::Notices
        } else if io::stderr().is_terminal() {
            Show::Bar
        } else {
            Show::Lines
        }
    }

    /// As [`Self::observer`], for a command that hears signals itself.
    pub fn observer_until(&self, stop: Arc<AtomicBool>) -> Box<dyn Observer> {
        progress::observer(self.show(), stop)
    }

    /// What makes another run of this program use the same plan and repository.
    ///
    /// # Errors
    /// If nobody says where the repository is.
    pub fn same_again(&self, plan: &Plan) -> Result<Vec<OsString>, CommandError> {
        let (file, repo) = (plan.file().as_os_str().to_owned(), self.location()?.into_os_string());
        Ok(vec!["--config".into(), file, "--repo".into(), repo])
    }

    /// Shows notices only, on stderr: for commands that write their results while they work.
    pub fn notices(&self) -> Box<dyn Observer> {
        progress::observer(Show::Notices, self.stop())
    }

    /// Tells people something on stderr, unless they want it quiet or programs read.
    pub fn say(&self, text: impl AsRef<str>) {
        if !self.global.quiet && !self.json() {
            // best effort: a closed terminal must not end a backup
            let _ = writeln!(io::stderr(), "{}", text.as_ref());
        }
    }

    /// True if there was something to warn of.
    pub fn has_warned(&self) -> bool {
        self.has_warned.get()
    }

    /// Warns people on stderr, or programs by a line.
    pub fn warn(&self, code: &'static str, text: &str) {
        self.has_warned.set(true);
        let line = if self.json() {
            let message =
                serde_json::json!({"message_type": "error", "code": code, "item": null, "text": text});
            format!("{message}\n")
        } else {
            format!("warning[{code}]: {text}\n")
        };
        let _ = io::stderr().write_all(line.as_bytes());
    }

    /// Where results go.
    ///
    /// # Errors
    /// If there is no stdout.
    pub fn out(&self) -> Result<Out, CommandError> {
        let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(CommandError::output)?;
        Ok(BufWriter::with_capacity(64 << 10, File::from(stdout)))
    }

    /// Writes a text as the result.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn print(&self, text: &str) -> Result<(), CommandError> {
        let mut out = self.out()?;
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CommandError::output)
    }

    /// Writes the one document that is the answer.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn document(&self, answer: &impl Serialize) -> Result<(), CommandError> {
        let text = serde_json::to_string(answer).map_err(|e| CommandError::output(e.into()))?;
        self.print(&(text + "\n"))
    }

    /// How wide a table may be; `None` where nothing limits it.
    pub fn width(&self) -> Option<u16> {
        let terminal = || rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| size.ws_col);
        env::columns().or_else(terminal).filter(|&width| width > 0)
    }

    /// All snapshots that can be read, oldest first. Those that cannot are named on stderr.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn snapshots(&self, repo: &Repo) -> Result<Vec<Snapshot>, CommandError> {
        let (found, bad) = repo.snapshots()?;
        for (id, error) in bad {
            self.warn("snapshot-unreadable", &format!("snapshot {} cannot be read: {error}", id.short()));
        }
        Ok(found)
    }
}

/// Who works here.
pub fn whoami() -> (Name, Name) {
    (host::host_name(), host::user_name())
}

/// An absolute path without `.` and `..`, by its letters alone: links are not looked at.
///
/// # Errors
/// If the path is empty, or the current directory is unknown.
pub fn absolute(path: &Path) -> Result<PathBuf, CommandError> {
    if path.as_os_str().is_empty() {
        return Err(CommandError::usage("a path is empty").next("check for a variable that is not set"));
    }
    let whole =
        std::path::absolute(path).map_err(CommandError::io("could not find out the current directory"))?;
    let mut plain = PathBuf::new();
    for part in whole.components() {
        match part {
            std::path::Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_by_their_letters() {
        let plain = |path: &str| absolute(Path::new(path)).unwrap();
        assert_eq!(plain("/srv/./app/../web//x/"), Path::new("/srv/web/x"));
        assert_eq!(plain("/../.."), Path::new("/"));
        assert_eq!(plain("a"), std::env::current_dir().unwrap().join("a"));
        assert_eq!(absolute(Path::new("")).unwrap_err().exit(), Exit::Usage);
    }
}
