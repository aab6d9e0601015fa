//! A small world: a repository of small frames and packs, snapshots of made-up files, and the check
//! that a snapshot holds what it was given.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::base::Name;
use crate::base::event::Quiet;
use crate::base::id::SnapshotId;
use crate::base::time::{Clock, Timestamp};
use crate::format::manifest::{Entry, List, ROOT, Stat, Time, Type};
use crate::format::pack::Kind;
use crate::format::repository::Repository;
use crate::format::snapshot::{Document, Root, Tombstone};
use crate::repo::keys::WriterKey;
use crate::repo::load::Condemned;
use crate::repo::manifest_reader::{ManifestReader, for_each_chunk};
use crate::repo::manifest_writer::ManifestWriter;
use crate::repo::pack_writer::PackWriter;
use crate::repo::reader::ChunkReader;
use crate::repo::session::OpenSession;
use crate::repo::writer::Writer;
use crate::repo::{Repo, RepoError};
use crate::retention::prune::{Options, Outcome, PruneError, run};
use crate::store::testing::MemoryStore;
use crate::store::{Key, Kind as Objects, Lock, LockMode, ObjectInfo, Published, Staged, Store, StoreError};

/// Paths and contents.
pub type Files = BTreeMap<String, Vec<u8>>;
pub type Result<T> = std::result::Result<T, RepoError>;

pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(24 * 3600);

pub fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + DAY * 20_000
}

pub fn clock() -> Clock {
    Clock::Fixed(start().into())
}

pub fn key() -> WriterKey {
    WriterKey::generate("test").unwrap()
}

/// An empty repository whose frames and packs are tiny.
pub fn world(store: MemoryStore) -> MemoryStore {
    let id = "0123456789abcdef0123456789abcdef".to_owned();
    let mut config = Repository::new(id, Timestamp::from_seconds(0).unwrap());
    (config.frame_target, config.pack_target) = (4096, 24 << 10);
    store.create(&Key::repository(), &serde_json::to_vec(&config).unwrap()).unwrap();
    store.sync().unwrap();
    store.set_now(start());
    store
}

pub fn open(store: impl Store + 'static) -> Repo {
    Repo::open(Arc::new(store), clock()).unwrap()
}

/// The bytes of a file: they do not compress, so that frames and packs have about the size they say.
pub fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Files with these seeds, each of 700 to 2,200 bytes.
pub fn files(seeds: impl IntoIterator<Item = u64>) -> Files {
    seeds.into_iter().map(|n| (format!("f{n:05}"), content(n, 700 + (n as usize * 371) % 1500))).collect()
}

fn entry(path: &str, kind: Type, size: u64) -> Entry {
    let stat = Stat {
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        size,
        mtime: Time(1, 0),
        ctime: Time(1, 0),
        inode: 1,
        links: 1,
        device: None,
    };
    Entry::new(path.as_bytes().to_vec(), stat)
}

fn manifest(packs: &mut PackWriter<'_>, content: &mut PackWriter<'_>, files: &Files) -> Result<List> {
    let mut writer = ManifestWriter::default();
    let mut line = Vec::new();
    entry(".", Type::Dir, 0).write_line(&mut line);
    writer.add(ROOT, &line, None, packs)?;
    for (path, bytes) in files {
        let mut file = entry(path, Type::File, bytes.len() as u64);
        file.chunks = vec![content.add(bytes)?];
        line.clear();
        file.write_line(&mut line);
        writer.add(path.as_bytes(), &line, None, packs)?;
    }
    writer.finish(packs)
}

/// Writes a snapshot as `snapshot::take` does: session, index, chunks, index object, commit.
pub fn save(repo: &Repo, key: &WriterKey, host: &str, files: &Files) -> Result<SnapshotId> {
    for _ in 0..3 {
        match save_once(repo, key, host, files) {
            Err(RepoError::Condemned(_)) => {}
            other => return other,
        }
    }
    save_once(repo, key, host, files)
}

pub fn save_once(repo: &Repo, key: &WriterKey, host: &str, files: &Files) -> Result<SnapshotId> {
    let (snapshots, _) = repo.snapshots()?;
    let before = snapshots.iter().rev().find(|s| s.document.host == Name::from(host));
    let session = OpenSession::begin(repo, &Name::from(host))?;
    let name = session.name().to_owned();
    let result = Writer::begin(repo, 1).and_then(|writer| {
        writer.hold(session);
        let mut content = PackWriter::new(&writer, Kind::Content);
        let mut packs = PackWriter::new(&writer, Kind::Manifest);
        let list = manifest(&mut packs, &mut content, files)?;
        content.finish()?;
        packs.finish()?;
        writer.finish_index()?;
        let mut document = document(repo, host, list);
        document.sequence = before.map_or(1, |s| s.document.sequence + 1);
        document.previous = before.map(|s| s.id);
        // named at random, it would make a story that cannot be told again
        document.session = None;
        let needed = needed(&writer, &document)?;
        document.packs = needed.iter().copied().collect();
        let id = writer.finish(repo, &document, &needed, key);
        writer.release();
        id
    });
    let _ = repo.store().delete(&Key::session(&name));
    result
}

fn document(repo: &Repo, host: &str, manifest: List) -> Document {
    Document {
        lifeboat: "snapshot".to_owned(),
        version: 1,
        repository: repo.config().id.clone(),
        host: Name::from(host),
        user: Name::from("u"),
        tool: "test".to_owned(),
        sequence: 0,
        previous: None,
        parent: None,
        started: repo.clock().now(),
        finished: repo.clock().now(),
        reason: None,
        tags: Vec::new(),
        roots: vec![Root { path: Name::from("/r"), command: None, manifest }],
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

fn needed(writer: &Writer, document: &Document) -> Result<BTreeSet<crate::base::PackId>> {
    let index = writer.index();
    let mut chunks = ChunkReader::new(writer.store(), &index, 4)?;
    let mut ids = Vec::new();
    for root in &document.roots {
        let mut all = Vec::new();
        for_each_chunk(
            &mut chunks,
            &root.manifest,
            &mut |id| {
                all.push(id);
                false
            },
            &mut |id| ids.push(id),
        )?;
        ids.append(&mut all);
    }
    let place = |id| index.get(id).ok_or(RepoError::ChunkMissing(*id));
    let pack = |number| index.pack(number).and_then(|p| p.id).ok_or(RepoError::SelfCheck);
    ids.iter().map(|id| place(id).and_then(|p| pack(p.pack))).collect()
}

/// What a snapshot holds, every chunk read and compared with its hash.
pub fn restore(repo: &Repo, id: SnapshotId) -> Result<Files> {
    let document = repo.document(id)?;
    let loaded = repo.load(Condemned::Use)?;
    let mut entries = Vec::new();
    let mut chunks = ChunkReader::new(repo.store(), &loaded.index, 4)?;
    for root in &document.roots {
        let mut reader = ManifestReader::new(&mut chunks, &root.manifest);
        while let Some(entry) = reader.next_entry()? {
            entries.push(entry);
        }
    }
    let mut files = Files::new();
    for entry in entries.into_iter().filter(|e| e.stat.kind == Type::File) {
        let mut bytes = Vec::new();
        for chunk in &entry.chunks {
            chunks.with_chunk(*chunk, |content| bytes.extend_from_slice(content))?;
        }
        files.insert(String::from_utf8(entry.path).unwrap(), bytes);
    }
    Ok(files)
}

/// Fails unless every one of these snapshots comes back bit for bit.
#[track_caller]
pub fn check_restores<'s>(
    store: &MemoryStore,
    saved: impl IntoIterator<Item = (&'s SnapshotId, &'s Files)>,
    when: &str,
) {
    let repo = open(store.clone());
    for (id, files) in saved {
        match restore(&repo, *id) {
            Ok(found) => assert!(found == *files, "{when}: snapshot {} holds something else", id.short()),
            Err(e) => panic!("{when}: snapshot {} does not come back: {e}", id.short()),
        }
    }
}

pub fn forget(repo: &Repo, id: SnapshotId) -> Result<()> {
    repo.forget(&Tombstone {
        lifeboat: "tombstone".to_owned(),
        version: 1,
        repository: repo.config().id.clone(),
        snapshot: id,
        at: repo.clock().now(),
        by: Name::from("u"),
        why: None,
    })
    .map(|_| ())
}

pub fn prune(store: impl Store + 'static, options: &Options) -> std::result::Result<Outcome, PruneError> {
    let mut repo = open(store);
    run(&mut repo, options, &Quiet)
}

type Hook = Box<dyn FnMut(u64, &str) -> bool + Send>;

/// A store that calls back before each write, which then fails if the hook says so.
#[derive(Clone)]
pub struct Hooked {
    inner: MemoryStore,
    hook: Arc<Mutex<(u64, Option<Hook>)>>,
}

impl Hooked {
    /// Calls `hook` with the number of the write and what it is.
    pub fn new(inner: &MemoryStore, hook: impl FnMut(u64, &str) -> bool + Send + 'static) -> Self {
        Self { inner: inner.clone(), hook: Arc::new(Mutex::new((0, Some(Box::new(hook))))) }
    }

    /// How many writes there were.
    pub fn writes(&self) -> u64 {
        self.hook.lock().unwrap().0
    }

    fn before(&self, what: &str) -> crate::store::Result<()> {
        // taken out while it runs, which may take long and open the store below again
        let (number, hook) = {
            let mut state = self.hook.lock().unwrap();
            state.0 += 1;
            (state.0 - 1, state.1.take())
        };
        let Some(mut hook) = hook else { return Ok(()) };
        let fails = hook(number, what);
        self.hook.lock().unwrap().1 = Some(hook);
        if fails { Err(StoreError::io("write", what)(std::io::Error::other("hook"))) } else { Ok(()) }
    }
}

impl Store for Hooked {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn read_at(&self, key: &Key, offset: u64, buffer: &mut [u8]) -> crate::store::Result<()> {
        self.inner.read_at(key, offset, buffer)
    }
    fn size(&self, key: &Key) -> crate::store::Result<u64> {
        self.inner.size(key)
    }
    fn stage(&self) -> crate::store::Result<Box<dyn Staged>> {
        Ok(Box::new(HookedStage { staged: self.inner.stage()?, store: self.clone() }))
    }
    fn list(&self, kind: Objects) -> crate::store::Result<Vec<ObjectInfo>> {
        self.inner.list(kind)
    }
    fn delete(&self, key: &Key) -> crate::store::Result<()> {
        self.before("delete")?;
        self.inner.delete(key)
    }
    fn rename(&self, from: &Key, to: &Key) -> crate::store::Result<()> {
        self.before("rename")?;
        self.inner.rename(from, to)
    }
    fn sync(&self) -> crate::store::Result<()> {
        self.before("sync")?;
        self.inner.sync()
    }
    fn lock(&self, mode: LockMode) -> crate::store::Result<Lock> {
        self.inner.lock(mode)
    }
    fn locks_reach_everybody(&self) -> bool {
        self.inner.locks_reach_everybody()
    }
}

struct HookedStage {
    staged: Box<dyn Staged>,
    store: Hooked,
}

impl Staged for HookedStage {
    fn write(&mut self, bytes: &[u8]) -> crate::store::Result<()> {
        self.staged.write(bytes)
    }
    fn publish(self: Box<Self>, key: &Key) -> crate::store::Result<Published> {
        let Self { staged, store } = *self;
        store.before(key.as_str())?;
        staged.publish(key)
    }

    fn publish_hashed(self: Box<Self>, key: &Key) -> crate::store::Result<Published> {
        let Self { staged, store } = *self;
        store.before(key.as_str())?;
        staged.publish_hashed(key)
    }
}

/// Prunes in steps, as often as it takes, with days between, until nothing is left to do.
pub fn prune_for_weeks(store: &MemoryStore) {
    let options = Options { together: true, ..Options::default() };
    for _ in 0..5 {
        prune(store.clone(), &options).unwrap();
        store.set_now(store.now() + DAY * 9);
    }
}

/// Fails if anything is left that the snapshots do not need.
#[track_caller]
pub fn check_tidy(store: &MemoryStore, when: &str) {
    let mut repo = open(store.clone());
    let options = Options { full: true, max_unused: 0.9, ..Options::default() };
    let proposal = crate::retention::prune::propose(&mut repo, &options, &Quiet).unwrap();
    assert!(proposal.refusals.is_empty(), "{when}: {:?}", proposal.refusals);
    assert!(proposal.is_empty(), "{when}: {proposal:?}");
    let objects = store.objects();
    let strange = ["sessions/", "tmp/", "trash/", "tombstones/"];
    let left: Vec<_> =
        objects.keys().filter(|key| strange.iter().any(|s| key.as_str().starts_with(s))).collect();
    assert!(left.is_empty(), "{when}: {left:?}");
    assert!(objects.keys().filter(|key| key.as_str().starts_with("prune/")).count() <= 1, "{when}");
}
