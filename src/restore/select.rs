//! Which entries are restored, and where they go.

use std::collections::BTreeSet;

use super::patterns::{Bases, Patterns};
use crate::base::Name;
use crate::base::name::compare_paths;
use crate::format::manifest::ROOT;
use crate::format::snapshot::Document;

/// A subtree of one root and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Which of the document's roots.
    pub root: usize,
    /// The subtree, relative to the root; `.` for all of it.
    pub subtree: Vec<u8>,
    /// Where its top goes, relative to the target; empty for the target itself.
    pub prefix: Vec<u8>,
}

/// Where the parts of a snapshot go. With `path` (absolute on the source), what lies there goes
/// straight into the target; without, everything goes below its absolute path.
pub fn place(document: &Document, path: Option<&Name>) -> Vec<Placement> {
    let mut found = Vec::new();
    for (root, of) in document.roots.iter().enumerate() {
        let at = trimmed(&of.path.0);
        let Some(path) = path else {
            found.push(Placement { root, subtree: ROOT.to_vec(), prefix: at.to_vec() });
            continue;
        };
        let wanted = trimmed(&path.0);
        if let Some(rest) = below(wanted, at) {
            let subtree = if rest.is_empty() { ROOT.to_vec() } else { rest.to_vec() };
            found.push(Placement { root, subtree, prefix: Vec::new() });
        } else if let Some(rest) = below(at, wanted) {
            found.push(Placement { root, subtree: ROOT.to_vec(), prefix: rest.to_vec() });
        }
    }
    // of several roots that hold the path, the nearest is meant
    if found.iter().filter(|p| p.prefix.is_empty()).count() > 1
        && let Some(nearest) = found
            .iter()
            .filter(|p| p.prefix.is_empty())
            .min_by_key(|p| (p.subtree != ROOT, p.subtree.len()))
            .cloned()
    {
        found.retain(|p| !p.prefix.is_empty());
        found.insert(0, nearest);
    }
    found.sort_by(|a, b| compare_paths(&a.prefix, &b.prefix));
    found
}

fn trimmed(path: &[u8]) -> &[u8] {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    path.strip_suffix(b"/").unwrap_or(path)
}

// What is left of `path` below `dir`; `None` if it is not below.
fn below<'p>(path: &'p [u8], dir: &[u8]) -> Option<&'p [u8]> {
    if dir.is_empty() {
        return Some(path);
    }
    match path.strip_prefix(dir)? {
        [] => Some(&[]),
        [b'/', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// Patterns that entries must or must not match, and paths that are spared.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    include: Option<Patterns>,
    exclude: Option<Patterns>,
    deletes_left_out: bool,
    // paths of entries below a placement's top, not patterns: nothing in a name has a meaning
    spared: BTreeSet<Vec<u8>>,
    only: Option<BTreeSet<Vec<u8>>>,
}

impl Selection {
    /// From patterns; no include patterns mean everything.
    ///
    /// # Errors
    /// A sentence that names the bad pattern.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, String> {
        let read =
            |patterns: &[String]| Some(patterns).filter(|all| !all.is_empty()).map(Patterns::new).transpose();
        Ok(Self { include: read(include)?, exclude: read(exclude)?, ..Self::default() })
    }

    /// The same, where a deletion also removes what the snapshot was told to leave out or could not read.
    pub fn with_left_out(self, deletes_left_out: bool) -> Self {
        Self { deletes_left_out, ..self }
    }

    /// Everything but these paths and what lies below them.
    pub fn sparing<'n>(paths: impl IntoIterator<Item = &'n Name>) -> Self {
        Self { spared: paths.into_iter().map(|path| path.0.clone()).collect(), ..Self::default() }
    }

    /// These paths and nothing else, also not what lies below them.
    pub fn only<'n>(paths: impl IntoIterator<Item = &'n Name>) -> Self {
        let only = paths.into_iter().map(|path| path.0.clone()).collect();
        Self { only: Some(only), ..Self::default() }
    }

    /// True if a deletion does not spare what the snapshot never held.
    pub fn deletes_left_out(&self) -> bool {
        self.deletes_left_out
    }

    /// True if everything is selected.
    pub fn is_everything(&self) -> bool {
        self.spared.is_empty() && self.is_everything_else()
    }

    /// True if everything is selected but paths that are spared.
    pub fn is_everything_else(&self) -> bool {
        self.include.is_none() && self.exclude.is_none() && self.only.is_none()
    }

    /// True if this entry is wanted; its path counts from `bases`. Directories that hold wanted entries are made all the same.
    pub fn wants(&self, bases: &Bases, path: &[u8], is_dir: bool) -> bool {
        if self.leaves_alone(path) {
            return false;
        }
        let hits = |patterns: &Patterns| patterns.match_entry(bases, path, is_dir);
        self.include.as_ref().is_none_or(hits) && !self.exclude.as_ref().is_some_and(hits)
    }

    /// True for a path that is left as it is whatever patterns say: it is spared, or none of the only ones.
    pub fn leaves_alone(&self, path: &[u8]) -> bool {
        self.is_spared(path) || self.only.as_ref().is_some_and(|only| !only.contains(path))
    }

    /// True for a path that is spared, and for what lies below it.
    pub fn is_spared(&self, path: &[u8]) -> bool {
        let parents = memchr::memchr_iter(b'/', path).map(|end| &path[..end]);
        !self.spared.is_empty() && parents.chain([path]).any(|path| self.spared.contains(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(roots: &[&str], path: Option<&str>) -> Vec<(usize, String, String)> {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let json = serde_json::json!({"lifeboat":"snapshot","version":1,"repository":"","host":"","user":"","tool":"",
            "sequence":1,"previous":null,"parent":null,"started":"2026-01-01T00:00:00Z","finished":"2026-01-01T00:00:00Z",
            "statistics":{},"roots":roots.iter().map(|r| serde_json::json!({"path":r,"manifest":{"level":0,"entries":0,"chunks":[]}})).collect::<Vec<_>>()});
        let document: Document = serde_json::from_value(json).unwrap();
        let found = place(&document, path.map(Name::from).as_ref());
        found.iter().map(|p| (p.root, text(&p.subtree), text(&p.prefix))).collect()
    }

    #[test]
    fn paths_go_where_they_are_asked_to() {
        let s = |root: usize, a: &str, b: &str| (root, a.to_owned(), b.to_owned());
        assert_eq!(prefixes(&["/srv/app", "/etc"], None), [s(1, ".", "etc"), s(0, ".", "srv/app")]);
        assert_eq!(prefixes(&["/srv/app"], Some("/srv/app")), [s(0, ".", "")]);
        assert_eq!(prefixes(&["/srv/app"], Some("/srv/app/a/b/")), [s(0, "a/b", "")]);
        assert_eq!(prefixes(&["/srv/app", "/srv/db"], Some("/srv")), [s(0, ".", "app"), s(1, ".", "db")]);
        assert_eq!(prefixes(&["/", "/home"], Some("/home/x")), [s(1, "x", "")]);
        assert_eq!(prefixes(&["/srv/app"], Some("/srv/application")), []);
    }

    #[test]
    fn globs_select() {
        let selection = Selection::new(&["*.py".into(), "/data/".into()], &["test_*".into()]).unwrap();
        assert!(selection.wants(&Bases::default(), b"a/b.py", false));
        assert!(selection.wants(&Bases::default(), b"data/x/y", false));
        assert!(!selection.wants(&Bases::default(), b"a/data/x", false));
        assert!(!selection.wants(&Bases::default(), b"a/test_b.py", false));
        assert!(Selection::default().wants(&Bases::default(), b"x", false));
    }

    #[test]
    fn what_is_spared_is_a_path_and_no_pattern() {
        let spared = [Name::from("data/[1]*.db"), Name(b"a\xff\\ ".to_vec())];
        let selection = Selection::sparing(&spared);
        assert!(!selection.is_everything());
        for path in [&b"data/[1]*.db"[..], b"data/[1]*.db/below", b"a\xff\\ "] {
            assert!(!selection.wants(&Bases::default(), path, false), "{}", Name(path.to_vec()));
        }
        for path in [&b"data/1x.db"[..], b"x/data/[1]*.db", b"data", b"a\xff", b"data/[1]*.dbx"] {
            assert!(selection.wants(&Bases::default(), path, false), "{}", Name(path.to_vec()));
        }
        let only = Selection::only(&spared);
        assert!(only.wants(&Bases::default(), b"data/[1]*.db", false) && !only.is_everything());
        assert!(
            !only.wants(&Bases::default(), b"data/[1]*.db/below", false)
                && !only.wants(&Bases::default(), b"data", true)
        );
    }
}
