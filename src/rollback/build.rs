//! The new tree, built beside the live one while the service runs.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::carry::io_error;
use super::choose::Chosen;
use super::journal::Kept;
use super::moment::moment;
use super::place::Rules;
use super::propose::extra;
use super::types::{RollbackError, Subject};
use crate::base::Name;
use crate::base::event::Observer;
use crate::restore::{
    self, LinkedFile, Loss, Mode, Options, Overwrite, Report, RestoreError, Selection, TakeFrom, Taken, Twin,
};
use crate::snapshot;
use crate::sys::btrfs;

/// Builds it. What the live tree has unchanged gets a second name or is copied from there; the rest comes from the repository,
/// every chunk compared with its hash. All of it is durable when this returns.
///
/// # Errors
/// If anything could not be brought back exactly.
pub fn build(
    subject: &Subject<'_>,
    chosen: &Chosen,
    beside: &Path,
    observer: &dyn Observer,
) -> Result<(Taken, Vec<LinkedFile>), RollbackError> {
    let made = fs::DirBuilder::new().mode(0o700).create(beside);
    made.map_err(|source| {
        let path = Name::from(beside.as_os_str());
        RollbackError::Io { act: "make the directory", path, source }
    })?;
    let kept = Kept::read(subject.state)?.map(|kept| kept.path.as_os_str().into());
    let trusted_before = snapshot::trusted_before(chosen.snapshot.document.started);
    let still_since = snapshot::trusted_before(subject.repo.clock().now());
    let living = Some(TakeFrom { tree: subject.tree(), trusted_before, still_since, link: true, kept });
    let report = restored(subject, chosen, &Options { living, ..whole(beside) }, observer)?;
    moment("the new tree is built");
    Ok((report.taken, report.linked))
}

/// Builds it from a copy of the subvolume that the live tree is, in which what differs is brought back and what the snapshot does not
/// have is removed. All of it is durable when this returns. Live data is there as it was at some moment before.
///
/// # Errors
/// If anything could not be brought back exactly.
pub fn from_subvolume(
    subject: &Subject<'_>,
    chosen: &Chosen,
    carried: &[Name],
    beside: &Path,
    observer: &dyn Observer,
) -> Result<Report, RollbackError> {
    moment("before the subvolume is copied");
    btrfs::copy(&subject.tree(), beside).map_err(io_error("copy the subvolume to", beside))?;
    moment("the subvolume is copied");
    let trusted_before = snapshot::trusted_before(chosen.snapshot.document.started);
    // the live tree's inodes the kernel has at hand: what is untouched there now was so when it was copied
    let twin = Some(Twin { tree: subject.tree(), trusted_before });
    let overwrite = Overwrite::IfTouched(trusted_before);
    let mode = Mode::InPlace { overwrite, delete: true };
    let selection = Selection::sparing(carried).with_left_out(true);
    let options = Options { mode, twin, selection, delete_most: true, ..whole(beside) };
    let report = restored(subject, chosen, &options, observer)?;
    moment("the new tree is built");
    Ok(report)
}

/// What became of the files, in words.
pub fn told(taken: &Taken, chosen: &Chosen) -> String {
    let all = chosen.snapshot.document.statistics.files;
    let (linked, copied) = (taken.linked, taken.files - taken.linked);
    let shared = if taken.shared > 0 { ", their blocks shared" } else { "" };
    let copied = if copied > 0 { format!(" and {copied} copied from there{shared}") } else { String::new() };
    format!("build the new tree: of {all} files {linked} are those of the live tree{copied}")
}

/// Brings the live tree itself to the snapshot, entry by entry; what `selection` leaves out stays.
///
/// # Errors
/// If anything could not be brought back exactly.
pub fn in_place(
    subject: &Subject<'_>,
    chosen: &Chosen,
    selection: Selection,
    rules: &Rules,
    observer: &dyn Observer,
) -> Result<(), RollbackError> {
    let root = subject.plan.root();
    // a change may have left size and time as they were
    let overwrite = Overwrite::IfTouched(snapshot::trusted_before(chosen.snapshot.document.started));
    let mode = Mode::InPlace { overwrite, delete: false };
    let options = Options { mode, selection, delete_most: true, ..whole(&root) };
    moment("before the tree is rewritten");
    restored(subject, chosen, &options, observer)?;
    moment("what differs is rewritten");
    for path in extra(subject, chosen, rules, observer)? {
        let path = Path::new(path.as_os_str());
        // what stays is not only what the plan's patterns name: the log of a database that is kept, too
        let below = path.strip_prefix(&root).map(|below| Name::from(below.as_os_str()));
        if below.is_ok_and(|below| options.selection.leaves_alone(&below.0)) {
            continue;
        }
        let removed = match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => match fs::remove_dir(path) {
                // it holds live data
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
                other => other,
            },
            Ok(_) => fs::remove_file(path),
            Err(_) => Ok(()),
        };
        removed.map_err(|source| {
            let path = Name::from(path.as_os_str());
            RollbackError::Io { act: "remove", path, source }
        })?;
    }
    Ok(())
}

/// Everything, with all that it has, and durable.
pub fn whole(target: &Path) -> Options {
    Options { sync: true, ..Options::fresh(target) }
}

/// Restores the tree from the snapshot, as the options say, exactly or not at all.
///
/// # Errors
/// If anything was not brought back exactly.
pub fn restored(
    subject: &Subject<'_>,
    chosen: &Chosen,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Report, RollbackError> {
    let placements = std::slice::from_ref(&chosen.placement);
    let report = restore::restore(subject.repo, &chosen.snapshot, placements, options, observer);
    let report = report.map_err(failed)?;
    exact(&report)?;
    Ok(report)
}

/// What a restore that failed means to a rollback.
pub fn failed(error: RestoreError) -> RollbackError {
    match error {
        RestoreError::Interrupted => RollbackError::Interrupted,
        other => RollbackError::Build(other),
    }
}

// An error if anything was not brought back exactly.
fn exact(report: &Report) -> Result<(), RollbackError> {
    if let Some(problem) = report.problems.first() {
        let more = report.failed.saturating_sub(1);
        let more = if more == 0 { String::new() } else { format!(", and {more} more") };
        return Err(RollbackError::Inexact(format!("{}: {}{more}", problem.path, problem.text)));
    }
    let lost = report.losses.keys().find(|loss| loss.counts() && **loss != Loss::Flags);
    lost.map_or(Ok(()), |loss| Err(RollbackError::Inexact(loss.text().to_owned())))
}
