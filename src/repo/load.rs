//! Loading the index: what the index objects say, held against a listing of the packs; packs that
//! no index names are read themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::chunk_index::ChunkIndex;
use super::{Repo, RepoError, Result};
use crate::base::id::{IndexId, PackId, sha256};
use crate::format::frame::{Decoder, stream_decoder};
use crate::format::pack::{self, FOOTER, SeekTable, Table};
use crate::format::{FormatError, index};
use crate::store::{Key, Kind, ObjectInfo, Store};

/// An index object is at most this large, compressed.
const MAX_INDEX: u64 = 2 << 30;

/// What a load found besides the index.
#[derive(Default)]
pub struct Loaded {
    /// Where chunks are.
    pub index: ChunkIndex,
    /// Packs in the listing that no index names, with what they say of themselves.
    pub unindexed: Vec<(PackId, u64, Table)>,
    /// Packs that an index names but the listing does not have, or with another size.
    pub missing: BTreeSet<PackId>,
    /// What an index says of those: what is lost with them.
    pub absent: BTreeMap<PackId, Table>,
    /// Packs that are described in two ways. The first description is used.
    pub conflicts: BTreeSet<PackId>,
    /// Packs in the listing whose own table cannot be read.
    pub unreadable: Vec<(PackId, RepoError)>,
    /// The index objects, and which could not be read.
    pub indexes: Vec<IndexId>,
    /// The packs that each of them names, if it could be read.
    pub named: Vec<(IndexId, Vec<PackId>)>,
    /// Index objects that are damaged.
    pub damaged_indexes: Vec<(Key, RepoError)>,
}

impl Loaded {
    // What an index says of a pack; its number in the index is `None` if its chunks are left out.
    fn take_up(
        &mut self,
        line: index::PackLine,
        table: Option<Table>,
        listed: &HashMap<PackId, u64>,
        avoided: &HashSet<PackId>,
        known: &mut HashMap<PackId, Option<u32>>,
    ) {
        let fits = |table: &Option<Table>| table.as_ref().is_none_or(|t| frames_fit(t, line.bytes));
        match listed.get(&line.pack) {
            Some(&bytes) if bytes == line.bytes && fits(&table) => match (known.get(&line.pack), table) {
                (Some(Some(number)), Some(table)) => {
                    if !self.index.describes(*number, bytes, &table) {
                        self.conflicts.insert(line.pack);
                    }
                }
                (Some(_), _) => {}
                (None, table) => {
                    let number = table.map(|table| self.index.add_pack(line.pack, bytes, &table));
                    known.insert(line.pack, number);
                }
            },
            _ if avoided.contains(&line.pack) => {}
            _ => {
                self.missing.insert(line.pack);
                if let Some(table) = table {
                    self.absent.entry(line.pack).or_insert(table);
                }
            }
        }
    }
}

/// The packs of a listing with their sizes.
pub fn packs_in(listing: &[ObjectInfo]) -> HashMap<PackId, u64> {
    let named = |o: &ObjectInfo| PackId::from_hex(o.key.stem()).ok().filter(|&id| o.key == Key::pack(id));
    listing.iter().filter_map(|o| named(o).map(|id| (id, o.bytes))).collect()
}

/// What to do with packs that a prune condemned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condemned {
    /// Leave them out: a writer must not rely on them.
    Avoid,
    /// Use them: a reader takes what is there.
    Use,
}

impl Repo {
    /// Loads the index.
    ///
    /// # Errors
    /// If the store fails. Damaged index objects are reported in the result, and the packs they
    /// would have named are read themselves.
    pub fn load(&self, condemned: Condemned) -> Result<Loaded> {
        let avoided = match condemned {
            Condemned::Avoid => self.condemned_packs()?,
            Condemned::Use => HashSet::new(),
        };
        self.load_without(&avoided)
    }

    /// Loads the index, leaving these packs out.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_without(&self, avoided: &HashSet<PackId>) -> Result<Loaded> {
        // index objects before packs: a pack is listed if its index was
        let indexes = self.store.list(Kind::Index)?;
        let mut listed = packs_in(&self.store.list(Kind::Packs)?);
        listed.retain(|id, _| !avoided.contains(id));
        self.load_listed(&indexes, &listed, avoided, None)
    }

    /// Where the chunks of manifests are, condemned or not.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_manifests(&self) -> Result<ChunkIndex> {
        let indexes = self.store.list(Kind::Index)?;
        let listed = packs_in(&self.store.list(Kind::Packs)?);
        Ok(self.load_listed(&indexes, &listed, &HashSet::new(), Some(pack::Kind::Manifest))?.index)
    }

    /// Loads the index from these index objects, held against this listing. With a kind, the chunks
    /// of other packs are left out, which is much cheaper.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_listed(
        &self,
        indexes: &[ObjectInfo],
        listed: &HashMap<PackId, u64>,
        avoided: &HashSet<PackId>,
        kind: Option<pack::Kind>,
    ) -> Result<Loaded> {
        let mut loaded = Loaded::default();
        let mut known = HashMap::new();
        for object in indexes {
            let Ok(id) = IndexId::from_hex(object.key.stem()) else { continue };
            loaded.indexes.push(id);
            // a small object may name one pack millions of times
            let mut names = BTreeSet::new();
            let read = self.read_index_of(&object.key, id, kind, |line, table| {
                names.insert(line.pack);
                loaded.take_up(line, table, listed, avoided, &mut known);
                Ok(())
            });
            match read {
                Ok(()) => loaded.named.push((id, names.into_iter().collect())),
                Err(e) if e.is_damage() => loaded.damaged_indexes.push((object.key.clone(), e)),
                Err(e) => return Err(e),
            }
        }
        self.adopt(&mut loaded, listed, &known)?;
        loaded.missing.retain(|pack| !known.contains_key(pack));
        loaded.absent.retain(|pack, _| !known.contains_key(pack));
        Ok(loaded)
    }

    fn adopt(
        &self,
        loaded: &mut Loaded,
        listed: &HashMap<PackId, u64>,
        known: &HashMap<PackId, Option<u32>>,
    ) -> Result<()> {
        let mut strays: Vec<_> = listed.iter().filter(|(id, _)| !known.contains_key(id)).collect();
        strays.sort_unstable();
        for (&id, &bytes) in strays {
            match read_table(&*self.store, id, bytes) {
                Ok(table) => {
                    loaded.index.add_pack(id, bytes, &table);
                    loaded.unindexed.push((id, bytes, table));
                }
                Err(e) if e.is_damage() => loaded.unreadable.push((id, e)),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Reads one index object pack by pack, after its hash was compared.
    ///
    /// # Errors
    /// If it is missing or damaged, or `found` fails.
    pub fn read_index(
        &self,
        key: &Key,
        id: IndexId,
        mut found: impl FnMut(index::PackLine, Table) -> Result<()>,
    ) -> Result<()> {
        self.read_index_of(key, id, None, |line, table| table.map_or(Ok(()), |table| found(line, table)))
    }

    // `found` gets no table for packs of another kind.
    fn read_index_of(
        &self,
        key: &Key,
        id: IndexId,
        kind: Option<pack::Kind>,
        found: impl FnMut(index::PackLine, Option<Table>) -> Result<()>,
    ) -> Result<()> {
        let bytes = self.store.read_all(key, MAX_INDEX)?;
        if sha256(&bytes) != id.0 {
            return Err(RepoError::WrongHash { key: key.clone() });
        }
        let lines = stream_decoder(&bytes[..]).map_err(RepoError::io("start the decoder"))?;
        let wanted = |line: &index::PackLine| kind.is_none_or(|kind| line.kind == kind);
        index::read_some(lines, index::max_lines(bytes.len() as u64), wanted, found).map_err(
            |e: RepoError| match e {
                RepoError::Format(source) => RepoError::Damaged { key: key.clone(), source },
                other => other,
            },
        )
    }
}

// The frames a table names must lie before the last frame and the seek table.
fn frames_fit(table: &Table, bytes: u64) -> bool {
    table.frames.iter().map(|f| u64::from(f.bytes)).sum::<u64>() < bytes
}

/// Reads a pack's own table.
///
/// # Errors
/// If the pack is damaged there, or the store fails.
pub fn read_table(store: &dyn Store, id: PackId, bytes: u64) -> Result<Table> {
    read_table_of(store, &Key::pack(id), bytes)
}

/// Reads the table of a pack that lies elsewhere, such as in the trash.
///
/// # Errors
/// As [`read_table`].
pub fn read_table_of(store: &dyn Store, key: &Key, bytes: u64) -> Result<Table> {
    let damaged = |source| RepoError::Damaged { key: key.clone(), source };
    let mut footer = [0; FOOTER];
    let at = bytes.checked_sub(FOOTER as u64);
    let at = at.ok_or_else(|| damaged(FormatError::malformed("a pack", "it is too short")))?;
    store.read_at(key, at, &mut footer)?;
    let len = SeekTable::len_from_footer(&footer).map_err(damaged)?;
    let at = bytes.checked_sub(len);
    let at =
        at.ok_or_else(|| damaged(FormatError::malformed("a pack", "it is shorter than its seek table")))?;
    let mut seek = vec![0; len as usize];
    store.read_at(key, at, &mut seek)?;
    let seek = SeekTable::decode(&seek, bytes).map_err(damaged)?;
    let (offset, stored, raw) = seek.last();
    let mut last = vec![0; stored as usize];
    store.read_at(key, offset, &mut last)?;
    let mut decoded = Vec::new();
    let mut decoder = Decoder::new().map_err(RepoError::io("start the decoder"))?;
    decoder.decode(&last, raw.into(), &mut decoded).map_err(damaged)?;
    let table = Table::from_last_frame(&decoded).map_err(damaged)?;
    let frames = table.frames.iter().map(|f| (f.bytes, f.raw_size().unwrap_or_default() as u32));
    if !frames.eq(seek.frames[..seek.frames.len() - 1].iter().copied()) {
        return Err(damaged(FormatError::malformed("a pack", "its table and its seek table differ")));
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::pack::{FrameInfo, Kind};
    use crate::store::testing::MemoryStore;

    #[test]
    fn a_pack_that_is_named_often_is_kept_once() {
        let (memory, _) = crate::verify::tests::empty();
        let repo = crate::verify::tests::open_repo(memory.clone());
        let frame = FrameInfo { bytes: 9, chunks: vec![(crate::base::ChunkId::of(b"x"), 1)] };
        let table = pack::Table { kind: Kind::Content, frames: vec![frame] };
        let mut lines = Vec::new();
        for _ in 0..1000 {
            index::write_pack(&mut lines, PackId([1; 32]), 100, &table).unwrap();
        }
        write_index(&memory, &lines);
        let loaded = repo.load(Condemned::Use).unwrap();
        assert!(loaded.damaged_indexes.is_empty());
        assert_eq!(loaded.named[0].1, [PackId([1; 32])]);
        assert_eq!((loaded.missing.len(), loaded.absent.len()), (1, 1));
    }

    fn write_index(memory: &MemoryStore, lines: &[u8]) {
        let bytes = zstd::encode_all(lines, 3).unwrap();
        memory.create(&Key::index(IndexId(sha256(&bytes))), &bytes).unwrap();
    }
}
