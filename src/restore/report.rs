//! What a restore did and what it left out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::Name;
use crate::base::error::causes;
use crate::base::event::{Event, Notice, Observer};
use crate::format::manifest::Time;

/// At most this many problems are listed; all are counted.
const MAX_PROBLEMS: usize = 10_000;

/// Something that the system did not let us restore, counted by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loss {
    /// Owner or group.
    Owner,
    /// Setuid, setgid or capability, left out because the owner is not restored.
    Privilege,
    /// An extended attribute or ACL.
    Xattr,
    /// Inode flags.
    Flags,
    /// A device, which nobody asked for or which this user may not make.
    Device,
    /// A socket; the program that listens makes it again.
    Socket,
    /// A time that this file system cannot hold.
    Time,
    /// A further name of a file, which became a file of its own.
    Link,
}

impl Loss {
    /// A word that scripts may rely on.
    pub fn code(self) -> &'static str {
        match self {
            Self::Owner => "owner-not-restored",
            Self::Privilege => "privilege-not-restored",
            Self::Xattr => "attribute-not-restored",
            Self::Flags => "flags-not-restored",
            Self::Device => "device-not-restored",
            Self::Socket => "socket-not-restored",
            Self::Time => "time-not-restored",
            Self::Link => "link-not-restored",
        }
    }

    /// What it is, and what to do.
    pub fn text(self) -> &'static str {
        match self {
            Self::Owner => "owners were not restored: that needs root",
            Self::Privilege => "setuid, setgid or capabilities were left out: they need root and the owner",
            Self::Xattr => {
                "extended attributes were not restored: this user or this file system does not allow them"
            }
            Self::Flags => "inode flags were not restored: give --flags, as root",
            Self::Device => "devices were not made: give --devices, as root",
            Self::Socket => "sockets were not made: the program that listens makes its own",
            Self::Time => "times were not restored: the file system cannot hold them",
            Self::Link => {
                "further names (hard links) are files of their own now, with all their content: the system did not allow the link \
                 (another file system or mount, too many names, or what is immutable, without --flags)"
            }
        }
    }

    /// True if something of the snapshot is really missing afterwards.
    pub fn counts(self) -> bool {
        !matches!(self, Self::Socket)
    }
}

/// An entry that was not restored, or not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path in the target.
    pub path: Name,
    /// A word for the kind of problem.
    pub code: &'static str,
    /// What happened.
    pub text: String,
}

/// Counts and problems.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Files written.
    pub files: u64,
    /// Bytes of content written.
    pub bytes: u64,
    /// Directories made or brought to their state.
    pub directories: u64,
    /// Links, devices, fifos made.
    pub others: u64,
    /// Entries that were as they should be.
    pub unchanged: u64,
    /// Entries of which only owner, mode, times or attributes were set.
    pub metadata: u64,
    /// Entries left alone because of the overwrite mode.
    pub kept: u64,
    /// Logs and journals that were not put beside a database that stayed.
    pub withheld: u64,
    /// Entries removed.
    pub deleted: u64,
    /// Entries that the snapshot never held and that a deletion therefore left.
    pub spared: u64,
    /// Entries not restored.
    pub failed: u64,
    /// True if stored data was found damaged or missing.
    pub damage: bool,
    /// The first problems.
    pub problems: Vec<Problem>,
    /// What could not be restored of entries that were.
    pub losses: BTreeMap<Loss, u64>,
    /// Of the files, what was taken over from the living tree.
    pub taken: super::Taken,
    /// Those that are the living ones, under a second name.
    pub linked: Vec<super::LinkedFile>,
}

impl Report {
    /// True if nothing was selected, or there was nothing.
    pub fn is_nothing(&self) -> bool {
        let done = [self.directories, self.files, self.others, self.unchanged];
        done == [0; 4] && [self.kept, self.withheld, self.failed] == [0; 3]
    }

    /// True if the target holds everything that was selected.
    pub fn is_complete(&self) -> bool {
        self.failed == 0 && !self.losses.keys().any(|loss| loss.counts())
    }
}

const UNKNOWN: u8 = 0;
const FINE: u8 = 1;
const COARSE: u8 = 2;

/// Collects from several threads.
pub struct Collector<'o> {
    report: Mutex<Report>,
    // what is known of how fine the times of the target's file system are
    grain: AtomicU8,
    /// Who listens.
    pub observer: &'o dyn Observer,
}

impl<'o> Collector<'o> {
    /// An empty report.
    pub fn new(observer: &'o dyn Observer) -> Self {
        Self { report: Mutex::default(), grain: AtomicU8::new(UNKNOWN), observer }
    }

    /// The report so far.
    pub fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if a time that was set should be read again: not every file system can hold it. One before 1970 or after 2037
    /// always; how fine times are shows at the first.
    pub fn may_not_hold(&self, time: Time) -> bool {
        let usual = (0..=i64::from(i32::MAX)).contains(&time.0);
        !usual || time.1 != 0 && self.grain.load(Ordering::Relaxed) != FINE
    }

    /// Notes whether a time was held.
    pub fn look_at_time(&self, time: Time, held: bool) {
        if time.1 != 0 && self.grain.load(Ordering::Relaxed) == UNKNOWN {
            self.grain.store(if held { FINE } else { COARSE }, Ordering::Relaxed);
        }
        if !held {
            self.loss(Loss::Time);
        }
    }

    /// Notes an entry that is not restored.
    pub fn problem(&self, path: &[u8], code: &'static str, text: impl ToString) {
        self.problem_of(1, path, code, text);
    }

    /// Notes so many entries that are not restored, as their part of the manifest cannot be read. It begins at this path.
    pub fn lost(&self, path: &[u8], entries: u64, text: String) {
        self.report().damage = true;
        self.problem_of(entries, path, "manifest-damaged", text);
    }

    fn problem_of(&self, entries: u64, path: &[u8], code: &'static str, text: impl ToString) {
        let problem = Problem { path: Name(path.to_vec()), code, text: text.to_string() };
        self.tell(&problem);
        let mut report = self.report();
        report.failed = report.failed.saturating_add(entries);
        if report.problems.len() < MAX_PROBLEMS {
            report.problems.push(problem);
        }
    }

    fn tell(&self, problem: &Problem) {
        let mut shown = crate::base::name::shown(problem.text.as_bytes());
        if !problem.path.0.is_empty() {
            shown = format!("{}: {shown}", problem.path);
        }
        let subject = Some(problem.path.clone());
        self.observer.event(Event::Notice(&Notice { code: problem.code, subject, text: shown }));
    }

    /// Notes a log or journal that is not put beside another database than its own.
    pub fn kept_out(&self, path: &[u8], text: String, is_failure: bool) {
        let code = "log-kept-out";
        if is_failure {
            return self.problem(path, code, text);
        }
        self.tell(&Problem { path: Name(path.to_vec()), code, text });
        self.report().withheld += 1;
    }

    /// Notes an entry that is not restored because of the repository.
    pub fn damaged(&self, path: &[u8], error: &crate::repo::RepoError) {
        self.report().damage |= error.is_damage();
        self.problem(path, "content-damaged", causes(error));
    }

    /// Notes a file that is not restored, as its chunks do not add up to it.
    pub fn wrong_size(&self, path: &[u8], text: String) {
        self.report().damage = true;
        self.problem(path, "size-wrong", text);
    }

    /// Counts something that could not be restored.
    pub fn loss(&self, loss: Loss) {
        *self.report().losses.entry(loss).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Observer for Heard {
        fn event(&self, event: Event<'_>) {
            if let Event::Notice(notice) = event {
                self.0.lock().unwrap().push(notice.text.clone());
            }
        }
    }

    #[test]
    fn what_has_no_name_is_told_without_one() {
        let heard = Heard::default();
        let collector = Collector::new(&heard);
        collector.problem(b"", "content-damaged", "packs/1 is gone");
        collector.problem(b"a/b", "content-damaged", "packs/1 is gone");
        assert_eq!(*heard.0.lock().unwrap(), ["packs/1 is gone", "a/b: packs/1 is gone"]);
    }
}
