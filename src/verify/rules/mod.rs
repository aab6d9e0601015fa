//! The rules: each looks at one thing and adds what it finds.

pub mod acts;
pub mod config;
pub mod documents;
pub mod index;
pub mod objects;
pub mod packs;
pub mod records;
pub mod recovery;
pub mod sequences;
pub mod writers;

use std::error::Error;

use crate::base::error::causes;

/// Why an object cannot be read, for a sentence that names it.
fn why(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), causes)
}
