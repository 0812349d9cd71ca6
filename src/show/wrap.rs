//! Lines that are too long for a terminal, broken between words. Elsewhere a line stays one line.

use std::os::fd::AsFd;

use terminal_size::{Width, terminal_size_of};
use textwrap::{Options, WordSplitter};

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
    textwrap::fill(line, options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_whole() {
        let line = "warning  lan: attach --mode skb to /sys/fs/bpf/xdpredir/netns-1";
        let broken = broken(line, 9, 24);
        let expected =
            "warning  lan: attach\n         --mode skb to\n         /sys/fs/bpf/xdpredir/netns-1";
        assert_eq!(broken, expected);
    }
}
