//! Words everybody uses: ids, names, times, exit codes, events. Pure values; nothing here
//! touches a disk except [`time::Clock`], which may ask what time it is.

pub mod code;
pub mod error;
pub mod event;
pub mod id;
pub mod name;
pub mod pattern;
pub mod size;
pub mod time;

pub use code::Exit;
pub use id::{ChunkId, PackId, SnapshotId};
pub use name::Name;
