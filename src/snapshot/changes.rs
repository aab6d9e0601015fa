//! What the parent's manifest says of an entry, read in step with the walk. A parent only spares work: where its manifest
//! is damaged it ends, and what comes after is new.

use crate::base::time::Timestamp;
use crate::format::manifest::{ChunkRef, Entry, List, Stat, Time, compare_entries, line_is_torn, line_says};
use crate::repo::manifest_reader::ManifestReader;
use crate::repo::reader::ChunkReader;
use crate::repo::{RepoError, Result};

/// Files whose inode changed less than this before a snapshot began may have changed again within
/// the same tick of the clock that stamps them: they are read again next time (rule F5).
const RACY_SECONDS: i64 = 2;

/// What did not change since a snapshot that began then, if its inode changed before the time that this gives, and says
/// what it said to the snapshot. What changed later may have changed again unseen.
pub fn trusted_before(started: Timestamp) -> Time {
    let (seconds, nanos) = started.parts();
    shows_after(Time(seconds, nanos))
}

/// An inode that changed before the time that this gives would show a change that came after `moment`.
pub fn shows_after(moment: Time) -> Time {
    Time(moment.0.saturating_sub(RACY_SECONDS), moment.1)
}

/// Who is told that the rest of a parent's manifest cannot be read.
pub type OnLoss<'a> = Box<dyn Fn(&RepoError) + 'a>;

/// Where the walk stands in the parent's manifest.
pub struct Parent<'a, 'r> {
    reader: Option<ManifestReader<'a, 'r>>,
    on_loss: Option<OnLoss<'a>>,
    path: Vec<u8>,
    line: Vec<u8>,
    chunk: Option<ChunkRef>,
    trusted_before: Time,
    /// Entries of the parent that the walk passed without finding them: deleted since.
    pub deleted: u64,
    /// True once a part of the manifest could not be read.
    pub lost: bool,
}

impl<'a, 'r> Parent<'a, 'r> {
    /// A parent with this manifest, taken at this time. From where the manifest is damaged on, there is no parent: `on_loss`
    /// is told once, before anything else is asked.
    ///
    /// # Errors
    /// If the store fails.
    pub fn new(
        chunks: &'a mut ChunkReader<'r>,
        list: &List,
        started: Timestamp,
        on_loss: OnLoss<'a>,
    ) -> Result<Self> {
        let mut parent = Self::none();
        parent.on_loss = Some(on_loss);
        parent.trusted_before = trusted_before(started);
        parent.reader = Some(ManifestReader::new(chunks, list));
        parent.step()?;
        Ok(parent)
    }

    /// No parent: everything is new.
    pub fn none() -> Self {
        let trusted_before = Time(i64::MIN, 0);
        Self {
            reader: None,
            on_loss: None,
            path: Vec::new(),
            line: Vec::new(),
            chunk: None,
            trusted_before,
            deleted: 0,
            lost: false,
        }
    }

    fn step(&mut self) -> Result<()> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        let (line, path) = match reader.next_line() {
            Ok(Some(next)) => next,
            Ok(None) => {
                self.reader = None;
                return Ok(());
            }
            Err(e) if e.is_unreadable() => {
                self.reader = None;
                self.lost = true;
                self.on_loss.iter().for_each(|tell| tell(&e));
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        self.path.clear();
        self.path.extend_from_slice(&path);
        self.line.clear();
        self.line.extend_from_slice(line);
        self.line.push(b'\n');
        if self.chunk.as_ref().map(|c| c.chunk) != reader.chunk().map(|c| c.chunk) {
            self.chunk = reader.chunk().cloned();
        }
        Ok(())
    }

    /// Goes to the entry of this path; true if the parent has it.
    ///
    /// # Errors
    /// If the store fails.
    pub fn seek(&mut self, path: &[u8]) -> Result<bool> {
        while self.reader.is_some() {
            match compare_entries(&self.path, path) {
                std::cmp::Ordering::Less => {
                    self.deleted += 1;
                    self.step()?;
                }
                std::cmp::Ordering::Equal => return Ok(true),
                std::cmp::Ordering::Greater => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Steps over the entry that [`Self::seek`] found.
    ///
    /// # Errors
    /// If the store fails.
    pub fn pass(&mut self) -> Result<()> {
        self.step()
    }

    /// The entry's line, with its newline, and the chunk it lies in.
    pub fn line(&self) -> (&[u8], Option<&ChunkRef>) {
        (&self.line, self.chunk.as_ref())
    }

    /// The entry itself; `None` if it cannot be understood.
    pub fn entry(&self) -> Option<Entry> {
        Entry::read_line(self.line.strip_suffix(b"\n")?).ok()
    }

    /// True if the line says exactly this of the entry (`expected` as `write_stat` wrote it), and can be believed.
    pub fn says(&self, expected: &[u8], stat: &Stat) -> bool {
        line_says(&self.line, expected) && stat.ctime < self.trusted_before && !line_is_torn(&self.line)
    }

    /// Entries that the walk has not passed are deleted too.
    ///
    /// # Errors
    /// If the store fails.
    pub fn finish(&mut self) -> Result<u64> {
        while self.reader.is_some() {
            self.deleted += 1;
            self.step()?;
        }
        Ok(self.deleted)
    }
}
