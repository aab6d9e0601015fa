//! One record, many readers. Every renderer is a pure function of the record (the page also of those before
//! it), bounded in size, and safe against whatever text the record holds.

mod html;
mod in_toto;
mod junit;
mod maintenance;
mod markdown;
mod plot;
mod prometheus;

pub use html::html;
pub use in_toto::in_toto;
pub use junit::junit;
pub use maintenance::{Activity, Bound, Session, maintenance, maintenance_html, sessions};
pub use markdown::{MAX_MARKDOWN, markdown};
pub use prometheus::prometheus;

use super::record::Evidence;
use super::step::{Check, Step};
use crate::base::name::{one_line as line, shown_text};

/// Why a record could not be rendered.
#[derive(Debug, thiserror::Error)]
#[error("{what} could not be written as {form}: {cause}")]
pub struct RenderError {
    what: String,
    form: &'static str,
    cause: String,
}

impl RenderError {
    fn new(run: &Evidence, form: &'static str, cause: impl ToString) -> Self {
        Self::of(&format!("the record of run {}", line(&run.run_id)), form, cause)
    }

    fn of(what: &str, form: &'static str, cause: impl ToString) -> Self {
        Self { what: what.to_owned(), form, cause: cause.to_string() }
    }
}

/// The record as JSON: indented, keys in order, one newline at the end.
///
/// # Errors
/// If it cannot be written, which no record causes that was read or judged.
pub fn json(run: &Evidence) -> Result<String, RenderError> {
    // by way of a value, whose keys are in order
    let value = serde_json::to_value(run).map_err(|error| RenderError::new(run, "JSON", error))?;
    Ok(format!("{value:#}\n"))
}

/// At most so many characters, with a mark where something is left out.
fn short(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some((at, _)) => format!("{} …", &text[..at]),
    }
}

/// At most so many bytes from the end of a text, beginning with a whole line where there is one.
fn ending(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let cut = text.ceil_char_boundary(text.len() - limit);
    let rest = &text[cut..];
    let from = rest.find('\n').map_or(0, |at| at + 1);
    format!("[{} bytes left out]\n{}", cut + from, &rest[from..])
}

/// What a step has to say for itself: why, how it ended, its last output.
fn account_of_step(step: &Step, limit: usize) -> String {
    let mut text = shown_text(&step.reason);
    if let Some(exit) = step.exit.filter(|exit| *exit != 0) {
        text.push_str(&format!("\nexit status {exit}"));
    }
    let output = ending(shown_text(&step.output.text).trim_end(), limit);
    text.push_str(&format!("\n{output}"));
    text.trim().to_owned()
}

/// What a check has to say for itself: why, what it saw and what it should have seen.
fn account_of_check(check: &Check, limit: usize) -> String {
    let mut text = shown_text(&check.reason);
    for (what, found) in [("expected", &check.expected), ("observed", &check.observed)] {
        if !found.is_empty() {
            text.push_str(&format!("\n{what}: {}", ending(&shown_text(found), limit)));
        }
    }
    if check.attempts > 1 {
        text.push_str(&format!("\ntried {} times", check.attempts));
    }
    text.trim().to_owned()
}
