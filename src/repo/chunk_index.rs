//! Where chunks are, in memory: 48 bytes a chunk and 4 to 8 for finding it.
//!
//! Invariant: every place points into a pack that a listing of this run shows, or that this run
//! is writing. The same chunk may be listed more often; each place is good.

use std::collections::BTreeMap;

use crate::base::id::{ChunkId, PackId};
use crate::format::pack::{Kind, Table};

/// Where a chunk's content lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which of [`ChunkIndex::packs`].
    pub pack: u32,
    /// Which frame of the pack.
    pub frame: u32,
    /// Offset of the content in the decoded frame.
    pub offset: u32,
    /// Its size.
    pub size: u32,
}

/// Where a frame lies in its pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramePlace {
    /// Offset in the pack.
    pub offset: u64,
    /// Stored size.
    pub bytes: u32,
    /// Uncompressed size.
    pub raw: u32,
}

/// A pack that chunks lie in.
#[derive(Clone, Debug)]
pub struct Pack {
    /// Its name; `None` while this run writes it.
    pub id: Option<PackId>,
    /// Stored size.
    pub bytes: u64,
    /// What its chunks are pieces of.
    pub kind: Kind,
    /// Its content frames.
    pub frames: Vec<FramePlace>,
}

/// A table from chunks to places.
#[derive(Default)]
pub struct ChunkIndex {
    packs: Vec<Pack>,
    entries: Vec<(ChunkId, Place)>,
    // open addressing with linear probing; 0 is free, else position in `entries` + 1
    slots: Vec<u32>,
    // further places of chunks that are stored more than once
    copies: BTreeMap<ChunkId, Vec<Place>>,
    // the kind, and how many of the first packs
    distrusted: Option<(Kind, u32)>,
}

impl ChunkIndex {
    /// The packs.
    pub fn packs(&self) -> &[Pack] {
        &self.packs
    }

    /// A pack that a place points to.
    pub fn pack(&self, number: u32) -> Option<&Pack> {
        self.packs.get(number as usize)
    }

    /// The number of distinct chunks.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if it knows no chunk.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every chunk with its first place.
    pub fn iter(&self) -> impl Iterator<Item = &(ChunkId, Place)> {
        self.entries.iter()
    }

    /// A number for a pack that this run begins to write.
    pub fn begin_pack(&mut self, kind: Kind) -> u32 {
        self.packs.push(Pack { id: None, bytes: 0, kind, frames: Vec::new() });
        (self.packs.len() - 1) as u32 // a pack has megabytes: 2^32 of them are out of reach
    }

    /// Names the pack that this run has written.
    pub fn end_pack(&mut self, number: u32, id: PackId, bytes: u64, table: &Table) {
        if let Some(pack) = self.packs.get_mut(number as usize) {
            *pack = describe(id, bytes, table);
        }
    }

    /// Adds a stored pack and all its chunks.
    pub fn add_pack(&mut self, id: PackId, bytes: u64, table: &Table) -> u32 {
        self.packs.push(describe(id, bytes, table));
        let pack = (self.packs.len() - 1) as u32;
        let chunks: usize = table.frames.iter().map(|f| f.chunks.len()).sum();
        self.reserve(chunks);
        for (number, frame) in table.frames.iter().enumerate() {
            for (id, offset, size) in frame.places() {
                let place = Place { pack, frame: number as u32, offset, size };
                if !self.insert(id, place) {
                    self.copies.entry(id).or_default().push(place);
                }
            }
        }
        pack
    }

    /// True if the pack of this number is known to be just as described here.
    pub fn describes(&self, number: u32, bytes: u64, table: &Table) -> bool {
        let Some(pack) = self.pack(number) else { return false };
        let said = describe(PackId([0; 32]), bytes, table);
        let same = pack.bytes == bytes && pack.kind == table.kind && pack.frames == said.frames;
        same && table.frames.iter().zip(0u32..).all(|(info, frame)| {
            info.places().all(|(id, offset, size)| {
                let place = Place { pack: number, frame, offset, size };
                self.places(&id).any(|known| known == place)
            })
        })
    }

    fn reserve(&mut self, more: usize) {
        let need = (self.entries.len() + more) * 4 / 3 + 1;
        if need > self.slots.len() {
            self.rehash(need.next_power_of_two().max(1024));
        }
    }

    fn rehash(&mut self, slots: usize) {
        self.slots.clear();
        self.slots.resize(slots, 0);
        for number in 0..self.entries.len() {
            let slot = self.free_slot(&self.entries[number].0);
            self.slots[slot] = number as u32 + 1;
        }
    }

    fn start(&self, id: &ChunkId) -> usize {
        let [a, b, c, d, e, f, g, h, ..] = id.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h]) as usize & (self.slots.len() - 1)
    }

    fn free_slot(&self, id: &ChunkId) -> usize {
        let mut slot = self.start(id);
        while self.slots[slot] != 0 {
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        slot
    }

    /// From now on a chunk that the packs of this kind known so far have is no reason not to add it again: one of them was
    /// found damaged, and nobody has looked at the others.
    pub fn distrust(&mut self, kind: Kind) {
        self.distrusted = Some((kind, self.packs.len() as u32));
    }

    /// True if it knows the chunk in a pack that is not distrusted.
    pub fn relies_on(&self, id: &ChunkId) -> bool {
        self.get(id).is_some_and(|place| !self.is_distrusted(place.pack))
    }

    fn is_distrusted(&self, pack: u32) -> bool {
        let of_kind = |kind| self.pack(pack).is_some_and(|pack| pack.kind == kind);
        self.distrusted.is_some_and(|(kind, first)| pack < first && of_kind(kind))
    }

    /// Adds a chunk; false if it was known already, and then nothing changes.
    pub fn insert(&mut self, id: ChunkId, place: Place) -> bool {
        if let Some(number) = self.position(&id) {
            let known = self.entries[number].1;
            if !self.is_distrusted(known.pack) {
                return false;
            }
            self.entries[number].1 = place;
            self.copies.entry(id).or_default().push(known);
            return true;
        }
        self.reserve(1);
        let slot = self.free_slot(&id);
        self.entries.push((id, place));
        self.slots[slot] = self.entries.len() as u32;
        true
    }

    /// Where a chunk is.
    pub fn get(&self, id: &ChunkId) -> Option<Place> {
        self.position(id).and_then(|number| self.entries.get(number)).map(|(_, place)| *place)
    }

    /// The chunk's number among those of [`Self::iter`].
    pub fn position(&self, id: &ChunkId) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut slot = self.start(id);
        loop {
            let number = self.slots[slot].checked_sub(1)? as usize;
            if self.entries[number].0 == *id {
                return Some(number);
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }

    /// A smaller index: the chunks of one kind of packs.
    pub fn of_kind(&self, kind: Kind) -> Self {
        let mut subset = Self { packs: self.packs.clone(), ..Self::default() };
        for &(id, place) in &self.entries {
            if self.pack(place.pack).is_some_and(|pack| pack.kind == kind) {
                subset.insert(id, place);
            }
        }
        subset
    }

    /// Every place of a chunk: the first, then copies.
    pub fn places(&self, id: &ChunkId) -> impl Iterator<Item = Place> {
        self.get(id).into_iter().chain(self.copies_of(id))
    }

    /// The further places of a chunk that is stored more than once.
    pub fn copies_of(&self, id: &ChunkId) -> impl Iterator<Item = Place> {
        self.copies.get(id).into_iter().flatten().copied()
    }

    /// Every chunk that is stored more than once, with its further places.
    pub fn copies(&self) -> impl Iterator<Item = (ChunkId, Place)> {
        self.copies.iter().flat_map(|(id, places)| places.iter().map(|place| (*id, *place)))
    }

    /// The numbers of the entries (see [`Self::entry`]) that lie in each pack first, pack by pack in
    /// the order of their places: 4 bytes a chunk, for a reader that goes through whole packs.
    pub fn by_place(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = (0..self.entries.len() as u32).collect();
        let key = |&n: &u32| {
            let place = self.entries[n as usize].1;
            (place.pack, place.frame, place.offset)
        };
        // packs are added in order: what is sorted already is only looked at
        if !numbers.is_sorted_by_key(key) {
            numbers.sort_unstable_by_key(key);
        }
        numbers
    }

    /// A chunk by its number in [`Self::by_place`].
    pub fn entry(&self, number: u32) -> Option<(ChunkId, Place)> {
        self.entries.get(number as usize).copied()
    }
}

fn describe(id: PackId, bytes: u64, table: &Table) -> Pack {
    let mut offset = 0;
    let frames = table.frames.iter().map(|frame| {
        let here = offset;
        offset += u64::from(frame.bytes);
        let raw = frame.raw_size().unwrap_or_default() as u32; // checked when the table was read
        FramePlace { offset: here, bytes: frame.bytes, raw }
    });
    let frames = frames.collect();
    Pack { id: Some(id), bytes, kind: table.kind, frames }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::pack::FrameInfo;

    #[test]
    fn finds_what_was_added() {
        let mut index = ChunkIndex::default();
        let chunk = |n: u32| ChunkId::of(&n.to_le_bytes());
        let frames = (0..10u32)
            .map(|f| FrameInfo { bytes: 100, chunks: (0..500).map(|c| (chunk(f * 500 + c), 600)).collect() });
        let table = Table { kind: Kind::Content, frames: frames.collect() };
        index.add_pack(PackId::of(b"p"), 1000, &table);
        assert_eq!(index.len(), 5000);
        assert_eq!(index.get(&chunk(501)), Some(Place { pack: 0, frame: 1, offset: 512 + 1536, size: 600 }));
        assert_eq!(index.get(&chunk(5000)), None);
        assert_eq!(index.pack(0).unwrap().frames[3].offset, 300);
        index.add_pack(PackId::of(b"q"), 1000, &table);
        assert_eq!(index.len(), 5000);
        assert_eq!(index.places(&chunk(7)).map(|p| p.pack).collect::<Vec<_>>(), [0, 1]);
    }
}
