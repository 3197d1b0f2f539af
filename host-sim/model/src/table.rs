//! Tables in the terminal: a rule under the heading and nothing else; words to the left, numbers to the right.

use comfy_table::{Cell, CellAlignment, LineStyle, TableStyle};
use std::fmt;

/// A rule under the heading.
const RULED: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A table as it is shown in the terminal.
#[derive(Debug)]
pub struct Table {
    cells: comfy_table::Table,
    /// Columns of words, from the left.
    words: usize,
}

impl Table {
    /// An empty table; the first `words` columns of its heading are set to the left, the others to the right.
    pub fn new<T: ToString>(words: usize, heading: impl IntoIterator<Item = T>) -> Self {
        let mut table = Self { cells: comfy_table::Table::new(), words };
        table.cells.load_style(RULED);
        let heading = table.aligned(heading);
        table.cells.set_header(heading);
        table.cells.column_iter_mut().for_each(|column| {
            column.set_padding((1, 0));
        });
        table
    }

    /// Adds a row, a cell for each column of the heading.
    pub fn add_row<T: ToString>(&mut self, row: impl IntoIterator<Item = T>) {
        let row = self.aligned(row);
        self.cells.add_row(row);
    }

    fn aligned<T: ToString>(&self, row: impl IntoIterator<Item = T>) -> Vec<Cell> {
        let alignment = |column| if column < self.words { CellAlignment::Left } else { CellAlignment::Right };
        let cells = row.into_iter().enumerate();
        cells.map(|(column, text)| Cell::new(text.to_string()).set_alignment(alignment(column))).collect()
    }
}

impl fmt::Display for Table {
    /// Lines without spaces at their ends, and without a line feed after the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, line) in self.cells.lines().enumerate() {
            let feed = if number > 0 { "\n" } else { "" };
            write!(f, "{feed}{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_to_the_left_and_numbers_to_the_right() {
        let mut table = Table::new(2, ["operator", "shape", "MACs"]);
        table.add_row(["conv", "3x3", "7"]);
        table.add_row(["dense", "", "12345"]);
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().collect();
        let starts = [("conv", "operator"), ("dense", "operator"), ("3x3", "shape")];
        for (cell, heading) in starts {
            let line = lines[2..].iter().find(|line| line.contains(cell)).unwrap();
            assert_eq!(line.find(cell), lines[0].find(heading), "{text}");
        }
        let ends: Vec<usize> = [0, 2, 3].map(|line| lines[line].len()).into();
        assert!(lines[0].ends_with("MACs") && lines[2].ends_with(" 7") && lines[3].ends_with("12345"));
        assert!(ends.iter().all(|end| *end == ends[0]), "{text}");
        assert!(lines[1].chars().all(|c| c == '─') && lines.len() == 4, "{text}");
    }
}
