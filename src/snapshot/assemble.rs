//! Puts what the walk finds and what the workers return back into the order of the manifest.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender};

use super::files::{FileDone, FileJob, absolute};
use super::pool::{Run, RunDone};
use crate::base::Name;
use crate::base::event::{Event, Notice, Observer};
use crate::base::id::PackId;
use crate::format::manifest::{ChunkRef, Entry, List, Stat, Type, line_chunks};
use crate::format::snapshot::{Database, MAX_DATABASES, MAX_PROBLEMS, SourceProblem, Statistics};
use crate::repo::manifest_writer::ManifestWriter;
use crate::repo::pack_writer::PackWriter;
use crate::repo::writer::Writer;
use crate::repo::{RepoError, Result};

/// A run is handed to a worker when its files have this many bytes,
const RUN_BYTES: u64 = 2 << 20;
/// or there are this many,
const RUN_FILES: usize = 512;
/// or they lie in this many directories, each of which costs a descriptor.
const RUN_DIRS: usize = 64;
/// Runs that may be under way or waiting for an earlier one.
const RUNS_AHEAD: usize = 8;
/// Lines that may wait for a run.
const LINES_AHEAD: usize = 4096;

/// After so long it is looked whether the workers are still there.
const PATIENCE: Duration = Duration::from_millis(100);

enum Pending {
    /// A line that is known, and how it is counted.
    Line { path: Vec<u8>, line: Vec<u8>, copied: Option<ChunkRef>, links: bool },
    /// The next file of a run.
    File { run: u64, known: bool, links: bool },
    /// Another name of an inode whose entry comes before.
    Link { path: Vec<u8>, first: Vec<u8>, known: bool },
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
    // entries of inodes with several names, by the path of the first
    firsts: HashMap<Vec<u8>, Option<Entry>>,
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
            firsts: HashMap::new(),
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
    pub fn add_line(
        &mut self,
        path: &[u8],
        line: &[u8],
        size: u64,
        copied: Option<&ChunkRef>,
        links: bool,
    ) -> Result<()> {
        self.totals.statistics.bytes += size;
        if self.pending.is_empty() {
            return self.write(path, line, copied, links);
        }
        let copied = copied.cloned();
        self.pending.push_back(Pending::Line { path: path.to_vec(), line: line.to_vec(), copied, links });
        self.settle(LINES_AHEAD)
    }

    /// Adds a file that must be read. `known`: the parent has it.
    ///
    /// # Errors
    /// If the repository cannot be written.
    pub fn add_file(&mut self, job: FileJob, compared: Compared) -> Result<()> {
        let (size, links) = (job.live.stat.size, job.live.stat.links > 1);
        if self.run.last().is_none_or(|last| !std::sync::Arc::ptr_eq(&last.dir, &job.dir)) {
            self.run_dirs += 1;
        }
        if links {
            self.firsts.insert(job.path.clone(), None);
        }
        self.pending.push_back(Pending::File { run: self.next_run, known: compared != Compared::New, links });
        self.run.push(job);
        self.run_bytes += size;
        if self.run_bytes >= RUN_BYTES || self.run.len() >= RUN_FILES || self.run_dirs >= RUN_DIRS {
            self.hand_over()?;
        }
        self.settle(LINES_AHEAD)
    }

    /// Adds another name of a file that was added before under `first`.
    ///
    /// # Errors
    /// If the repository cannot be written.
    pub fn add_link(&mut self, path: &[u8], first: &[u8], compared: Compared) -> Result<()> {
        let known = compared != Compared::New;
        self.pending.push_back(Pending::Link { path: path.to_vec(), first: first.to_vec(), known });
        self.settle(LINES_AHEAD)
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
            if self.pending.len() <= ahead && self.unfinished < RUNS_AHEAD {
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
                Pending::Line { path, line, copied, links } => {
                    self.write(&path, &line, copied.as_ref(), links)?
                }
                Pending::Link { path, first, known } => self.write_link(path, first, known)?,
                Pending::File { run, known, links } => {
                    let Some(files) = self.arrived.get_mut(&run) else {
                        self.pending.push_front(Pending::File { run, known, links });
                        return Ok(());
                    };
                    let file = files.next();
                    if files.as_slice().is_empty() {
                        self.arrived.remove(&run);
                        self.unfinished -= 1;
                    }
                    if let Some(file) = file {
                        self.write_file(file, known, links)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn write_file(&mut self, file: FileDone, known: bool, links: bool) -> Result<()> {
        if let Some((code, text)) = &file.problem {
            let path = absolute(&self.root, &file.path);
            self.totals.problem(self.observer, path, code, text);
        }
        self.totals.statistics.torn += u64::from(file.torn);
        if let Some(database) = file.database {
            self.totals.add_database(Database { path: absolute(&self.root, &file.path), ..*database });
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
        self.write(&file.path, &file.line, None, links)
    }

    fn write_link(&mut self, path: Vec<u8>, first: Vec<u8>, known: bool) -> Result<()> {
        let Some(Some(entry)) = self.firsts.get(&first) else {
            self.totals.statistics.skipped += 1;
            let why = "it is another name of a file that could not be read";
            let path = absolute(&self.root, &path);
            self.totals.problem(self.observer, path, "file-unreadable", why);
            return Ok(());
        };
        let entry = Entry { path, hardlink: Some(first), ..entry.clone() };
        let mut line = Vec::new();
        entry.write_line(&mut line);
        let s = &mut self.totals.statistics;
        s.files += 1;
        s.bytes += entry.stat.size;
        *(if known { &mut s.changed_files } else { &mut s.new_files }) += 1;
        self.totals.differences += 1;
        self.write(&entry.path, &line, None, false)
    }

    fn write(&mut self, path: &[u8], line: &[u8], copied: Option<&ChunkRef>, links: bool) -> Result<()> {
        if links {
            let entry = Entry::read_line(line.strip_suffix(b"\n").unwrap_or(line))?;
            self.firsts.insert(path.to_vec(), Some(entry));
        }
        self.manifest.add(path, line, copied, self.packs)
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
