//! Walking every manifest: is it readable and in order, and is every chunk that it names somewhere?
//! A chunk of a manifest that many snapshots share is read once.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::problem::{Hit, LostPath, MAX_PATHS};
use crate::base::event::Observer;
use crate::base::id::{ChunkId, PackId, SnapshotId};
use crate::base::name::{Name, is_within};
use crate::format::FormatError;
use crate::format::brief::Brief;
use crate::format::manifest::{
    ChunkRef, Entry, MAX_LEVEL, ROOT, Type, compare_entries, is_in_order, lines, read_list,
};
use crate::format::snapshot::{Document, Root};
use crate::repo::reader::ChunkReader;
use crate::repo::{ChunkIndex, Repo, RepoError, Result};

/// Frames of manifests that are kept while they are walked.
const FRAMES: usize = 6;

/// What the walk found.
#[derive(Default)]
pub struct Survey {
    /// Chunks, of files or of manifests, that are in no pack.
    pub missing: HashSet<ChunkId>,
    /// Chunks of manifests that could not be read.
    pub unreadable: HashSet<ChunkId>,
    /// Manifests that are not what the format says.
    pub malformed: Vec<(SnapshotId, Name, String)>,
    /// Entries whose chunks do not add up to their size.
    pub sizes: Vec<Hit>,
    /// Snapshots whose list of packs is not exact.
    pub inexact: Vec<SnapshotId>,
    /// The numbers of all packs that the snapshots need.
    pub packs: BTreeSet<u32>,
    /// Those of them without which something would be in no pack, or from which it is read first.
    pub chosen: BTreeSet<u32>,
}

/// What is known of a chunk of entries once it was read.
struct Leaf {
    first: Vec<u8>,
    entries: u64,
    last: Vec<u8>,
    last_is_dir: bool,
    packs: Vec<u32>,
    copied: Vec<u32>,
    // where what has copies is read first
    chosen: Vec<u32>,
    wrong_sizes: Vec<Vec<u8>>,
}

type Known = HashMap<ChunkId, Rc<std::result::Result<Leaf, String>>>;

struct Walk<'a, 'r> {
    index: &'r ChunkIndex,
    chunks: &'a mut ChunkReader<'r>,
    known: &'a mut Known,
    survey: &'a mut Survey,
    // the last entry, and whether it is a directory; `None` where that could not be read
    last: Option<(Vec<u8>, bool)>,
    needed: BTreeSet<u32>,
    copied: BTreeSet<u32>,
    chosen: BTreeSet<u32>,
    hit: Hit,
    root: Name,
    observer: &'a dyn Observer,
}

/// Walks the manifests of these snapshots.
///
/// # Errors
/// If the store fails, or the observer interrupts.
pub fn survey(
    repo: &Repo,
    index: &ChunkIndex,
    documents: &[(SnapshotId, Document)],
    observer: &dyn Observer,
) -> Result<Survey> {
    let mut chunks = ChunkReader::new(repo.store(), index, FRAMES)?;
    let (mut survey, mut known) = (Survey::default(), Known::new());
    for (id, document) in documents {
        let hit = Hit { snapshot: *id, paths: Vec::new(), lost_entries: 0 };
        let mut walk = Walk {
            index,
            chunks: &mut chunks,
            known: &mut known,
            survey: &mut survey,
            last: None,
            needed: BTreeSet::new(),
            copied: BTreeSet::new(),
            chosen: BTreeSet::new(),
            hit,
            root: Name::default(),
            observer,
        };
        for root in &document.roots {
            if let Err(why) = walk.root(root)? {
                walk.survey.malformed.push((*id, root.path.clone(), why));
            }
        }
        let Walk { needed, copied, chosen, hit, .. } = walk;
        if hit.lost_entries > 0 {
            survey.sizes.push(hit);
        }
        if !packs_are_exact(repo, index, document, &mut chunks, &needed, &copied) {
            survey.inexact.push(*id);
        }
        survey.chosen.extend(needed.iter().copied().chain(chosen));
        survey.packs.extend(needed.into_iter().chain(copied));
    }
    Ok(survey)
}

/// What is wrong with a manifest's form, inside what may go wrong with the store.
type Judged = Result<std::result::Result<(), String>>;

impl Walk<'_, '_> {
    fn root(&mut self, root: &Root) -> Judged {
        let list = &root.manifest;
        self.root = root.path.clone();
        self.last = Some((Vec::new(), false));
        let total = list.chunks.iter().map(|c| c.entries).fold(0, u64::saturating_add);
        if total != list.entries || list.entries == 0 {
            return Ok(Err("its number of entries is not that of its chunks".to_owned()));
        }
        self.refs(list.level.min(MAX_LEVEL), &list.chunks, None)
    }

    // `end`: where the list above goes on.
    fn refs(&mut self, level: u32, refs: &[ChunkRef], end: Option<&Name>) -> Judged {
        for (position, of) in refs.iter().enumerate() {
            if self.observer.interrupted() {
                return Err(RepoError::Interrupted);
            }
            let next = refs.get(position + 1);
            if !is_in_order(of, next, end)
                || self.last.as_ref().is_some_and(|(last, _)| !last.is_empty() && !before(last, &of.first.0))
            {
                return Ok(Err("its chunks are not in order".to_owned()));
            }
            let end = next.map(|next| &next.first).or(end);
            let judged = if level == 0 { self.leaf(of)? } else { self.list(level, of, end)? };
            if judged.is_err() {
                return Ok(judged);
            }
        }
        Ok(Ok(()))
    }

    fn list(&mut self, level: u32, of: &ChunkRef, end: Option<&Name>) -> Judged {
        let Some(bytes) = self.read(of.chunk)? else { return Ok(Ok(())) };
        let list = match read_list(&bytes) {
            Ok(list) => list,
            Err(e) => return Ok(Err(e.to_string())),
        };
        if !of.lists(&list) {
            return Ok(Err("a list is not the one it is listed as".to_owned()));
        }
        self.refs(level - 1, &list, end)
    }

    // The bytes of a manifest's chunk; `None` if they cannot be read, which is noted.
    fn read(&mut self, id: ChunkId) -> Result<Option<Vec<u8>>> {
        if let Some(place) = self.index.get(&id) {
            self.needed.insert(place.pack);
            self.copied.extend(self.index.places(&id).skip(1).map(|p| p.pack));
        }
        match self.chunks.with_chunk(id, <[u8]>::to_vec) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(RepoError::ChunkMissing(_)) => {
                self.survey.missing.insert(id);
                self.last = None;
                Ok(None)
            }
            // whatever the store says of it: it cannot be read
            Err(_) => {
                self.survey.unreadable.insert(id);
                self.last = None;
                Ok(None)
            }
        }
    }

    fn leaf(&mut self, of: &ChunkRef) -> Judged {
        let leaf = match self.known.get(&of.chunk) {
            Some(leaf) => Rc::clone(leaf),
            None => {
                let Some(bytes) = self.read(of.chunk)? else { return Ok(Ok(())) };
                let leaf = read_leaf(&bytes, self.index, &mut self.survey.missing);
                let leaf = Rc::new(leaf.map_err(|e| e.to_string()));
                self.known.insert(of.chunk, Rc::clone(&leaf));
                leaf
            }
        };
        self.needed.extend(self.index.get(&of.chunk).map(|place| place.pack));
        let leaf = match &*leaf {
            Ok(leaf) => leaf,
            Err(why) => return Ok(Err(why.clone())),
        };
        if leaf.first != of.first.0 || leaf.entries != of.entries {
            return Ok(Err("a chunk is not the one it is listed as".to_owned()));
        }
        if let Some((last, is_dir)) = &self.last
            && !has_parent(&leaf.first, last, *is_dir)
        {
            return Ok(Err("an entry stands before its directory".to_owned()));
        }
        self.needed.extend(&leaf.packs);
        self.copied.extend(&leaf.copied);
        self.chosen.extend(&leaf.chosen);
        self.hit.lost_entries += leaf.wrong_sizes.len() as u64;
        let room = MAX_PATHS.saturating_sub(self.hit.paths.len());
        self.hit.paths.extend(leaf.wrong_sizes.iter().take(room).map(|path| LostPath {
            root: self.root.0.clone(),
            path: path.clone(),
            stretch: None,
        }));
        self.last = Some((leaf.last.clone(), leaf.last_is_dir));
        Ok(Ok(()))
    }
}

fn before(a: &[u8], b: &[u8]) -> bool {
    compare_entries(a, b) == Ordering::Less
}

/// True if the directory of `path` is open when `last` was the entry before it: it is that entry, or
/// a directory that the entry lies in. Nothing before it: only the root itself may come.
fn has_parent(path: &[u8], last: &[u8], last_is_dir: bool) -> bool {
    if last.is_empty() || path == ROOT {
        return last.is_empty() && path == ROOT;
    }
    let parent = match memchr::memrchr(b'/', path) {
        Some(at) => &path[..at],
        None => ROOT,
    };
    if parent == last { last_is_dir } else { last != ROOT && is_within(last, parent) }
}

fn read_leaf(
    bytes: &[u8],
    index: &ChunkIndex,
    missing: &mut HashSet<ChunkId>,
) -> std::result::Result<Leaf, FormatError> {
    let mut leaf = Leaf {
        first: Vec::new(),
        entries: 0,
        last: Vec::new(),
        last_is_dir: false,
        packs: Vec::new(),
        copied: Vec::new(),
        chosen: Vec::new(),
        wrong_sizes: Vec::new(),
    };
    for line in lines(bytes)? {
        // most lines are of the simple form; the others are decoded in full
        if let Some(brief) = Brief::read(line)
            && let Some(chunks) = brief.chunks().collect::<Option<Vec<_>>>()
        {
            leaf.next(&brief.path, brief.kind)?;
            leaf.content((brief.kind, brief.size), &chunks, index, missing);
        } else {
            let entry = Entry::read_line(line)?;
            leaf.next(&entry.path, entry.stat.kind)?;
            leaf.content((entry.stat.kind, entry.stream_len()), &entry.chunks, index, missing);
        }
    }
    for packs in [&mut leaf.packs, &mut leaf.copied, &mut leaf.chosen] {
        packs.sort_unstable();
        packs.dedup();
        packs.shrink_to_fit();
    }
    Ok(leaf)
}

impl Leaf {
    // The place of an entry among the others.
    fn next(&mut self, path: &[u8], kind: Type) -> std::result::Result<(), FormatError> {
        let bad = |why: &str| FormatError::malformed("a manifest", why);
        if self.entries == 0 {
            self.first.extend_from_slice(path);
        } else if !before(&self.last, path) {
            return Err(bad("its entries are not in order"));
        } else if !has_parent(path, &self.last, self.last_is_dir) {
            return Err(bad("an entry stands before its directory"));
        }
        self.entries += 1;
        self.last_is_dir = kind == Type::Dir;
        self.last.clear();
        self.last.extend_from_slice(path);
        Ok(())
    }

    // The content of the entry that came last.
    fn content(
        &mut self,
        (kind, size): (Type, u64),
        chunks: &[ChunkId],
        index: &ChunkIndex,
        missing: &mut HashSet<ChunkId>,
    ) {
        let (mut sum, mut complete) = (0, true);
        for id in chunks {
            let Some(place) = index.get(id) else {
                missing.insert(*id);
                complete = false;
                continue;
            };
            sum += u64::from(place.size);
            let mut others = index.copies_of(id).peekable();
            let has_copies = others.peek().is_some();
            if has_copies && self.chosen.last() != Some(&place.pack) {
                self.chosen.push(place.pack);
            }
            let packs = if has_copies { &mut self.copied } else { &mut self.packs };
            if packs.last() != Some(&place.pack) {
                packs.push(place.pack);
            }
            self.copied.extend(others.map(|p| p.pack));
        }
        if complete && sum != size && kind == Type::File {
            self.wrong_sizes.push(self.last.clone());
        }
    }
}

// A list that names packs that are gone was exact before a prune or repair moved what they held.
fn packs_are_exact(
    repo: &Repo,
    index: &ChunkIndex,
    document: &Document,
    chunks: &mut ChunkReader<'_>,
    needed: &BTreeSet<u32>,
    copied: &BTreeSet<u32>,
) -> bool {
    let Ok(listed) = repo.needed_packs(document, chunks) else { return false };
    let of = |numbers: &BTreeSet<u32>| -> BTreeSet<PackId> {
        numbers.iter().filter_map(|n| index.pack(*n).and_then(|p| p.id)).collect()
    };
    let there: BTreeSet<PackId> = index.packs().iter().filter_map(|p| p.id).collect();
    if !listed.is_subset(&there) {
        return true;
    }
    let (needed, copied) = (of(needed), of(copied));
    let listed_in = document.packs_chunk.and_then(|id| index.get(&id)).and_then(|p| index.pack(p.pack)?.id);
    let superfluous =
        |pack: &PackId| !needed.contains(pack) && !copied.contains(pack) && listed_in != Some(*pack);
    needed.iter().all(|pack| listed.contains(pack) || copied.contains(pack))
        && !listed.iter().any(superfluous)
}
