//! What was really active: measured from inside, never what was asked for.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How well a sandbox keeps apart; the better the higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Not at all: the host's files and network.
    None,
    /// Files and processes are apart; the network is the host's.
    Files,
    /// Files and processes are apart; other hosts can be reached, this host's own ports cannot.
    Outbound,
    /// Files, processes and network are apart.
    Full,
}

/// What is active in a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// The level that the measurements bear out.
    pub level: Level,
    /// What keeps apart: namespaces, filters, limits, each by a word.
    pub mechanisms: Vec<String>,
    /// What was wanted and is not there, each by a word and why.
    pub downgrades: Vec<String>,
    /// Sockets of the host's services that were covered.
    pub masked_sockets: Vec<PathBuf>,
    /// What was tried from inside, and how it came out.
    pub measured: Vec<Measured>,
}

/// One thing that was tried from inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// What.
    pub name: String,
    /// Whether it came out as isolation demands.
    pub holds: bool,
    /// What was seen.
    pub seen: String,
}
