//! A dry run: what an entry would come to, in the counts that a run itself gives, as far as can be known without writing.

use super::links::Leader;
use super::tree::Run;
use crate::format::manifest::{Entry, Type};

impl Run<'_, '_> {
    /// Counts anything but a directory as what it would be: a file with its bytes, a further name of one, or a loss.
    pub(super) fn imagine(&mut self, path: &[u8], entry: &Entry) {
        if entry.stat.links > 1 || entry.hardlink.is_some() {
            let first = self.first_name(entry, path);
            let content = entry.inode_content();
            match self.leaders.get(&first) {
                Some(leader) if leader.content == content => {
                    self.shared.collector.report().others += 1;
                    return;
                }
                Some(_) => {}
                None => {
                    self.leaders.insert(first, Leader { path: path.to_vec(), content });
                }
            }
        }
        if self.workers.leaves_out(entry) {
            return;
        }
        self.imagine_attributes(entry);
        let mut report = self.shared.collector.report();
        match entry.stat.kind {
            Type::File => {
                report.files += 1;
                report.bytes += entry.stat.size;
            }
            _ => report.others += 1,
        }
    }

    /// Counts what an entry that is made would lose.
    pub(super) fn imagine_attributes(&mut self, entry: &Entry) {
        let Self { shared, names, .. } = self;
        shared.powers.imagine(entry, names, shared.collector);
    }
}
