//! Tables: aligned columns without lines, so that they can be cut by `awk` as well as read.

use comfy_table::{Cell, ContentArrangement, Table, presets};

use crate::terminal::{Stream, one_line};

/// The longest text of a cell.
const CELL_MAX: usize = 200;

/// How a cell stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// Not at all.
    Plain,
    /// Went well.
    Green,
    /// Went wrong.
    Red,
    /// Needs a look.
    Yellow,
}

/// A table under construction.
pub struct Grid {
    table: Table,
}

impl Grid {
    /// Begins a table for a stream.
    pub fn new(stream: Stream, header: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if stream.tty {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        } else {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
        if stream.color {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        if !header.is_empty() {
            table.set_header(header.iter().map(Cell::new));
        }
        Self { table }
    }

    /// Adds a row; what others wrote is made neutral here.
    pub fn row<'a>(&mut self, cells: impl IntoIterator<Item = (&'a str, Color)>) {
        let cells: Vec<Cell> = cells
            .into_iter()
            .map(|(text, color)| {
                let cell = Cell::new(one_line(text, CELL_MAX));
                match color {
                    Color::Plain => cell,
                    Color::Green => cell.fg(comfy_table::Color::Green),
                    Color::Red => cell.fg(comfy_table::Color::Red),
                    Color::Yellow => cell.fg(comfy_table::Color::Yellow),
                }
            })
            .collect();
        self.table.add_row(cells);
    }

    /// Adds a row without colours.
    pub fn plain<'a>(&mut self, cells: impl IntoIterator<Item = &'a str>) {
        self.row(cells.into_iter().map(|text| (text, Color::Plain)));
    }

    /// The whole table.
    pub fn finish(self) -> String {
        let text = self.table.to_string();
        // The first column begins at the margin, and no line ends in spaces.
        text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_without_colours_in_a_pipe() {
        let mut grid = Grid::new(Stream::default(), &["NAME", "STATUS"]);
        grid.row([("a", Color::Plain), ("idle", Color::Green)]);
        grid.row([("longer\u{1b}[31m", Color::Plain), ("busy", Color::Red)]);
        let text = grid.finish();
        assert!(!text.contains('\u{1b}'), "{text:?}");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].find("STATUS"), lines[1].find("idle"));
        assert!(lines[2].starts_with("longer␛[31m"));
    }
}
