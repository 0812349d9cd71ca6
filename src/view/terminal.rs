//! What terminals can do, and lines that are broken between words to fit them.

use std::env;
use std::io::{IsTerminal, Stdout, stdout};
use std::os::fd::AsFd;

use rustix::termios::tcgetwinsize;
use textwrap::{Options, WordSplitter};

/// Of a terminal that doesn't know its size, such as a serial console.
const COLUMNS: u16 = 80;

/// As clap has it.
const PAGE: usize = 100;

/// U+00A0, a space that is no place to break a line.
pub const NO_BREAK: &str = "\u{a0}";

/// None where that is no terminal.
pub fn width(on: &(impl AsFd + IsTerminal)) -> Option<u16> {
    let known = |&columns: &u16| columns > 0;
    let from_environment = || env::var("COLUMNS").ok()?.parse().ok().filter(known);
    on.is_terminal().then(|| {
        let (columns, _) = size(on);
        Some(columns)
            .filter(known)
            .or_else(from_environment)
            .unwrap_or(COLUMNS)
    })
}

/// The columns of text that is read as pages are.
pub fn page() -> usize {
    width(&stdout()).map_or(PAGE, |columns| PAGE.min(columns.into()))
}

/// Zeros where it isn't known.
fn size(on: impl AsFd) -> (u16, u16) {
    tcgetwinsize(on).map_or((0, 0), |size| (size.ws_col, size.ws_row))
}

/// Whether the cursor can be moved about on standard output, and stays within known bounds.
pub fn has_a_screen() -> bool {
    let out: Stdout = stdout();
    let (columns, rows) = size(&out);
    out.is_terminal() && moves_cursor() && columns > 0 && rows > 0
}

/// Whether terminals of this kind move their cursor.
pub fn moves_cursor() -> bool {
    env::var("TERM").is_ok_and(|term| !["", "dumb", "unknown"].contains(&term.as_str()))
}

/// A line as several ones, all but the first indented, by half the width at most. A word that is too
/// long stays whole.
pub fn fit(line: &str, indent: usize, on: impl AsFd + IsTerminal) -> String {
    within(line, indent, width(&on).map(usize::from))
}

pub fn within(line: &str, indent: usize, columns: Option<usize>) -> String {
    let line = match columns {
        Some(columns) => broken(line, indent, columns),
        None => line.into(),
    };
    line.replace(NO_BREAK, " ")
}

/// A value beside its name, both on one line at first however narrow that is.
pub fn entry(name: &str, value: &str, indent: usize, columns: Option<usize>) -> String {
    let name = format!("{name:<indent$}").replace(' ', NO_BREAK);
    within(&(name + value), indent, columns)
}

fn broken(line: &str, indent: usize, columns: usize) -> String {
    let indent = " ".repeat(indent.min(columns / 2));
    let options = Options::new(columns)
        .subsequent_indent(&indent)
        .break_words(false)
        .word_splitter(WordSplitter::NoHyphenation);
    textwrap::fill(line, options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_whole() {
        let command = "`ip link set x up`".replace(' ', NO_BREAK);
        let line = "warning  lan: attach --mode skb to /sys/fs/bpf/xdpredir/netns-1, ";
        let broken = within(&(line.to_string() + &command), 9, Some(24));
        let expected = "warning  lan: attach\n         --mode skb to\n         /sys/fs/bpf/xdpredir/netns-1,\n         `ip link set x up`";
        assert_eq!(broken, expected);
    }
}
