//! Lists: columns for people, a JSON object a line for programs.

use std::io::Write;

use clap::ValueEnum;
use serde_json::{Map, Value};

use crate::exit::Result;

/// The least width of a column, and what is between two: Docker's.
const LEAST: usize = 10;
const BETWEEN: usize = 3;

/// How a list is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns.
    #[default]
    Table,
    /// A JSON object a line.
    Json,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// Above it; one without is for programs alone.
    title: &'static str,
    /// In JSON.
    key: &'static str,
}

/// Rows to be written.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    columns: [Column; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// Of these columns: title and key.
    pub(crate) fn new(columns: [(&'static str, &'static str); N]) -> Self {
        Self { columns: columns.map(|(title, key)| Column { title, key }), rows: Vec::new() }
    }

    /// One more row.
    pub(crate) fn push(&mut self, row: [String; N]) {
        self.rows.push(row);
    }

    /// What stands first in each row: a name, or an id.
    pub(crate) fn first_column(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().filter_map(|row| row.first().map(String::as_str))
    }

    /// Writes it to standard output.
    pub(crate) fn show(&self, format: Format) -> Result<()> {
        let text = match format {
            Format::Table => self.text(),
            Format::Json => self.json(),
        };
        Ok(std::io::stdout().write_all(text.as_bytes())?)
    }

    /// Columns below their titles.
    pub(crate) fn text(&self) -> String {
        let mut lines = vec![String::new(); self.rows.len() + 1];
        let shown: Vec<usize> = (0..N).filter(|n| !self.columns[*n].title.is_empty()).collect();
        for (place, &n) in shown.iter().enumerate() {
            let mut cells = vec![self.columns[n].title.to_owned()];
            cells.extend(self.rows.iter().map(|row| printable(&row[n])));
            let longest = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
            let width = if place + 1 == shown.len() { 0 } else { (longest + BETWEEN).max(LEAST) };
            for (line, cell) in lines.iter_mut().zip(cells) {
                line.push_str(&format!("{cell:<width$}"));
            }
        }
        lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    fn json(&self) -> String {
        let object = |row: &[String; N]| {
            let pairs = self.columns.iter().zip(row);
            let pairs = pairs.map(|(column, cell)| (column.key.to_owned(), Value::from(cell.as_str())));
            format!("{}\n", Value::Object(Map::from_iter(pairs)))
        };
        self.rows.iter().map(object).collect()
    }
}

/// What others have written must not move the cursor.
fn printable(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect()
}

/// At most so many characters, the last one of them `…` if there are more.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table<3> {
        let mut table = Table::new([("NAME", "Name"), ("", "Hidden"), ("A LONG TITLE", "Long")]);
        table.push(["a".into(), "x".into(), "one".into()]);
        table.push(["a name that is long".into(), "y".into(), String::new()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_nothing_stands_at_a_lines_end() {
        let wanted = "NAME                  A LONG TITLE\n\
                      a                     one\n\
                      a name that is long\n";
        assert_eq!(table().text(), wanted);
    }

    #[test]
    fn a_narrow_column_has_the_least_width_and_wide_characters_count_once() {
        let mut table = Table::new([("A", "A"), ("B", "B")]);
        table.push(["é…".into(), "x".into()]);
        assert_eq!(table.text(), "A         B\né…        x\n");
    }

    #[test]
    fn json_is_an_object_a_line_with_what_no_column_shows() {
        let text = table().json();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["Name"], "a");
        assert_eq!(lines[1]["Hidden"], "y");
    }

    #[test]
    fn what_would_move_the_cursor_is_escaped() {
        let mut table = Table::new([("A", "A")]);
        table.push(["x\n\x1b[2J".into()]);
        assert_eq!(table.text(), "A\nx\\n\\u{1b}[2J\n");
    }

    #[test]
    fn a_long_text_is_shortened_by_characters() {
        assert_eq!(shortened("ééé", 3), "ééé");
        assert_eq!(shortened("éééé", 3), "éé…");
    }
}
