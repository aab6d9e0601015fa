//! What can be wrong with a repository, in terms that a repair can act on.

use std::sync::Arc;

use crate::base::Name;
use crate::base::id::{ChunkId, PackId, SnapshotId};
use crate::format::manifest::compare_entries;
use crate::logbook;
use crate::store::Key;

/// Paths that a problem lists for each snapshot; all are counted.
pub const MAX_PATHS: usize = 1000;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; nothing is lost or at risk.
    Notice,
    /// Everything can still be restored, but something that guards or speeds it is not as it must be.
    Degraded,
    /// Something that a snapshot needs cannot be read.
    DataLoss,
}

/// A file or directory of a snapshot that cannot be restored whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LostPath {
    /// The root it belongs to.
    pub root: NameKey,
    /// Its path below the root.
    pub path: NameKey,
    /// Set if it is the first of a stretch of the manifest that cannot be read.
    pub stretch: Option<Stretch>,
}

/// Entries that follow each other in a manifest and whose names cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stretch {
    /// The first path behind it that is known; `None` if it reaches to the end of the root.
    pub until: Option<NameKey>,
    /// How many entries it has.
    pub entries: u64,
    /// What another snapshot has there, at most [`MAX_PATHS`]: probably lost. Empty if no other is whole there.
    pub likely: Arc<[NameKey]>,
}

impl LostPath {
    /// True if this path of this root is it, or lies in the stretch that begins with it.
    pub fn covers(&self, root: &[u8], path: &[u8]) -> bool {
        if self.root != root {
            return false;
        }
        match &self.stretch {
            None => self.path == path,
            Some(stretch) => {
                let ends = |end: &NameKey| compare_entries(path, end).is_lt();
                compare_entries(&self.path, path).is_le() && stretch.until.as_ref().is_none_or(ends)
            }
        }
    }
}

/// A name that can be sorted.
pub type NameKey = Vec<u8>;

/// What a problem costs one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The paths lost, at most [`MAX_PATHS`].
    pub paths: Vec<LostPath>,
    /// How many there are in all.
    pub lost_entries: u64,
}

/// Something wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// `repository.json` is not the file that the logbook tells of.
    ConfigChanged,
    /// A recovery instruction is missing.
    RecoveryMissing {
        /// The file.
        key: Key,
    },
    /// A recovery instruction is not one that a Lifeboat wrote.
    RecoveryChanged {
        /// The file.
        key: Key,
    },
    /// A writer's key cannot be read, or does not have the hash of its name.
    WriterDamaged {
        /// The key's object.
        key: Key,
    },
    /// A pack that an index names is not in the listing.
    PackMissing {
        /// The pack.
        pack: PackId,
        /// True if it waits in the trash and can be brought back.
        in_trash: bool,
        /// What is lost without it.
        hits: Vec<Hit>,
    },
    /// A pack has another size than the index says, or its table cannot be read.
    PackUnreadable {
        /// The pack.
        pack: PackId,
        /// What is wrong.
        why: String,
        /// What is lost with it.
        hits: Vec<Hit>,
    },
    /// A pack's bytes are not what they were.
    PackDamaged {
        /// The pack.
        pack: PackId,
        /// What is wrong, the first thing met.
        why: String,
        /// How many of its chunks cannot be read.
        bad_chunks: u64,
        /// What is lost.
        hits: Vec<Hit>,
    },
    /// Chunks that snapshots need are in no pack that is known.
    ChunksMissing {
        /// How many.
        chunks: u64,
        /// What is lost.
        hits: Vec<Hit>,
    },
    /// A pack that no index names: left by a run that was interrupted, or its index object is gone.
    PackUnindexed {
        /// The pack.
        pack: PackId,
        /// True if a snapshot needs it, so that an index object named it once.
        needed: bool,
    },
    /// An index object is damaged.
    IndexDamaged {
        /// The object.
        key: Key,
        /// What is wrong.
        why: String,
    },
    /// Two index objects, or an index object and the pack itself, describe a pack differently.
    IndexDiffers {
        /// The pack.
        pack: PackId,
        /// What cannot be restored before the index is made again.
        hits: Vec<Hit>,
    },
    /// A snapshot's document is damaged.
    DocumentDamaged {
        /// The snapshot.
        snapshot: SnapshotId,
        /// What is wrong.
        why: String,
    },
    /// A snapshot's document is gone, and nobody forgot it.
    DocumentMissing {
        /// The snapshot.
        snapshot: SnapshotId,
        /// What tells of it.
        named_by: String,
    },
    /// A signature without a document: a snapshot that was interrupted, or its document is gone.
    DocumentUnfinished {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// A document has no signature.
    SignatureMissing {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// A document is not signed by a writer of this repository.
    SignatureInvalid {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// The bytes of a good signature were changed.
    SignatureTouched {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// Snapshots of one host have the same number.
    SequenceDuplicate {
        /// The host.
        host: Name,
        /// The number.
        sequence: u64,
        /// The snapshots.
        snapshots: Vec<SnapshotId>,
    },
    /// Snapshots of one host have the same number because they were taken at the same time.
    TakenTogether {
        /// The host.
        host: Name,
        /// The number.
        sequence: u64,
        /// The snapshots.
        snapshots: Vec<SnapshotId>,
    },
    /// A snapshot does not follow the one that it says it follows.
    ChainBroken {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// A snapshot's manifest is not what the format says.
    ManifestDamaged {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The root.
        root: Name,
        /// What is wrong.
        why: String,
    },
    /// A file's chunks do not have together the bytes that its size says.
    SizeDiffers {
        /// How many entries.
        entries: u64,
        /// What is hit.
        hits: Vec<Hit>,
    },
    /// The list of packs in a document is not that of the packs it needs.
    PacksInexact {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// Something is wrong with the logbook.
    Logbook(logbook::Fault),
    /// A tombstone, session or plan cannot be read.
    ObjectMalformed {
        /// The object.
        key: Key,
        /// What is wrong.
        why: String,
    },
    /// A signed record tells that a snapshot was forgotten, none that it was taken back, and its tombstone is gone.
    TombstoneMissing {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// No record tells of a tombstone: a forget was cut off, or somebody else wrote it.
    TombstoneUnrecorded {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// A plan that the newest prune left is gone: what that prune knew is not known any more.
    PlanMissing {
        /// The plan.
        key: Key,
    },
    /// An object whose name the format does not know.
    ObjectUnknown {
        /// The object.
        key: Key,
    },
    /// This host has seen what is there no longer, and nothing tells why it is gone.
    Older {
        /// The snapshots that are gone.
        snapshots: Vec<SnapshotId>,
        /// What is gone, in words.
        text: String,
    },
}

impl Problem {
    /// The stable word for this kind of problem.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ConfigChanged => "repository-changed",
            Self::RecoveryMissing { .. } => "recovery-missing",
            Self::RecoveryChanged { .. } => "recovery-changed",
            Self::WriterDamaged { .. } => "writer-damaged",
            Self::PackMissing { .. } => "pack-missing",
            Self::PackUnreadable { .. } => "pack-unreadable",
            Self::PackDamaged { .. } => "pack-damaged",
            Self::ChunksMissing { .. } => "chunks-missing",
            Self::PackUnindexed { .. } => "pack-unindexed",
            Self::IndexDamaged { .. } => "index-damaged",
            Self::IndexDiffers { .. } => "index-differs",
            Self::DocumentDamaged { .. } => "document-damaged",
            Self::DocumentMissing { .. } => "document-missing",
            Self::DocumentUnfinished { .. } => "document-unfinished",
            Self::SignatureMissing { .. } => "signature-missing",
            Self::SignatureInvalid { .. } => "signature-invalid",
            Self::SignatureTouched { .. } => "signature-touched",
            Self::SequenceDuplicate { .. } => "sequence-duplicate",
            Self::TakenTogether { .. } => "taken-together",
            Self::ChainBroken { .. } => "chain-broken",
            Self::ManifestDamaged { .. } => "manifest-damaged",
            Self::SizeDiffers { .. } => "size-differs",
            Self::PacksInexact { .. } => "packs-inexact",
            Self::Logbook(fault) => match fault.kind {
                logbook::FaultKind::Missing => "record-missing",
                logbook::FaultKind::Altered => "record-altered",
                logbook::FaultKind::Reordered => "record-reordered",
                logbook::FaultKind::Unsigned => "record-unsigned",
                logbook::FaultKind::Foreign => "record-foreign",
                logbook::FaultKind::Touched => "record-touched",
                logbook::FaultKind::Forked => "record-forked",
                logbook::FaultKind::Unfinished => "record-unfinished",
            },
            Self::ObjectMalformed { .. } => "object-malformed",
            Self::TombstoneMissing { .. } => "tombstone-missing",
            Self::TombstoneUnrecorded { .. } => "tombstone-unrecorded",
            Self::PlanMissing { .. } => "plan-missing",
            Self::ObjectUnknown { .. } => "object-unknown",
            Self::Older { .. } => "older-repository",
        }
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self {
            Self::PackMissing { in_trash: true, .. } => Severity::Degraded,
            Self::PackMissing { hits, .. }
            | Self::PackUnreadable { hits, .. }
            | Self::PackDamaged { hits, .. }
            | Self::IndexDiffers { hits, .. }
            | Self::SizeDiffers { hits, .. }
            | Self::ChunksMissing { hits, .. } => {
                if hits.is_empty() {
                    Severity::Degraded
                } else {
                    Severity::DataLoss
                }
            }
            Self::Older { snapshots, .. } if snapshots.is_empty() => Severity::Degraded,
            Self::DocumentDamaged { .. }
            | Self::DocumentMissing { .. }
            | Self::ManifestDamaged { .. }
            | Self::Older { .. } => Severity::DataLoss,
            Self::PackUnindexed { needed: false, .. }
            | Self::DocumentUnfinished { .. }
            | Self::TakenTogether { .. }
            | Self::PacksInexact { .. }
            | Self::TombstoneUnrecorded { .. }
            | Self::ObjectUnknown { .. } => Severity::Notice,
            Self::Logbook(fault) => match fault.kind {
                logbook::FaultKind::Forked | logbook::FaultKind::Unfinished => Severity::Notice,
                _ => Severity::Degraded,
            },
            _ => Severity::Degraded,
        }
    }

    /// What an operator can do next.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::PackMissing { in_trash: true, .. } => "`lifeboat repair` brings it back from the trash",
            Self::PackMissing { .. } | Self::ChunksMissing { .. } => {
                "put it back from another copy of the repository, if there is one; or take a new snapshot, which stores again what the source still has"
            }
            Self::PackUnreadable { .. } | Self::PackDamaged { .. } => {
                "put the pack back from another copy of the repository, if there is one; or `lifeboat repair` saves what can be read of it"
            }
            Self::RecoveryMissing { .. }
            | Self::RecoveryChanged { .. }
            | Self::PackUnindexed { .. }
            | Self::IndexDamaged { .. }
            | Self::IndexDiffers { .. } => "`lifeboat repair` makes it again",
            Self::DocumentDamaged { .. } | Self::DocumentMissing { .. } => {
                "put the document and its signature back from another copy of the repository, if there is one"
            }
            Self::DocumentUnfinished { .. } => {
                "nothing, if a snapshot was interrupted; else put it back from another copy of the repository, if there is one"
            }
            Self::SignatureMissing { .. }
            | Self::SignatureInvalid { .. }
            | Self::SignatureTouched { .. }
            | Self::WriterDamaged { .. }
            | Self::ConfigChanged => {
                "put the object back from another copy of the repository, if there is one; find out who changed it"
            }
            Self::ManifestDamaged { .. } | Self::SizeDiffers { .. } => {
                "restore an earlier or later snapshot; report this as a bug"
            }
            Self::SequenceDuplicate { .. } | Self::ChainBroken { .. } | Self::Logbook(_) => {
                "find out who writes to the repository; `lifeboat log` shows the acts"
            }
            Self::TakenTogether { .. } => "nothing; each is whole",
            Self::PacksInexact { .. } => "nothing; the list only helps to find packs by hand",
            Self::ObjectMalformed { key, .. } if *key == Key::prune(key.stem()) => {
                "`lifeboat repair` sets it aside"
            }
            Self::ObjectMalformed { .. } => "look at the object, and remove it if nothing needs it",
            Self::TombstoneMissing { .. } => {
                "`lifeboat forget` it again, or keep it; find out who removed the tombstone"
            }
            Self::TombstoneUnrecorded { .. } => {
                "if nobody forgot it, `lifeboat forget --undo` takes it back; else nothing"
            }
            Self::PlanMissing { .. } => {
                "put it back from another copy of the repository, if there is one; the next `lifeboat prune` makes a new one"
            }
            Self::ObjectUnknown { .. } => "look at the object: Lifeboat did not write it",
            Self::Older { .. } => {
                "put the newer state back, or `lifeboat forget --accept-older` takes this one for the newest"
            }
        }
    }

    /// The pack whose stored bytes were found wrong, in hexadecimal: only reading it again shows that it is well.
    pub fn damaged_pack(&self) -> Option<String> {
        match self {
            Self::PackUnreadable { pack, .. } | Self::PackDamaged { pack, .. } => Some(pack.to_hex()),
            _ => None,
        }
    }

    /// A sentence: what is wrong.
    pub fn text(&self) -> String {
        let n = |count: u64, noun| crate::base::size::plural(count, noun);
        match self {
            Self::ConfigChanged => "repository.json is not the file that the logbook tells of".to_owned(),
            Self::RecoveryMissing { key } => format!("{key} is missing"),
            Self::RecoveryChanged { key } => format!("{key} is not as Lifeboat wrote it"),
            Self::WriterDamaged { key } => format!("{key} is no public key of that name"),
            Self::PackMissing { pack, in_trash: true, .. } => {
                format!("pack {pack} is in the trash but needed")
            }
            Self::PackMissing { pack, .. } => format!("pack {pack} is missing"),
            Self::PackUnreadable { pack, why, .. } => format!("pack {pack} cannot be read: {why}"),
            Self::PackDamaged { pack, why, bad_chunks, .. } => {
                format!("pack {pack} is damaged: {why}; {} cannot be read", n(*bad_chunks, "chunk"))
            }
            Self::ChunksMissing { chunks, .. } => format!("{} in no known pack", n(*chunks, "needed chunk")),
            Self::PackUnindexed { pack, needed: false } => format!("pack {pack} is in no index"),
            Self::PackUnindexed { pack, needed: true } => {
                format!("pack {pack} is in no index, and snapshots need it: an index object is gone")
            }
            Self::IndexDamaged { key, why } => format!("{key} is damaged: {why}"),
            Self::IndexDiffers { pack, hits } => {
                let lost =
                    if hits.is_empty() { "" } else { "; before it is made again, this cannot be restored" };
                format!("an index does not say of pack {pack} what the pack says{lost}")
            }
            Self::DocumentDamaged { snapshot, why } => format!("snapshot {snapshot} cannot be read: {why}"),
            Self::DocumentMissing { snapshot, named_by } => {
                format!("snapshot {snapshot} is gone and was not forgotten; {named_by} tells of it")
            }
            Self::DocumentUnfinished { snapshot } => {
                format!("snapshot {snapshot} has a signature but no document")
            }
            Self::SignatureMissing { snapshot } => format!("snapshot {snapshot} is not signed"),
            Self::SignatureInvalid { snapshot } => {
                format!("snapshot {snapshot} is not signed by a writer of this repository")
            }
            Self::SignatureTouched { snapshot } => {
                format!("the signature of snapshot {snapshot} was changed")
            }
            Self::SequenceDuplicate { host, sequence, snapshots } => {
                format!("{} of host {host} have number {sequence}", n(snapshots.len() as u64, "snapshot"))
            }
            Self::TakenTogether { host, sequence, snapshots } => {
                format!(
                    "{} of host {host} were taken at the same time and share number {sequence}",
                    n(snapshots.len() as u64, "snapshot")
                )
            }
            Self::ChainBroken { snapshot } => {
                format!("snapshot {snapshot} does not follow the one that it says it follows")
            }
            Self::ManifestDamaged { snapshot, root, why } => {
                format!("the manifest of {root} in snapshot {snapshot} is damaged: {why}")
            }
            Self::SizeDiffers { entries, .. } => {
                format!("the chunks of {} do not have its size", n(*entries, "file"))
            }
            Self::PacksInexact { snapshot } => {
                format!("the list of packs of snapshot {snapshot} is not that of the packs it needs")
            }
            Self::Logbook(fault) => {
                let (writer, sequence) = (&fault.writer, fault.sequence);
                format!("record {sequence} of writer {writer}: {}", fault.kind.meaning())
            }
            Self::ObjectMalformed { key, why } => format!("{key} cannot be read: {why}"),
            Self::TombstoneMissing { snapshot } => {
                format!("snapshot {snapshot} was forgotten, the logbook says, but its tombstone is gone")
            }
            Self::TombstoneUnrecorded { snapshot } => {
                format!("snapshot {snapshot} is forgotten, but the logbook does not tell of it")
            }
            Self::PlanMissing { key } => format!("{key}, which the last prune left, is gone"),
            Self::ObjectUnknown { key } => format!("{key} is no object of a repository"),
            Self::Older { text, .. } => text.clone(),
        }
    }

    /// What is lost by it, snapshot by snapshot.
    pub fn hits(&self) -> &[Hit] {
        match self {
            Self::PackMissing { hits, .. }
            | Self::PackUnreadable { hits, .. }
            | Self::PackDamaged { hits, .. }
            | Self::IndexDiffers { hits, .. }
            | Self::SizeDiffers { hits, .. }
            | Self::ChunksMissing { hits, .. } => hits,
            _ => &[],
        }
    }

    /// Takes the hits that were found for it.
    pub(super) fn set_hits(&mut self, found: Vec<Hit>) {
        match self {
            Self::PackMissing { hits, .. }
            | Self::PackUnreadable { hits, .. }
            | Self::PackDamaged { hits, .. }
            | Self::IndexDiffers { hits, .. }
            | Self::SizeDiffers { hits, .. }
            | Self::ChunksMissing { hits, .. } => *hits = found,
            _ => {}
        }
    }

    /// The snapshots that it concerns.
    pub fn snapshots(&self) -> Vec<SnapshotId> {
        match self {
            Self::DocumentDamaged { snapshot, .. }
            | Self::DocumentMissing { snapshot, .. }
            | Self::DocumentUnfinished { snapshot }
            | Self::SignatureMissing { snapshot }
            | Self::SignatureInvalid { snapshot }
            | Self::SignatureTouched { snapshot }
            | Self::ChainBroken { snapshot }
            | Self::ManifestDamaged { snapshot, .. }
            | Self::TombstoneMissing { snapshot }
            | Self::TombstoneUnrecorded { snapshot }
            | Self::PacksInexact { snapshot } => vec![*snapshot],
            Self::SequenceDuplicate { snapshots, .. }
            | Self::TakenTogether { snapshots, .. }
            | Self::Older { snapshots, .. } => snapshots.clone(),
            _ => self.hits().iter().map(|hit| hit.snapshot).collect(),
        }
    }

    /// The object that it is about, where it is one.
    pub fn object(&self) -> Option<Key> {
        match self {
            Self::ConfigChanged => Some(Key::repository()),
            Self::RecoveryMissing { key }
            | Self::RecoveryChanged { key }
            | Self::WriterDamaged { key }
            | Self::IndexDamaged { key, .. }
            | Self::ObjectMalformed { key, .. }
            | Self::PlanMissing { key }
            | Self::ObjectUnknown { key } => Some(key.clone()),
            Self::TombstoneMissing { snapshot } | Self::TombstoneUnrecorded { snapshot } => {
                Some(Key::tombstone(*snapshot))
            }
            Self::PackMissing { pack, .. }
            | Self::PackUnreadable { pack, .. }
            | Self::PackDamaged { pack, .. }
            | Self::PackUnindexed { pack, .. }
            | Self::IndexDiffers { pack, .. } => Some(Key::pack(*pack)),
            Self::DocumentDamaged { snapshot, .. }
            | Self::DocumentMissing { snapshot, .. }
            | Self::ChainBroken { snapshot }
            | Self::ManifestDamaged { snapshot, .. }
            | Self::PacksInexact { snapshot } => Some(Key::document(*snapshot)),
            Self::DocumentUnfinished { snapshot }
            | Self::SignatureMissing { snapshot }
            | Self::SignatureInvalid { snapshot }
            | Self::SignatureTouched { snapshot } => Some(Key::signature(*snapshot)),
            Self::Logbook(fault) => fault.key.clone(),
            Self::ChunksMissing { .. }
            | Self::SizeDiffers { .. }
            | Self::Older { .. }
            | Self::SequenceDuplicate { .. }
            | Self::TakenTogether { .. } => None,
        }
    }
}

/// Why chunks cannot be read: the number of a problem, for each chunk.
pub(super) type BadChunks = std::collections::HashMap<ChunkId, usize>;
