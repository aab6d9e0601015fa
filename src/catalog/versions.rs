//! The versions that a path had over the snapshots.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::compare::same_lines;
use super::paths::{Part, parts};
use super::pattern::Pattern;
use crate::base::id::{ChunkId, SnapshotId};
use crate::base::name::Name;
use crate::format::manifest::{ROOT, compare_entries};
use crate::repo::Result;
use crate::repo::documents::Snapshot;
use crate::repo::manifest_reader::ManifestReader;
use crate::repo::reader::ChunkReader;

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

fn extend(versions: &mut Vec<Version>, id: SnapshotId, in_a_row: bool, line: Option<Rc<[u8]>>) {
    let same = |last: &Version| match (&last.line, &line) {
        (Some(a), Some(b)) => same_lines(a, b),
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

/// The versions of one path, host by host, over the snapshots that cover it (given oldest first).
///
/// # Errors
/// If a manifest cannot be read.
pub fn history(chunks: &mut ChunkReader<'_>, snapshots: &[&Snapshot], path: &Name) -> Result<Vec<Found>> {
    let mut hosts: Vec<Found> = Vec::new();
    for snapshot in snapshots {
        let parts = parts(&snapshot.document, Some(path));
        // a path above roots is nobody's entry
        let Ok([part]) = parts.as_deref() else { continue };
        let line = find_line(chunks, part)?;
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
    Ok(hosts)
}

fn find_line(chunks: &mut ChunkReader<'_>, part: &Part<'_>) -> Result<Option<Rc<[u8]>>> {
    let mut reader = ManifestReader::starting_at(chunks, &part.root.manifest, &part.top)?;
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

/// The versions of all paths that match, over the snapshots given (oldest first).
///
/// # Errors
/// If a manifest cannot be read.
pub fn find(
    chunks: &mut ChunkReader<'_>,
    snapshots: &[&Snapshot],
    pattern: &Pattern,
    interrupted: &dyn Fn() -> bool,
) -> Result<Vec<Found>> {
    let mut roots: BTreeMap<(Vec<u8>, Vec<u8>), Searched> = BTreeMap::new();
    for snapshot in snapshots {
        for root in &snapshot.document.roots {
            if interrupted() {
                return Err(crate::repo::RepoError::Interrupted);
            }
            let key = (snapshot.document.host.0.clone(), root.path.0.clone());
            let part = Part { root, top: ROOT.to_vec() };
            search(chunks, roots.entry(key).or_default(), snapshot.id, &part, pattern)?;
        }
    }
    let mut all = Vec::new();
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
    Ok(all)
}

fn search(
    chunks: &mut ChunkReader<'_>,
    searched: &mut Searched,
    id: SnapshotId,
    part: &Part<'_>,
    pattern: &Pattern,
) -> Result<()> {
    searched.seen += 1;
    let mut reader = ManifestReader::new(chunks, &part.root.manifest);
    while let Some(chunk) = reader.next_chunk()?.map(|of| of.chunk) {
        let hits = match searched.chunks.get(&chunk) {
            Some(hits) => {
                reader.skip_chunk();
                Rc::clone(hits)
            }
            None => {
                let hits = Rc::new(search_chunk(&mut reader, &part.root.path.0, pattern)?);
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
