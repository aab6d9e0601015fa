//! What changed between two snapshots.
//!
//! The manifests are read in step. A chunk that both have is never read; where chunks differ, lines
//! are compared as bytes first, and only what differs is understood.

use std::cmp::Ordering;

use super::compare::{self, Kind};
use super::cursor::Cursor;
use super::paths::Part;
use crate::format::manifest::{Entry, compare_entries};
use crate::repo::Result;
use crate::repo::reader::ChunkReader;

/// One change.
#[derive(Debug)]
pub struct Change<'c> {
    /// What kind.
    pub kind: Kind,
    /// The root's path.
    pub root: &'c [u8],
    /// Relative to the root.
    pub path: &'c [u8],
    /// What else differs, as words.
    pub what: Vec<&'static str>,
}

/// How many changes of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Entries that are new.
    pub added: u64,
    /// Entries that are gone.
    pub removed: u64,
    /// Entries that are another type of thing.
    pub r#type: u64,
    /// Entries with other content.
    pub content: u64,
    /// Entries with the same content and other metadata.
    pub metadata: u64,
}

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, kind: Kind) {
        *match kind {
            Kind::Added => &mut self.added,
            Kind::Removed => &mut self.removed,
            Kind::Type => &mut self.r#type,
            Kind::Content => &mut self.content,
            Kind::Metadata => &mut self.metadata,
        } += 1;
    }

    /// All changes.
    pub fn total(&self) -> u64 {
        self.added + self.removed + self.r#type + self.content + self.metadata
    }
}

/// Readers of the two sides; each keeps frames of its own.
pub struct Readers<'r> {
    /// For the older side.
    pub old: ChunkReader<'r>,
    /// For the newer side.
    pub new: ChunkReader<'r>,
}

/// The parts of both sides that belong together: those of the same root. Those of the first side
/// come first.
pub fn pairs<'p, 'd>(
    old: &'p [Part<'d>],
    new: &'p [Part<'d>],
) -> Vec<(Option<&'p Part<'d>>, Option<&'p Part<'d>>)> {
    let partner = |part: &Part<'_>, of: &'p [Part<'d>]| of.iter().find(|o| o.root.path == part.root.path);
    let mut found: Vec<_> = old.iter().map(|part| (Some(part), partner(part, new))).collect();
    found.extend(new.iter().filter(|part| partner(part, old).is_none()).map(|part| (None, Some(part))));
    found
}

/// Calls `found` with each change, in the order of paths, root by root.
///
/// # Errors
/// If a manifest cannot be read, or `found` fails.
pub fn diff(
    readers: &mut Readers<'_>,
    old: &[Part<'_>],
    new: &[Part<'_>],
    found: &mut dyn FnMut(&Change<'_>) -> Result<()>,
) -> Result<Counts> {
    let mut counts = Counts::default();
    let mut found = |change: &Change<'_>| {
        counts.add(change.kind);
        found(change)
    };
    for pair in pairs(old, new) {
        match pair {
            (Some(a), Some(b)) => {
                let root = &a.root.path.0;
                let mut a = Cursor::new(&mut readers.old, a)?;
                let mut b = Cursor::new(&mut readers.new, b)?;
                both(root, &mut a, &mut b, &mut found)?;
            }
            (Some(a), None) => {
                let mut cursor = Cursor::new(&mut readers.old, a)?;
                rest(&a.root.path.0, &mut cursor, Kind::Removed, &mut found)?;
            }
            (None, Some(b)) => {
                let mut cursor = Cursor::new(&mut readers.new, b)?;
                rest(&b.root.path.0, &mut cursor, Kind::Added, &mut found)?;
            }
            (None, None) => {}
        }
    }
    Ok(counts)
}

fn both(
    root: &[u8],
    a: &mut Cursor<'_, '_>,
    b: &mut Cursor<'_, '_>,
    found: &mut dyn FnMut(&Change<'_>) -> Result<()>,
) -> Result<()> {
    while let (Some(x), Some(y)) = (a.path(), b.path()) {
        match compare_entries(x, y) {
            Ordering::Less => one(root, a, Kind::Removed, found)?,
            Ordering::Greater => one(root, b, Kind::Added, found)?,
            Ordering::Equal if a.chunk().is_some() && a.chunk() == b.chunk() => {
                a.skip_chunk()?;
                b.skip_chunk()?;
            }
            Ordering::Equal => {
                same_path(root, a, b, found)?;
                a.pass()?;
                b.pass()?;
            }
        }
    }
    rest(root, a, Kind::Removed, found)?;
    rest(root, b, Kind::Added, found)
}

fn same_path(
    root: &[u8],
    a: &mut Cursor<'_, '_>,
    b: &mut Cursor<'_, '_>,
    found: &mut dyn FnMut(&Change<'_>) -> Result<()>,
) -> Result<()> {
    let (old, new) = (a.line()?, b.line()?);
    if compare::same_lines(old, new) {
        return Ok(());
    }
    let (before, after) = (Entry::read_line(old)?, Entry::read_line(new)?);
    match compare::entries(&before, &after) {
        Some((kind, what)) => found(&Change { kind, root, path: &before.path, what }),
        None => Ok(()),
    }
}

fn one(
    root: &[u8],
    cursor: &mut Cursor<'_, '_>,
    kind: Kind,
    found: &mut dyn FnMut(&Change<'_>) -> Result<()>,
) -> Result<()> {
    let path = cursor.path().unwrap_or_default();
    found(&Change { kind, root, path, what: Vec::new() })?;
    cursor.pass()
}

fn rest(
    root: &[u8],
    cursor: &mut Cursor<'_, '_>,
    kind: Kind,
    found: &mut dyn FnMut(&Change<'_>) -> Result<()>,
) -> Result<()> {
    while cursor.path().is_some() {
        one(root, cursor, kind, found)?;
    }
    Ok(())
}
