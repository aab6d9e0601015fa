//! The run: placements one after the other, entries in order, links last.

use std::cell::Cell;
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, Sender};
use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::attributes::Powers;
use super::batch::{Batch, FileTarget, Job, Part};
use super::directory::{Directory, Shared};
use super::links::{Leader, Link};
use super::living::Living;
use super::merge::Doomed;
use super::nested::{Nested, lies_in};
use super::own::identity;
use super::patterns::Bases;
use super::report::{Collector, Report};
use super::settled::{Passed, settled};
use super::stack::Stack;
use super::target::{in_repository, open_target, own, remove_made, target_error};
use super::worker::Workers;
use super::{Mode, Options, Overwrite, Placement, RestoreError};
use crate::base::Name;
use crate::format::manifest::{Entry, ROOT, Type, compare_entries, is_within_subtree};
use crate::format::snapshot::Root;
use crate::repo::documents::Snapshot;
use crate::repo::manifest_reader::ManifestReader;
use crate::repo::reader::ChunkReader;
use crate::repo::{ChunkIndex, Repo, RepoError};
use crate::sys::names::Names;
use crate::tree::walk::join;

/// Links that may wait for the files they lead to.
const MAX_LINKS: usize = 50_000;

/// One restore.
pub struct Run<'o, 'j> {
    /// Where chunks are.
    pub index: &'o ChunkIndex,
    /// Options.
    pub options: &'o Options,
    /// What directories share.
    pub shared: &'o Shared<'o>,
    /// What workers share.
    pub workers: &'o Workers<'o>,
    /// The target.
    top: Arc<Directory<'o>>,
    // where the current placement's paths begin, in the target and in the manifest
    pub(super) base: Arc<Directory<'o>>,
    /// The subtree of the manifest.
    pub subtree: Vec<u8>,
    // by what patterns know its entries, and whether it turned out to be a file
    bases: Bases,
    is_file: Cell<bool>,
    /// Extra entries, to be removed at the end.
    pub doomed: Vec<Doomed<'o>>,
    /// What in the current placement is a later one's.
    pub(super) nested: Nested,
    /// Entries that were there.
    pub there: u64,
    /// Of those, what goes because the snapshot has something else at the name of a directory.
    pub cleared: u64,
    // directories that were made for what is restored, the outermost first
    made: Vec<(Arc<Directory<'o>>, Vec<u8>)>,
    jobs: &'j Sender<Job<'o>>,
    // files that the living tree turned out not to have
    declined: Receiver<Arc<FileTarget<'o>>>,
    pub(super) batch: Batch<'o>,
    /// What is passed over.
    pub settled: Passed,
    pub(super) links: Vec<Link<'o>>,
    /// A stretch of the manifest before the entry that was read last cannot be read.
    pub(super) lost: Cell<bool>,
    // by the path in the manifest's root, of the first name of an inode that is restored
    pub(super) leaders: HashMap<Vec<u8>, Leader>,
    /// Inodes of several names that stay as they are, and how many of the names were met in the target.
    pub(super) kept_names: HashMap<(u64, u64), u64>,
    /// True if the placement is restored over what is there.
    pub(super) merges: bool,
    /// True once all of the placement was met.
    pub(super) is_all_met: bool,
    // of a dry run
    pub(super) names: Names,
}

/// Opens or makes the target and restores all placements into it.
pub fn run(
    repo: &Repo,
    index: &ChunkIndex,
    chunks: &mut ChunkReader<'_>,
    snapshot: &Snapshot,
    placements: &[Placement],
    options: &Options,
    observer: &dyn crate::base::event::Observer,
) -> Result<Report, RestoreError> {
    let own = own(repo, options)?;
    let mut made = Vec::new();
    let target = open_target(options, &mut made)?;
    let powers = Powers::new(options, target.as_ref().map(|fd| fd.as_fd()));
    let collector = Collector::new(observer);
    let open = std::sync::atomic::AtomicUsize::new(0);
    let clears = options.clears();
    let shared = Shared { collector: &collector, powers, open, dry_run: options.dry_run, clears, own };
    let living = options.living.as_ref().filter(|_| !options.dry_run).map(Living::open).transpose()?;
    let workers = Workers::new(repo.store(), index, &collector, powers, options.devices, living);
    let (sender, receiver) = crossbeam_channel::bounded::<Job<'_>>(options.workers * 4);
    let result = std::thread::scope(|scope| {
        let (give_back, declined) = crossbeam_channel::unbounded();
        for _ in 0..options.workers {
            let receiver = receiver.clone();
            let (workers, give_back) = (&workers, give_back.clone());
            scope.spawn(move || workers.work(&receiver, &give_back));
        }
        drop(receiver);
        let top = match &target {
            Some(fd) => Directory::existing(Arc::clone(fd), None, Vec::new(), None, &shared),
            None => Directory::nowhere(&shared),
        };
        let mut run = Run {
            index,
            options,
            shared: &shared,
            workers: &workers,
            base: Arc::clone(&top),
            top,
            subtree: ROOT.to_vec(),
            bases: Bases::default(),
            is_file: Cell::new(false),
            doomed: Vec::new(),
            nested: Nested::default(),
            there: 0,
            cleared: 0,
            made: Vec::new(),
            jobs: &sender,
            declined,
            settled: Passed::default(),
            batch: Batch::default(),
            links: Vec::new(),
            lost: Cell::new(false),
            leaders: HashMap::new(),
            kept_names: HashMap::new(),
            is_all_met: false,
            merges: false,
            names: Names::default(),
        };
        let done = run.all(chunks, snapshot, placements);
        let finished = run.finish(done.is_ok());
        drop(run);
        drop(sender);
        done.and(finished)
    });
    result?;
    if observer.interrupted() {
        return Err(RestoreError::Interrupted);
    }
    if let Some(fd) = target.filter(|_| options.sync && !options.dry_run) {
        rustix::fs::syncfs(&fd).map_err(|e| target_error(options, "make durable", e))?;
    }
    let mut report = collector.report().clone();
    if report.is_nothing() {
        remove_made(&made);
    }
    report.taken = workers.living.as_ref().map(Living::taken).unwrap_or_default();
    report.linked = workers.living.as_ref().map(Living::linked).unwrap_or_default();
    Ok(report)
}

impl<'o> Run<'o, '_> {
    fn all(
        &mut self,
        chunks: &mut ChunkReader<'_>,
        snapshot: &Snapshot,
        placements: &[Placement],
    ) -> Result<(), RestoreError> {
        for (number, placement) in placements.iter().enumerate() {
            let is_nested = lies_in(placement, &placements[..number]);
            if is_nested {
                // what is still being written there is not met as missing
                self.settle()?;
            }
            let Some(root) = snapshot.document.roots.get(placement.root) else { continue };
            if is_nested && let Err(RestoreError::Target { why, .. }) = self.base_of(&placement.prefix) {
                let why = format!("{why}; restore {} by itself to another directory", root.path);
                self.shared.collector.problem(&placement.prefix, "root-not-restored", why);
                continue;
            }
            self.leaders.clear();
            self.kept_names.clear();
            self.is_all_met = false;
            self.merges = is_nested || !matches!(self.options.mode, Mode::Fresh);
            self.workers.forget_links();
            self.bases = Bases::of(&root.path.0, placement);
            self.begin_nested(snapshot, placement, &placements[number + 1..])?;
            self.is_file.set(false);
            let placement = &placed(placement, root, chunks);
            if let Some(twin) = &self.options.twin {
                self.settled = Passed::new(settled(chunks, &root.manifest, placement, twin)?);
            }
            let mut reader = ManifestReader::starting_at(chunks, &root.manifest, &placement.subtree);
            let file_name = root.path.0.rsplit(|&b| b == b'/').next().unwrap_or_default().to_vec();
            match self.options.mode {
                // a root in another that the snapshot has too: most of it is there by now
                Mode::Fresh if is_nested => {
                    self.in_place(&mut reader, placement, &file_name, Overwrite::IfChanged, None)?;
                }
                Mode::Fresh => self.fresh(&mut reader, placement, &file_name)?,
                Mode::InPlace { overwrite, delete } => {
                    let left_out = self.left_out(snapshot, root, delete)?;
                    self.in_place(&mut reader, placement, &file_name, overwrite, left_out)?;
                }
            }
            self.is_all_met = true;
            self.flush_links()?;
        }
        Ok(())
    }

    /// Begins a placement: the directory that its top lies in.
    pub(super) fn begin(&mut self, placement: &Placement) -> Result<Arc<Directory<'o>>, RestoreError> {
        self.base = self.base_of(&placement.prefix)?;
        self.subtree.clone_from(&placement.subtree);
        Ok(Arc::clone(&self.base))
    }

    fn fresh(
        &mut self,
        reader: &mut ManifestReader<'_, '_>,
        placement: &Placement,
        file_name: &[u8],
    ) -> Result<(), RestoreError> {
        let mut stack = Stack::new(self.begin(placement)?);
        while let Some(entry) = self.next_placed(reader, placement, file_name)? {
            self.check_interrupt()?;
            self.put(&mut stack, entry)?;
        }
        Ok(())
    }

    /// The next entry, its path relative to the top of the placement.
    pub(super) fn next_placed(
        &mut self,
        reader: &mut ManifestReader<'_, '_>,
        placement: &Placement,
        file_name: &[u8],
    ) -> Result<Option<Entry>, RestoreError> {
        let mut entry = loop {
            let Some(mut entry) = self.next_entry(reader, placement)? else { return Ok(None) };
            entry.path = relocate(entry.path, &placement.subtree);
            self.nested.note(&entry.path, entry.stat.kind == Type::Dir);
            // a run does it twice, but it is there once
            if !self.options.dry_run || !self.nested.is_inner(&entry.path) {
                break entry;
            }
            self.check_interrupt()?;
        };
        if entry.path == ROOT && entry.stat.kind != Type::Dir {
            entry.path = file_name_of(placement, file_name);
            self.is_file.set(true);
        }
        Ok(Some(entry))
    }

    /// True if an entry of the current placement is selected.
    pub(super) fn wants(&self, path: &[u8], is_dir: bool) -> bool {
        let of_file = self.is_file.get().then(|| self.bases.of_file());
        self.options.selection.wants(of_file.as_ref().unwrap_or(&self.bases), path, is_dir)
    }

    /// Restores an entry that is not there. True as from [`Self::put_file`].
    pub(super) fn put(&mut self, stack: &mut Stack<'o>, entry: Entry) -> Result<bool, RestoreError> {
        let is_dir = entry.stat.kind == Type::Dir;
        if !self.wants(&entry.path, is_dir) {
            if is_dir {
                stack.push_wished(entry);
            }
            return Ok(false);
        }
        let (parent, name) = split(&entry.path);
        let found = stack.parent(parent, self.shared);
        let Some(dir) = found.or_else(|| self.stand_in(stack, parent)) else {
            let why = "the directory that holds it is not in the manifest or could not be made";
            self.shared.collector.problem(&entry.path, "no-parent", why);
            return Ok(false);
        };
        if entry.stat.kind == Type::Dir {
            self.put_dir(stack, &dir, name.to_vec(), entry);
            return Ok(false);
        }
        let (name, path) = (name.to_vec(), entry.path.clone());
        self.put_file(dir, name, path, entry, false)
    }

    // A directory whose own entry is lost, as part of the manifest is: what lies in it comes back all the same. It is its
    // maker's alone, as nothing tells whose it was.
    fn stand_in(&self, stack: &mut Stack<'o>, path: Option<&[u8]>) -> Option<Arc<Directory<'o>>> {
        let path = path.filter(|_| self.shared.collector.report().damage)?;
        if path == ROOT {
            return Some(Arc::clone(&self.base));
        }
        let (parent, name) = split(path);
        let above = match stack.parent(parent, self.shared) {
            Some(above) => above,
            None => self.stand_in(stack, parent)?,
        };
        match above.make(name, path.to_vec(), None) {
            Ok(made) => {
                let why = "its entry in the manifest is lost: it was made for what lies in it, and only its owner may enter it";
                self.shared.collector.problem(path, "directory-lost", why);
                stack.push(path.to_vec(), Arc::clone(&made));
                Some(made)
            }
            Err(error) => {
                self.shared.collector.problem(path, "directory-not-made", error);
                None
            }
        }
    }

    fn put_dir(&mut self, stack: &mut Stack<'o>, dir: &Arc<Directory<'o>>, name: Vec<u8>, entry: Entry) {
        let path = entry.path.clone();
        self.shared.collector.report().directories += 1;
        if self.options.dry_run {
            self.imagine_attributes(&entry);
        }
        if path == ROOT {
            // the top of a placement is there already: it only gets its attributes
            let top = dir.with_entry(entry);
            stack.push(path, top);
            return;
        }
        match dir.make(&name, path.clone(), Some(entry)) {
            Ok(made) => stack.push(path, made),
            Err(e) => self.shared.collector.problem(&path, "directory-not-made", e),
        }
    }

    /// Restores anything but a directory. `replace`: something is at that name. True if what SQLite has beside that goes with it.
    pub fn put_file(
        &mut self,
        dir: Arc<Directory<'o>>,
        name: Vec<u8>,
        path: Vec<u8>,
        entry: Entry,
        replace: bool,
    ) -> Result<bool, RestoreError> {
        let clears = self.clears_beside(&dir, &name, &entry);
        if self.options.dry_run {
            if clears {
                self.imagine_clearing(&dir, &name);
            }
            self.imagine(&path, &entry);
            return Ok(clears);
        }
        if entry.stat.links > 1 || entry.hardlink.is_some() {
            let first = self.first_name(&entry, &path);
            let content = entry.inode_content();
            match self.leaders.get(&first) {
                Some(leader) if leader.content == content => {
                    let leader = leader.path.clone();
                    self.links.push(Link { dir, name, path, leader, entry, clears });
                    if self.links.len() > MAX_LINKS {
                        self.flush_links()?;
                    }
                    return Ok(clears);
                }
                // it says that it is the same and is not: it comes back as it is, by itself
                Some(_) => {}
                None => {
                    self.leaders.insert(first, Leader { path: path.clone(), content });
                }
            }
        }
        let file = Arc::new(FileTarget::new(dir, name, path, entry, replace).clearing(clears));
        if !self.workers.living.as_ref().is_some_and(|living| living.may_have(&file.entry)) {
            self.put_content(file)?;
            return Ok(clears);
        }
        self.fetch_declined()?;
        let job = self.batch.add_taken(file);
        job.map_or(Ok(()), |job| self.send(job))?;
        Ok(clears)
    }

    // What the living tree turned out not to have.
    fn fetch_declined(&mut self) -> Result<(), RestoreError> {
        while let Ok(file) = self.declined.try_recv() {
            self.put_content(file)?;
        }
        Ok(())
    }

    // Hands everything over that waits, and waits until it is done.
    pub(super) fn settle(&mut self) -> Result<(), RestoreError> {
        loop {
            let jobs = self.batch.all();
            jobs.into_iter().try_for_each(|job| self.send(job))?;
            self.workers.wait();
            if self.declined.is_empty() {
                return Ok(());
            }
            self.fetch_declined()?;
        }
    }

    pub(super) fn put_content(&mut self, file: Arc<FileTarget<'o>>) -> Result<(), RestoreError> {
        if file.entry.chunks.is_empty() {
            let job = self.batch.add_small(file);
            return job.map_or(Ok(()), |job| self.send(job));
        }
        let mut places = Vec::with_capacity(file.entry.chunks.len());
        let mut total = 0u64;
        for id in &file.entry.chunks {
            let Some(place) = self.index.get(id) else {
                self.shared.collector.damaged(&file.path, &RepoError::ChunkMissing(*id));
                self.workers.discard(&file);
                return Ok(());
            };
            places.push((*id, place, total));
            total += u64::from(place.size);
        }
        if total != file.entry.stream_len() {
            let why = format!("its chunks have {total} bytes, it has {}", file.entry.stream_len());
            self.shared.collector.wrong_size(&file.path, why);
            self.workers.discard(&file);
            return Ok(());
        }
        for (chunk, place, at) in places {
            self.batch.add(Part { file: Arc::clone(&file), chunk, place, at });
        }
        let due = self.batch.due(self.shared.open.load(Ordering::Relaxed));
        due.into_iter().try_for_each(|job| self.send(job))
    }

    pub(super) fn send(&self, job: Job<'o>) -> Result<(), RestoreError> {
        self.workers.job_sent();
        self.jobs.send(job).map_err(|_| RestoreError::Interrupted)
    }

    fn next_entry(
        &self,
        reader: &mut ManifestReader<'_, '_>,
        placement: &Placement,
    ) -> Result<Option<Entry>, RestoreError> {
        let mut unchanged = 0;
        let mut is_settled = |path: &[u8]| {
            let is_settled = self.settled.has(path, &placement.subtree);
            unchanged += u64::from(is_settled);
            is_settled
        };
        let next = self.next_entry_but(reader, placement, &mut is_settled);
        if unchanged > 0 {
            self.shared.collector.report().unchanged += unchanged;
        }
        next
    }

    fn next_entry_but(
        &self,
        reader: &mut ManifestReader<'_, '_>,
        placement: &Placement,
        passed_over: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<Option<Entry>, RestoreError> {
        let mut gap = None;
        let next = loop {
            match reader.next_entry_but(&mut *passed_over) {
                Ok(Some(entry)) if is_within_subtree(&entry.path, &placement.subtree) => break Some(entry),
                Ok(Some(entry)) if compare_entries(&entry.path, &placement.subtree).is_gt() => break None,
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(e) if e.is_unreadable() && reader.lost_behind(&placement.subtree) => break None,
                // one bad line or chunk does not stop the others
                Err(e) if e.is_unreadable() => gap = Some(reader.lost(gap, e)),
                Err(e) => return Err(e.into()),
            }
            // there may be more of this than the tree has entries
            self.check_interrupt()?;
        };
        self.lost.set(gap.is_some());
        if let Some(gap) = gap {
            super::gap::tell(&gap, placement, self.options, self.shared.collector);
        }
        Ok(next)
    }

    /// The directory that a placement's top lies in, made if it is not there.
    pub fn base_of(&mut self, prefix: &[u8]) -> Result<Arc<Directory<'o>>, RestoreError> {
        let mut dir = Arc::clone(&self.top);
        let mut path = Vec::new();
        for name in prefix.split(|&b| b == b'/').filter(|n| !n.is_empty()) {
            crate::format::manifest::check_path(name)
                .map_err(|why| RestoreError::Target { target: Name(prefix.to_vec()), why: why.to_owned() })?;
            path = if path.is_empty() { name.to_vec() } else { join(&path, name) };
            let made = match self.options.dry_run {
                true => dir.look(name, path.clone()),
                false => dir.make(name, path.clone(), None),
            };
            let made = made.map_err(|e| not_made(e, &path))?;
            if made.fresh {
                self.made.push((Arc::clone(&dir), name.to_vec()));
            }
            dir = made;
            if let Ok(fd) = dir.fd()
                && self.shared.own.is(identity(fd)?)
            {
                return Err(in_repository(Name(path)));
            }
        }
        Ok(dir)
    }

    pub(super) fn check_interrupt(&self) -> Result<(), RestoreError> {
        if self.shared.collector.observer.interrupted() { Err(RestoreError::Interrupted) } else { Ok(()) }
    }

    fn finish(&mut self, removes: bool) -> Result<(), RestoreError> {
        self.settle()?;
        let result = if removes { self.remove_doomed() } else { Ok(()) };
        self.links.clear();
        self.doomed.clear();
        // what was made for nothing goes again
        if self.shared.collector.report().is_nothing() {
            for (dir, name) in std::mem::take(&mut self.made).into_iter().rev() {
                dir.fd().map(|fd| rustix::fs::unlinkat(fd, &name[..], AtFlags::REMOVEDIR)).ok();
            }
        }
        result
    }
}

fn not_made(source: std::io::Error, path: &[u8]) -> RestoreError {
    let target = Name(path.to_vec());
    match Errno::from_io_error(&source) {
        Some(Errno::NOTDIR | Errno::LOOP) => {
            let why = "no directory is there, or a link, and a restore follows none; SNAPSHOT:PATH brings what lies at PATH straight into --target";
            RestoreError::Target { target, why: why.to_owned() }
        }
        _ => RestoreError::Io { act: "make the directory", path: target, source },
    }
}

/// Directory (none for the root) and name of a path.
pub fn split(path: &[u8]) -> (Option<&[u8]>, &[u8]) {
    if path == ROOT {
        return (None, path);
    }
    match path.iter().rposition(|&b| b == b'/') {
        Some(at) => (Some(&path[..at]), &path[at + 1..]),
        None => (Some(ROOT), path),
    }
}

/// A path relative to a placement's subtree.
pub fn relocate(path: Vec<u8>, subtree: &[u8]) -> Vec<u8> {
    if subtree == ROOT {
        return path;
    }
    match path.strip_prefix(subtree) {
        Some([b'/', rest @ ..]) => rest.to_vec(),
        _ => ROOT.to_vec(),
    }
}

// A root that is a file goes to its own path, not into a directory of that path.
fn placed(placement: &Placement, root: &Root, chunks: &mut ChunkReader<'_>) -> Placement {
    let mut placed = placement.clone();
    if placement.subtree == ROOT && !placement.prefix.is_empty() {
        // what cannot be read is named by whoever reads it next
        let first = ManifestReader::new(chunks, &root.manifest).next_entry();
        if first.is_ok_and(|entry| entry.is_some_and(|entry| entry.stat.kind != Type::Dir)) {
            let end = placement.prefix.iter().rposition(|&b| b == b'/').unwrap_or_default();
            placed.prefix.truncate(end);
        }
    }
    placed
}

// The name of a file that is restored by itself.
fn file_name_of(placement: &Placement, root_name: &[u8]) -> Vec<u8> {
    if placement.subtree == ROOT {
        return root_name.to_vec();
    }
    split(&placement.subtree).1.to_vec()
}
