//! The versions that a path had over the snapshots.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::compare::{self, same_lines};
use super::paths::{Part, is_at, parts};
use super::pattern::Pattern;
use crate::base::id::{ChunkId, SnapshotId};
use crate::base::name::Name;
use crate::format::manifest::{Entry, ROOT, compare_entries, line_path};
use crate::repo::documents::Snapshot;
use crate::repo::manifest_reader::ManifestReader;
use crate::repo::reader::ChunkReader;
use crate::repo::{RepoError, Result};

/// Snapshots in a row in which a path was the same.
#[derive(Clone, Debug)]
pub struct Version {
    /// The first of them.
    pub first: SnapshotId,
    /// The last of them.
    pub last: SnapshotId,
    /// How many they are.
    pub snapshots: u64,
    /// The line of the manifest; `None` where there is no such entry.
    pub line: Option<Rc<[u8]>>,
}

/// A path and its versions.
#[derive(Clone, Debug)]
pub struct Found {
    /// The host.
    pub host: Name,
    /// The root that it lies in.
    pub root: Name,
    /// As it was on the host.
    pub path: Vec<u8>,
    /// Oldest first.
    pub versions: Vec<Version>,
}

/// What was found, and what could not be looked at.
#[derive(Debug, Default)]
pub struct Answer {
    /// Paths and their versions.
    pub found: Vec<Found>,
    /// Snapshots whose manifests are damaged, each once, with the first reason.
    pub unread: Vec<(SnapshotId, RepoError)>,
}

impl Answer {
    // Notes damage, which stops nothing.
    fn note(&mut self, id: SnapshotId, error: RepoError) -> Result<()> {
        if !error.is_unreadable() {
            return Err(error);
        }
        if self.unread.last().is_none_or(|(last, _)| *last != id) {
            self.unread.push((id, error));
        }
        Ok(())
    }
}

fn extend(versions: &mut Vec<Version>, id: SnapshotId, in_a_row: bool, line: Option<Rc<[u8]>>) {
    let same = |last: &Version| match (&last.line, &line) {
        (Some(a), Some(b)) => same_lines(a, b) || same_elsewhere(a, b),
        (None, None) => true,
        _ => false,
    };
    match versions.last_mut() {
        Some(last) if in_a_row && same(last) => {
            last.last = id;
            last.snapshots += 1;
        }
        _ => versions.push(Version { first: id, last: id, snapshots: 1, line }),
    }
}

// True for the same entry as another root has it, under another path of the manifest.
fn same_elsewhere(a: &[u8], b: &[u8]) -> bool {
    line_path(a) != line_path(b)
        && matches!((Entry::read_line(a), Entry::read_line(b)), (Ok(a), Ok(b)) if compare::entries(&a, &b).is_none())
}

/// The versions of one path, host by host, over the snapshots that cover it (given oldest first). One whose manifest is damaged
/// where the path would be neither ends a version nor begins one.
///
/// # Errors
/// If the store fails.
pub fn history(chunks: &mut ChunkReader<'_>, snapshots: &[&Snapshot], path: &Name) -> Result<Answer> {
    let mut answer = Answer::default();
    let mut hosts: Vec<Found> = Vec::new();
    for snapshot in snapshots {
        let parts = parts(&snapshot.document, Some(path));
        // a path above roots is nobody's entry
        let Ok([part]) = parts.as_deref() else { continue };
        if !is_at(part, path) {
            continue;
        }
        let line = match find_line(chunks, part) {
            Ok(line) => line,
            Err(error) => {
                answer.note(snapshot.id, error)?;
                continue;
            }
        };
        let host = &snapshot.document.host;
        let found = match hosts.iter_mut().position(|found| found.host == *host) {
            Some(at) => &mut hosts[at],
            None => {
                let path = super::paths::absolute(&part.root.path.0, &part.top);
                let root = part.root.path.clone();
                hosts.push(Found { host: host.clone(), root, path, versions: Vec::new() });
                let last = hosts.len() - 1;
                &mut hosts[last]
            }
        };
        // what was not there yet is no version
        if line.is_some() || !found.versions.is_empty() {
            extend(&mut found.versions, snapshot.id, true, line);
        }
    }
    hosts.retain(|found| !found.versions.is_empty());
    answer.found = hosts;
    Ok(answer)
}

fn find_line(chunks: &mut ChunkReader<'_>, part: &Part<'_>) -> Result<Option<Rc<[u8]>>> {
    let mut reader = ManifestReader::starting_at(chunks, &part.root.manifest, &part.top);
    while let Some((line, found)) = reader.next_line()? {
        match compare_entries(&found, &part.top) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => return Ok(Some(line.into())),
            std::cmp::Ordering::Greater => break,
        }
    }
    Ok(None)
}

// a path relative to its root, and the line
type Hit = (Vec<u8>, Rc<[u8]>);

// What is known of one root of one host.
#[derive(Default)]
struct Searched {
    // how many of its snapshots have been looked at
    seen: u64,
    // by path: its versions, and the number of the snapshot it was seen in last
    found: BTreeMap<Vec<u8>, (u64, Vec<Version>)>,
    // a chunk of a manifest is searched once, however many snapshots share it
    chunks: HashMap<ChunkId, Rc<Vec<Hit>>>,
}

/// The versions of all paths that match, over the snapshots given (oldest first). What of a manifest is damaged is left out.
///
/// # Errors
/// If the store fails.
pub fn find(
    chunks: &mut ChunkReader<'_>,
    snapshots: &[&Snapshot],
    pattern: &Pattern,
    interrupted: &dyn Fn() -> bool,
) -> Result<Answer> {
    let mut answer = Answer::default();
    let mut roots: BTreeMap<(Vec<u8>, Vec<u8>), Searched> = BTreeMap::new();
    for snapshot in snapshots {
        for root in &snapshot.document.roots {
            let key = (snapshot.document.host.0.clone(), root.path.0.clone());
            let part = Part { root, top: ROOT.to_vec() };
            let searched = roots.entry(key).or_default();
            search(chunks, searched, (snapshot.id, &part), pattern, interrupted, &mut answer)?;
        }
    }
    let all = &mut answer.found;
    for ((host, root), searched) in roots {
        all.extend(searched.found.into_iter().map(|(path, (_, versions))| Found {
            host: Name(host.clone()),
            root: Name(root.clone()),
            path: super::paths::absolute(&root, &path),
            versions,
        }));
    }
    all.sort_by(|a, b| {
        a.host.0.cmp(&b.host.0).then_with(|| crate::base::name::compare_paths(&a.path, &b.path))
    });
    Ok(answer)
}

fn search(
    chunks: &mut ChunkReader<'_>,
    searched: &mut Searched,
    (id, part): (SnapshotId, &Part<'_>),
    pattern: &Pattern,
    interrupted: &dyn Fn() -> bool,
    answer: &mut Answer,
) -> Result<()> {
    searched.seen += 1;
    let (mut reader, mut is_whole) = (ManifestReader::new(chunks, &part.root.manifest), true);
    loop {
        if interrupted() {
            return Err(RepoError::Interrupted);
        }
        let chunk = match reader.next_chunk() {
            Ok(Some(of)) => of.chunk,
            Ok(None) => break,
            Err(error) => {
                answer.note(id, error)?;
                is_whole = false;
                continue;
            }
        };
        let hits = match searched.chunks.get(&chunk) {
            Some(hits) => {
                reader.skip_chunk();
                Rc::clone(hits)
            }
            None => {
                let hits = match search_chunk(&mut reader, &part.root.path.0, pattern) {
                    Ok(hits) => Rc::new(hits),
                    Err(error) => {
                        answer.note(id, error)?;
                        is_whole = false;
                        reader.leave_chunk();
                        continue;
                    }
                };
                searched.chunks.insert(chunk, Rc::clone(&hits));
                hits
            }
        };
        for (path, line) in hits.iter() {
            let (last, versions) = searched.found.entry(path.clone()).or_default();
            extend(versions, id, *last + 1 == searched.seen, Some(Rc::clone(line)));
            *last = searched.seen;
        }
    }
    if !is_whole {
        // what was there before may be there still
        for (last, _) in searched.found.values_mut().filter(|(last, _)| *last + 1 == searched.seen) {
            *last = searched.seen;
        }
    }
    Ok(())
}

fn search_chunk(reader: &mut ManifestReader<'_, '_>, root: &[u8], pattern: &Pattern) -> Result<Vec<Hit>> {
    let mut hits = Vec::new();
    let mut full = Vec::new();
    while let Some((line, path)) = reader.next_line()? {
        full.clear();
        super::paths::write_absolute(&mut full, root, &path);
        if pattern.matches(&full, || is_dir(line)) {
            hits.push((path.into_owned(), line.into()));
        }
        if reader.at_chunk_end() {
            break;
        }
    }
    Ok(hits)
}

// No string holds the key unescaped, so the first is the one.
fn is_dir(line: &[u8]) -> bool {
    const KEY: &[u8] = b",\"type\":\"";
    memchr::memmem::find(line, KEY).is_some_and(|at| line[at + KEY.len()..].starts_with(b"dir\""))
}
