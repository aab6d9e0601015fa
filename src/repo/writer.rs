//! Writing to a repository: the chunks known, the packs being written, the index object, and the
//! document as the one commit point.
//!
//! Dropped before [`Writer::finish`], a writer leaves only whole packs that nothing needs yet; the
//! next snapshot uses them, or a prune removes them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use sha2::{Digest as _, Sha256};
use zstd::zstd_safe::CParameter;

use super::chunk_index::{ChunkIndex, Place};
use super::keys::WriterKey;
use super::kit::Kits;
use super::load::packs_in;
use super::session::OpenSession;
use super::{Repo, RepoError, Result};
use crate::base::Name;
use crate::base::id::{ChunkId, IndexId, PackId, SnapshotId};
use crate::format::index::write_pack;
use crate::format::pack::{Kind, Table};
use crate::format::repository::Repository;
use crate::format::snapshot::{Document, NAMESPACE, Tombstone};
use crate::store::{Key, Kind as Objects, Staged, Store};

/// The compression level unless another is asked for. Measured: docs/decisions/0002-compression.md.
pub const DEFAULT_LEVEL: i32 = 3;
/// The level for index objects: read often, written once.
const INDEX_LEVEL: i32 = 3;
/// The window for them and its tables, as a power of two: hashes do not come again, so larger ones find nothing more.
const INDEX_WINDOW: u32 = 15;

/// A pack whose bytes are all written, but not yet durable.
pub struct FinishedPack {
    /// Its number in the index.
    pub number: u32,
    /// Its name.
    pub id: PackId,
    /// Its size.
    pub bytes: u64,
    /// Its content.
    pub table: Table,
    /// Its bytes.
    pub staged: Box<dyn Staged>,
}

struct IndexStage {
    encoder: zstd::stream::write::Encoder<'static, HashedStage>,
}

struct HashedStage {
    staged: Box<dyn Staged>,
    hasher: Sha256,
    bytes: u64,
}

impl std::io::Write for HashedStage {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.staged.write(bytes).map_err(std::io::Error::other)?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// One run's writing.
pub struct Writer {
    store: std::sync::Arc<dyn Store>,
    config: Repository,
    kits: Kits,
    index: RwLock<ChunkIndex>,
    staged_index: Mutex<Option<IndexStage>>,
    written: Mutex<BTreeSet<PackId>>,
    stored_bytes: AtomicU64,
    // names that no new pack may have: a prune is about to remove what has them
    condemned: HashSet<PackId>,
    session: Mutex<Option<OpenSession>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    /// Begins to write. Loads the index, leaving out what a prune condemned; whole packs that a
    /// crashed run left are taken up into the index that this run writes.
    ///
    /// # Errors
    /// If the index cannot be loaded.
    pub fn begin(repo: &Repo, level: i32) -> Result<Self> {
        let condemned = repo.condemned_packs()?;
        let loaded = repo.load_without(&condemned)?;
        let mut writer = Self::with_index(repo, level, loaded.index);
        writer.condemned = condemned;
        for (id, bytes, table) in loaded.unindexed {
            writer.index_pack(id, bytes, &table)?;
        }
        Ok(writer)
    }

    /// Begins to write knowing only these chunks.
    pub fn with_index(repo: &Repo, level: i32, index: ChunkIndex) -> Self {
        Self {
            store: std::sync::Arc::clone(&repo.store),
            config: repo.config.clone(),
            kits: Kits::new(level),
            index: RwLock::new(index),
            staged_index: Mutex::new(None),
            written: Mutex::default(),
            stored_bytes: AtomicU64::new(0),
            condemned: HashSet::new(),
            session: Mutex::new(None),
        }
    }

    /// Keeps a session open while this writes.
    pub fn hold(&self, session: OpenSession) {
        *held(&self.session) = Some(session);
    }

    /// The name of the session, as the document gives it.
    pub fn session_name(&self) -> Option<String> {
        held(&self.session).as_ref().map(|session| session.name().to_owned())
    }

    /// Closes the session.
    pub fn release(&self) {
        if let Some(session) = held(&self.session).take() {
            session.close();
        }
    }

    /// True if a prune had condemned some packs when this run began: chunks in them are not known.
    pub fn avoids_packs(&self) -> bool {
        !self.condemned.is_empty()
    }

    /// True if no new pack may have this name.
    pub(super) fn is_condemned(&self, id: PackId) -> bool {
        self.condemned.contains(&id)
    }

    /// The packs that this run wrote.
    pub fn written_packs(&self) -> BTreeSet<PackId> {
        held(&self.written).clone()
    }

    /// The repository's parameters.
    pub fn config(&self) -> &Repository {
        &self.config
    }

    /// Its objects.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// What frames are compressed with.
    pub(super) fn kits(&self) -> &Kits {
        &self.kits
    }

    /// Where chunks are.
    pub fn index(&self) -> RwLockReadGuard<'_, ChunkIndex> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn index_mut(&self) -> std::sync::RwLockWriteGuard<'_, ChunkIndex> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if the chunk is stored, or being stored by this run.
    pub fn knows(&self, id: &ChunkId) -> bool {
        self.index().relies_on(id)
    }

    /// Says that the caller stores this chunk. False if somebody else did before.
    pub fn claim(&self, id: ChunkId, place: Place) -> bool {
        self.index_mut().insert(id, place)
    }

    /// From now on nothing of this kind that was stored earlier is relied on for not storing it again: some of it was found
    /// damaged.
    pub fn distrust(&self, kind: Kind) {
        self.index_mut().distrust(kind);
    }

    pub(super) fn begin_pack(&self, kind: Kind) -> u32 {
        self.index_mut().begin_pack(kind)
    }

    /// Bytes given to the store so far.
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn pack_finished(&self, pack: FinishedPack) -> Result<()> {
        // one that is there with other bytes is damaged: what was made again and compared takes its place
        pack.staged.publish_hashed(&Key::pack(pack.id))?;
        self.index_mut().end_pack(pack.number, pack.id, pack.bytes, &pack.table);
        self.stored_bytes.fetch_add(pack.bytes, Ordering::Relaxed);
        held(&self.written).insert(pack.id);
        if let Some(session) = &mut *held(&self.session) {
            session.renew_if_due()?;
        }
        self.index_pack(pack.id, pack.bytes, &pack.table)
    }

    /// Adds a pack to the index object of this run.
    ///
    /// # Errors
    /// If the store fails.
    pub fn index_pack(&self, id: PackId, bytes: u64, table: &Table) -> Result<()> {
        let mut guard = held(&self.staged_index);
        let stage = match &mut *guard {
            Some(stage) => stage,
            none => none.insert(IndexStage::begin(self.store.stage()?)?),
        };
        write_pack(&mut stage.encoder, id, bytes, table).map_err(RepoError::io("write the index"))
    }

    /// Makes all packs durable, then the index object, if there is anything to index.
    ///
    /// # Errors
    /// If the store fails.
    pub fn finish_index(&self) -> Result<Option<IndexId>> {
        self.store.sync()?;
        let Some(stage) = held(&self.staged_index).take() else { return Ok(None) };
        let done = stage.encoder.finish().map_err(RepoError::io("write the index"))?;
        let id = IndexId(done.hasher.finalize().into());
        done.staged.publish_hashed(&Key::index(id))?;
        self.stored_bytes.fetch_add(done.bytes, Ordering::Relaxed);
        self.store.sync()?;
        Ok(Some(id))
    }

    /// Commits a snapshot: after this it exists. Everything that it needs must have been given to
    /// pack writers that are finished.
    ///
    /// # Errors
    /// If the store fails, or a prune condemned a pack that it needs ([`RepoError::Condemned`]): then the run must be repeated.
    pub fn finish(
        &self,
        repo: &Repo,
        document: &Document,
        needed: &BTreeSet<PackId>,
        key: &WriterKey,
    ) -> Result<SnapshotId> {
        self.all_there(repo, needed)?;
        let (id, bytes) = document.encode()?;
        let signature = key.sign(NAMESPACE, &bytes)?;
        self.store.create(&Key::signature(id), &signature)?;
        self.store.sync()?;
        self.store.create(&Key::document(id), &bytes)?;
        self.store.sync()?;
        // this process may have been stopped for days since it looked: only what is still there now,
        // while the document can be seen, may be called saved
        match self.all_there(repo, needed) {
            Err(e @ RepoError::Condemned(_)) => {
                withdraw(repo, id, document)?;
                Err(e)
            }
            other => other.map(|()| id),
        }
    }

    // Plans before packs: what is removed after the listing was condemned before it. A pack of another size than this
    // run relies on is as good as gone: the next attempt stores what was in it again.
    fn all_there(&self, repo: &Repo, needed: &BTreeSet<PackId>) -> Result<()> {
        let condemned = repo.condemned_packs()?;
        let listed = packs_in(&repo.store.list(Objects::Packs)?);
        let index = self.index();
        let packs = index.packs().iter().filter_map(|pack| pack.id.map(|id| (id, pack.bytes)));
        let sizes: HashMap<PackId, u64> = packs.filter(|(id, _)| needed.contains(id)).collect();
        let is_there = |pack: &PackId| {
            listed.get(pack).is_some_and(|bytes| sizes.get(pack).is_none_or(|relied_on| relied_on == bytes))
        };
        match needed.iter().find(|pack| condemned.contains(pack) || !is_there(pack)) {
            Some(pack) => Err(RepoError::Condemned(*pack)),
            None => Ok(()),
        }
    }
}

// Takes back a document whose packs are gone. It is forgotten, not deleted: another snapshot may
// name it already, and this writer may not be allowed to delete.
fn withdraw(repo: &Repo, id: SnapshotId, document: &Document) -> Result<()> {
    let withdrawn = repo.forget(&Tombstone {
        lifeboat: "tombstone".to_owned(),
        version: 1,
        repository: repo.config.id.clone(),
        snapshot: id,
        at: repo.clock.now(),
        by: document.user.clone(),
        why: Some(Name::from("a prune removed what it needs before it was finished")),
    });
    withdrawn.map(|_| ())
}

impl IndexStage {
    fn begin(staged: Box<dyn Staged>) -> Result<Self> {
        let stage = HashedStage { staged, hasher: Sha256::new(), bytes: 0 };
        let start = RepoError::io("start the compressor");
        let mut encoder = zstd::stream::write::Encoder::new(stage, INDEX_LEVEL).map_err(start)?;
        encoder.include_checksum(true).map_err(RepoError::io("start the compressor"))?;
        for small in
            [CParameter::WindowLog, CParameter::HashLog, CParameter::ChainLog].map(|of| of(INDEX_WINDOW))
        {
            encoder.set_parameter(small).map_err(RepoError::io("start the compressor"))?;
        }
        Ok(Self { encoder })
    }
}
