//! Records of the logbook (section 11), prune plans and sessions (section 10).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{FormatError, bounded};
use crate::base::id::{IndexId, PackId, RecordId, SnapshotId, sha256};
use crate::base::name::Name;
use crate::base::time::Timestamp;

/// A record or plan has at most this many bytes.
pub const MAX_BYTES: u64 = 64 << 20;
/// A session or tombstone has at most this many bytes.
pub const MAX_SMALL: u64 = 1 << 20;
/// The namespace of a record's signature.
pub const NAMESPACE: &str = "lifeboat-record";

/// One act, chained to the one before it by the same writer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Always `record`.
    pub lifeboat: String,
    /// Version of its form.
    pub version: u32,
    /// The repository's id.
    pub repository: String,
    /// First 16 digits of the hash of the writer's public key file.
    pub writer: String,
    /// Number of the record, from 1 without gaps.
    pub sequence: u64,
    /// The writer's record before.
    pub previous: Option<RecordId>,
    /// When.
    pub at: Timestamp,
    /// Where.
    pub host: Name,
    /// Who.
    pub user: Name,
    /// What kind of act.
    pub kind: String,
    /// What was done and found; by kind.
    pub body: serde_json::Value,
}

impl Record {
    /// Its bytes and id.
    ///
    /// # Errors
    /// If it is larger than readers accept.
    pub fn encode(&self) -> Result<(RecordId, Vec<u8>), FormatError> {
        let mut bytes = serde_json::to_vec(self).map_err(|e| FormatError::malformed("a record", e))?;
        bytes.push(b'\n');
        bounded("a record", bytes.len() as u64, MAX_BYTES)?;
        Ok((RecordId::of(&bytes), bytes))
    }

    /// Reads a record of this repository.
    ///
    /// # Errors
    /// If it is malformed or belongs elsewhere.
    pub fn decode(bytes: &[u8], repository: &str) -> Result<Self, FormatError> {
        bounded("a record", bytes.len() as u64, MAX_BYTES)?;
        let record: Self =
            serde_json::from_slice(bytes).map_err(|e| FormatError::malformed("a record", e))?;
        if record.lifeboat != "record" || record.version != 1 || record.repository != repository {
            return Err(FormatError::malformed(
                "a record",
                "it is no record of version 1 of this repository",
            ));
        }
        Ok(record)
    }
}

/// How far a prune has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlanState {
    /// Under the exclusive lock: everything is removed at once.
    Alone,
    /// Nothing is removed yet. What does not say how far it is, is this: it binds writers most.
    #[default]
    Condemned,
    /// The packs were moved to the trash, or are just being moved.
    Trash,
    /// Finished. Kept for the snapshots it lists: the next prune compares.
    Done,
}

/// What a prune is about to remove, and what it saw when it decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrunePlan {
    /// Always `prune`.
    pub lifeboat: String,
    /// Version of its form.
    pub version: u32,
    /// The repository's id.
    pub repository: String,
    /// How far it is.
    #[serde(default)]
    pub state: PlanState,
    /// When it was decided.
    pub at: Timestamp,
    /// The snapshots that were there and stay.
    pub snapshots: Vec<SnapshotId>,
    /// The sessions that were open.
    pub sessions: Vec<String>,
    /// Packs that no snapshot needs.
    pub packs: Vec<PackId>,
    /// Indexes that are replaced.
    pub indexes: Vec<IndexId>,
    /// Documents of forgotten snapshots: those that this prune removes, and those removed before
    /// that another document still names.
    pub documents: Vec<SnapshotId>,
    /// Packs that a document names and that were rewritten or were never needed.
    #[serde(default)]
    pub gone: Vec<PackId>,
    /// Packs that hold what was in those, and that no document names.
    #[serde(default)]
    pub instead: Vec<PackId>,
    /// The newest record of each writer that was looked at.
    #[serde(default)]
    pub records: BTreeMap<String, u64>,
    /// Random, so that no two plans have the same bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub nonce: String,
}

impl PrunePlan {
    /// The same with a word of its own, so that no other plan has its bytes, which give it its name.
    pub fn with_nonce(&self, nonce: String) -> Self {
        Self { nonce, ..self.clone() }
    }

    /// A plan in which nothing stands yet.
    pub fn new(repository: &str, state: PlanState, at: Timestamp) -> Self {
        Self {
            lifeboat: "prune".to_owned(),
            version: 1,
            repository: repository.to_owned(),
            state,
            at,
            snapshots: Vec::new(),
            sessions: Vec::new(),
            packs: Vec::new(),
            indexes: Vec::new(),
            documents: Vec::new(),
            gone: Vec::new(),
            instead: Vec::new(),
            records: BTreeMap::new(),
            nonce: String::new(),
        }
    }

    /// Its bytes.
    ///
    /// # Errors
    /// If it is larger than readers accept.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        let mut bytes = serde_json::to_vec(self).map_err(|e| FormatError::malformed("a prune plan", e))?;
        bytes.push(b'\n');
        bounded("a prune plan", bytes.len() as u64, MAX_BYTES)?;
        Ok(bytes)
    }

    /// Reads a plan of this repository.
    ///
    /// # Errors
    /// If it is malformed or belongs elsewhere.
    pub fn decode(bytes: &[u8], repository: &str) -> Result<Self, FormatError> {
        bounded("a prune plan", bytes.len() as u64, MAX_BYTES)?;
        let plan: Self =
            serde_json::from_slice(bytes).map_err(|e| FormatError::malformed("a prune plan", e))?;
        if plan.lifeboat != "prune" || plan.version != 1 || plan.repository != repository {
            return Err(FormatError::malformed("a prune plan", "it is none of version 1 of this repository"));
        }
        Ok(plan)
    }
}

/// A writer at work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Always `session`.
    pub lifeboat: String,
    /// Version of its form.
    pub version: u32,
    /// The repository's id.
    pub repository: String,
    /// Where.
    pub host: Name,
    /// The process there.
    pub process: u32,
    /// When it began, or was renewed.
    pub started: Timestamp,
    /// The writer's first session object, if this one renews it: it lives as long as this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renews: Option<String>,
    /// The run of the system that the process belongs to, by the kernel's name for it; another one after each boot.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub boot: String,
    /// Random, so that no two sessions have the same bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub nonce: String,
}

/// True if an object that is named by its own hash, as plans and sessions are, has its name's bytes. Those of the first
/// repositories have names of 32 random digits, which say nothing of their bytes.
pub fn has_its_name(stem: &str, bytes: &[u8]) -> bool {
    stem.len() == RANDOM_DIGITS || crate::base::id::from_hex(stem.as_bytes()) == Some(sha256(bytes))
}

/// How many digits a name has that was drawn at random.
const RANDOM_DIGITS: usize = 32;
