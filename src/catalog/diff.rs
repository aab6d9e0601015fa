//! What changed between two snapshots.
//!
//! The manifests are read in step. A chunk that both have is never read; where chunks differ, lines
//! are compared as bytes first, and only what differs is understood.

use std::cmp::Ordering;

use super::compare::{self, Kind};
use super::cursor::Cursor;
use super::paths::{Part, absolute, from_top};
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

/// The parts of both sides that belong together: those whose tops have the same path on the source, whichever roots they
/// are of. Those of the first side come first.
pub fn pairs<'p, 'd>(
    old: &'p [Part<'d>],
    new: &'p [Part<'d>],
) -> Vec<(Option<&'p Part<'d>>, Option<&'p Part<'d>>)> {
    let path = |part: &Part<'_>| absolute(&part.root.path.0, &part.top);
    let partner = |part: &Part<'_>, of: &'p [Part<'d>]| of.iter().find(|o| path(o) == path(part));
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
                let mut a = Side::new(&mut readers.old, a)?;
                let mut b = Side::new(&mut readers.new, b)?;
                both(&mut a, &mut b, &mut found)?;
            }
            (Some(a), None) => Side::new(&mut readers.old, a)?.rest(Kind::Removed, &mut found)?,
            (None, Some(b)) => Side::new(&mut readers.new, b)?.rest(Kind::Added, &mut found)?,
            (None, None) => {}
        }
    }
    Ok(counts)
}

type Found<'f> = &'f mut dyn FnMut(&Change<'_>) -> Result<()>;

// One of two parts that are read in step.
struct Side<'p, 'a, 'r> {
    part: &'p Part<'p>,
    cursor: Cursor<'a, 'r>,
}

impl<'p, 'a, 'r> Side<'p, 'a, 'r> {
    fn new(chunks: &'a mut ChunkReader<'r>, part: &'p Part<'p>) -> Result<Self> {
        Ok(Self { part, cursor: Cursor::new(chunks, part)? })
    }

    // The path that comes next, relative to the top of the part.
    fn path(&self) -> Option<&[u8]> {
        self.cursor.path().map(|path| from_top(path, &self.part.top).unwrap_or(path))
    }

    fn one(&mut self, kind: Kind, found: Found<'_>) -> Result<()> {
        let path = self.cursor.path().unwrap_or_default();
        found(&Change { kind, root: &self.part.root.path.0, path, what: Vec::new() })?;
        self.cursor.pass()
    }

    fn rest(&mut self, kind: Kind, found: Found<'_>) -> Result<()> {
        while self.cursor.path().is_some() {
            self.one(kind, found)?;
        }
        Ok(())
    }
}

fn both(a: &mut Side<'_, '_, '_>, b: &mut Side<'_, '_, '_>, found: Found<'_>) -> Result<()> {
    // only then do equal lines mean the same
    let same_root = a.part.top == b.part.top;
    while let (Some(x), Some(y)) = (a.path(), b.path()) {
        match compare_entries(x, y) {
            Ordering::Less => a.one(Kind::Removed, found)?,
            Ordering::Greater => b.one(Kind::Added, found)?,
            Ordering::Equal
                if same_root && a.cursor.chunk().is_some() && a.cursor.chunk() == b.cursor.chunk() =>
            {
                a.cursor.skip_chunk()?;
                b.cursor.skip_chunk()?;
            }
            Ordering::Equal => {
                same_path(a, b, found)?;
                a.cursor.pass()?;
                b.cursor.pass()?;
            }
        }
    }
    a.rest(Kind::Removed, found)?;
    b.rest(Kind::Added, found)
}

fn same_path(a: &mut Side<'_, '_, '_>, b: &mut Side<'_, '_, '_>, found: Found<'_>) -> Result<()> {
    let (root, tops) = (&a.part.root.path.0, (&a.part.top[..], &b.part.top[..]));
    let (old, new) = (a.cursor.line()?, b.cursor.line()?);
    if compare::same_lines(old, new) {
        return Ok(());
    }
    let (before, mut after) = (Entry::read_line(old)?, Entry::read_line(new)?);
    if tops.0 != tops.1 {
        let first = |entry: &Entry, top| {
            entry.hardlink.as_deref().map(|first| from_top(first, top).map(<[u8]>::to_vec))
        };
        let firsts = (first(&before, tops.0), first(&after, tops.1));
        // roots of which one holds more than the other may have different first names of the same inode
        if firsts.0 == firsts.1 || matches!(firsts, (Some(None), _) | (_, Some(None))) {
            after.hardlink.clone_from(&before.hardlink);
        }
    }
    match compare::entries(&before, &after) {
        Some((kind, what)) => found(&Change { kind, root, path: &before.path, what }),
        None => Ok(()),
    }
}
