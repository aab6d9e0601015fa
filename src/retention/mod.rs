//! What may be forgotten, and removing what is forgotten.
//!
//! The policy is pure: it reads no clock and no repository, and forgets nothing itself. Only a prune
//! deletes; it proposes first.

pub mod policy;
#[cfg(test)]
mod policy_tests;
pub mod prune;

pub use policy::{Candidate, Judgement, Policy, PolicyError, judge};
