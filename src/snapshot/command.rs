//! A command's output as a snapshot. It counts only if the command ends well.

use std::ffi::OsString;
use std::io::{self, Read};

use super::content::{ContentError, ContentWriter, StreamSource};
use super::{Options, SnapshotError};
use crate::base::Name;
use crate::base::event::{Event, Observer};
use crate::base::time::Clock;
use crate::chunker::Cutter;
use crate::format::manifest::{Entry, ROOT, Stat, Time, Type};
use crate::format::pack::Kind;
use crate::repo::pack_writer::PackWriter;
use crate::repo::writer::Writer;

struct Watched<'o, R> {
    inner: R,
    observer: &'o dyn Observer,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.observer.interrupted() {
            return Err(io::Error::other("interrupted"));
        }
        let read = self.inner.read(buffer)?;
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
    // reading to the end gives an error if the command does not exit with 0
    let reader = duct::cmd(program, arguments).stdin_null().reader().map_err(failed)?;
    let packs = PackWriter::new(writer, Kind::Content)?;
    let mut content = ContentWriter::new(packs, Cutter::new(&writer.config().chunking), None);
    let mut source = StreamSource(Watched { inner: &reader, observer });
    let stored = content.store_stream(&mut source, 0);
    let (size, chunks) = match stored {
        Ok(stored) => stored,
        Err(error) => {
            // it may go on writing into a pipe that nobody reads
            let _ = reader.kill();
            return Err(match error {
                _ if observer.interrupted() => SnapshotError::Interrupted,
                ContentError::Source(e) => failed(e),
                ContentError::Repo(e) => e.into(),
            });
        }
    };
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
    Ok(entry)
}
