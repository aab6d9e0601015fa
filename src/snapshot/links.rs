//! Inodes with several names (hard links): the first name that the walk meets is stored, the others point to it. Between
//! the walk and the reading a name may get another inode; so each later name is held against what was stored.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::format::manifest::{Entry, Type, compare_entries, line_path};
use crate::repo::Result;
use crate::tree::live::LiveStat;

/// What tells inodes apart while a walk lasts: the device and the number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inode(u64, u64);

impl Inode {
    /// That of an entry, if it has several names.
    pub fn of_several(live: &LiveStat) -> Option<Self> {
        (live.stat.links > 1).then_some(Self(live.dev, live.stat.inode))
    }
}

/// What is known of an inode when the walk meets a further name of it.
#[derive(Debug)]
pub enum Further {
    /// The entry of the further name: that of the first one but for the path.
    Name(Box<Entry>),
    /// The first name is still being read.
    Waits,
    /// No stored entry is of this inode as the walk saw it: it is read under this name.
    Alone,
}

// An entry costs its line only, and is dropped with the last of its names.
struct First {
    // as it is in the manifest; empty while the file is being read
    line: Box<[u8]>,
    // copied from the parent
    kept: bool,
    // names that may still come
    left: u64,
}

/// The first entries of inodes with several names.
#[derive(Default)]
pub struct Links(HashMap<Inode, First>);

impl Links {
    /// True if the walk has met a name of this inode.
    pub fn knows(&self, inode: Inode) -> bool {
        self.0.contains_key(&inode)
    }

    /// Notes that the first name of an inode is being read.
    pub fn expect(&mut self, inode: Inode, live: &LiveStat) {
        let left = live.stat.links.saturating_sub(1);
        self.0.insert(inode, First { line: Box::default(), kept: false, left });
    }

    /// Notes the line of the first name; an empty one if it could not be read. `kept`: it was copied from the parent.
    pub fn stored(&mut self, inode: Inode, line: &[u8], kept: bool) {
        if line.is_empty() {
            self.0.remove(&inode);
        } else if let Some(first) = self.0.get_mut(&inode) {
            (first.line, first.kept) = (line.into(), kept);
        }
    }

    /// Notes that what was to be the first name is not read at all. One that was stored stays.
    pub fn drop_expected(&mut self, inode: Inode) {
        if self.0.get(&inode).is_some_and(|first| first.line.is_empty()) {
            self.0.remove(&inode);
        }
    }

    /// The path of the first name, if that was copied from the parent: so a further name may be copied too.
    pub fn kept_path(&self, inode: Inode) -> Option<Cow<'_, [u8]>> {
        self.0.get(&inode).filter(|first| first.kept).and_then(|first| line_path(&first.line))
    }

    /// Notes that a further name was seen: after the last one, nothing is kept of the inode.
    pub fn seen(&mut self, inode: Inode) {
        if let Some(first) = self.0.get_mut(&inode) {
            first.left = first.left.saturating_sub(1);
            if first.left == 0 {
                self.0.remove(&inode);
            }
        }
    }

    /// What a further name is, which the walk saw like this.
    ///
    /// # Errors
    /// If a line is malformed.
    pub fn further(&self, inode: Inode, path: &[u8], live: &LiveStat) -> Result<Further> {
        let Some(first) = self.0.get(&inode) else { return Ok(Further::Alone) };
        if first.line.is_empty() {
            return Ok(Further::Waits);
        }
        let mut entry = read(&first.line)?;
        if !is_same(&entry, live) || compare_entries(&entry.path, path).is_ge() {
            return Ok(Further::Alone);
        }
        entry.hardlink = Some(std::mem::replace(&mut entry.path, path.to_vec()));
        Ok(Further::Name(Box::new(entry)))
    }
}

fn read(line: &[u8]) -> Result<Entry> {
    Ok(Entry::read_line(line.strip_suffix(b"\n").unwrap_or(line))?)
}

// True if an entry that was read is of the inode that was seen under another name. The number alone does not tell: it is given
// again when a file is gone. But whatever had the number before was changed for the last time before that; so what is as it was
// seen, or was changed later, is the same.
fn is_same(entry: &Entry, seen: &LiveStat) -> bool {
    let (stored, seen) = (&entry.stat, &seen.stat);
    if (stored.inode, stored.kind) != (seen.inode, seen.kind) {
        return false;
    }
    // the size is its copy's; and under another name its log would not be found
    let is_database = stored.kind == Type::File && entry.database;
    is_database || stored.ctime > seen.ctime || (stored.size, stored.mtime) == (seen.size, seen.mtime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::manifest::{Stat, Time};

    fn live(inode: u64, links: u64, second: i64) -> LiveStat {
        let stat = Stat {
            kind: Type::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 3,
            mtime: Time(second, 0),
            ctime: Time(second, 0),
            inode,
            links,
            device: None,
        };
        LiveStat { stat, dev: 1, blocks: 8 }
    }

    fn links(first: &LiveStat, stored: &LiveStat, change: impl Fn(&mut Entry)) -> (Links, Inode) {
        let (mut links, inode) = (Links::default(), Inode::of_several(first).unwrap());
        links.expect(inode, first);
        assert!(matches!(links.further(inode, b"b", first).unwrap(), Further::Waits));
        let mut entry = Entry::new(b"a".to_vec(), stored.stat);
        entry.chunks = vec![crate::base::id::ChunkId([7; 32])];
        change(&mut entry);
        let mut line = Vec::new();
        entry.write_line(&mut line);
        links.stored(inode, &line, false);
        (links, inode)
    }

    #[test]
    fn a_further_name_is_one_only_of_what_was_stored() {
        let seen = live(5, 3, 100);
        for (stored, same) in [
            (live(5, 3, 100), true),
            (live(5, 3, 101), true),
            // what had the number before it was given again
            (live(5, 3, 99), false),
            (live(6, 1, 100), false),
            (live(6, 1, 101), false),
        ] {
            let (links, inode) = links(&seen, &stored, |_| {});
            let further = links.further(inode, b"b", &seen).unwrap();
            assert_eq!(matches!(further, Further::Name(_)), same, "{stored:?}");
        }
        let (links, inode) = links(&seen, &live(5, 3, 99), |entry| entry.database = true);
        assert!(matches!(links.further(inode, b"b", &seen).unwrap(), Further::Name(_)));
        assert!(matches!(links.further(inode, b"A", &seen).unwrap(), Further::Alone), "it comes before");
    }

    #[test]
    fn what_is_known_of_an_inode_goes_with_its_last_name() {
        let seen = live(5, 3, 100);
        let (mut links, inode) = links(&seen, &seen, |_| {});
        links.seen(inode);
        assert!(links.knows(inode));
        links.seen(inode);
        assert!(!links.knows(inode));
        links.seen(inode);
        assert!(Inode::of_several(&live(5, 1, 100)).is_none());
    }
}
