//! Results as tables: no frames, two spaces between columns, a line under the header.
//!
//! The width is given, so that tests and pipes see the same as a terminal of that width. Cells are
//! printed as they are: whatever comes from outside (names, hosts, tags) must have been through
//! [`crate::base::name::shown`] already.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Row, Table as Layout};

/// How a column is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On the right, never broken: counts, sizes, durations.
    Number,
    /// On the left, never broken: ids, dates, codes.
    Word,
    /// On the left, broken into lines where there is no room: paths, tags, sentences.
    Text,
}

/// A table being filled.
#[derive(Clone, Debug)]
pub struct Table {
    kinds: Vec<Kind>,
    layout: Layout,
}

impl Table {
    /// A table of these columns: title and kind.
    pub fn new(columns: &[(&str, Kind)]) -> Self {
        let mut layout = Layout::new();
        layout.load_style(NOTHING.header_separator(LineStyle::none().fill('-')));
        layout.set_header(columns.iter().map(|(title, _)| *title));
        Self { kinds: columns.iter().map(|(_, kind)| *kind).collect(), layout }
    }

    /// Adds a row: a cell for each column, of text that is safe for a terminal.
    pub fn row<C: ToString>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.layout.add_row(Row::from(cells.into_iter().map(|cell| cell.to_string())));
    }

    /// True if it has no row.
    pub fn is_empty(&self) -> bool {
        self.layout.is_empty()
    }

    /// The text, with a newline at its end. It stays within `width` columns where numbers and words allow
    /// that; without a width nothing is broken.
    pub fn render(mut self, width: Option<u16>) -> String {
        if let Some(width) = width {
            self.layout.set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
        } else {
            self.layout.set_content_arrangement(ContentArrangement::Disabled);
        }
        let last = self.kinds.len().saturating_sub(1);
        for (i, (column, kind)) in self.layout.column_iter_mut().zip(&self.kinds).enumerate() {
            column.set_padding((0, if i == last { 0 } else { 2 }));
            if *kind == Kind::Number {
                column.set_cell_alignment(CellAlignment::Right);
            }
            if *kind != Kind::Text {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        let mut text = self.layout.trim_fmt();
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes() -> Table {
        let mut table = Table::new(&[("id", Kind::Word), ("size", Kind::Number), ("path", Kind::Text)]);
        table.row(["3f2a9100", "812 B", "/srv/app"]);
        table.row(["77c0de01", "1.5 GiB", "/var/lib/a long name/größe"]);
        table
    }

    #[test]
    fn numbers_stand_on_the_right_and_nothing_is_broken_without_a_width() {
        insta::assert_snapshot!(sizes().render(None), @r"
        id           size  path
        ---------------------------------------------
        3f2a9100    812 B  /srv/app
        77c0de01  1.5 GiB  /var/lib/a long name/größe
        ");
    }

    #[test]
    fn text_is_broken_where_there_is_no_room() {
        insta::assert_snapshot!(sizes().render(Some(36)), @r"
        id           size  path
        ------------------------------------
        3f2a9100    812 B  /srv/app
        77c0de01  1.5 GiB  /var/lib/a long
                           name/größe
        ");
    }

    #[test]
    fn a_terminal_that_is_far_too_narrow_does_no_harm() {
        for width in 0..20 {
            let text = sizes().render(Some(width));
            assert!(text.contains("3f2a9100") && text.contains("1.5 GiB"), "{width}: {text}");
        }
    }

    #[test]
    fn a_table_without_rows_has_its_header() {
        let table = Table::new(&[("id", Kind::Word), ("size", Kind::Number)]);
        assert!(table.is_empty());
        assert_eq!(table.render(Some(80)), "id  size\n--------\n");
        assert_eq!(Table::new(&[]).render(None), "\n");
    }
}
