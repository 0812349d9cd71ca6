//! What terminals can do.

use std::env;
use std::io::{IsTerminal, Stdout, stdout};
use std::os::fd::AsFd;

use rustix::termios::tcgetwinsize;

/// Of a terminal that doesn't know its size, such as a serial console.
const COLUMNS: u16 = 80;

/// As clap has it.
const PAGE: usize = 100;

/// None where that is no terminal.
pub fn width(on: &(impl AsFd + IsTerminal)) -> Option<u16> {
    let known = |&columns: &u16| columns > 0;
    let told = || env::var("COLUMNS").ok()?.parse().ok().filter(known);
    on.is_terminal().then(|| {
        let (columns, _) = size(on);
        Some(columns).filter(known).or_else(told).unwrap_or(COLUMNS)
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
