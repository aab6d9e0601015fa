//! The whole operation: prepare, walk and store, commit.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::assemble::{Assembler, Compared, Totals};
use super::changes::{OnLoss, Parent};
use super::command::store_output;
use super::databases::Databases;
use super::files::absolute;
use super::planned::{tell_unsaved, without_side_files};
use super::pool::Pool;
use super::rules::Own;
use super::tree::TreeWalk;
use super::{Options, Outcome, SnapshotError};
use crate::base::Name;
use crate::base::event::{Event, Notice, Observer, Step};
use crate::base::id::{PackId, RecordId, SnapshotId};
use crate::base::time::Timestamp;
use crate::format::manifest::{Entry, List, ROOT};
use crate::format::pack::Kind;
use crate::format::snapshot::{Document, ExcludeRules, MAX_PACKS, Root};
use crate::repo::documents::Snapshot;
use crate::repo::keys::WriterKey;
use crate::repo::pack_writer::PackWriter;
use crate::repo::reader::ChunkReader;
use crate::repo::session::OpenSession;
use crate::repo::writer::Writer;
use crate::repo::{ChunkIndex, Repo, RepoError};
use crate::tree::exclude::literal_pattern;

/// Frames of the parent's manifest that are kept while it is read.
const PARENT_FRAMES: usize = 4;
/// How often a snapshot is begun again because a prune condemned what it relied on.
const TRIES: usize = 3;

/// Takes a snapshot.
///
/// # Errors
/// If nothing could be kept. What part of a source could not be read is in the outcome's statistics.
pub fn take(
    repo: &Repo,
    key: &WriterKey,
    logbook: Option<RecordId>,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Outcome, SnapshotError> {
    observer.event(Event::Started { step: Step::Snapshot, bytes: None });
    let mut tries = 0;
    let result = loop {
        tries += 1;
        match take_once(repo, key, logbook, options, observer) {
            Err(SnapshotError::Repo(RepoError::Condemned(_))) if tries < TRIES => {}
            other => break other,
        }
    };
    observer.event(Event::Finished);
    result
}

/// What is known of earlier snapshots of this host.
struct History {
    sequence: u64,
    previous: Option<SnapshotId>,
    parent: Option<Snapshot>,
}

fn history(repo: &Repo, options: &Options) -> Result<History, SnapshotError> {
    let (snapshots, _) = repo.snapshots()?;
    let mut history = History { sequence: 1, previous: None, parent: None };
    let wanted: Vec<Name> = root_paths(options);
    // the newest of those that have as many of the roots as any
    let mut most = 1;
    for snapshot in snapshots {
        let mine = snapshot.document.host == options.host;
        if mine && snapshot.document.sequence >= history.sequence {
            history.sequence = snapshot.document.sequence + 1;
            history.previous = Some(snapshot.id);
        }
        let shared = snapshot.document.roots.iter().filter(|r| wanted.contains(&r.path)).count();
        let chosen = match options.parent {
            Some(id) => snapshot.id == id,
            None => mine && !snapshot.forgotten && shared >= most,
        };
        if chosen {
            most = shared;
            history.parent = Some(snapshot);
        }
    }
    Ok(history)
}

fn root_paths(options: &Options) -> Vec<Name> {
    match &options.command {
        Some((name, _)) => vec![name.clone()],
        None => options.roots.iter().map(|r| Name::from(r.as_os_str())).collect(),
    }
}

fn take_once(
    repo: &Repo,
    key: &WriterKey,
    logbook: Option<RecordId>,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Outcome, SnapshotError> {
    let started = repo.clock().now();
    let history = history(repo, options)?;
    if options.dry_run {
        return super::dry::count(repo, history.parent.as_ref(), options, observer);
    }
    // before the plans of prunes are read: a prune that comes later sees this session
    let session = OpenSession::begin(repo, &options.host)?;
    let writer = match Writer::begin(repo, options.level) {
        Ok(writer) => writer,
        Err(e) => {
            session.close();
            return Err(e.into());
        }
    };
    writer.hold(session);
    let mut totals = Totals::awaiting(&options.databases);
    let stored = store_all(repo, &writer, history.parent.as_ref(), options, &mut totals, observer);
    let result = stored.and_then(|roots| {
        let parent = history.parent.as_ref();
        let unsaved = tell_unsaved(options, &mut totals, observer)?;
        let statistics = totals.statistics;
        let own_paths = totals.own_paths.iter().map(|(root, path)| absolute(root, path)).collect();
        if options.skip_if_unchanged && unchanged(&roots, parent, &totals) {
            return Ok(Outcome { id: None, parent: parent.map(|p| p.id), statistics, unsaved, own_paths });
        }
        let mut document = describe(repo, options, started, roots);
        document.excludes = rules(options, &totals.own_paths)?;
        document.sequence = history.sequence;
        document.previous = history.previous;
        document.parent = parent.map(|p| p.id);
        document.session = writer.session_name();
        document.logbook = logbook;
        commit(repo, key, &writer, document, totals).map(|outcome| Outcome { unsaved, own_paths, ..outcome })
    });
    // closed by the document that names it; removed here where that is allowed
    writer.release();
    result
}

fn store_all(
    repo: &Repo,
    writer: &Writer,
    parent: Option<&Snapshot>,
    options: &Options,
    totals: &mut Totals,
    observer: &dyn Observer,
) -> Result<Vec<Root>, SnapshotError> {
    let (runs, taken) = crossbeam_channel::bounded(options.workers * 2);
    let (done, finished) = crossbeam_channel::unbounded();
    // before any database is copied: closing a file drops the locks on it
    let (tree_roots, beside) = without_side_files(options)?;
    let dense = Mutex::new(PackWriter::new(writer, Kind::Content).for_dense());
    let add_dense =
        |id, content: &[u8]| dense.lock().unwrap_or_else(PoisonError::into_inner).add_hashed(id, content);
    let clock = repo.clock();
    let databases = (!options.plain_databases).then(|| Databases::new(&clock, observer));
    let pool = Pool::new(writer, observer, taken, done, &add_dense, databases.as_ref());
    let roots = std::thread::scope(|scope| {
        let mut workers = Vec::new();
        if options.command.is_none() {
            workers.extend((0..options.workers).map(|_| scope.spawn(|| pool.work())));
        }
        let mut packs = PackWriter::new(writer, Kind::Manifest);
        let mut result = Ok(Vec::new());
        let channels = (&runs, &finished, pool.stopped());
        match &options.command {
            Some((name, argv)) => {
                let entry = store_output(argv, options, writer, repo.clock(), observer);
                let root = entry.and_then(|mut entry| {
                    let mut compared = Compared::New;
                    if options.skip_if_unchanged
                        && let Some(before) = printed_before(repo, writer, parent, name, observer)?
                        && is_printed_again(&entry, &before)
                    {
                        (entry, compared) = (before, Compared::Unchanged);
                    }
                    let mut assembler =
                        Assembler::new(writer, observer, &mut packs, name.clone(), channels, totals);
                    let mut line = Vec::new();
                    entry.write_line(&mut line);
                    assembler.totals().need_line(&line, writer)?;
                    assembler.count(&entry.stat, compared);
                    assembler.add_line(&entry.path, &line, entry.stat.size, None)?;
                    let command = argv.iter().map(|a| Name::from(a.as_os_str())).collect();
                    Ok(Root { path: name.clone(), command: Some(command), manifest: assembler.finish()? })
                });
                result = root.map(|root| vec![root]);
            }
            None => {
                let mut missing = None;
                // those beside a database come last: by then it is known whether it could be copied
                let all = tree_roots.into_iter().map(Ok).chain(beside.into_iter().map(Err));
                for root in all {
                    let root = match root {
                        Ok(root) => root,
                        Err(file) if totals.is_uncopied(file.owner) => file.root,
                        Err(file) => {
                            file.tell(observer);
                            continue;
                        }
                    };
                    let name = Name::from(root.as_os_str());
                    let skipped = totals.statistics.skipped;
                    let assembler = Assembler::new(writer, observer, &mut packs, name, channels, totals);
                    let walked = walk_root(repo, writer, parent, options, root, assembler, observer);
                    match walked.and_then(not_empty) {
                        Ok(root) => {
                            result.iter_mut().for_each(|roots: &mut Vec<Root>| roots.push(root.clone()))
                        }
                        Err(SnapshotError::Root { path, source }) if options.roots.len() > 1 => {
                            totals.statistics.skipped = skipped + 1;
                            totals.problem(observer, path.clone(), "root-unreadable", &source.to_string());
                            missing.get_or_insert(SnapshotError::Root { path, source });
                        }
                        Err(e) => {
                            result = Err(e);
                            break;
                        }
                    }
                }
                if let Some(error) = missing
                    && result.as_ref().is_ok_and(Vec::is_empty)
                {
                    result = Err(error);
                }
            }
        }
        if result.is_err() {
            pool.stop();
        }
        drop(runs);
        // what waits for a worker that gave up would wait for ever
        for worker in workers {
            let _ = worker.join();
        }
        if let Some(error) = pool.take_error() {
            // what the walk met is then only a consequence
            return Err(match error {
                RepoError::Interrupted => match result {
                    Err(e) if !matches!(e, SnapshotError::Repo(RepoError::Interrupted)) => e,
                    _ => SnapshotError::Interrupted,
                },
                other => other.into(),
            });
        }
        let roots = result.map_err(|e| match e {
            SnapshotError::Repo(RepoError::Interrupted) => SnapshotError::Interrupted,
            other => other,
        })?;
        packs.finish()?;
        Ok::<_, SnapshotError>(roots)
    })?;
    dense.into_inner().unwrap_or_else(PoisonError::into_inner).finish()?;
    Ok(roots)
}

// The parent's entry of what a command printed under this name.
fn printed_before(
    repo: &Repo,
    writer: &Writer,
    parent: Option<&Snapshot>,
    name: &Name,
    observer: &dyn Observer,
) -> Result<Option<Entry>, RepoError> {
    let printed = |r: &&Root| r.path == *name && r.command.is_some();
    let same = parent.and_then(|p| Some((p, p.document.roots.iter().find(printed)?)));
    let Some((parent, root)) = same else { return Ok(None) };
    let loaded = parents_index(repo, writer)?;
    let mut chunks = ChunkReader::new(repo.store(), &loaded, PARENT_FRAMES)?;
    let on_loss = lost_parent(writer, observer, parent.id, name);
    let mut cursor = Parent::new(&mut chunks, &root.manifest, parent.document.started, on_loss)?;
    Ok(if cursor.seek(ROOT)? { cursor.entry() } else { None })
}

// Its times are those of the run, whatever it printed.
fn is_printed_again(now: &Entry, before: &Entry) -> bool {
    let mut now = now.clone();
    (now.stat.mtime, now.stat.ctime) = (before.stat.mtime, before.stat.ctime);
    now == *before
}

// The index grows while a snapshot is taken, so the parent is read by an index of its own.
fn parents_index(repo: &Repo, writer: &Writer) -> Result<ChunkIndex, RepoError> {
    match writer.avoids_packs() {
        // what a prune condemned can be read, if not relied on
        true => repo.load_manifests(),
        false => Ok(writer.index().of_kind(Kind::Manifest)),
    }
}

fn walk_root(
    repo: &Repo,
    writer: &Writer,
    parent: Option<&Snapshot>,
    options: &Options,
    root: &std::path::Path,
    assembler: Assembler<'_, '_>,
    observer: &dyn Observer,
) -> Result<Root, SnapshotError> {
    let name = Name::from(root.as_os_str());
    let same = parent.and_then(|p| p.document.roots.iter().find(|r| r.path == name).map(|r| (r, p)));
    let loaded = match same {
        Some(_) => parents_index(repo, writer)?,
        None => ChunkIndex::default(),
    };
    let mut chunks = ChunkReader::new(repo.store(), &loaded, PARENT_FRAMES)?;
    let cursor = match same {
        Some((r, p)) => {
            let on_loss = lost_parent(writer, observer, p.id, &name);
            Parent::new(&mut chunks, &r.manifest, p.document.started, on_loss)?
        }
        None => Parent::none(),
    };
    let mut walk = TreeWalk::new(assembler, cursor, observer, options, name.clone());
    walk.run(root, options, Own::of(repo)?)?;
    let kept = std::mem::take(&mut walk.kept_databases);
    kept.iter().for_each(|path| walk.assembler.totals().has_database(path));
    let known = same.map_or(&[][..], |(_, p)| &p.document.databases);
    let kept = known.iter().filter(|d| kept.contains(&d.path)).cloned();
    kept.for_each(|database| walk.assembler.totals().add_database(database));
    let deleted = walk.parent.finish()?;
    walk.assembler.totals().parent_lost |= walk.parent.lost;
    walk.assembler.totals().differences += deleted;
    let TreeWalk { assembler, .. } = walk;
    Ok(Root { path: name, command: None, manifest: assembler.finish()? })
}

// What is done once the parent's manifest turns out to be damaged.
fn lost_parent<'a>(
    writer: &'a Writer,
    observer: &'a dyn Observer,
    parent: SnapshotId,
    root: &Name,
) -> OnLoss<'a> {
    let root = root.clone();
    Box::new(move |error| {
        // the same lines would make the same chunks, and be taken for stored
        writer.distrust(Kind::Manifest);
        tell_lost_parent(observer, parent, &root, error);
    })
}

/// Says that what comes next is read as if there had been no snapshot before.
pub(super) fn tell_lost_parent(observer: &dyn Observer, parent: SnapshotId, root: &Name, error: &RepoError) {
    let text = format!(
        "the manifest of snapshot {} is damaged ({}): what it said of the rest of {root} is not relied on, which is read \
         anew; lifeboat verify says what is lost",
        parent.short(),
        error
    );
    observer.event(Event::Notice(&Notice { code: "parent-damaged", subject: Some(root.clone()), text }));
}

// A root of which nothing could be kept is none: a restore would make an empty directory of it.
fn not_empty(root: Root) -> Result<Root, SnapshotError> {
    if root.manifest.entries > 0 {
        return Ok(root);
    }
    let source = std::io::Error::other("nothing of it could be read, or it vanished");
    Err(SnapshotError::Root { path: root.path, source })
}

fn unchanged(roots: &[Root], parent: Option<&Snapshot>, totals: &Totals) -> bool {
    let same = |p: &Snapshot| {
        let lists = |roots: &[Root]| {
            roots.iter().map(|r| (r.path.clone(), r.manifest.clone())).collect::<Vec<(Name, List)>>()
        };
        lists(roots) == lists(&p.document.roots)
    };
    // one whose manifest is damaged is no substitute
    totals.statistics.skipped == 0 && !totals.parent_lost && parent.is_some_and(same)
}

// What was left out, as whoever deletes must know it.
fn rules(options: &Options, own_paths: &[(Name, Vec<u8>)]) -> Result<Option<ExcludeRules>, SnapshotError> {
    let mut patterns = options.excludes.all_patterns()?;
    patterns.extend(own_paths.iter().map(|(root, path)| literal_pattern(root, path)));
    let rules = ExcludeRules {
        patterns,
        caches: options.excludes.caches,
        markers: options.excludes.markers.iter().map(|name| Name::from(name.as_os_str())).collect(),
        one_file_system: options.one_file_system,
    };
    Ok(Some(rules).filter(|rules| *rules != ExcludeRules::default()))
}

fn describe(repo: &Repo, options: &Options, started: Timestamp, roots: Vec<Root>) -> Document {
    Document {
        lifeboat: "snapshot".to_owned(),
        version: 1,
        repository: repo.config().id.clone(),
        host: options.host.clone(),
        user: options.user.clone(),
        tool: concat!("lifeboat ", env!("CARGO_PKG_VERSION")).to_owned(),
        sequence: 0,
        previous: None,
        parent: None,
        started,
        finished: repo.clock().now(),
        reason: options.reason.clone(),
        tags: options.tags.clone(),
        roots,
        packs: Vec::new(),
        packs_chunk: None,
        excludes: None,
        statistics: Default::default(),
        problems: Vec::new(),
        databases: Vec::new(),
        session: None,
        logbook: None,
    }
}

fn commit(
    repo: &Repo,
    key: &WriterKey,
    writer: &Writer,
    mut document: Document,
    totals: Totals,
) -> Result<Outcome, SnapshotError> {
    let mut needed = totals.needed_packs(writer)?;
    needed.extend(manifest_packs(writer, &document)?);
    if needed.len() > MAX_PACKS {
        let mut packs = PackWriter::new(writer, Kind::Manifest);
        let lines: String = needed.iter().map(|p| format!("{p}\n")).collect();
        document.packs_chunk = Some(packs.add(lines.as_bytes())?);
        packs.finish()?;
        let place = document.packs_chunk.and_then(|id| writer.index().get(&id));
        let pack = place.and_then(|p| writer.index().pack(p.pack).and_then(|p| p.id));
        needed.extend(pack);
    } else {
        document.packs = needed.iter().copied().collect();
    }
    writer.finish_index()?;
    let parent = document.parent;
    document.statistics = totals.statistics;
    document.statistics.stored_bytes = writer.stored_bytes();
    document.problems = totals.problems;
    document.databases = totals.databases;
    document.finished = repo.clock().now();
    let id = writer.finish(repo, &document, &needed, key)?;
    Ok(Outcome {
        id: Some(id),
        parent,
        statistics: document.statistics,
        unsaved: Vec::new(),
        own_paths: Vec::new(),
    })
}

// The packs that hold the manifests, lists of every level included.
fn manifest_packs(writer: &Writer, document: &Document) -> Result<BTreeSet<PackId>, RepoError> {
    let index = writer.index();
    let mut chunks = ChunkReader::new(writer.store(), &index, PARENT_FRAMES)?;
    let mut packs = BTreeSet::new();
    for root in &document.roots {
        let list = &root.manifest;
        let mut pending: Vec<_> = list.chunks.iter().map(|c| (list.level, c.chunk)).collect();
        while let Some((level, id)) = pending.pop() {
            let place = index.get(&id).ok_or(RepoError::ChunkMissing(id))?;
            packs.extend(index.pack(place.pack).and_then(|p| p.id));
            if level > 0 {
                let inner = chunks.with_chunk(id, crate::format::manifest::read_list)??;
                pending.extend(inner.into_iter().map(|r| (level - 1, r.chunk)));
            }
        }
    }
    Ok(packs)
}
