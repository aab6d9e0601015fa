//! Reading a manifest line by line, in order, in constant memory; whole chunks can be skipped.

use super::reader::ChunkReader;
use super::{RepoError, Result};
use crate::base::error::causes;
use crate::base::id::ChunkId;
use crate::base::name::{Name, compare_paths};
use crate::base::size::count;
use crate::format::FormatError;
use crate::format::manifest::{
    ChunkRef, Entry, List, MAX_LEVEL, ROOT, compare_entries, is_in_order, is_within_subtree, line_path,
    read_list,
};

/// A line without its newline, and the path it begins with.
pub type LineAndPath<'l> = (&'l [u8], std::borrow::Cow<'l, [u8]>);

/// A stretch of a manifest that cannot be read: chunks that follow each other, or lists, or single lines.
#[derive(Debug)]
pub struct Stretch {
    /// The path with which the first of them begins.
    pub from: Vec<u8>,
    /// How many entries they have, as whoever refers to them says.
    pub entries: u64,
    /// Why the first of them cannot be read.
    pub error: RepoError,
}

impl Stretch {
    /// What is to be said of it behind the path where it begins. `is_all_wanted`: nothing in it lies outside of what was
    /// asked for.
    pub fn text(&self, is_all_wanted: bool) -> String {
        let bound = if is_all_wanted { "" } else { "at most " };
        let entries = match self.entries {
            1 => "1 entry is".to_owned(),
            more => format!("{} entries are", count(more)),
        };
        let cause = causes(&self.error);
        format!(
            "a stretch of the manifest that begins there cannot be read, {bound}{entries} missing: {cause}"
        )
    }
}

/// A list, as far as it is still to come.
struct Level {
    level: u32,
    refs: std::vec::IntoIter<ChunkRef>,
    // where the list above goes on: nothing in this one reaches as far
    end: Option<Name>,
}

/// A place in a manifest from which lines are read.
pub struct ManifestReader<'a, 'r> {
    chunks: &'a mut ChunkReader<'r>,
    // the innermost list last
    lists: Vec<Level>,
    // what went wrong on the way to the first chunk, until somebody asks for that
    held: Option<RepoError>,
    // the chunk being read
    lines: Vec<u8>,
    at: usize,
    end: usize,
    previous: Vec<u8>,
    current: Option<ChunkRef>,
    // where the chunk or list that was fetched last begins
    begun: Option<Name>,
    // how many entries are lost if what is being done fails
    at_stake: u64,
}

impl<'a, 'r> ManifestReader<'a, 'r> {
    /// Reads the whole manifest.
    pub fn new(chunks: &'a mut ChunkReader<'r>, list: &List) -> Self {
        let (level, refs) = (list.level.min(MAX_LEVEL), list.chunks.clone().into_iter());
        Self {
            chunks,
            lists: vec![Level { level, refs, end: None }],
            held: None,
            lines: Vec::new(),
            at: 0,
            end: 0,
            previous: Vec::new(),
            current: None,
            begun: None,
            at_stake: 1,
        }
    }

    /// Reads from the chunk on that holds `path`, if any does. If a list on the way there cannot be read, the next call says
    /// so, and those after it go on behind that list.
    pub fn starting_at(chunks: &'a mut ChunkReader<'r>, list: &List, path: &[u8]) -> Self {
        let mut reader = Self::new(chunks, list);
        // nothing comes before the root
        if path != ROOT {
            reader.held = reader.descend(path).err();
        }
        reader
    }

    fn descend(&mut self, path: &[u8]) -> Result<()> {
        while let Some(list) = self.lists.last_mut() {
            let rest = list.refs.as_slice();
            let later = rest.partition_point(|r| compare_entries(&r.first.0, path).is_le());
            let skipped = later.saturating_sub(1);
            list.refs.by_ref().take(skipped).for_each(drop);
            if list.level == 0 || list.refs.as_slice().is_empty() {
                break;
            }
            self.enter_list()?;
        }
        Ok(())
    }

    /// The path with which the chunk or list begins that could not be read last.
    pub fn lost_from(&self) -> Option<&[u8]> {
        self.begun.as_ref().map(|name| &name.0[..])
    }

    /// Adds what could not be read last to the stretch that it follows upon, if there is one.
    pub fn lost(&self, before: Option<Stretch>, error: RepoError) -> Stretch {
        let more = self.at_stake;
        match before {
            Some(before) => Stretch { entries: before.entries.saturating_add(more), ..before },
            None => Stretch { from: self.lost_from().unwrap_or(ROOT).to_vec(), entries: more, error },
        }
    }

    /// True if what could not be read last lies behind everything that is `top` or below it.
    pub fn lost_behind(&self, top: &[u8]) -> bool {
        self.lost_from()
            .is_some_and(|from| compare_entries(from, top).is_gt() && !is_within_subtree(from, top))
    }

    // Steps over the reference that comes next in the innermost list, if that is not where it belongs. A list whose parts
    // overlapped could go on without end.
    fn check_next(&mut self) -> Result<()> {
        let Some(Level { refs, end, .. }) = self.lists.last_mut() else { return Ok(()) };
        let [of, after @ ..] = refs.as_slice() else { return Ok(()) };
        if is_in_order(of, after.first(), end.as_ref()) {
            return Ok(());
        }
        (self.begun, self.at_stake) = (Some(of.first.clone()), of.entries);
        refs.next();
        Err(FormatError::malformed("a manifest's list", "it is not in order").into())
    }

    // Goes down into the list that comes next.
    fn enter_list(&mut self) -> Result<()> {
        self.check_next()?;
        let Some(list) = self.lists.last_mut() else { return Ok(()) };
        let Some(of) = list.refs.next() else { return Ok(()) };
        let end = list.refs.as_slice().first().map(|after| after.first.clone()).or_else(|| list.end.clone());
        let level = list.level.saturating_sub(1);
        let refs = self.fetch_list(&of)?.into_iter();
        self.lists.push(Level { level, refs, end });
        Ok(())
    }

    fn fetch_list(&mut self, of: &ChunkRef) -> Result<Vec<ChunkRef>> {
        (self.begun, self.at_stake) = (Some(of.first.clone()), of.entries);
        let list = self.chunks.with_chunk(of.chunk, read_list)??;
        if !of.lists(&list) {
            return Err(
                FormatError::malformed("a manifest's list", "it is not the one it is listed as").into()
            );
        }
        Ok(list)
    }

    /// The chunk that comes next, if the reader stands between two chunks.
    ///
    /// # Errors
    /// If a list cannot be read.
    pub fn next_chunk(&mut self) -> Result<Option<&ChunkRef>> {
        if let Some(error) = self.held.take() {
            return Err(error);
        }
        if self.at < self.end {
            return Ok(None);
        }
        while let Some(list) = self.lists.last() {
            if list.refs.as_slice().is_empty() {
                self.lists.pop();
            } else if list.level == 0 {
                self.check_next()?;
                break;
            } else {
                self.enter_list()?;
            }
        }
        Ok(self.lists.last().and_then(|list| list.refs.as_slice().first()))
    }

    /// Steps over the chunk that [`Self::next_chunk`] showed.
    pub fn skip_chunk(&mut self) {
        if let Some(skipped) = self.lists.last_mut().and_then(|list| list.refs.next()) {
            // what follows must still be in order
            self.previous = skipped.first.0;
        }
    }

    /// Steps over what is left of the chunk that the last line lay in, or that could not be read.
    pub fn leave_chunk(&mut self) {
        self.at = self.end;
    }

    /// The chunk that the current line lies in.
    pub fn chunk(&self) -> Option<&ChunkRef> {
        self.current.as_ref()
    }

    /// True if the line returned last was the last of its chunk.
    pub fn at_chunk_end(&self) -> bool {
        self.at >= self.end
    }

    fn fetch_lines(&mut self) -> Result<bool> {
        if self.next_chunk()?.is_none() {
            return Ok(false);
        }
        let Some(chunk) = self.lists.last_mut().and_then(|list| list.refs.next()) else { return Ok(false) };
        (self.begun, self.at_stake) = (Some(chunk.first.clone()), chunk.entries);
        let lines = &mut self.lines;
        self.chunks.with_chunk(chunk.chunk, |bytes| {
            lines.clear();
            lines.extend_from_slice(bytes);
        })?;
        if self.lines.last() != Some(&b'\n') {
            return Err(FormatError::malformed("a manifest", "a chunk does not end with a line").into());
        }
        let count = memchr::memchr_iter(b'\n', &self.lines).count() as u64;
        if count != chunk.entries || line_path(&self.lines).as_deref() != Some(&chunk.first.0[..]) {
            return Err(FormatError::malformed("a manifest", "a chunk is not the one it is listed as").into());
        }
        self.current = Some(chunk);
        self.at_stake = 1;
        (self.at, self.end) = (0, self.lines.len());
        Ok(true)
    }

    /// The next line, without its newline, and its path. The borrow ends with the next call.
    ///
    /// # Errors
    /// If a chunk is missing or damaged, or the lines are out of order.
    pub fn next_line(&mut self) -> Result<Option<LineAndPath<'_>>> {
        if self.at >= self.end && !self.fetch_lines()? {
            return Ok(None);
        }
        let rest = &self.lines[self.at..self.end];
        let len = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = &rest[..len];
        self.at += len + 1;
        let bad = |why| RepoError::from(FormatError::malformed("a manifest", why));
        let path = line_path(line).ok_or_else(|| bad("a line does not begin with a path"))?;
        if !self.previous.is_empty() && compare_entries(&self.previous, &path).is_ge() {
            return Err(bad("its entries are not in order"));
        }
        self.previous.clear();
        self.previous.extend_from_slice(&path);
        Ok(Some((line, path)))
    }

    /// The next entry, checked.
    ///
    /// # Errors
    /// As [`Self::next_line`], and if the entry is malformed.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        self.next_entry_but(|_| false)
    }

    /// The same, but for those whose path is passed over: they are not read further than that.
    ///
    /// # Errors
    /// As [`Self::next_entry`].
    pub fn next_entry_but(&mut self, mut passed_over: impl FnMut(&[u8]) -> bool) -> Result<Option<Entry>> {
        while let Some((line, path)) = self.next_line()? {
            if !passed_over(&path) {
                return Ok(Some(Entry::read_line(line)?));
            }
        }
        Ok(None)
    }
}

/// Finds one entry.
///
/// # Errors
/// If the manifest cannot be read.
pub fn find_entry(chunks: &mut ChunkReader<'_>, list: &List, path: &[u8]) -> Result<Option<Entry>> {
    let mut reader = ManifestReader::starting_at(chunks, list, path);
    while let Some((line, found)) = reader.next_line()? {
        match compare_entries(&found, path) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => return Ok(Some(Entry::read_line(line)?)),
            std::cmp::Ordering::Greater => break,
        }
    }
    Ok(None)
}

/// Calls `found` for the entry at `path` and everything below it.
///
/// # Errors
/// If the manifest cannot be read, or `found` fails.
pub fn for_each_within(
    chunks: &mut ChunkReader<'_>,
    list: &List,
    path: &[u8],
    mut found: impl FnMut(Entry) -> Result<()>,
) -> Result<()> {
    let mut reader = ManifestReader::starting_at(chunks, list, path);
    while let Some((line, at)) = reader.next_line()? {
        if is_within_subtree(&at, path) {
            found(Entry::read_line(line)?)?;
        } else if path != ROOT && compare_paths(&at, path).is_gt() {
            break;
        }
    }
    Ok(())
}

/// Every chunk that a manifest consists of, lists included, and those of its entries.
///
/// `skip` is asked before a chunk of the manifest is read; true leaves it and all below it out.
///
/// # Errors
/// If the manifest cannot be read.
pub fn for_each_chunk(
    chunks: &mut ChunkReader<'_>,
    list: &List,
    skip: &mut dyn FnMut(ChunkId) -> bool,
    content: &mut dyn FnMut(ChunkId),
) -> Result<()> {
    let mut pending: Vec<(u32, ChunkRef)> =
        list.chunks.iter().rev().map(|r| (list.level.min(MAX_LEVEL), r.clone())).collect();
    let mut bytes = Vec::new();
    while let Some((level, of)) = pending.pop() {
        if skip(of.chunk) {
            continue;
        }
        chunks.with_chunk(of.chunk, |chunk| {
            bytes.clear();
            bytes.extend_from_slice(chunk);
        })?;
        if level > 0 {
            pending.extend(read_list(&bytes)?.into_iter().rev().map(|r| (level - 1, r)));
            continue;
        }
        for line in crate::format::manifest::lines(&bytes)? {
            crate::format::manifest::line_chunks(line, &mut *content)?;
        }
    }
    Ok(())
}
