//! Paths as people write them, and where they lie in a snapshot: which root, which entry. Pure.

use crate::base::name::{Name, is_within};
use crate::format::manifest::ROOT;
use crate::format::snapshot::{Document, Root};

/// A root of a snapshot, and what of it is meant.
#[derive(Clone, Debug)]
pub struct Part<'d> {
    /// The root.
    pub root: &'d Root,
    /// The entry that is meant, with all below it; `.` for the whole root.
    pub top: Vec<u8>,
}

/// Why a path is nowhere in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// It lies in no root.
    #[error("the snapshot does not cover {path}; it covers {}", listed(.roots))]
    Outside {
        /// The path.
        path: Name,
        /// The paths of the roots.
        roots: Vec<Name>,
    },
    /// A root covers it, but there is no such entry.
    #[error("{path} is not in the snapshot")]
    Missing {
        /// The path.
        path: Name,
    },
}

fn listed(roots: &[Name]) -> String {
    roots.iter().map(Name::shown).collect::<Vec<_>>().join(", ")
}

/// What of a snapshot lies at `path` or below it. A root that holds the path is taken alone, the
/// innermost if there are several; a path above roots takes all of them. A relative path counts
/// from the root, if there is only one.
///
/// # Errors
/// [`PathError::Outside`].
pub fn parts<'d>(document: &'d Document, path: Option<&Name>) -> Result<Vec<Part<'d>>, PathError> {
    let whole = |root: &'d Root| Part { root, top: ROOT.to_vec() };
    let Some(path) = path else { return Ok(document.roots.iter().map(whole).collect()) };
    let outside = || PathError::Outside {
        path: path.clone(),
        roots: document.roots.iter().map(|root| root.path.clone()).collect(),
    };
    // what a command printed has a name, not a path
    if let Some(root) = document.roots.iter().find(|root| root.path == *path) {
        return Ok(vec![whole(root)]);
    }
    if !path.0.starts_with(b"/") {
        let [root] = &document.roots[..] else { return Err(outside()) };
        return Ok(vec![Part { root, top: relative(&plain(&path.0)) }]);
    }
    let wanted = plain(&path.0);
    let covering = |root: &&Root| strip(&wanted, &plain(&root.path.0)).is_some() && root.command.is_none();
    if let Some(root) = document.roots.iter().filter(covering).max_by_key(|root| plain(&root.path.0).len()) {
        let top = strip(&wanted, &plain(&root.path.0)).unwrap_or_default();
        return Ok(vec![Part { root, top: relative(&top) }]);
    }
    let below =
        |root: &&Root| root.path.0.starts_with(b"/") && strip(&plain(&root.path.0), &wanted).is_some();
    let found: Vec<Part<'d>> = document.roots.iter().filter(below).map(whole).collect();
    if found.is_empty() { Err(outside()) } else { Ok(found) }
}

/// The path as it stands in a snapshot: without `.`, `..` and empty components. A relative one stays as it is.
pub fn normal(path: &Name) -> Name {
    match path.0.starts_with(b"/") {
        true => Name([b"/", &plain(&path.0)[..]].concat()),
        false => path.clone(),
    }
}

/// True if the part is what lies at this path, and not what lies below it.
pub fn is_at(part: &Part<'_>, path: &Name) -> bool {
    let at = absolute(&part.root.path.0, &part.top);
    !path.0.starts_with(b"/") || plain(&at) == plain(&path.0)
}

// The components joined by `/`, without `.`, `..`, and empty ones; empty for `/`.
fn plain(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts.join(&b'/')
}

fn strip(path: &[u8], dir: &[u8]) -> Option<Vec<u8>> {
    if dir.is_empty() {
        return Some(path.to_vec());
    }
    let inside = is_within(path, dir);
    inside.then(|| path.get(dir.len() + 1..).unwrap_or_default().to_vec())
}

fn relative(top: &[u8]) -> Vec<u8> {
    if top.is_empty() { ROOT.to_vec() } else { top.to_vec() }
}

/// A path of the same root relative to `top`; `None` if it does not lie there.
pub fn from_top<'p>(path: &'p [u8], top: &[u8]) -> Option<&'p [u8]> {
    match top {
        ROOT => Some(path),
        top if path == top => Some(ROOT),
        top => path.strip_prefix(top)?.strip_prefix(b"/"),
    }
}

/// Writes the path that an entry had on the source host.
pub fn write_absolute(out: &mut Vec<u8>, root: &[u8], path: &[u8]) {
    out.extend_from_slice(root);
    if path != ROOT {
        if root.last() != Some(&b'/') {
            out.push(b'/');
        }
        out.extend_from_slice(path);
    }
}

/// The path that an entry had on the source host.
pub fn absolute(root: &[u8], path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(root.len() + 1 + path.len());
    write_absolute(&mut out, root, path);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Timestamp;
    use crate::format::manifest::List;

    fn document(roots: &[&str]) -> Document {
        let at = Timestamp::from_seconds(0).unwrap();
        let root = |path: &&str| Root { path: Name::from(*path), command: None, manifest: List::default() };
        Document {
            lifeboat: "snapshot".into(),
            version: 1,
            repository: String::new(),
            host: "web".into(),
            user: "root".into(),
            tool: String::new(),
            sequence: 1,
            previous: None,
            parent: None,
            started: at,
            finished: at,
            reason: None,
            tags: Vec::new(),
            roots: roots.iter().map(root).collect(),
            packs: Vec::new(),
            packs_chunk: None,
            excludes: None,
            statistics: Default::default(),
            problems: Vec::new(),
            databases: Vec::new(),
            session: None,
            logbook: None,
        }
    }

    fn check(roots: &[&str], path: &str, expected: &[(&str, &str)]) {
        let document = document(roots);
        let found = parts(&document, Some(&Name::from(path))).unwrap();
        let found: Vec<(String, String)> =
            found.iter().map(|part| (part.root.path.shown(), Name(part.top.clone()).shown())).collect();
        let expected: Vec<_> = expected.iter().map(|(r, t)| ((*r).to_owned(), (*t).to_owned())).collect();
        assert_eq!(found, expected, "{path} in {roots:?}");
    }

    #[test]
    fn a_path_is_found_in_its_root() {
        check(&["/srv/app"], "/srv/app", &[("/srv/app", ".")]);
        check(&["/srv/app"], "/srv/app/", &[("/srv/app", ".")]);
        check(&["/srv/app", "/etc"], "/srv/./app//a/../b/", &[("/srv/app", "b")]);
        check(&["/srv", "/srv/app"], "/srv/app/x", &[("/srv/app", "x")]);
        check(&["/"], "/etc/passwd", &[("/", "etc/passwd")]);
        check(&["/"], "/", &[("/", ".")]);
        check(&["/srv/app"], "a/b", &[("/srv/app", "a/b")]);
        check(&["dump.sql"], "dump.sql", &[("dump.sql", ".")]);
    }

    #[test]
    fn a_path_above_roots_takes_all_below_it() {
        check(&["/srv/app", "/srv/web", "/etc"], "/srv", &[("/srv/app", "."), ("/srv/web", ".")]);
        check(&["/srv/app", "/etc"], "/", &[("/srv/app", "."), ("/etc", ".")]);
    }

    #[test]
    fn a_path_above_a_root_is_not_the_root() {
        let document = document(&["/srv/app"]);
        for (path, is_it) in [("/srv/app/", true), ("/srv", false), ("/srv/x/../app/a", true), ("a", true)] {
            let path = Name::from(path);
            assert_eq!(is_at(&parts(&document, Some(&path)).unwrap()[0], &path), is_it, "{path}");
        }
        for (path, normal_one) in [("/srv//a/./b/../c/", "/srv/a/c"), ("//", "/"), ("a/../b", "a/../b")] {
            assert_eq!(normal(&Name::from(path)), Name::from(normal_one));
        }
    }

    #[test]
    fn other_paths_are_refused() {
        let document = document(&["/srv/app", "/etc"]);
        for path in ["/srv/application", "/var", "relative"] {
            assert!(parts(&document, Some(&Name::from(path))).is_err(), "{path}");
        }
    }

    #[test]
    fn entries_get_their_paths_back() {
        let shown = |root: &str, path: &str| Name(absolute(root.as_bytes(), path.as_bytes())).shown();
        assert_eq!(shown("/srv", "."), "/srv");
        assert_eq!(shown("/srv", "a"), "/srv/a");
        assert_eq!(shown("/", "a"), "/a");
        assert_eq!(shown("/", "."), "/");
    }
}
