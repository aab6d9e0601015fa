//! What `find` looks for: a pattern in the syntax of the excludes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use ignore::gitignore::Gitignore;

use crate::base::name::shown;
use crate::base::pattern;

/// A pattern for paths.
#[derive(Debug)]
pub struct Pattern {
    rules: Gitignore,
    dirs_only: bool,
}

/// Whether capital letters differ from small ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letters {
    /// `A` is not `a`.
    Exact,
    /// `A` is `a`.
    AnyCase,
}

/// The pattern makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pattern `{pattern}` is wrong: {why}")]
pub struct PatternError {
    pattern: String,
    why: String,
}

impl Pattern {
    /// Reads a pattern. Without a slash it is for names, beginning with one for whole paths, else for
    /// the ends of paths. `*` and `?` stay within a name, `**` does not; a slash at the end means directories.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(text: &str, letters: Letters) -> Result<Self, PatternError> {
        let bad = |why: String| PatternError { pattern: shown(text.as_bytes()), why };
        if text.is_empty() {
            return Err(bad("it is empty".to_owned()));
        }
        let body = text.trim_end_matches('/');
        let rule = match text.as_bytes()[0] {
            b'/' => text.to_owned(),
            _ if body.contains('/') => format!("**/{text}"),
            b'!' | b'#' => format!("\\{text}"),
            _ => text.to_owned(),
        };
        let mut builder = pattern::begin(".");
        // nothing is left out by a slip here; and names can have a bracket
        builder.allow_unclosed_class(true);
        builder.case_insensitive(letters == Letters::AnyCase).map_err(|e| bad(e.to_string()))?;
        pattern::add(&mut builder, &rule).map_err(bad)?;
        let rules = pattern::end(&builder).map_err(bad)?;
        Ok(Self { rules, dirs_only: body.len() < text.len() })
    }

    /// True if this absolute path matches. `is_dir` is asked only where it matters.
    pub fn matches(&self, path: &[u8], is_dir: impl FnOnce() -> bool) -> bool {
        // the builder's root is `.`, so paths are taken from `/` on
        let below = path.strip_prefix(b"/").unwrap_or(path);
        let is_dir = self.dirs_only && is_dir();
        !below.is_empty() && self.rules.matched(Path::new(OsStr::from_bytes(below)), is_dir).is_ignore()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let found = Pattern::parse(pattern, Letters::Exact).unwrap();
        for path in yes {
            assert!(found.matches(path.as_bytes(), || true), "{pattern} should match {path}");
        }
        for path in no {
            assert!(!found.matches(path.as_bytes(), || false), "{pattern} should not match {path}");
        }
    }

    #[test]
    fn names_ends_of_paths_and_whole_paths() {
        check("*.txt", &["/srv/a.txt", "/a.txt"], &["/srv/a.txt/b", "/srv/atxt"]);
        check("app/*.txt", &["/srv/app/a.txt", "/app/a.txt"], &["/srv/app/x/a.txt"]);
        check("/srv/**/a", &["/srv/x/y/a", "/srv/a"], &["/x/srv/a"]);
        check("logs/", &["/srv/logs"], &["/srv/logs"]);
        check("!x", &["/srv/!x"], &["/srv/x"]);
        check("#x", &["/srv/#x"], &["/srv/x"]);
        check("[ab]?", &["/ac"], &["/cc"]);
        assert!(Pattern::parse("", Letters::Exact).is_err());
        // as in gitignore, a bracket that is never closed means itself
        check("[", &["/srv/["], &["/srv/x"]);
        assert!(Pattern::parse("A", Letters::AnyCase).unwrap().matches(b"/x/a", || false));
    }
}
