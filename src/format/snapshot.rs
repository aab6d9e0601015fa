//! Snapshot documents (section 8) and tombstones (section 10).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::manifest::{List, MAX_LEVEL};
use super::{FormatError, bounded};
use crate::base::id::{ChunkId, PackId, RecordId, SnapshotId};
use crate::base::name::Name;
use crate::base::time::Timestamp;

/// A document has at most this many bytes.
pub const MAX_BYTES: u64 = 64 << 20;
/// At most this many problems are listed; the statistics count all.
pub const MAX_PROBLEMS: usize = 1000;
/// At most this many packs are listed in the document itself.
pub const MAX_PACKS: usize = 256;
/// At most so many databases are described; the rest is saved all the same.
pub const MAX_DATABASES: usize = 256;
/// The namespace of a document's signature.
pub const NAMESPACE: &str = "lifeboat-snapshot";

/// One snapshot: when, where, why, and what it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Always `snapshot`.
    pub lifeboat: String,
    /// Version of the document's form.
    pub version: u32,
    /// The repository's id.
    pub repository: String,
    /// The host it was taken on.
    pub host: Name,
    /// Who took it.
    pub user: Name,
    /// Which program and version took it.
    pub tool: String,
    /// Number of this host's snapshot in this repository, from 1.
    pub sequence: u64,
    /// The one before it.
    pub previous: Option<SnapshotId>,
    /// The one whose entries were compared.
    pub parent: Option<SnapshotId>,
    /// When it began; files changed later may be in it or not.
    pub started: Timestamp,
    /// When all was stored.
    pub finished: Timestamp,
    /// What for.
    #[serde(default)]
    pub reason: Option<Name>,
    /// Words to find it by.
    #[serde(default)]
    pub tags: Vec<Name>,
    /// What was saved.
    pub roots: Vec<Root>,
    /// All packs it needs, sorted.
    #[serde(default)]
    pub packs: Vec<PackId>,
    /// Or the chunk that lists them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packs_chunk: Option<ChunkId>,
    /// What was left out by rule; absent where nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excludes: Option<ExcludeRules>,
    /// Counts.
    pub statistics: Statistics,
    /// What could not be read or kept.
    #[serde(default)]
    pub problems: Vec<SourceProblem>,
    /// What the databases among the files held: at most [`MAX_DATABASES`] of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<Database>,
    /// The writer's session object.
    #[serde(default)]
    pub session: Option<String>,
    /// The newest record that the writer saw.
    #[serde(default)]
    pub logbook: Option<RecordId>,
}

/// What a snapshot was told to leave out, so that whoever deletes what it does not hold can spare it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExcludeRules {
    /// Patterns in the syntax of gitignore, in their order.
    pub patterns: Vec<String>,
    /// The content of cache directories.
    pub caches: bool,
    /// The content of directories that hold an entry of such a name.
    pub markers: Vec<Name>,
    /// Other file systems than the root's.
    pub one_file_system: bool,
}

/// One saved tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Root {
    /// Absolute path on the source host; the name given, for a command's output.
    pub path: Name,
    /// The command whose output it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<Name>>,
    /// Its entries.
    pub manifest: List,
}

/// Counts of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Statistics {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Everything else.
    pub others: u64,
    /// Sum of the files' sizes.
    pub bytes: u64,
    /// Files that the parent did not have.
    pub new_files: u64,
    /// Files that the parent had otherwise.
    pub changed_files: u64,
    /// Files that were not read again.
    pub unchanged_files: u64,
    /// Bytes added to the repository.
    pub stored_bytes: u64,
    /// Files that never held still, and databases that could not be copied.
    pub torn: u64,
    /// Entries that could not be read and are not in it, or not whole.
    pub skipped: u64,
}

/// What a database held when it was copied: what must hold again when it comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Absolute path on the source host.
    pub path: Name,
    /// Which kind: `sqlite`.
    pub kind: String,
    /// When it was copied: the moment that the copy holds lies shortly before.
    pub at: Timestamp,
    /// SHA-256 over its schema, in hexadecimal (format.md, section 8).
    pub schema: String,
    /// The number that applications keep their schema's version in.
    #[serde(default)]
    pub user_version: i64,
    /// Rows of each table, as far as they were counted.
    #[serde(default)]
    pub tables: BTreeMap<String, u64>,
    /// Tables whose rows were not counted.
    #[serde(default)]
    pub uncounted: u64,
}

/// The code of a problem: a database that the plan names is not in the snapshot as a database. Everything else may be.
pub const UNSAVED: &str = "database-not-saved";

/// Something that could not be read or kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceProblem {
    /// Absolute path.
    pub path: Name,
    /// A word for the kind of problem.
    pub code: String,
    /// What happened, in words.
    pub text: String,
}

impl Document {
    /// Its bytes and id.
    ///
    /// # Errors
    /// If it is larger than readers accept.
    pub fn encode(&self) -> Result<(SnapshotId, Vec<u8>), FormatError> {
        let mut bytes =
            serde_json::to_vec_pretty(self).map_err(|e| FormatError::malformed("a snapshot document", e))?;
        bytes.push(b'\n');
        bounded("a snapshot document", bytes.len() as u64, MAX_BYTES)?;
        Ok((SnapshotId::of(&bytes), bytes))
    }

    /// Reads a document of this repository.
    ///
    /// # Errors
    /// If it is malformed, of another kind or of another repository.
    pub fn decode(bytes: &[u8], repository: &str) -> Result<Self, FormatError> {
        const WHAT: &str = "a snapshot document";
        bounded(WHAT, bytes.len() as u64, MAX_BYTES)?;
        let document: Self = serde_json::from_slice(bytes).map_err(|e| FormatError::malformed(WHAT, e))?;
        if document.lifeboat != "snapshot" || document.version != 1 {
            return Err(FormatError::malformed(WHAT, "it is no snapshot document of version 1"));
        }
        if document.repository != repository {
            return Err(FormatError::malformed(WHAT, "it belongs to another repository"));
        }
        for root in &document.roots {
            bounded("levels of a manifest", u64::from(root.manifest.level), u64::from(MAX_LEVEL))?;
            let leaves = root.path.0.split(|&b| b == b'/').any(|name| name == b"." || name == b"..");
            if root.path.0.contains(&0) || root.path.0.is_empty() || leaves {
                return Err(FormatError::malformed(WHAT, "a root's path"));
            }
        }
        Ok(document)
    }

    /// True if something of the source is not in it, or not as it was.
    pub fn is_partial(&self) -> bool {
        self.statistics.skipped > 0 || self.statistics.torn > 0
    }

    /// Databases that a plan named and that are not in it.
    pub fn unsaved(&self) -> impl Iterator<Item = &SourceProblem> {
        self.problems.iter().filter(|problem| problem.code == UNSAVED)
    }

    /// How many entries of the source could not be read.
    pub fn unread(&self) -> u64 {
        self.statistics.skipped.saturating_sub(self.unsaved().count() as u64)
    }

    /// True if everything of its roots is in it, as it was: all that [`Self::is_partial`] may mean is a database elsewhere.
    pub fn holds_its_roots(&self) -> bool {
        self.unread() == 0 && self.statistics.torn == 0
    }
}

/// A snapshot is forgotten; prune may remove it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Always `tombstone`.
    pub lifeboat: String,
    /// Version of its form.
    pub version: u32,
    /// The repository's id.
    pub repository: String,
    /// Which one.
    pub snapshot: SnapshotId,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: Name,
    /// What for.
    #[serde(default)]
    pub why: Option<Name>,
}

#[cfg(test)]
mod tests {
    use super::*;

    // found by fuzzing: the sum of two counters ran over
    #[test]
    fn hostile_counters_make_a_snapshot_partial() {
        let document = serde_json::json!({
            "lifeboat": "snapshot", "version": 1, "repository": "r", "host": "h", "user": "u", "tool": "t",
            "sequence": 1, "started": "2026-11-23T10:00:00Z", "finished": "2026-11-23T10:00:00Z", "roots": [],
            "statistics": {"torn": u64::MAX, "skipped": 1},
        });
        assert!(Document::decode(document.to_string().as_bytes(), "r").unwrap().is_partial());
    }
}
