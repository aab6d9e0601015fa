//! Living file trees: walking one in the order of manifests, what of it is looked at, reading what an
//! entry is, and removing one.

pub mod exclude;
pub mod live;
pub mod remove;
pub mod walk;
