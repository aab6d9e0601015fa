//! What a running operation can say. The core never knows who listens: a terminal, JSON lines,
//! a test, or nobody.

use std::sync::atomic::{AtomicBool, Ordering};

use super::name::Name;

/// A stretch of work that takes long enough to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Reading a tree and storing what is new.
    Snapshot,
    /// Writing files.
    Restore,
    /// Reading stored objects and comparing them with their hashes.
    Verify,
    /// Finding out what is needed, and removing the rest.
    Prune,
    /// Mending a repository.
    Repair,
    /// Comparing two trees.
    Compare,
    /// Writing an archive.
    Export,
    /// A phase of a rehearsal, by its name.
    Drill(&'static str),
}

impl Step {
    /// As shown before a progress bar.
    pub fn label(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Restore => "restore",
            Self::Verify => "verify",
            Self::Prune => "prune",
            Self::Repair => "repair",
            Self::Compare => "compare",
            Self::Export => "export",
            Self::Drill(phase) => phase,
        }
    }
}

/// Something an operator should see although the operation goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The stable word for this kind of notice, such as `file-unreadable`.
    pub code: &'static str,
    /// What it is about, if that is a path or an object.
    pub subject: Option<Name>,
    /// A sentence: what happened, why, and what to do. Untrusted parts are already escaped.
    pub text: String,
}

/// One message of a running operation.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Work begins; `bytes` is the total, where it is known beforehand.
    Started {
        /// Which work.
        step: Step,
        /// Bytes to do in all.
        bytes: Option<u64>,
    },
    /// More is done.
    Advanced {
        /// Entries finished since the last event.
        entries: u64,
        /// Bytes finished since the last event.
        bytes: u64,
    },
    /// Something an operator should see.
    Notice(&'a Notice),
    /// The work that began last has ended.
    Finished,
}

/// Listens to a running operation, and may ask it to stop.
pub trait Observer: Send + Sync {
    /// Called from any thread; must be quick.
    fn event(&self, event: Event<'_>);

    /// True once the operation should end: it stops at the next clean point.
    fn interrupted(&self) -> bool {
        false
    }
}

/// Listens to nothing.
pub struct Quiet;

impl Observer for Quiet {
    fn event(&self, _: Event<'_>) {}
}

/// Says nothing of what it hears, and asks whoever it stands for whether to stop.
pub struct Silent<'o>(pub &'o dyn Observer);

impl Observer for Silent<'_> {
    fn event(&self, _: Event<'_>) {}

    fn interrupted(&self) -> bool {
        self.0.interrupted()
    }
}

/// Listens to nothing and can be told to interrupt; for tests.
#[derive(Default)]
pub struct Stopper(pub AtomicBool);

impl Observer for Stopper {
    fn event(&self, _: Event<'_>) {}
    fn interrupted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
