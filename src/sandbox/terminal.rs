//! A terminal for inside, joined to the one outside by copying bytes: they share nothing else.

use std::io::{self, stdin, stdout};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// The outer end.
pub(super) struct Terminal(OwnedFd);

/// While it lives, the terminal outside passes every key on. Dropped, it is as it was.
pub(super) struct Raw(Termios);

impl Terminal {
    pub(super) fn make() -> io::Result<Self> {
        let outer = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&outer)?;
        unlockpt(&outer)?;
        Ok(Self(outer))
    }

    /// The end for inside.
    pub(super) fn inner(&self) -> io::Result<OwnedFd> {
        let path = ptsname(&self.0, Vec::new())?;
        let inner = rustix::fs::open(path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        if let Ok(size) = tcgetwinsize(stdout()) {
            tcsetwinsize(&inner, size)?;
        }
        Ok(inner)
    }

    /// Hands this process's terminal over.
    pub(super) fn join(&self) -> io::Result<Raw> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        rustix::io::ioctl_fionbio(&self.0, true)?;
        Ok(Raw(before))
    }

    /// Waits a moment for bytes of either side and copies them to the other.
    pub(super) fn relay(&self, patience: Duration) -> io::Result<()> {
        let pause = Timespec::try_from(patience).ok();
        let (keys, outer) = (stdin(), &self.0);
        let mut fds = [PollFd::new(&keys, PollFlags::IN), PollFd::new(outer, PollFlags::IN)];
        match poll(&mut fds, pause.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = [!fds[0].revents().is_empty(), !fds[1].revents().is_empty()];
        let mut bytes = [0; 4096];
        if ready[1] {
            // an error here is how a terminal says that nobody is at its other end
            while let Ok(count @ 1..) = rustix::io::read(outer, &mut bytes) {
                write_all(stdout().as_fd(), &bytes[..count])?;
            }
        }
        if ready[0] {
            let count = rustix::io::read(&keys, &mut bytes)?;
            write_all(outer.as_fd(), &bytes[..count])?;
        }
        Ok(())
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}

fn write_all(to: std::os::fd::BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                poll(&mut [PollFd::new(&to, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
