//! A place in a manifest that knows the path of what comes next before it is read, so that two
//! manifests can be read in step and what they share can be skipped.

use std::borrow::Cow;

use super::paths::Part;
use crate::base::id::ChunkId;
use crate::base::name::{compare_paths, is_within};
use crate::format::manifest::ROOT;
use crate::repo::Result;
use crate::repo::manifest_reader::ManifestReader;
use crate::repo::reader::ChunkReader;

/// What comes next.
enum Next {
    /// A line, which is read already.
    Line,
    /// A chunk that is not read yet; its first path is known.
    Chunk(ChunkId),
    /// Nothing.
    End,
}

/// A place in the part of a manifest.
pub struct Cursor<'a, 'r> {
    reader: ManifestReader<'a, 'r>,
    top: Vec<u8>,
    next: Next,
    path: Vec<u8>,
    line: Vec<u8>,
}

impl<'a, 'r> Cursor<'a, 'r> {
    /// Before the first entry of the part.
    ///
    /// # Errors
    /// If the manifest cannot be read.
    pub fn new(chunks: &'a mut ChunkReader<'r>, part: &Part<'_>) -> Result<Self> {
        let reader = ManifestReader::starting_at(chunks, &part.root.manifest, &part.top);
        let (path, line) = (Vec::new(), Vec::new());
        let mut cursor = Self { reader, top: part.top.clone(), next: Next::End, path, line };
        cursor.pass()?;
        Ok(cursor)
    }

    /// The path of what comes next, relative to the root.
    pub fn path(&self) -> Option<&[u8]> {
        match self.next {
            Next::End => None,
            _ => Some(&self.path),
        }
    }

    /// The chunk that begins with what comes next, if nothing of it is read yet.
    pub fn chunk(&self) -> Option<ChunkId> {
        match self.next {
            Next::Chunk(id) => Some(id),
            _ => None,
        }
    }

    /// The line that comes next, without its newline.
    ///
    /// # Errors
    /// If its chunk cannot be read.
    pub fn line(&mut self) -> Result<&[u8]> {
        if self.chunk().is_some() {
            self.read_line()?;
        }
        Ok(&self.line)
    }

    /// Steps over the chunk that [`Self::chunk`] showed.
    ///
    /// # Errors
    /// If what follows cannot be read.
    pub fn skip_chunk(&mut self) -> Result<()> {
        self.reader.skip_chunk();
        self.pass()
    }

    /// Steps over the entry that comes next.
    ///
    /// # Errors
    /// If what follows cannot be read.
    pub fn pass(&mut self) -> Result<()> {
        if self.chunk().is_some() {
            // its first line is the entry to step over
            self.read_line()?;
        }
        loop {
            let peeked = self.reader.next_chunk()?.map(|of| (of.first.0.clone(), of.chunk));
            match peeked {
                Some((first, id)) if is_within(&first, &self.top) => {
                    self.path = first;
                    self.next = Next::Chunk(id);
                    return Ok(());
                }
                Some((first, _)) if is_after(&first, &self.top) => {
                    self.next = Next::End;
                    return Ok(());
                }
                _ => self.read_line()?,
            }
            match self.next {
                Next::Line if is_within(&self.path, &self.top) => return Ok(()),
                Next::Line if is_after(&self.path, &self.top) => self.next = Next::End,
                _ => {}
            }
            if matches!(self.next, Next::End) {
                return Ok(());
            }
        }
    }

    fn read_line(&mut self) -> Result<()> {
        let Some((line, path)) = self.reader.next_line()? else {
            self.next = Next::End;
            return Ok(());
        };
        self.line.clear();
        self.line.extend_from_slice(line);
        match path {
            Cow::Borrowed(path) => {
                self.path.clear();
                self.path.extend_from_slice(path);
            }
            Cow::Owned(path) => self.path = path,
        }
        self.next = Next::Line;
        Ok(())
    }
}

// Past everything that lies at `top` or below it.
fn is_after(path: &[u8], top: &[u8]) -> bool {
    path != ROOT && top != ROOT && !is_within(path, top) && compare_paths(path, top).is_gt()
}
