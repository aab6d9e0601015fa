//! Patterns that choose entries by their paths, and the two paths that an entry goes by.

use std::path::Path;

use ignore::gitignore::Gitignore;

use super::Placement;
use super::tree::split;
use crate::base::Name;
use crate::base::pattern;
use crate::format::manifest::ROOT;
use crate::tree::walk::join;

/// What the paths of a placement's entries count from.
#[derive(Clone, Debug, Default)]
pub struct Bases {
    // where they go, below the target; empty for the target itself
    target: Vec<u8>,
    // what lies straight in the target, as a path of the source without the slash at its front; empty for `/`
    source: Vec<u8>,
}

impl Bases {
    /// Of a placement of the root with this path.
    pub fn of(root: &[u8], placement: &Placement) -> Self {
        let root = root.strip_prefix(b"/").unwrap_or(root);
        let top = match (root, &placement.subtree[..]) {
            (root, ROOT) => root.to_vec(),
            (b"", subtree) => subtree.to_vec(),
            (root, subtree) => join(root, subtree),
        };
        let source = top.strip_suffix(&placement.prefix[..]).unwrap_or(&top);
        let source = source.strip_suffix(b"/").unwrap_or(source).to_vec();
        Self { target: placement.prefix.clone(), source }
    }

    /// The same for a file that is restored by itself, which lies in the target under its own name.
    pub fn of_file(&self) -> Self {
        let above = |path: &[u8]| split(path).0.filter(|path| *path != ROOT).unwrap_or_default().to_vec();
        // where it goes below a directory, that was asked for
        match self.target.is_empty() {
            true => Self { target: Vec::new(), source: above(&self.source) },
            false => Self { target: above(&self.target), source: self.source.clone() },
        }
    }

    fn in_target(&self, path: &[u8]) -> Vec<u8> {
        match (&self.target[..], path) {
            (b"", path) => path.to_vec(),
            (target, ROOT) => target.to_vec(),
            (target, path) => join(target, path),
        }
    }
}

/// Patterns in the syntax of gitignore. Each holds for the path in the target and for that on the source: whoever gives one
/// means the one or the other. What was asked for by its path is not matched itself, and neither is what lies above it.
#[derive(Clone, Debug)]
pub struct Patterns(Vec<Gitignore>);

impl Patterns {
    /// Reads patterns.
    ///
    /// # Errors
    /// A sentence that names the bad pattern.
    pub fn new(patterns: &[String]) -> Result<Self, String> {
        patterns.iter().map(|pattern| read(pattern)).collect::<Result<_, _>>().map(Self)
    }

    /// True if the last pattern that matches the entry, or else the nearest directory above it that any matches, does not
    /// take it back. `path` counts from the bases.
    pub fn match_entry(&self, bases: &Bases, path: &[u8], is_dir: bool) -> bool {
        let (path, mut is_dir) = (bases.in_target(path), is_dir);
        let mut left = &path[..];
        loop {
            if let Some(is_match) = self.match_level(bases, left, is_dir) {
                return is_match;
            }
            let Some(end) = left.iter().rposition(|&b| b == b'/') else { return false };
            (left, is_dir) = (&left[..end], true);
        }
    }

    fn match_level(&self, bases: &Bases, path: &[u8], is_dir: bool) -> Option<bool> {
        let elsewhere = !bases.source.is_empty() && path != ROOT;
        let source = elsewhere.then(|| Name(join(&bases.source, path)));
        let paths = [Some(Name(path.to_vec())), source];
        self.0.iter().rev().find_map(|pattern| {
            let matched = |path: &Name| pattern.matched(Path::new(path.as_os_str()), is_dir);
            let found = paths.iter().flatten().map(matched).find(|matched| !matched.is_none())?;
            Some(found.is_ignore())
        })
    }
}

fn read(text: &str) -> Result<Gitignore, String> {
    let wrong = |why: String| format!("the pattern {text:?} makes no sense: {why}");
    let mut builder = pattern::begin(".");
    let escape = if text.starts_with('#') { "\\" } else { "" };
    pattern::add(&mut builder, &format!("{escape}{text}")).map_err(wrong)?;
    pattern::end(&builder).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(subtree: &str, prefix: &str) -> Placement {
        Placement { root: 0, subtree: subtree.into(), prefix: prefix.into() }
    }

    // Paths that end in a slash are directories.
    fn check(bases: &Bases, patterns: &[&str], hit: &[&str], missed: &[&str]) {
        let texts: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let patterns = Patterns::new(&texts).unwrap();
        let matches = |path: &str| {
            patterns.match_entry(bases, path.trim_end_matches('/').as_bytes(), path.ends_with('/'))
        };
        for path in hit {
            assert!(matches(path), "{texts:?} should match {path} in {bases:?}");
        }
        for path in missed {
            assert!(!matches(path), "{texts:?} should not match {path} in {bases:?}");
        }
    }

    #[test]
    fn a_whole_snapshot_lies_below_the_target_with_its_absolute_paths() {
        let bases = Bases::of(b"/srv/app", &placement(".", "srv/app"));
        check(&bases, &["/srv/app/a"], &["a", "a/b"], &["b", "x/srv/app/a", "a.txt"]);
        check(&bases, &["srv/app/a/"], &["a/", "a/b"], &["a"]);
        check(&bases, &["/srv"], &["./", "a", "b/c"], &[]);
        check(&bases, &["/a"], &[], &["a", "x/a"]);
        check(&bases, &["*.log"], &["x.log", "y/x.log"], &["x.logs"]);
    }

    #[test]
    fn a_part_goes_by_both_paths() {
        let bases = Bases::of(b"/srv", &placement("app", ""));
        check(&bases, &["/a"], &["a", "a/b"], &["x/a"]);
        check(&bases, &["/srv/app/a"], &["a", "a/b"], &["b"]);
        check(&bases, &["/srv/*/a/"], &["a/", "a/b"], &["a"]);
        check(&bases, &["srv/app/a"], &["a"], &["b"]);
        // what was asked for was named by somebody
        check(&bases, &["/srv", "app", "/srv/app"], &["app", "srv/x"], &["a", "./"]);
    }

    #[test]
    fn a_path_above_roots_and_a_file_by_itself() {
        let above = Bases::of(b"/srv/app", &placement(".", "app"));
        check(&above, &["/app/a"], &["a"], &["b"]);
        check(&above, &["/srv/app"], &["a", "./"], &[]);
        let file = Bases::of(b"/srv", &placement("app/a", "")).of_file();
        check(&file, &["/srv/app/a"], &["a"], &["b"]);
        check(&file, &["/a"], &["a"], &["b"]);
        let root = Bases::of(b"/srv/a", &placement(".", "srv/a")).of_file();
        check(&root, &["/srv/a"], &["a"], &["b"]);
        let all = Bases::of(b"/", &placement(".", ""));
        check(&all, &["/etc"], &["etc/", "etc/x"], &["srv/etc/", "./"]);
    }

    #[test]
    fn the_last_pattern_decides_whichever_path_it_means() {
        let bases = Bases::of(b"/srv/app", &placement(".", ""));
        check(&bases, &["*.log", "!/srv/app/keep.log"], &["a.log"], &["keep.log"]);
        check(&bases, &["!/srv/app/keep.log", "*.log"], &["a.log", "keep.log"], &[]);
        check(&bases, &["/srv/app/data", "!/data/keep"], &["data/", "data/x"], &["data/keep", "data/keep/y"]);
    }

    #[test]
    fn a_slip_is_no_pattern() {
        assert!(Patterns::new(&["/srv/[a".to_owned()]).is_err());
        check(&Bases::default(), &["#a"], &["#a"], &["a"]);
    }
}
