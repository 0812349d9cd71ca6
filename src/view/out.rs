//! Standard output, where a script must learn that what it asked for was not written, and standard
//! error.

use std::fmt::Display;
use std::io::{Write, stderr, stdout};

use anyhow::{Context, Result};

use super::escape::escape;
use super::style::{self, Tone};
use super::terminal;

/// Text that is safe for a terminal already, as tables are.
pub fn text(text: impl Display) -> Result<()> {
    let mut out = stdout().lock();
    write!(out, "{text}")
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}

/// A line that is safe for a terminal already.
pub fn line(line: impl Display) -> Result<()> {
    text(format_args!("{line}\n"))
}

/// A line of words, broken between them where a terminal is too narrow.
pub fn sentence(line: impl Display) -> Result<()> {
    self::line(terminal::fit(&escape(&line.to_string()), 2, stdout()))
}

/// To standard error, about what has been done all the same.
pub fn warning(text: impl Display) {
    let name = "xdpredir: ";
    let warning = style::paint("warning", Tone::Doubtful, &stderr());
    let line = format!("{name}{warning}: {}", escape(&text.to_string()));
    to_stderr(&terminal::fit(&line, name.len(), stderr()));
}

/// A line of words to standard error, broken between them where a terminal is too narrow.
pub fn notice(line: impl Display) {
    to_stderr(&terminal::fit(&escape(&line.to_string()), 2, stderr()));
}

/// To standard error. Where that can't be written, what was done still counts, and the exit code.
pub fn complaint(line: impl Display) {
    to_stderr(&escape(&line.to_string()));
}

fn to_stderr(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}
