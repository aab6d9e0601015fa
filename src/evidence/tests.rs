//! Records to render, the rules of the verdict, and what renderers must stand.

mod output;
mod rendered;
mod rules;
mod samples;
