//! A command's output as a snapshot. It counts only if the command ends well.

use std::ffi::OsString;
use std::io::{self, PipeReader, Read};
use std::os::unix::process::CommandExt as _;
use std::thread::sleep;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};

use super::content::{ContentError, ContentWriter, StreamSource};
use super::{Options, SnapshotError};
use crate::base::Name;
use crate::base::event::{Event, Observer};
use crate::base::time::Clock;
use crate::chunker::Cutter;
use crate::format::manifest::{Entry, MAX_LINE, ROOT, Stat, Time, Type};
use crate::format::pack::Kind;
use crate::repo::pack_writer::PackWriter;
use crate::repo::writer::Writer;

/// After so long without output it is looked whether somebody wants an end.
const PATIENCE: Duration = Duration::from_millis(100);
/// A command told to end has so long before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// A running command and its output. Dropped, it takes the command and all that it started with it.
struct Running<'o> {
    output: PipeReader,
    handle: duct::Handle,
    observer: &'o dyn Observer,
    read: u64,
    ended: bool,
}

impl<'o> Running<'o> {
    fn start(program: &OsString, arguments: &[OsString], observer: &'o dyn Observer) -> io::Result<Self> {
        let (output, input) = io::pipe()?;
        // a process group of its own, so that what it starts can be told to end with it
        let command = duct::cmd(program, arguments).stdin_null().stdout_file(input).before_spawn(|c| {
            c.process_group(0);
            Ok(())
        });
        // the expression holds the writing end: it must be gone before the end of the output can be seen
        Ok(Self { output, handle: command.start()?, observer, read: 0, ended: false })
    }

    // An error if the command did not exit with 0. It may have closed its output long before.
    fn wait(mut self) -> io::Result<()> {
        while self.handle.try_wait()?.is_none() {
            self.interrupted()?;
            sleep(Duration::from_millis(5));
        }
        self.ended = true;
        Ok(())
    }

    fn interrupted(&self) -> io::Result<()> {
        if self.observer.interrupted() { Err(io::Error::other("interrupted")) } else { Ok(()) }
    }

    fn signal(&self, signal: Signal) {
        for pid in self.handle.pids().into_iter().filter_map(|pid| Pid::from_raw(pid as i32)) {
            // nobody left to tell is what is wanted
            let _ = kill_process_group(pid, signal);
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.signal(Signal::TERM);
        let mut waited = Duration::ZERO;
        while waited < GRACE && matches!(self.handle.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(10));
            waited += Duration::from_millis(10);
        }
        self.signal(Signal::KILL);
        let _ = self.handle.wait();
    }
}

impl Read for Running<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let patience = Timespec { tv_sec: 0, tv_nsec: PATIENCE.subsec_nanos().into() };
        loop {
            self.interrupted()?;
            match poll(&mut [PollFd::new(&self.output, PollFlags::IN)], Some(&patience)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => break,
                Err(e) => return Err(e.into()),
            }
        }
        let read = self.output.read(buffer)?;
        self.read += read as u64;
        self.observer.event(Event::Advanced { entries: 0, bytes: read as u64 });
        Ok(read)
    }
}

/// Runs the command and stores what it prints; returns the one entry.
pub fn store_output(
    argv: &[OsString],
    options: &Options,
    writer: &Writer,
    clock: Clock,
    observer: &dyn Observer,
) -> Result<Entry, SnapshotError> {
    let shown = argv.iter().map(|a| Name::from(a.as_os_str()).shown()).collect::<Vec<_>>().join(" ");
    let failed = |source: io::Error| SnapshotError::Command { command: Name::from(shown.as_str()), source };
    let Some((program, arguments)) = argv.split_first() else {
        return Err(failed(io::Error::other("there is none")));
    };
    let packs = PackWriter::new(writer, Kind::Content);
    let mut content = ContentWriter::new(packs, Cutter::new(&writer.config().chunking), None);
    let too_long = |bytes| SnapshotError::TooLong { command: Name::from(shown.as_str()), bytes };
    let said = |error, bytes| match error {
        _ if observer.interrupted() => SnapshotError::Interrupted,
        ContentError::Source(e) => failed(e),
        ContentError::TooLong => too_long(bytes),
        ContentError::Repo(e) => e.into(),
    };
    let mut source = StreamSource(Running::start(program, arguments, observer).map_err(failed)?);
    let stored = content.store_stream(&mut source, None);
    let (size, chunks) = stored.map_err(|e| said(e, source.0.read))?;
    // what it printed counts only if it ends well
    source.0.wait().map_err(|e| said(ContentError::Source(e), size))?;
    content.packs.finish()?;
    let (seconds, nanos) = clock.now().parts();
    let stat = Stat {
        kind: Type::File,
        mode: 0o600,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        size,
        mtime: Time(seconds, nanos),
        ctime: Time(seconds, nanos),
        inode: 0,
        links: 1,
        device: None,
    };
    let mut entry = Entry { chunks, ..Entry::new(ROOT.to_vec(), stat) };
    entry.user = Some(options.user.clone());
    let mut line = Vec::new();
    entry.write_line(&mut line);
    if line.len() as u64 > MAX_LINE { Err(too_long(size)) } else { Ok(entry) }
}
