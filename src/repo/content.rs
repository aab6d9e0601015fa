//! Whether files hold what chunks hold.

use std::io;
use std::os::fd::AsFd;

use super::ChunkIndex;
use crate::base::id::ChunkId;
use crate::format::manifest::Entry;
use crate::sys::sha256;

/// So many bytes are read before they are hashed, or two chunks, for they are hashed in pairs; little enough to be in the
/// processor's own memory still.
const ROUND: usize = 1 << 20;

/// True if the file's stream, without the entry's holes, has the hashes that the entry says.
///
/// # Errors
/// If it cannot be read.
pub fn same_stream(file: impl AsFd, entry: &Entry, index: &ChunkIndex) -> io::Result<bool> {
    let mut streams = Streams::new(index);
    streams.add(file, entry)?;
    Ok(streams.finish().first() == Some(&true))
}

/// Several files, compared together: what is small is hashed in pairs all the same.
pub struct Streams<'i> {
    index: &'i ChunkIndex,
    // as long as it has ever been; what is in use ends with the last part
    buffer: Vec<u8>,
    parts: Vec<Part>,
    same: Vec<bool>,
}

struct Part {
    file: usize,
    chunk: ChunkId,
    start: usize,
    end: usize,
}

impl<'i> Streams<'i> {
    /// None yet.
    pub fn new(index: &'i ChunkIndex) -> Self {
        Self { index, buffer: Vec::new(), parts: Vec::new(), same: Vec::new() }
    }

    /// Adds a file, and returns its number. It is read now; whether it is the same is known at the end.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn add(&mut self, file: impl AsFd, entry: &Entry) -> io::Result<usize> {
        let number = self.same.len();
        self.same.push(true);
        let mut segments = entry.segments();
        let mut segment = segments.next().unwrap_or_default();
        for &chunk in &entry.chunks {
            let size = self.index.get(&chunk).map(|place| place.size as usize);
            let used = self.parts.last().map_or(0, |part| part.end);
            if self.parts.len() > 1 && used + size.unwrap_or_default() > ROUND {
                self.compare();
            }
            let read = match size {
                Some(size) if self.same[number] => self.read(&file, size, &mut segment, &mut segments)?,
                _ => None,
            };
            let Some((start, end)) = read else {
                self.same[number] = false;
                break;
            };
            self.parts.push(Part { file: number, chunk, start, end });
        }
        // chunks that end before the stream does are not all of it
        self.same[number] &= segment.1 == 0 && segments.next().is_none();
        Ok(number)
    }

    // Reads the next so many bytes of a stream; `None` if it has less.
    fn read(
        &mut self,
        file: impl AsFd,
        size: usize,
        (at, left): &mut (u64, u64),
        segments: &mut dyn Iterator<Item = (u64, u64)>,
    ) -> io::Result<Option<(usize, usize)>> {
        let start = self.parts.last().map_or(0, |part| part.end);
        let end = start + size;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        let mut have = start;
        while have < end {
            if *left == 0 {
                let Some(next) = segments.next() else { return Ok(None) };
                (*at, *left) = next;
            }
            let want = usize::try_from(*left).unwrap_or(usize::MAX).min(end - have);
            let part = &mut self.buffer[have..have + want];
            let read = rustix::io::retry_on_intr(|| rustix::io::pread(&file, &mut *part, *at))?;
            if read == 0 {
                return Ok(None);
            }
            (*at, *left, have) = (*at + read as u64, *left - read as u64, have + read);
        }
        Ok(Some((start, end)))
    }

    fn compare(&mut self) {
        let Self { buffer, parts, same, .. } = self;
        sha256::each(parts.iter().map(|part| &buffer[part.start..part.end]), |number, hash| {
            let part = &parts[number];
            same[part.file] &= ChunkId(hash) == part.chunk;
        });
        parts.clear();
    }

    /// For each file by its number, whether its stream, without the entry's holes, has the hashes that its entry says; of
    /// one that could not be read nothing that counts. Ready for others then.
    pub fn finish(&mut self) -> Vec<bool> {
        self.compare();
        std::mem::take(&mut self.same)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;

    use super::*;
    use crate::format::manifest::{Stat, Time, Type};
    use crate::repo::Place;

    fn content(size: usize, seed: usize) -> Vec<u8> {
        (0..size).map(|n| (n * 31 + n / 255 + seed * 7) as u8).collect()
    }

    fn entry(size: usize) -> Entry {
        let time = Time(0, 0);
        let stat = Stat {
            kind: Type::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: size as u64,
            mtime: time,
            ctime: time,
            inode: 1,
            links: 1,
            device: None,
        };
        Entry::new(b"x".to_vec(), stat)
    }

    // A file of chunks of these sizes.
    fn file(sizes: &[usize], seed: usize, index: &mut ChunkIndex) -> (File, Entry) {
        let file = tempfile::tempfile().unwrap();
        let whole = content(sizes.iter().sum(), seed);
        file.write_all_at(&whole, 0).unwrap();
        let mut entry = entry(whole.len());
        let mut at = 0;
        for size in sizes {
            let id = ChunkId::of(&whole[at..at + size]);
            index.insert(id, Place { pack: 0, frame: 0, offset: 0, size: *size as u32 });
            entry.chunks.push(id);
            at += size;
        }
        (file, entry)
    }

    #[test]
    fn each_file_gets_its_own_verdict() {
        let mut index = ChunkIndex::default();
        let sizes: [&[usize]; 7] =
            [&[10], &[], &[700_000, 600_000, 5], &[1 << 21, 1 << 21, 1 << 21], &[1], &[300; 50], &[4097]];
        let files: Vec<_> = (0..).zip(sizes).map(|(n, sizes)| file(sizes, n, &mut index)).collect();
        let mut streams = Streams::new(&index);
        for bad in 0..=files.len() {
            let changed = files.get(bad).filter(|(_, entry)| entry.stat.size > 0);
            let last = changed.map_or(0, |(_, entry)| entry.stat.size - 1);
            let flip = |(file, _): &(File, Entry)| {
                let mut byte = [0];
                file.read_exact_at(&mut byte, last).unwrap();
                file.write_all_at(&[!byte[0]], last).unwrap();
            };
            changed.inspect(|changed| flip(changed));
            for (file, entry) in &files {
                streams.add(file, entry).unwrap();
            }
            let wanted: Vec<_> = (0..files.len()).map(|n| changed.is_none() || n != bad).collect();
            assert_eq!(streams.finish(), wanted);
            changed.inspect(|changed| flip(changed));
        }
    }

    #[test]
    fn what_is_short_unknown_or_unreadable_is_not_the_same() {
        let mut index = ChunkIndex::default();
        let (whole, entry) = file(&[100, 200], 1, &mut index);
        let (short, _) = file(&[100, 199], 1, &mut index);
        let unknown = Entry { chunks: vec![entry.chunks[0], ChunkId::of(b"?")], ..entry.clone() };
        let directory = File::open("/").unwrap();
        let mut streams = Streams::new(&index);
        streams.add(&whole, &entry).unwrap();
        streams.add(&short, &entry).unwrap();
        streams.add(&whole, &unknown).unwrap();
        streams.add(&directory, &entry).unwrap_err();
        streams.add(&whole, &entry).unwrap();
        let same = streams.finish();
        assert_eq!((&same[..3], same[4]), (&[true, false, false][..], true));
    }

    #[test]
    fn holes_are_no_part_of_a_stream() {
        let mut index = ChunkIndex::default();
        let (plain, mut entry) = file(&[5000, 3000], 1, &mut index);
        let mut bytes = vec![0; 8000];
        plain.read_exact_at(&mut bytes, 0).unwrap();
        let holey = tempfile::tempfile().unwrap();
        holey.write_all_at(&bytes[..4096], 4096).unwrap();
        holey.write_all_at(&bytes[4096..], 12288).unwrap();
        (entry.stat.size, entry.holes) = (12288 + 3904, vec![(0, 4096), (8192, 4096)]);
        assert!(same_stream(&holey, &entry, &index).unwrap());
        assert!(!same_stream(&plain, &entry, &index).unwrap());
    }
}
