//! Messages between the parent and the helper: one JSON document a packet, descriptors beside it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::active::Active;
use super::error::Broken;
use super::recipe::{Command, Recipe};

/// The largest message, in bytes: below what a packet socket takes by default.
const LARGEST: usize = 160 * 1024;

/// The first message.
#[derive(Serialize, Deserialize)]
pub(super) struct Hello {
    pub recipe: Recipe,
    /// Without any namespace.
    pub unisolated: bool,
}

/// From the parent to the first process inside.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub(super) enum Ask {
    /// Start a command; its standard input, output and error come along as descriptors.
    Start { job: u64, command: Command },
    /// Ask everything of a job to end, and kill what is left after the grace.
    Stop { job: u64, grace_ms: u64 },
    /// Kill everything, and say how much is left.
    Close,
}

/// From the first process inside to the parent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "tell")]
pub(super) enum Tell {
    /// Commands can come.
    Ready { active: Active },
    /// There will be no sandbox.
    Broken { broken: Broken },
    /// A job could not be started.
    NotStarted { job: u64, cause: String },
    /// The command of a job has ended; what it started may live on.
    Ended { job: u64, exit: Option<i32>, signal: Option<i32>, limit: Option<String> },
    /// Nothing of the job is left.
    Gone { job: u64 },
    /// Everything has been killed; so many processes could not be.
    Closed { left: u64 },
}

/// Sends one message.
pub(super) fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message).map_err(io::Error::other)?;
    if bytes.len() > LARGEST {
        return Err(io::Error::other("arguments and environment are longer than 160 KiB"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors"));
    }
    loop {
        match rustix::net::sendmsg(socket, &[IoSlice::new(&bytes)], &mut beside, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// Waits for one message; `None` if the other side has gone.
pub(super) fn receive<T: DeserializeOwned>(socket: &impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; LARGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        let into = &mut [IoSliceMut::new(&mut bytes)];
        match rustix::net::recvmsg(socket, into, &mut beside, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            other => break other?,
        }
    };
    let fds = beside
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    if got.bytes == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&bytes[..got.bytes]).map_err(io::Error::other)?, fds)))
}
