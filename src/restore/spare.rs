//! What the snapshot never held is not its to delete: what it was told to leave out, and what it could not read.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::path::Path;

use super::RestoreError;
use super::tree::Run;
use crate::base::Name;
use crate::format::manifest::{ROOT, Type};
use crate::format::snapshot::{Document, MAX_PROBLEMS, Root, UNSAVED};
use crate::repo::documents::Snapshot;
use crate::tree::exclude::{self, Excludes};
use crate::tree::walk::{Visit, join};

/// What of one root was left out. The default is nothing.
#[derive(Default)]
pub struct LeftOut {
    rules: Option<Excludes>,
    one_file_system: bool,
    root: Vec<u8>,
    // absolute, on the source
    unread: Vec<Name>,
}

/// Entries that stay where what is around them goes.
#[derive(Clone, Debug, Default)]
pub struct Spared {
    /// These, with all that is in them.
    pub entries: BTreeSet<Vec<u8>>,
    /// The directories they lie in.
    pub above: BTreeSet<Vec<u8>>,
}

impl Spared {
    /// True for an entry that is spared, and for what is in it.
    pub fn holds(&self, path: &[u8]) -> bool {
        let mut parents = memchr::memchr_iter(b'/', path).map(|end| &path[..end]).chain([path]);
        !self.entries.is_empty() && parents.any(|path| self.entries.contains(path))
    }

    /// Spares an entry that lies in `top` or is it. How many directories more must stay for that.
    pub fn add(&mut self, path: &[u8], top: &[u8]) -> u64 {
        self.entries.insert(path.to_vec());
        let mut more = 0;
        let mut at = path;
        while at != top
            && let Some(cut) = at.iter().rposition(|&b| b == b'/')
        {
            at = &at[..cut];
            more += u64::from(self.above.insert(at.to_vec()));
        }
        more
    }
}

impl LeftOut {
    /// True if a pattern left out this entry of the root.
    pub fn excludes(&self, relative: &[u8], is_dir: bool) -> bool {
        self.rules.as_ref().is_some_and(|rules| rules.matches(relative, is_dir))
    }

    /// What the document says of this root.
    ///
    /// # Errors
    /// A sentence, if that is not known as a whole: then nothing may be deleted.
    pub fn of(document: &Document, root: &Root) -> Result<Self, String> {
        let statistics = &document.statistics;
        if document.problems.len() >= MAX_PROBLEMS {
            return Err(format!(
                "{} entries could not be read when the snapshot was taken, and it does not list them all; --delete-excluded removes them all the same",
                statistics.skipped
            ));
        }
        let unread = document.problems.iter().filter(|problem| problem.code != UNSAVED);
        let unread = unread.map(|problem| problem.path.clone()).collect();
        Ok(Self { unread, ..Self::by_rules(document, root)? })
    }

    /// The same, but for what could not be read.
    ///
    /// # Errors
    /// A sentence, if the document's rules make no sense.
    pub fn by_rules(document: &Document, root: &Root) -> Result<Self, String> {
        let mut left_out = Self { root: root.path.0.clone(), ..Self::default() };
        let Some(excludes) = &document.excludes else { return Ok(left_out) };
        let options = exclude::Options {
            patterns: excludes.patterns.clone(),
            files: Vec::new(),
            caches: excludes.caches,
            markers: excludes.markers.iter().map(|marker| OsString::from(marker.as_os_str())).collect(),
        };
        let rules = Excludes::build(Path::new(root.path.as_os_str()), &options).map_err(|e| e.to_string())?;
        left_out.rules = Some(rules);
        left_out.one_file_system = excludes.one_file_system;
        Ok(left_out)
    }

    /// True if the snapshot would not have held this. `subtree` is what is restored, `device` that of its top.
    pub fn spares(&self, visit: &Visit<'_>, subtree: &[u8], device: u64) -> bool {
        let relative = if subtree == ROOT { visit.path.to_vec() } else { join(subtree, visit.path) };
        let is_dir = visit.item.live.stat.kind == Type::Dir;
        let by_rule = self.rules.as_ref().is_some_and(|rules| {
            // the root itself was never left out
            let is_in_root = !relative.contains(&b'/');
            rules.matches(&relative, is_dir) || !is_in_root && rules.left_out(visit.dir.as_fd()).is_some()
        });
        by_rule || self.one_file_system && visit.item.live.dev != device || self.is_unread(&relative)
    }

    fn is_unread(&self, relative: &[u8]) -> bool {
        if self.unread.is_empty() {
            return false;
        }
        let path = join(if self.root == b"/" { b"" } else { &self.root }, relative);
        let within = |top: &[u8]| path.strip_prefix(top).is_some_and(|rest| matches!(rest, [] | [b'/', ..]));
        self.unread.iter().any(|unread| within(&unread.0))
    }
}

impl Run<'_, '_> {
    /// What of the root a deletion spares; `None` where nothing is deleted.
    ///
    /// # Errors
    /// If the rules of what was left out make no sense.
    pub(super) fn left_out(
        &self,
        snapshot: &Snapshot,
        root: &Root,
        delete: bool,
    ) -> Result<Option<LeftOut>, RestoreError> {
        let selection = &self.options.selection;
        if !delete || !selection.is_everything_else() {
            return Ok(None);
        }
        if selection.deletes_left_out() {
            return Ok(Some(LeftOut::default()));
        }
        LeftOut::of(&snapshot.document, root).map(Some).map_err(|why| self.nothing_removed(&why))
    }

    /// The error where those rules make no sense.
    pub(super) fn nothing_removed(&self, why: &str) -> RestoreError {
        let target = Name::from(self.options.target.as_os_str());
        RestoreError::Target { target, why: format!("nothing was removed: {why}") }
    }
}
