//! Checks: small questions about a running application, a host or a restored copy, with a verdict.
//!
//! One kind a file. A check never panics and never changes what it looks at; what it saw is kept
//! bounded and safe for a terminal. **Fail** means that the thing looked at is wrong; **error** that
//! it could not be judged.

pub mod config;
pub mod follow;
pub mod judge;
mod kinds;
pub mod line_time;
pub mod run;
mod together;
pub mod value;
pub mod verdict;

pub use config::{Check, Common, KINDS, Kind, PortName};
pub use kinds::file::matcher;
pub use run::{Context, Mark};
pub use together::run_all;
pub use verdict::{Outcome, Verdict};

#[cfg(test)]
mod tests;
