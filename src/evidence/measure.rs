//! What was asked for and what was measured: times, and how far the rehearsal was kept apart.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::base::size::duration;
use crate::base::time::Timestamp;

/// A length of time in whole milliseconds, written as a number of seconds. Never negative, and 278 years at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "f64", extend("minimum" = 0))]
pub struct Seconds(Duration);

impl Seconds {
    /// The same length, cut to whole milliseconds.
    pub fn new(length: Duration) -> Self {
        let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        // a JSON number holds milliseconds without loss up to here, which is 278 years
        Self(Duration::from_millis(millis.min(1 << 43)))
    }

    /// So many seconds.
    pub fn from_secs(seconds: u64) -> Self {
        Self::new(Duration::from_secs(seconds))
    }

    /// As the standard library's type.
    pub fn duration(self) -> Duration {
        self.0
    }

    /// As a number of seconds.
    pub fn as_f64(self) -> f64 {
        self.0.as_secs_f64()
    }
}

/// As people say it (see [`duration`]), without a second unit that is zero: `15 min`, `2 h 10 min`.
impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = duration(self.0);
        let round = [" 00 s", " 00 min", " 0 h"].iter().find_map(|zero| text.strip_suffix(zero));
        f.write_str(round.unwrap_or(&text))
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_f64())
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        // rounded first: 0.007 is a little less than seven milliseconds in binary
        let length = Duration::try_from_secs_f64(seconds)
            .map_err(|error| de::Error::custom(format!("{seconds} is no length of time: {error}")))?;
        Ok(Self::new(length.saturating_add(Duration::from_micros(500))))
    }
}

/// What the application's owner asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Objectives {
    /// The longest time the application may be gone (recovery time objective), in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto_s: Option<Seconds>,
    /// The most work, counted in time, that may be lost (recovery point objective), in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_s: Option<Seconds>,
}

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Measured {
    /// From the start of the drill to the first stable health, in seconds: the *technical* recovery time. The time
    /// to notice, to decide and to replace hardware is not in it, and caches may have been warm.
    /// Absent if the application never became healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_s: Option<Seconds>,
    /// What was done, in order, and how long each took.
    pub phases: Vec<Phase>,
    /// How old the snapshot was at the (assumed) time of the disaster, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_age_s: Option<Seconds>,
    /// The longest time between two good snapshots in the window looked at, in seconds. The age alone
    /// flatters when a drill follows a backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst_gap_s: Option<Seconds>,
    /// The time of the newest data that the restored application holds, if a check asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub newest_record_at: Option<Timestamp>,
}

impl Measured {
    /// How much work, counted in time, would have been lost: the worse of age and gap.
    pub fn loss(&self) -> Option<Seconds> {
        self.snapshot_age_s.max(self.worst_gap_s)
    }
}

/// One part of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Phase {
    /// What was done, such as `restore` or `tests`.
    pub name: String,
    /// When it began, in seconds after the start of the run.
    pub start_s: Seconds,
    /// How long it took, in seconds.
    pub took_s: Seconds,
    /// Whether the recovery time holds it. Stopping and cleaning up are no part of a recovery.
    pub counted: bool,
}

/// How far a run is kept apart from production. Ordered: a later one holds all of those before it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Not at all: an absolute path leads to production, and so does a port.
    #[default]
    None,
    /// The original path is the copy and everything else is read-only; the network is the host's.
    Files,
    /// An own network too, from which other machines can be reached but not this host.
    Outbound,
    /// Own mount, process, network and IPC namespaces; nothing outside can be reached.
    Full,
}

impl Level {
    /// The word in records.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Files => "files",
            Self::Outbound => "outbound",
            Self::Full => "full",
        }
    }

    /// What it means, in a sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::None => "none: absolute paths and ports led to production",
            Self::Files => "files only: the copy lay at its original path, but used this host's network",
            Self::Outbound => "files and this host: other machines on the network could be reached",
            Self::Full => "full: own files, processes and network; nothing outside could be reached",
        }
    }
}

/// How the run was kept apart: what was really active, never what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Isolation {
    /// What the plan or the operator asked for at least.
    pub requested: Level,
    /// What was active.
    pub active: Level,
    /// How it was done, such as `mount namespace` or `cgroup v2`.
    pub mechanisms: Vec<String>,
    /// What this host did not allow, and what was done instead.
    pub downgrades: Vec<String>,
    /// How many sockets of running services were hidden from the copy.
    pub masked_sockets: u32,
}
