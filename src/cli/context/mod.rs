//! What commands share: the plan, the repository's place, the clock; what they do with a repository besides their own
//! work (`repository`), and where results go (`output`).

use std::cell::{Cell, OnceCell, RefCell};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use super::error::CommandError;
use super::{Global, env, signals};
use crate::base::Exit;
use crate::base::id::SnapshotId;
use crate::base::name::{Name, shown};
use crate::base::time::Clock;
use crate::plan::{Plan, PlanError};
use crate::state::State;
use crate::store::Store;
use crate::store::local::LocalStore;
use crate::sys::host;
use crate::witness::Older;

mod output;
mod repository;

pub use output::Out;
pub use repository::choose_but;

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
    unreadable: RefCell<Vec<SnapshotId>>,
}

/// What a command has to say of how it ended, for whoever is told.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Said {
    /// In a sentence.
    pub summary: String,
    /// What failed, each in a line; numbers in it do not make it another failure.
    pub details: Vec<String>,
    /// What to do about it.
    #[serde(skip)]
    pub next: Option<&'static str>,
}

impl Context {
    /// For one run of the program.
    pub fn new(global: Global) -> Self {
        let (stop, plan, outcome) = (OnceCell::new(), OnceCell::new(), RefCell::new(None));
        let (older, has_warned) = (OnceCell::new(), Cell::new(false));
        let unreadable = RefCell::default();
        Self { global, stop, plan, clock: Clock::System, outcome, older, has_warned, unreadable }
    }

    /// Set when somebody wants an end. From here on the first signal asks to stop; before, and in commands that
    /// watch nothing, it ends the program at once. So it does if the handlers cannot be installed, which loses
    /// nothing either.
    pub fn stop(&self) -> Arc<AtomicBool> {
        Arc::clone(self.stop.get_or_init(|| signals::install().unwrap_or_default()))
    }

    /// Says how the command ended, for [`super::notified`].
    pub fn outcome(&self, summary: impl Into<String>, details: Vec<String>) {
        *self.outcome.borrow_mut() = Some(Said { summary: summary.into(), details, next: None });
    }

    /// Adds what to do about it.
    pub fn advise(&self, next: Option<&'static str>) {
        if let Some(said) = &mut *self.outcome.borrow_mut() {
            said.next = next;
        }
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

    /// What makes another run of this program use the same plan and repository.
    ///
    /// # Errors
    /// If nobody says where the repository is.
    pub fn same_again(&self, plan: &Plan) -> Result<Vec<OsString>, CommandError> {
        let (file, repo) = (plan.file().as_os_str().to_owned(), self.location()?.into_os_string());
        Ok(vec!["--config".into(), file, "--repo".into(), repo])
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
                // behind a link that is the parent of what it leads to, as the system sees it
                if plain.is_symlink()
                    && let Ok(real) = plain.canonicalize()
                {
                    plain = real;
                }
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
