use super::*;
use proptest::prelude::*;

fn file(path: &[u8]) -> Entry {
    let stat = Stat {
        kind: Type::File,
        mode: 0o4755,
        uid: 1,
        gid: u32::MAX,
        size: 10,
        mtime: Time(-2, 500_000_000),
        ctime: Time(i64::MAX / 1_000_000_000, 1),
        inode: u64::MAX,
        links: 2,
        device: None,
    };
    Entry { chunks: vec![ChunkId::of(b"x"), ChunkId::of(b"y")], ..Entry::new(path.to_vec(), stat) }
}

// found by mutating lines: the parser quotes what it read as it stands
#[test]
fn an_error_moves_no_cursor() {
    let mut line = Vec::new();
    file(b"a").write_line(&mut line);
    let text = String::from_utf8(line).unwrap().replacen("file", "\u{7f}\u{202e}ile", 1);
    let error = Entry::read_line(text.trim_end().as_bytes()).unwrap_err().to_string();
    assert!(error.contains(r"`\x7f\u{202e}ile`"), "{error}");
}

#[test]
fn the_canonical_line() {
    let mut entry = file(b"a\xff\"");
    entry.user = Some("root".into());
    entry.xattrs = vec![(Name(b"user.\xfe".to_vec()), vec![0, 1])];
    entry.holes = vec![(2, 3)];
    entry.torn = true;
    entry.hardlink = Some(b"A".to_vec());
    entry.flags = "d".to_owned();
    let mut line = Vec::new();
    entry.write_line(&mut line);
    let text = String::from_utf8(line.clone()).unwrap();
    assert!(text.starts_with(
        "{\"path\":\"a\\udcff\\\"\",\"type\":\"file\",\"mode\":\"4755\",\"uid\":1,\"gid\":4294967295,\"size\":10,\
         \"mtime\":[-2,500000000],\"ctime\":[9223372036,1],\"inode\":18446744073709551615,\"links\":2,\
         \"user\":\"root\",\"hardlink\":\"A\",\"flags\":\"d\",\"xattrs\":{\"user.\\udcfe\":\"AAE=\"},\
         \"holes\":[[2,3]],\"torn\":true,\"chunks\":[\""
    ));
    let line = line.strip_suffix(b"\n").unwrap();
    assert_eq!(Entry::read_line(line).unwrap(), entry);
    assert_eq!(line_path(line).unwrap(), &entry.path[..]);
    let mut chunks = Vec::new();
    line_chunks(line, |c| chunks.push(c)).unwrap();
    assert_eq!(chunks, entry.chunks);
    assert_eq!(entry.segments().collect::<Vec<_>>(), [(0, 2), (5, 5)]);
    assert_eq!(entry.stream_len(), 7);
}

#[test]
fn hostile_entries_are_refused() {
    for path in ["..", "a/../b", "/etc", "a//b", "a/", "", "./a", "a/.", "a\0b"] {
        assert!(check_path(path.as_bytes()).is_err(), "{path:?}");
    }
    assert!(check_path(&[b'x'; 256]).is_err());
    assert!(check_path(&[b'x'; 255]).is_ok());
    let refused = |change: fn(&mut Entry)| {
        let mut entry = file(b"b");
        change(&mut entry);
        let mut line = Vec::new();
        entry.write_line(&mut line);
        assert!(Entry::read_line(line.strip_suffix(b"\n").unwrap()).is_err(), "{entry:?}");
    };
    refused(|e| e.hardlink = Some(b"c".to_vec()));
    refused(|e| e.hardlink = Some(b"b".to_vec()));
    refused(|e| e.hardlink = Some(b"../a".to_vec()));
    refused(|e| e.holes = vec![(0, 11)]);
    refused(|e| e.holes = vec![(0, 0)]);
    refused(|e| e.holes = vec![(4, 2), (0, 1)]);
    refused(|e| e.holes = vec![(u64::MAX, 2)]);
    refused(|e| e.chunks.clear());
    refused(|e| e.stat.kind = Type::Dir);
    refused(|e| e.target = Some(b"x".to_vec()));
    refused(|e| e.stat.mtime.1 = 1_000_000_000);
    refused(|e| e.stat.size = 1 << 63);
}

// what is written of it would be another line
#[test]
fn an_entry_without_a_name_is_refused() {
    let line = r#"{"path":"d","type":"dir","mode":"755","uid":0,"gid":0,"mtime":[1,2],"links":"#;
    assert!(Entry::read_line(format!("{line}1}}").as_bytes()).is_ok());
    assert!(Entry::read_line(format!("{line}0}}").as_bytes()).is_err());
}

// found by fuzzing: the full parse saw chunks or a path that the quick looks did not, so that a
// prune could have removed what a restore needs
#[test]
fn a_line_in_which_the_quick_looks_find_something_else_is_refused() {
    let mut line = Vec::new();
    file(b"b").write_line(&mut line);
    let line = str::from_utf8(line.strip_suffix(b"\n").unwrap()).unwrap();
    assert!(Entry::read_line(line.as_bytes()).is_ok());
    for (from, to) in [
        ("\"chunks\":[", "\"chunks\": ["),
        ("\"chunks\":[", "\"\\u0063hunks\":["),
        ("]}", "] }"),
        ("]}", "],\"torn\":true}"),
        ("\",\"", "\", \""),
        ("}", ",\"x\":{\"y\":1,\"chunks\":[]}}"),
        ("{\"path\":", "{ \"path\":"),
        ("{\"path\":", "{\"path\":\t"),
        (",\"chunks\"", ",\"database\": true,\"chunks\""),
        (",\"chunks\"", ",\"x\":{\"y\":1,\"database\":true},\"chunks\""),
        (",\"chunks\"", ",\"torn\": true,\"chunks\""),
        (",\"chunks\"", ",\"database\":true,\"exact\": true,\"chunks\""),
        ("{\"path\":\"b\",\"type\":\"file\"", "{\"type\":\"file\",\"path\":\"b\""),
    ] {
        let other = line.replace(from, to);
        assert_ne!(other, line);
        assert!(Entry::read_line(other.as_bytes()).is_err(), "{other}");
    }
}

// found by fuzzing: what is written of it would be another line
#[test]
fn a_directory_with_a_size_is_refused() {
    let line = r#"{"path":"d","type":"dir","mode":"755","uid":0,"gid":0,"mtime":[1,2]}"#;
    assert!(Entry::read_line(line.as_bytes()).is_ok());
    let line = line.replace(r#","mtime""#, r#","size":7,"mtime""#);
    assert!(Entry::read_line(line.as_bytes()).is_err());
}

// found by the property test of the decoders: a key that a later version may add
#[test]
fn a_line_without_chunks_that_ends_as_one_with_them_is_refused() {
    let mut line = Vec::new();
    let mut entry = file(b"b");
    (entry.stat.size, entry.chunks) = (0, Vec::new());
    entry.write_line(&mut line);
    let line = str::from_utf8(line.strip_suffix(b"}\n").unwrap()).unwrap();
    for (more, is_good) in [("", true), (",\"x\":[1]", true), (",\"x\":[\"y\"]", false)] {
        let line = format!("{line}{more}}}");
        let read = Entry::read_line(line.as_bytes());
        assert_eq!(read.is_ok(), is_good, "{line} {read:?}");
        assert_eq!(line_chunks(line.as_bytes(), |_| ()).is_ok(), is_good, "{line}");
    }
}

proptest! {
    #[test]
    fn lines_come_back(path in proptest::collection::vec(1u8..=255, 1..30), seconds: i64, size in 1..i64::MAX as u64) {
        let mut entry = file(&path);
        prop_assume!(check_path(&path).is_ok() && entry.hardlink.is_none());
        entry.stat.mtime.0 = seconds;
        entry.stat.size = size;
        let mut line = Vec::new();
        entry.write_line(&mut line);
        let line = line.strip_suffix(b"\n").unwrap();
        prop_assert_eq!(&*line_path(line).unwrap(), &path[..]);
        prop_assert_eq!(Entry::read_line(line).unwrap(), entry);
    }
}
