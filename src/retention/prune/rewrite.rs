//! Takes what is needed out of packs that are mostly useless. Whole frames are copied as they are
//! stored; frames of which only a part is needed are made again.
//!
//! Every chunk is decoded and compared with its hash on the way: what is damaged is not copied, and
//! its pack stays where it is.

use super::Result;
use super::proposal::Rewrite;
use crate::base::event::{Event, Observer};
use crate::base::id::PackId;
use crate::format::pack::{FrameInfo, Kind};
use crate::repo::load::read_table;
use crate::repo::pack_writer::PackWriter;
use crate::repo::reader::FrameReader;
use crate::repo::writer::Writer;
use crate::repo::{ChunkIndex, Place, Repo, RepoError};

/// Which frames of a pack a pass takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Those that are needed as a whole.
    Whole,
    /// Those of which a part is needed.
    Part,
}

/// Rewrites packs through `writer`, which must know no chunk. Returns the packs that have to stay.
///
/// # Errors
/// If the store fails or it was told to stop. What was written by then is garbage.
pub fn rewrite(
    repo: &Repo,
    writer: &Writer,
    rewrites: &[Rewrite],
    observer: &dyn Observer,
) -> Result<Vec<PackId>> {
    let mut damaged = Vec::new();
    for kind in [Kind::Content, Kind::Manifest] {
        let of_kind: Vec<_> = rewrites.iter().filter(|r| r.kind == kind).collect();
        if of_kind.is_empty() {
            continue;
        }
        let mut packs = PackWriter::new(writer, kind);
        // whole frames first: each ends the frame being made, which would be a small one
        for pass in [Pass::Whole, Pass::Part] {
            for rewrite in &of_kind {
                if damaged.contains(&rewrite.id) {
                    continue;
                }
                match take(repo, rewrite, pass, &mut packs, observer) {
                    Ok(()) => {}
                    Err(e) if e.is_damage() => damaged.push(rewrite.id),
                    Err(e) => return Err(e.into()),
                }
            }
        }
        packs.finish()?;
    }
    Ok(damaged)
}

fn take(
    repo: &Repo,
    rewrite: &Rewrite,
    pass: Pass,
    packs: &mut PackWriter<'_>,
    observer: &dyn Observer,
) -> std::result::Result<(), RepoError> {
    let table = read_table(repo.store(), rewrite.id, rewrite.bytes)?;
    let mut index = ChunkIndex::default();
    let pack = index.add_pack(rewrite.id, rewrite.bytes, &table);
    let mut reader = FrameReader::new(repo.store(), &index)?;
    for (number, frame) in (0..).zip(&table.frames) {
        if observer.interrupted() {
            return Err(RepoError::Interrupted);
        }
        let live = frame.chunks.iter().filter(|(id, _)| rewrite.live.contains(id)).count();
        let is_whole = live == frame.chunks.len();
        if live == 0 || is_whole != (pass == Pass::Whole) {
            continue;
        }
        copy(&mut reader, rewrite, (pack, number), frame, pass, packs)?;
        observer.event(Event::Advanced { entries: 0, bytes: frame.bytes.into() });
    }
    Ok(())
}

fn copy(
    reader: &mut FrameReader<'_>,
    rewrite: &Rewrite,
    (pack, number): (u32, u32),
    info: &FrameInfo,
    pass: Pass,
    packs: &mut PackWriter<'_>,
) -> std::result::Result<(), RepoError> {
    let frame = reader.read(pack, number)?;
    for (id, offset, size) in info.places() {
        let content = frame.chunk(id, Place { pack, frame: number, offset, size })?;
        if pass == Pass::Part && rewrite.live.contains(&id) {
            packs.add(content)?;
        }
    }
    if pass == Pass::Whole {
        packs.add_frame(info.chunks.clone(), reader.stored())?;
    }
    Ok(())
}
