//! Answers about snapshots, read from documents and manifests without unpacking anything.

mod above;
mod acl;
pub mod compare;
pub mod content;
pub mod cursor;
pub mod diff;
pub mod export;
pub mod list;
pub mod live;
pub mod ls;
pub mod paths;
pub mod pattern;
mod readers;
pub mod select;
pub mod tar;
pub mod versions;
