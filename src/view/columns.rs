//! A table as text.

use std::io::stdout;

use comfy_table::{
    Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, Width, presets,
};
use textwrap::core::display_width;

use super::escape::escape;
use super::style::{self, Tone, painted};
use super::terminal;

/// Between two columns.
const GAP: usize = 2;

/// A table by columns, so that a narrow terminal can go without some of them.
pub struct Columns(Vec<Column>);

struct Column {
    heading: &'static str,
    cells: Vec<String>,
    /// Which cells have a colour.
    tone: fn(&str) -> Option<Tone>,
}

/// Where a table is to fit.
#[derive(Clone, Copy)]
struct Screen {
    /// None: a line can be as long as it is.
    columns: Option<usize>,
    colors: bool,
}

impl Columns {
    pub fn new(headings: &[&'static str]) -> Self {
        let column = |heading: &&'static str| Column {
            heading,
            cells: Vec::new(),
            tone: |_| None,
        };
        Columns(headings.iter().map(column).collect())
    }

    pub fn extend_if(&mut self, wanted: bool, headings: &[&'static str]) {
        if wanted {
            self.0.extend(Columns::new(headings).0);
        }
    }

    /// Gives some cells of a column a colour.
    pub fn color(&mut self, heading: &str, tone: fn(&str) -> Option<Tone>) {
        let all = self.0.iter_mut();
        all.filter(|column| column.heading == heading)
            .for_each(|column| column.tone = tone);
    }

    pub fn add(&mut self, row: impl IntoIterator<Item = String>) {
        self.0
            .iter_mut()
            .zip(row)
            .for_each(|(column, cell)| column.cells.push(escape(&cell)));
    }

    /// The table's lines. Where they don't fit the terminal, cells are broken between words; then
    /// the dispensable columns go, in their order, and a last line names them. Where a word still
    /// doesn't fit, each row is a block of lines.
    pub fn text(&self, right: &[&str], dispensable: &[&str]) -> String {
        let out = stdout();
        let screen = Screen {
            columns: terminal::width(&out).map(usize::from),
            colors: style::is_wanted(&out),
        };
        self.fit(right, dispensable, screen)
    }

    fn fit(&self, right: &[&str], dispensable: &[&str], screen: Screen) -> String {
        let mut kept: Vec<&Column> = self.0.iter().collect();
        let mut dropped = Vec::new();
        let too_wide = |kept: &[&Column]| screen.columns.is_some_and(|most| least(kept) > most);
        for &heading in dispensable {
            let is_there = kept.iter().any(|column| column.heading == heading);
            if is_there && too_wide(&kept) {
                kept.retain(|column| column.heading != heading);
                dropped.push(heading);
            }
        }
        if too_wide(&kept) {
            return self.blocks(screen);
        }
        table(&kept, right, screen) + &not_shown(&dropped, screen)
    }

    /// One line a cell.
    fn blocks(&self, screen: Screen) -> String {
        let all = self.0.iter().map(|column| column.heading.len());
        let indent = all.max().unwrap_or(0) + GAP;
        let line = |column: &Column, row: usize| {
            let cell = &column.cells[row];
            let color = |tone| painted(cell, tone);
            let tone = (column.tone)(cell).filter(|_| screen.colors);
            let cell = tone.map_or_else(|| cell.clone(), color);
            terminal::entry(column.heading, &cell, indent, screen.columns) + "\n"
        };
        let mut text = String::new();
        for row in 0..rows(&self.0) {
            let is_filled = |column: &&Column| !column.cells[row].is_empty();
            let filled: Vec<&Column> = self.0.iter().filter(is_filled).collect();
            // One more value of the row above belongs to its block.
            if row > 0 && filled.len() > 1 {
                text.push('\n');
            }
            text.extend(filled.into_iter().map(|column| line(column, row)));
        }
        text
    }
}

impl Column {
    fn widest(&self, width: impl Fn(&str) -> usize) -> usize {
        let cells = self.cells.iter().map(|cell| width(cell));
        cells.fold(width(self.heading), usize::max)
    }

    fn width(&self) -> usize {
        self.widest(display_width)
    }

    /// That of its longest word.
    fn least(&self) -> usize {
        self.widest(|cell| cell.split(' ').map(display_width).max().unwrap_or(0))
    }
}

fn rows(columns: &[Column]) -> usize {
    columns.first().map_or(0, |column| column.cells.len())
}

fn sum(widths: impl Iterator<Item = usize>) -> usize {
    let (count, sum) = widths.fold((0, 0), |(count, sum), width| (count + 1, sum + width));
    sum + GAP * usize::saturating_sub(count, 1)
}

fn least(columns: &[&Column]) -> usize {
    sum(columns.iter().map(|column| column.least()))
}

/// The widest columns with more than one word give way, as far as the terminal wants.
fn widths(columns: &[&Column], most: usize) -> Vec<usize> {
    let mut widths: Vec<usize> = columns.iter().map(|column| column.width()).collect();
    while sum(widths.iter().copied()) > most {
        let can_give = |&index: &usize| widths[index] > columns[index].least();
        let giving = (0..widths.len()).filter(can_give);
        let Some(widest) = giving.max_by_key(|&index| widths[index]) else {
            break;
        };
        widths[widest] -= 1;
    }
    widths
}

fn table(columns: &[&Column], right: &[&str], screen: Screen) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .force_no_tty()
        .style_text_only();
    if screen.colors {
        table.enforce_styling();
    }
    if let Some(most) = screen.columns {
        table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(u16::try_from(most).unwrap_or(u16::MAX));
    }
    table.set_header(columns.iter().map(|column| column.heading));
    let count = columns.first().map_or(0, |column| column.cells.len());
    for row in 0..count {
        table.add_row(columns.iter().map(|column| cell(column, row)));
    }
    let widths = screen.columns.map(|most| widths(columns, most));
    let last = columns.len().saturating_sub(1);
    for (index, column) in table.column_iter_mut().enumerate() {
        let gap = if index == last { 0 } else { GAP };
        column.set_padding((0, gap as u16));
        if right.contains(&columns[index].heading) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        if let Some(widths) = &widths {
            let width = u16::try_from(widths[index] + gap).unwrap_or(u16::MAX);
            column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width)));
        }
    }
    let lines = table.lines().map(|line| line.trim_end().to_string());
    lines.map(|line| line + "\n").collect()
}

fn cell(column: &Column, row: usize) -> Cell {
    let text = &column.cells[row];
    let cell = Cell::new(text);
    match (column.tone)(text) {
        Some(Tone::Bad) => cell.fg(Color::DarkRed),
        Some(Tone::Doubtful) => cell.fg(Color::DarkYellow),
        None => cell,
    }
}

fn not_shown(dropped: &[&str], screen: Screen) -> String {
    if dropped.is_empty() {
        return String::new();
    }
    let names = dropped.join(", ");
    let line = format!("not shown here: {names}; --json has all");
    terminal::within(&line, 2, screen.columns) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(columns: Option<usize>, colors: bool) -> String {
        let mut table = Columns::new(&["source", "server", "packets", "state"]);
        table.color("state", |state| (state != "up").then_some(Tone::Bad));
        for state in ["up", "device gone"] {
            let row = ["192.168.122.0/24", "172.17.0.2", "5", state];
            table.add(row.map(String::from));
        }
        table.fit(&["packets"], &["source", "mac"], Screen { columns, colors })
    }

    const WIDE: &str = "source            server      packets  state\n\
                        192.168.122.0/24  172.17.0.2        5  up\n\
                        192.168.122.0/24  172.17.0.2        5  device gone\n";

    #[test]
    fn what_fits_is_whole() {
        assert_eq!(shown(None, false), WIDE);
        assert_eq!(shown(Some(50), false), WIDE);
    }

    #[test]
    fn cells_are_broken_between_words_before_columns_go() {
        let narrow = "source            server      packets  state\n\
                      192.168.122.0/24  172.17.0.2        5  up\n\
                      192.168.122.0/24  172.17.0.2        5  device\n\
                      \u{20}                                      gone\n";
        assert_eq!(shown(Some(45), false), narrow);
    }

    #[test]
    fn columns_go_and_are_named_and_no_word_is_broken() {
        let narrow = "server      packets  state\n\
                      172.17.0.2        5  up\n\
                      172.17.0.2        5  device\n\
                      \u{20}                    gone\n\
                      not shown here: source;\n  --json has all\n";
        assert_eq!(shown(Some(28), false), narrow);
    }

    #[test]
    fn rows_are_blocks_where_no_table_fits() {
        let blocks = "source   192.168.122.0/24\n\
                      server   172.17.0.2\n\
                      packets  5\n\
                      state    up\n\n\
                      source   192.168.122.0/24\n\
                      server   172.17.0.2\n\
                      packets  5\n\
                      state    device\n\
                      \u{20}        gone\n";
        assert_eq!(shown(Some(19), false), blocks);
    }

    #[test]
    fn one_more_value_of_a_row_belongs_to_its_block() {
        let mut table = Columns::new(&["device", "address"]);
        for row in [
            ["lan", "192.168.122.1"],
            ["", "10.0.0.1"],
            ["wan", "10.1.0.1"],
        ] {
            table.add(row.map(String::from));
        }
        let screen = Screen {
            columns: Some(10),
            colors: false,
        };
        let blocks = "device   lan\naddress  192.168.122.1\naddress  10.0.0.1\n\n\
                      device   wan\naddress  10.1.0.1\n";
        assert_eq!(table.fit(&[], &[], screen), blocks);
    }

    #[test]
    fn a_colour_takes_no_room() {
        for columns in [None, Some(45), Some(28), Some(20)] {
            let colored = shown(columns, true);
            assert!(colored.contains('\u{1b}'), "{colored}");
            let plain = anstream::adapter::strip_str(&colored).to_string();
            let lines = |text: &str| -> Vec<String> {
                text.lines().map(|line| line.trim_end().into()).collect()
            };
            assert_eq!(lines(&plain), lines(&shown(columns, false)));
        }
    }
}
