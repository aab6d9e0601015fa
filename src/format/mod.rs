//! The bytes of a repository: `docs/format.md` in code, one file per section. No storage, no
//! clock, no keys, so every decoder here can be fuzzed by itself.
//!
//! Everything decoded is hostile until its hash has been compared: lengths are bounded before
//! memory is taken, and every error says what was wrong.

pub mod brief;
pub mod frame;
pub mod index;
pub mod manifest;
pub mod pack;
pub mod record;
pub mod repository;
pub mod snapshot;
pub mod source;

use crate::base::name::shown_message;

/// Why bytes are not what the format says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The bytes do not follow the format.
    #[error("{what} is malformed: {why}")]
    Malformed {
        /// Which kind of object.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Larger than a reader accepts (section 12).
    #[error("{what} has {have} bytes or items, more than the {limit} allowed")]
    TooLarge {
        /// Which kind of object or part.
        what: &'static str,
        /// How much there is.
        have: u64,
        /// How much is allowed.
        limit: u64,
    },
    /// Written by a newer Lifeboat.
    #[error("the repository has format version {have}; this program reads up to {known}")]
    Newer {
        /// The version found.
        have: u32,
        /// The newest version known.
        known: u32,
    },
    /// The repository needs something that this version does not know.
    #[error("the repository needs the feature `{0}`, which this version does not know")]
    UnknownFeature(String),
}

impl FormatError {
    pub(crate) fn malformed(what: &'static str, why: impl ToString) -> Self {
        // a parser's message may quote what it read, which is hostile
        Self::Malformed { what, why: shown_message(&why.to_string()) }
    }
}

/// Refuses more than `limit`.
pub(crate) fn bounded(what: &'static str, have: u64, limit: u64) -> Result<(), FormatError> {
    if have > limit { Err(FormatError::TooLarge { what, have, limit }) } else { Ok(()) }
}
