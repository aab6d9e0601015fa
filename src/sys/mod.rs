//! What the operating system knows: names of users and hosts, limits, randomness, attributes of
//! files by descriptor. Linux only, and only through safe wrappers.

pub mod attributes;
pub mod btrfs;
pub mod clock;
pub mod filter;
pub mod host;
pub mod memory;
pub mod names;
pub mod namespace;
pub mod pages;
pub mod process;
pub mod process_facts;
pub mod process_tree;
pub mod sha256;
pub mod space;
pub mod writers;
