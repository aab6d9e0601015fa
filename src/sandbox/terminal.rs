//! A command on the terminal of this process: through a terminal of its own, whose other end is relayed.
//!
//! The command never gets the real terminal: what is typed into that by a process inside would be read
//! by the shell outside.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use super::error::SandboxError;
use super::recipe::Command;
use super::run::{Job, LOOK, Sandbox};

/// A terminal for a command inside. Dropping it gives the real one its settings back.
struct Terminal {
    master: File,
    saved: Termios,
}

impl Terminal {
    /// A terminal like the one on standard input, which now passes on every key; and the command's end of it.
    fn open() -> io::Result<(Self, OwnedFd)> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags)?;
        rustix::pty::unlockpt(&master)?;
        // by descriptor: a name would be looked up in whatever /dev/pts is mounted here
        let inside = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
        let stdin = io::stdin();
        let saved = tcgetattr(&stdin)?;
        tcsetattr(&inside, OptionalActions::Now, &saved)?;
        rustix::io::ioctl_fionbio(&master, true)?;
        let terminal = Self { master: master.into(), saved };
        let mut raw = terminal.saved.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok((terminal, inside))
    }

    // Passes on what has come from either side, and the size of the window.
    fn relay(&mut self) {
        if let Ok(size) = tcgetwinsize(io::stdin()) {
            let _ = tcsetwinsize(&self.master, size);
        }
        let mut buffer = [0; 4096];
        if is_ready(&io::stdin())
            && let Ok(count) = rustix::io::read(io::stdin(), &mut buffer)
        {
            let _ = self.master.write_all(&buffer[..count]);
        }
        while let Ok(count @ 1..) = self.master.read(&mut buffer) {
            let mut out = io::stdout().lock();
            let _ = out.write_all(&buffer[..count]).and_then(|()| out.flush());
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.saved);
    }
}

impl Sandbox {
    /// Runs a command on this process's terminal until it ends: for a shell inside. Where standard input is no terminal, the
    /// command gets this process's standard input, output and error as they are.
    ///
    /// # Errors
    /// If it cannot be started, or if the sandbox is lost.
    pub fn interact(&mut self, command: &Command) -> Result<(), SandboxError> {
        let trouble = |error| SandboxError::Talk("making a terminal", error);
        if !rustix::termios::isatty(io::stdin()) {
            let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
            let job = self.submit(command, [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?;
            return self.attend(job, None);
        }
        let (terminal, inside) = Terminal::open().map_err(trouble)?;
        let job = self.submit(command, [inside.as_fd(); 3])?;
        drop(inside);
        self.attend(job, Some(terminal))
    }

    fn attend(&mut self, job: Job, mut terminal: Option<Terminal>) -> Result<(), SandboxError> {
        let pause = Timespec::try_from(LOOK).ok();
        while self.ended(job)?.is_none() {
            let stdin = io::stdin();
            let mut fds = vec![PollFd::new(self.control()?, PollFlags::IN)];
            if let Some(terminal) = &terminal {
                fds.push(PollFd::new(&stdin, PollFlags::IN));
                fds.push(PollFd::new(&terminal.master, PollFlags::IN));
            }
            // an interruption is as good as a pause
            let _ = poll(&mut fds, pause.as_ref());
            if let Some(terminal) = &mut terminal {
                terminal.relay();
            }
        }
        if let Some(terminal) = &mut terminal {
            terminal.relay();
        }
        Ok(())
    }
}

fn is_ready(fd: &impl std::os::fd::AsFd) -> bool {
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))
        .is_ok_and(|n| n > 0)
}
