//! The workers: each takes runs of files and pieces of large ones until there are no more.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, select};

use super::content::{ContentWriter, Piece, Share, Spare};
use super::databases::Databases;
use super::files::{FileDone, FileJob, store_file};
use crate::base::event::{Event, Observer};
use crate::chunker::Cutter;
use crate::format::pack::Kind;
use crate::repo::pack_writer::{Dense, PackWriter};
use crate::repo::writer::Writer;
use crate::repo::{RepoError, Result};
use crate::sys::names::Names;

/// Files to read, in order.
pub struct Run {
    /// Its number, from 0 in the order of the manifest.
    pub number: u64,
    /// The files.
    pub files: Vec<FileJob>,
}

/// A run that was read.
pub struct RunDone {
    /// Its number.
    pub number: u64,
    /// What came of each file, in order.
    pub files: Vec<FileDone>,
}

/// What the workers share.
pub struct Pool<'w> {
    writer: &'w Writer,
    observer: &'w dyn Observer,
    runs: Receiver<Run>,
    done: Sender<RunDone>,
    pieces: (Sender<Piece>, Receiver<Piece>),
    spare: Arc<Spare>,
    // workers that may still cut pieces
    busy: AtomicUsize,
    stopped: AtomicBool,
    error: Mutex<Option<RepoError>>,
    dense: Dense<'w>,
    databases: Option<&'w Databases<'w>>,
}

impl<'w> Pool<'w> {
    /// Workers that take runs from one channel and put what came of them into the other. Small chunks
    /// that cannot be compressed go to `dense`; databases are copied by `databases`, or read like other files.
    pub fn new(
        writer: &'w Writer,
        observer: &'w dyn Observer,
        runs: Receiver<Run>,
        done: Sender<RunDone>,
        dense: Dense<'w>,
        databases: Option<&'w Databases<'w>>,
    ) -> Self {
        Self {
            writer,
            observer,
            runs,
            done,
            pieces: crossbeam_channel::bounded(1),
            spare: Arc::default(),
            busy: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            error: Mutex::new(None),
            dense,
            databases,
        }
    }

    /// Tells the workers to give up.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Set when a worker met an error or all were told to stop.
    pub fn stopped(&self) -> &AtomicBool {
        &self.stopped
    }

    /// True if a worker met an error or all were told to stop.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The first error of a worker.
    pub fn take_error(&self) -> Option<RepoError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// One worker's life.
    pub fn work(&self) {
        if let Err(e) = self.try_work() {
            self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
            self.stop();
        }
    }

    fn try_work(&self) -> Result<()> {
        let packs = PackWriter::new(self.writer, Kind::Content).with_dense(self.dense);
        let cutter = Cutter::new(&self.writer.config().chunking);
        let mut content = ContentWriter::new(
            packs,
            cutter,
            Some(Share {
                pieces: self.pieces.clone(),
                stopped: &self.stopped,
                spare: Arc::clone(&self.spare),
            }),
        );
        let mut names = Names::default();
        loop {
            select! {
                recv(self.pieces.1) -> piece => {
                    if let Ok(piece) = piece {
                        content.store_piece(piece)?;
                    }
                }
                recv(self.runs) -> run => {
                    let Ok(run) = run else { break };
                    self.busy.fetch_add(1, Ordering::SeqCst);
                    let done = self.store_run(run, &mut content, &mut names);
                    self.busy.fetch_sub(1, Ordering::SeqCst);
                    done?;
                }
            }
            if self.is_stopped() {
                return Ok(());
            }
        }
        // no more runs; but another worker may still be cutting a large file
        while self.busy.load(Ordering::SeqCst) > 0 && !self.is_stopped() {
            if let Ok(piece) = self.pieces.1.recv_timeout(Duration::from_millis(2)) {
                content.store_piece(piece)?;
            }
        }
        if self.is_stopped() { Ok(()) } else { content.packs.finish() }
    }

    fn store_run(&self, run: Run, content: &mut ContentWriter<'_>, names: &mut Names) -> Result<()> {
        let mut files = Vec::with_capacity(run.files.len());
        for job in run.files {
            if self.is_stopped() || self.observer.interrupted() {
                return Err(RepoError::Interrupted);
            }
            let read = store_file(job, content, names, self.databases)?;
            self.observer.event(Event::Advanced { entries: 1, bytes: read.size() });
            files.push(read);
        }
        let mut ids = content.packs.settled()?.into_iter();
        let files = files.into_iter().map(|file| file.finish(&mut ids)).collect::<Result<_>>()?;
        // the receiver is gone only if the run failed elsewhere
        let _ = self.done.send(RunDone { number: run.number, files });
        Ok(())
    }
}
