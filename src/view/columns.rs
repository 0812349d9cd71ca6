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
pub struct Columns<'a, T> {
    rows: &'a [T],
    columns: Vec<Column>,
}

struct Column {
    heading: &'static str,
    /// Each value of a cell is a line.
    cells: Vec<String>,
    is_number: bool,
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

impl<'a, T> Columns<'a, T> {
    pub fn of(rows: &'a [T]) -> Self {
        let columns = Vec::new();
        Columns { rows, columns }
    }

    /// One more column, with one value a row.
    pub fn text(self, heading: &'static str, value: impl Fn(&T) -> String) -> Self {
        self.values(heading, |row| vec![value(row)])
    }

    /// One more column, with several values a row.
    pub fn values(mut self, heading: &'static str, values: impl Fn(&'a T) -> Vec<String>) -> Self {
        let cell = |row| {
            let values = values(row).into_iter().map(|value| escape(&value));
            values.collect::<Vec<_>>().join("\n")
        };
        self.columns.push(Column {
            heading,
            cells: self.rows.iter().map(cell).collect(),
            is_number: false,
            tone: |_| None,
        });
        self
    }

    /// One more column, with numbers.
    pub fn number(self, heading: &'static str, number: impl Fn(&T) -> String) -> Self {
        self.text(heading, number)
            .change(|column| column.is_number = true)
    }

    /// Gives some cells of the last column a colour.
    pub fn color(self, tone: fn(&str) -> Option<Tone>) -> Self {
        self.change(|column| column.tone = tone)
    }

    fn change(mut self, change: impl FnOnce(&mut Column)) -> Self {
        self.columns.last_mut().map(change);
        self
    }

    /// More columns where they are wanted.
    pub fn when(self, wanted: bool, more: impl FnOnce(Self) -> Self) -> Self {
        if wanted { more(self) } else { self }
    }

    /// How many columns of the screen are left beside those that there are; none where lines can be of any length.
    pub fn left(&self) -> usize {
        let most = terminal::width(&stdout()).map_or(0, usize::from);
        let widths = self.columns.iter().map(Column::width);
        most.saturating_sub(sum(widths) + GAP)
    }

    /// The table's lines. Where they don't fit the terminal, cells are broken between words; then
    /// the dispensable columns go, in their order, and a last line names them. Where a word still
    /// doesn't fit, each row is a block of lines.
    pub fn lines(&self, dispensable: &[&str]) -> String {
        let out = stdout();
        let screen = Screen {
            columns: terminal::width(&out).map(usize::from),
            colors: style::is_wanted(&out),
        };
        fit(&self.columns, dispensable, screen)
    }
}

fn fit(columns: &[Column], dispensable: &[&str], screen: Screen) -> String {
    let mut kept: Vec<&Column> = columns.iter().collect();
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
        return blocks(columns, screen);
    }
    table(&kept, screen) + &not_shown(&dropped, screen)
}

/// One line a value.
fn blocks(columns: &[Column], screen: Screen) -> String {
    let all = columns.iter().map(|column| column.heading.len());
    let indent = all.max().unwrap_or(0) + GAP;
    let lines = |column: &Column, row: usize| {
        let cell = &column.cells[row];
        let tone = (column.tone)(cell).filter(|_| screen.colors);
        let line = |value: &str| {
            let value = tone.map_or_else(|| value.into(), |tone| painted(value, tone));
            terminal::entry(column.heading, &value, indent, screen.columns) + "\n"
        };
        cell.lines().map(line).collect::<String>()
    };
    let block = |row| columns.iter().map(|column| lines(column, row)).collect();
    let blocks: Vec<String> = (0..rows(columns)).map(block).collect();
    blocks.join("\n")
}

impl Column {
    fn widest(&self, between: &[char]) -> usize {
        let cells = self.cells.iter().map(String::as_str);
        let words = cells
            .chain([self.heading])
            .flat_map(|cell| cell.split(between));
        words.map(display_width).max().unwrap_or(0)
    }

    fn width(&self) -> usize {
        self.widest(&['\n'])
    }

    /// That of its longest word.
    fn least(&self) -> usize {
        self.widest(&['\n', ' '])
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

fn table(columns: &[&Column], screen: Screen) -> String {
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
        if columns[index].is_number {
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
        Some(Tone::Good) => cell.fg(Color::DarkGreen),
        None => cell,
    }
}

fn not_shown(dropped: &[&str], screen: Screen) -> String {
    if dropped.is_empty() {
        return String::new();
    }
    let names = dropped.join(", ");
    let line = format!("not shown here: {names}; JSON output has all");
    terminal::within(&line, 2, screen.columns) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(columns: Option<usize>, colors: bool) -> String {
        let table = Columns::of(&["up", "device gone"])
            .text("source", |_| "192.168.122.0/24".into())
            .text("server", |_| "172.17.0.2".into())
            .number("packets", |_| "5".into())
            .text("state", |state| state.to_string())
            .color(|state| (state != "up").then_some(Tone::Bad));
        fit(
            &table.columns,
            &["source", "mac"],
            Screen { columns, colors },
        )
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
                      not shown here: source; JSON\n  output has all\n";
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
    fn a_cell_may_have_several_values() {
        let rows: [(_, &[_]); 2] = [
            ("lan", &["192.168.122.1", "10.0.0.1"]),
            ("wan", &["10.1.0.1"]),
        ];
        let table = Columns::of(&rows)
            .text("device", |(device, _)| device.to_string())
            .values("address", |(_, all)| {
                all.iter().map(<&str>::to_string).collect()
            });
        let shown = |columns| {
            let colors = false;
            fit(&table.columns, &[], Screen { columns, colors })
        };
        let whole = "device  address\n\
                     lan     192.168.122.1\n\
                     \u{20}       10.0.0.1\n\
                     wan     10.1.0.1\n";
        assert_eq!(shown(None), whole);
        let blocks = "device   lan\naddress  192.168.122.1\naddress  10.0.0.1\n\n\
                      device   wan\naddress  10.1.0.1\n";
        assert_eq!(shown(Some(10)), blocks);
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
