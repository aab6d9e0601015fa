//! Puts what the walk finds and what the workers return back into the order of the manifest.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender};

use super::databases;
use super::files::{FileDone, FileJob, absolute};
use super::links::{Further, Inode, Links};
use super::pool::{Run, RunDone};
use crate::base::Name;
use crate::base::event::{Event, Notice, Observer};
use crate::base::id::PackId;
use crate::database::sqlite::{is_log, owner_of};
use crate::format::manifest::{ChunkRef, Entry, List, Stat, Type, line_chunks};
use crate::format::snapshot::{Database, MAX_DATABASES, MAX_PROBLEMS, SourceProblem, Statistics};
use crate::repo::manifest_writer::ManifestWriter;
use crate::repo::pack_writer::PackWriter;
use crate::repo::writer::Writer;
use crate::repo::{RepoError, Result};
use crate::sys::host;

/// A run is handed to a worker when its files have this many bytes,
const RUN_BYTES: u64 = 2 << 20;
/// or there are this many,
const RUN_FILES: usize = 512;
/// or they lie in this many directories, each of which costs a descriptor: fewer where few files may be open.
const RUN_DIRS: usize = 64;
/// Runs that may be under way or waiting for an earlier one.
const RUNS_AHEAD: usize = 8;
/// Lines that may wait for a run.
const LINES_AHEAD: usize = 4096;
/// Files that may wait for what becomes of one before them, each of which may cost a descriptor.
const JOBS_AHEAD: usize = 256;

/// What is wrong with a database that has several names and a log.
const LOG_ELSEWHERE: &str = "it has several names, and was copied by another one than that beside which its log lies: the log is saved \
    as it lies, and may not belong to the copy; give the database one name only";

/// After so long it is looked whether the workers are still there.
const PATIENCE: Duration = Duration::from_millis(100);

enum Pending {
    /// A line that is known, and how it is counted.
    Line { path: Vec<u8>, line: Vec<u8>, copied: Option<ChunkRef> },
    /// The next file of a run; of an inode with several names it is the first.
    File { run: u64, known: bool, several: Option<Inode> },
    /// A further name of an inode whose first one is still being read.
    Name { job: Box<FileJob>, inode: Inode, known: bool },
    /// What lies beside a database whose entry comes before.
    Beside { job: Box<FileJob>, compared: Compared },
}

// How many descriptors may wait with their files: together at most a third of those that this process may have.
struct Room {
    run_dirs: usize,
    jobs_ahead: usize,
}

impl Room {
    fn new(open_files: Option<u64>) -> Self {
        let part = |one_in: u64, most: usize| {
            let files = open_files.map_or(most, |files| usize::try_from(files / one_in).unwrap_or(most));
            files.clamp(1, most)
        };
        Self { run_dirs: part(64, RUN_DIRS), jobs_ahead: part(16, JOBS_AHEAD) }
    }
}

/// How an entry compares with the parent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compared {
    /// The parent does not have it.
    New,
    /// The parent has it otherwise.
    Changed,
    /// It is as it was.
    Unchanged,
}

/// Receives entries in the order of the walk, and writes the manifest.
pub struct Assembler<'a, 'w> {
    writer: &'w Writer,
    observer: &'w dyn Observer,
    packs: &'a mut PackWriter<'w>,
    manifest: ManifestWriter,
    root: Name,
    pending: VecDeque<Pending>,
    arrived: HashMap<u64, std::vec::IntoIter<FileDone>>,
    run: Vec<FileJob>,
    run_bytes: u64,
    run_dirs: usize,
    next_run: u64,
    unfinished: usize,
    runs: &'a Sender<Run>,
    done: &'a Receiver<RunDone>,
    // a worker gave up: nobody takes runs any more
    stopped: &'a AtomicBool,
    /// Inodes with several names.
    pub links: Links,
    jobs_waiting: usize,
    room: Room,
    // further names of databases that were copied by another one
    named_again: HashSet<Vec<u8>>,
    totals: &'a mut Totals,
}

/// What is counted over all roots.
#[derive(Default)]
pub struct Totals {
    /// Counts.
    pub statistics: Statistics,
    /// What could not be read.
    pub problems: Vec<SourceProblem>,
    /// What the databases hold.
    pub databases: Vec<Database>,
    /// Entries that are new, changed or deleted.
    pub differences: u64,
    /// True if a part of the parent's manifest could not be read.
    pub parent_lost: bool,
    /// Where the repository itself was met and left out: the root, and the path below it.
    pub own_paths: Vec<(Name, Vec<u8>)>,
    // databases, and other files, that were read while they changed, or as they lie
    uncopied: HashSet<Name>,
    // databases that are to be saved, and were not met yet
    awaited: Vec<PathBuf>,
    // which of the index's packs are needed
    needed: Vec<bool>,
    // numbers of runs go on over all roots
    next_run: u64,
}

impl Totals {
    /// Nothing yet, where these databases are to be saved.
    pub fn awaiting(databases: &[PathBuf]) -> Self {
        Self { awaited: databases.to_vec(), ..Self::default() }
    }

    /// The packs that the entries need, by their names.
    ///
    /// # Errors
    /// If one of them was never finished.
    pub fn needed_packs(&self, writer: &Writer) -> Result<BTreeSet<PackId>> {
        let index = writer.index();
        let numbers = self.needed.iter().enumerate().filter(|(_, needed)| **needed).map(|(n, _)| n);
        numbers.map(|n| index.pack(n as u32).and_then(|p| p.id).ok_or(RepoError::SelfCheck)).collect()
    }

    /// Notes that a pack is needed.
    pub fn need(&mut self, pack: u32) {
        let number = pack as usize;
        if number >= self.needed.len() {
            self.needed.resize(number + 1, false);
        }
        self.needed[number] = true;
    }

    /// Notes the packs of a line's chunks. False if one of them is not stored.
    ///
    /// # Errors
    /// If the line is malformed.
    pub fn need_line(&mut self, line: &[u8], writer: &Writer) -> Result<bool> {
        let index = writer.index();
        let mut all = true;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        line_chunks(line, |id| match index.get(&id) {
            Some(place) => self.need(place.pack),
            None => all = false,
        })?;
        Ok(all)
    }

    /// Notes what a database holds, if there is room for it; for one that is awaited there is.
    pub fn add_database(&mut self, database: Database) {
        let is_awaited = self.is_awaited(&database.path);
        self.has_database(&database.path);
        if is_awaited && self.databases.len() == MAX_DATABASES {
            self.databases.pop();
            self.databases.insert(0, database);
        } else if self.databases.len() < MAX_DATABASES {
            self.databases.push(database);
        }
    }

    /// Notes that a database is saved as one.
    pub fn has_database(&mut self, path: &Name) {
        self.awaited.retain(|awaited| awaited.as_os_str() != path.as_os_str());
    }

    /// True if this is a database that is to be saved, and was not met yet.
    pub fn is_awaited(&self, path: &Name) -> bool {
        self.awaited.iter().any(|awaited| awaited.as_os_str() == path.as_os_str())
    }

    /// True if a database that was awaited is saved, be it under another of its names.
    pub fn holds(&self, path: &Name) -> bool {
        let file =
            |path: &Name| Path::new(path.as_os_str()).metadata().map(|about| (about.dev(), about.ino()));
        if !self.is_awaited(path) {
            return true;
        }
        let Ok(wanted) = file(path) else { return false };
        self.databases.iter().any(|database| file(&database.path).is_ok_and(|found| found == wanted))
    }

    /// True if a database was read as it lies.
    pub fn is_uncopied(&self, path: &Path) -> bool {
        let real = |path: &Path| path.canonicalize().ok();
        let is_it =
            |name: &Name| real(Path::new(name.as_os_str())).is_some_and(|found| Some(found) == real(path));
        self.uncopied.contains(&Name::from(path.as_os_str())) || self.uncopied.iter().any(is_it)
    }

    /// Notes a problem with a source and tells the observer.
    pub fn problem(&mut self, observer: &dyn Observer, path: Name, code: &'static str, text: &str) {
        let shown = format!("{path}: {}", crate::base::name::shown(text.as_bytes()));
        observer.event(Event::Notice(&Notice { code, subject: Some(path.clone()), text: shown }));
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(SourceProblem { path, code: code.to_owned(), text: text.to_owned() });
        }
    }
}

impl<'a, 'w> Assembler<'a, 'w> {
    /// An assembler for one root.
    pub fn new(
        writer: &'w Writer,
        observer: &'w dyn Observer,
        packs: &'a mut PackWriter<'w>,
        root: Name,
        (runs, done, stopped): (&'a Sender<Run>, &'a Receiver<RunDone>, &'a AtomicBool),
        totals: &'a mut Totals,
    ) -> Self {
        Self {
            writer,
            observer,
            packs,
            manifest: ManifestWriter::default(),
            root,
            pending: VecDeque::new(),
            arrived: HashMap::new(),
            run: Vec::new(),
            run_bytes: 0,
            run_dirs: 0,
            next_run: totals.next_run,
            unfinished: 0,
            runs,
            done,
            stopped,
            links: Links::default(),
            jobs_waiting: 0,
            room: Room::new(host::open_files()),
            named_again: HashSet::new(),
            totals,
        }
    }

    /// What is counted over all roots.
    pub fn totals(&mut self) -> &mut Totals {
        self.totals
    }

    /// The repository being written to.
    pub fn writer(&self) -> &'w Writer {
        self.writer
    }

    /// Counts an entry that is kept.
    pub fn count(&mut self, stat: &Stat, compared: Compared) {
        let s = &mut self.totals.statistics;
        match stat.kind {
            Type::File => s.files += 1,
            Type::Dir => s.directories += 1,
            _ => s.others += 1,
        }
        if stat.kind == Type::File {
            match compared {
                Compared::New => s.new_files += 1,
                Compared::Changed => s.changed_files += 1,
                Compared::Unchanged => s.unchanged_files += 1,
            }
        }
        if compared != Compared::Unchanged {
            self.totals.differences += 1;
        }
    }

    /// Adds an entry whose line is known. `copied` is the parent's chunk that the line was copied from.
    ///
    /// # Errors
    /// If the repository cannot be written.
    pub fn add_line(&mut self, path: &[u8], line: &[u8], size: u64, copied: Option<&ChunkRef>) -> Result<()> {
        self.totals.statistics.bytes += size;
        if self.pending.is_empty() {
            return self.manifest.add(path, line, copied, self.packs);
        }
        let copied = copied.cloned();
        self.pending.push_back(Pending::Line { path: path.to_vec(), line: line.to_vec(), copied });
        self.settle(LINES_AHEAD)
    }

    /// Adds a file that must be read. `known`: the parent has it.
    ///
    /// # Errors
    /// If the repository cannot be written.
    pub fn add_file(&mut self, job: FileJob, compared: Compared) -> Result<()> {
        let file = self.gather(job, compared != Compared::New);
        self.pending.push_back(file);
        if self.run_bytes >= RUN_BYTES || self.run.len() >= RUN_FILES || self.run_dirs >= self.room.run_dirs {
            self.hand_over()?;
        }
        self.settle(LINES_AHEAD)
    }

    // Puts a file into the run that is being gathered.
    fn gather(&mut self, job: FileJob, known: bool) -> Pending {
        let several = Inode::of_several(&job.live);
        if let Some(inode) = several {
            self.links.expect(inode, &job.live);
        }
        if self.run.last().is_none_or(|last| !std::sync::Arc::ptr_eq(&last.dir, &job.dir)) {
            self.run_dirs += 1;
        }
        self.run_bytes += job.live.stat.size;
        self.run.push(job);
        Pending::File { run: self.next_run, known, several }
    }

    /// Adds a further name of a file that was added before.
    ///
    /// # Errors
    /// If the repository cannot be written.
    pub fn add_name(&mut self, job: FileJob, inode: Inode, compared: Compared) -> Result<()> {
        let known = compared != Compared::New;
        match self.links.further(inode, &job.path, &job.live)? {
            Further::Name(entry) => {
                let line = self.count_name(&entry, inode, known);
                self.add_line(&entry.path, &line, 0, None)
            }
            Further::Waits => {
                self.jobs_waiting += 1;
                self.pending.push_back(Pending::Name { job: Box::new(job), inode, known });
                self.settle(LINES_AHEAD)
            }
            Further::Alone => self.add_file(job, compared),
        }
    }

    // The line of a further name, counted.
    fn count_name(&mut self, entry: &Entry, inode: Inode, known: bool) -> Vec<u8> {
        self.links.seen(inode);
        let first = entry.hardlink.as_ref().map(|first| absolute(&self.root, first));
        if first.is_some_and(|first| self.totals.uncopied.contains(&first)) {
            self.totals.uncopied.insert(absolute(&self.root, &entry.path));
        } else if entry.database {
            self.named_again.insert(entry.path.clone());
        }
        let s = &mut self.totals.statistics;
        s.files += 1;
        s.bytes += entry.stat.size;
        *(if known { &mut s.changed_files } else { &mut s.new_files }) += 1;
        self.totals.differences += 1;
        let mut line = Vec::new();
        entry.write_line(&mut line);
        line
    }

    /// Adds what lies beside a database. It is read only if the database was added before and could not be copied, or was by
    /// another of its names: a copy has all that is in it.
    ///
    /// # Errors
    /// If the repository cannot be written.
    pub fn add_beside(&mut self, job: FileJob, compared: Compared) -> Result<()> {
        // further names of it wait too
        if let Some(inode) = Inode::of_several(&job.live).filter(|&inode| !self.links.knows(inode)) {
            self.links.expect(inode, &job.live);
        }
        self.jobs_waiting += 1;
        self.pending.push_back(Pending::Beside { job: Box::new(job), compared });
        self.settle(LINES_AHEAD)
    }

    // What became of the database is known by now.
    fn settle_beside(&mut self, job: FileJob, compared: Compared) -> Result<()> {
        let owner = owner_of(&job.path).unwrap_or_default();
        let is_named_again = self.named_again.contains(owner) && job.live.stat.size > 0 && is_log(&job.path);
        if is_named_again {
            let path = absolute(&self.root, owner);
            self.totals.statistics.torn += 1;
            self.totals.problem(self.observer, path, databases::NAMED_AGAIN, LOG_ELSEWHERE);
        } else if !self.totals.uncopied.contains(&absolute(&self.root, owner)) {
            if let Some(inode) = Inode::of_several(&job.live) {
                self.links.drop_expected(inode);
            }
            // the parent has it, and this snapshot has not
            self.totals.differences += u64::from(compared != Compared::New);
            return Ok(());
        }
        let known = compared != Compared::New;
        match Inode::of_several(&job.live).filter(|&inode| self.links.knows(inode)) {
            Some(inode) => self.write_name(job, inode, known),
            None => self.read_alone(job, known),
        }
    }

    // Has a file read whose place is before all that waits.
    fn read_alone(&mut self, job: FileJob, known: bool) -> Result<()> {
        // the run that is being gathered has its number: this file gets one of its own
        self.hand_over()?;
        let file = self.gather(job, known);
        self.pending.push_front(file);
        self.hand_over()
    }

    fn hand_over(&mut self) -> Result<()> {
        if self.run.is_empty() {
            return Ok(());
        }
        let run = Run { number: self.next_run, files: std::mem::take(&mut self.run) };
        self.next_run += 1;
        self.totals.next_run = self.next_run;
        (self.run_bytes, self.run_dirs) = (0, 0);
        self.unfinished += 1;
        let mut run = run;
        loop {
            match self.runs.send_timeout(run, PATIENCE) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(back)) if !self.is_stopped() => run = back,
                Err(_) => return Err(RepoError::Interrupted),
            }
        }
    }

    // Writes what is complete; waits while more than `ahead` lines or too many runs are not.
    fn settle(&mut self, ahead: usize) -> Result<()> {
        loop {
            while let Ok(done) = self.done.try_recv() {
                self.arrived(done);
            }
            self.write_ready()?;
            let few = self.pending.len() <= ahead && self.jobs_waiting <= self.room.jobs_ahead;
            if few && self.unfinished < RUNS_AHEAD {
                return Ok(());
            }
            if self.pending.is_empty() {
                return Ok(());
            }
            self.hand_over()?;
            match self.done.recv_timeout(PATIENCE) {
                Ok(done) => self.arrived(done),
                Err(RecvTimeoutError::Timeout) if !self.is_stopped() => {}
                Err(_) => return Err(RepoError::Interrupted),
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.observer.interrupted()
    }

    fn arrived(&mut self, done: RunDone) {
        self.arrived.insert(done.number, done.files.into_iter());
    }

    fn write_ready(&mut self) -> Result<()> {
        while let Some(next) = self.pending.pop_front() {
            match next {
                Pending::Line { path, line, copied } => {
                    self.manifest.add(&path, &line, copied.as_ref(), self.packs)?;
                }
                Pending::Name { job, inode, known } => {
                    self.jobs_waiting -= 1;
                    self.write_name(*job, inode, known)?;
                }
                Pending::Beside { job, compared } => {
                    self.jobs_waiting -= 1;
                    self.settle_beside(*job, compared)?;
                }
                Pending::File { run, known, several } => {
                    let Some(files) = self.arrived.get_mut(&run) else {
                        self.pending.push_front(Pending::File { run, known, several });
                        return Ok(());
                    };
                    let file = files.next();
                    if files.as_slice().is_empty() {
                        self.arrived.remove(&run);
                        self.unfinished -= 1;
                    }
                    if let Some(file) = file {
                        self.write_file(file, known, several)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn write_file(&mut self, file: FileDone, known: bool, several: Option<Inode>) -> Result<()> {
        if let Some((code, text)) = &file.problem {
            let path = absolute(&self.root, &file.path);
            self.totals.problem(self.observer, path, code, text);
        }
        self.totals.statistics.torn += u64::from(file.torn);
        if file.torn && file.database.is_none() {
            self.totals.uncopied.insert(absolute(&self.root, &file.path));
        }
        if let Some(database) = file.database {
            self.totals.add_database(Database { path: absolute(&self.root, &file.path), ..*database });
        }
        if let Some(inode) = several {
            self.links.stored(inode, &file.line, false);
        }
        if file.line.is_empty() {
            // deleted between the walk and the reading: not part of the tree any more
            if file.problem.as_ref().is_none_or(|p| p.0 != "file-vanished") {
                self.totals.statistics.skipped += 1;
            }
            return Ok(());
        }
        let s = &mut self.totals.statistics;
        s.files += 1;
        s.bytes += file.size;
        *(if known { &mut s.changed_files } else { &mut s.new_files }) += 1;
        self.totals.differences += 1;
        if !self.totals.need_line(&file.line, self.writer)? {
            return Err(RepoError::SelfCheck);
        }
        self.manifest.add(&file.path, &file.line, None, self.packs)
    }

    fn write_name(&mut self, job: FileJob, inode: Inode, known: bool) -> Result<()> {
        if let Further::Name(entry) = self.links.further(inode, &job.path, &job.live)? {
            let line = self.count_name(&entry, inode, known);
            return self.manifest.add(&entry.path, &line, None, self.packs);
        }
        self.read_alone(job, known)
    }

    /// Waits for all files and stores the rest of the manifest.
    ///
    /// # Errors
    /// If the repository cannot be written, or a worker failed.
    pub fn finish(mut self) -> Result<List> {
        self.hand_over()?;
        self.settle(0)?;
        while !self.pending.is_empty() {
            self.settle(0)?;
        }
        self.manifest.finish(self.packs)
    }
}
