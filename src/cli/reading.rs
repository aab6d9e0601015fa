//! A repository opened for reading: its index, its snapshots, and the one that is meant.

use std::ffi::OsStr;

use super::context::{Context, choose_but};
use super::error::CommandError;
use crate::base::id::SnapshotId;
use crate::base::name::Name;
use crate::catalog::paths::{Part, parts};
use crate::catalog::select::{Filters, Selector};
use crate::repo::documents::Snapshot;
use crate::repo::load::Condemned;
use crate::repo::reader::ChunkReader;
use crate::repo::{ChunkIndex, Repo};

/// Frames of manifests that are kept while they are read in order.
const FRAMES: usize = 4;

/// A repository, where its chunks are, and its snapshots.
pub struct Reading {
    /// The repository.
    pub repo: Repo,
    /// Where chunks are.
    pub index: ChunkIndex,
    /// All snapshots that can be read, oldest first.
    pub snapshots: Vec<Snapshot>,
    // and those that cannot
    unreadable: Vec<SnapshotId>,
}

impl Reading {
    /// Opens it to look at what snapshots hold, not at the content of files.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn open(context: &Context) -> Result<Self, CommandError> {
        let repo = context.open_repo()?;
        let snapshots = context.snapshots(&repo)?;
        let index = repo.load_manifests()?;
        Ok(Self { repo, index, snapshots, unreadable: context.unreadable() })
    }

    /// Opens it to read content too.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn with_content(context: &Context) -> Result<Self, CommandError> {
        let repo = context.open_repo()?;
        let snapshots = context.snapshots(&repo)?;
        let loaded = repo.load(Condemned::Use)?;
        for (key, error) in &loaded.damaged_indexes {
            context.warn("index-damaged", &format!("{key} cannot be used: {error}"));
        }
        Ok(Self { repo, index: loaded.index, snapshots, unreadable: context.unreadable() })
    }

    /// A reader of chunks.
    ///
    /// # Errors
    /// If it gets no memory.
    pub fn chunks(&self) -> Result<ChunkReader<'_>, CommandError> {
        Ok(ChunkReader::new(self.repo.store(), &self.index, FRAMES)?)
    }

    /// The snapshot that is meant, and the path behind it.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn choose(&self, text: &OsStr, filters: &Filters) -> Result<(&Snapshot, Option<Name>), CommandError> {
        let selector = Selector::parse(text)?;
        let snapshot = choose_but(&selector.wanted, &self.snapshots, filters, &self.unreadable)?;
        Ok((snapshot, selector.path))
    }

    /// The snapshot that is meant, and what of it.
    ///
    /// # Errors
    /// If there is no such snapshot, or it does not cover the path.
    pub fn parts(&self, text: &OsStr, filters: &Filters) -> Result<(&Snapshot, Vec<Part<'_>>), CommandError> {
        let (snapshot, path) = self.choose(text, filters)?;
        Ok((snapshot, parts(&snapshot.document, path.as_ref())?))
    }
}
