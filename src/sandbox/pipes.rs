//! Pipes between a command and its owner: what it reads, and what it writes as it comes.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::error::SandboxError;
use super::recipe::Stream;

/// The most that a command can be given to read.
const STDIN: usize = 1 << 20;

pub(super) fn stdin(bytes: &[u8]) -> Result<OwnedFd, SandboxError> {
    if bytes.len() > STDIN {
        return Err(SandboxError::Invalid("more than 1 MiB for standard input".into()));
    }
    let make = || {
        if bytes.is_empty() {
            return Ok(OwnedFd::from(File::open("/dev/null")?));
        }
        let memory = rustix::fs::memfd_create("stdin", rustix::fs::MemfdFlags::CLOEXEC)?;
        let mut file = File::from(memory);
        file.write_all(bytes)?;
        io::Seek::rewind(&mut file)?;
        Ok(OwnedFd::from(file))
    };
    make().map_err(|error| SandboxError::Talk("handing over standard input", error))
}

pub(super) fn readable(fd: &OwnedFd, patience: Duration) -> io::Result<bool> {
    let pause = Timespec::try_from(patience).ok();
    match poll(&mut [PollFd::new(fd, PollFlags::IN)], pause.as_ref()) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

// Hands over what has come; a pipe at its end becomes `None`.
pub(super) fn forward(pipes: &mut [Option<File>; 2], output: &mut dyn FnMut(Stream, &[u8])) {
    let mut buffer = [0; 16 * 1024];
    for (pipe, stream) in pipes.iter_mut().zip([Stream::Out, Stream::Err]) {
        // a bounded number of turns: a command that writes without end must not keep its limit from being seen
        for _ in 0..64 {
            let Some(file) = pipe else { break };
            match file.read(&mut buffer) {
                Ok(0) => *pipe = None,
                Ok(count) => output(stream, &buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => *pipe = None,
            }
        }
    }
}

pub(super) fn discard(pipes: Vec<File>) {
    for mut pipe in pipes {
        std::thread::spawn(move || {
            let _ = rustix::io::ioctl_fionbio(&pipe, false);
            let _ = io::copy(&mut pipe, &mut io::sink());
        });
    }
}
