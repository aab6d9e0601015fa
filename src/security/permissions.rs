//! What everybody may write, and what runs as somebody else.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{Finding, Part};
use crate::base::Name;
use crate::tree::exclude::Excludes;
use walkdir::WalkDir;

/// Looks at every entry below `root`; links are not followed. `changed` are paths below it whose mode is another than in
/// the last snapshot, each with words. What `allow` matches is meant so.
pub fn look(root: &Path, allow: &Excludes, changed: Vec<Finding>) -> Part {
    let (mut found, mut looked, mut unread) = (Vec::new(), 0, 0);
    for entry in WalkDir::new(root).follow_links(false).sort_by_file_name() {
        looked += 1;
        let Some((entry, metadata)) = entry.ok().and_then(|e| e.metadata().ok().map(|m| (e, m))) else {
            unread += 1;
            continue;
        };
        if let Some(what) = problem(&metadata).filter(|_| !is_allowed(root, entry.path(), allow)) {
            found.push(Finding { subject: Name::from(entry.path().as_os_str()), line: None, what });
        }
    }
    let meant = |finding: &Finding| !is_allowed(root, Path::new(finding.subject.as_os_str()), allow);
    found.extend(changed.into_iter().filter(meant));
    Part::of_findings("permissions", found, "finding", looked, unread)
}

fn problem(metadata: &std::fs::Metadata) -> Option<String> {
    let (mode, kind) = (metadata.mode() & 0o7777, metadata.file_type());
    if kind.is_file() && mode & 0o6000 != 0 {
        let who = if mode & 0o4000 != 0 { "set-uid" } else { "set-gid" };
        return Some(format!("{who} (mode {mode:04o}, owner {})", metadata.uid()));
    }
    let is_wide = mode & 0o002 != 0 && !kind.is_symlink();
    // in a directory with the sticky bit nobody removes another's file
    let is_meant = kind.is_dir() && mode & 0o1000 != 0;
    (is_wide && !is_meant).then(|| format!("everybody may write it (mode {mode:04o})"))
}

/// True if this path, or a directory above it, is meant so.
pub fn is_allowed(root: &Path, path: &Path, allow: &Excludes) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let Ok(relative) = path.strip_prefix(root) else { return false };
    let bytes = relative.as_os_str().as_bytes();
    let parents = memchr::memchr_iter(b'/', bytes).any(|at| allow.matches(&bytes[..at], true));
    parents || allow.matches(bytes, false) || allow.matches(bytes, true)
}
