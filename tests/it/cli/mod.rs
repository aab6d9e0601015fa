//! What the operator sees, command by command.

mod actions;
mod beside;
mod catalog;
mod errors;
mod export;
mod forget;
mod init;
mod log;
mod nested;
mod older;
mod plan;
mod restore;
mod restore_what;
mod sealed;
mod snapshot;
mod try_it;
mod watch;
