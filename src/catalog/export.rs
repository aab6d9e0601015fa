//! A snapshot, or a part of it, as an ordinary tar archive.

use std::collections::HashMap;
use std::io::Write;

use super::content::write_stream;
use super::ls::{for_each_line, missing, output};
use super::paths::{Part, PathError, absolute};
use super::tar::{Member, write_end, write_padding};
use crate::base::event::{Event, Observer, Step};
use crate::format::manifest::{Entry, Type};
use crate::repo::reader::ChunkReader;
use crate::repo::{RepoError, Result};

/// What was written, and what an archive cannot hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Outcome {
    /// Members.
    pub entries: u64,
    /// Bytes of content, holes left out.
    pub bytes: u64,
    /// Sockets, which are left out.
    pub sockets: u64,
    /// Entries with inode flags, which are left out.
    pub flags: u64,
}

/// Why no archive was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The repository or the output failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// There is nothing of that path.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// The two readers that a run needs: one for manifests, one for content.
pub struct Readers<'r> {
    /// For manifests.
    pub manifests: ChunkReader<'r>,
    /// For content.
    pub content: ChunkReader<'r>,
}

/// Writes the archive. Its members have the paths of the source, without the slash at the front.
///
/// # Errors
/// If something cannot be read whole, or `out` fails; the archive has no end then.
pub fn export(
    readers: &mut Readers<'_>,
    parts: &[Part<'_>],
    out: &mut dyn Write,
    observer: &dyn Observer,
) -> std::result::Result<Outcome, ExportError> {
    observer.event(Event::Started { step: Step::Export, bytes: None });
    let mut outcome = Outcome::default();
    for part in parts {
        let mut archive =
            Archive { out, content: &mut readers.content, outcome: &mut outcome, links: HashMap::new() };
        let count = for_each_line(&mut readers.manifests, part, |path, line| {
            if observer.interrupted() {
                return Err(RepoError::Interrupted);
            }
            let entry = Entry::read_line(line)?;
            let bytes = archive.add(&member_path(&part.root.path.0, path, &entry), path, &entry)?;
            observer.event(Event::Advanced { entries: 1, bytes });
            Ok(())
        })?;
        if count == 0 {
            return Err(missing(part).into());
        }
    }
    write_end(out).and_then(|()| out.flush()).map_err(output)?;
    observer.event(Event::Finished);
    Ok(outcome)
}

fn member_path(root: &[u8], path: &[u8], entry: &Entry) -> Vec<u8> {
    let full = absolute(root, path);
    let start = full.iter().take_while(|&&b| b == b'/').count();
    let mut name = full[start..].to_vec();
    if name.is_empty() {
        name.push(b'.');
    }
    if entry.stat.kind == Type::Dir {
        name.push(b'/');
    }
    name
}

struct Archive<'a, 'r> {
    out: &'a mut dyn Write,
    content: &'a mut ChunkReader<'r>,
    outcome: &'a mut Outcome,
    // the first name of an inode -> the member that has its content
    links: HashMap<Vec<u8>, Vec<u8>>,
}

impl Archive<'_, '_> {
    // Returns how many bytes of content it wrote.
    fn add(&mut self, name: &[u8], path: &[u8], entry: &Entry) -> Result<u64> {
        self.outcome.flags += u64::from(!entry.flags.is_empty());
        if entry.stat.kind == Type::Socket {
            self.outcome.sockets += 1;
            return Ok(0);
        }
        // the first name may lie outside the part: then the first one inside has the content
        let inode = entry.hardlink.as_deref().unwrap_or(path);
        let link = if entry.stat.links > 1 { self.links.get(inode).cloned() } else { None };
        let member = Member { path: name, entry, link: link.as_deref() };
        let size = member.write_head(self.out).map_err(output)?;
        if size > 0 {
            write_stream(self.content, entry, self.out)?;
            write_padding(self.out, size).map_err(output)?;
        }
        if entry.stat.links > 1 && link.is_none() {
            self.links.insert(inode.to_vec(), name.to_vec());
        }
        self.outcome.entries += 1;
        self.outcome.bytes += size;
        Ok(size)
    }
}
