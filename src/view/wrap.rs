//! Lines that are too long for a terminal, broken between words. Elsewhere a line stays one line.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use textwrap::{Options, WordSplitter};

use super::{commands, terminal};

/// U+00A0, a space that is no place to break a line.
const NO_BREAK: &str = "\u{a0}";

/// A line as several ones, all but the first indented, by half the width at most. A word that is too
/// long stays whole.
pub fn fit(line: &str, indent: usize, on: impl AsFd + IsTerminal) -> String {
    within(line, indent, terminal::width(&on).map(usize::from))
}

pub fn within(line: &str, indent: usize, columns: Option<usize>) -> String {
    match columns {
        Some(columns) => broken(line, indent, columns),
        None => line.into(),
    }
}

/// A value beside its name, both on one line at first however narrow that is.
pub fn entry(name: &str, value: &str, indent: usize, columns: Option<usize>) -> String {
    let name = format!("{name:<indent$}").replace(' ', NO_BREAK);
    within(&(name + value), indent, columns).replace(NO_BREAK, " ")
}

fn broken(line: &str, indent: usize, columns: usize) -> String {
    let indent = " ".repeat(indent.min(columns / 2));
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
