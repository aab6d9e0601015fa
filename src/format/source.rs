//! What a snapshot is a snapshot of.

use std::collections::BTreeSet;
use std::fmt;

use super::snapshot::Document;
use crate::base::name::{Name, shown};

/// Host and roots: what retention goes by, and within which snapshots follow each other.
///
/// Made of bytes, never of text: names that only look alike when they are shown, and roots whose names have spaces,
/// stay apart. In which order the roots were given makes no difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    host: Vec<u8>,
    roots: BTreeSet<Root>,
}

/// Files may lie at the name that a command's output was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Root {
    Files(Vec<u8>),
    Printed(Vec<u8>),
}

impl Source {
    /// Of saved files alone.
    pub fn of_files<'n>(host: &Name, roots: impl IntoIterator<Item = &'n Name>) -> Self {
        let roots = roots.into_iter().map(|path| Root::Files(path.0.clone())).collect();
        Self { host: host.0.clone(), roots }
    }

    /// That of a snapshot.
    pub fn of(document: &Document) -> Self {
        let root = |root: &super::snapshot::Root| match root.command {
            Some(_) => Root::Printed(root.path.0.clone()),
            None => Root::Files(root.path.0.clone()),
        };
        Self { host: document.host.0.clone(), roots: document.roots.iter().map(root).collect() }
    }
}

/// For people: safe for a terminal, but not enough to tell sources apart.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.host))?;
        for Root::Files(name) | Root::Printed(name) in &self.roots {
            write!(f, " {}", shown(name))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(host: &[u8], roots: &[&[u8]]) -> Source {
        let roots: Vec<Name> = roots.iter().map(|root| Name(root.to_vec())).collect();
        Source::of_files(&Name(host.to_vec()), &roots)
    }

    #[test]
    fn what_only_looks_alike_stays_apart() {
        for (one, other) in [
            (of(b"web", &[b"/n\xff"]), of(b"web", &[b"/n\xfe"])),
            (of(b"web\xff", &[b"/n"]), of(b"web\xfe", &[b"/n"])),
            (of(b"web", &[b"/a /b"]), of(b"web", &[b"/a", b"/b"])),
            (of(b"web /a", &[b"/b"]), of(b"web", &[b"/a /b"])),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn the_order_of_the_roots_makes_no_difference() {
        assert_eq!(of(b"web", &[b"/a", b"/b"]), of(b"web", &[b"/b", b"/a"]));
        assert_eq!(of(b"web", &[b"/b", b"/a\x1b"]).to_string(), r"web /a\x1b /b");
    }

    #[test]
    fn what_a_command_printed_is_no_file() {
        let printed = serde_json::json!({
            "lifeboat": "snapshot", "version": 1, "repository": "r", "host": "web", "user": "u", "tool": "t",
            "sequence": 1, "started": "2026-11-23T10:00:00Z", "finished": "2026-11-23T10:00:00Z", "statistics": {},
            "roots": [{"path": "/a", "command": ["dump"], "manifest": {"level": 0, "chunks": [], "entries": 0}}],
        });
        let document = serde_json::from_value::<Document>(printed);
        assert_ne!(Source::of(&document.unwrap()), of(b"web", &[b"/a"]));
    }
}
