//! Further names of an inode (hard links): made when the file they lead to is done.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, PoisonError};

use rustix::fs::{AtFlags, Mode as Bits, OFlags};

use super::RestoreError;
use super::directory::{Directory, stat_in};
use super::seal;
use super::tree::{Run, split};
use super::worker::{put_over, temporary_name};
use crate::base::id::ChunkId;
use crate::format::manifest::{Entry, ROOT, Type};
use crate::sys::attributes::set_flags;
use crate::tree::live::open_in;
use crate::tree::walk::join;

/// A name that waits for its file.
pub struct Link<'o> {
    pub dir: Arc<Directory<'o>>,
    pub name: Vec<u8>,
    pub path: Vec<u8>,
    pub leader: Vec<u8>,
    pub entry: Entry,
}

/// The first name of an inode.
pub struct Leader {
    /// Its path in the target.
    pub path: Vec<u8>,
    /// What all names have in common.
    pub content: ChunkId,
}

impl<'o> Run<'o, '_> {
    /// Waits for all files and then makes the links to them.
    pub(super) fn flush_links(&mut self) -> Result<(), RestoreError> {
        if self.links.is_empty() && self.workers.living.is_none() {
            return self.batch.all().into_iter().try_for_each(|job| self.send(job));
        }
        self.settle()?;
        for link in std::mem::take(&mut self.links) {
            match self.make_link(&link) {
                Ok(()) => self.shared.collector.report().others += 1,
                Err(e) => self.shared.collector.problem(&link.path, "link-not-made", e),
            }
        }
        Ok(())
    }

    fn make_link(&self, link: &Link<'_>) -> io::Result<()> {
        let made =
            self.workers.linked.lock().unwrap_or_else(PoisonError::into_inner).get(&link.leader).copied();
        let made = match made {
            Some(made) => made,
            // what is not restored cannot be linked to either
            None if matches!(link.entry.stat.kind, Type::Socket | Type::Char | Type::Block) => return Ok(()),
            None => return Err(io::Error::other("the file it is another name of was not restored")),
        };
        let (parent, name) = split(&link.leader);
        let dir = open_below(self.base.fd()?, parent)?;
        let live = stat_in(dir.as_fd(), name)?;
        // only what this run made is linked to
        if live.map(|l| (l.dev, l.stat.inode)) != Some(made) {
            return Err(io::Error::other("the file it is another name of was replaced by something else"));
        }
        let here = link.dir.fd()?;
        let powers = &self.shared.powers;
        // what is immutable gets no further name: its flags go for the moment
        let link_as = |new: &[u8]| {
            seal::insist(dir.as_fd(), name, powers, || {
                rustix::fs::linkat(&dir, name, here, new, AtFlags::empty())
            })
        };
        match stat_in(here, &link.name)? {
            None => {
                link_as(&link.name)?;
                if let Some(living) = &self.workers.living {
                    living.linked_again(&link.leader, &link.path, here, &link.name)?;
                }
            }
            Some(there) if (there.dev, there.stat.inode) == made => return Ok(()),
            Some(_) => {
                link.dir.open_up()?;
                let temporary = temporary_name()?;
                link_as(&temporary)?;
                if let Err(e) = put_over(&link.dir, &temporary, &link.name, powers) {
                    let _ = rustix::fs::unlinkat(here, &*temporary, AtFlags::empty());
                    return Err(e);
                }
            }
        }
        if powers.sets_flags() && !link.entry.flags.is_empty() && link.entry.stat.kind == Type::File {
            let fd = open_in(dir.as_fd(), name, OFlags::RDONLY)?;
            set_flags(fd.as_fd(), &link.entry.flags)?;
        }
        Ok(())
    }

    /// The name of the inode's first entry in the manifest: what all its names have in common.
    pub(super) fn first_name(&self, entry: &Entry, path: &[u8]) -> Vec<u8> {
        match &entry.hardlink {
            Some(first) => first.clone(),
            None if self.subtree == ROOT => path.to_vec(),
            None => join(&self.subtree, path),
        }
    }

    /// The inode of the first restored name of an inode: `None` if this is the first,
    /// `Some(None)` if it is still being written.
    pub(super) fn leader_inode(&self, entry: &Entry, path: &[u8]) -> Option<Option<(u64, u64)>> {
        let leader = self.leaders.get(&self.first_name(entry, path))?;
        if leader.content != entry.inode_content() {
            return None;
        }
        Some(self.workers.linked.lock().unwrap_or_else(PoisonError::into_inner).get(&leader.path).copied())
    }

    /// Notes that a file with several names is there as it should be.
    pub fn keep_leader(&mut self, entry: &Entry, path: &[u8], inode: (u64, u64)) {
        let first = self.first_name(entry, path);
        let content = entry.inode_content();
        self.leaders.entry(first).or_insert_with(|| Leader { path: path.to_vec(), content });
        let mut linked = self.workers.linked.lock().unwrap_or_else(PoisonError::into_inner);
        linked.entry(path.to_vec()).or_insert(inode);
    }
}

/// Opens a directory below another, component by component, never following a link.
fn open_below(base: BorrowedFd<'_>, path: Option<&[u8]>) -> io::Result<OwnedFd> {
    let mut dir = base.try_clone_to_owned()?;
    let names = path.unwrap_or_default().split(|&b| b == b'/');
    for name in names.filter(|n| !n.is_empty() && *n != ROOT) {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        dir = rustix::fs::openat(&dir, name, flags, Bits::empty())?;
    }
    Ok(dir)
}
