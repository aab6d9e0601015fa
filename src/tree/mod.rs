//! Living file trees: walking one in the order of manifests, what of it is looked at, and reading
//! what an entry is.

pub mod exclude;
pub mod live;
pub mod walk;
