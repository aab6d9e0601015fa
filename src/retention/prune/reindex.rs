//! A new index object in place of old ones. The old ones go only after the new one was read back
//! and found to say of every pack that stays exactly what they said (rule R4).

use std::collections::{BTreeMap, BTreeSet};

use super::Result;
use super::history::is_there;
use crate::base::id::{IndexId, PackId, sha256};
use crate::format::index::write_pack;
use crate::format::pack::Table;
use crate::repo::load::{packs_in, read_table};
use crate::repo::writer::Writer;
use crate::repo::{Repo, RepoError};
use crate::store::{Key, Kind};

/// For each pack the hash of what an index says of it.
type Entries = BTreeMap<PackId, [u8; 32]>;

fn entry(id: PackId, bytes: u64, table: &Table) -> std::result::Result<[u8; 32], RepoError> {
    let mut lines = Vec::new();
    write_pack(&mut lines, id, bytes, table).map_err(RepoError::io("write the index"))?;
    Ok(sha256(&lines))
}

/// The index objects that name a pack which is to go, and those that are to be merged.
pub fn replaced(
    names: &[(IndexId, Vec<PackId>)],
    merge: &[IndexId],
    goes: impl Fn(&PackId) -> bool,
) -> Vec<IndexId> {
    let named = names.iter().filter(|(id, packs)| merge.contains(id) || packs.iter().any(&goes));
    named.map(|(id, _)| *id).collect()
}

/// Writes the index object: what the replaced ones say of packs that stay, what `writer` has
/// written, and `strays`. Returns it, durable and proven, and which of the replaced ones may go.
///
/// # Errors
/// If an index object cannot be read, two contradict each other, or the store fails.
pub fn reindex(
    repo: &Repo,
    writer: &Writer,
    replaced: &[IndexId],
    goes: &BTreeSet<PackId>,
    strays: &[PackId],
) -> Result<(Option<IndexId>, Vec<IndexId>)> {
    let mut expected = Entries::new();
    let written = writer.written_packs();
    let sizes = sizes(repo, &written, strays)?;
    for (&id, &bytes) in &sizes {
        let table = read_table(repo.store(), id, bytes)?;
        if !written.contains(&id) {
            writer.index_pack(id, bytes, &table)?;
        }
        expected.insert(id, entry(id, bytes, &table)?);
    }
    for &old in replaced {
        take_over(repo, writer, old, goes, &mut expected)?;
    }
    let new = writer.finish_index()?;
    prove(repo, new, &expected)?;
    let old = replaced.iter().copied().filter(|&old| Some(old) != new).collect();
    Ok((new, old))
}

fn sizes(
    repo: &Repo,
    written: &BTreeSet<PackId>,
    strays: &[PackId],
) -> std::result::Result<BTreeMap<PackId, u64>, RepoError> {
    let all = written.iter().chain(strays);
    all.map(|&id| Ok((id, repo.store().size(&Key::pack(id))?))).collect()
}

fn take_over(
    repo: &Repo,
    writer: &Writer,
    old: IndexId,
    goes: &BTreeSet<PackId>,
    expected: &mut Entries,
) -> std::result::Result<(), RepoError> {
    repo.read_index(&Key::index(old), old, |line, table| {
        if goes.contains(&line.pack) || !is_there(repo, &Key::pack(line.pack))? {
            return Ok(());
        }
        let said = entry(line.pack, line.bytes, &table)?;
        match expected.get(&line.pack) {
            Some(known) if *known == said => Ok(()),
            Some(_) => Err(RepoError::SelfCheck),
            None => {
                expected.insert(line.pack, said);
                writer.index_pack(line.pack, line.bytes, &table)
            }
        }
    })
}

fn prove(repo: &Repo, new: Option<IndexId>, expected: &Entries) -> std::result::Result<(), RepoError> {
    let mut found = Entries::new();
    if let Some(id) = new {
        repo.read_index(&Key::index(id), id, |line, table| {
            found.insert(line.pack, entry(line.pack, line.bytes, &table)?);
            Ok(())
        })?;
    }
    if found == *expected { Ok(()) } else { Err(RepoError::SelfCheck) }
}

/// The packs of a listing, with when the store got them.
pub fn listing(objects: &[crate::store::ObjectInfo]) -> BTreeMap<PackId, super::proposal::Listed> {
    let plain = packs_in(objects);
    let listed = objects.iter().filter_map(|o| {
        let id = PackId::from_hex(o.key.stem()).ok().filter(|id| plain.contains_key(id))?;
        Some((id, super::proposal::Listed { bytes: o.bytes, modified: o.modified }))
    });
    listed.collect()
}

/// Index objects that are small enough to be merged.
pub fn small(objects: &[crate::store::ObjectInfo], max: usize) -> Vec<IndexId> {
    const SMALL: u64 = 8 << 20;
    if objects.len() <= max {
        return Vec::new();
    }
    let small =
        objects.iter().filter(|o| o.bytes < SMALL && o.key.as_str().starts_with(Kind::Index.folder()));
    let small: Vec<_> = small.filter_map(|o| IndexId::from_hex(o.key.stem()).ok()).collect();
    if small.len() > 1 { small } else { Vec::new() }
}
