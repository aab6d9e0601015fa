//! Valid input for every property, taken from a repository that was really written.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::Path;
use std::sync::Arc;

use lifeboat::base::event::Quiet;
use lifeboat::base::name::Name;
use lifeboat::base::time::{Clock, Timestamp};
use lifeboat::format::frame::{Decoder, stream_decoder};
use lifeboat::format::pack::{FOOTER, SeekTable, Table};
use lifeboat::format::record::{PrunePlan, Session};
use lifeboat::format::snapshot::Tombstone;
use lifeboat::logbook::{Act, append};
use lifeboat::repo::Repo;
use lifeboat::repo::keys::WriterKey;
use lifeboat::repo::open;
use lifeboat::snapshot::{Options, take};
use lifeboat::store::Store;
use lifeboat::store::local::LocalStore;

use super::properties::REPOSITORY;

/// A property's name, and input for it.
pub type Seed = (&'static str, Vec<u8>);

fn make_tree(dir: &Path) {
    fs::create_dir_all(dir.join("d/e")).unwrap();
    for n in 0..40 {
        fs::write(dir.join(format!("d/file {n}")), format!("content {n}").repeat(n)).unwrap();
    }
    fs::write(dir.join(std::ffi::OsStr::from_bytes(b"d/e/\xff\"\\\n\xc3\xa9")), b"odd").unwrap();
    fs::hard_link(dir.join("d/file 7"), dir.join("d/name two")).unwrap();
    symlink("../nowhere", dir.join("d/link")).unwrap();
    let holes = fs::File::create(dir.join("d/holes")).unwrap();
    holes.write_at(b"begin", 0).unwrap();
    holes.write_at(b"end", 1 << 20).unwrap();
}

/// Every seed there is.
pub fn seeds() -> Vec<Seed> {
    let dir = tempfile::tempdir().unwrap();
    let (tree, place) = (dir.path().join("tree"), dir.path().join("repo"));
    make_tree(&tree);
    let key = WriterKey::load_or_create(&dir.path().join("key"), "fuzz").unwrap();
    let clock = Clock::Fixed(Timestamp::from_seconds(1_800_000_000).unwrap().0);
    let store: Arc<dyn Store> = Arc::new(LocalStore::create(&place).unwrap());
    let id = open::create(&store, key.public(), clock).unwrap().id;
    let repo = Repo::open(store, clock).unwrap();
    let options = Options {
        roots: vec![tree],
        tags: vec![Name(b"odd \xfe".to_vec())],
        host: Name::from("host"),
        user: Name::from("user"),
        level: 1,
        workers: 1,
        ..Options::default()
    };
    let snapshot = take(&repo, &key, None, &options, &Quiet).unwrap().id.unwrap();
    let body = serde_json::json!({"snapshot": snapshot, "ratio": 0.5});
    let (host, user) = (Name::from("host"), Name::from("user"));
    append(&repo, &key, Act { kind: "snapshot".to_owned(), host, user, body }).unwrap();

    let mut all: Vec<Seed> = vec![
        ("signature", key.public().file_bytes().to_vec()),
        ("signature", include_bytes!("writer.pub").to_vec()),
        ("signature", include_bytes!("message.sig").to_vec()),
    ];
    for text in ["3f2a91", "latest", "latest~2", "@release", "@a:/srv/x", "latest:d\u{202e}/e", "1h 30m"] {
        all.push(("selector", text.into()));
    }
    for text in ["2026-11-01", "2026-11-01T08:00:00.5+02:00", "36h", "999999999999y", "-9999-12-31"] {
        all.push(("selector", text.into()));
    }
    for text in [
        &b"d/file 1\0d"[..],
        b"\\udcff\\n\\u00e9",
        b"\xed\xb2\x80",
        b"a\xff\"\\\x1b[0m",
        "\u{e9}\u{202e}".as_bytes(),
    ] {
        all.push(("name", text.to_vec()));
    }
    add_records(&mut all, snapshot);
    for entry in walkdir::WalkDir::new(&place).sort_by_file_name() {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let bytes = fs::read(entry.path()).unwrap();
            add_object(&mut all, entry.path().strip_prefix(&place).unwrap().to_str().unwrap(), &bytes, &id);
        }
    }
    all
}

fn add_records(all: &mut Vec<Seed>, snapshot: lifeboat::base::id::SnapshotId) {
    let at = Timestamp::from_seconds(1_800_000_000).unwrap();
    let repository = || REPOSITORY.to_owned();
    let tombstone = Tombstone {
        lifeboat: "tombstone".to_owned(),
        version: 1,
        repository: repository(),
        snapshot,
        at,
        by: Name::from("user"),
        why: Some(Name(b"\xff".to_vec())),
    };
    let session = Session {
        nonce: "0123456789abcdef0123456789abcdef".to_owned(),
        lifeboat: "session".to_owned(),
        version: 1,
        repository: repository(),
        host: Name::from("host"),
        process: 1,
        started: at,
        boot: String::new(),
        renews: None,
    };
    let plan = PrunePlan {
        nonce: "0123456789abcdef0123456789abcdef".to_owned(),
        lifeboat: "prune".to_owned(),
        version: 1,
        repository: repository(),
        at,
        snapshots: vec![snapshot],
        sessions: vec!["0".repeat(32)],
        packs: vec![lifeboat::base::id::PackId(snapshot.0)],
        indexes: vec![lifeboat::base::id::IndexId(snapshot.0)],
        documents: vec![],
        state: Default::default(),
        gone: vec![],
        instead: vec![],
        records: Default::default(),
    };
    all.push(("record", serde_json::to_vec(&tombstone).unwrap()));
    all.push(("record", serde_json::to_vec(&session).unwrap()));
    all.push(("record", serde_json::to_vec(&plan).unwrap()));
}

fn add_object(all: &mut Vec<Seed>, path: &str, bytes: &[u8], id: &str) {
    let text = || String::from_utf8(bytes.to_vec()).unwrap().replace(id, REPOSITORY).into_bytes();
    match path.split_once('/').map_or(path, |(top, _)| top) {
        "repository.json" => all.push(("repository", text())),
        "snapshots" | "records" if path.ends_with(".sig") => all.push(("signature", bytes.to_vec())),
        "snapshots" => all.push(("document", text())),
        "records" => all.push(("record", text())),
        "index" => {
            let mut lines = Vec::new();
            std::io::Read::read_to_end(&mut stream_decoder(bytes).unwrap(), &mut lines).unwrap();
            all.extend([("index", lines), ("index", bytes.to_vec())]);
        }
        "packs" => add_pack(all, bytes),
        _ => {}
    }
}

fn add_pack(all: &mut Vec<Seed>, pack: &[u8]) {
    let len = SeekTable::len_from_footer(pack.last_chunk::<FOOTER>().unwrap()).unwrap() as usize;
    let seek = SeekTable::decode(&pack[pack.len() - len..], pack.len() as u64).unwrap();
    let (mut at, mut frames, mut raw) = (0, Vec::new(), Vec::new());
    for &(stored, size) in &seek.frames {
        let bytes = &pack[at..][..stored as usize];
        Decoder::new().unwrap().decode(bytes, size.into(), &mut raw).unwrap();
        frames.push(raw.clone());
        all.push(("frame", [&size.to_le_bytes()[..], bytes].concat()));
        at += stored as usize;
    }
    let table = Table::from_last_frame(&raw).unwrap();
    all.extend([("pack_tail", pack.to_vec()), ("pack_tail", raw), ("pack_tail", table.encode().unwrap())]);
    if table.kind == lifeboat::format::pack::Kind::Manifest {
        for (info, frame) in table.frames.iter().zip(&frames) {
            for (_, offset, size) in info.places() {
                let chunk = &frame[offset as usize..][..size as usize];
                let lines = chunk.split(|&b| b == b'\n').filter(|line| !line.is_empty());
                all.extend(lines.map(|line| ("manifest_line", line.to_vec())));
            }
        }
    }
    let mut list = Vec::new();
    for (chunk, size) in table.frames.iter().flat_map(|frame| &frame.chunks) {
        let first = Name(b"d/\xff".to_vec());
        let line = lifeboat::format::manifest::ChunkRef { first, chunk: *chunk, entries: u64::from(*size) };
        line.write_line(&mut list);
    }
    all.push(("manifest_list", list));
}
