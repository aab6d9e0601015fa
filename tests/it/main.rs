//! One integration binary: what an operator sees, and what must stay true of the tree.

mod checks;
mod cli;
mod docs;
mod env;
mod plan_docs;
