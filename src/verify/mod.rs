//! Looking at a repository: is everything there, and is it what it was?
//!
//! Each rule of `rules/` finds its own kind of problem and goes on to the end; the report holds all of them.
//! Readers go the other way than writers: documents first, then indexes, then packs.

mod impact;
mod likely;
mod manifests;
mod packs;
mod problem;
mod report;
mod rules;
mod select;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::base::event::{Event, Observer, Step};
use crate::base::id::SnapshotId;
use crate::logbook;
use crate::repo::load::Condemned;
use crate::repo::{Repo, Result};

pub(crate) use packs::{Checker, Layout};
pub use problem::{Hit, LostPath, MAX_PATHS, Problem, Severity, Stretch};
pub use report::{Coverage, Report};
pub use rules::config::{CONFIG_FIELD, digest as config_digest};
pub use select::RECENT;

#[cfg(test)]
mod acts_tests;
#[cfg(test)]
mod index_tests;
#[cfg(test)]
mod list_tests;
#[cfg(test)]
mod stretch_tests;
#[cfg(test)]
pub(crate) mod tests;

/// How closely stored data is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Everything but the packs of content is read; those are only there, in their sizes.
    Structure,
    /// Every stored byte is read and hashed.
    Stored,
    /// Every frame is decoded too, and every chunk hashed.
    Deep,
}

impl Depth {
    /// The word in records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Structure => "structure",
            Self::Stored => "stored",
            Self::Deep => "deep",
        }
    }
}

/// How many packs are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Selection {
    /// All of them.
    All,
    /// This share of the stored bytes (0 to 1), oldest proof first.
    Sample(f64),
    /// As many as this time allows, oldest proof first.
    Budget(Duration),
}

/// What to verify, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// How closely.
    pub depth: Depth,
    /// How much.
    pub selection: Selection,
    /// Only these snapshots and the packs they need; `None` means everything.
    pub snapshots: Option<Vec<SnapshotId>>,
    /// How many threads read packs.
    pub workers: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { depth: Depth::Structure, selection: Selection::All, snapshots: None, workers: 2 }
    }
}

/// Verifies a repository. What is wrong with it is in the report.
///
/// # Errors
/// If the repository cannot be listed, or the observer interrupts.
pub fn verify(repo: &Repo, options: &Options, observer: &dyn Observer) -> Result<Report> {
    observer.event(Event::Started { step: Step::Verify, bytes: None });
    let result = run(repo, options, observer);
    observer.event(Event::Finished);
    result
}

fn run(repo: &Repo, options: &Options, observer: &dyn Observer) -> Result<Report> {
    let mut found = Vec::new();
    let log = logbook::read(repo)?;
    rules::config::check(repo, &log, &mut found)?;
    rules::recovery::check(repo, &mut found)?;
    let writers = rules::writers::check(repo, &mut found)?;
    rules::records::check(&log, &mut found);
    let mut documents = rules::documents::check(repo, &writers, &mut found)?;
    rules::sequences::check(repo, &documents, &log, &mut found)?;
    rules::objects::check(repo, &mut found)?;
    rules::acts::check(repo, &log, &mut found)?;
    if let Some(wanted) = &options.snapshots {
        let wanted: BTreeSet<_> = wanted.iter().copied().collect();
        documents.retain(|(id, _)| wanted.contains(id));
    }
    let loaded = repo.load(Condemned::Use)?;
    rules::index::check(&loaded, &mut found);
    let absent = rules::packs::check(repo, &loaded, &mut found)?;

    let proofs = select::Proofs::read(&log, repo.clock().now());
    let (survey, read) = if options.snapshots.is_some() {
        let survey = manifests::survey(repo, &loaded.index, &documents, observer)?;
        let order = select::choose(&loaded.index, &proofs, options, Some(&survey.packs));
        let read = packs::read_all(repo, &loaded.index, &order, options, observer)?;
        (survey, read)
    } else {
        // both at once: the manifests keep one processor busy, the packs the rest
        let order = select::choose(&loaded.index, &proofs, options, None);
        std::thread::scope(|scope| {
            let manifests = scope.spawn(|| manifests::survey(repo, &loaded.index, &documents, observer));
            let read = packs::read_all(repo, &loaded.index, &order, options, observer);
            let survey = manifests.join().unwrap_or(Err(crate::repo::RepoError::SelfCheck));
            Ok::<_, crate::repo::RepoError>((survey?, read?))
        })?
    };
    let proved = packs::proved(&loaded.index, &read);
    rules::index::mark_needed(&loaded.index, &survey.chosen, &mut found);
    impact::report(repo, &loaded, absent, &documents, (survey, read), &mut found, observer)?;
    let coverage = select::coverage(repo, &loaded.index, &proofs, &proved);
    found.sort_by_key(|problem| std::cmp::Reverse(problem.severity()));
    Ok(Report {
        depth: options.depth,
        is_whole: options.snapshots.is_none(),
        problems: found,
        snapshots: documents.iter().map(|(id, _)| *id).collect(),
        proved,
        coverage,
        checked_packs: loaded.index.packs().len() as u64,
    })
}
