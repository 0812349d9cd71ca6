//! A table as text.

use std::io::stdout;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::wrap;

/// Between two columns.
const GAP: usize = 2;

/// A table by columns, so that a narrow terminal can go without some of them.
pub struct Columns(Vec<(&'static str, Vec<String>)>);

impl Columns {
    pub fn new(headings: &[&'static str]) -> Self {
        Columns(
            headings
                .iter()
                .map(|heading| (*heading, Vec::new()))
                .collect(),
        )
    }

    pub fn extend_if(&mut self, wanted: bool, headings: &[&'static str]) {
        if wanted {
            self.0.extend(Columns::new(headings).0);
        }
    }

    pub fn add(&mut self, row: impl IntoIterator<Item = String>) {
        self.0
            .iter_mut()
            .zip(row)
            .for_each(|((_, cells), cell)| cells.push(cell));
    }

    fn width(&self) -> usize {
        let widest = |(heading, cells): &(&str, Vec<String>)| {
            cells
                .iter()
                .map(String::len)
                .fold(heading.len(), usize::max)
        };
        self.0.iter().map(widest).sum::<usize>() + GAP * self.0.len().saturating_sub(1)
    }

    /// The table's lines. Where they don't fit the terminal, the dispensable columns go, in their
    /// order, and a last line names them; what then still doesn't fit is wrapped.
    pub fn text(mut self, right: &[&str], dispensable: &[&str]) -> String {
        let mut table = Table::new();
        let mut dropped = Vec::new();
        if let Some(terminal) = wrap::width(stdout()) {
            table.set_width(terminal);
            for heading in dispensable {
                if self.width() > terminal.into() {
                    self.0.retain(|(other, _)| other != heading);
                    dropped.push(*heading);
                }
            }
        }
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_header(self.0.iter().map(|(heading, _)| *heading));
        for row in 0..self.0.first().map_or(0, |(_, cells)| cells.len()) {
            table.add_row(self.0.iter().map(|(_, cells)| &cells[row]));
        }
        let last = self.0.len().saturating_sub(1);
        for (index, ((heading, _), column)) in
            self.0.iter().zip(table.column_iter_mut()).enumerate()
        {
            column.set_padding((0, if index == last { 0 } else { GAP as u16 }));
            if right.contains(heading) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let lines = table.lines().map(|line| line.trim_end().to_string());
        let all = lines.chain(not_shown(&dropped));
        all.map(|line| line + "\n").collect()
    }
}

fn not_shown(dropped: &[&str]) -> Option<String> {
    let names = dropped.join(", ");
    let line = format!("not shown for want of width: {names}; --json has all");
    Some(wrap::fit(&line, 2, stdout())).filter(|_| !dropped.is_empty())
}
