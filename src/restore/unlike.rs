//! Which files of a tree are not what a snapshot says.

use std::collections::BTreeSet;

use super::attributes::Powers;
use super::directory::stat_in;
use super::live::is_same_but_names;
use super::living::{Around, open_tree};
use super::tree::{relocate, split};
use super::{Options, Placement, RestoreError};
use crate::base::Name;
use crate::format::manifest::is_within_subtree;
use crate::repo::Repo;
use crate::repo::documents::Snapshot;
use crate::repo::load::Condemned;
use crate::repo::manifest_reader::ManifestReader;
use crate::repo::reader::ChunkReader;

/// Which of these paths of the tree at `options.target` are not there with the content, owner, mode, time and attributes
/// that the snapshot says. They are read and held against the hashes. How many names a file has does not count.
///
/// # Errors
/// If the manifest cannot be read.
pub fn unlike(
    repo: &Repo,
    snapshot: &Snapshot,
    placement: &Placement,
    options: &Options,
    wanted: &BTreeSet<Vec<u8>>,
) -> Result<Vec<Name>, RestoreError> {
    let loaded = repo.load(Condemned::Use)?;
    let mut chunks = ChunkReader::new(repo.store(), &loaded.index, 4)?;
    let index = &loaded.index;
    let root = &snapshot.document.roots[placement.root];
    let top = open_tree(&options.target)?;
    let (powers, mut around) = (Powers::new(options, None), Around::default());
    let mut reader = ManifestReader::starting_at(&mut chunks, &root.manifest, &placement.subtree);
    let mut found: BTreeSet<&Vec<u8>> = wanted.iter().collect();
    while let Some(entry) = reader.next_entry()? {
        if !is_within_subtree(&entry.path, &placement.subtree) {
            break;
        }
        let path = relocate(entry.path.clone(), &placement.subtree);
        if !wanted.contains(&path) {
            continue;
        }
        let (parent, name) = split(&path);
        let same = around.open(&top, parent).is_some_and(|dir| {
            let live = stat_in(dir, name).ok().flatten();
            live.is_some_and(|live| is_same_but_names(&entry, &live.stat, (dir, name), &powers, index))
        });
        if same {
            found.remove(&path);
        }
    }
    Ok(found.into_iter().map(|path| Name(path.clone())).collect())
}
