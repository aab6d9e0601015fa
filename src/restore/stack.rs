//! The directories that lead to the current entry, made when they are needed.

use std::sync::Arc;

use super::directory::{Directory, Shared};
use super::tree::split;
use crate::format::manifest::{Entry, ROOT, is_within_subtree};

/// The directories between the base and the current entry.
pub struct Stack<'o> {
    base: Arc<Directory<'o>>,
    open: Vec<(Vec<u8>, Level<'o>)>,
}

enum Level<'o> {
    Made(Arc<Directory<'o>>),
    // not selected itself; made when something below it is
    Wished(Box<Entry>),
}

impl<'o> Stack<'o> {
    /// Begins at the directory that the top of a placement lies in.
    pub fn new(base: Arc<Directory<'o>>) -> Self {
        Self { base, open: Vec::new() }
    }

    /// Enters a directory that is there.
    pub(super) fn push(&mut self, path: Vec<u8>, dir: Arc<Directory<'o>>) {
        self.unwind(&path);
        self.open.push((path, Level::Made(dir)));
    }

    /// Enters a directory that is not selected itself.
    pub(super) fn push_wished(&mut self, entry: Entry) {
        let path = entry.path.clone();
        self.unwind(&path);
        self.open.push((path, Level::Wished(Box::new(entry))));
    }

    fn unwind(&mut self, path: &[u8]) {
        while self.open.last().is_some_and(|(top, _)| top == path || !is_within_subtree(path, top)) {
            self.open.pop();
        }
    }

    /// The directory of this path, which must be that of an entry before.
    pub(super) fn parent(&mut self, path: Option<&[u8]>, shared: &Shared<'o>) -> Option<Arc<Directory<'o>>> {
        let Some(path) = path else { return Some(Arc::clone(&self.base)) };
        // an entry without its directory costs nothing but itself: what is open above it stays open
        while self.open.last().is_some_and(|(top, _)| !is_within_subtree(path, top)) {
            self.open.pop();
        }
        match self.open.last() {
            // a single file restored by itself has no directory of its own
            None => return (path == ROOT).then(|| Arc::clone(&self.base)),
            Some((top, _)) if top != path => return None,
            Some(_) => {}
        }
        self.make_wished(shared)
    }

    fn make_wished(&mut self, shared: &Shared<'o>) -> Option<Arc<Directory<'o>>> {
        let mut above = Arc::clone(&self.base);
        for (path, level) in &mut self.open {
            let dir = match level {
                Level::Made(dir) => Arc::clone(dir),
                Level::Wished(entry) if path == ROOT => above.with_entry(*entry.clone()),
                Level::Wished(entry) => {
                    let (_, name) = split(path);
                    match above.make(name, path.clone(), Some(*entry.clone())) {
                        Ok(dir) => dir,
                        Err(e) => {
                            shared.collector.problem(path, "directory-not-made", e);
                            return None;
                        }
                    }
                }
            };
            *level = Level::Made(Arc::clone(&dir));
            above = dir;
        }
        Some(above)
    }
}
