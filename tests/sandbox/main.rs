//! Tests of the sandbox by what runs in it: attempts to get out, the pitfalls that the design knows of, limits, and what is left.
//!
//! As root everything is done twice: as root, and as an ordinary user.

mod cost;
mod ending;
mod escapes;
mod limits;
mod pitfalls;
mod refusal;
mod terminal;
mod world;
