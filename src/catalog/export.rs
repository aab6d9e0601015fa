//! A snapshot, or a part of it, as an ordinary tar archive.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

use super::above::{Above, Holder};
use super::content::write_stream;
use super::ls::{missing, output};
use super::paths::{Part, PathError, absolute};
use super::tar::{Member, write_end, write_padding};
use crate::base::error::causes;
use crate::base::event::{Event, Notice, Observer, Step};
use crate::base::id::ChunkId;
use crate::base::name::Name;
use crate::format::manifest::{Entry, Type, compare_entries, is_within_subtree};
use crate::repo::manifest_reader::ManifestReader;
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
    /// Entries that are damaged and were left out.
    pub damaged: u64,
    /// Stretches of the manifest that could not be read: what is in them is missing.
    pub stretches: u64,
    /// Entries that lie in no directory of the manifest and were left out.
    pub refused: u64,
}

/// A content of at most so many bytes is held whole before its header is written; a larger one is read twice.
const HELD: u64 = 16 << 20;

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

/// Writes the archive. Its members have the paths of the source, without the slash at the front. What is damaged is
/// left out and told to the observer: an archive cannot hold half a file.
///
/// # Errors
/// If the store or `out` fails; the archive has no end then.
pub fn export(
    readers: &mut Readers<'_>,
    parts: &[Part<'_>],
    out: &mut dyn Write,
    observer: &dyn Observer,
) -> std::result::Result<Outcome, ExportError> {
    observer.event(Event::Started { step: Step::Export, bytes: None });
    let mut outcome = Outcome::default();
    let mut others = Others::of(parts);
    for part in parts {
        let mut archive = Archive {
            others: &mut others,
            out,
            content: &mut readers.content,
            outcome: &mut outcome,
            observer,
            above: Above::new(&part.top),
            is_whole: true,
            links: HashMap::new(),
            held: Vec::new(),
        };
        if !archive.add_part(&mut readers.manifests, part)? {
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

// What other parts have at the tops of parts.
#[derive(Default)]
struct Others {
    tops: HashSet<Vec<u8>>,
    // of those, where something is that is no directory
    taken: HashSet<Vec<u8>>,
}

impl Others {
    fn of(parts: &[Part<'_>]) -> Self {
        let tops = parts.iter().map(|part| absolute(&part.root.path.0, &part.top));
        // one by itself has no others
        Self { tops: if parts.len() > 1 { tops.collect() } else { HashSet::new() }, ..Self::default() }
    }

    fn have(&self, root: &[u8], entry: &Entry) -> bool {
        !self.taken.is_empty() && self.taken.contains(&absolute(root, &entry.path))
    }

    fn add(&mut self, root: &[u8], entry: &Entry) {
        if entry.stat.kind != Type::Dir && !self.tops.is_empty() {
            let path = absolute(root, &entry.path);
            if self.tops.contains(&path) {
                self.taken.insert(path);
            }
        }
    }
}

struct Archive<'a, 'r> {
    others: &'a mut Others,
    out: &'a mut dyn Write,
    content: &'a mut ChunkReader<'r>,
    outcome: &'a mut Outcome,
    observer: &'a dyn Observer,
    above: Above,
    // nothing of the manifest was lost so far
    is_whole: bool,
    // the first name of an inode -> its content, and the member that has it
    links: HashMap<Vec<u8>, (ChunkId, Vec<u8>)>,
    // the content of one file
    held: Vec<u8>,
}

impl Archive<'_, '_> {
    // False if the part has nothing, and nothing of it is damaged.
    fn add_part(&mut self, manifests: &mut ChunkReader<'_>, part: &Part<'_>) -> Result<bool> {
        let root = &part.root.path.0;
        let mut reader = ManifestReader::starting_at(manifests, &part.root.manifest, &part.top);
        let mut found = false;
        loop {
            if self.observer.interrupted() {
                return Err(RepoError::Interrupted);
            }
            match reader.next_entry() {
                Ok(None) => return Ok(found),
                Ok(Some(entry)) if is_within_subtree(&entry.path, &part.top) => {
                    if !found && entry.stat.kind == Type::Dir && self.others.have(root, &entry) {
                        self.refuse(
                            &absolute(root, &entry.path),
                            "another root has a link or a file in its place; export it by itself",
                        );
                        return Ok(true);
                    }
                    found = true;
                    self.add_or_leave_out(root, &entry)?;
                }
                Ok(Some(entry)) => {
                    if compare_entries(&entry.path, &part.top).is_gt() {
                        return Ok(found);
                    }
                }
                Err(e) if e.is_unreadable() && reader.lost_behind(&part.top) => return Ok(found),
                // one bad line or stretch does not stop the others
                Err(e) if e.is_unreadable() => {
                    found = true;
                    let from = reader.lost_from().filter(|from| compare_entries(from, &part.top).is_gt());
                    self.lose(&absolute(root, from.unwrap_or(&part.top)), &e);
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn add_or_leave_out(&mut self, root: &[u8], entry: &Entry) -> Result<()> {
        let refused = match self.above.holder(&entry.path) {
            Holder::Directory => None,
            // its directory may be in what was lost
            Holder::Missing if !self.is_whole => None,
            Holder::Missing => Some("the directory that holds it is not in the manifest"),
            Holder::Other => Some("the directory that holds it is no directory in the manifest"),
        };
        if let Some(why) = refused {
            self.refuse(&absolute(root, &entry.path), why);
            return Ok(());
        }
        self.above.enter(&entry.path, entry.stat.kind);
        self.others.add(root, entry);
        let bytes = match self.add(&member_path(root, &entry.path, entry), entry)? {
            Added::Whole(bytes) => bytes,
            Added::Damaged(error) => {
                self.leave_out(&absolute(root, &entry.path), &error);
                0
            }
        };
        self.observer.event(Event::Advanced { entries: 1, bytes });
        Ok(())
    }

    // Whoever unpacks it would follow a link, or make what the snapshot does not hold.
    fn refuse(&mut self, path: &[u8], why: &str) {
        self.outcome.refused += 1;
        let subject = Name(path.to_vec());
        let text = format!("{}: left out: {why}", subject.shown());
        self.observer.event(Event::Notice(&Notice { code: "no-parent", subject: Some(subject), text }));
    }

    // A stretch of the manifest, which begins with this path.
    fn lose(&mut self, path: &[u8], error: &RepoError) {
        self.outcome.stretches += 1;
        self.is_whole = false;
        let subject = Name(path.to_vec());
        let text = format!(
            "{}: a stretch of the manifest that begins there cannot be read, what is in it is missing: {}",
            subject.shown(),
            causes(error)
        );
        self.observer.event(Event::Notice(&Notice {
            code: "manifest-damaged",
            subject: Some(subject),
            text,
        }));
    }

    fn leave_out(&mut self, path: &[u8], error: &RepoError) {
        self.outcome.damaged += 1;
        let subject = Name(path.to_vec());
        let text = format!("{}: damaged, left out: {}", subject.shown(), causes(error));
        self.observer.event(Event::Notice(&Notice { code: "content-damaged", subject: Some(subject), text }));
    }

    fn add(&mut self, name: &[u8], entry: &Entry) -> Result<Added> {
        if entry.stat.kind == Type::Socket {
            self.outcome.sockets += 1;
            return Ok(Added::Whole(0));
        }
        // the first name may lie outside the part: then the first one inside has the content
        let inode = entry.hardlink.as_deref().unwrap_or(&entry.path);
        let has_more = entry.stat.links > 1 || entry.hardlink.is_some();
        let content = has_more.then(|| entry.inode_content());
        let known = content.and_then(|content| Some((content, self.links.get(inode)?)));
        // one that says that it is the same and is not comes as it is, by itself
        let link = known.and_then(|(content, (of, name))| (content == *of).then(|| name.clone()));
        let has_content = entry.stat.kind == Type::File && link.is_none();
        // before the header is written, which promises the whole content
        if has_content && let Err(e) = self.prove(entry) {
            return if e.is_unreadable() { Ok(Added::Damaged(e)) } else { Err(e) };
        }
        self.outcome.flags += u64::from(!entry.flags.is_empty());
        let member = Member { path: name, entry, link: link.as_deref() };
        let size = member.write_head(self.out).map_err(output)?;
        if size > 0 {
            if size <= HELD {
                self.out.write_all(&self.held).map_err(output)?;
            } else {
                write_stream(self.content, entry, self.out)?;
            }
            write_padding(self.out, size).map_err(output)?;
        }
        if let Some(content) = content {
            self.links.entry(inode.to_vec()).or_insert_with(|| (content, name.to_vec()));
        }
        self.outcome.entries += 1;
        self.outcome.bytes += size;
        Ok(Added::Whole(size))
    }

    // Reads the content whole: into memory, or to nowhere.
    fn prove(&mut self, entry: &Entry) -> Result<()> {
        self.held.clear();
        if entry.stream_len() <= HELD {
            write_stream(self.content, entry, &mut self.held)
        } else {
            write_stream(self.content, entry, &mut io::sink())
        }
    }
}

enum Added {
    // so many bytes of content
    Whole(u64),
    Damaged(RepoError),
}
