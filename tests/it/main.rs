//! One integration binary: what an operator sees, and what must stay true of the tree.

mod cli;
mod docs;
mod env;
