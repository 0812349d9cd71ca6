//! Lines that are too long for a terminal, broken between words. Elsewhere a line stays one line.

use std::os::fd::AsFd;

use terminal_size::{Width, terminal_size_of};
use textwrap::{Options, WordSplitter};

use super::commands;

/// U+00A0, a space that is no place to break a line.
const NO_BREAK: &str = "\u{a0}";

/// None where that is no terminal.
pub fn width(on: impl AsFd) -> Option<u16> {
    terminal_size_of(on).map(|(Width(columns), _)| columns)
}

/// A line as several ones, all but the first indented. A word that is too long stays whole.
pub fn fit(line: &str, indent: usize, on: impl AsFd) -> String {
    match width(on) {
        Some(columns) => broken(line, indent, columns.into()),
        None => line.into(),
    }
}

fn broken(line: &str, indent: usize, columns: usize) -> String {
    let indent = " ".repeat(indent);
    let options = Options::new(columns)
        .subsequent_indent(&indent)
        .break_words(false)
        .word_splitter(WordSplitter::NoHyphenation);
    // A command goes to one line, as long as that is long enough, to be copied.
    let line = commands::map(line, |command| command.replace(' ', NO_BREAK));
    textwrap::fill(&line, options).replace(NO_BREAK, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_whole() {
        let line =
            "warning  lan: attach --mode skb to /sys/fs/bpf/xdpredir/netns-1, `ip link set x up`";
        let broken = broken(line, 9, 24);
        let expected = "warning  lan: attach\n         --mode skb to\n         /sys/fs/bpf/xdpredir/netns-1,\n         `ip link set x up`";
        assert_eq!(broken, expected);
    }
}
