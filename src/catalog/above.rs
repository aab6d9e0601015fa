//! The entries that lead to the current one, for whoever goes through a manifest and believes nothing of it.

use crate::format::manifest::{ROOT, Type, is_within_subtree};

/// What an entry lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A directory that came before it.
    Directory,
    /// Something that is no directory.
    Other,
    /// Nothing of that name came before it.
    Missing,
}

/// The entries between the top of a part and the current one.
#[derive(Debug)]
pub struct Above {
    top: Vec<u8>,
    open: Vec<(Vec<u8>, bool)>,
}

impl Above {
    /// Before the entry at `top`, which may lie in anything.
    pub fn new(top: &[u8]) -> Self {
        Self { top: top.to_vec(), open: Vec::new() }
    }

    /// What the next entry lies in.
    pub fn holder(&mut self, path: &[u8]) -> Holder {
        if path == self.top {
            return Holder::Directory;
        }
        while self.open.last().is_some_and(|(above, _)| !is_within_subtree(path, above)) {
            self.open.pop();
        }
        let parent = path.iter().rposition(|&b| b == b'/').map_or(ROOT, |at| &path[..at]);
        match self.open.last() {
            Some((_, false)) => Holder::Other,
            Some((above, true)) if above == parent => Holder::Directory,
            _ => Holder::Missing,
        }
    }

    /// Enters it.
    pub fn enter(&mut self, path: &[u8], kind: Type) {
        self.open.push((path.to_vec(), kind == Type::Dir));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_lies_in_a_directory_that_came_before_it() {
        let mut above = Above::new(b".");
        for (path, kind, holder) in [
            (".", Type::Dir, Holder::Directory),
            ("a", Type::Dir, Holder::Directory),
            ("a/b", Type::Symlink, Holder::Directory),
            ("a/b/c", Type::Dir, Holder::Other),
            ("a/b/c/d", Type::File, Holder::Other),
            ("a/e", Type::File, Holder::Directory),
            ("a-f", Type::File, Holder::Directory),
            ("g/h", Type::Dir, Holder::Missing),
            ("g/h/i", Type::File, Holder::Missing),
        ] {
            assert_eq!(above.holder(path.as_bytes()), holder, "{path}");
            if holder == Holder::Directory {
                above.enter(path.as_bytes(), kind);
            }
        }
        let mut part = Above::new(b"x/y");
        assert_eq!(part.holder(b"x/y"), Holder::Directory);
        assert_eq!(part.holder(b"x/y/z"), Holder::Missing);
    }
}
