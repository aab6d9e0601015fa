//! What every decoder promises about any bytes at all. Each function takes hostile bytes and panics
//! if a promise is broken; an error from a decoder is never one. Used twice: by the fuzz targets
//! (`fuzz/fuzz_targets`, nightly) and by the test beside this file (stable, a few thousand cases).

use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;

use lifeboat::base::name::{self as names, Name};
use lifeboat::base::time::Timestamp;
use lifeboat::catalog::select::{Selector, parse_since};
use lifeboat::format::FormatError;
use lifeboat::format::frame::{Decoder, Encoder, MAX_FRAME, stream_decoder};
use lifeboat::format::index;
use lifeboat::format::manifest::{self, Entry};
use lifeboat::format::pack::{FOOTER, FrameInfo, MAX_CHUNK, SeekTable, Table};
use lifeboat::format::record::{PrunePlan, Record, Session};
use lifeboat::format::repository::Repository;
use lifeboat::format::snapshot::{Document, Tombstone};
use lifeboat::repo::keys::PublicKey;

/// The repository that the documents and records of the seeds belong to.
pub const REPOSITORY: &str = "00000000000000000000000000000000";
/// A writer's key, and its signature of `message` in the namespace `lifeboat-snapshot`: see `seeds.rs`.
const KEY_AND_MESSAGE: (&[u8], &[u8]) = (include_bytes!("writer.pub"), b"message");
/// No more than this is taken from a stream whose length is not known.
const STREAM: u64 = 1 << 20;

pub type Property = fn(&[u8]);

/// All of them, by the names of the fuzz targets.
pub const ALL: [(&str, Property); 11] = [
    ("repository", repository),
    ("document", document),
    ("record", record),
    ("manifest_line", manifest_line),
    ("manifest_list", manifest_list),
    ("index", index),
    ("pack_tail", pack_tail),
    ("frame", frame),
    ("name", name),
    ("signature", signature),
    ("selector", selector),
];

/// `repository.json`: refused, or within its limits; written again it is the same.
pub fn repository(bytes: &[u8]) {
    let Ok(repository) = Repository::decode(bytes).inspect_err(is_safe_to_show) else { return };
    let again = serde_json::to_vec(&repository).expect("it can be written");
    assert_eq!(Repository::decode(&again).expect("it can be read again"), repository);
    // what the chunker and the pack writer take for granted
    let sizes = &repository.chunking;
    assert!(64 <= sizes.minimum && sizes.minimum <= sizes.average && sizes.average <= sizes.maximum);
    assert!(u64::from(sizes.maximum) <= MAX_CHUNK && u64::from(repository.frame_target) <= MAX_FRAME / 2);
}

/// Snapshot documents: what is read can be shown, counted and written again.
pub fn document(bytes: &[u8]) {
    let Ok(document) = Document::decode(bytes, REPOSITORY) else { return };
    let _ = (document.is_partial(), document.started.shown(), document.finished.since(document.started));
    let (_, again) = document.encode().expect("it can be written");
    assert_eq!(Document::decode(&again, REPOSITORY).expect("it can be read again"), document);
}

/// Tombstones, sessions, prune plans, records.
pub fn record(bytes: &[u8]) {
    fn goes_both_ways<T>(bytes: &[u8])
    where
        T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let Ok(value) = serde_json::from_slice::<T>(bytes) else { return };
        let again = serde_json::to_vec(&value).expect("it can be written");
        assert_eq!(serde_json::from_slice::<T>(&again).expect("it can be read again"), value);
    }
    goes_both_ways::<Tombstone>(bytes);
    goes_both_ways::<Session>(bytes);
    if PrunePlan::decode(bytes, REPOSITORY).is_ok() {
        goes_both_ways::<PrunePlan>(bytes);
    }
    if let Ok(record) = Record::decode(bytes, REPOSITORY) {
        let (_, again) = record.encode().expect("it can be written");
        let mut again = Record::decode(&again, REPOSITORY).expect("it can be read again");
        again.body = record.body.clone(); // numbers with a fraction may change in their last digit
        assert_eq!(again, record);
    }
}

/// A line of a manifest: the quick looks at path and chunks see what the full parse sees, and what
/// was read comes back as written.
pub fn manifest_line(line: &[u8]) {
    let (path, mut chunks) = (manifest::line_path(line), Vec::new());
    let list = manifest::line_chunks(line, |id| chunks.push(id));
    let Ok(entry) = Entry::read_line(line).inspect_err(is_safe_to_show) else { return };
    assert_eq!(path.as_deref(), Some(&entry.path[..]), "line_path");
    assert_eq!(manifest::line_is_database(line), entry.database, "line_is_database");
    assert_eq!(manifest::line_is_torn(line), entry.torn, "line_is_torn");
    assert_eq!(manifest::line_is_merged(line), entry.database && !entry.exact, "line_is_merged");
    assert_eq!(list, Ok(()), "line_chunks");
    assert_eq!(chunks, entry.chunks, "line_chunks");
    assert_eq!(manifest::check_path(&entry.path), Ok(()));
    let segments: u64 = entry.segments().map(|segment| segment.1).sum();
    assert_eq!(segments, entry.stream_len());

    let mut written = Vec::new();
    entry.write_line(&mut written);
    let again = Entry::read_line(written.strip_suffix(b"\n").expect("a line ends"));
    assert_eq!(again.expect("it can be read again"), entry);
}

/// A list of a manifest's chunks.
pub fn manifest_list(bytes: &[u8]) {
    let Ok(list) = manifest::read_list(bytes) else { return };
    let mut written = Vec::new();
    list.iter().for_each(|line| line.write_line(&mut written));
    assert_eq!(manifest::read_list(&written).expect("it can be read again"), list);
    assert_eq!(manifest::lines(bytes).expect("it has lines").count(), list.len());
}

fn check_frames(frames: &[FrameInfo]) {
    for frame in frames {
        let size = frame.raw_size().expect("read_line bounds it");
        assert!(size <= MAX_FRAME);
        assert!(frame.places().all(|(_, offset, len)| u64::from(offset) + u64::from(len) <= size));
    }
}

/// Index objects, as bare lines and as a zstd stream.
pub fn index(bytes: &[u8]) {
    let check = |head: index::PackLine, table: Table| {
        assert_eq!(head.frames, table.frames.len() as u64);
        check_frames(&table.frames);
        let mut written = Vec::new();
        index::write_pack(&mut written, head.pack, head.bytes, &table).expect("it can be written");
        index::read(&written[..], written.len() as u64, |again, same| {
            assert_eq!((&again, &same), (&head, &table));
            Ok::<_, FormatError>(())
        })
    };
    let _ = index::read(bytes, bytes.len() as u64, check);
    if let Ok(stream) = stream_decoder(bytes) {
        let _ = index::read(stream.take(STREAM), index::max_lines(bytes.len() as u64).min(STREAM), check);
    }
}

/// The end of a pack (footer, seek table, last frame), and its table by itself.
pub fn pack_tail(bytes: &[u8]) {
    let _ = read_tail(bytes);
    for table in [Table::decode(bytes), Table::from_last_frame(bytes)].into_iter().flatten() {
        check_frames(&table.frames);
        let again = Table::decode(&table.encode().expect("it can be written"));
        assert_eq!(again.as_ref(), Ok(&table));
        // a pack of which only the tail is there: the content frames are as long as the table says
        let (mut encoder, mut tail) = (Encoder::new(1).expect("memory"), Vec::new());
        table.encode_tail(&mut encoder, &mut Vec::new(), &mut tail).expect("it is within the limits");
        let content: u64 = table.frames.iter().map(|frame| u64::from(frame.bytes)).sum();
        let footer = tail.last_chunk::<FOOTER>().expect("it has a footer");
        let len = SeekTable::len_from_footer(footer).expect("its footer is right") as usize;
        let seek = SeekTable::decode(&tail[tail.len() - len..], content + tail.len() as u64);
        assert_eq!(seek.expect("the seek table is right").last().0, content);
    }
}

fn read_tail(pack: &[u8]) -> Option<Table> {
    let len = SeekTable::len_from_footer(pack.last_chunk::<FOOTER>()?).ok()?;
    let start = pack.len().checked_sub(len as usize)?;
    let seek = SeekTable::decode(&pack[start..], pack.len() as u64).ok()?;
    let (offset, stored, raw) = seek.last();
    // the seek table says that its frames fill the pack
    let stored = &pack[offset as usize..][..stored as usize];
    let mut last = Vec::new();
    Decoder::new().expect("memory").decode(stored, raw.into(), &mut last).ok()?;
    assert_eq!(last.len(), raw as usize);
    Table::from_last_frame(&last).ok()
}

/// A frame: four bytes of announced size, then what is stored.
pub fn frame(bytes: &[u8]) {
    let Some((size, stored)) = bytes.split_first_chunk::<4>() else { return };
    let size = u64::from(u32::from_le_bytes(*size)) % (MAX_FRAME + 2);
    let mut out = Vec::new();
    if Decoder::new().expect("memory").decode(stored, size, &mut out).is_ok() {
        assert_eq!(out.len() as u64, size);
        let mut again = Vec::new();
        Encoder::new(1).expect("memory").encode(&out, &mut again).expect("memory");
        let mut back = Vec::new();
        Decoder::new().expect("memory").decode(&again, size, &mut back).expect("our own frame");
        assert_eq!(back, out);
    }
    assert!(out.capacity() as u64 <= size.max(1), "{} bytes for {size}", out.capacity());
    if let Ok(stream) = stream_decoder(stored) {
        let _ = stream.take(STREAM).read_to_end(&mut out);
    }
}

/// Names: JSON both ways, two readers that agree, nothing on a terminal that commands it.
pub fn name(bytes: &[u8]) {
    let mut json = Vec::new();
    names::write_json(&mut json, bytes);
    json.extend_from_slice(b",rest");
    let (back, rest) = names::read_json(&json).expect("it can be read again");
    assert_eq!((&*back, rest), (bytes, &b",rest"[..]));
    let text = serde_json::to_string(&Name(bytes.to_vec())).expect("it can be written");
    assert_eq!(serde_json::from_str::<Name>(&text).expect("it can be read again").0, bytes);

    assert_is_safe(&names::shown(bytes));
    if let Ok(text) = str::from_utf8(bytes) {
        assert!(names::shown(bytes).len() >= text.chars().count());
    }

    // hostile JSON: the quick reader and serde agree
    for text in [bytes.to_vec(), [b"\"", bytes, b"\""].concat()] {
        let full = serde_json::from_slice::<Name>(&text);
        match names::read_json(&text) {
            Some((quick, rest)) => {
                let alone = serde_json::from_slice::<Name>(&text[..text.len() - rest.len()]);
                assert_eq!(alone.expect("serde reads it too").0, &*quick);
            }
            None => assert!(full.is_err() || text.first() != Some(&b'"'), "serde alone reads {full:?}"),
        }
    }

    // order: that of components, and the root above all
    let mut halves = bytes.splitn(2, |&b| b == 0);
    let (a, b) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
    let split = |path: &[u8]| path.split(|&b| b == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
    assert_eq!(names::compare_paths(a, b), split(a).cmp(&split(b)));
    assert_eq!(manifest::compare_entries(a, b), manifest::compare_entries(b, a).reverse());
    if manifest::check_path(a).is_ok() && a != manifest::ROOT {
        let good =
            |part: &Vec<u8>| !matches!(&part[..], b"" | b"." | b"..") && part.len() <= manifest::MAX_NAME;
        assert!(split(a).iter().all(good) && !a.contains(&0));
    }
}

/// A public key's line, and a signature that is checked with a key it was not made for those bytes.
pub fn signature(bytes: &[u8]) {
    if let Ok(key) = PublicKey::parse(bytes) {
        assert_eq!(key.writer_name().len(), 16);
        assert_is_safe(&key.fingerprint());
        assert!(!key.verifies("lifeboat-snapshot", KEY_AND_MESSAGE.1, bytes));
    }
    let key = PublicKey::parse(KEY_AND_MESSAGE.0).expect("the seeds' key");
    let _ = PublicKey::is_canonical(bytes);
    let good = key.verifies("lifeboat-snapshot", KEY_AND_MESSAGE.1, bytes);
    // one signature cannot serve another purpose or another text
    assert!(!key.verifies("lifeboat-record", KEY_AND_MESSAGE.1, bytes));
    assert!(!key.verifies("lifeboat-snapshot", b"another message", bytes));
    if good && PublicKey::is_canonical(bytes) {
        assert_eq!(bytes, include_bytes!("message.sig"), "a second signature that nobody made");
    }
}

/// What a user writes for a snapshot and for `--since`.
pub fn selector(bytes: &[u8]) {
    match Selector::parse(OsStr::from_bytes(bytes)) {
        Ok(selector) => {
            assert_is_safe(&selector.wanted.to_string());
            assert!(selector.path.is_none_or(|path| !path.0.is_empty()));
        }
        Err(error) => assert_is_safe(&error.to_string()),
    }
    let now = Timestamp::from_seconds(1_800_000_000).expect("a time");
    match str::from_utf8(bytes).map(|text| parse_since(text, now)) {
        Ok(Ok(moment)) => assert_is_safe(&format!("{} {moment}", moment.shown())),
        Ok(Err(error)) => assert_is_safe(&error.to_string()),
        Err(_) => {}
    }
}

fn is_safe_to_show(error: &FormatError) {
    assert_is_safe(&error.to_string());
}

fn assert_is_safe(text: &str) {
    let bad = |c: char| {
        c.is_control()
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
    };
    assert!(!text.contains(bad), "{text:?}");
}
