//! Stretches of the manifest that cannot be read: what lies in them is not restored.

use super::report::Collector;
use super::tree::relocate;
use super::{Options, Placement};
use crate::format::manifest::{ROOT, is_within_subtree};
use crate::repo::manifest_reader::Stretch;
use crate::tree::walk::join;

/// Says where a stretch begins and what it costs.
pub fn tell(gap: &Stretch, placement: &Placement, options: &Options, collector: &Collector<'_>) {
    let is_all_wanted = placement.subtree == ROOT && options.selection.is_everything();
    let text = format!(
        "{} (lifeboat verify says how far it reaches and what is probably in it)",
        gap.text(is_all_wanted)
    );
    collector.lost(&path_of(gap, placement), gap.entries, text);
}

// Where it begins, as a path in the target. What is before all that is restored begins there with the top of that.
fn path_of(gap: &Stretch, placement: &Placement) -> Vec<u8> {
    let below = match is_within_subtree(&gap.from, &placement.subtree) {
        true => relocate(gap.from.clone(), &placement.subtree),
        false => ROOT.to_vec(),
    };
    match (&placement.prefix[..], &below[..]) {
        (prefix, ROOT) => prefix.to_vec(),
        (b"", below) => below.to_vec(),
        (prefix, below) => join(prefix, below),
    }
}
