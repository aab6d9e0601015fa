//! An index object whose name fits its bytes, and whose words do not fit the packs: the packs are whole.

use std::collections::BTreeSet;

use super::*;
use crate::base::event::Quiet;
use crate::base::id::{ChunkId, IndexId, sha256};
use crate::format::index::write_pack;
use crate::format::pack::{Kind as PackKind, Table};
use crate::store::testing::MemoryStore;
use crate::store::{Key, Kind, Store};
use crate::verify::tests::{Fixture, open_repo, restorable};

type Lie = fn(&mut Table) -> Option<()>;

const LIES: &[(&str, Lie)] = &[
    ("two chunks change places", |table| {
        let frame = table.frames.iter_mut().find(|frame| frame.chunks.len() > 1)?;
        let (first, last) = (frame.chunks[0].0, frame.chunks[1].0);
        (frame.chunks[0].0, frame.chunks[1].0) = (last, first);
        Some(())
    }),
    ("a chunk is another one", |table| {
        table.frames.first_mut()?.chunks.first_mut()?.0 = ChunkId([7; 32]);
        Some(())
    }),
    ("the last chunk is left out", |table| {
        table.frames.iter_mut().find(|frame| frame.chunks.len() > 1)?.chunks.pop().map(|_| ())
    }),
    ("a frame is shorter", |table| {
        table.frames.first_mut()?.bytes -= 1;
        Some(())
    }),
    ("the last frame is left out", |table| table.frames.pop().map(|_| ())),
    ("it is of another kind", |table| {
        let is_content = table.kind == PackKind::Content;
        table.kind = if is_content { PackKind::Manifest } else { PackKind::Content };
        Some(())
    }),
];

/// A copy of the store whose index tells this of the n-th pack; `None` if it cannot be told of it.
fn lying(memory: &MemoryStore, nth: usize, lie: Lie) -> Option<MemoryStore> {
    let (copy, repo) = (memory.copy(), open_repo(memory.clone()));
    let mut lines = Vec::new();
    let (mut number, mut told) = (0, None);
    for object in memory.list(Kind::Index).unwrap() {
        let id = IndexId::from_hex(object.key.stem()).unwrap();
        let add = |line: crate::format::index::PackLine, mut table: Table| {
            if number == nth {
                told = lie(&mut table);
            }
            number += 1;
            write_pack(&mut lines, line.pack, line.bytes, &table).unwrap();
            Ok(())
        };
        repo.read_index(&object.key, id, add).unwrap();
        copy.tamper(&object.key, None);
    }
    let bytes = zstd::encode_all(&lines[..], 3).unwrap();
    copy.create(&Key::index(IndexId(sha256(&bytes))), &bytes).unwrap();
    told.map(|()| copy)
}

#[test]
fn an_index_that_lies_is_named_and_mended_and_no_pack_is_blamed() {
    let fixture = Fixture::new();
    let before = restorable(&fixture.memory);
    let packs = fixture.memory.list(Kind::Packs).unwrap().len();
    let (mut cases, mut defeated) = (0, 0);
    for (what, lie) in LIES {
        for nth in 0..packs {
            let Some(store) = lying(&fixture.memory, nth, *lie) else { continue };
            cases += 1;
            let after = restorable(&store);
            let gone: BTreeSet<SnapshotId> =
                before.keys().filter(|path| !after.contains_key(*path)).map(|(id, _)| *id).collect();
            defeated += usize::from(!gone.is_empty());
            for depth in [Depth::Stored, Depth::Deep] {
                let options = Options { depth, workers: 1, ..Options::default() };
                let report = verify(&open_repo(store.clone()), &options, &Quiet).unwrap();
                let codes: BTreeSet<&str> = report.problems.iter().map(Problem::code).collect();
                assert!(codes.contains("index-differs"), "{what} {nth} {depth:?}: {:?}", report.problems);
                assert!(!codes.contains("pack-damaged"), "{what} {nth} {depth:?}: {:?}", report.problems);
                assert_eq!(report.proved.len(), packs, "{what} {nth} {depth:?}");
                let lost: BTreeSet<SnapshotId> = report.lost().into_keys().collect();
                assert!(lost.is_superset(&gone), "{what} {nth} {depth:?}: {:?}", report.problems);
            }
            let mut repo = open_repo(store.clone());
            let proposal = crate::repair::propose(&repo, &crate::repair::Options::default(), &Quiet).unwrap();
            assert_eq!(proposal.salvage, [], "{what} {nth}");
            crate::repair::apply(&proposal, &mut repo, &Quiet).unwrap();
            drop(repo);
            assert_eq!(restorable(&store), before, "{what} {nth}");
            assert_eq!(crate::verify::tests::deep(&store).problems, [], "{what} {nth}");
        }
    }
    assert!(cases > 20 && defeated > 10, "{cases} {defeated}");
}
