//! Writing a manifest: lines come in order, are cut into chunks by path, and chunks that the
//! parent has already are not even hashed.

use super::Result;
use super::pack_writer::PackWriter;
use crate::base::Name;
use crate::base::id::ChunkId;
use crate::format::manifest::{
    ChunkRef, List, MAX_BYTES, MAX_ENTRIES, MAX_LEVEL, MAX_LIST, cut_hash, cuts_at,
};

/// Gathers lines into chunks.
pub struct ManifestWriter {
    lines: Vec<u8>,
    first: Vec<u8>,
    entries: u64,
    // the parent's chunk that all lines so far were copied from, beginning with its first
    copied: Option<ChunkRef>,
    list: Vec<ChunkRef>,
    total: u64,
}

impl Default for ManifestWriter {
    fn default() -> Self {
        let lines = Vec::with_capacity(64 << 10);
        Self { lines, first: Vec::new(), entries: 0, copied: None, list: Vec::new(), total: 0 }
    }
}

impl ManifestWriter {
    fn cuts_before(&self, path: &[u8]) -> bool {
        let full = self.entries >= MAX_ENTRIES || self.lines.len() >= MAX_BYTES;
        self.entries > 0 && (full || cuts_at(cut_hash(path), 0))
    }

    /// Adds an entry's line, which ends with a newline. `from` is the chunk of the parent's manifest
    /// that the line was copied from, if it was.
    ///
    /// # Errors
    /// If the chunk before it cannot be stored.
    pub fn add(
        &mut self,
        path: &[u8],
        line: &[u8],
        from: Option<&ChunkRef>,
        packs: &mut PackWriter<'_>,
    ) -> Result<()> {
        if self.cuts_before(path) {
            self.cut(packs)?;
        }
        if self.entries == 0 {
            self.first.clear();
            self.first.extend_from_slice(path);
            self.copied = from.filter(|from| from.first.0 == path).cloned();
        } else if self.copied.as_ref().map(|c| c.chunk) != from.map(|c| c.chunk) {
            self.copied = None;
        }
        self.lines.extend_from_slice(line);
        self.entries += 1;
        Ok(())
    }

    fn cut(&mut self, packs: &mut PackWriter<'_>) -> Result<()> {
        // as many lines as the parent's chunk has, each copied from it: the same bytes
        let whole = self.copied.take().filter(|copied| copied.entries == self.entries);
        // unless it lies in a pack that a prune is about to remove
        let whole = whole.filter(|copied| packs.knows(&copied.chunk));
        let chunk = match whole {
            Some(copied) => copied.chunk,
            None => packs.add(&self.lines)?,
        };
        self.list.push(ChunkRef { first: Name(self.first.clone()), chunk, entries: self.entries });
        self.total += self.entries;
        self.lines.clear();
        self.entries = 0;
        Ok(())
    }

    /// Stores what is left and the lists; returns what the document holds.
    ///
    /// # Errors
    /// If they cannot be stored.
    pub fn finish(mut self, packs: &mut PackWriter<'_>) -> Result<List> {
        if self.entries > 0 {
            self.cut(packs)?;
        }
        let (mut level, mut list) = (0, self.list);
        while list.len() > MAX_LIST && level < MAX_LEVEL {
            let shorter = group(&list, level + 1, &mut |lines| packs.add(lines))?;
            if shorter.len() >= list.len() {
                break;
            }
            level += 1;
            list = shorter;
        }
        Ok(List { level, entries: self.total, chunks: list })
    }
}

fn group(
    list: &[ChunkRef],
    level: u32,
    store: &mut dyn FnMut(&[u8]) -> Result<ChunkId>,
) -> Result<Vec<ChunkRef>> {
    let mut groups = Vec::new();
    let mut lines = Vec::new();
    let mut start = 0;
    for (number, of) in list.iter().enumerate() {
        let many = number - start >= MAX_ENTRIES as usize || lines.len() >= MAX_BYTES;
        if number > start && (many || cuts_at(cut_hash(&of.first.0), level)) {
            groups.push(group_of(&list[start..number], store(&lines)?));
            lines.clear();
            start = number;
        }
        of.write_line(&mut lines);
    }
    if let [_, ..] = list[start..] {
        groups.push(group_of(&list[start..], store(&lines)?));
    }
    Ok(groups)
}

fn group_of(members: &[ChunkRef], chunk: ChunkId) -> ChunkRef {
    let first = members.first().map(|m| m.first.clone()).unwrap_or_default();
    ChunkRef { first, chunk, entries: members.iter().map(|m| m.entries).sum() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_grouped_by_path_alone() {
        let entry = |n: u32| ChunkRef {
            first: Name(format!("d{n:05}").into_bytes()),
            chunk: ChunkId::of(&n.to_le_bytes()),
            entries: 64,
        };
        // as the first level leaves them: every path satisfies its cut
        let all: Vec<_> = (0..400_000).map(entry).filter(|r| cuts_at(cut_hash(&r.first.0), 0)).collect();
        assert!((4000..9000).contains(&all.len()), "{}", all.len());
        let mut store = |lines: &[u8]| Ok(ChunkId::of(lines));
        let groups = group(&all, 1, &mut store).unwrap();
        assert!(groups.len() * 30 < all.len(), "{} groups", groups.len());
        assert_eq!(groups.iter().map(|g| g.entries).sum::<u64>(), all.len() as u64 * 64);
        let mut changed = all.clone();
        changed[3000].chunk = ChunkId::of(b"changed");
        let others = group(&changed, 1, &mut store).unwrap();
        assert_eq!(groups.iter().zip(&others).filter(|(a, b)| a != b).count(), 1);
    }
}
