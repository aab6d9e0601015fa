//! Where in its file each value of a plan stands.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A place in a file, counted from 1; columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// The lines of a text, found once.
pub struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    /// Of this text.
    pub fn new(text: &'t str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// Where this byte is.
    pub fn place(&self, at: usize) -> Place {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let line = self.starts.partition_point(|&start| start <= at);
        let start = self.starts[line - 1];
        Place { line, column: self.text[start..at].chars().count() + 1 }
    }
}

/// Every key of a table with its place: `drill.limits.time`, `check[0].name`.
pub fn of_table(table: &DeTable<'_>, lines: &Lines<'_>) -> BTreeMap<String, Place> {
    let mut found = BTreeMap::new();
    walk_table(table, "", lines, &mut found);
    found
}

fn walk_table(table: &DeTable<'_>, path: &str, lines: &Lines<'_>, found: &mut BTreeMap<String, Place>) {
    for (key, value) in table.iter() {
        let name: &str = key.get_ref();
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        walk_value(value, path, key.span(), lines, found);
    }
}

fn walk_value(
    value: &Spanned<DeValue<'_>>,
    path: String,
    at: Range<usize>,
    lines: &Lines<'_>,
    found: &mut BTreeMap<String, Place>,
) {
    match value.get_ref() {
        DeValue::Table(table) => walk_table(table, &path, lines, found),
        DeValue::Array(list) => {
            for (i, item) in list.iter().enumerate() {
                walk_value(item, format!("{path}[{i}]"), item.span(), lines, found);
            }
        }
        _ => {}
    }
    found.insert(path, lines.place(at.start));
}
