//! Standard output. A script must learn that what it asked for was not written.

use std::fmt::Display;
use std::io::{Write, stdout};

use anyhow::{Context, Result};

pub fn text(text: impl Display) -> Result<()> {
    let mut out = stdout().lock();
    write!(out, "{text}")
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}

pub fn line(line: impl Display) -> Result<()> {
    text(format_args!("{line}\n"))
}
