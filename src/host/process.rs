//! Processes.

use std::fs;

use anyhow::Result;

use crate::error::{Exit, failure};

/// Characters of a command line that are shown.
const SHOWN: usize = 80;

/// What a process was called with, fit to be shown; None where it can't be read.
pub fn command_line(pid: u32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(shown(&bytes)).filter(|command| !command.is_empty())
}

/// Another user may have chosen the words: nothing in them reaches the terminal but what it prints.
fn shown(words: &[u8]) -> String {
    let words = String::from_utf8_lossy(words).replace('\0', " ");
    let words = words.trim();
    let mut shown = String::new();
    for c in words.chars().take(SHOWN) {
        match c {
            '\'' | '"' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    if words.chars().count() > SHOWN {
        shown.push('…');
    }
    shown
}

/// By a signal, such as Ctrl-Z's.
pub fn is_stopped(pid: u32) -> bool {
    let state =
        after_command(pid).and_then(|rest| rest.split_whitespace().next().map(String::from));
    state.is_some_and(|state| state == "T")
}

/// What /proc/PID/stat has after the command, which is in parentheses, with whatever is in it: from
/// the third field on (proc(5)).
fn after_command(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.to_string())
}

/// When a process was started, in clock ticks since boot: with it, its number is not taken for
/// another process that gets the same one.
pub fn started(pid: u32) -> Result<u64> {
    // The 22nd field.
    let started = after_command(pid).and_then(|rest| rest.split_whitespace().nth(19)?.parse().ok());
    started.ok_or_else(|| failure(Exit::NotFound, format!("pid {pid}: no such process")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_shown_without_what_a_terminal_obeys() {
        assert_eq!(
            shown(b"xdpredir\0rule\0load\0a file\0"),
            "xdpredir rule load a file"
        );
        assert_eq!(shown(b"\x1b[2Jx\ny\xff"), "\\u{1b}[2Jx\\ny\u{fffd}");
        assert_eq!(shown(&[b'x'; 200]).chars().count(), SHOWN + 1);
        assert_eq!(shown(b"\0"), "");
    }
}
