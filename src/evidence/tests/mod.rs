//! Records to render, the rules of the verdict, and what renderers must stand.

mod actions;
mod browser;
mod logged;
mod output;
mod rendered;
mod rules;
mod samples;
mod sessions;
