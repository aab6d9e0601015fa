//! What damage costs: from chunks that cannot be read to the snapshots and paths that need them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::Problem;
use super::manifests::Survey;
use super::packs::{States, read_more};
use super::problem::{BadChunks, Hit, LostPath, MAX_PATHS, Stretch};
use crate::base::event::Observer;
use crate::base::id::{ChunkId, SnapshotId};
use crate::base::name::Name;
use crate::format::manifest::{ChunkRef, MAX_LEVEL, is_in_order, line_chunks, line_path, lines, read_list};
use crate::format::snapshot::Document;
use crate::repo::load::Loaded;
use crate::repo::reader::ChunkReader;
use crate::repo::{ChunkIndex, Repo, RepoError, Result};

/// Frames of manifests that are kept while they are walked.
const FRAMES: usize = 6;

/// Adds the problems of packs and manifests, each with what is lost by it.
pub fn report(
    repo: &Repo,
    loaded: &Loaded,
    absent: BadChunks,
    documents: &[(SnapshotId, Document)],
    (survey, mut states): (Survey, States),
    found: &mut Vec<Problem>,
    observer: &dyn Observer,
) -> Result<()> {
    let index = &loaded.index;
    // packs in which a manifest turned out to be damaged, but which were not to be read
    let noticed: BTreeSet<u32> =
        survey.unreadable.iter().flat_map(|id| index.places(id)).map(|p| p.pack).collect();
    let more: Vec<u32> = noticed.into_iter().filter(|n| !states.contains_key(n)).collect();
    read_more(repo, index, &more, &mut states)?;

    let mut bad = absent;
    bad.extend(damaged(index, &states, found));
    let unknown: Vec<ChunkId> = survey
        .missing
        .iter()
        .chain(&survey.unreadable)
        .filter(|id| !bad.contains_key(*id))
        .copied()
        .collect();
    if !unknown.is_empty() {
        let chunks = unknown.len() as u64;
        bad.extend(unknown.into_iter().map(|id| (id, found.len())));
        found.push(Problem::ChunksMissing { chunks, hits: Vec::new() });
    }
    if !bad.is_empty() {
        let mut lost = trace(repo, index, &bad, documents, observer)?;
        super::likely::add(repo, index, documents, lost.values_mut().flatten())?;
        for (number, hits) in lost {
            if let Some(problem) = found.get_mut(number) {
                problem.set_hits(hits);
            }
        }
    }
    found.extend(survey.malformed.into_iter().map(|(snapshot, root, why)| Problem::ManifestDamaged {
        snapshot,
        root,
        why,
    }));
    if !survey.sizes.is_empty() {
        let entries = survey.sizes.iter().map(|h| h.lost_entries).sum();
        found.push(Problem::SizeDiffers { entries, hits: survey.sizes });
    }
    found.extend(survey.inexact.into_iter().map(|snapshot| Problem::PacksInexact { snapshot }));
    Ok(())
}

/// Adds a problem for each pack that is damaged or that the index is wrong about; returns the chunks of which no good copy is left.
fn damaged(index: &ChunkIndex, states: &States, found: &mut Vec<Problem>) -> BadChunks {
    let mut numbers: Vec<u32> = states.keys().copied().collect();
    numbers.sort_unstable_by_key(|n| index.pack(*n).and_then(|p| p.id));
    let mut copies: HashMap<ChunkId, (usize, BTreeSet<u32>)> = HashMap::new();
    for number in numbers {
        let (Some(state), Some(pack)) = (states.get(&number), index.pack(number).and_then(|p| p.id)) else {
            continue;
        };
        let problem = match &state.why {
            Some(why) => {
                let bad_chunks = state.bad.len() as u64;
                Problem::PackDamaged { pack, why: why.clone(), bad_chunks, hits: Vec::new() }
            }
            None if state.differs => Problem::IndexDiffers { pack, hits: Vec::new() },
            None => continue,
        };
        // two index objects that differ from each other were told already
        let at = found.iter().position(|told| *told == problem).unwrap_or_else(|| {
            found.push(problem);
            found.len() - 1
        });
        for id in &state.bad {
            copies.entry(*id).or_insert((at, BTreeSet::new())).1.insert(number);
        }
    }
    let lost =
        |id: &ChunkId, packs: &BTreeSet<u32>| index.places(id).all(|place| packs.contains(&place.pack));
    copies.into_iter().filter(|(id, (_, packs))| lost(id, packs)).map(|(id, (n, _))| (id, n)).collect()
}

type PathHits = Rc<Vec<(Vec<u8>, BTreeSet<usize>)>>;

struct Trace<'a, 'r> {
    chunks: &'a mut ChunkReader<'r>,
    bad: &'a BadChunks,
    clean: &'a mut HashSet<ChunkId>,
    hit: &'a mut HashMap<ChunkId, PathHits>,
    found: BTreeMap<usize, Hit>,
    snapshot: SnapshotId,
    observer: &'a dyn Observer,
}

/// For each problem's number what is lost by it.
pub(super) fn trace(
    repo: &Repo,
    index: &ChunkIndex,
    bad: &BadChunks,
    documents: &[(SnapshotId, Document)],
    observer: &dyn Observer,
) -> Result<BTreeMap<usize, Vec<Hit>>> {
    let mut chunks = ChunkReader::new(repo.store(), index, FRAMES)?;
    let (mut clean, mut hit) = (HashSet::new(), HashMap::new());
    let mut all: BTreeMap<usize, Vec<Hit>> = BTreeMap::new();
    for (snapshot, document) in documents {
        let mut trace = Trace {
            chunks: &mut chunks,
            bad,
            clean: &mut clean,
            hit: &mut hit,
            found: BTreeMap::new(),
            snapshot: *snapshot,
            observer,
        };
        for root in &document.roots {
            trace.refs(&root.path.0, root.manifest.level.min(MAX_LEVEL), &root.manifest.chunks, None)?;
        }
        for (number, hit) in trace.found {
            all.entry(number).or_default().push(hit);
        }
    }
    Ok(all)
}

impl Trace<'_, '_> {
    // `end`: the path that comes behind all of them.
    fn refs(&mut self, root: &[u8], level: u32, refs: &[ChunkRef], end: Option<&Name>) -> Result<()> {
        for (position, of) in refs.iter().enumerate() {
            if self.observer.interrupted() {
                return Err(RepoError::Interrupted);
            }
            let next = refs.get(position + 1);
            if !is_in_order(of, next, end) {
                // a problem of its own; followed, it could lead on without end
                continue;
            }
            let until = next.map(|next| &next.first).or(end);
            if let Some(&number) = self.bad.get(&of.chunk) {
                self.lose_stretch(number, root, of, until);
            } else if level == 0 {
                self.leaf(root, of);
            } else if let Ok(Ok(list)) = self.chunks.with_chunk(of.chunk, read_list)
                && of.lists(&list)
            {
                // what does not read as this list is a problem of its own; followed, it could be met again and again
                self.refs(root, level - 1, &list, until)?;
            }
        }
        Ok(())
    }

    fn lose_stretch(&mut self, number: usize, root: &[u8], of: &ChunkRef, until: Option<&Name>) {
        let until = until.map(|until| until.0.clone());
        let last =
            self.found.get_mut(&number).and_then(|hit| Some((&mut hit.lost_entries, hit.paths.last_mut()?)));
        if let Some((lost_entries, LostPath { root: before, stretch: Some(stretch), .. })) = last
            && before == root
            && stretch.until.as_ref() == Some(&of.first.0)
        {
            stretch.until = until;
            stretch.entries = stretch.entries.saturating_add(of.entries);
            *lost_entries = lost_entries.saturating_add(of.entries);
            return;
        }
        let stretch = Some(Stretch { until, entries: of.entries, likely: Arc::default() });
        self.lose(number, of.entries, LostPath { root: root.to_vec(), path: of.first.0.clone(), stretch });
    }

    fn leaf(&mut self, root: &[u8], of: &ChunkRef) {
        if self.clean.contains(&of.chunk) {
            return;
        }
        let hits = match self.hit.get(&of.chunk) {
            Some(hits) => Rc::clone(hits),
            None => {
                let bad = self.bad;
                let read = self.chunks.with_chunk(of.chunk, |bytes| Rc::new(paths_hit(bytes, bad)));
                let hits: PathHits = read.unwrap_or_default();
                if hits.is_empty() {
                    self.clean.insert(of.chunk);
                    return;
                }
                self.hit.insert(of.chunk, Rc::clone(&hits));
                hits
            }
        };
        for (path, numbers) in hits.iter() {
            for &number in numbers {
                let lost = LostPath { root: root.to_vec(), path: path.clone(), stretch: None };
                self.lose(number, 1, lost);
            }
        }
    }

    fn lose(&mut self, number: usize, entries: u64, path: LostPath) {
        let snapshot = self.snapshot;
        let none = || Hit { snapshot, paths: Vec::new(), lost_entries: 0 };
        let hit = self.found.entry(number).or_insert_with(none);
        hit.lost_entries = hit.lost_entries.saturating_add(entries);
        if hit.paths.len() < MAX_PATHS {
            hit.paths.push(path);
        }
    }
}

fn paths_hit(bytes: &[u8], bad: &BadChunks) -> Vec<(Vec<u8>, BTreeSet<usize>)> {
    let mut hits = Vec::new();
    for line in lines(bytes).into_iter().flatten() {
        let mut numbers = BTreeSet::new();
        // a malformed line is a problem of its own
        let _ = line_chunks(line, |id| numbers.extend(bad.get(&id)));
        if !numbers.is_empty()
            && let Some(path) = line_path(line)
        {
            hits.push((path.into_owned(), numbers));
        }
    }
    hits
}
