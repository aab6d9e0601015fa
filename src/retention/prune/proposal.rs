//! What a prune would do: plain data that can be shown, tested and stored.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use super::memory::Memory;
use super::seen::BasedOn;
use super::stages::Stages;
use crate::base::Name;
use crate::base::id::{ChunkId, IndexId, PackId, SnapshotId};
use crate::format::pack::Kind;

/// How it goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nobody else is at work: everything at once.
    Alone,
    /// Others may be at work: in steps, days apart.
    Together,
}

/// How it was found out what is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// By the documents alone: nothing that is forgotten had anything of its own.
    Documents,
    /// By reading the manifests of all remaining snapshots.
    Manifests,
}

/// A number of packs and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub packs: u64,
    /// Their stored size.
    pub bytes: u64,
}

impl Amount {
    /// Of these sizes.
    pub fn of(sizes: impl IntoIterator<Item = u64>) -> Self {
        sizes
            .into_iter()
            .fold(Self::default(), |sum, bytes| Self { packs: sum.packs + 1, bytes: sum.bytes + bytes })
    }
}

/// A pack and its stored size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackSize {
    /// Its name.
    pub id: PackId,
    /// Its stored size.
    pub bytes: u64,
}

/// A pack of which too little is still needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Its name.
    pub id: PackId,
    /// Its stored size.
    pub bytes: u64,
    /// What its chunks are pieces of.
    pub kind: Kind,
    /// About how many of the bytes are still needed.
    pub live_bytes: u64,
    /// The chunks that are to be taken from it.
    pub live: HashSet<ChunkId>,
}

/// Why nothing is done. Each is something that must be looked at by a person.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// A snapshot is gone that nobody forgot.
    SnapshotGone {
        /// Which one.
        snapshot: SnapshotId,
        /// What still speaks of it.
        named_by: String,
    },
    /// An object is there but not in the listing.
    ListingIncomplete {
        /// The object.
        object: String,
    },
    /// The logbook ends earlier than it did.
    RecordGone {
        /// Whose part of it.
        writer: String,
        /// The number of the newest record that was there.
        sequence: u64,
    },
    /// Something needed cannot be read.
    Unreadable {
        /// What.
        object: String,
        /// Why.
        why: String,
    },
    /// There are packs but no snapshot at all, and nothing says that this is right.
    NoSnapshots {
        /// How many packs.
        packs: usize,
    },
    /// Chunks that snapshots need are in no pack.
    ChunksMissing {
        /// How many, at the least.
        count: usize,
        /// One of them.
        first: ChunkId,
    },
}

impl Refusal {
    /// A stable word for the kind.
    pub fn code(&self) -> &'static str {
        match self {
            Self::SnapshotGone { .. } => "snapshot-gone",
            Self::ListingIncomplete { .. } => "listing-incomplete",
            Self::RecordGone { .. } => "record-gone",
            Self::Unreadable { .. } => "unreadable",
            Self::NoSnapshots { .. } => "no-snapshots",
            Self::ChunksMissing { .. } => "chunks-missing",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SnapshotGone { snapshot, named_by } => {
                write!(f, "snapshot {snapshot} is gone, but nobody forgot it; {named_by} still names it")
            }
            Self::ListingIncomplete { object } => {
                write!(f, "{object} is there, but the listing does not show it")
            }
            Self::RecordGone { writer, sequence } => {
                write!(
                    f,
                    "the logbook of writer {writer} had a record {sequence} that is gone: is this an old copy?"
                )
            }
            Self::Unreadable { object, why } => write!(f, "{object} cannot be read: {why}"),
            Self::NoSnapshots { packs } => write!(f, "there are {packs} packs but no snapshot"),
            Self::ChunksMissing { count, first } => {
                write!(f, "{count} chunks that snapshots need are in no pack, {first} among them")
            }
        }
    }
}

/// Something odd that does not stand in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// Two snapshots of a host have the same number.
    SequenceTwice {
        /// The host.
        host: Name,
        /// The number.
        sequence: u64,
        /// The snapshots.
        snapshots: Vec<SnapshotId>,
    },
    /// A snapshot names as the one before it one that cannot be that.
    ChainBroken {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// A pack that no index names cannot be read; it is left where it is.
    PackUnreadable {
        /// The pack.
        pack: PackId,
    },
}

impl Warning {
    /// A stable word for the kind.
    pub fn code(&self) -> &'static str {
        match self {
            Self::SequenceTwice { .. } => "sequence-twice",
            Self::ChainBroken { .. } => "chain-broken",
            Self::PackUnreadable { .. } => "pack-unreadable",
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SequenceTwice { host, sequence, snapshots } => {
                write!(f, "{} snapshots of {host} have the number {sequence}", snapshots.len())
            }
            Self::ChainBroken { snapshot } => {
                write!(f, "snapshot {snapshot} names a snapshot as the one before it that is not")
            }
            Self::PackUnreadable { pack } => write!(f, "pack {pack}, which no index names, cannot be read"),
        }
    }
}

/// Everything a prune would do, decided before anything is touched.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// How it goes about it.
    pub mode: Mode,
    /// How it was found out what is needed.
    pub counted: Counted,
    /// Why nothing is done, if there are reasons.
    pub refusals: Vec<Refusal>,
    /// What is odd.
    pub warnings: Vec<Warning>,
    /// Snapshots that stay.
    pub snapshots: Vec<SnapshotId>,
    /// Forgotten snapshots whose documents go.
    pub forgotten: Vec<SnapshotId>,
    /// Packs that nothing needs.
    pub dead: Vec<PackSize>,
    /// Packs of which too little is needed.
    pub rewrite: Vec<Rewrite>,
    /// Packs that stay as they are.
    pub kept: Amount,
    /// Of those, about how many bytes are needed by nothing.
    pub unused_kept_bytes: u64,
    /// Index objects that are replaced.
    pub indexes: Vec<IndexId>,
    /// Packs that are needed but named by no index: they get into the new one.
    pub strays: Vec<PackSize>,
    /// Packs that go back to their place from the trash.
    pub restored: Vec<PackId>,
    /// Sessions of writers that may be at work.
    pub sessions: Vec<String>,
    /// Together: what is done now, and what waits, by the clock of this machine.
    pub stages: Stages,
    pub(super) ground: Ground,
}

/// What the decision stands on.
#[derive(Clone, Debug, Default)]
pub(super) struct Ground {
    pub based_on: BasedOn,
    pub memory: Memory,
    /// Removed snapshots that the next prune must know of.
    pub removed: BTreeSet<SnapshotId>,
    /// Signatures without a document, and when the store got them.
    pub lone_signatures: Vec<(SnapshotId, std::time::SystemTime)>,
    /// Tombstones whose document is gone already.
    pub lone_tombstones: Vec<SnapshotId>,
    /// The listing of packs.
    pub listed: BTreeMap<PackId, Listed>,
    /// Packs that documents name.
    pub named: BTreeSet<PackId>,
    /// Packs that hold something needed.
    pub live: BTreeSet<PackId>,
    /// Which packs each index object names.
    pub index_names: Vec<(IndexId, Vec<PackId>)>,
    /// Index objects that are small enough to be merged, if there are too many.
    pub merge: Vec<IndexId>,
    pub in_trash: bool,
    /// Sessions that documents name.
    pub closed_sessions: BTreeSet<String>,
}

/// A pack in the listing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed {
    pub bytes: u64,
    pub modified: std::time::SystemTime,
}

impl Proposal {
    /// True if there is nothing to remove or to tidy.
    pub fn is_empty(&self) -> bool {
        let alone = self.mode == Mode::Alone;
        self.forgotten.is_empty()
            && self.dead.is_empty()
            && self.rewrite.is_empty()
            && self.indexes.is_empty()
            && self.strays.is_empty()
            && self.restored.is_empty()
            && self.stages.is_empty()
            && (!alone || self.ground.lone_signatures.is_empty())
            && self.ground.lone_tombstones.is_empty()
    }

    /// What becomes free, about.
    pub fn freed_bytes(&self) -> u64 {
        let dead: u64 = self.dead.iter().map(|p| p.bytes).sum();
        dead + self.rewrite.iter().map(|r| r.bytes.saturating_sub(r.live_bytes)).sum::<u64>()
    }
}
