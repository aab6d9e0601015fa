//! The index, made again from the packs' own tables.

use std::collections::{BTreeMap, BTreeSet};

use super::{RepairError, Result};
use crate::base::id::{IndexId, PackId, sha256};
use crate::format::pack::Table;
use crate::repo::load::read_table;
use crate::repo::writer::Writer;
use crate::repo::{ChunkIndex, Repo, RepoError};
use crate::store::{Key, Kind};

/// An index object describes at most about this many chunks, so that readers need little memory.
const CHUNKS: usize = 4_000_000;

/// The packs in the listing and their sizes, those left out that are `except`ed.
pub fn listed(repo: &Repo, except: &BTreeSet<PackId>) -> Result<BTreeMap<PackId, u64>> {
    let packs = repo.store().list(Kind::Packs)?.into_iter().filter_map(|object| {
        let id = PackId::from_hex(object.key.stem()).ok()?;
        (object.key == Key::pack(id) && !except.contains(&id)).then_some((id, object.bytes))
    });
    Ok(packs.collect())
}

/// Where the chunks of these packs are, as the packs say themselves.
pub fn from_tables(repo: &Repo, packs: &BTreeMap<PackId, u64>) -> Result<ChunkIndex> {
    let mut index = ChunkIndex::default();
    for (&id, &bytes) in packs {
        index.add_pack(id, bytes, &read_table(repo.store(), id, bytes)?);
    }
    Ok(index)
}

/// Writes the index of these packs (and of those that `writer` wrote itself) and makes it durable.
pub fn write(repo: &Repo, writer: &Writer, packs: &BTreeMap<PackId, u64>) -> Result<Vec<IndexId>> {
    let (mut ids, mut chunks) = (Vec::new(), 0);
    for (&id, &bytes) in packs {
        let table = read_table(repo.store(), id, bytes)?;
        chunks += table.frames.iter().map(|f| f.chunks.len()).sum::<usize>();
        writer.index_pack(id, bytes, &table)?;
        if chunks >= CHUNKS {
            ids.extend(writer.finish_index()?);
            chunks = 0;
        }
    }
    ids.extend(writer.finish_index()?);
    Ok(ids)
}

/// Reads the new index objects back and compares them, entry by entry, with the packs' tables.
pub fn prove(repo: &Repo, indexes: &[IndexId], packs: &BTreeMap<PackId, u64>) -> Result<()> {
    let mut said = BTreeMap::new();
    for &id in indexes {
        repo.read_index(&Key::index(id), id, |line, table| {
            said.insert(line.pack, digest(line.bytes, &table)?);
            Ok(())
        })?;
    }
    let mut told = BTreeMap::new();
    for (&id, &bytes) in packs {
        told.insert(id, digest(bytes, &read_table(repo.store(), id, bytes)?)?);
    }
    if said == told { Ok(()) } else { Err(RepairError::NotProven("index")) }
}

fn digest(bytes: u64, table: &Table) -> std::result::Result<(u64, [u8; 32]), RepoError> {
    Ok((bytes, sha256(&table.encode()?)))
}
