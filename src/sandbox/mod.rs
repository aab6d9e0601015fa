//! A place in which a restored application runs apart from production: at its own path, with its own
//! processes, network and temporary files, on a host that it can read but not change.
//!
//! ```text
//! parent ── lifeboat __sandbox (helper) ── first process inside ── supervisor ── command
//!           sees the parent's end          mounts, serves          a job's tree
//! ```
//!
//! The parent talks to the first process over a socket. When the parent ends, however it ends, the socket does, and with it
//! everything inside. What is active is measured from inside ([`Active`]), never assumed. It is no jail
//! for hostile code: see `docs/sandbox.md`.

mod active;
mod cgroup;
mod doors;
mod error;
mod helper;
mod init;
mod inside;
mod job;
mod mounts;
mod pipes;
mod privilege;
mod probe;
mod process;
mod recipe;
mod root;
mod run;
mod secrets;
mod terminal;
mod wire;

pub use active::{Active, Level, Measured};
pub use error::SandboxError;
pub use helper::helper;
pub use mounts::PROGRAM;
pub use probe::{Probe, probe};
pub use recipe::{Bind, Command, Ended, Limits, Network, Recipe, Stream};
pub use run::{Closed, Job, Sandbox};
