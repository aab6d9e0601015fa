//! Exit statuses. Scripts and monitoring hold on to these numbers; a number is never reused.

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Exit {
    /// Everything asked for was done.
    Done = 0,
    /// It failed; nothing finished was lost.
    Failed = 1,
    /// The command line, environment or plan was wrong; nothing was done.
    Usage = 2,
    /// Done in part: what could not be done is named.
    Partial = 3,
    /// There is no repository at the location.
    NoRepository = 10,
    /// Somebody else uses the repository in a way that this command cannot share.
    Locked = 11,
    /// A key is missing or not the right one.
    Key = 12,
    /// A drill failed: the snapshot does not come back as a working application.
    DrillFailed = 20,
    /// An objective (RTO or RPO) was missed.
    ObjectiveMissed = 21,
    /// Could not be judged: the harness broke, not the backup.
    Inconclusive = 22,
    /// The change failed its checks and was rolled back.
    RolledBack = 30,
    /// A rollback failed.
    RollbackFailed = 31,
    /// Stored data is damaged or missing.
    Damage = 40,
    /// Interrupted by SIGINT or SIGTERM.
    Interrupted = 130,
}

impl Exit {
    /// Every status, in the order of the numbers.
    pub const ALL: &[Self] = &[
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Partial,
        Self::NoRepository,
        Self::Locked,
        Self::Key,
        Self::DrillFailed,
        Self::ObjectiveMissed,
        Self::Inconclusive,
        Self::RolledBack,
        Self::RollbackFailed,
        Self::Damage,
        Self::Interrupted,
    ];

    /// The number the process exits with.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// A word that scripts may hold on to.
    pub fn id(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Partial => "partial",
            Self::NoRepository => "no-repository",
            Self::Locked => "locked",
            Self::Key => "key",
            Self::DrillFailed => "drill-failed",
            Self::ObjectiveMissed => "objective-missed",
            Self::Inconclusive => "inconclusive",
            Self::RolledBack => "rolled-back",
            Self::RollbackFailed => "rollback-failed",
            Self::Damage => "damage",
            Self::Interrupted => "interrupted",
        }
    }

    /// What it means, in one line.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed; nothing finished was lost",
            Self::Usage => "the command line, environment or plan is wrong; nothing was done",
            Self::Partial => "done in part; what could not be done is named",
            Self::NoRepository => "there is no repository at the location",
            Self::Locked => "somebody else uses the repository",
            Self::Key => "a key is missing or not the right one",
            Self::DrillFailed => "the drill failed",
            Self::ObjectiveMissed => "an objective (RTO or RPO) was missed",
            Self::Inconclusive => "could not be judged; the harness broke, not the backup",
            Self::RolledBack => "the change failed and was rolled back",
            Self::RollbackFailed => "the rollback failed",
            Self::Damage => "stored data is damaged or missing",
            Self::Interrupted => "interrupted",
        }
    }
}
