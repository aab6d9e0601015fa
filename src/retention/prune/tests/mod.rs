//! The heart of the matter: whatever happens, every finished snapshot comes back bit for bit.

mod alone;
mod calls;
mod crash;
mod interleaved;
mod model;
mod refusals;
mod support;
mod together;
