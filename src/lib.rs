//! Lifeboat: backup, restore and disaster recovery that proves by rehearsal that it works.
//!
//! The map, lowest layer first; `tests/it/layering.rs` holds the table of who may use whom.

// words everybody uses
pub mod base;

// the operating system
pub mod sys;

// bytes, places, living trees
pub mod chunker;
pub mod database;
pub mod format;
pub mod store;
pub mod tree;

// a repository as a whole
pub mod logbook;
pub mod repo;

// what a host remembers of an application, and has seen of a repository
pub mod state;
pub mod witness;

// a place to run what was restored
pub mod sandbox;

// what a practised recovery leaves
pub mod evidence;

// the plan and its checks
pub mod capacity;
pub mod check;
pub mod health;
pub mod plan;
pub mod rotate;
pub mod security;

// the application's start and stop
pub mod service;

// operations: neighbours that do not know each other
pub mod catalog;
pub mod repair;
pub mod restore;
pub mod retention;
pub mod snapshot;
pub mod verify;

// the rehearsal, which stands on all of them
pub mod drill;

// the living application back to a snapshot
pub mod rollback;

// the guarded change
pub mod guard;
// procedures, and who is told how they went
pub mod notify;
pub mod runbook;

// whether a recovery would go well now
pub mod readiness;

// the same as a page
pub mod report;

// the terminal
pub mod cli;
