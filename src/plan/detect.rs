//! Finds out what an application is, and writes a first plan.
