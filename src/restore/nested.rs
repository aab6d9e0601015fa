//! Roots that lie in another one. Each comes after the one around it and decides what of its own is to be removed; the one
//! around it leaves that alone.

use std::collections::{BTreeMap, BTreeSet};

use super::spare::{LeftOut, Spared};
use super::tree::Run;
use super::{Mode, Placement, RestoreError};
use crate::base::name::is_within;
use crate::format::manifest::ROOT;
use crate::repo::documents::Snapshot;
use crate::tree::walk::join;

/// What lies in the current placement and is that of another.
#[derive(Default)]
pub struct Nested {
    // by the tops of the later placements below the current one's, relative to that: what those leave out, if that matters
    inner: BTreeMap<Vec<u8>, Option<LeftOut>>,
    // the current placement's top, in the target
    prefix: Vec<u8>,
    // paths in the target that an outer placement has and an inner one left out
    held: BTreeSet<Vec<u8>>,
}

/// True if one of these placements goes to where this one does, or around it.
pub fn lies_in(placement: &Placement, others: &[Placement]) -> bool {
    others.iter().any(|other| other.prefix.is_empty() || is_within(&placement.prefix, &other.prefix))
}

impl Nested {
    /// Begins a placement. `left_out` says what a later one never held, where that goes unless the current one has it.
    ///
    /// # Errors
    /// As `left_out`.
    pub fn begin(
        &mut self,
        placement: &Placement,
        later: &[Placement],
        left_out: impl Fn(&Placement) -> Result<Option<LeftOut>, RestoreError>,
    ) -> Result<(), RestoreError> {
        self.prefix.clone_from(&placement.prefix);
        self.inner.clear();
        for other in later {
            let below = match &placement.prefix[..] {
                b"" => Some(&other.prefix[..]),
                prefix => other.prefix.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(b"/")),
            };
            if let Some(below) = below.filter(|below| !below.is_empty()) {
                self.inner.insert(below.to_vec(), left_out(other)?);
            }
        }
        Ok(())
    }

    /// True for a path of the current placement at or below the top of a later one.
    pub fn is_inner(&self, path: &[u8]) -> bool {
        self.top_of(path).is_some()
    }

    // The nearest top of a later placement that holds a path.
    fn top_of(&self, path: &[u8]) -> Option<(&[u8], Option<&LeftOut>)> {
        if self.inner.is_empty() {
            return None;
        }
        let parents = memchr::memrchr_iter(b'/', path).map(|end| &path[..end]);
        let mut tops = [path].into_iter().chain(parents);
        tops.find_map(|top| self.inner.get_key_value(top))
            .map(|(top, left_out)| (&top[..], left_out.as_ref()))
    }

    /// Notes an entry of the current placement's manifest: where a later one left it out, that must not remove it.
    pub fn note(&mut self, path: &[u8], is_dir: bool) {
        let Some((top, Some(left_out))) = self.top_of(path) else { return };
        let Some(below) = path.strip_prefix(top).and_then(|rest| rest.strip_prefix(b"/")) else { return };
        if left_out.excludes(below, is_dir) {
            let path = self.in_target(path);
            self.held.insert(path);
        }
    }

    /// True for a path of the current placement that one around it has, though this one left it out.
    pub fn is_held(&self, path: &[u8]) -> bool {
        !self.held.is_empty() && self.held.contains(&self.in_target(path))
    }

    fn in_target(&self, path: &[u8]) -> Vec<u8> {
        match (&self.prefix[..], path) {
            (b"", path) => path.to_vec(),
            (prefix, ROOT) => prefix.to_vec(),
            (prefix, path) => join(prefix, path),
        }
    }

    /// What must stay of a directory of the current placement that goes: the later ones' tops, there or not yet.
    pub fn spared(&self, top: &[u8]) -> Spared {
        let mut spared = Spared::default();
        let below = [top, b"/"].concat();
        let inner = self.inner.range(below.clone()..).map(|(path, _)| path);
        for path in inner.take_while(|path| path.starts_with(&below)) {
            spared.add(path, top);
        }
        spared
    }
}

impl Run<'_, '_> {
    /// Finds out what of the current placement is a later one's.
    ///
    /// # Errors
    /// If the rules of what was left out make no sense.
    pub(super) fn begin_nested(
        &mut self,
        snapshot: &Snapshot,
        placement: &Placement,
        later: &[Placement],
    ) -> Result<(), RestoreError> {
        let mut nested = std::mem::take(&mut self.nested);
        let selection = &self.options.selection;
        let deletes = matches!(self.options.mode, Mode::InPlace { delete: true, .. });
        let matters = deletes && selection.is_everything_else() && selection.deletes_left_out();
        let left_out = |other: &Placement| {
            let root = snapshot.document.roots.get(other.root).filter(|_| matters);
            let rules = root.map(|root| LeftOut::by_rules(&snapshot.document, root)).transpose();
            rules.map_err(|why| self.nothing_removed(&why))
        };
        nested.begin(placement, later, left_out)?;
        self.nested = nested;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(prefix: &str) -> Placement {
        Placement { root: 0, subtree: ROOT.to_vec(), prefix: prefix.into() }
    }

    #[test]
    fn what_is_another_placements_is_told_by_its_path() {
        let later: Vec<_> = ["a/b", "a/b/c", "ab"].into_iter().map(placement).collect();
        let mut nested = Nested::default();
        nested.begin(&placement("a"), &later, |_| Ok(None)).unwrap();
        for (path, is_inner) in [("b", true), ("b/c/x", true), ("b-", false), (".", false), ("c", false)] {
            assert_eq!(nested.is_inner(path.as_bytes()), is_inner, "{path}");
        }
        assert!(nested.spared(b"x").above.is_empty());
        nested.begin(&placement(""), &later, |_| Ok(None)).unwrap();
        assert!(nested.is_inner(b"a/b/x") && nested.is_inner(b"ab") && !nested.is_inner(b"a"));
        let spared = nested.spared(b"a");
        assert!(spared.entries.contains(&b"a/b"[..]) && spared.above.contains(&b"a"[..]));
        assert!(lies_in(&later[1], &later[..1]) && !lies_in(&later[2], &later[..1]));
    }
}
