//! Further names of an inode (hard links): made when the file they lead to is done.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, PoisonError};

use rustix::fs::{AtFlags, Mode as Bits, OFlags};

use super::RestoreError;
use super::batch::FileTarget;
use super::beside::exchange;
use super::directory::{Directory, stat_in};
use super::report::Loss;
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
    /// What SQLite has beside that name goes when the link comes there.
    pub clears: bool,
}

/// The first name of an inode.
pub struct Leader {
    /// Its path in the target.
    pub path: Vec<u8>,
    /// What all names have in common.
    pub content: ChunkId,
}

// Why a name is no link.
enum Unlinked {
    // it cannot be one, but it may be a file of its own; what it should lead to is there or is not
    Apart { is_there: bool },
    // it cannot be anything
    Failed(io::Error),
}

impl From<io::Error> for Unlinked {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl<'o> Run<'o, '_> {
    /// Waits for all files and then makes the links to them. A name that cannot be a link gets the content by itself, and the
    /// names after it lead there.
    pub(super) fn flush_links(&mut self) -> Result<(), RestoreError> {
        if self.links.is_empty() && self.workers.living.is_none() {
            return self.batch.all().into_iter().try_for_each(|job| self.send(job));
        }
        self.settle()?;
        // by the leader that they stand in for; and those that are still being written
        let (mut heirs, mut pending) = (HashMap::<Vec<u8>, Vec<u8>>::new(), HashSet::new());
        for link in std::mem::take(&mut self.links) {
            let mut made = self.make_link(&link, &link.leader);
            if let (Err(Unlinked::Apart { .. }), Some(heir)) = (&made, heirs.get(&link.leader)) {
                self.check_interrupt()?;
                if pending.contains(heir) {
                    self.settle()?;
                    pending.clear();
                }
                made = self.make_link(&link, heir);
            }
            match made {
                Ok(()) => {
                    self.shared.collector.report().others += 1;
                    self.count_name(&link.leader);
                }
                Err(Unlinked::Failed(e)) => self.shared.collector.problem(&link.path, "link-not-made", e),
                Err(Unlinked::Apart { is_there }) => {
                    if is_there {
                        self.shared.collector.loss(Loss::Link);
                    }
                    heirs.insert(link.leader.clone(), link.path.clone());
                    pending.insert(link.path.clone());
                    self.put_apart(link, is_there)?;
                }
            }
        }
        self.settle()
    }

    // One more name in the target of what was there.
    fn count_name(&mut self, leader: &[u8]) {
        let linked = self.workers.linked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(names) = linked.get(leader).and_then(|inode| self.kept_names.get_mut(inode)) {
            *names += 1;
        }
    }

    // A name of several becomes a file of its own. `is_there`: so is the one that it should lead to.
    fn put_apart(&mut self, link: Link<'o>, is_there: bool) -> Result<(), RestoreError> {
        let Link { dir, name, path, entry, clears, .. } = link;
        if !is_there {
            let (first, content) = (self.first_name(&entry, &path), entry.inode_content());
            self.leaders.insert(first, Leader { path: path.clone(), content });
        }
        let there = dir.fd().and_then(|dir| stat_in(dir, &name));
        let replace = !matches!(there, Ok(None));
        self.put_content(Arc::new(FileTarget::new(dir, name, path, entry, replace).clearing(clears)))
    }

    fn make_link(&self, link: &Link<'_>, leader: &[u8]) -> Result<(), Unlinked> {
        let make = || self.make_name(link, leader);
        match link.clears {
            true => exchange(&link.dir, &link.name, &self.shared.powers, self.shared.collector, make),
            false => make(),
        }
    }

    fn make_name(&self, link: &Link<'_>, leader: &[u8]) -> Result<(), Unlinked> {
        let workers = self.workers;
        let made = workers.linked.lock().unwrap_or_else(PoisonError::into_inner).get(leader).copied();
        let made = match made {
            Some(made) => made,
            // what is not restored cannot be linked to either
            None if matches!(link.entry.stat.kind, Type::Socket | Type::Char | Type::Block) => return Ok(()),
            None if workers.is_unreadable(leader) => {
                let why = "the file it is another name of was not restored";
                return Err(io::Error::other(why).into());
            }
            // it could not be written, which says nothing of this name
            None => return Err(Unlinked::Apart { is_there: false }),
        };
        let (parent, name) = split(leader);
        let dir = open_below(self.base.fd()?, parent);
        let dir = dir.map_err(|_| Unlinked::Apart { is_there: false })?;
        // only what this run made is linked to
        let live = stat_in(dir.as_fd(), name).ok().flatten();
        if live.map(|l| (l.dev, l.stat.inode)) != Some(made) {
            return Err(Unlinked::Apart { is_there: false });
        }
        if live.is_some_and(|live| self.leads_outside(made, live.stat.links, link.entry.stat.links)) {
            return Err(Unlinked::Apart { is_there: true });
        }
        let here = link.dir.fd()?;
        let powers = &self.shared.powers;
        // what is immutable gets no further name: its flags go for the moment
        let link_as = |new: &[u8]| {
            let made = seal::insist(dir.as_fd(), name, powers, || {
                rustix::fs::linkat(&dir, name, here, new, AtFlags::empty())
            });
            // another file system or mount, too many names, no right to it
            made.map_err(|_| Unlinked::Apart { is_there: true })
        };
        match stat_in(here, &link.name)? {
            None => {
                link_as(&link.name)?;
                if let Some(living) = &workers.living {
                    living.linked_again(leader, &link.path, here, &link.name)?;
                }
            }
            Some(there) if (there.dev, there.stat.inode) == made => return Ok(()),
            Some(_) => {
                link.dir.open_up()?;
                let temporary = temporary_name()?;
                link_as(&temporary)?;
                if let Err(e) = put_over(&link.dir, &temporary, &link.name, powers) {
                    let _ = rustix::fs::unlinkat(here, &*temporary, AtFlags::empty());
                    return Err(e.into());
                }
            }
        }
        if powers.sets_flags() && !link.entry.flags.is_empty() && link.entry.stat.kind == Type::File {
            let fd = open_in(dir.as_fd(), name, OFlags::RDONLY).map_err(io::Error::from)?;
            set_flags(fd.as_fd(), &link.entry.flags)?;
        }
        Ok(())
    }

    // True if an inode that was there has names outside the target: nothing in it must lead to what lies there. Before all is met,
    // that is known only of one which has all its names already.
    fn leads_outside(&self, inode: (u64, u64), names: u64, wanted: u64) -> bool {
        let is_more = |met: &u64| names > *met && (self.is_all_met || names >= wanted);
        self.kept_names.get(&inode).is_some_and(is_more)
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
