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
