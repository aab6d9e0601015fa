//! The blast radius: which files a change touched.

use serde::{Deserialize, Serialize};

use super::types::GuardError;
use crate::base::event::Quiet;
use crate::base::name::Name;
use crate::catalog::compare::Kind;
use crate::catalog::diff::Counts;
use crate::catalog::live::{Options, diff_live};
use crate::catalog::paths::{absolute, parts};
use crate::plan::Plan;
use crate::repo::Repo;
use crate::repo::documents::Snapshot;
use crate::repo::load::Condemned;
use crate::repo::reader::ChunkReader;
use crate::snapshot::trusted_before;
use crate::sys::host::worker_count;
use crate::tree::exclude;

/// So many are listed.
const LISTED: usize = 20;
/// Frames of manifests that are kept while they are read in order.
const FRAMES: usize = 4;

/// Files that differ from the snapshot before the change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    /// How many there are now and were not.
    pub added: u64,
    /// How many have another content or type.
    pub changed: u64,
    /// How many have only other metadata.
    pub metadata: u64,
    /// How many are not there any more.
    pub removed: u64,
    /// How many could not be read, so that nothing is known of them.
    pub unreadable: u64,
    /// The first of them: `+`, `C`, `M`, `T` or `-`, and the path.
    pub listed: Vec<(char, Name)>,
}

impl Touched {
    /// How many in all.
    pub fn total(&self) -> u64 {
        self.added + self.changed + self.metadata + self.removed
    }

    /// In words.
    pub fn shown(&self) -> String {
        let mut text = format!("{} added, {} changed, {} removed", self.added, self.changed, self.removed);
        if self.metadata > 0 {
            text.push_str(&format!(", {} with other metadata", self.metadata));
        }
        if self.unreadable > 0 {
            text.push_str(&format!(", {} that cannot be read", self.unreadable));
        }
        text
    }
}

/// Compares the living tree with a snapshot, but for what the plan excludes and for live data.
pub fn touched(repo: &Repo, plan: &Plan, snapshot: &Snapshot) -> Result<Touched, GuardError> {
    let loaded = repo.load(Condemned::Use)?;
    let mut chunks = ChunkReader::new(repo.store(), &loaded.index, FRAMES)?;
    let root = Name::from(plan.root().as_os_str());
    let parts = parts(&snapshot.document, Some(&root))
        .map_err(|error| GuardError::Plan(format!("{error}: the snapshot does not hold the tree")))?;
    let patterns = plan.app.exclude.iter().chain(&plan.app.keep_on_rollback).chain(&plan.app.rebuild);
    let options = Options {
        excludes: exclude::Options { patterns: patterns.cloned().collect(), ..exclude::Options::default() },
        threads: worker_count(),
        logged_before: trusted_before(snapshot.document.started),
        ..Options::default()
    };
    let mut found = Touched::default();
    let outcome = diff_live(
        &mut chunks,
        &parts,
        &options,
        &mut |change| {
            // the times of directories change with what lies in them
            if found.listed.len() < LISTED && change.kind != Kind::Metadata {
                found.listed.push((change.kind.letter(), Name(absolute(change.root, change.path))));
            }
            Ok(())
        },
        &Quiet,
    );
    let outcome =
        outcome.map_err(|error| GuardError::Plan(format!("the tree could not be compared: {error}")))?;
    let Counts { added, removed, r#type, content, metadata, .. } = outcome.counts;
    Ok(Touched {
        added,
        changed: content + r#type,
        metadata,
        removed,
        unreadable: outcome.unreadable,
        listed: found.listed,
    })
}
